//! How an object lies in the store: its JSON, with a gap where the resource version belongs.
//!
//! ```text
//! magic  version  managed from, to  gap (u32 each, little endian)  JSON without resource version
//! 'K'    2        │           │     │      {"apiVersion":…,"managedFields":│[…]│,…"resourceVersion":"│",…}
//!                 └───────────┴─────┴─ counted from the first byte of the JSON
//! ```
//!
//! Version 3 has a mark (u64, little endian) after the gap. It says by which schema a custom resource
//! was written: as long as that is the schema, its bytes are served as they are.
//!
//! The store gives a value its revision only when it commits, so the revision cannot be in the
//! value. A reader puts it in without parsing anything: bytes up to the gap, digits, the rest.
//! Managed fields are as large as the rest, and most who read an object to change it only hand them
//! on: where they are is known too, so that the rest can be decoded without them.

use std::borrow::Cow;

use bytes::Bytes;
use k8s_model::Object;

const MAGIC: u8 = b'K';
const VERSION: u8 = 2;
const HEADER: usize = 14;
/// With a mark.
const MARKED: u8 = 3;
const MARKED_HEADER: usize = HEADER + 8;
/// What is before the managed fields, and goes with them.
const MANAGED: &[u8] = b"\"managedFields\":";

/// A value that no version of this server wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored value is not an object of this server: {0}")]
pub(crate) struct BadValue(pub(crate) &'static str);

/// An entry of the store that cannot be read: its key, and why, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "StorageError: corrupt object, Code: 7, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision={revision}: {why}"
)]
pub(crate) struct Corrupt {
    key: Box<str>,
    revision: u64,
    why: BadValue,
}

impl Corrupt {
    pub(crate) fn new(key: &[u8], revision: u64, why: BadValue) -> Self {
        Corrupt {
            key: String::from_utf8_lossy(key).into(),
            revision,
            why,
        }
    }
}

/// Encodes an object for the store, with these managed fields: JSON of a list, or nothing. Those in
/// the object itself do not count, and are gone after.
pub(crate) fn encode(object: &mut dyn Object, managed: &[u8]) -> Result<Bytes, BadValue> {
    encode_with(object, managed, None)
}

/// The same, with a mark.
pub(crate) fn encode_marked(
    object: &mut dyn Object,
    managed: &[u8],
    mark: u64,
) -> Result<Bytes, BadValue> {
    encode_with(object, managed, Some(mark))
}

fn encode_with(
    object: &mut dyn Object,
    managed: &[u8],
    mark: Option<u64>,
) -> Result<Bytes, BadValue> {
    let meta = object.metadata_mut();
    meta.resource_version = Some(String::new());
    // An empty list keeps the place.
    meta.managed_fields = (!managed.is_empty()).then(Vec::new);
    let mut json = Vec::with_capacity(4096);
    object.write_json(&mut json);
    object.metadata_mut().managed_fields = None;
    let places = find_places(&json).ok_or(BadValue("no place for the resource version"))?;
    let (from, rest, gap) = match places.managed {
        Some(from) if !managed.is_empty() => (from, from + 2, places.version + managed.len() - 2),
        _ => (0, 0, places.version),
    };
    let to = if rest == 0 { 0 } else { from + managed.len() };
    let header = if mark.is_some() {
        MARKED_HEADER
    } else {
        HEADER
    };
    let mut out = Vec::with_capacity(header + json.len() + (to - from) - (rest - from));
    out.extend_from_slice(&[MAGIC, if mark.is_some() { MARKED } else { VERSION }]);
    for offset in [from, to, gap] {
        let offset = u32::try_from(offset).map_err(|_| BadValue("too long"))?;
        out.extend_from_slice(&offset.to_le_bytes());
    }
    if let Some(mark) = mark {
        out.extend_from_slice(&mark.to_le_bytes());
    }
    out.extend_from_slice(&json[..from]);
    if rest != 0 {
        out.extend_from_slice(managed);
    }
    out.extend_from_slice(&json[rest..]);
    out.shrink_to_fit();
    Ok(Bytes::from(out))
}

