//! Keys that an object has twice.

use std::{borrow::Cow, collections::HashSet};

use memchr::memchr2;

/// How many keys are compared one by one before a set takes over.
const LINEAR: usize = 32;
/// How many paths are told; as many as upstream's decoder tells.
pub(super) const TOLD: usize = 100;
/// How many bytes of paths are spelled out for that. A key can be a million bytes long, and stand above a hundred thousand
/// others.
pub(crate) const SPELLED: usize = 4 << 20;

/// The paths of the keys that appear more than once in their object, each once, in document order:
/// `spec.containers[0].image`. The first hundred are told.
///
/// The bytes must be JSON; what is found in others means nothing. Takes a few microseconds for a
/// Pod, and time in proportion to the length for anything.
pub fn duplicate_fields(json: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut keys: Vec<Cow<'_, [u8]>> = Vec::with_capacity(32);
    let mut open: Vec<Frame<'_>> = Vec::with_capacity(16);
    let (mut position, mut room) = (0, SPELLED);
    while let Some(byte) = json.get(position) {
        position += 1;
        match byte {
            b'{' => open.push(Frame {
                first_key: keys.len(),
                wants_key: true,
                ..Frame::default()
            }),
            b'[' => open.push(Frame {
                is_list: true,
                ..Frame::default()
            }),
            b'}' | b']' => {
                if let Some(frame) = open.pop()
                    && !frame.is_list
                {
                    keys.truncate(frame.first_key);
                }
            }
            b',' => {
                if let Some(frame) = open.last_mut() {
                    frame.wants_key = !frame.is_list;
                    frame.index += 1;
                }
            }
            b'"' => {
                let start = position;
                let mut escaped = false;
                while let Some(rest) = json.get(position..) {
                    let Some(stop) = memchr2(b'"', b'\\', rest) else {
                        position = json.len();
                        break;
                    };
                    position += stop;
                    if rest[stop] == b'"' {
                        break;
                    }
                    escaped = true;
                    position += 2;
                }
                let text = json.get(start..position).unwrap_or_default();
                position += 1;
                let Some(frame) = open.last_mut().filter(|frame| frame.wants_key) else {
                    continue;
                };
                frame.wants_key = false;
                let key = if escaped {
                    unescape(text)
                } else {
                    Cow::Borrowed(text)
                };
                let known = frame.contains(&keys[frame.first_key..], &key);
                keys.push(key);
                if known {
                    let path = path(&open, &keys);
                    room = room.saturating_sub(path.len());
                    if !out.contains(&path) {
                        out.push(path);
                    }
                    if out.len() >= TOLD || room == 0 {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    out
}

#[derive(Default)]
struct Frame<'a> {
    is_list: bool,
    wants_key: bool,
    index: usize,
    first_key: usize,
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

impl<'a> Frame<'a> {
    fn contains(&mut self, keys: &[Cow<'a, [u8]>], key: &[u8]) -> bool {
        if keys.len() < LINEAR {
            return keys.iter().any(|known| **known == *key);
        }
        let many = self
            .many
            .get_or_insert_with(|| keys.iter().cloned().collect());
        !many.insert(Cow::Owned(key.to_vec()))
    }
}

fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(text);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(text),
    }
}

fn path(open: &[Frame<'_>], keys: &[Cow<'_, [u8]>]) -> String {
    let mut out = String::new();
    for (i, frame) in open.iter().enumerate() {
        if frame.is_list {
            out.push_str(&format!("[{}]", frame.index));
            continue;
        }
        // The key at which an object stands is the last before those of the objects inside it.
        let inner = open[i + 1..].iter().find(|frame| !frame.is_list);
        let last = inner.map_or(keys.len(), |frame| frame.first_key);
        let key = last.checked_sub(1).and_then(|last| keys.get(last));
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(&String::from_utf8_lossy(key.map_or(&[][..], |key| key)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duplicate_has_its_path_once() {
        let json = br#"{"a": 1, "b": {"c": [0, {"d": "x\"", "e": {"f": {}}, "d": 2, "d": 3}], "c": 1},
            "g": ["a", "a", {"a": "a"}], "\u0061": 2, "h": {"a": {"b": 1}, "c": {"b": 1, "b": 2}}}"#;
        assert_eq!(duplicate_fields(json), ["b.c[1].d", "b.c", "a", "h.c.b"]);
        assert!(duplicate_fields(br#"{"a": {"a": {"a": [{"a": 1}, {"a": 1}]}}}"#).is_empty());
    }

    #[test]
    fn many_keys_take_a_set() {
        let mut json = String::from("{");
        for i in 0..1000 {
            json.push_str(&format!("\"k{i}\": {{\"x\": 1}}, "));
        }
        json.push_str("\"k500\": 1, \"k3\": 2}");
        assert_eq!(duplicate_fields(json.as_bytes()), ["k500", "k3"]);
    }

    #[test]
    fn no_more_is_told_than_anybody_reads() {
        let many: Vec<String> = (0..1000)
            .map(|i| format!("\"k{i}\":0,\"k{i}\":0"))
            .collect();
        let inner = format!("{{{}}}", many.join(","));
        assert_eq!(duplicate_fields(inner.as_bytes()).len(), TOLD);
        // What stands above them may be long.
        let long = "x".repeat(1 << 20);
        let told = duplicate_fields(format!("{{\"{long}\":{inner}}}").as_bytes());
        assert!((1..TOLD).contains(&told.len()));
        assert!(told.iter().map(String::len).sum::<usize>() <= SPELLED + 2 * long.len());
    }

    #[test]
    fn bytes_that_are_not_json_do_no_harm() {
        for text in ["", "{", "\"", "\"\\", "}]}", "{\"a\\", ",,,", "[\"a\", {]}"] {
            let _ = duplicate_fields(text.as_bytes());
        }
    }
}
