//! The types of an expression's parts, and what is wrong with them, as cel-go's type checker tells it.

use std::collections::HashMap;

use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, SelectExpr,
        SourceInfo, StructExpr, operators,
    },
};

use super::{
    Scope, declared,
    functions::{self, Overload},
    requests, type_name,
    types::{Mapping, Type, is_exactly, most_general},
};
use crate::{
    cel::{calls, faults, formats, plan::is_type, times},
    patterns,
};

/// How many faults are told: each shows the line that it is in.
const FAULTS: usize = 16;

/// What is known of the parts of an expression, each by its number.
#[derive(Debug, Default)]
pub(super) struct Types<'s> {
    pub(super) of: HashMap<u64, Type<'s>>,
    /// The overloads that a call may be.
    pub(super) overloads: HashMap<u64, Vec<&'static Overload>>,
}

/// Finds the types of all parts.
pub(super) fn infer<'s>(
    root: &IdedExpr,
    source: &SourceInfo,
    scope: &Scope<'s>,
) -> Result<Types<'s>, String> {
    let variables = scope.variables.iter();
    let mut infer = Infer {
        variables: variables
            .map(|variable| (variable.name.clone(), variable.ty.clone()))
            .collect(),
        objects: scope.objects,
        stored: scope.stored,
        own_resource: scope.own_resource,
        source,
        mapping: Mapping::new(),
        types: Types::default(),
        faults: Vec::new(),
        formats: 0,
    };
    infer.expr(root);
    if !infer.faults.is_empty() {
        return Err(infer.faults.join("\n"));
    }
    let Infer { mapping, types, .. } = infer;
    let Types { of, overloads } = types;
    Ok(Types {
        of: of
            .into_iter()
            .map(|(id, ty)| (id, mapping.substitute(&ty)))
            .collect(),
        overloads,
    })
}

struct Infer<'c, 's> {
    variables: Vec<(String, Type<'s>)>,
    objects: bool,
    stored: bool,
    own_resource: bool,
    source: &'c SourceInfo,
    mapping: Mapping<'s>,
    types: Types<'s>,
    faults: Vec<String>,
    /// In how many calls of `format` this is, whose arguments may be of several types.
    formats: usize,
}

impl<'s> Infer<'_, 's> {
    fn fault(&mut self, id: u64, text: &str) {
        if self.faults.len() >= FAULTS {
            return;
        }
        let start = self
            .source
            .offset_for(id)
            .map_or(0, |(start, _)| start as usize);
        let source = &self.source.source;
        let before = source.get(..start).unwrap_or(source);
        let line = before.matches('\n').count();
        let column = before.chars().rev().take_while(|c| *c != '\n').count();
        let shown = faults::shown(source, line + 1, column + 1, text);
        self.faults.push(shown);
    }

