//! The messages of gnostic's `OpenAPIv2.proto`.

use serde_json::Value;

type Write = fn(&Value, &mut Vec<u8>);

pub(super) fn document(info: &Value, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(paths.len() + definitions.len() + 256);
    bytes(1, b"2.0", &mut out);
    nested(2, &mut out, |out| {
        text(1, &info["title"], out);
        text(2, &info["version"], out);
    });
    bytes(8, paths, &mut out);
    bytes(9, definitions, &mut out);
    // `security` and `security_definitions`: the token in the header, named twice.
    nested(12, &mut out, |out| {
        nested(1, out, |out| {
            bytes(1, b"BearerToken", out);
            bytes(2, b"", out);
        });
    });
    nested(13, &mut out, |out| {
        nested(1, out, |out| {
            bytes(1, b"BearerToken", out);
            nested(2, out, |out| {
                nested(2, out, |out| {
                    bytes(1, b"apiKey", out);
                    bytes(2, b"authorization", out);
                    bytes(3, b"header", out);
                    bytes(4, b"Bearer Token authentication", out);
                });
            });
        });
    });
    out
}

/// A field that holds a name (1) and a value (2).
pub(super) fn named(number: u32, name: &str, value: &Value, write: Write, out: &mut Vec<u8>) {
    nested(number, out, |out| {
        bytes(1, name.as_bytes(), out);
        nested(2, out, |out| write(value, out));
    });
}

pub(super) fn path_item(item: &Value, out: &mut Vec<u8>) {
    for (number, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (6, "options"),
        (7, "head"),
        (8, "patch"),
    ] {
        if let Some(value) = item.get(method) {
            nested(number, out, |out| operation(value, out));
        }
    }
    for value in list(&item["parameters"]) {
        nested(9, out, |out| parameter(value, out));
    }
    extensions(10, item, out);
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    texts(1, &value["tags"], out);
    text(3, &value["description"], out);
    text(5, &value["operationId"], out);
    texts(6, &value["produces"], out);
    texts(7, &value["consumes"], out);
    for value in list(&value["parameters"]) {
        nested(8, out, |out| parameter(value, out));
    }
    nested(9, out, |out| {
        for (code, value) in value["responses"].as_object().into_iter().flatten() {
            named(1, code, value, response, out);
        }
    });
    texts(10, &value["schemes"], out);
    extensions(13, value, out);
}

fn response(value: &Value, out: &mut Vec<u8>) {
    nested(1, out, |out| {
        text(1, &value["description"], out);
        if let Some(value) = value.get("schema") {
            nested(2, out, |out| nested(1, out, |out| schema(value, out)));
        }
    });
}

fn parameter(value: &Value, out: &mut Vec<u8>) {
    nested(1, out, |out| {
        if value["in"] == "body" {
            nested(1, out, |out| {
                text(1, &value["description"], out);
                text(2, &value["name"], out);
                text(3, &value["in"], out);
                flag(4, &value["required"], out);
                nested(5, out, |out| schema(&value["schema"], out));
            });
            return;
        }
        // Parameters in the query have one field more, before their type.
        let (place, shift) = match value["in"] == "query" {
            true => (3, 1),
            false => (4, 0),
        };
        nested(2, out, |out| {
            nested(place, out, |out| {
                flag(1, &value["required"], out);
                text(2, &value["in"], out);
                text(3, &value["description"], out);
                text(4, &value["name"], out);
                text(5 + shift, &value["type"], out);
                text(6 + shift, &value["format"], out);
                flag(19 + shift, &value["uniqueItems"], out);
            });
        });
    });
}

pub(super) fn schema(value: &Value, out: &mut Vec<u8>) {
    text(1, &value["$ref"], out);
    text(2, &value["format"], out);
    text(3, &value["title"], out);
    text(4, &value["description"], out);
    any(5, value.get("default"), out);
    number(6, &value["multipleOf"], out);
    number(7, &value["maximum"], out);
    flag(8, &value["exclusiveMaximum"], out);
    number(9, &value["minimum"], out);
    flag(10, &value["exclusiveMinimum"], out);
    integer(11, &value["maxLength"], out);
    integer(12, &value["minLength"], out);
    text(13, &value["pattern"], out);
    integer(14, &value["maxItems"], out);
    integer(15, &value["minItems"], out);
    flag(16, &value["uniqueItems"], out);
    integer(17, &value["maxProperties"], out);
    integer(18, &value["minProperties"], out);
    texts(19, &value["required"], out);
    for value in list(&value["enum"]) {
        any(20, Some(value), out);
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(value)) => nested(21, out, |out| {
            varint(2 << 3, out);
            out.push(u8::from(*value));
        }),
        Some(value) => nested(21, out, |out| nested(1, out, |out| schema(value, out))),
        None => {}
    }
    if let Some(name) = value["type"].as_str() {
        nested(22, out, |out| bytes(1, name.as_bytes(), out));
    }
    if let Some(value) = value.get("items") {
        nested(23, out, |out| nested(1, out, |out| schema(value, out)));
    }
    if let Some(properties) = value["properties"].as_object() {
        nested(25, out, |out| {
            for (name, value) in properties {
                named(1, name, value, schema, out);
            }
        });
    }
    any(30, value.get("example"), out);
    extensions(31, value, out);
}

fn extensions(number: u32, value: &Value, out: &mut Vec<u8>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if name.starts_with("x-") {
            named(number, name, value, yaml, out);
        }
    }
}

fn any(number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        nested(number, out, |out| yaml(value, out));
    }
}

/// Any value, as YAML: JSON is that too.
fn yaml(value: &Value, out: &mut Vec<u8>) {
    bytes(2, value.to_string().as_bytes(), out);
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(number: u32, value: &Value, out: &mut Vec<u8>) {
    for value in list(value).iter().filter_map(Value::as_str) {
        bytes(number, value.as_bytes(), out);
    }
}

fn text(number: u32, value: &Value, out: &mut Vec<u8>) {
    if let Some(value) = value.as_str().filter(|text| !text.is_empty()) {
        bytes(number, value.as_bytes(), out);
    }
}

fn flag(number: u32, value: &Value, out: &mut Vec<u8>) {
    if value == &Value::Bool(true) {
        varint(u64::from(number) << 3, out);
        out.push(1);
    }
}

fn integer(number: u32, value: &Value, out: &mut Vec<u8>) {
    if let Some(value) = value.as_u64() {
        varint(u64::from(number) << 3, out);
        varint(value, out);
    }
}

fn number(number: u32, value: &Value, out: &mut Vec<u8>) {
    if let Some(value) = value.as_f64() {
        varint(u64::from(number) << 3 | 1, out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn nested(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(number, &inner, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
