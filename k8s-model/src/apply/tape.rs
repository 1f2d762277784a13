//! [`Tape`]: JSON taken apart in one pass, without a tree and without a copy.
//!
//! Ownership is decided on the bytes that are about to be stored. A tape knows where each value
//! begins and ends, so that equal parts of two objects are told to be equal by one comparison and
//! are never looked into.

use std::borrow::Cow;

use memchr::memchr2;

use crate::pieces::{Fate, Pieces};

/// How deep values may nest; `serde_json` takes no more either.
const MAX_DEPTH: usize = 128;

/// JSON taken apart. The first node is the whole value.
#[derive(Debug)]
pub(super) struct Tape<'j> {
    json: &'j [u8],
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// What is between the quotes of its name, in an object.
    key: (u32, u32),
    start: u32,
    end: u32,
    /// The node after it and all that is in it.
    next: u32,
}

/// A value on a tape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'t> {
    tape: &'t Tape<'t>,
    node: usize,
}

impl<'j> Tape<'j> {
    /// Takes JSON apart that a serializer wrote: without white space. `None` for anything else.
    pub(super) fn new(json: &'j [u8]) -> Option<Self> {
        let mut reader = Reader {
            json,
            at: 0,
            nodes: Vec::with_capacity(json.len() / 16 + 4),
        };
        u32::try_from(json.len()).ok()?;
        reader.value((0, 0), MAX_DEPTH)?;
        (reader.at == json.len()).then_some(Tape {
            json,
            nodes: reader.nodes,
        })
    }

    /// The whole value.
    pub(super) fn root(&self) -> Item<'_> {
        Item {
            tape: self,
            node: 0,
        }
    }
}

struct Reader<'j> {
    json: &'j [u8],
    at: usize,
    nodes: Vec<Node>,
}

impl Reader<'_> {
    fn value(&mut self, key: (u32, u32), depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let node = self.nodes.len();
        self.nodes.push(Node {
            key,
            start: self.at as u32,
            end: 0,
            next: 0,
        });
        match *self.json.get(self.at)? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => self.string()?,
            _ => {
                let rest = &self.json[self.at..];
                let length = rest
                    .iter()
                    .position(|b| matches!(b, b',' | b'}' | b']'))
                    .unwrap_or(rest.len());
                if length == 0 {
                    return None;
                }
                self.at += length;
            }
        }
        let next = self.nodes.len() as u32;
        let this = &mut self.nodes[node];
        this.end = self.at as u32;
        this.next = next;
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if *self.json.get(self.at)? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            if *self.json.get(self.at)? != b'"' {
                return None;
            }
            let start = self.at + 1;
            self.string()?;
            let key = (start as u32, (self.at - 1) as u32);
            if *self.json.get(self.at)? != b':' {
                return None;
            }
            self.at += 1;
            self.value(key, depth)?;
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if *self.json.get(self.at)? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value((0, 0), depth)?;
            if self.ends(b']')? {
                return Some(());
            }
        }
    }

    /// Past the comma or the closing bracket, and whether it was the latter.
    fn ends(&mut self, close: u8) -> Option<bool> {
        let byte = *self.json.get(self.at)?;
        self.at += 1;
        match byte {
            b',' => Some(false),
            byte if byte == close => Some(true),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.json.get(self.at..)?;
            let stop = memchr2(b'"', b'\\', rest)?;
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Some(());
            }
            self.at += 1;
        }
    }
}

impl<'t> Item<'t> {
    fn node(self) -> Node {
        self.tape.nodes[self.node]
    }

    /// Its JSON.
    pub(super) fn bytes(self) -> &'t [u8] {
        let node = self.node();
        &self.tape.json[node.start as usize..node.end as usize]
    }

    /// What is between the quotes of its name: with escapes, as in JSON.
    pub(super) fn raw_key(self) -> &'t [u8] {
        let (start, end) = self.node().key;
        &self.tape.json[start as usize..end as usize]
    }

    /// Its name.
    pub(super) fn key(self) -> Cow<'t, str> {
        unescape(self.raw_key())
    }

    pub(super) fn is_object(self) -> bool {
        self.bytes()[0] == b'{'
    }

    pub(super) fn is_array(self) -> bool {
        self.bytes()[0] == b'['
    }

    pub(super) fn is_null(self) -> bool {
        self.bytes() == b"null"
    }

    /// Whether it is an object or a list without anything in it, or nothing.
    pub(super) fn is_empty(self) -> bool {
        matches!(self.bytes(), b"{}" | b"[]" | b"null")
    }

    /// Whether it is what a field of its type is before anyone sets it.
    pub(super) fn is_zero(self) -> bool {
        self.is_empty() || matches!(self.bytes(), b"\"\"" | b"0" | b"false" | b"null")
    }

    /// What is in an object or a list.
    pub(super) fn children(self) -> impl Iterator<Item = Item<'t>> {
        let tape = self.tape;
        let end = self.node().next as usize;
        let mut at = self.node + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let item = Item { tape, node: at };
            at = item.node().next as usize;
            Some(item)
        })
    }

    /// Tells it piece by piece.
    pub(super) fn tell(self, pieces: &mut dyn Pieces) {
        match self.bytes() {
            [b'"', text @ .., b'"'] => pieces.text(&unescape(text)),
            [b'{', ..] => {
                pieces.begin(false);
                for child in self.children() {
                    if pieces.member(child.raw_key()) {
                        child.tell(pieces);
                        pieces.member_ends(Fate::Stays);
                    }
                }
                pieces.end();
            }
            [b'[', ..] => {
                pieces.begin(true);
                for child in self.children() {
                    pieces.element();
                    child.tell(pieces);
                    pieces.element_ends();
                }
                pieces.end();
            }
            plain => pieces.plain(plain),
        }
    }

    /// The value of that raw name in an object.
    pub(super) fn member(self, raw_key: &[u8]) -> Option<Item<'t>> {
        self.children().find(|child| child.raw_key() == raw_key)
    }
}

/// A string of JSON without its quotes, as text.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    Cow::Owned(serde_json::from_slice(&quoted).unwrap_or_default())
}

/// Appends a string of JSON, with its quotes.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    crate::json::write_text(text, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rebuild(item: Item<'_>) -> Value {
        if item.is_object() {
            item.children()
                .map(|c| (c.key().into_owned(), rebuild(c)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        } else if item.is_array() {
            item.children().map(rebuild).collect::<Vec<_>>().into()
        } else {
            serde_json::from_slice(item.bytes()).unwrap()
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_tape_has_all_that_the_json_has(value in value()) {
            let json = value.to_string();
            let tape = Tape::new(json.as_bytes()).unwrap();
            prop_assert_eq!(rebuild(tape.root()), value);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(tape) = Tape::new(&bytes) {
                for child in tape.root().children() {
                    let _ = (child.key(), child.is_empty());
                }
            }
        }
    }

    #[test]
    fn members_are_found_by_name() {
        let json = json!({"a": {"b\"": [1, 2]}, "c": null}).to_string();
        let tape = Tape::new(json.as_bytes()).unwrap();
        let inner = tape.root().member(b"a").unwrap().member(br#"b\""#).unwrap();
        assert_eq!(inner.bytes(), b"[1,2]");
        assert_eq!(inner.key(), "b\"");
        assert!(tape.root().member(b"c").unwrap().is_null());
        assert!(tape.root().member(b"d").is_none());
    }

    #[test]
    fn what_nests_too_deep_is_no_tape() {
        let json = "[".repeat(1000) + &"]".repeat(1000);
        assert!(Tape::new(json.as_bytes()).is_none());
    }
}