    fn undeclared(&mut self, id: u64, name: &str) -> Type<'s> {
        let text = format!("undeclared reference to '{name}' (in container '')");
        self.fault(id, &text);
        Type::Error
    }

    fn mismatch(&mut self, id: u64, expected: &Type<'s>, found: &Type<'s>) {
        let (expected, found) = (
            self.mapping.substitute(expected),
            self.mapping.substitute(found),
        );
        self.fault(
            id,
            &format!("expected type '{expected}' but found '{found}'"),
        );
    }

    fn expr(&mut self, expr: &IdedExpr) -> Type<'s> {
        let ty = match &expr.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.ident(expr.id, name),
            Expr::Select(select) => self.select(expr.id, select),
            Expr::List(list) => {
                let mut elements = None;
                for (at, element) in list.elements.iter().enumerate() {
                    let ty = self.expr(element);
                    let is_optional = list.optional_indices.binary_search(&at).is_ok();
                    let ty = self.entry(element.id, ty, is_optional);
                    elements = Some(self.join(element.id, elements, ty));
                }
                Type::list(elements.unwrap_or_else(|| self.mapping.fresh()))
            }
            Expr::Map(map) => self.map(map),
            Expr::Struct(made) => self.object(expr.id, made),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Call(call) => self.call(expr.id, call),
            Expr::Unspecified => Type::Dyn,
        };
        self.types.of.insert(expr.id, ty.clone());
        ty
    }

    fn ident(&mut self, id: u64, name: &str) -> Type<'s> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        match found {
            Some((_, ty)) => ty.clone(),
            None if is_type(name) => Type::Kind,
            None => self.undeclared(id, name),
        }
    }

    /// The type of an element that may be an optional one: `[?x]`.
    fn entry(&mut self, id: u64, ty: Type<'s>, is_optional: bool) -> Type<'s> {
        if !is_optional {
            return ty;
        }
        match self.mapping.substitute(&ty) {
            Type::Optional(of) => (*of).clone(),
            Type::Dyn | Type::Error => ty,
            _ => {
                self.mismatch(id, &Type::optional(ty.clone()), &ty);
                ty
            }
        }
    }

    /// The type of elements that are together in a list or a map.
    fn join(&mut self, id: u64, before: Option<Type<'s>>, ty: Type<'s>) -> Type<'s> {
        let Some(before) = before else {
            return ty;
        };
        if self.mapping.assignable(&before, &ty) {
            return most_general(before, ty);
        }
        if self.formats > 0 {
            return Type::Dyn;
        }
        self.mismatch(id, &before, &ty);
        Type::Error
    }

    fn map(&mut self, map: &MapExpr) -> Type<'s> {
        let (mut keys, mut values) = (None, None);
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                continue;
            };
            let key = self.expr(&entry.key);
            keys = Some(self.join(entry.key.id, keys, key));
            let value = self.expr(&entry.value);
            let value = self.entry(entry.value.id, value, entry.optional);
            values = Some(self.join(entry.value.id, values, value));
        }
        let keys = keys.unwrap_or_else(|| self.mapping.fresh());
        let values = values.unwrap_or_else(|| self.mapping.fresh());
        Type::map(keys, values)
    }

    /// `Object{…}`, `Object.spec{…}` and `JSONPatch{…}`.
    fn object(&mut self, id: u64, made: &StructExpr) -> Type<'s> {
        let name = made.type_name.as_str();
        let is_object = name == "Object" || name.starts_with("Object.");
        if !self.objects || !(is_object || name == "JSONPatch") {
            return self.undeclared(id, name);
        }
        let ty = match is_object {
            true => requests::object(name),
            false => requests::STEP.clone(),
        };
        for entry in &made.entries {
            let EntryExpr::StructField(field) = &entry.expr else {
                continue;
            };
            let value = self.expr(&field.value);
            let value = self.entry(field.value.id, value, field.optional);
            let wanted = self.field(entry.id, &ty, &field.field, false);
            if !self.mapping.assignable(&wanted, &value) {
                let value = self.mapping.substitute(&value);
                let text = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{value}'",
                    field.field
                );
                self.fault(entry.id, &text);
            }
        }
        ty
    }

    fn select(&mut self, id: u64, select: &SelectExpr) -> Type<'s> {
        if type_name(select).is_some() {
            return Type::Kind;
        }
        let operand = self.expr(&select.operand);
        let found = self.field(id, &operand, &select.field, false);
        match select.test {
            true => Type::Bool,
            false => found,
        }
    }

    /// The type of a field, as an optional one if its owner is, or if that is `wanted`.
    fn field(&mut self, id: u64, operand: &Type<'s>, name: &str, wanted: bool) -> Type<'s> {
        let operand = self.mapping.substitute(operand);
        let (owner, is_optional) = match &operand {
            Type::Optional(of) => ((**of).clone(), true),
            other => (other.clone(), false),
        };
        let found = match &owner {
            Type::Map(_, values) => (**values).clone(),
            Type::Object(object) => {
                let found = object.field(name);
                match found.and_then(|(schema, root)| declared::type_of(schema, root)) {
                    Some(found) => found,
                    None => {
                        self.fault(id, &format!("undefined field '{name}'"));
                        Type::Error
                    }
                }
            }
            Type::Fields(fields) => match fields.all.get(name) {
                Some(found) => found.clone(),
                None if fields.is_open => Type::Dyn,
                None => {
                    self.fault(id, &format!("undefined field '{name}'"));
                    Type::Error
                }
            },
            Type::Own(requests::AUTHORIZER) if self.own_resource && name == "requestResource" => {
                Type::Own(requests::RESOURCE_CHECK)
            }
            Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, &owner);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.fault(
                    id,
                    &format!("type '{other}' does not support field selection"),
                );
                Type::Dyn
            }
        };
        match is_optional || wanted {
            true => Type::optional(found),
            false => found,
        }
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Type<'s> {
        let name = call.func_name.as_str();
        if let (operators::OPT_SELECT, [operand, field]) = (name, call.args.as_slice()) {
            let owner = self.expr(operand);
            return match &field.expr {
                Expr::Literal(LiteralValue::String(field)) => {
                    self.field(id, &owner, field.inner(), true)
                }
                _ => Type::Dyn,
            };
        }
        let formats = usize::from(name == "format");
        self.formats += formats;
        let mut takes: Vec<Type<'s>> = call.args.iter().map(|arg| self.expr(arg)).collect();
        self.formats -= formats;
        let is_known = |name: &str| functions::is_known(name, self.stored, self.objects);
        let library = calls::library(call).filter(|library| is_known(&format!("{library}.{name}")));
        let is_known = is_known(name);
        let qualified = library.map(|library| format!("{library}.{name}"));
        let full = qualified.as_deref().unwrap_or(name);
        let target = call.target.as_ref().filter(|_| library.is_none());
        if let Some(target) = target {
            let target = self.expr(target);
            takes.insert(0, target);
        }
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            for (arg, ty) in call.args.iter().zip(&takes) {
                if !self.mapping.assignable(ty, &Type::Bool) {
                    self.mismatch(arg.id, &Type::Bool, ty);
                }
            }
            return Type::Bool;
        }
        match functions::overloads(full).filter(|_| is_known) {
            Some(overloads) => {
                if let Some(arg) = call.args.last() {
                    self.literal(name, arg);
                }
                self.resolve(id, full, overloads, &takes, target.is_some())
            }
            // What makes formats has no arguments, and there are many of them.
            None if library == Some("format") && formats::is_function(name) => {
                Type::Own("kubernetes.NamedFormat")
            }
            None => self.undeclared(id, full),
        }
    }

    /// What is written out must be what it is taken for: a pattern, a duration, a time.
    fn literal(&mut self, function: &str, arg: &IdedExpr) {
        let Expr::Literal(LiteralValue::String(text)) = &arg.expr else {
            return;
        };
        let text = text.inner();
        let is_good = match function {
            "matches" => patterns::compile(text).is_ok(),
            "duration" | "timestamp" => times::convert(function, &text.to_owned().into()).is_ok(),
            _ => true,
        };
        if !is_good {
            self.fault(arg.id, &format!("invalid {function} argument"));
        }
    }

    fn resolve(
        &mut self,
        id: u64,
        name: &str,
        overloads: &'static [Overload],
        takes: &[Type<'s>],
        is_member: bool,
    ) -> Type<'s> {
        let mut result: Option<Type<'s>> = None;
        let mut fitting = Vec::new();
        for overload in overloads {
            if overload.is_member != is_member || overload.takes.len() != takes.len() {
                continue;
            }
            let first = self.mapping.fresh_params(overload.params);
            let wanted: Vec<Type<'s>> =
                overload.takes.iter().map(|ty| renamed(ty, first)).collect();
            if !self.mapping.all_assignable(takes.iter().zip(&wanted)) {
                continue;
            }
            fitting.push(overload);
            let gives = self.mapping.substitute(&renamed(&overload.gives, first));
            result = Some(match result {
                None => gives,
                Some(Type::Dyn) => Type::Dyn,
                Some(before) if is_exactly(&before, &gives) => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let all: Vec<String> = takes
                .iter()
                .map(|ty| self.mapping.substitute(ty).to_string())
                .collect();
            let shown = match all.split_first() {
                Some((target, rest)) if is_member => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", all.join(", ")),
            };
            let text = format!("found no matching overload for '{name}' applied to '{shown}'");
            self.fault(id, &text);
            return Type::Error;
        };
        self.types.overloads.insert(id, fitting);
        result
    }

    fn comprehension(&mut self, c: &ComprehensionExpr) -> Type<'s> {
        let range = self.expr(&c.iter_range);
        let accumulated = self.expr(&c.accu_init);
        let range = self.mapping.substitute(&range);
        let base = self.variables.len();
        self.variables
            .push((c.accu_var.clone(), accumulated.clone()));
        let (first, second) = match (&range, &c.iter_var2) {
            (Type::List(of), Some(_)) => (Type::Int, (**of).clone()),
            (Type::List(of), None) => ((**of).clone(), Type::Dyn),
            (Type::Map(keys, values), _) => ((**keys).clone(), (**values).clone()),
            (Type::Dyn | Type::Error | Type::Param(_), _) => {
                self.mapping.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            (other, _) => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault(c.iter_range.id, &text);
                (Type::Error, Type::Error)
            }
        };
        self.variables.push((c.iter_var.clone(), first));
        if let Some(name) = &c.iter_var2 {
            self.variables.push((name.clone(), second));
        }
        let goes_on = self.expr(&c.loop_cond);
        self.must_be(c.loop_cond.id, &Type::Bool, &goes_on);
        let step = self.expr(&c.loop_step);
        self.must_be(c.loop_step.id, &accumulated, &step);
        self.variables.truncate(base + 1);
        let result = self.expr(&c.result);
        self.variables.truncate(base);
        self.mapping.substitute(&result)
    }

    fn must_be(&mut self, id: u64, expected: &Type<'s>, found: &Type<'s>) {
        if !self.mapping.assignable(expected, found) {
            self.mismatch(id, expected, found);
        }
    }
}

/// A type of the table with the parameters of one call.
fn renamed<'s>(ty: &Type<'static>, first: usize) -> Type<'s> {
    match ty {
        Type::Param(at) => Type::Param(first + at),
        Type::List(of) => Type::list(renamed(of, first)),
        Type::Optional(of) => Type::optional(renamed(of, first)),
        Type::Map(keys, values) => Type::map(renamed(keys, first), renamed(values, first)),
        other => other.clone(),
    }
}

fn of_literal<'s>(literal: &LiteralValue) -> Type<'s> {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}
