//! JSON, read by the table: what the writer needs and nothing else, without copies where that can be.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::table::{Field, Kind, Message, Ref, Special};

/// A value of a field.
#[derive(Debug)]
pub(super) enum Node<'j> {
    Null,
    Bool(bool),
    Integer(i64),
    Double(f64),
    String(Cow<'j, str>),
    /// JSON as it was found.
    Raw(&'j str),
    /// Values by the positions of their fields, in order.
    Message(Vec<(u16, Node<'j>)>),
    List(Vec<Node<'j>>),
    Map(Vec<(Cow<'j, str>, Node<'j>)>),
}

/// Reads the JSON of a message.
pub(super) fn read(message: Ref, json: &[u8]) -> Result<Node<'_>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let node = Expected::one(Kind::Message(message)).deserialize(&mut reader)?;
    reader.end()?;
    Ok(node)
}

/// What should come.
#[derive(Clone, Copy)]
struct Expected {
    kind: Kind,
    repeated: bool,
}

impl Expected {
    fn one(kind: Kind) -> Self {
        Expected {
            kind,
            repeated: false,
        }
    }

    fn message(&self) -> Option<&'static Message> {
        match self.kind {
            Kind::Message(message) if !self.repeated => Some(message.get()),
            _ => None,
        }
    }

    /// A field of a message that JSON does not show.
    fn hidden(&self, is: impl Fn(&Field) -> bool) -> Option<(u16, Kind)> {
        let message = self.message()?;
        if !matches!(message.special, Special::Items | Special::SchemaOr) {
            return None;
        }
        let at = message.fields.iter().position(is)?;
        Some((u16::try_from(at).ok()?, message.fields[at].kind))
    }
}

impl<'j> DeserializeSeed<'j> for Expected {
    type Value = Node<'j>;

    fn deserialize<D: Deserializer<'j>>(self, reader: D) -> Result<Node<'j>, D::Error> {
        if self.message().is_some_and(|m| m.special == Special::Raw) {
            let raw = <&RawValue>::deserialize(reader)?.get();
            return Ok(if raw == "null" {
                Node::Null
            } else {
                Node::Raw(raw)
            });
        }
        reader.deserialize_any(self)
    }
}

impl<'j> Visitor<'j> for Expected {
    type Value = Node<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(_) => f.write_str("an object"),
            None if self.repeated => f.write_str("a list"),
            None => write!(f, "{:?}", self.kind),
        }
    }

    fn visit_unit<E>(self) -> Result<Node<'j>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'j>, E> {
        // A schema's place may be taken by whether anything goes.
        Ok(match self.hidden(|field| field.kind == Kind::Bool) {
            Some((at, _)) => Node::Message(vec![(at, Node::Bool(value))]),
            None => Node::Bool(value),
        })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'j>, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node<'j>, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Node::Integer(value)),
            Err(_) => Ok(Node::Double(value as f64)),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'j>, E> {
        Ok(Node::Double(value))
    }

    fn visit_borrowed_str<E>(self, value: &'j str) -> Result<Node<'j>, E> {
        Ok(Node::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'j>, E> {
        Ok(Node::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut items: A) -> Result<Node<'j>, A::Error> {
        // The list of these is a field of a message that JSON does not show.
        let hidden = self.hidden(|field| field.repeated);
        let element = match hidden {
            Some((_, kind)) => Expected::one(kind),
            None if self.repeated => Expected::one(self.kind),
            None => return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        };
        let mut list = Vec::with_capacity(items.size_hint().unwrap_or(0));
        while let Some(item) = items.next_element_seed(element)? {
            list.push(item);
        }
        Ok(match hidden {
            Some((at, _)) => Node::Message(vec![(at, Node::List(list))]),
            None => Node::List(list),
        })
    }

    fn visit_map<A: MapAccess<'j>>(self, mut members: A) -> Result<Node<'j>, A::Error> {
        let value = match self.kind {
            Kind::StringMap => Kind::String,
            Kind::BytesMap => Kind::Bytes,
            Kind::MessageMap(message) => Kind::Message(message),
            Kind::Message(_) if !self.repeated => {
                let message = self
                    .message()
                    .ok_or_else(|| A::Error::custom("no message"))?;
                if message.special == Special::SchemaOr {
                    return schema(message, members);
                }
                let mut values = Vec::new();
                while let Some(Name(name)) = members.next_key()? {
                    member(message, &name, &mut values, &mut members)?;
                }
                values.sort_by_key(|(at, _)| *at);
                return Ok(Node::Message(values));
            }
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        };
        let mut map = Vec::with_capacity(members.size_hint().unwrap_or(0));
        while let Some(Name(key)) = members.next_key()? {
            map.push((key, members.next_value_seed(Expected::one(value))?));
        }
        if !map.is_sorted_by(|(a, _), (b, _)| a < b) {
            map.sort_by(|(a, _), (b, _)| a.cmp(b));
            // The last of equal keys counts.
            map.reverse();
            map.dedup_by(|(a, _), (b, _)| a == b);
            map.reverse();
        }
        Ok(Node::Map(map))
    }
}

/// A schema where something simpler could be: anything goes that it lets through.
fn schema<'j, A: MapAccess<'j>>(message: &Message, members: A) -> Result<Node<'j>, A::Error> {
    let at = message.named(b"schema").unwrap_or(0);
    let field = &message.fields[usize::from(at)];
    let schema = Expected::one(field.kind).visit_map(members)?;
    let mut values = vec![(at, schema)];
    if let Some(allows) = message.fields.iter().position(|f| f.kind == Kind::Bool)
        && let Ok(allows) = u16::try_from(allows)
    {
        values.push((allows, Node::Bool(true)));
    }
    values.sort_by_key(|(at, _)| *at);
    Ok(Node::Message(values))
}

/// Reads one member of an object, into the message or those whose fields it shows as its own.
fn member<'j, A: MapAccess<'j>>(
    message: &'static Message,
    name: &str,
    values: &mut Vec<(u16, Node<'j>)>,
    members: &mut A,
) -> Result<(), A::Error> {
    if let Some(at) = message.named(name.as_bytes()) {
        let field = &message.fields[usize::from(at)];
        let value = members.next_value_seed(Expected {
            kind: field.kind,
            repeated: field.repeated,
        })?;
        match values.iter_mut().find(|(there, _)| *there == at) {
            Some((_, there)) => *there = value,
            None => values.push((at, value)),
        }
        return Ok(());
    }
    for (at, inner) in message.inlined() {
        if !knows(inner, name) {
            continue;
        }
        let place = match values.iter().position(|(there, _)| *there == at) {
            Some(place) => place,
            None => {
                values.push((at, Node::Message(Vec::new())));
                values.len() - 1
            }
        };
        if let (_, Node::Message(inner_values)) = &mut values[place] {
            member(inner, name, inner_values, members)?;
            inner_values.sort_by_key(|(at, _)| *at);
            return Ok(());
        }
    }
    members.next_value::<IgnoredAny>().map(drop)
}

fn knows(message: &'static Message, name: &str) -> bool {
    message.named(name.as_bytes()).is_some()
        || message.inlined().any(|(_, inner)| knows(inner, name))
}

/// A name, borrowed if there is no escape in it.
struct Name<'j>(Cow<'j, str>);

impl<'j> Deserialize<'j> for Name<'j> {
    fn deserialize<D: Deserializer<'j>>(reader: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'j> Visitor<'j> for Text {
            type Value = Name<'j>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'j str) -> Result<Name<'j>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'j>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        reader.deserialize_str(Text)
    }
}