/// A stored value, taken apart without a copy.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    json: Bytes,
    gap: u32,
    /// Where the managed fields are; empty if there are none.
    managed: (u32, u32),
    mark: u64,
}

impl Stored {
    /// The value of an entry.
    pub(crate) fn of(entry: &k8s_store::Entry) -> Result<Self, Corrupt> {
        Stored::parse(&entry.value).map_err(|why| Corrupt::new(&entry.key, entry.modified.0, why))
    }

    pub(crate) fn parse(value: &Bytes) -> Result<Self, BadValue> {
        let length = match value.get(1) {
            Some(&MARKED) => MARKED_HEADER,
            _ => HEADER,
        };
        let (header, json) = match value.as_ref().split_at_checked(length) {
            Some((header @ [MAGIC, VERSION | MARKED, ..], json)) => (header, json),
            _ if value.first() == Some(&MAGIC) => {
                return Err(BadValue("written by another version"));
            }
            _ => return Err(BadValue("no header")),
        };
        let offset = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let (from, to, gap) = (offset(2), offset(6), offset(10));
        if gap == 0 || gap as usize >= json.len() || from > to || to as usize >= json.len() {
            return Err(BadValue("an offset lies outside"));
        }
        if to > 0 && !json[..from as usize].ends_with(MANAGED) {
            return Err(BadValue("no managed fields where they should be"));
        }
        Ok(Stored {
            json: value.slice(length..),
            gap,
            managed: (from, to),
            mark: (header.get(HEADER..).and_then(|mark| mark.first_chunk()))
                .map_or(0, |mark| u64::from_le_bytes(*mark)),
        })
    }

    /// Its mark, or 0.
    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }

    /// Its `apiVersion`: what every object begins with.
    pub(crate) fn api_version(&self) -> &[u8] {
        let rest = self.json.strip_prefix(b"{\"apiVersion\":\"");
        let rest = rest.unwrap_or_default();
        let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        &rest[..end]
    }

    /// The managed fields: JSON of a list, or nothing.
    pub(crate) fn managed(&self) -> &[u8] {
        let (from, to) = self.managed;
        &self.json[from as usize..to as usize]
    }

    /// The JSON without managed fields, with an empty resource version.
    pub(crate) fn bare(&self) -> Cow<'_, [u8]> {
        let [head, tail] = self.bare_parts();
        if tail.is_empty() {
            Cow::Borrowed(head)
        } else {
            Cow::Owned([head, tail].concat())
        }
    }

    /// What is before the managed fields and what is after them.
    pub(crate) fn bare_parts(&self) -> [&[u8]; 2] {
        let (from, to) = (self.managed.0 as usize, self.managed.1 as usize);
        if to == 0 {
            return [&self.json, &[]];
        }
        let head = &self.json[..from - MANAGED.len()];
        let tail = &self.json[to..];
        // With one of the commas around them.
        match (head.strip_suffix(b","), tail.strip_prefix(b",")) {
            (_, Some(tail)) => [head, tail],
            (Some(head), None) => [head, tail],
            (None, None) => [head, tail],
        }
    }

    /// The JSON with an empty resource version.
    pub(crate) fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON with its resource version, copied.
    pub(crate) fn with_revision(&self, revision: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.json.len() + 20);
        self.write(0, revision, &mut out);
        Bytes::from(out)
    }

    /// Appends the JSON with its resource version, from an offset on.
    pub(crate) fn write(&self, from: usize, revision: u64, out: &mut Vec<u8>) {
        let gap = self.gap as usize;
        out.extend_from_slice(&self.json[from..gap]);
        out.extend_from_slice(itoa::Buffer::new().format(revision).as_bytes());
        out.extend_from_slice(&self.json[gap..]);
    }
}

/// Offsets in the JSON of an object.
struct Places {
    /// The value of `.metadata.managedFields`, if it is there.
    managed: Option<usize>,
    /// Just inside the quotes of `.metadata.resourceVersion`, which must be empty.
    version: usize,
}

