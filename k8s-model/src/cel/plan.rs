//! [`Plan`]: what is known of an expression before it is evaluated, and makes some of its parts free: as cel-go plans
//! an expression with `OptOptimize`.

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
};

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};
use regex::Regex;

use super::{calls::library, check::type_name, strings};

/// What is known of the parts of an expression, each by its number.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Lists, maps and conversions of what is written out.
    constants: HashSet<u64>,
    /// Tests whether something is in such a list.
    members: HashSet<u64>,
    /// What patterns that are written out are compiled to when they are needed, by the text's number.
    patterns: HashMap<u64, OnceLock<Option<Regex>>>,
    /// The calls of which it is known before which overload they mean; nothing where types are not known.
    resolved: Option<HashSet<u64>>,
}

impl Plan {
    pub(super) fn of(root: &IdedExpr) -> Self {
        let mut planner = Planner::default();
        planner.expr(root);
        planner.plan
    }

    /// With what the types tell of calls.
    pub(super) fn resolve(&mut self, calls: HashSet<u64>) {
        self.resolved = Some(calls);
    }

    pub(super) fn is_constant(&self, id: u64) -> bool {
        self.constants.contains(&id)
    }

    pub(super) fn is_member_test(&self, id: u64) -> bool {
        self.members.contains(&id)
    }

    pub(super) fn pattern(&self, id: u64, text: &str) -> Option<&Regex> {
        let compiled = self.patterns.get(&id)?;
        compiled.get_or_init(|| strings::regex(text).ok()).as_ref()
    }

    /// Whether it is known which overload of a function is called. Where no types are known, values tell.
    pub(super) fn is_resolved(&self, id: u64) -> bool {
        self.resolved
            .as_ref()
            .is_none_or(|calls| calls.contains(&id))
    }
}

#[derive(Default)]
struct Planner<'e> {
    plan: Plan,
    /// The variables of comprehensions.
    locals: Vec<&'e str>,
}

impl<'e> Planner<'e> {
    /// Whether it is a constant.
    fn expr(&mut self, expr: &'e IdedExpr) -> bool {
        let id = expr.id;
        match &expr.expr {
            Expr::Literal(_) => true,
            Expr::Ident(name) => is_type(name) && !self.locals.contains(&name.as_str()),
            Expr::Select(select) => {
                type_name(select).is_some() || {
                    self.expr(&select.operand);
                    false
                }
            }
            Expr::List(list) => {
                let mut all = true;
                for element in &list.elements {
                    all &= self.expr(element);
                }
                self.constant(id, all)
            }
            Expr::Map(map) => {
                let mut all = true;
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        all &= self.expr(&entry.key);
                        all &= self.expr(&entry.value);
                    }
                }
                self.constant(id, all)
            }
            Expr::Struct(made) => {
                for entry in &made.entries {
                    if let EntryExpr::StructField(field) = &entry.expr {
                        self.expr(&field.value);
                    }
                }
                false
            }
            Expr::Call(call) => self.call(id, call),
            Expr::Comprehension(comprehension) => {
                self.comprehension(comprehension);
                false
            }
            Expr::Unspecified => false,
        }
    }

    fn constant(&mut self, id: u64, is_one: bool) -> bool {
        if is_one {
            self.plan.constants.insert(id);
        }
        is_one
    }

    fn call(&mut self, id: u64, call: &'e CallExpr) -> bool {
        if let Some(target) = call.target.as_ref().filter(|_| library(call).is_none()) {
            self.expr(target);
        }
        let args: Vec<bool> = call.args.iter().map(|arg| self.expr(arg)).collect();
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::IN, [_, list]) if args[1] && matches!(list.expr, Expr::List(_)) => {
                self.plan.members.insert(id);
                false
            }
            ("matches", [.., pattern]) => {
                if matches!(pattern.expr, Expr::Literal(LiteralValue::String(_))) {
                    self.plan.patterns.insert(pattern.id, OnceLock::new());
                }
                false
            }
            (name, [_]) if call.target.is_none() && is_conversion(name) && args[0] => {
                self.constant(id, true)
            }
            _ => false,
        }
    }

    fn comprehension(&mut self, c: &'e ComprehensionExpr) {
        self.expr(&c.accu_init);
        self.expr(&c.iter_range);
        let before = self.locals.len();
        let names = [Some(&c.accu_var), Some(&c.iter_var), c.iter_var2.as_ref()];
        self.locals
            .extend(names.into_iter().flatten().map(String::as_str));
        self.expr(&c.loop_cond);
        self.expr(&c.loop_step);
        self.expr(&c.result);
        self.locals.truncate(before);
    }
}

/// The names of types that are plain names.
pub(super) fn is_type(name: &str) -> bool {
    matches!(
        name,
        "int"
            | "uint"
            | "double"
            | "bool"
            | "string"
            | "bytes"
            | "list"
            | "map"
            | "type"
            | "null_type"
            | "optional_type"
    )
}

fn is_conversion(name: &str) -> bool {
    matches!(
        name,
        "bool"
            | "bytes"
            | "double"
            | "duration"
            | "dyn"
            | "int"
            | "string"
            | "timestamp"
            | "type"
            | "uint"
    )
}

/// Whether cel-go plans it as an attribute: a variable, or something that is in another value.
pub(super) fn is_attribute(expr: &IdedExpr, plan: &Plan) -> bool {
    match &expr.expr {
        // The name of a type is none; which variables there are does not matter, as none of them is called so.
        Expr::Ident(name) => !is_type(name),
        Expr::Select(select) => type_name(select).is_none(),
        Expr::Call(call) => {
            !plan.is_constant(expr.id)
                && matches!(
                    call.func_name.as_str(),
                    operators::INDEX
                        | operators::OPT_INDEX
                        | operators::OPT_SELECT
                        | operators::CONDITIONAL
                )
        }
        _ => false,
    }
}

/// Whether it is a constant where it stands in brackets.
pub(super) fn is_constant(expr: &IdedExpr, plan: &Plan) -> bool {
    match &expr.expr {
        Expr::Literal(_) => true,
        Expr::Ident(name) => is_type(name),
        Expr::Select(select) => type_name(select).is_some(),
        _ => plan.is_constant(expr.id),
    }
}
