//! [`Sink`]: where the JSON of an object goes, as text or in pieces.

use serde::{Serialize, ser::Error as _};
use serde_json::Error;

use super::table::{Field, Kind, Member, Members, Special};
use crate::{
    json::write_text,
    pieces::{Fate, Nothing, Pieces},
};

/// Where it goes.
pub(super) enum Sink<'s> {
    Json(&'s mut Vec<u8>),
    Pieces(&'s mut dyn Pieces),
}

/// Where in the text a field began, and where its value did.
#[derive(Default)]
pub(super) struct Mark {
    start: usize,
    value: usize,
}

pub(super) fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// What becomes of a field with such a value.
fn fate(field: &Field, nothing: Option<Nothing>) -> Fate {
    let Some(nothing) = nothing else {
        return Fate::Stays;
    };
    // An empty version keeps the place of one.
    if field.name != "resourceVersion" && field.unset() == Some(nothing) {
        Fate::Goes
    } else if field.always
        && !field.pointer
        && field.is_collection()
        && matches!(nothing, Nothing::List | Nothing::Object)
    {
        Fate::Null
    } else {
        Fate::Stays
    }
}

impl Sink<'_> {
    /// A number, a boolean or the like.
    pub(super) fn plain<T: Serialize>(&mut self, value: &T) -> Result<(), Error> {
        match self {
            Sink::Json(out) => serde_json::to_writer(&mut **out, value)?,
            Sink::Pieces(pieces) => {
                let mut text = [0; 64];
                let mut rest = &mut text[..];
                serde_json::to_writer(&mut rest, value)?;
                let length = 64 - rest.len();
                pieces.plain(&text[..length]);
            }
        }
        Ok(())
    }

    pub(super) fn text(&mut self, text: &str) {
        match self {
            Sink::Json(out) => write_text(text, out),
            Sink::Pieces(pieces) => pieces.text(text),
        }
    }

    pub(super) fn null(&mut self) {
        match self {
            Sink::Json(out) => out.extend_from_slice(b"null"),
            Sink::Pieces(pieces) => pieces.plain(b"null"),
        }
    }

    /// The text, for what nobody is told of in pieces.
    pub(super) fn only_text(&mut self) -> Result<&mut Vec<u8>, Error> {
        match self {
            Sink::Json(out) => Ok(out),
            Sink::Pieces(_) => Err(Error::custom("it is not told in pieces")),
        }
    }

    /// Begins a field of a message. Where, if its value is wanted.
    #[inline]
    pub(super) fn begin_member(&mut self, members: &Members, member: &Member) -> Option<Mark> {
        match self {
            Sink::Json(out) => {
                let start = out.len();
                let name = members.name(member);
                let is_first = matches!(out.last(), Some(b'{' | b'['));
                out.extend_from_slice(&name[usize::from(is_first)..]);
                let value = out.len();
                Some(Mark { start, value })
            }
            Sink::Pieces(pieces) => {
                let name = member.field.name.as_bytes();
                pieces.member(name).then(Mark::default)
            }
        }
    }

    /// Begins a field that no message has.
    pub(super) fn begin_other(&mut self, key: &str) -> bool {
        match self {
            Sink::Json(out) => {
                comma(out);
                write_text(key, out);
                out.push(b':');
                true
            }
            Sink::Pieces(pieces) => {
                let mut name = Vec::new();
                write_text(key, &mut name);
                pieces.member(inside(&name))
            }
        }
    }

    /// Ends a field of a message: takes it back or corrects it, if there is nothing in it.
    pub(super) fn end_member(&mut self, field: &Field, mark: &Mark) {
        match self {
            Sink::Json(out) => match fate(field, Nothing::of(&out[mark.value..])) {
                Fate::Stays => {}
                Fate::Goes => out.truncate(mark.start),
                Fate::Null => {
                    out.truncate(mark.value);
                    out.extend_from_slice(b"null");
                }
            },
            Sink::Pieces(pieces) => pieces.member_ends(fate(field, pieces.nothing())),
        }
    }

    /// Ends a member that is no field of a message.
    pub(super) fn end_other(&mut self) {
        if let Sink::Pieces(pieces) = self {
            pieces.member_ends(Fate::Stays);
        }
    }

    /// Those of the fields from `start` to before `end` that are always written: there is nothing in them.
    #[inline]
    pub(super) fn missing(&mut self, members: &Members, start: usize, end: usize) {
        if members.next_written(start) < end {
            self.write_missing(members, start, end);
        }
    }

    fn write_missing(&mut self, members: &Members, start: usize, end: usize) {
        for member in members.always_written(start, end) {
            if self.begin_member(members, member).is_some() {
                self.nothing(&member.field);
                self.end_other();
            }
        }
    }

    /// What is written for a field that was not set.
    fn nothing(&mut self, field: &Field) {
        let plain: &[u8] = match field.kind {
            _ if field.pointer || field.repeated => b"null",
            Kind::String => return self.text(""),
            Kind::Bool => b"false",
            Kind::Integer | Kind::Double => b"0",
            Kind::Bytes | Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_) => b"null",
            Kind::Message(message) => match message.get().special {
                Special::No => {
                    self.begin("{");
                    self.missing(message.get().members(), 0, usize::MAX);
                    return self.end("}");
                }
                Special::Duration => return self.text("0s"),
                Special::Quantity => return self.text("0"),
                Special::IntOrString => b"0",
                _ => b"null",
            },
        };
        match self {
            Sink::Json(out) => out.extend_from_slice(plain),
            Sink::Pieces(pieces) => pieces.plain(plain),
        }
    }

    pub(super) fn begin(&mut self, start: &str) {
        match self {
            Sink::Json(out) => out.extend_from_slice(start.as_bytes()),
            Sink::Pieces(pieces) => pieces.begin(start == "["),
        }
    }

    pub(super) fn end(&mut self, end: &str) {
        match self {
            Sink::Json(out) => out.extend_from_slice(end.as_bytes()),
            Sink::Pieces(pieces) => pieces.end(),
        }
    }
}

/// A text in JSON without its quotes.
pub(super) fn inside(text: &[u8]) -> &[u8] {
    match text {
        [b'"', inside @ .., b'"'] => inside,
        other => other,
    }
}
