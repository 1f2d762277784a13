//! What can be said of an expression before it is evaluated: names that nobody declared, fields that a
//! schema does not have, what comes out, and what it may cost.

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, SelectExpr, SourceInfo, operators},
};

use crate::structural::{Additional, Kind, Schema};

/// The variables of an expression, with the schemas of their values.
#[derive(Debug, Default)]
pub struct Scope<'s> {
    variables: Vec<(String, Known<'s>)>,
    objects: bool,
}

/// What is known of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The type of what comes out, as in `bool`; `dyn` if that is not known.
    pub result: &'static str,
    /// What one evaluation costs at most.
    pub cost: u64,
}

/// The longest text, in an object as large as a request may be.
const MAX_SIZE: u64 = 3 * 1024 * 1024 - 2;

#[derive(Clone, Copy, Debug)]
enum Type<'s> {
    Dyn,
    Named(&'static str),
    Schema(&'s Schema),
}

/// What is known of a value: its type, and how large it is at most.
#[derive(Clone, Copy, Debug)]
struct Known<'s> {
    ty: Type<'s>,
    size: u64,
}

const ANYTHING: Known<'static> = Known {
    ty: Type::Dyn,
    size: 0,
};

fn named<'s>(name: &'static str) -> Known<'s> {
    Known {
        ty: Type::Named(name),
        size: 0,
    }
}

impl<'s> Scope<'s> {
    /// No variables.
    pub fn new() -> Self {
        Scope::default()
    }

    /// With a variable whose values have a schema; without one nothing is known of them.
    #[must_use]
    pub fn with(mut self, name: &str, schema: Option<&'s Schema>) -> Self {
        let known = schema.map_or(ANYTHING, of_schema);
        self.variables.push((name.to_owned(), known));
        self
    }

    /// With `Object{…}`, `Object.spec{…}` and so on, which make parts of an object, and `JSONPatch{…}`, which makes
    /// a step of a patch.
    #[must_use]
    pub fn with_objects(mut self) -> Self {
        self.objects = true;
        self
    }
}

/// How many values of a schema an object can have at most, where its parent says no less.
pub(crate) fn max_elements(list: &Schema) -> u64 {
    let bound = list.max_items.or(list.max_properties);
    let least = match list.children().next().and_then(|s| s.kind) {
        Some(Kind::String | Kind::Object | Kind::Array) => 3,
        _ => 2,
    };
    bound
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(MAX_SIZE / least)
}