fn find_places(json: &[u8]) -> Option<Places> {
    let mut scan = Scan { json, at: 0 };
    let metadata = scan.member(&[b"metadata"])?.1;
    let mut scan = Scan { json, at: metadata };
    let mut places = Places {
        managed: None,
        version: 0,
    };
    let (mut which, mut at) = scan.member(&[b"managedFields", b"resourceVersion"])?;
    if which == 0 {
        places.managed = Some(at);
        scan.pass(at)?;
        (which, at) = scan.next_member(&[b"managedFields", b"resourceVersion"])?;
    }
    places.version = at + 1;
    (which == 1 && json[at..].starts_with(b"\"\"")).then_some(places)
}

/// Walks over JSON that a serializer wrote: well-formed, and without white space.
struct Scan<'j> {
    json: &'j [u8],
    at: usize,
}

impl Scan<'_> {
    /// The first member with one of the names of the object at the cursor: which name, and the
    /// offset of the value.
    fn member(&mut self, names: &[&[u8]]) -> Option<(usize, usize)> {
        if *self.json.get(self.at)? != b'{' {
            return None;
        }
        self.at += 1;
        self.next_member(names)
    }

    /// As [`Scan::member`], from the cursor on.
    fn next_member(&mut self, names: &[&[u8]]) -> Option<(usize, usize)> {
        while *self.json.get(self.at)? == b'"' {
            let start = self.at + 1;
            self.string()?;
            let name = &self.json[start..self.at - 1];
            let found = names.iter().position(|n| *n == name);
            self.at += 1; // the colon
            if let Some(which) = found {
                return Some((which, self.at));
            }
            self.pass(self.at)?;
        }
        None
    }

    /// Past a value and the comma after it.
    fn pass(&mut self, value: usize) -> Option<()> {
        self.at = value;
        self.value()?;
        self.at += 1;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            if self.json[self.at] == b'"' {
                self.at += 1;
                return Some(());
            }
            self.at += 2;
        }
    }

    fn value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match *self.json.get(self.at)? {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    if depth <= 1 {
                        if depth == 1 {
                            self.at += 1;
                        }
                        return Some(());
                    }
                    depth -= 1;
                }
                b',' if depth == 0 => return Some(()),
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn config_map() -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some("x".into());
        // What looks like the gap, and is not.
        object.metadata.annotations = Some(BTreeMap::from([
            ("resourceVersion".into(), String::new()),
            (
                "json".into(),
                r#"{"metadata":{"resourceVersion":""}}\"#.into(),
            ),
        ]));
        object.data = Some(BTreeMap::from([("metadata".into(), "}{][\"".into())]));
        object
    }

    #[test]
    fn the_revision_goes_where_it_belongs() {
        let mut object = config_map();
        let value = encode(&mut object, b"").unwrap();
        let stored = Stored::parse(&value).unwrap();
        let back: ConfigMap = serde_json::from_slice(&stored.with_revision(4711)).unwrap();
        object.metadata.resource_version = Some("4711".into());
        assert_eq!(back, object);
        assert!(stored.managed().is_empty());
        assert_eq!(*stored.bare(), **stored.json());
    }

    #[test]
    fn managed_fields_are_put_in_and_left_out() {
        let managed = br#"[{"manager":"resourceVersion\\"}]"#;
        let mut object = config_map();
        let without = encode(&mut object, b"").unwrap();
        let without = Stored::parse(&without).unwrap();
        let value = encode(&mut object, managed).unwrap();
        let stored = Stored::parse(&value).unwrap();
        assert_eq!(stored.managed(), managed);
        assert_eq!(*stored.bare(), **without.json());
        let back: ConfigMap = serde_json::from_slice(&stored.with_revision(4711)).unwrap();
        assert_eq!(back.metadata.resource_version.as_deref(), Some("4711"));
        let entries = back.metadata.managed_fields.unwrap();
        assert_eq!(entries[0].manager.as_deref(), Some("resourceVersion\\"));
        assert_eq!(object.metadata.managed_fields, None);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"{}",
            b"K",
            b"K\x01\0\0\0\0{}",
            b"K\x02\0\0\0\0\0\0\0\0\xff\0\0\0{}",
            b"K\x02\x01\0\0\0\x01\0\0\0\x01\0\0\0{}",
        ] {
            assert!(Stored::parse(&Bytes::copy_from_slice(bytes)).is_err());
        }
    }
}
