//! Evaluation: a walk over the tree, which counts what it costs.

use std::{collections::HashMap, rc::Rc};

use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators,
    },
};
use regex::Regex;

use super::{
    CelError, Val, calls, macros,
    members::{Member, Members},
    plan::{self, Plan},
    prices, strings,
};

/// How deep an expression may nest.
const MAX_DEPTH: usize = 128;

/// How much may be done for an evaluation besides what it is priced at: much has one price whatever its size, and what
/// is written out is free.
const EFFORT: u64 = 10_000_000;

/// How many patterns an evaluation keeps compiled.
const PATTERNS: usize = 32;

/// Evaluates for at most `limit`. Tells what it cost, too, which is more than the limit if that was exceeded.
pub(super) fn evaluate<'v>(
    root: &IdedExpr,
    plan: &Plan,
    variables: &[(&'static str, Val<'v>)],
    limit: u64,
) -> (Found<'v>, u64) {
    let known = |(name, value): &(&'static str, Val<'v>)| (*name, Slot::Known(value.clone()));
    let mut eval = Eval {
        plan,
        variables: variables.iter().map(known).collect(),
        limit,
        spent: 0,
        effort: EFFORT,
        free: 0,
        depth: 0,
        unobserved: false,
        constants: HashMap::new(),
        members: HashMap::new(),
        patterns: HashMap::new(),
    };
    let found = match eval.expr(root) {
        Ok(Val::Error(error)) => Err(error),
        found => found,
    };
    (found, eval.spent)
}

