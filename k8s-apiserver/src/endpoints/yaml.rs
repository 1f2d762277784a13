//! YAML as upstream reads it: the first document alone, and of keys that are there twice the last. Whole numbers that
//! begin with a zero are octal, and keys that are no texts are spelled out.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Spanned, options::DuplicateKeyPolicy};

/// How much references may add.
const MAX_UNFOLDED: usize = 50_000;

/// What is in a document.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// The keys that are there twice, as upstream tells them: `line 2: key "a" already set in map`.
    pub(crate) repeated: Vec<String>,
}

/// Reads YAML; or says in one line why it cannot be read.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, String> {
    let mut text = std::str::from_utf8(bytes)
        .map_err(|_| "yaml: invalid UTF-8".to_owned())?
        .as_bytes();
    // A few lines of references to references can unfold to millions of values.
    let options = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_UNFOLDED },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    let mut documents = serde_saphyr::read_with_options::<_, Document>(&mut text, options);
    match documents.next() {
        None => Ok(Document::default()),
        Some(document) => document.map_err(|error| told(&error)),
    }
}

/// An error in upstream's words, as far as the parsers have the same.
fn told(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    let text = match text.strip_prefix("while ") {
        Some(rest) => rest.split_once(", ").map_or(text, |(_, problem)| problem),
        None if text.starts_with("unexpected character: ") => {
            "found character that cannot start any token"
        }
        None => text,
    };
    // Upstream's scanner counts lines from one, its parser from nought, and neither tells its first.
    let line = error.location().map_or(0, |location| location.line());
    let line = match text.starts_with("did not find expected ") {
        true => line.saturating_sub(1),
        false if line == 1 => 0,
        false => line,
    };
    match line {
        0 => format!("yaml: {text}"),
        line => format!("yaml: line {line}: {text}"),
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Document {
            value,
            repeated: Vec::new(),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Value::from(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Document, E> {
        let number = Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("json: unsupported value"))?;
        Ok(Value::from(number).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Value::from(value).into())
    }

    fn visit_string<E>(self, value: String) -> Result<Document, E> {
        Ok(Value::from(value).into())
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_none<E>(self) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        Document::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
        let (mut out, mut repeated) = (Vec::new(), Vec::new());
        while let Some(mut item) = items.next_element::<Document>()? {
            repeated.append(&mut item.repeated);
            out.push(item.value);
        }
        Ok(Document {
            value: out.into(),
            repeated,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Document, A::Error> {
        let (mut fields, mut repeated) = (Map::new(), Vec::new());
        // Values tell no places: that would take a good deal of stack for each level.
        while let Some(entry) = entries.next_key::<Spanned<Key>>()? {
            let (line, key) = (entry.referenced.line(), entry.value);
            let mut inner: Document = entries.next_value()?;
            repeated.append(&mut inner.repeated);
            if fields.insert(key.text, inner.value).is_some() {
                let key = key.shown;
                repeated.push(format!("line {line}: key {key} already set in map"));
            }
        }
        Ok(Document {
            value: fields.into(),
            repeated,
        })
    }
}

/// A key, as a field's name and as Go shows it.
struct Key {
    text: String,
    shown: String,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Document::deserialize(deserializer)?.value;
        match key {
            Value::String(text) => Ok(Key {
                shown: format!("{text:?}"),
                text,
            }),
            Value::Bool(_) | Value::Number(_) => Ok(Key {
                shown: key.to_string(),
                text: key.to_string(),
            }),
            Value::Null => Err(de::Error::custom("Unsupported map key of type: %!s(<nil>)")),
            Value::Array(_) => Err(de::Error::custom("invalid map key: []interface {}")),
            Value::Object(_) => Err(de::Error::custom(
                "invalid map key: map[string]interface {}",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_as_upstream_reads_them() {
        for (text, value) in [
            ("a: b", json!({"a": "b"})),
            ("", Value::Null),
            ("a: b\n---\nc: d", json!({"a": "b"})),
            ("a: b\n...\nc: d", json!({"a": "b"})),
            ("a: 010", json!({"a": 8})),
            (
                "a: 0x1F\nb: 1e3\nc: ~\nd: on",
                json!({"a": 31, "b": 1000.0, "c": null, "d": true}),
            ),
            (
                "yes: a\n'no': b\n1: c\n",
                json!({"true": "a", "no": "b", "1": "c"}),
            ),
            (
                "a: &x {b: c}\nd: {<<: *x, e: f}",
                json!({"a": {"b": "c"}, "d": {"b": "c", "e": "f"}}),
            ),
        ] {
            let document = read(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(document.value, value, "{text}");
            assert!(document.repeated.is_empty(), "{text}");
        }
    }

    #[test]
    fn keys_that_are_there_twice_are_told_with_their_lines() {
        let text = "metadata: {name: x}\ndata:\n  a: x\n  a: y\n  b: z\n  b: z\n  a: q\n";
        let document = read(text.as_bytes()).unwrap();
        assert_eq!(document.value["data"], json!({"a": "q", "b": "z"}));
        assert_eq!(
            document.repeated,
            [
                "line 4: key \"a\" already set in map",
                "line 6: key \"b\" already set in map",
                "line 7: key \"a\" already set in map"
            ]
        );
    }

    #[test]
    fn faults_are_told_in_upstreams_words() {
        for (text, why) in [
            (
                "a: b: c",
                "yaml: mapping values are not allowed in this context",
            ),
            (
                "a: b\nc: d: e\n",
                "yaml: line 2: mapping values are not allowed in this context",
            ),
            (
                "a:\n  - b\n c: d",
                "yaml: line 2: did not find expected key",
            ),
            ("a: @x", "yaml: found character that cannot start any token"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), why, "{text}");
        }
    }
}