fn of_schema(schema: &Schema) -> Known<'_> {
    let size = match schema.kind {
        Some(Kind::String) => {
            let longest = schema.enumeration.as_ref().and_then(|values| {
                let lengths = values.iter().map(|v| v.as_str().map_or(0, str::len));
                lengths.max().and_then(|n| u64::try_from(n).ok())
            });
            let said = schema.max_length.and_then(|n| u64::try_from(n).ok());
            let format = match schema.format.as_deref() {
                Some("date-time" | "duration" | "date") => Some(64),
                _ => None,
            };
            said.or(longest).or(format).unwrap_or(MAX_SIZE)
        }
        Some(Kind::Array) => max_elements(schema),
        Some(Kind::Object) if schema.properties.is_empty() => max_elements(schema),
        _ => 1,
    };
    Known {
        ty: Type::Schema(schema),
        size,
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

pub(super) fn check(
    root: &IdedExpr,
    source: &SourceInfo,
    scope: &Scope<'_>,
) -> Result<Estimate, String> {
    let mut checker = Checker {
        variables: scope.variables.clone(),
        objects: scope.objects,
        source,
        cost: 0,
    };
    let known = checker.expr(root)?;
    Ok(Estimate {
        result: result_name(&known),
        cost: checker.cost,
    })
}

fn result_name(known: &Known<'_>) -> &'static str {
    match known.ty {
        Type::Dyn => "dyn",
        Type::Named(name) => name,
        Type::Schema(schema) if schema.int_or_string => "dyn",
        Type::Schema(schema) => match (schema.kind, schema.format.as_deref()) {
            (Some(Kind::String), Some("date-time" | "date")) => "google.protobuf.Timestamp",
            (Some(Kind::String), Some("duration")) => "google.protobuf.Duration",
            (Some(Kind::String), Some("byte")) => "bytes",
            (Some(Kind::String), _) => "string",
            (Some(Kind::Integer), _) => "int",
            (Some(Kind::Number), _) => "double",
            (Some(Kind::Boolean), _) => "bool",
            (Some(Kind::Array), _) => "list",
            (Some(Kind::Object), _) => "map",
            (None, _) => "dyn",
        },
    }
}

struct Checker<'c, 's> {
    variables: Vec<(String, Known<'s>)>,
    objects: bool,
    source: &'c SourceInfo,
    cost: u64,
}

/// The functions that there are.
const FUNCTIONS: &[&str] = &[
    "size",
    "matches",
    "type",
    "dyn",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "timestamp",
    "duration",
    "quantity",
    "isQuantity",
    "url",
    "isURL",
    "ip",
    "isIP",
    "cidr",
    "isCIDR",
    "of",
    "none",
    "ofNonZeroValue",
    "hasValue",
    "value",
    "orValue",
    "or",
    "isCanonical",
    "contains",
    "equivalent",
    "intersects",
    "startsWith",
    "endsWith",
    "find",
    "findAll",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "reverse",
    "join",
    "isSorted",
    "sum",
    "min",
    "max",
    "sign",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "add",
    "sub",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "getScheme",
    "getHost",
    "getHostname",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "masked",
    "prefixLength",
    "containsIP",
    "containsCIDR",
    "escapeKey",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "fieldSelector",
    "labelSelector",
    "serviceAccount",
    "check",
    "allowed",
    "reason",
    "errored",
    "error",
    "format",
    "named",
    "validate",
    "quote",
    "semver",
    "isSemver",
    "major",
    "minor",
    "patch",
    "slice",
    "flatten",
    "sort",
    "distinct",
    "range",
    "first",
    "last",
    "unwrap",
    "unwrapOpt",
    "@mapInsert",
    "@sortBy",
    "@not_strictly_false",
];

impl<'s> Checker<'_, 's> {
    fn spend(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }

    fn fault(&self, id: u64, text: &str) -> String {
        let start = self
            .source
            .offset_for(id)
            .map_or(0, |(start, _)| start as usize);
        let source = &self.source.source;
        let before = source.get(..start).unwrap_or(source);
        let line = before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let shown = source.lines().nth(line).unwrap_or_default();
        format!(
            "ERROR: <input>:{}:{}: {text}\n | {shown}\n | {}^",
            line + 1,
            column + 1,
            ".".repeat(column),
        )
    }

    fn undeclared(&self, id: u64, name: &str) -> String {
        self.fault(
            id,
            &format!("undeclared reference to '{name}' (in container '')"),
        )
    }

    fn expr(&mut self, expr: &IdedExpr) -> Result<Known<'s>, String> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => {
                self.spend(1);
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                match found {
                    Some((_, known)) => Ok(*known),
                    None if is_type(name) => Ok(named("type")),
                    None => Err(self.undeclared(expr.id, name)),
                }
            }
            Expr::Select(select) => self.select(expr.id, select),
            Expr::List(list) => {
                self.spend(10);
                for element in &list.elements {
                    self.expr(element)?;
                }
                Ok(Known {
                    ty: Type::Named("list"),
                    size: u64::try_from(list.elements.len()).unwrap_or(u64::MAX),
                })
            }
            Expr::Map(map) => {
                self.spend(30);
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.expr(&entry.key)?;
                        self.expr(&entry.value)?;
                    }
                }
                Ok(Known {
                    ty: Type::Named("map"),
                    size: u64::try_from(map.entries.len()).unwrap_or(u64::MAX),
                })
            }
            Expr::Struct(made) => {
                let name = made.type_name.as_str();
                let is_object = name == "Object" || name.starts_with("Object.");
                if !self.objects || !(is_object || name == "JSONPatch") {
                    return Err(self.undeclared(expr.id, name));
                }
                self.spend(30);
                for entry in &made.entries {
                    if let EntryExpr::StructField(field) = &entry.expr {
                        let step = matches!(field.field.as_str(), "op" | "path" | "from" | "value");
                        if !is_object && !step {
                            return Err(
                                self.fault(entry.id, &format!("undefined field '{}'", field.field))
                            );
                        }
                        self.expr(&field.value)?;
                    }
                }
                Ok(named("map"))
            }
            Expr::Unspecified => Ok(ANYTHING),
            Expr::Comprehension(c) => {
                let range = self.expr(&c.iter_range)?;
                let (first, second) = match range.ty {
                    Type::Schema(schema) => {
                        let element = match &schema.additional {
                            Additional::Schema(values) => Some(of_schema(values)),
                            _ => schema.items.as_deref().map(of_schema),
                        };
                        let element = element.unwrap_or(ANYTHING);
                        match schema.kind {
                            Some(Kind::Object) => (named("string"), element),
                            _ => (element, element),
                        }
                    }
                    _ => (ANYTHING, ANYTHING),
                };
                let accumulated = self.expr(&c.accu_init)?;
                let base = self.variables.len();
                // What is gathered may grow as long as the range.
                let gathers = matches!(accumulated.ty, Type::Named("list" | "map"));
                let binds = c.iter_var == super::macros::UNUSED;
                let accumulated = Known {
                    size: if gathers && !binds {
                        range.size
                    } else {
                        accumulated.size
                    },
                    ..accumulated
                };
                self.variables.push((c.accu_var.clone(), accumulated));
                let before = std::mem::take(&mut self.cost);
                match &c.iter_var2 {
                    Some(name) => {
                        let index = match range.ty {
                            Type::Schema(s) if s.kind == Some(Kind::Array) => named("int"),
                            _ => first,
                        };
                        self.variables.push((c.iter_var.clone(), index));
                        self.variables.push((name.clone(), second));
                    }
                    None => self.variables.push((c.iter_var.clone(), first)),
                }
                self.expr(&c.loop_cond)?;
                self.expr(&c.loop_step)?;
                let each = std::mem::replace(&mut self.cost, before);
                self.spend(each.saturating_mul(range.size));
                self.variables.truncate(base + 1);
                let result = self.expr(&c.result)?;
                self.variables.truncate(base);
                Ok(result)
            }
            Expr::Call(call) => self.call(expr.id, call),
        }
    }

    fn select(&mut self, id: u64, select: &SelectExpr) -> Result<Known<'s>, String> {
        if type_name(select).is_some() {
            return Ok(named("type"));
        }
        let operand = self.expr(&select.operand)?;
        self.spend(1);
        let found = match operand.ty {
            Type::Schema(schema) => self.field(id, schema, &select.field)?,
            Type::Named("map" | "optional_type") | Type::Dyn => ANYTHING,
            Type::Named(name) => {
                return Err(self.fault(
                    id,
                    &format!("type '{name}' does not support field selection"),
                ));
            }
        };
        Ok(if select.test { named("bool") } else { found })
    }

    fn field(&self, id: u64, schema: &'s Schema, name: &str) -> Result<Known<'s>, String> {
        match schema.kind {
            Some(Kind::Object) => {}
            None => return Ok(ANYTHING),
            Some(kind) => {
                let text = format!("type '{}' does not support field selection", kind.as_str());
                return Err(self.fault(id, &text));
            }
        }
        if let Some(field) = schema.field(name) {
            return Ok(of_schema(field));
        }
        // Names that are written in another way than they are, and what every object has.
        let plain = super::value::unescape(name).and_then(|plain| schema.field(&plain));
        if let Some(field) = plain {
            return Ok(of_schema(field));
        }
        if matches!(name, "apiVersion" | "kind" | "metadata") {
            return Ok(ANYTHING);
        }
        Err(self.fault(id, &format!("undefined field '{name}'")))
    }

    fn call(&mut self, id: u64, call: &cel::common::ast::CallExpr) -> Result<Known<'s>, String> {
        let name = call.func_name.as_str();
        let library = super::calls::library(call).is_some();
        let is_operator = name.contains('_') || name == operators::IN || name.starts_with('!');
        if !is_operator && !library && !FUNCTIONS.contains(&name) {
            return Err(self.undeclared(id, name));
        }
        let mut args = Vec::new();
        if let Some(target) = call.target.as_ref().filter(|_| !library) {
            args.push(self.expr(target)?);
        }
        for arg in &call.args {
            args.push(self.expr(arg)?);
        }
        let size = |at: usize| args.get(at).map_or(0, |known: &Known<'_>| known.size);
        let joins = name == operators::ADD
            && args
                .first()
                .is_some_and(|known| result_name(known) == "list");
        self.spend(if joins {
            1
        } else {
            super::calls::estimate(name, size(0), size(1))
        });
        Ok(match name {
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::IN
            | operators::NOT_STRICTLY_FALSE
            | "!_"
            | "matches"
            | "contains"
            | "startsWith"
            | "endsWith"
            | "isSorted"
            | "isQuantity"
            | "isURL"
            | "isIP"
            | "isCIDR"
            | "isSemver"
            | "isCanonical"
            | "equivalent"
            | "intersects"
            | "hasValue"
            | "isGreaterThan"
            | "isLessThan"
            | "containsIP"
            | "containsCIDR"
            | "allowed"
            | "errored"
            | "bool" => named("bool"),
            "major" | "minor" | "patch" => named("int"),
            "slice" | "sort" | "distinct" | "flatten" | "reverse" | "@sortBy"
                if args
                    .first()
                    .is_some_and(|known| result_name(known) != "string") =>
            {
                Known {
                    ty: Type::Named("list"),
                    size: size(0),
                }
            }
            "@mapInsert" => Known {
                ty: Type::Named("map"),
                size: size(0),
            },
            "first" | "last" | "named" | "validate" => named("optional_type"),
            "size" | "int" | "indexOf" | "lastIndexOf" | "compareTo" | "sign" => named("int"),
            "string" | "format" | "quote" | "reverse" | "lowerAscii" | "upperAscii" | "replace"
            | "substring" | "trim" | "join" | "charAt" | "find" => Known {
                size: size(0),
                ..named("string")
            },
            operators::ADD => {
                let ty = match args.first().map(result_name) {
                    Some("string") => Type::Named("string"),
                    Some("int") => Type::Named("int"),
                    _ => args.first().map_or(Type::Dyn, |known| match known.ty {
                        Type::Named("list") => Type::Named("list"),
                        _ => Type::Dyn,
                    }),
                };
                // What a comprehension adds to is as large as its variable says already.
                Known {
                    ty,
                    size: size(0).max(size(1)),
                }
            }
            operators::INDEX => match args.first().map(|known| known.ty) {
                Some(Type::Schema(schema)) => match (&schema.additional, &schema.items) {
                    (Additional::Schema(values), _) => of_schema(values),
                    (_, Some(items)) => of_schema(items),
                    _ => ANYTHING,
                },
                _ => ANYTHING,
            },
            operators::CONDITIONAL => {
                let (a, b) = (args.get(1).copied(), args.get(2).copied());
                match (a, b) {
                    (Some(a), Some(b)) => Known {
                        ty: match (result_name(&a), result_name(&b)) {
                            (x, y) if x == y => Type::Named(x),
                            _ => Type::Dyn,
                        },
                        size: a.size.max(b.size),
                    },
                    _ => ANYTHING,
                }
            }
            "reason" | "error" | "escapeKey" => Known {
                size: 64,
                ..named("string")
            },
            "of" | "none" | "ofNonZeroValue" => named("optional_type"),
            _ => ANYTHING,
        })
    }
}

fn is_type(name: &str) -> bool {
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
    )
}

fn of_literal<'s>(literal: &LiteralValue) -> Known<'s> {
    match literal {
        LiteralValue::Boolean(_) => named("bool"),
        LiteralValue::Bytes(bytes) => Known {
            size: u64::try_from(bytes.inner().len()).unwrap_or(u64::MAX),
            ..named("bytes")
        },
        LiteralValue::Double(_) => named("double"),
        LiteralValue::Int(_) => named("int"),
        LiteralValue::Null => named("null_type"),
        LiteralValue::String(text) => Known {
            size: u64::try_from(text.inner().len()).unwrap_or(u64::MAX),
            ..named("string")
        },
        LiteralValue::UInt(_) => named("uint"),
    }
}
