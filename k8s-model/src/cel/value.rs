//! [`Val`]: a value of an expression.

use std::{cmp::Ordering, net::IpAddr, rc::Rc};

use base64::Engine;
use jiff::{Timestamp, tz::Offset};
use serde_json::Value as Json;

use super::{CelError, Format, Host, Semver, list_types::Merged, times};
use crate::{
    quantity::Amount,
    structural::{Kind, Schema},
};

/// A value of an expression.
#[derive(Clone, Debug)]
pub enum Val<'v> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A text.
    String(Rc<str>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// A list that the expression made.
    List(Rc<Vec<Val<'v>>>),
    /// A set or a map that a list was added to: elements are added to it as to that.
    Merged(Rc<Merged<'v>>),
    /// A map that the expression made.
    Map(Rc<Vec<(Val<'v>, Val<'v>)>>),
    /// A point in time, and how far its text was from UTC.
    Timestamp(Timestamp, Offset),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A type.
    Type(Rc<str>),
    /// A value that may not be there.
    Optional(Option<Rc<Val<'v>>>),
    /// A quantity of a resource.
    Quantity(Amount),
    /// An address on the web.
    Url(Rc<Url>),
    /// An IP address.
    Ip(IpAddr),
    /// An IP network.
    Cidr(IpAddr, u8),
    /// A named format of texts.
    Format(Format),
    /// A semantic version.
    Semver(Rc<Semver>),
    /// An object or list of the data, with its schema.
    Json(&'v Json, Option<&'v Schema>),
    /// A value that somebody else answers for.
    Host(Rc<dyn Host<'v> + 'v>),
    /// What went wrong with one element of a list, which another may make good.
    Error(CelError),
}

/// An address on the web, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
}

impl From<bool> for Val<'_> {
    fn from(value: bool) -> Self {
        Val::Bool(value)
    }
}

impl From<i64> for Val<'_> {
    fn from(value: i64) -> Self {
        Val::Int(value)
    }
}

impl From<&str> for Val<'_> {
    fn from(value: &str) -> Self {
        Val::String(value.into())
    }
}

impl From<String> for Val<'_> {
    fn from(value: String) -> Self {
        Val::String(value.into())
    }
}

