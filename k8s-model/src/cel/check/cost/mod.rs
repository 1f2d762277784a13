//! What an expression may cost at most, before it is evaluated: as cel-go's estimator and Kubernetes' own add it up
//! (cel-go's `checker/cost.go`, apiserver's `pkg/cel/library/cost.go`). It decides which rules a
//! CustomResourceDefinition may have, so every number counts.

mod calls;
mod size;

use std::collections::HashMap;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};

pub(in crate::cel) use self::size::scaled;
use self::{
    calls::{Argument, Function},
    size::{Size, UNKNOWN},
};
use super::{
    Scope, declared,
    devices::{self, Part},
    infer::Types,
    type_name,
    types::{Object, Type},
};
use crate::{
    cel::{calls::library, macros},
    structural::{Additional, Schema},
};

const NEW_LIST: u64 = 10;
const NEW_MAP: u64 = 30;
const NEW_OBJECT: u64 = 40;

/// Where in the schema a value comes from.
#[derive(Clone, Copy, Debug)]
enum Place<'s> {
    Value(&'s Schema, bool),
    Key,
    /// In no schema, but in a device.
    Part(Part),
}

/// How large the elements of a value are, of lists and maps that the expression makes.
#[derive(Clone, Copy, Debug)]
struct Elements {
    is_list: bool,
    key: Size,
    value: Size,
}

impl Elements {
    fn or(self, other: Option<Elements>) -> Self {
        match other {
            Some(other) => Elements {
                is_list: self.is_list,
                key: self.key.or(other.key),
                value: self.value.or(other.value),
            },
            None => self,
        }
    }
}

/// What is known of a value besides its type.
#[derive(Clone, Copy, Debug, Default)]
struct Known<'s> {
    place: Option<Place<'s>>,
    size: Option<Size>,
    elements: Option<Elements>,
}

/// What it costs at most.
pub(super) fn estimate<'s>(root: &IdedExpr, scope: &Scope<'s>, types: &Types<'s>) -> u64 {
    let variables = scope.variables.iter().map(|variable| {
        let of_schema = variable
            .schema
            .map(|schema| Place::Value(schema, variable.is_resource));
        let known = Known {
            place: of_schema.or(devices::part(&variable.ty).map(Place::Part)),
            ..Known::default()
        };
        (variable.name.clone(), known)
    });
    let mut coster = Coster {
        types,
        variables: variables.collect(),
        targets: Vec::new(),
        sizes: HashMap::new(),
    };
    coster.expr(root).0
}

struct Coster<'c, 's> {
    types: &'c Types<'s>,
    variables: Vec<(String, Known<'s>)>,
    /// What it costs to evaluate what the macros of optional values are called of.
    targets: Vec<u64>,
    /// How large the values of schemas are at most, by the schema's address.
    sizes: HashMap<usize, u64>,
}

/// The most that something costs, and what is known of its value.
type Costed<'s> = (u64, Known<'s>);

