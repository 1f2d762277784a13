//! Types of expressions, and how they go together: unification, as CEL's type checker does it
//! (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#gradual-type-checking>).

use std::{borrow::Cow, cell::Cell, collections::BTreeMap, fmt, sync::Arc};

use crate::structural::Schema;

/// How many parts a type may have before nothing more is said of it.
const LARGEST: usize = 256;
/// How many steps all comparisons of types of one expression may take.
const FUEL: u32 = 4_000_000;

/// The type of an expression.
#[derive(Clone, Debug)]
pub(super) enum Type<'s> {
    /// Known when it is evaluated.
    Dyn,
    /// Something is wrong with the expression, and has been told.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// A type as a value.
    Kind,
    List(Arc<Type<'s>>),
    Map(Arc<Type<'s>>, Arc<Type<'s>>),
    Optional(Arc<Type<'s>>),
    /// Of a schema with fields.
    Object(Object<'s>),
    /// With fields of its own.
    Fields(Arc<Fields>),
    /// One of Kubernetes' own, by its name.
    Own(&'static str),
    /// Any type, but the same wherever it stands.
    Param(usize),
}

/// The fields of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'s> {
    pub(super) schema: &'s Schema,
    /// Whether it has `apiVersion`, `kind` and `metadata` whatever the schema says.
    pub(super) is_resource: bool,
}

/// The fields of a variable, and the types of their values.
#[derive(Clone, Debug)]
pub struct Fields {
    /// What the type is called.
    pub(super) name: Cow<'static, str>,
    /// Whether it may have any other field.
    pub(super) is_open: bool,
    pub(super) all: BTreeMap<String, Type<'static>>,
}

impl Fields {
    /// None yet, of a type of that name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Fields {
            name: name.into(),
            is_open: false,
            all: BTreeMap::new(),
        }
    }

    /// With a field.
    pub fn insert(&mut self, name: &str, of: ValueType) {
        self.all.insert(name.to_owned(), of.0);
    }
}

