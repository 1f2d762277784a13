//! What can be said of an expression before it is evaluated: names that nobody declared, values that a function does
//! not take, what comes out, and what it may cost.

mod cost;
mod declared;
mod devices;
mod functions;
mod infer;
mod requests;
mod types;

use std::{collections::HashSet, sync::Arc};

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, SelectExpr, SourceInfo},
};

pub(super) use self::cost::scaled;
pub(crate) use self::declared::max_cardinality;
use self::types::Type;
pub use self::types::{Fields, ValueType};
use crate::structural::Schema;

/// The variables of an expression, with the schemas of their values.
#[derive(Debug, Default)]
pub struct Scope<'s> {
    variables: Vec<Variable<'s>>,
    objects: bool,
    stored: bool,
    own_resource: bool,
}

#[derive(Debug)]
struct Variable<'s> {
    name: String,
    ty: Type<'s>,
    /// Where its values come from, if that is known.
    schema: Option<&'s Schema>,
    is_resource: bool,
}

/// What is known of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The type of what comes out, as in `bool`; `dyn` if that is not known.
    pub result: &'static str,
    /// The same with its parts, as in `list(string)`.
    pub full_result: String,
    /// What one evaluation costs at most.
    pub cost: u64,
}

impl<'s> Scope<'s> {
    /// No variables.
    pub fn new() -> Self {
        Scope::default()
    }

    /// With a variable whose values have a schema; without one nothing is known of them.
    #[must_use]
    pub fn with(self, name: &str, schema: Option<&'s Schema>) -> Self {
        self.add(name, schema, false, |ty| ty)
    }

    /// With a variable whose values are whole resources: they have `apiVersion`, `kind` and `metadata`, whatever the
    /// schema says of these.
    #[must_use]
    pub fn with_resource(self, name: &str, schema: &'s Schema) -> Self {
        self.add(name, Some(schema), true, |ty| ty)
    }

    /// With a variable that is an optional value of another variable's type.
    #[must_use]
    pub fn with_optional(self, name: &str, of: &str) -> Self {
        let known = self.variables.iter().find(|variable| variable.name == of);
        let (schema, is_resource) =
            known.map_or((None, false), |known| (known.schema, known.is_resource));
        self.add(name, schema, is_resource, Type::optional)
    }

    fn add(
        mut self,
        name: &str,
        schema: Option<&'s Schema>,
        is_resource: bool,
        made: impl FnOnce(Type<'s>) -> Type<'s>,
    ) -> Self {
        let ty = schema.and_then(|schema| declared::type_of(schema, is_resource));
        self.variables.push(Variable {
            name: name.to_owned(),
            ty: made(ty.unwrap_or(Type::Dyn)),
            schema,
            is_resource,
        });
        self
    }

    /// With a variable that has these fields and no others.
    #[must_use]
    pub fn with_fields(self, name: &str, fields: &Fields) -> Self {
        self.typed(name, Type::Fields(Arc::new(fields.clone())))
    }

    /// With what policies and webhooks know of a request besides its objects: `request`, and, if it is asked for,
    /// `namespaceObject`.
    #[must_use]
    pub fn with_request(self, namespace: bool) -> Self {
        let scope = self.typed("request", requests::REQUEST.clone());
        match namespace {
            true => scope.typed("namespaceObject", requests::NAMESPACE.clone()),
            false => scope,
        }
    }

    /// With `authorizer`, and the check that it makes of the request's own resource if expressions may ask for it.
    #[must_use]
    pub fn with_authorizer(mut self, own_resource: bool) -> Self {
        self.own_resource = own_resource;
        self.typed("authorizer", Type::Own(requests::AUTHORIZER))
    }

    /// With what conditions of webhooks that authorize know of a request: `request`, the spec of a
    /// `SubjectAccessReview`.
    #[must_use]
    pub fn with_access_review(self) -> Self {
        self.typed("request", requests::ACCESS_REVIEW.clone())
    }

    /// With what selectors of devices know of one: `device`.
    #[must_use]
    pub fn with_device(self) -> Self {
        self.typed("device", devices::DEVICE.clone())
    }

    fn typed(mut self, name: &str, ty: Type<'s>) -> Self {
        self.variables.push(Variable {
            name: name.to_owned(),
            ty,
            schema: None,
            is_resource: false,
        });
        self
    }

    /// With `Object{…}`, `Object.spec{…}` and so on, which make parts of an object, and `JSONPatch{…}`, which makes
    /// a step of a patch.
    #[must_use]
    pub fn with_objects(mut self) -> Self {
        self.objects = true;
        self
    }

    /// For an expression that is in use already: it may call what new ones may not yet, as every API server of a
    /// cluster must know what is in them.
    #[must_use]
    pub fn stored(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }
}

/// The names of CEL's types that are spelled with dots.
pub(super) fn type_name(select: &SelectExpr) -> Option<&'static str> {
    let Expr::Select(inner) = &select.operand.expr else {
        return None;
    };
    let is_google = matches!(&inner.operand.expr, Expr::Ident(name) if name == "google");
    match (
        is_google && inner.field == "protobuf",
        select.field.as_str(),
    ) {
        (true, "Timestamp") => Some("google.protobuf.Timestamp"),
        (true, "Duration") => Some("google.protobuf.Duration"),
        _ => None,
    }
}