impl<'s> Coster<'_, 's> {
    fn type_of(&self, expr: &IdedExpr) -> Type<'s> {
        self.types.of.get(&expr.id).cloned().unwrap_or(Type::Dyn)
    }

    /// What is known of the name of a type: upstream takes it for as large as the first variable.
    fn of_a_type(&self) -> Known<'s> {
        let first = self.variables.first();
        first.map(|(_, known)| *known).unwrap_or_default()
    }

    fn expr(&mut self, expr: &IdedExpr) -> Costed<'s> {
        let (cost, mut known) = match &expr.expr {
            Expr::Literal(literal) => (
                0,
                Known {
                    size: Some(Size::exactly(literal_size(literal))),
                    ..Known::default()
                },
            ),
            Expr::Ident(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let target = self.targets.last().filter(|_| name == macros::TARGET);
                (
                    target.copied().unwrap_or(1),
                    found.map_or_else(|| self.of_a_type(), |(_, known)| *known),
                )
            }
            Expr::Select(select) if type_name(select).is_some() => (1, self.of_a_type()),
            Expr::Select(select) => {
                let (cost, operand) = self.expr(&select.operand);
                if select.test {
                    (cost, Known::default())
                } else {
                    let own = match self.type_of(&select.operand) {
                        Type::Map(..) | Type::Object(_) | Type::Fields(_) | Type::Param(_) => 1,
                        _ => 0,
                    };
                    let known = Known {
                        place: field(operand.place, &select.field),
                        ..Known::default()
                    };
                    (cost.saturating_add(own), known)
                }
            }
            Expr::List(list) => {
                let mut cost = NEW_LIST;
                let mut value = None;
                for element in &list.elements {
                    let (own, known) = self.expr(element);
                    cost = cost.saturating_add(own);
                    value = Some(grown(value, known.size.unwrap_or(UNKNOWN)));
                }
                let known = Known {
                    size: Some(Size::exactly(list.elements.len() as u64)),
                    elements: Some(Elements {
                        is_list: true,
                        key: Size::exactly(1),
                        value: value.unwrap_or(Size::exactly(0)),
                    }),
                    place: None,
                };
                (cost, known)
            }
            Expr::Map(map) => {
                let mut cost = NEW_MAP;
                let (mut key, mut value) = (None, None);
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let (own, known) = self.expr(&entry.key);
                        cost = cost.saturating_add(own);
                        key = Some(grown(key, known.size.unwrap_or(UNKNOWN)));
                        let (own, known) = self.expr(&entry.value);
                        cost = cost.saturating_add(own);
                        value = Some(grown(value, known.size.unwrap_or(UNKNOWN)));
                    }
                }
                let known = Known {
                    size: Some(Size::exactly(map.entries.len() as u64)),
                    elements: Some(Elements {
                        is_list: false,
                        key: key.unwrap_or(Size::exactly(0)),
                        value: value.unwrap_or(Size::exactly(0)),
                    }),
                    place: None,
                };
                (cost, known)
            }
            Expr::Struct(made) => {
                let mut cost = NEW_OBJECT;
                for entry in &made.entries {
                    if let EntryExpr::StructField(field) = &entry.expr {
                        cost = cost.saturating_add(self.expr(&field.value).0);
                    }
                }
                (cost, Known::default())
            }
            Expr::Comprehension(c) => self.comprehension(c),
            Expr::Call(call) => self.call(expr.id, call),
            Expr::Unspecified => (0, Known::default()),
        };
        if known.size.is_none() {
            known.size = self.size(known.place, &self.type_of(expr));
        }
        (cost, known)
    }

    /// How large a value is, by where it comes from or by its type.
    fn size(&mut self, place: Option<Place<'s>>, ty: &Type<'s>) -> Option<Size> {
        let max = match place {
            Some(Place::Value(schema, _)) => {
                let address = std::ptr::from_ref(schema).addr();
                *self
                    .sizes
                    .entry(address)
                    .or_insert_with(|| declared::max_size(schema))
            }
            Some(Place::Key) => 0,
            Some(Place::Part(part)) => part.max_size(),
            None => return ty.is_scalar().then_some(Size::exactly(1)),
        };
        Some(Size { min: 0, max })
    }

    fn comprehension(&mut self, c: &ComprehensionExpr) -> Costed<'s> {
        let (cost, range) = self.expr(&c.iter_range);
        let (own, init) = self.expr(&c.accu_init);
        let mut cost = cost.saturating_add(own);
        let base = self.variables.len();
        self.variables.push((c.accu_var.clone(), init));
        if c.accu_var == macros::TARGET {
            // Upstream's macro has it twice instead of its name.
            self.targets.push(own);
            let found = self.expr(&c.result);
            self.targets.pop();
            self.variables.truncate(base);
            return found;
        }
        if c.iter_var == macros::UNUSED {
            let (own, result) = self.expr(&c.result);
            self.variables.truncate(base);
            return (cost.saturating_add(own), result);
        }
        let is_list = match range.elements {
            Some(elements) => elements.is_list,
            None => matches!(self.type_of(&c.iter_range), Type::List(_)),
        };
        let key = Known {
            place: match range.place {
                _ if is_list => None,
                Some(Place::Part(part)) => part.key().map(Place::Part),
                Some(_) => Some(Place::Key),
                None => None,
            },
            size: range.elements.map(|elements| elements.key),
            elements: None,
        };
        let value = Known {
            place: element(range.place),
            size: range.elements.map(|elements| elements.value),
            elements: None,
        };
        match &c.iter_var2 {
            Some(name) => {
                self.variables.push((c.iter_var.clone(), key));
                self.variables.push((name.clone(), value));
            }
            None if is_list => self.variables.push((c.iter_var.clone(), value)),
            None => self.variables.push((c.iter_var.clone(), key)),
        }
        let (condition, _) = self.expr(&c.loop_cond);
        let (step, stepped) = self.expr(&c.loop_step);
        self.variables.truncate(base + 1);
        let (own, result) = self.expr(&c.result);
        self.variables.truncate(base);
        let count = range.size.unwrap_or(UNKNOWN);
        let each = condition.saturating_add(step);
        cost = cost
            .saturating_add(own)
            .saturating_add(each.saturating_mul(count.max));
        let gathers = matches!(c.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let known = match gathers {
            true => Known {
                place: None,
                size: Some(count),
                elements: stepped.elements,
            },
            false => Known {
                place: None,
                size: result
                    .size
                    .filter(|_| is_literal(&c.accu_init))
                    .or(init.size),
                elements: None,
            },
        };
        (cost, known)
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Costed<'s> {
        let name = call.func_name.as_str();
        let library = library(call);
        let mut costs = Vec::new();
        let mut args = Vec::new();
        for arg in &call.args {
            let (cost, known) = self.expr(arg);
            costs.push(cost);
            args.push((known, self.type_of(arg), arg));
        }
        let target = call.target.as_ref().filter(|_| library.is_none());
        let (target_cost, target) = match target {
            Some(target) => {
                let (cost, known) = self.expr(target);
                (cost, Some((known, self.type_of(target), &**target)))
            }
            None => (0, None),
        };
        let sum = costs
            .iter()
            .fold(target_cost, |sum, cost| sum.saturating_add(*cost));
        match (name, costs.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, _) => return (sum, Known::default()),
            ("dyn", _) => {
                let known = args.first().map(|(known, ..)| *known).unwrap_or_default();
                return (sum.saturating_add(1), known);
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let size = size_of(&args[1]).or(size_of(&args[2]));
                let elements = [&args[1].0, &args[2].0].map(|known| known.elements);
                let known = Known {
                    place: None,
                    size: Some(size),
                    elements: elements[0].map_or(elements[1], |one| Some(one.or(elements[1]))),
                };
                return (condition.saturating_add(*yes.max(no)), known);
            }
            (operators::OPT_SELECT, _) => {
                let known = match (&args[0].0, &call.args[1].expr) {
                    (operand, Expr::Literal(LiteralValue::String(name))) => Known {
                        place: field(operand.place, name.inner()),
                        ..Known::default()
                    },
                    _ => Known::default(),
                };
                return (sum.saturating_add(1), known);
            }
            _ => {}
        }
        let overloads = self.types.overloads.get(&id);
        let full = library.map(|library| format!("{library}.{name}"));
        let function = Function {
            name: full.as_deref().unwrap_or(name),
            target: target.as_ref(),
            args: &args,
        };
        let mut own = 0;
        let mut known = Known::default();
        for overload in overloads.into_iter().flatten() {
            let (cost, size) = self.function(&function, overload);
            own = own.max(cost);
            known.size = match (known.size, size) {
                (Some(one), Some(other)) => Some(one.or(other)),
                (one, other) => one.or(other),
            };
        }
        // What nothing is known of still costs something.
        let own = own.max(u64::from(overloads.is_none()));
        match (name, args.first()) {
            (operators::INDEX | operators::OPT_INDEX, Some((owner, ..))) => {
                known.place = element(owner.place);
                known.size = owner.elements.map(|elements| elements.value);
            }
            (operators::ADD, Some((one, ..))) => {
                let other = args.get(1).and_then(|(known, ..)| known.elements);
                known.elements = one.elements.map_or(other, |one| Some(one.or(other)));
            }
            _ => {}
        }
        (sum.saturating_add(own), known)
    }
}

