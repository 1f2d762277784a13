//! How an object lies in the store: its JSON, with a gap where the resource version belongs.
//!
//! ```text
//! magic  version  gap (u32, little endian)  JSON without resource version
//! 'K'    1        │                         {"apiVersion":…,"resourceVersion":"│",…}
//!                 └─────────── counted from the first byte of the JSON ─────────┘
//! ```
//!
//! The store gives a value its revision only when it commits, so the revision cannot be in the
//! value. A reader puts it in without parsing anything: bytes up to the gap, digits, the rest.

use bytes::Bytes;
use k8s_model::Object;

const MAGIC: u8 = b'K';
const VERSION: u8 = 1;
const HEADER: usize = 6;

/// A value that no version of this server wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored value is not an object of this server: {0}")]
pub(crate) struct BadValue(pub(crate) &'static str);

/// Encodes an object for the store.
pub(crate) fn encode(object: &mut dyn Object) -> Result<Bytes, BadValue> {
    object.metadata_mut().resource_version = Some(String::new());
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&[MAGIC, VERSION, 0, 0, 0, 0]);
    object.write_json(&mut out);
    let gap = find_gap(&out[HEADER..]).ok_or(BadValue("no place for the resource version"))?;
    let gap = u32::try_from(gap).map_err(|_| BadValue("too long"))?;
    out[2..HEADER].copy_from_slice(&gap.to_le_bytes());
    out.shrink_to_fit();
    Ok(Bytes::from(out))
}

/// A stored value, taken apart without a copy.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    json: Bytes,
    gap: u32,
}

impl Stored {
    pub(crate) fn parse(value: &Bytes) -> Result<Self, BadValue> {
        match value.as_ref() {
            [MAGIC, VERSION, a, b, c, d, json @ ..] => {
                let gap = u32::from_le_bytes([*a, *b, *c, *d]);
                if gap == 0 || gap as usize >= json.len() {
                    return Err(BadValue("the gap lies outside"));
                }
                Ok(Stored {
                    json: value.slice(HEADER..),
                    gap,
                })
            }
            [MAGIC, ..] => Err(BadValue("written by another version")),
            _ => Err(BadValue("no header")),
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

/// The offset just inside the quotes of `.metadata.resourceVersion`, which must be empty.
fn find_gap(json: &[u8]) -> Option<usize> {
    let mut scan = Scan { json, at: 0 };
    let metadata = scan.member(b"metadata")?;
    let mut scan = Scan { json, at: metadata };
    let version = scan.member(b"resourceVersion")?;
    json[version..].starts_with(b"\"\"").then_some(version + 1)
}

/// Walks over JSON that a serializer wrote: well-formed, and without white space.
struct Scan<'j> {
    json: &'j [u8],
    at: usize,
}

impl Scan<'_> {
    /// The offset of the value of a member of the object at the cursor.
    fn member(&mut self, name: &[u8]) -> Option<usize> {
        if *self.json.get(self.at)? != b'{' {
            return None;
        }
        self.at += 1;
        while *self.json.get(self.at)? == b'"' {
            let start = self.at + 1;
            self.string()?;
            let found = &self.json[start..self.at - 1] == name;
            self.at += 1; // the colon
            if found {
                return Some(self.at);
            }
            self.value()?;
            self.at += 1; // the comma
        }
        None
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
        let value = encode(&mut object).unwrap();
        let stored = Stored::parse(&value).unwrap();
        let back: ConfigMap = serde_json::from_slice(&stored.with_revision(4711)).unwrap();
        object.metadata.resource_version = Some("4711".into());
        assert_eq!(back, object);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"{}",
            b"K",
            b"K\x02\0\0\0\0{}",
            b"K\x01\xff\0\0\0{}",
        ] {
            assert!(Stored::parse(&Bytes::copy_from_slice(bytes)).is_err());
        }
    }
}