/// Whether an expression speaks of a variable.
pub(super) fn mentions(expr: &IdedExpr, name: &str) -> bool {
    let entry = |entry: &EntryExpr| match entry {
        EntryExpr::MapEntry(entry) => mentions(&entry.key, name) || mentions(&entry.value, name),
        EntryExpr::StructField(field) => mentions(&field.value, name),
    };
    match &expr.expr {
        Expr::Ident(found) => found == name,
        Expr::Select(select) => mentions(&select.operand, name),
        Expr::List(list) => list.elements.iter().any(|e| mentions(e, name)),
        Expr::Map(map) => map.entries.iter().any(|e| entry(&e.expr)),
        Expr::Struct(found) => found.entries.iter().any(|e| entry(&e.expr)),
        Expr::Call(call) => {
            call.args.iter().any(|e| mentions(e, name))
                || call.target.as_ref().is_some_and(|e| mentions(e, name))
        }
        Expr::Comprehension(c) => [
            &c.iter_range,
            &c.accu_init,
            &c.loop_cond,
            &c.loop_step,
            &c.result,
        ]
        .into_iter()
        .any(|e| mentions(e, name)),
        Expr::Literal(_) | Expr::Unspecified => false,
    }
}

/// The calls of which one overload is meant.
pub(super) fn resolved(
    root: &IdedExpr,
    source: &SourceInfo,
    scope: &Scope<'_>,
) -> Result<HashSet<u64>, String> {
    let types = infer::infer(root, source, scope)?;
    let calls = types.overloads.iter();
    let calls = calls.filter_map(|(id, fitting)| (fitting.len() == 1).then_some(*id));
    Ok(calls.collect())
}

pub(super) fn check(
    root: &IdedExpr,
    source: &SourceInfo,
    scope: &Scope<'_>,
) -> Result<Estimate, String> {
    let types = infer::infer(root, source, scope)?;
    let ty = types.of.get(&root.id).unwrap_or(&Type::Dyn);
    Ok(Estimate {
        result: result_name(ty),
        full_result: ty.full_name(),
        cost: cost::estimate(root, scope, &types),
    })
}

/// What is known of what comes out, for expressions that speak of it by a name.
pub(super) fn value_type(
    root: &IdedExpr,
    source: &SourceInfo,
    scope: &Scope<'_>,
) -> Result<ValueType, String> {
    let types = infer::infer(root, source, scope)?;
    Ok(types
        .of
        .get(&root.id)
        .map(ValueType::kept)
        .unwrap_or_default())
}

fn result_name(ty: &Type<'_>) -> &'static str {
    match ty {
        Type::Dyn | Type::Error | Type::Param(_) => "dyn",
        Type::Null => "null_type",
        Type::Bool => "bool",
        Type::Int => "int",
        Type::Uint => "uint",
        Type::Double => "double",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Duration => "google.protobuf.Duration",
        Type::Timestamp => "google.protobuf.Timestamp",
        Type::Kind => "type",
        Type::List(_) => "list",
        Type::Map(..) | Type::Object(_) | Type::Fields(_) => "map",
        Type::Optional(_) => "optional_type",
        Type::Own(name) => name,
    }
}

#[cfg(test)]
mod tests;