fn size_of(argument: &Argument<'_, '_>) -> Size {
    argument.0.size.unwrap_or(UNKNOWN)
}

fn grown(before: Option<Size>, size: Size) -> Size {
    before.map_or(size, |before| before.or(size))
}

fn is_literal(expr: &IdedExpr) -> bool {
    matches!(expr.expr, Expr::Literal(_))
}

fn literal_size(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => text.inner().chars().count() as u64,
        LiteralValue::Bytes(bytes) => bytes.inner().len() as u64,
        _ => 1,
    }
}

/// Where a field comes from.
fn field<'s>(place: Option<Place<'s>>, name: &str) -> Option<Place<'s>> {
    let (schema, is_resource) = match place? {
        Place::Value(schema, is_resource) => (schema, is_resource),
        Place::Part(part) => return part.field(name).map(Place::Part),
        Place::Key => return None,
    };
    let object = Object {
        schema,
        is_resource,
    };
    let (schema, is_resource) = object.field(name)?;
    Some(Place::Value(schema, is_resource))
}

/// Where the elements of a list, or the values of a map, come from.
fn element(place: Option<Place<'_>>) -> Option<Place<'_>> {
    let schema = match place? {
        Place::Value(schema, _) => schema,
        Place::Part(part) => return part.element().map(Place::Part),
        Place::Key => return None,
    };
    let found = match &schema.additional {
        Additional::Schema(values) => values,
        _ => schema.items.as_deref()?,
    };
    Some(Place::Value(found, found.embedded))
}
