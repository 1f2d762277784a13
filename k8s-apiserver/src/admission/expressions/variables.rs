//! `variables`: what a policy has named, evaluated when it is first looked at.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use k8s_model::cel::{CelError, Host, Val};

use super::{Bound, Expression};

/// The variables of a policy, for one evaluation.
#[derive(Clone, Debug)]
pub(in crate::admission) struct Variables<'v>(Rc<Inner<'v>>);

type Known<'v> = HashMap<&'v str, Result<Val<'v>, CelError>>;

#[derive(Debug)]
struct Inner<'v> {
    defined: &'v [(String, Expression)],
    base: Bound<'v>,
    known: RefCell<Known<'v>>,
}

impl<'v> Variables<'v> {
    /// Those variables, and what all expressions have: together what an expression of the policy speaks of.
    pub(in crate::admission) fn with(
        defined: &'v [(String, Expression)],
        base: Bound<'v>,
    ) -> Bound<'v> {
        let mut bound = base.clone();
        let variables = Variables(Rc::new(Inner {
            defined,
            base,
            known: RefCell::default(),
        }));
        let variables = Val::Host(Rc::new(variables));
        bound.all.push(("variables", variables));
        bound
    }
}

impl<'v> Host<'v> for Variables<'v> {
    fn type_name(&self) -> &'static str {
        "kubernetes.variables"
    }

    /// What it costs to evaluate one is not a part of what the expression costs that speaks of it.
    fn field(&self, name: &str, _budget: &mut u64) -> Result<Option<Val<'v>>, CelError> {
        if let Some(known) = self.0.known.borrow().get(name) {
            return known.clone().map(Some);
        }
        // The last of a name counts.
        let mut defined = self.0.defined.iter().rev();
        let Some((name, expression)) = defined.find(|(known, _)| known == name) else {
            return Ok(None);
        };
        // One that speaks of itself, on whatever way, finds this.
        let circle = CelError::Failed(format!("variable {name} is defined by itself"));
        self.0.known.borrow_mut().insert(name, Err(circle));
        let mut all = self.0.base.all.clone();
        all.push(("variables", Val::Host(Rc::new(self.clone()))));
        let (found, cost) = expression.run(&all);
        let spent = &self.0.base.spent;
        spent.set(spent.get().saturating_add(cost));
        let found = match found {
            // It would keep itself alive.
            Ok(Val::Host(host)) if host.type_name() == self.type_name() => {
                Err(CelError::NoOverload)
            }
            Err(error) if error != CelError::Pending => Err(CelError::Failed(format!(
                "composited variable {name:?} fails to evaluate: {error}"
            ))),
            found => found,
        };
        self.0.known.borrow_mut().insert(name, found.clone());
        found.map(Some)
    }

    fn call(
        &self,
        _method: &str,
        _arguments: &[Val<'v>],
        _budget: &mut u64,
    ) -> Result<Val<'v>, CelError> {
        Err(CelError::NoOverload)
    }
}