impl<'v> Val<'v> {
    /// A value of the data, as its schema types it.
    pub fn of(json: &'v Json, schema: Option<&'v Schema>) -> Val<'v> {
        match json {
            Json::Null => Val::Null,
            Json::Bool(b) => Val::Bool(*b),
            Json::Number(n) => {
                let wants_double = schema.is_some_and(|s| s.kind == Some(Kind::Number));
                match n.as_i64() {
                    Some(n) if !wants_double => Val::Int(n),
                    _ => {
                        let n = n.as_f64().unwrap_or(f64::NAN);
                        let wants_int = schema.is_some_and(|s| s.kind == Some(Kind::Integer));
                        if wants_int && n.fract() == 0.0 {
                            #[expect(clippy::cast_possible_truncation, reason = "it is whole")]
                            let whole = n as i64;
                            return Val::Int(whole);
                        }
                        Val::Double(n)
                    }
                }
            }
            Json::String(text) => Val::text(text, schema),
            Json::Array(_) | Json::Object(_) => Val::Json(json, schema),
        }
    }

    fn text(text: &str, schema: Option<&Schema>) -> Val<'v> {
        let format = schema
            .filter(|s| s.kind == Some(Kind::String))
            .and_then(|s| s.format.as_deref());
        let typed = match format {
            Some("date-time") => times::read(text),
            Some("date") => times::read(&format!("{text}T00:00:00Z")),
            Some("duration") => crate::duration::parse(text).map(Val::Duration),
            Some("byte") => base64::engine::general_purpose::STANDARD
                .decode(text)
                .ok()
                .map(|bytes| Val::Bytes(bytes.into())),
            _ => None,
        };
        typed.unwrap_or_else(|| text.into())
    }

    /// The name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::String(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::List(_) | Val::Merged(_) | Val::Json(Json::Array(_), _) => "list",
            Val::Map(_) | Val::Json(..) => "map",
            Val::Timestamp(..) => "google.protobuf.Timestamp",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Type(_) => "type",
            Val::Optional(_) => "optional_type",
            Val::Quantity(_) => "kubernetes.Quantity",
            Val::Url(_) => "kubernetes.URL",
            Val::Ip(_) => "net.IP",
            Val::Cidr(..) => "net.CIDR",
            Val::Format(_) => "kubernetes.NamedFormat",
            Val::Semver(_) => "kubernetes.Semver",
            Val::Host(host) => host.type_name(),
            Val::Error(_) => "error",
        }
    }

    /// Its elements, if it is a list.
    pub(super) fn elements(&self) -> Option<Vec<Val<'v>>> {
        match self {
            Val::List(list) => Some(list.to_vec()),
            Val::Merged(list) => Some(list.elements.clone()),
            Val::Json(Json::Array(list), schema) => {
                let items = schema.and_then(|s| s.items.as_deref());
                Some(list.iter().map(|json| Val::of(json, items)).collect())
            }
            _ => None,
        }
    }

    /// What a comprehension goes through: the elements of a list, the keys of a map; if `two`, with their position in
    /// front, or their values behind. Nothing if it is neither.
    pub(super) fn pairs(
        self,
        two: bool,
    ) -> Option<Box<dyn Iterator<Item = (Val<'v>, Val<'v>)> + 'v>> {
        let at = |at: usize| Val::Int(i64::try_from(at).unwrap_or(i64::MAX));
        let of_list = move |index: usize, value: Val<'v>| match two {
            true => (at(index), value),
            false => (value, Val::Null),
        };
        Some(match self {
            Val::List(list) => Box::new((0..list.len()).map(move |n| of_list(n, list[n].clone()))),
            Val::Merged(list) => Box::new(
                (0..list.elements.len()).map(move |n| of_list(n, list.elements[n].clone())),
            ),
            Val::Map(map) => Box::new((0..map.len()).map(move |n| map[n].clone())),
            Val::Json(Json::Array(list), schema) => {
                let items = schema.and_then(|s| s.items.as_deref());
                let elements = list.iter().enumerate();
                Box::new(elements.map(move |(n, json)| of_list(n, Val::of(json, items))))
            }
            Val::Json(Json::Object(fields), schema) => {
                Box::new(fields.iter().map(move |(name, json)| {
                    let value = match two {
                        true => Val::of(json, schema.and_then(|s| s.field(name))),
                        false => Val::Null,
                    };
                    (Val::from(name.as_str()), value)
                }))
            }
            _ => return None,
        })
    }

    /// Whether it may have fields.
    pub(super) fn has_fields(&self) -> bool {
        matches!(self, Val::Map(_) | Val::Json(Json::Object(_), _))
    }

    /// Its entries, if it is a map.
    pub(super) fn entries(&self) -> Option<Vec<(Val<'v>, Val<'v>)>> {
        match self {
            Val::Map(map) => Some(map.to_vec()),
            Val::Json(Json::Object(fields), schema) => {
                let entries = fields.iter().map(|(name, json)| {
                    let field = schema.and_then(|s| s.field(name));
                    (Val::from(name.as_str()), Val::of(json, field))
                });
                Some(entries.collect())
            }
            _ => None,
        }
    }

    /// How many elements, entries, characters or bytes it has.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Val::String(text) => Some(text.chars().count()),
            Val::Bytes(bytes) => Some(bytes.len()),
            Val::List(list) => Some(list.len()),
            Val::Merged(list) => Some(list.elements.len()),
            Val::Map(map) => Some(map.len()),
            Val::Json(Json::Array(list), _) => Some(list.len()),
            Val::Json(Json::Object(fields), _) => Some(fields.len()),
            _ => None,
        }
    }

    /// A field or entry by its name, as it is written in an expression.
    pub(super) fn field(&self, name: &str) -> Option<Val<'v>> {
        self.entry(name).or_else(|| match self {
            Val::Json(..) => self.entry(&unescape(name)?),
            _ => None,
        })
    }

    /// Whether there is such a field or entry.
    pub(super) fn has_field(&self, name: &str) -> bool {
        match self {
            Val::Json(Json::Object(fields), _) => {
                let is_there =
                    |name: &str| fields.get(name).is_some_and(|json| self.counts(name, json));
                is_there(name) || unescape(name).is_some_and(|name| is_there(&name))
            }
            _ => self.field(name).is_some(),
        }
    }

    /// Whether a field is there: one that is null is not, other than an entry of a map.
    fn counts(&self, name: &str, json: &Json) -> bool {
        match self {
            Val::Json(_, Some(schema)) => !json.is_null() || !schema.properties.contains_key(name),
            _ => true,
        }
    }

    /// A field or entry by its own name.
    pub(super) fn entry(&self, name: &str) -> Option<Val<'v>> {
        match self {
            Val::Json(Json::Object(fields), schema) => {
                let json = fields.get(name).filter(|json| self.counts(name, json))?;
                Some(Val::of(json, schema.and_then(|s| s.field(name))))
            }
            Val::Map(map) => {
                let entry = map
                    .iter()
                    .find(|(key, _)| matches!(key, Val::String(k) if **k == *name));
                entry.map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// Whether both are the same value. Numbers are equal across their types.
    pub(super) fn equals(&self, other: &Val<'v>) -> bool {
        if let Some(list) = Merged::of(self) {
            return other.elements().is_some_and(|other| list.equals(&other));
        }
        match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::String(a), Val::String(b)) => a == b,
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Url(a), Val::Url(b)) => a == b,
            (Val::Ip(a), Val::Ip(b)) => a == b,
            (Val::Cidr(a, n), Val::Cidr(b, m)) => (a, n) == (b, m),
            (Val::Format(a), Val::Format(b)) => a == b,
            (Val::Semver(a), Val::Semver(b)) => a.order(b).is_eq(),
            (Val::Optional(a), Val::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Val::Json(a, s), Val::Json(b, t))
                if s.map(std::ptr::from_ref) == t.map(std::ptr::from_ref)
                    && s.is_none_or(|schema| !schema.merges) =>
            {
                a == b
            }
            _ => {
                if let Some(order) = self.compare(other) {
                    return order.is_eq();
                }
                if let (Some(a), Some(b)) = (self.elements(), other.elements()) {
                    return a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b));
                }
                if let (Some(a), Some(b)) = (self.entries(), other.entries()) {
                    return a.len() == b.len()
                        && a.iter().all(|(key, value)| {
                            b.iter().any(|(k, v)| key.equals(k) && value.equals(v))
                        });
                }
                false
            }
        }
    }

    /// Which is the greater, if they can be compared.
    pub(super) fn compare(&self, other: &Val<'v>) -> Option<Ordering> {
        Some(match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => a.cmp(b),
            (Val::Int(a), Val::Int(b)) => a.cmp(b),
            (Val::Uint(a), Val::Uint(b)) => a.cmp(b),
            (Val::Int(a), Val::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Val::Uint(a), Val::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (
                Val::Int(_) | Val::Uint(_) | Val::Double(_),
                Val::Int(_) | Val::Uint(_) | Val::Double(_),
            ) => {
                return self.number()?.partial_cmp(&other.number()?);
            }
            (Val::String(a), Val::String(b)) => a.cmp(b),
            (Val::Bytes(a), Val::Bytes(b)) => a.cmp(b),
            (Val::Timestamp(a, _), Val::Timestamp(b, _)) => a.cmp(b),
            (Val::Duration(a), Val::Duration(b)) => a.cmp(b),
            (Val::Quantity(a), Val::Quantity(b)) => a.cmp(b),
            _ => return None,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "as CEL compares numbers")]
    fn number(&self) -> Option<f64> {
        match self {
            Val::Int(n) => Some(*n as f64),
            Val::Uint(n) => Some(*n as f64),
            Val::Double(n) => Some(*n),
            _ => None,
        }
    }
}

/// A name as it is in the data, of how it must be written where it is no identifier, or one of
/// CEL's own words.
pub(super) fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    let plain = name
        .replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace("__underscores__", "__");
    let word = plain
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"))
        .map(str::to_owned);
    Some(word.unwrap_or(plain))
}
