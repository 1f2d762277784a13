//! YAML as upstream reads it: the first document alone, and of keys that are there twice the last. Whole numbers that
//! begin with a zero are octal, and keys that are no texts are spelled out.

mod encoding;
mod faults;

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
    /// In which line it begins, where that is known.
    line: Option<u64>,
}

/// Reads YAML; or says in one line why it cannot be read.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, String> {
    let text = encoding::text(bytes).map_err(|why| format!("yaml: {why}"))?;
    // A tab begins nothing, not even an indentation.
    if text.trim_start_matches([' ', '\n', '\r']).starts_with('\t') {
        return Err("yaml: found character that cannot start any token".to_owned());
    }
    // A few lines of references to references can unfold to millions of values.
    let options = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_UNFOLDED },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    let mut rest = text.as_bytes();
    let mut documents = serde_saphyr::read_with_options::<_, Document>(&mut rest, options);
    match documents.next() {
        None => Ok(Document::default()),
        Some(document) => document.map_err(|error| faults::told(&error, &text)),
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
            ..Document::default()
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
        let number = number.ok_or_else(|| E::custom(faults::not_finite(value)))?;
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
        let (mut out, mut repeated, mut line) = (Vec::new(), Vec::new(), None);
        while let Some(mut item) = items.next_element::<Document>()? {
            if out.is_empty() {
                line = item.line;
            }
            repeated.append(&mut item.repeated);
            out.push(item.value);
        }
        Ok(Document {
            value: out.into(),
            repeated,
            line,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Document, A::Error> {
        let (mut fields, mut repeated, mut first) = (Map::new(), Vec::new(), None);
        // Values tell no places: that would take a good deal of stack for each level.
        while let Some(entry) = entries.next_key::<Spanned<Key>>()? {
            let (line, key) = (entry.referenced.line(), entry.value);
            first.get_or_insert(line);
            let mut inner: Document = entries.next_value()?;
            let Some(text) = key.text else {
                return Err(de::Error::custom(faults::no_key(&inner.value)));
            };
            repeated.append(&mut inner.repeated);
            if fields.insert(text, inner.value).is_some() {
                let (line, key) = (inner.line.unwrap_or(line), key.shown);
                repeated.push(format!("line {line}: key {key} already set in map"));
            }
        }
        Ok(Document {
            value: fields.into(),
            repeated,
            line: first,
        })
    }
}

/// A key, as a field's name, if it can be one, and as Go shows it.
struct Key {
    text: Option<String>,
    shown: String,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Document::deserialize(deserializer)?.value;
        match key {
            Value::String(text) => Ok(Key {
                shown: format!("{text:?}"),
                text: Some(text),
            }),
            Value::Bool(_) | Value::Number(_) => Ok(Key {
                shown: key.to_string(),
                text: Some(key.to_string()),
            }),
            Value::Null => Ok(Key {
                shown: String::new(),
                text: None,
            }),
            Value::Array(_) | Value::Object(_) => {
                Err(de::Error::custom(faults::composite_key(&key)))
            }
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
        // It is the value's line that counts.
        let text = "a:\n  b: c\na:\n  b: d\n";
        let told = read(text.as_bytes()).unwrap().repeated;
        assert_eq!(told, ["line 4: key \"a\" already set in map"]);
    }
}