/// What is known of the values of a field: whatever it is if nothing is known.
#[derive(Clone, Debug)]
pub struct ValueType(pub(super) Type<'static>);

impl Default for ValueType {
    fn default() -> Self {
        ValueType(Type::Dyn)
    }
}

impl ValueType {
    /// As upstream keeps the type of a variable (`convertCelTypeToDeclType`): of what has fields, and of what is
    /// Kubernetes' own, nothing is known any more.
    pub(super) fn kept(ty: &Type<'_>) -> Self {
        fn kept(ty: &Type<'_>) -> Type<'static> {
            match ty {
                Type::Null => Type::Null,
                Type::Bool => Type::Bool,
                Type::Int => Type::Int,
                Type::Uint => Type::Uint,
                Type::Double => Type::Double,
                Type::String => Type::String,
                Type::Bytes => Type::Bytes,
                Type::Duration => Type::Duration,
                Type::Timestamp => Type::Timestamp,
                Type::List(of) => Type::list(kept(of)),
                Type::Map(keys, values) => Type::map(kept(keys), kept(values)),
                _ => Type::Dyn,
            }
        }
        ValueType(kept(ty))
    }
}

impl<'s> Type<'s> {
    /// The type as upstream writes that of a whole expression.
    pub(super) fn full_name(&self) -> String {
        match self {
            Type::Null => "null_type".to_owned(),
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Type::List(of) => format!("list({})", of.full_name()),
            Type::Map(keys, values) => {
                format!("map({}, {})", keys.full_name(), values.full_name())
            }
            Type::Optional(of) => format!("optional_type({})", of.full_name()),
            other => other.to_string(),
        }
    }

    pub(super) fn list(elements: Type<'s>) -> Self {
        Type::List(Arc::new(elements)).bounded()
    }

    pub(super) fn map(keys: Type<'s>, values: Type<'s>) -> Self {
        Type::Map(Arc::new(keys), Arc::new(values)).bounded()
    }

    pub(super) fn optional(value: Type<'s>) -> Self {
        Type::Optional(Arc::new(value)).bounded()
    }

    /// Itself, unless it is too large to be looked at.
    fn bounded(self) -> Self {
        let mut left = LARGEST;
        match self.fits(&mut left) {
            true => self,
            false => Type::Dyn,
        }
    }

    fn fits(&self, left: &mut usize) -> bool {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        match self {
            Type::List(of) | Type::Optional(of) => of.fits(left),
            Type::Map(keys, values) => keys.fits(left) && values.fits(left),
            _ => true,
        }
    }

    pub(super) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// Whether all values of it have one size.
    pub(super) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::Duration
            | Type::Timestamp => true,
            Type::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }

    /// Whether two types without parts are the same.
    fn is_same(&self, other: &Type<'_>) -> bool {
        match (self, other) {
            (Type::Object(one), Type::Object(other)) => std::ptr::eq(one.schema, other.schema),
            (Type::Own(one), Type::Own(other)) => one == other,
            (Type::Fields(one), Type::Fields(other)) => one.name == other.name,
            (Type::Param(one), Type::Param(other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    fn allows_null(&self) -> bool {
        matches!(
            self,
            Type::Null
                | Type::Duration
                | Type::Timestamp
                | Type::Object(_)
                | Type::Fields(_)
                | Type::Own(_)
                | Type::Optional(_)
        )
    }
}

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn | Type::Param(_) => f.write_str("dyn"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Kind => f.write_str("type"),
            Type::List(of) => write!(f, "list({of})"),
            Type::Map(keys, values) => write!(f, "map({keys}, {values})"),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Object(_) => f.write_str("object"),
            Type::Fields(fields) => f.write_str(&fields.name),
            Type::Own(name) => f.write_str(name),
        }
    }
}

/// What is known of the parameters of types.
#[derive(Debug)]
pub(super) struct Mapping<'s> {
    known: Vec<Option<Type<'s>>>,
    /// What was changed since the last comparison began, and what it was before.
    changed: Vec<(usize, Option<Type<'s>>)>,
    fuel: Cell<u32>,
}

impl<'s> Mapping<'s> {
    pub(super) fn new() -> Self {
        Mapping {
            known: Vec::new(),
            changed: Vec::new(),
            fuel: Cell::new(FUEL),
        }
    }

    /// A type that nothing is known of.
    pub(super) fn fresh(&mut self) -> Type<'s> {
        self.known.push(None);
        Type::Param(self.known.len() - 1)
    }

    /// So many of them; the first one's number.
    pub(super) fn fresh_params(&mut self, count: usize) -> usize {
        let first = self.known.len();
        self.known.resize(first + count, None);
        first
    }

    /// Whether values of one type may stand for those of the other. What that says of parameters is kept if they may.
    pub(super) fn assignable(&mut self, one: &Type<'s>, other: &Type<'s>) -> bool {
        self.all_assignable(std::iter::once((one, other)))
    }

    /// The same of several pairs, which must all do.
    pub(super) fn all_assignable<'t>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'t Type<'s>, &'t Type<'s>)>,
    ) -> bool
    where
        's: 't,
    {
        self.changed.clear();
        let all = pairs.into_iter().all(|(one, other)| self.unify(one, other));
        if !all {
            while let Some((at, before)) = self.changed.pop() {
                self.known[at] = before;
            }
        }
        all
    }

    /// A type with everything put in that is known of its parameters.
    pub(super) fn substitute(&self, ty: &Type<'s>) -> Type<'s> {
        if !self.step() {
            return Type::Dyn;
        }
        match ty {
            Type::Param(at) => match self.known.get(*at) {
                Some(Some(known)) => self.substitute(known),
                _ => Type::Param(*at),
            },
            Type::List(of) => Type::list(self.substitute(of)),
            Type::Optional(of) => Type::optional(self.substitute(of)),
            Type::Map(keys, values) => Type::map(self.substitute(keys), self.substitute(values)),
            other => other.clone(),
        }
    }

    /// False once comparing has taken long enough: then everything goes.
    fn step(&self) -> bool {
        let left = self.fuel.get();
        self.fuel.set(left.saturating_sub(1));
        left > 0
    }

    fn bind(&mut self, at: usize, ty: Type<'s>) {
        if let Some(slot) = self.known.get_mut(at) {
            self.changed.push((at, slot.replace(ty)));
        }
    }

    fn unify(&mut self, one: &Type<'s>, other: &Type<'s>) -> bool {
        if !self.step() {
            return true;
        }
        if let Type::Param(at) = other {
            match self.stands_for(one, *at) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(at) = one {
            return self.stands_for(other, *at).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, ty) | (ty, Type::Null) => ty.allows_null(),
            (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
                self.unify(one, other)
            }
            (Type::Map(keys, values), Type::Map(other_keys, other_values)) => {
                self.unify(keys, other_keys) && self.unify(values, other_values)
            }
            _ => one.is_same(other),
        }
    }

    /// Whether a parameter can stand for a type, and whether something was known of it before.
    fn stands_for(&mut self, ty: &Type<'s>, at: usize) -> (bool, bool) {
        if matches!(ty, Type::Param(same) if *same == at) {
            return (true, true);
        }
        if let Some(Some(known)) = self.known.get(at).cloned() {
            if !self.unify(ty, &known) {
                return (false, true);
            }
            let general = match less_specific(ty, &known) {
                true => ty.clone(),
                false => known,
            };
            if self.is_free_of(at, &general) {
                self.bind(at, general);
            }
            return (true, true);
        }
        if self.is_free_of(at, ty) {
            self.bind(at, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether a parameter does not occur in a type.
    fn is_free_of(&self, at: usize, ty: &Type<'s>) -> bool {
        if !self.step() {
            return false;
        }
        match ty {
            Type::Param(found) if *found == at => false,
            Type::Param(found) => match self.known.get(*found) {
                Some(Some(known)) => self.is_free_of(at, known),
                _ => true,
            },
            Type::List(of) | Type::Optional(of) => self.is_free_of(at, of),
            Type::Map(keys, values) => self.is_free_of(at, keys) && self.is_free_of(at, values),
            _ => true,
        }
    }
}

/// The more general of two types that go together.
pub(super) fn most_general<'s>(one: Type<'s>, other: Type<'s>) -> Type<'s> {
    match less_specific(&one, &other) {
        true => one,
        false => other,
    }
}

/// Whether a type says no more than another.
fn less_specific(one: &Type<'_>, other: &Type<'_>) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
            less_specific(one, other)
        }
        (Type::Map(keys, values), Type::Map(other_keys, other_values)) => {
            less_specific(keys, other_keys) && less_specific(values, other_values)
        }
        _ => one.is_same(other),
    }
}

/// Whether two types are the same in all their parts.
pub(super) fn is_exactly(one: &Type<'_>, other: &Type<'_>) -> bool {
    match (one, other) {
        (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
            is_exactly(one, other)
        }
        (Type::Map(keys, values), Type::Map(other_keys, other_values)) => {
            is_exactly(keys, other_keys) && is_exactly(values, other_values)
        }
        _ => one.is_same(other),
    }
}