/// One evaluation.
pub(super) struct Eval<'e, 'v> {
    plan: &'e Plan,
    variables: Vec<(&'e str, Slot<'e, 'v>)>,
    limit: u64,
    spent: u64,
    /// What may still be done.
    effort: u64,
    /// In how many constants this is: they cost nothing.
    free: usize,
    depth: usize,
    /// Whether the attribute that is evaluated now costs nothing by itself.
    unobserved: bool,
    /// What is written out, by its number.
    constants: HashMap<u64, Val<'v>>,
    /// What is in lists that are written out, by the number of the test.
    members: HashMap<u64, Rc<Members>>,
    patterns: HashMap<Rc<str>, Regex>,
}

/// What a name stands for.
#[derive(Debug)]
enum Slot<'e, 'v> {
    Known(Val<'v>),
    /// What a macro of optional values is called of, and what it cost to evaluate that: upstream's macro has it twice.
    Repeated(Val<'v>, u64),
    /// What a comprehension begins with: evaluated when it is first looked at.
    Pending(&'e IdedExpr),
}

type Found<'v> = Result<Val<'v>, CelError>;

impl<'e, 'v> Eval<'e, 'v> {
    /// Adds a cost to what was spent.
    pub(super) fn spend(&mut self, cost: u64) -> Result<(), CelError> {
        if self.free > 0 {
            return Ok(());
        }
        self.spent = self.spent.saturating_add(cost);
        match self.spent > self.limit {
            true => Err(CelError::Cost),
            false => Ok(()),
        }
    }

    /// Takes what is done off what may be.
    pub(super) fn strain(&mut self, effort: u64) -> Result<(), CelError> {
        match self.effort.checked_sub(effort) {
            Some(left) => {
                self.effort = left;
                Ok(())
            }
            None => {
                self.effort = 0;
                self.spent = self.spent.max(self.limit.saturating_add(1));
                Err(CelError::Cost)
            }
        }
    }

    /// What may still be done.
    pub(super) fn strength(&self) -> u64 {
        self.effort
    }

    /// Lets a value that somebody else answers for spend.
    fn by_host<T>(
        &mut self,
        ask: impl FnOnce(&mut u64) -> Result<T, CelError>,
    ) -> Result<T, CelError> {
        let before = self.limit.saturating_sub(self.spent);
        let mut left = before;
        let found = ask(&mut left);
        let spent = self.spend(before.saturating_sub(left));
        if matches!(found, Err(CelError::Cost)) {
            self.spent = self.spent.max(self.limit.saturating_add(1));
        }
        found.and_then(|found| spent.map(|()| found))
    }

    /// Calls a method of a value that somebody else answers for.
    pub(super) fn call_host(
        &mut self,
        host: &dyn super::Host<'v>,
        method: &str,
        arguments: &[Val<'v>],
    ) -> Found<'v> {
        self.by_host(|left| host.call(method, arguments, left))
    }

    /// Whether the arguments of a call tell before which overload it is.
    pub(super) fn is_resolved(&self, id: u64) -> bool {
        self.plan.is_resolved(id)
    }

    /// What a pattern is compiled to; what is wrong with it.
    pub(super) fn pattern(
        &mut self,
        written: Option<u64>,
        text: &Rc<str>,
    ) -> Result<Result<Regex, String>, CelError> {
        if let Some(known) = written.and_then(|id| self.plan.pattern(id, text)) {
            return Ok(Ok(known.clone()));
        }
        if let Some(known) = self.patterns.get(text) {
            return Ok(Ok(known.clone()));
        }
        // It takes far longer than to match.
        self.strain(1000 + text.len() as u64)?;
        let compiled = strings::regex(text);
        if let Ok(compiled) = &compiled
            && self.patterns.len() < PATTERNS
        {
            self.patterns.insert(text.clone(), compiled.clone());
        }
        Ok(compiled)
    }

    pub(super) fn expr(&mut self, expr: &'e IdedExpr) -> Found<'v> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.depth -= 1;
            return Err(CelError::Failed("expression nests too deep".to_owned()));
        }
        let found = match self.plan.is_constant(expr.id) {
            true => self.constant(expr),
            false => self.inner(expr),
        };
        self.depth -= 1;
        found
    }

    /// What is written out: made once, and free.
    fn constant(&mut self, expr: &'e IdedExpr) -> Found<'v> {
        if let Some(known) = self.constants.get(&expr.id) {
            return Ok(known.clone());
        }
        self.free += 1;
        let found = self.inner(expr);
        self.free -= 1;
        let found = found?;
        self.constants.insert(expr.id, found.clone());
        Ok(found)
    }

    /// Whether something is in a list that is written out.
    pub(super) fn is_member(&mut self, id: u64, call: &'e CallExpr) -> Option<Found<'v>> {
        let [value, list] = call.args.as_slice() else {
            return None;
        };
        if !self.plan.is_member_test(id) {
            return None;
        }
        let members = match self.members.get(&id) {
            Some(known) => known.clone(),
            None => {
                let elements = self.expr(list).ok()?.elements()?;
                let members = elements
                    .iter()
                    .map(Member::of)
                    .collect::<Option<Members>>()?;
                let members = Rc::new(members);
                self.members.insert(id, members.clone());
                members
            }
        };
        if members.is_empty() {
            return Some(Ok(false.into()));
        }
        Some(self.expr(value).map(|value| {
            let is_in = Member::of(&value).is_some_and(|value| members.contains(&value));
            is_in.into()
        }))
    }

    fn inner(&mut self, expr: &'e IdedExpr) -> Found<'v> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => {
                self.spend(prices::NEW_LIST)?;
                self.strain(list.elements.len() as u64)?;
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
                self.spend(prices::NEW_MAP)?;
                self.strain(map.entries.len() as u64)?;
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
            Expr::Call(call) => calls::call(self, expr.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(made) => {
                self.spend(prices::NEW_OBJECT)?;
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

    fn variable(&mut self, name: &'e str) -> Found<'v> {
        let at = self.variables.iter().rposition(|(known, _)| *known == name);
        let Some(at) = at else {
            return match plan::is_type(name) {
                true => Ok(Val::Type(name.into())),
                false => Err(CelError::Failed(format!("no such attribute(s): {name}"))),
            };
        };
        let is_target = name == macros::TARGET;
        if !std::mem::take(&mut self.unobserved) && !is_target {
            self.spend(1)?;
        }
        if let Slot::Pending(init) = self.variables[at].1 {
            // It knows what was there before it.
            let above = self.variables.split_off(at);
            let before = self.spent;
            let found = self.expr(init);
            self.variables.extend(above);
            let value = match found {
                Err(error @ (CelError::Cost | CelError::Pending)) => return Err(error),
                Err(error) => Val::Error(error),
                Ok(value) => value,
            };
            if is_target {
                let cost = self.spent - before;
                self.variables[at].1 = Slot::Repeated(value.clone(), cost);
                return match value {
                    Val::Error(error) => Err(error),
                    value => Ok(value),
                };
            }
            self.variables[at].1 = Slot::Known(value);
        }
        if let Slot::Repeated(value, cost) = &self.variables[at].1 {
            let (value, cost) = (value.clone(), *cost);
            self.spend(cost)?;
            return match value {
                Val::Error(error) => Err(error),
                value => Ok(value),
            };
        }
        match &mut self.variables[at] {
            (_, Slot::Known(Val::Error(error))) => Err(error.clone()),
            // What a comprehension gathers is read once in each step, which replaces it: taken out, it
            // grows in place.
            (_, Slot::Known(value @ (Val::List(_) | Val::Map(_)))) if name.starts_with('@') => {
                Ok(std::mem::replace(value, Val::Null))
            }
            (_, Slot::Known(value)) => Ok(value.clone()),
            (_, Slot::Pending(_) | Slot::Repeated(..)) => Err(CelError::NoOverload),
        }
    }

    /// What has parts that are looked at. To make an attribute of it costs, if it is none.
    fn owner(&mut self, expr: &'e IdedExpr) -> Found<'v> {
        if plan::is_attribute(expr, self.plan) {
            return self.expr(expr);
        }
        let cost = u64::from(!std::mem::take(&mut self.unobserved));
        let found = self.expr(expr);
        self.spend(cost)?;
        found
    }

    fn select(&mut self, select: &'e SelectExpr) -> Found<'v> {
        // `google.protobuf.Timestamp` is a name, and no field of anything.
        if let Some(name) = super::check::type_name(select) {
            return Ok(Val::Type(name.into()));
        }
        let operand = self.owner(&select.operand)?;
        let own = u64::from(!select.test);
        let missing = || CelError::Failed(format!("no such key: {}", select.field));
        match operand {
            Val::Optional(inner) => {
                let found = self.optional_field(inner, &select.field, own)?;
                Ok(match select.test {
                    true => found.is_some().into(),
                    false => Val::Optional(found.map(Rc::new)),
                })
            }
            Val::Host(host) => {
                self.spend(own)?;
                let found = self.by_host(|left| host.field(&select.field, left))?;
                if select.test {
                    return Ok(found.is_some().into());
                }
                found.ok_or_else(missing)
            }
            operand if !operand.has_fields() => Err(CelError::NoOverload),
            operand => {
                self.spend(own)?;
                if select.test {
                    return Ok(operand.has_field(&select.field).into());
                }
                let found = operand.field(&select.field).ok_or_else(missing)?;
                self.copied(&found)?;
                Ok(found)
            }
        }
    }

    /// A field of what may not be there. Only one that is there costs.
    fn optional_field(
        &mut self,
        owner: Option<Rc<Val<'v>>>,
        name: &str,
        cost: u64,
    ) -> Result<Option<Val<'v>>, CelError> {
        let found = match owner.as_deref() {
            Some(Val::Host(host)) => self.by_host(|left| host.field(name, left))?,
            Some(owner) => owner.field(name),
            None => None,
        };
        if found.is_some() {
            self.spend(cost)?;
        }
        Ok(found)
    }

    /// A text of the data is copied.
    fn copied(&mut self, value: &Val<'v>) -> Result<(), CelError> {
        match value {
            Val::String(text) => self.strain(text.len() as u64 / 64),
            _ => Ok(()),
        }
    }

    /// `a[b]`, `a[?b]` and `a.?b`.
    pub(super) fn index(&mut self, name: &str, args: &'e [IdedExpr]) -> Found<'v> {
        let [owner, key] = args else {
            return Err(CelError::NoOverload);
        };
        let value = self.owner(owner)?;
        if matches!(value, Val::Optional(None)) {
            return Ok(value);
        }
        let at = self.expr(key)?;
        // A variable as a key has been paid for.
        let own =
            u64::from(plan::is_constant(key, self.plan) || !plan::is_attribute(key, self.plan));
        if name == operators::INDEX && !matches!(value, Val::Optional(_)) {
            self.spend(own)?;
            let found = super::operators::index(&value, &at)?;
            self.copied(&found)?;
            return Ok(found);
        }
        let inner = match value {
            Val::Optional(inner) => inner,
            value => Some(Rc::new(value)),
        };
        let found = match (name, &at) {
            (operators::OPT_SELECT, Val::String(field)) => self.optional_field(inner, field, 0)?,
            _ => match inner {
                Some(inner) => super::operators::find(&inner, &at)?,
                None => None,
            },
        };
        if let Some(found) = &found {
            self.spend(own)?;
            self.copied(found)?;
        }
        Ok(Val::Optional(found.map(Rc::new)))
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr) -> Found<'v> {
        let range = self.expr(&comprehension.iter_range)?;
        let two = comprehension.iter_var2.as_deref();
        let pairs = range.pairs(two.is_some()).ok_or(CelError::NoOverload)?;
        let base = self.variables.len();
        let init = Slot::Pending(&comprehension.accu_init);
        self.variables.push((&comprehension.accu_var, init));
        let stops = |error: &CelError| matches!(error, CelError::Cost | CelError::Pending);
        for (first, second) in pairs {
            let step = self
                .copied(&first)
                .and_then(|()| self.copied(&second))
                .and_then(|()| {
                    self.strain(1)?;
                    self.variables
                        .push((&comprehension.iter_var, Slot::Known(first)));
                    if let Some(name) = two {
                        self.variables.push((name, Slot::Known(second)));
                    }
                    match self.expr(&comprehension.loop_cond) {
                        Ok(Val::Bool(false)) => Ok(None),
                        Err(error) if stops(&error) => Err(error),
                        _ => self.expr(&comprehension.loop_step).map(Some),
                    }
                });
            self.variables.truncate(base + 1);
            match step {
                Ok(None) => break,
                Ok(Some(value)) => self.variables[base].1 = Slot::Known(value),
                Err(error) if stops(&error) => {
                    self.variables.truncate(base);
                    return Err(error);
                }
                Err(error) => self.variables[base].1 = Slot::Known(Val::Error(error)),
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
        let stops =
            |side: &Result<bool, CelError>| matches!(side, Err(CelError::Cost | CelError::Pending));
        if left == Ok(decides) || stops(&left) {
            return left.map(Val::Bool);
        }
        let right = side(self.expr(right));
        match (left, right) {
            (_, Ok(right)) if right == decides => Ok(right.into()),
            (_, Err(error)) if stops(&Err(error.clone())) => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(right)) => Ok(right.into()),
        }
    }

    /// `condition ? a : b`.
    pub(super) fn conditional(&mut self, args: &'e [IdedExpr]) -> Found<'v> {
        let [condition, then, other] = args else {
            return Err(CelError::NoOverload);
        };
        self.unobserved = false;
        let branch = match self.expr(condition)? {
            Val::Bool(true) => then,
            Val::Bool(false) => other,
            _ => return Err(CelError::NoOverload),
        };
        // What one side names becomes a part of the whole, and is not observed by itself.
        let is_observed = match &branch.expr {
            Expr::Select(select) => select.test,
            Expr::Call(call) => call.func_name == operators::CONDITIONAL,
            _ => false,
        };
        self.unobserved = !is_observed && plan::is_attribute(branch, self.plan);
        self.expr(branch)
    }

    /// What goes on as long as nothing is surely false.
    pub(super) fn not_strictly_false(&mut self, args: &'e [IdedExpr]) -> Found<'v> {
        match args.first().map(|arg| self.expr(arg)) {
            Some(Ok(Val::Bool(false))) => Ok(false.into()),
            Some(Err(error @ (CelError::Cost | CelError::Pending))) => Err(error),
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
