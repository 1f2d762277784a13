//! A deserializer around another that knows where it is.
//!
//! It reports fields that nobody takes, remembers where an error came from, and brings quantities
//! and bytes into canonical form. Keys are borrowed from the input, and paths live on the stack until
//! someone asks for them, so the usual case allocates nothing.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    fmt,
};

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    Visitor,
};

use super::{
    base64,
    duplicates::{SPELLED, TOLD},
    time_text,
};
use crate::quantity;

/// Where in a document something is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// What is found on the way.
pub(super) struct State<'s> {
    unknown: RefCell<&'s mut dyn FnMut(String)>,
    /// How many fields that nobody takes are told yet, and how many bytes of their paths.
    room: Cell<(usize, usize)>,
    fault: RefCell<Option<Vec<Step>>>,
    /// The `apiVersion` and the `kind` of an object that leaves them out.
    expected: Option<(&'static str, &'static str)>,
}

impl<'s> State<'s> {
    pub(super) fn new(unknown: &'s mut dyn FnMut(String)) -> Self {
        State {
            unknown: RefCell::new(unknown),
            room: Cell::new((TOLD, SPELLED)),
            fault: RefCell::new(None),
            expected: None,
        }
    }

    /// What an empty or absent `apiVersion` and `kind` stand for.
    pub(super) fn expecting(mut self, api_version: &'static str, kind: &'static str) -> Self {
        self.expected = Some((api_version, kind));
        self
    }

    /// Where the first error came from.
    pub(super) fn into_fault(self) -> Vec<Step> {
        self.fault.into_inner().unwrap_or_default()
    }
}

/// A [`State`] without its lifetime, which would otherwise tie all paths to one.
trait Sink {
    fn unknown(&self, path: &Path<'_>);
    fn blame(&self, path: &Path<'_>);
    fn type_meta(&self, path: &Path<'_>) -> Option<&'static str>;
}

impl Sink for State<'_> {
    fn unknown(&self, path: &Path<'_>) {
        let (fields, bytes) = self.room.get();
        if fields == 0 || bytes == 0 {
            return;
        }
        let mut steps = Vec::new();
        path.steps(&mut steps);
        let text = spell(&steps);
        self.room
            .set((fields - 1, bytes.saturating_sub(text.len())));
        (self.unknown.borrow_mut())(text);
    }

    fn blame(&self, path: &Path<'_>) {
        let mut fault = self.fault.borrow_mut();
        if fault.is_none() {
            let mut steps = Vec::new();
            path.steps(&mut steps);
            *fault = Some(steps);
        }
    }

    fn type_meta(&self, path: &Path<'_>) -> Option<&'static str> {
        let (api_version, kind) = self.expected?;
        match path {
            Path::Key(Path::Root, "apiVersion") => Some(api_version),
            Path::Key(Path::Root, "kind") => Some(kind),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn steps(&self, out: &mut Vec<Step>) {
        match self {
            Path::Root => {}
            Path::Key(parent, key) => {
                parent.steps(out);
                out.push(Step::Key((*key).to_owned()));
            }
            Path::Index(parent, index) => {
                parent.steps(out);
                out.push(Step::Index(*index));
            }
        }
    }
}

/// A path as upstream spells it.
pub(super) fn spell(steps: &[Step]) -> String {
    use fmt::Write;
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => {
                out.push('.');
                out.push_str(key);
            }
            Step::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
        }
    }
    out
}

/// What `null` stands for: nothing where nothing may be, and otherwise the type's zero.
#[derive(Clone, Copy)]
enum Zero {
    Nothing,
    Text,
    Number,
    False,
    List,
    Fields,
}

/// A type with a text form of its own, which upstream reads otherwise than the type in Rust.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Any,
    Quantity,
    Time,
    MicroTime,
    Bytes,
    /// An object that has no fields.
    Fieldless,
    /// A claim in another object.
    Claim,
    /// A text that is this one whatever it says.
    Said(&'static str),
}

impl Form {
    /// Bytes have no name in the calls that decode them, as the others have: only their type tells.
    fn of_option<T>(self) -> Self {
        if std::any::type_name::<T>().ends_with("::ByteString") {
            Form::Bytes
        } else {
            self
        }
    }

    /// That of a field in an object of this form. Of a claim in another object nobody asks which version and kind it
    /// says it has.
    fn of_field(self, name: &str) -> Self {
        match (self, name) {
            (Form::Claim, "apiVersion") => Form::Said("v1"),
            (Form::Claim, "kind") => Form::Said("PersistentVolumeClaim"),
            (Form::Claim, _) => Form::Any,
            (form, _) => form,
        }
    }
}

/// Everything that travels along: the place, and what is being read.
#[derive(Clone, Copy)]
struct At<'t> {
    path: Path<'t>,
    state: &'t dyn Sink,
    form: Form,
    zero: Zero,
    /// Whether nobody is told of unknown fields.
    is_quiet: bool,
}

/// Whether upstream reads values of a type by code of the type's own. That goes past the decoder that knows of fields
/// which nobody takes.
fn is_read_apart<T>() -> bool {
    std::any::type_name::<T>().contains("::JSONSchemaPropsOr")
}

impl At<'_> {
    fn blamed<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.state.blame(&self.path);
        }
        result
    }
}

