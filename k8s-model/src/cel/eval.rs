//! Evaluation: a walk over the tree, which counts what it costs.

use std::rc::Rc;

use cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators},
};

use super::{CelError, Val, calls};

/// How deep an expression may nest.
const MAX_DEPTH: usize = 128;

pub(super) fn evaluate<'v>(
    root: &IdedExpr,
    variables: &[(&'static str, Val<'v>)],
    budget: &mut u64,
) -> Result<Val<'v>, CelError> {
    let mut eval = Eval {
        variables: variables.to_vec(),
        left: *budget,
        depth: 0,
    };
    let result = eval.expr(root);
    *budget = eval.left;
    match result? {
        Val::Error(error) => Err(error),
        value => Ok(value),
    }
}

/// One evaluation.
pub(super) struct Eval<'e, 'v> {
    variables: Vec<(&'e str, Val<'v>)>,
    left: u64,
    depth: usize,
}

type Found<'v> = Result<Val<'v>, CelError>;

impl<'e, 'v> Eval<'e, 'v> {
    /// Takes a cost off the budget.
    pub(super) fn spend(&mut self, cost: u64) -> Result<(), CelError> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(CelError::Cost)
            }
        }
    }

    /// Calls a method of a value that somebody else answers for.
    pub(super) fn call_host(
        &mut self,
        host: &dyn super::Host<'v>,
        method: &str,
        arguments: &[Val<'v>],
    ) -> Found<'v> {
        self.spend(1)?;
        host.call(method, arguments, &mut self.left)
    }

    pub(super) fn expr(&mut self, expr: &'e IdedExpr) -> Found<'v> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.depth -= 1;
            return Err(CelError::Failed("expression nests too deep".to_owned()));
        }
        let found = self.inner(expr);
        self.depth -= 1;
        found
    }

    fn inner(&mut self, expr: &'e IdedExpr) -> Found<'v> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => {
                self.spend(1)?;
                self.variable(name)
            }
            Expr::Select(select) => self.select(select),
            Expr::List(list) => {
                self.spend(10)?;
                let mut out = Vec::with_capacity(list.elements.len());
                for (at, element) in list.elements.iter().enumerate() {
                    let value = self.expr(element)?;
                    match value {
                        Val::Optional(inner) if list.optional_indices.contains(&at) => {
                            out.extend(inner.map(|v| (*v).clone()));
                        }
                        value => out.push(value),
                    }
                }
                Ok(Val::List(Rc::new(out)))
            }
            Expr::Map(map) => {
                self.spend(30)?;
                let mut out: Vec<(Val<'v>, Val<'v>)> = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(CelError::NoOverload);
                    };
                    let (key, value) = (self.expr(&entry.key)?, self.expr(&entry.value)?);
                    if out.iter().any(|(known, _)| known.equals(&key)) {
                        return Err(CelError::Failed("Failed with repeated key".to_owned()));
                    }
                    match value {
                        Val::Optional(inner) if entry.optional => {
                            out.extend(inner.map(|v| (key, (*v).clone())));
                        }
                        value => out.push((key, value)),
                    }
                }
                Ok(Val::Map(Rc::new(out)))
            }
            Expr::Call(call) => calls::call(self, call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(made) => {
                self.spend(30)?;
                let mut out = Vec::with_capacity(made.entries.len());
                for entry in &made.entries {
                    let EntryExpr::StructField(entry) = &entry.expr else {
                        return Err(CelError::NoOverload);
                    };
                    let name = super::value::unescape(&entry.field);
                    let name = Val::from(name.as_deref().unwrap_or(&entry.field));
                    match self.expr(&entry.value)? {
                        Val::Optional(inner) if entry.optional => {
                            out.extend(inner.map(|v| (name, (*v).clone())));
                        }
                        value => out.push((name, value)),
                    }
                }
                Ok(Val::Map(Rc::new(out)))
            }
            Expr::Unspecified => Err(CelError::NoOverload),
        }
    }

    fn variable(&mut self, name: &str) -> Found<'v> {
        let found = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| *known == name);
        match found {
            Some((_, Val::Error(error))) => Err(error.clone()),
            // What a comprehension gathers is read once in each step, which replaces it: taken out, it
            // grows in place.
            Some((name, value @ (Val::List(_) | Val::Map(_)))) if name.starts_with('@') => {
                Ok(std::mem::replace(value, Val::Null))
            }
            Some((_, value)) => Ok(value.clone()),
            None => match name {
                "int" | "uint" | "double" | "bool" | "string" | "bytes" | "list" | "map"
                | "type" | "null_type" => Ok(Val::Type(name.into())),
                _ => Err(CelError::Failed(format!("no such attribute(s): {name}"))),
            },
        }
    }

    fn select(&mut self, select: &'e SelectExpr) -> Found<'v> {
        // `google.protobuf.Timestamp` is a name, and no field of anything.
        if let Some(name) = super::check::type_name(select) {
            return Ok(Val::Type(name.into()));
        }
        let operand = self.expr(&select.operand)?;
        self.spend(1)?;
        if let Val::Optional(inner) = operand {
            let found = inner.and_then(|value| value.field(&select.field));
            return Ok(if select.test {
                found.is_some().into()
            } else {
                Val::Optional(found.map(Rc::new))
            });
        }
        if let Val::Host(host) = &operand {
            let found = host.field(&select.field, &mut self.left)?;
            if select.test {
                return Ok(found.is_some().into());
            }
            return found.ok_or_else(|| CelError::Failed(format!("no such key: {}", select.field)));
        }
        if operand.entries().is_none() && !matches!(operand, Val::Json(..)) {
            return Err(CelError::NoOverload);
        }
        let found = operand.field(&select.field);
        if select.test {
            return Ok(found.is_some().into());
        }
        found.ok_or_else(|| CelError::Failed(format!("no such key: {}", select.field)))
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr) -> Found<'v> {
        let range = self.expr(&comprehension.iter_range)?;
        let two = comprehension.iter_var2.as_deref();
        let pairs: Vec<(Val<'v>, Val<'v>)> = match (range.elements(), range.entries()) {
            (Some(list), _) if two.is_some() => {
                let at = |at: usize| Val::Int(i64::try_from(at).unwrap_or(i64::MAX));
                list.into_iter()
                    .enumerate()
                    .map(|(i, v)| (at(i), v))
                    .collect()
            }
            (Some(list), _) => list.into_iter().map(|v| (v, Val::Null)).collect(),
            (None, Some(entries)) => entries,
            (None, None) => return Err(CelError::NoOverload),
        };
        let accumulated = match self.expr(&comprehension.accu_init) {
            Err(error @ CelError::Cost) => return Err(error),
            Err(error) => Val::Error(error),
            Ok(value) => value,
        };
        let base = self.variables.len();
        self.variables.push((&comprehension.accu_var, accumulated));
        for (first, second) in pairs {
            self.variables.push((&comprehension.iter_var, first));
            if let Some(name) = two {
                self.variables.push((name, second));
            }
            let goes_on = self.expr(&comprehension.loop_cond);
            let step = match goes_on {
                Ok(Val::Bool(false)) => Ok(None),
                Err(error) => Err(error),
                Ok(_) => self.expr(&comprehension.loop_step).map(Some),
            };
            self.variables.truncate(base + 1);
            match step {
                Ok(None) => break,
                Ok(Some(value)) => self.variables[base].1 = value,
                Err(CelError::Cost) => {
                    self.variables.truncate(base);
                    return Err(CelError::Cost);
                }
                Err(error) => self.variables[base].1 = Val::Error(error),
            }
        }
        let result = self.expr(&comprehension.result);
        self.variables.truncate(base);
        result
    }

    /// `&&` and `||`: what one side decides needs no value of the other.
    pub(super) fn logical(&mut self, args: &'e [IdedExpr], decides: bool) -> Found<'v> {
        let [left, right] = args else {
            return Err(CelError::NoOverload);
        };
        let side = |found: Found<'v>| match found {
            Ok(Val::Bool(value)) => Ok(value),
            Ok(Val::Error(error)) | Err(error) => Err(error),
            Ok(_) => Err(CelError::NoOverload),
        };
        let left = side(self.expr(left));
        if left == Ok(decides) || left == Err(CelError::Cost) {
            return left.map(Val::Bool);
        }
        let right = side(self.expr(right));
        match (left, right) {
            (_, Ok(right)) if right == decides => Ok(right.into()),
            (_, Err(CelError::Cost)) => Err(CelError::Cost),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(right)) => Ok(right.into()),
        }
    }

    /// `condition ? a : b`.
    pub(super) fn conditional(&mut self, args: &'e [IdedExpr]) -> Found<'v> {
        let [condition, then, other] = args else {
            return Err(CelError::NoOverload);
        };
        match self.expr(condition)? {
            Val::Bool(true) => self.expr(then),
            Val::Bool(false) => self.expr(other),
            _ => Err(CelError::NoOverload),
        }
    }

    /// What goes on as long as nothing is surely false.
    pub(super) fn not_strictly_false(&mut self, args: &'e [IdedExpr]) -> Found<'v> {
        match args.first().map(|arg| self.expr(arg)) {
            Some(Ok(Val::Bool(false))) => Ok(false.into()),
            Some(Err(CelError::Cost)) => Err(CelError::Cost),
            _ => Ok(true.into()),
        }
    }
}

fn of_literal<'v>(literal: &LiteralValue) -> Val<'v> {
    match literal {
        LiteralValue::Boolean(b) => Val::Bool(*b.inner()),
        LiteralValue::Bytes(bytes) => Val::Bytes(bytes.inner().into()),
        LiteralValue::Double(n) => Val::Double(*n.inner()),
        LiteralValue::Int(n) => Val::Int(*n.inner()),
        LiteralValue::Null => Val::Null,
        LiteralValue::String(text) => text.inner().into(),
        LiteralValue::UInt(n) => Val::Uint(*n.inner()),
    }
}

/// The logical operators, which do not look at all of their arguments.
pub(super) fn is_lazy(name: &str) -> bool {
    matches!(
        name,
        operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::CONDITIONAL
            | operators::NOT_STRICTLY_FALSE
    )
}