pub(super) struct Tracked<'t, D> {
    inner: D,
    at: At<'t>,
}

impl<'t, D> Tracked<'t, D> {
    pub(super) fn root(inner: D, state: &'t State<'_>) -> Self {
        Tracked {
            inner,
            at: At {
                path: Path::Root,
                state,
                form: Form::Any,
                zero: Zero::Nothing,
                is_quiet: false,
            },
        }
    }
}

macro_rules! forward {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
                let at = self.at;
                at.blamed(self.inner.$method(Watcher { visitor, at }))
            }
        )*
    };
}

macro_rules! or_zero {
    ($($method:ident: $zero:ident,)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
                let at = At { zero: Zero::$zero, ..self.at };
                at.blamed(self.inner.deserialize_any(Watcher { visitor, at }))
            }
        )*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tracked<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let at = At {
            is_quiet: self.at.is_quiet || is_read_apart::<V::Value>(),
            ..self.at
        };
        if at.form == Form::Fieldless {
            at.blamed(self.inner.deserialize_map(Fieldless(at)))?;
            let none = std::iter::empty::<(&str, &str)>();
            return visitor.visit_map(de::value::MapDeserializer::new(none));
        }
        at.blamed(self.inner.deserialize_any(Watcher { visitor, at }))
    }

    forward! {
        deserialize_i8 deserialize_i16 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char
        deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let form = self.at.form.of_option::<V::Value>();
        let at = At { form, ..self.at };
        at.blamed(self.inner.deserialize_option(Watcher { visitor, at }))
    }

    // By way of `any`, so that `null` gets as far as `visit_unit`.
    or_zero! {
        deserialize_str: Text, deserialize_i32: Number, deserialize_i64: Number, deserialize_bool: False,
        deserialize_seq: List, deserialize_map: Fields,
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        if !self.at.is_quiet {
            self.at.state.unknown(&self.at.path);
        }
        self.inner.deserialize_ignored_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let at = At {
            form: match name {
                "Quantity" => Form::Quantity,
                "Time" => Form::Time,
                "MicroTime" => Form::MicroTime,
                "CustomResourceSubresourceStatus" => Form::Fieldless,
                _ => Form::Any,
            },
            ..self.at
        };
        at.blamed(
            self.inner
                .deserialize_newtype_struct(name, Watcher { visitor, at }),
        )
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let at = self.at;
        at.blamed(
            self.inner
                .deserialize_unit_struct(name, Watcher { visitor, at }),
        )
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let at = self.at;
        at.blamed(self.inner.deserialize_tuple(len, Watcher { visitor, at }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let at = self.at;
        at.blamed(
            self.inner
                .deserialize_tuple_struct(name, len, Watcher { visitor, at }),
        )
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let is_inner = !matches!(self.at.path, Path::Root);
        let at = At {
            zero: Zero::Fields,
            form: match name {
                "PersistentVolumeClaim" if is_inner => Form::Claim,
                _ => self.at.form,
            },
            ..self.at
        };
        at.blamed(self.inner.deserialize_any(Watcher { visitor, at }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let at = self.at;
        at.blamed(
            self.inner
                .deserialize_enum(name, variants, Watcher { visitor, at }),
        )
    }
}

/// A number as a quantity. Apart, because what calls it is there once for each type that is decoded.
#[cold]
#[inline(never)]
fn canonical(value: &dyn fmt::Display) -> Result<String, quantity::ParseError> {
    quantity::canonical(&value.to_string()).map(Cow::into_owned)
}

struct Watcher<'t, V> {
    visitor: V,
    at: At<'t>,
}

impl<'de, V: Visitor<'de>> Watcher<'_, V> {
    fn quantity<E: Error>(self, text: &str) -> Result<V::Value, E> {
        let canonical = quantity::canonical(text.trim()).map_err(E::custom)?;
        self.visitor.visit_str(&canonical)
    }

    /// A text that is not just any.
    fn formed<E: Error>(self, text: &str) -> Result<V::Value, E> {
        match self.at.form {
            Form::Quantity => self.quantity(text),
            Form::Said(said) => self.visitor.visit_str(said),
            Form::Bytes => self.visitor.visit_str(&base64::canonical(text)),
            Form::MicroTime if !time_text::is_micro(text) => {
                Err(E::custom(time_text::fault(text, true)))
            }
            _ => self.visitor.visit_str(text),
        }
    }

    /// What an empty text stands for, where it is an object's type.
    fn expected(&self, value: &str) -> Option<&'static str> {
        if value.is_empty() {
            self.at.state.type_meta(&self.at.path)
        } else {
            None
        }
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty,)*) => {
        $(
            fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
                if self.at.form == Form::Quantity {
                    return match canonical(&value) {
                        Ok(canonical) => self.visitor.visit_str(&canonical),
                        Err(error) => Err(E::custom(error)),
                    };
                }
                self.visitor.$method(value)
            }
        )*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watcher<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    numbers! {
        visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128,
        visit_f32: f32, visit_f64: f64,
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    fn visit_char<E: Error>(self, value: char) -> Result<V::Value, E> {
        self.visitor.visit_char(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        if !matches!(self.at.form, Form::Any | Form::Time) {
            self.formed(value)
        } else if let Some(expected) = self.expected(value) {
            self.visitor.visit_str(expected)
        } else {
            self.visitor.visit_str(value)
        }
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        if !matches!(self.at.form, Form::Any | Form::Time) {
            self.formed(value)
        } else if let Some(expected) = self.expected(value) {
            self.visitor.visit_str(expected)
        } else {
            self.visitor.visit_borrowed_str(value)
        }
    }

    fn visit_string<E: Error>(self, value: String) -> Result<V::Value, E> {
        if self.at.form != Form::Any {
            self.formed(&value)
        } else {
            self.visitor.visit_string(value)
        }
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<V::Value, E> {
        self.visitor.visit_bytes(value)
    }

    fn visit_borrowed_bytes<E: Error>(self, value: &'de [u8]) -> Result<V::Value, E> {
        self.visitor.visit_borrowed_bytes(value)
    }

    fn visit_byte_buf<E: Error>(self, value: Vec<u8>) -> Result<V::Value, E> {
        self.visitor.visit_byte_buf(value)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Tracked { inner, at: self.at })
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        // Upstream reads `null` as nothing, in lists and maps too.
        match self.at.form {
            Form::Any | Form::Bytes | Form::Fieldless | Form::Claim => {}
            Form::Said(said) => return self.visitor.visit_str(said),
            Form::Quantity => return self.quantity("0"),
            Form::Time | Form::MicroTime => return self.visitor.visit_str(time_text::UNSET),
        }
        match self.at.zero {
            Zero::Nothing => self.visitor.visit_unit(),
            Zero::Text => self.visit_str(""),
            Zero::Number => self.visitor.visit_i64(0),
            Zero::False => self.visitor.visit_bool(false),
            Zero::List => {
                let none = std::iter::empty::<&str>();
                self.visitor
                    .visit_seq(de::value::SeqDeserializer::new(none))
            }
            Zero::Fields => {
                let none = std::iter::empty::<(&str, &str)>();
                self.visitor
                    .visit_map(de::value::MapDeserializer::new(none))
            }
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor
            .visit_newtype_struct(Tracked { inner, at: self.at })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Elements {
            inner,
            at: self.at,
            index: 0,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Entries {
            inner,
            at: self.at,
            key: Cow::Borrowed(""),
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(inner)
    }
}

struct Elements<'t, A> {
    inner: A,
    at: At<'t>,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let parent = self.at.path;
        let at = At {
            path: Path::Index(&parent, self.index),
            zero: Zero::Nothing,
            ..self.at
        };
        self.index += 1;
        self.inner.next_element_seed(Seed { seed, at })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

struct Entries<'de, 't, A> {
    inner: A,
    at: At<'t>,
    key: Cow<'de, str>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'de, '_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = self.inner.next_key_seed(KeySeed {
            seed,
            key: &mut self.key,
        });
        self.at.blamed(key)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let parent = self.at.path;
        let at = At {
            path: Path::Key(&parent, &self.key),
            zero: Zero::Nothing,
            form: self.at.form.of_field(&self.key),
            ..self.at
        };
        self.inner.next_value_seed(Seed { seed, at })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

struct Seed<'t, T> {
    seed: T,
    at: At<'t>,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.seed.deserialize(Tracked { inner, at: self.at })
    }
}

/// Reads an object that has no fields.
struct Fieldless<'t>(At<'t>);

impl<'de> Visitor<'de> for Fieldless<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = fields.next_key()? {
            fields.next_value::<de::IgnoredAny>()?;
            self.0.state.unknown(&Path::Key(&self.0.path, &key));
        }
        Ok(())
    }
}

/// Reads a key and keeps a copy, or rather the place where it stands.
struct KeySeed<'k, 'de, K> {
    seed: K,
    key: &'k mut Cow<'de, str>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, 'de, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        *self.key = Key::deserialize(deserializer)?.0;
        match &*self.key {
            Cow::Borrowed(key) => self
                .seed
                .deserialize(de::value::BorrowedStrDeserializer::new(key)),
            Cow::Owned(key) => self.seed.deserialize(de::value::StrDeserializer::new(key)),
        }
    }
}

struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
