//! JSON patches (RFC 6902).

use json_patch::{
    AddOperation, PatchErrorKind, PatchOperation, ReplaceOperation, jsonptr::PointerBuf,
};
use serde_json::{Value, json};

use super::{MAX_JSON_PATCH_OPERATIONS, PatchError};
use crate::decode::go_kind;

/// How many bytes the copies of one patch may add, as upstream has it.
const MAX_COPIED: usize = 3 << 20;

/// No document that is deeper can be read again.
const MAX_DEPTH: usize = 256;

/// As many values as the largest document has, about.
const MAX_LOOKS: usize = 1 << 20;

/// So many elements are moved in a moment.
const MAX_SHIFTS: usize = 1 << 26;

/// What upstream's decoders of JSON patches read into.
struct Decoder {
    list: &'static str,
    operation: &'static str,
    /// The struct of an operation whose texts must be texts.
    fields: Option<&'static str>,
}

/// It looks at the fields of an operation when it carries it out.
const LENIENT: Decoder = Decoder {
    list: "jsonpatch.Patch",
    operation: "jsonpatch.Operation",
    fields: None,
};

/// It looks for unknown fields, too.
const STRICT: Decoder = Decoder {
    list: "[]handlers.jsonPatchOp",
    operation: "handlers.jsonPatchOp",
    fields: Some("jsonPatchOp"),
};

/// What a strict decoder says of bytes that are not a JSON patch, other than of unknown and
/// duplicate fields; nothing if they are one.
#[must_use]
pub fn json_fault(patch: &[u8]) -> Option<String> {
    operations(patch, &STRICT).err()
}

/// Reads the operations of a patch; if they are not, what Go says.
fn operations(patch: &[u8], decoder: &Decoder) -> Result<Vec<Value>, String> {
    let operations: Option<Vec<Value>> = serde_json::from_slice(patch).map_err(|error| {
        match serde_json::from_slice::<Value>(patch) {
            Ok(value) => misfit(&value, decoder.list),
            Err(_) => crate::decode::syntax_error(patch).unwrap_or_else(|| error.to_string()),
        }
    })?;
    let operations = operations.unwrap_or_default();
    operations
        .iter()
        .try_for_each(|operation| check(operation, decoder))?;
    Ok(operations)
}

fn misfit(value: &Value, ty: &str) -> String {
    let found = go_kind(value);
    format!("json: cannot unmarshal {found} into Go value of type {ty}")
}

/// Carries out a JSON patch: all of its operations or none.
///
/// # Errors
///
/// Fails if the bytes are not a JSON patch, if it has too many operations, or if one of them does
/// not fit the document; the document is then as it was.
pub fn json(document: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations = operations(patch, &LENIENT).map_err(PatchError::Malformed)?;
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut patched = document.clone();
    let mut growth = Growth::of(&patched);
    for operation in operations {
        let operation = parse(operation, &patched)?;
        if finds_nothing(&patched, &operation) {
            continue;
        }
        let operation = adding(&patched, operation);
        growth
            .bound(&patched, &operation)
            .map_err(PatchError::Unprocessable)?;
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(&operation)).map_err(
            |error| match error.kind {
                PatchErrorKind::TestFailed => PatchError::TestFailed(error.to_string()),
                _ => PatchError::Unprocessable(error.to_string()),
            },
        )?;
    }
    *document = patched;
    Ok(())
}

/// Whether an operation is a test for `null` where an object has no such field: upstream, that holds. Clients ask so
/// whether there are finalizers yet.
fn finds_nothing(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    test.value.is_null() && test.path.resolve(document).is_err() && is_field(document, &test.path)
}

/// The operation, which adds if it is to replace a field that an object doesn't have: upstream, that is done.
fn adding(document: &Value, operation: PatchOperation) -> PatchOperation {
    match operation {
        PatchOperation::Replace(ReplaceOperation { path, value })
            if path.resolve(document).is_err() && is_field(document, &path) =>
        {
            PatchOperation::Add(AddOperation { path, value })
        }
        other => other,
    }
}

/// Whether a path leads to a field of an object that is there, though perhaps without the field.
fn is_field(document: &Value, path: &PointerBuf) -> bool {
    let parent = path
        .split_back()
        .map(|(parent, _)| parent.resolve(document));
    parent.is_some_and(|parent| parent.is_ok_and(Value::is_object))
}

/// What makes a document too large or too deep is refused: a patch of a few copies can double it with each of them.
struct Growth {
    /// How many bytes have been copied.
    copied: usize,
    /// How deep the document is, at most.
    depth: usize,
    /// How many values may still be looked at to tell how deep those are that are moved: they can be large, and moved
    /// often.
    looks: usize,
    /// How many elements of lists may still be moved to make room, or to close a gap.
    shifts: usize,
}

impl Growth {
    fn of(document: &Value) -> Self {
        Growth {
            copied: 0,
            depth: depth(document),
            looks: MAX_LOOKS,
            shifts: MAX_SHIFTS,
        }
    }

    /// Refuses an operation after which the document is too large or too deep.
    fn bound(&mut self, document: &Value, operation: &PatchOperation) -> Result<(), String> {
        let shifts = match operation {
            PatchOperation::Add(add) => shifted(document, &add.path),
            PatchOperation::Copy(copy) => shifted(document, &copy.path),
            PatchOperation::Remove(remove) => shifted(document, &remove.path),
            PatchOperation::Move(from) => {
                shifted(document, &from.from) + shifted(document, &from.path)
            }
            PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
        };
        self.shifts = (self.shifts.checked_sub(shifts))
            .ok_or("the lists are too long for so many changes at their beginnings")?;
        let depth = match operation {
            PatchOperation::Add(add) => add.path.count() + depth(&add.value),
            PatchOperation::Replace(replace) => replace.path.count() + depth(&replace.value),
            PatchOperation::Copy(copy) => {
                let source = copy.from.resolve(document).ok();
                self.copied += source.map_or(0, size);
                let copied = self.copied;
                if copied > MAX_COPIED {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                    ));
                }
                copy.path.count() + source.map_or(0, depth)
            }
            PatchOperation::Move(from) => {
                // It is no deeper than the document is below it.
                let most = self.depth.saturating_sub(from.from.count());
                let most = from.path.count() + most;
                match from.from.resolve(document) {
                    Ok(source) if most > MAX_DEPTH => {
                        from.path.count() + self.look(source).unwrap_or(MAX_DEPTH)
                    }
                    _ => most,
                }
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
        };
        if depth > MAX_DEPTH {
            return Err(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        self.depth = self.depth.max(depth);
        Ok(())
    }

    /// How deep a value is; nothing if that takes too long.
    fn look(&mut self, value: &Value) -> Option<usize> {
        self.looks = self.looks.checked_sub(1)?;
        let inside = match value {
            Value::Array(items) => items.iter().try_fold(0, |deepest: usize, item| {
                Some(deepest.max(self.look(item)?))
            }),
            Value::Object(fields) => fields.values().try_fold(0, |deepest: usize, item| {
                Some(deepest.max(self.look(item)?))
            }),
            _ => return Some(0),
        };
        inside.map(|inside| inside + 1)
    }
}

/// How many elements come after a place in a list.
fn shifted(document: &Value, path: &PointerBuf) -> usize {
    let Some((list, place)) = path.split_back() else {
        return 0;
    };
    let Ok(Value::Array(list)) = list.resolve(document) else {
        return 0;
    };
    let place = place.decoded().parse().unwrap_or(list.len());
    list.len().saturating_sub(place)
}

/// How many bytes a value has as JSON, about.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| key.len() + 4 + size(value);
            2 + fields.iter().map(field).sum::<usize>()
        }
        Value::String(text) => 2 + text.len(),
        _ => 4,
    }
}

/// How many lists and objects lie in each other.
fn depth(value: &Value) -> usize {
    let inside = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inside.unwrap_or_default()
}

/// Whether an operation is an object, and its texts are texts; if not, what Go says.
fn check(operation: &Value, decoder: &Decoder) -> Result<(), String> {
    if operation.is_null() {
        return Ok(());
    }
    let Some(fields) = operation.as_object() else {
        return Err(misfit(operation, decoder.operation));
    };
    let fault = decoder.fields.and_then(|owner| {
        ["op", "path", "from"].into_iter().find_map(|name| {
            let value = fields.get(name)?;
            (!value.is_string() && !value.is_null()).then(|| {
                let found = go_kind(value);
                format!(
                    "json: cannot unmarshal {found} into Go struct field {owner}.{name} of type string"
                )
            })
        })
    });
    fault.map_or(Ok(()), Err)
}

/// Reads an operation on a document: without a value, that is `null`, and indices may count from the end.
fn parse(operation: Value, document: &Value) -> Result<PatchOperation, PatchError> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let op = text("op").unwrap_or_default().to_owned();
    let missing =
        |name: &str| PatchError::Unprocessable(format!("{op} operation does not apply: no {name}"));
    let path = text("path").ok_or_else(|| missing("path"))?;
    let mut out = json!({"op": op, "path": pointer(path, document)});
    match op.as_str() {
        "add" | "replace" | "test" => {
            out["value"] = operation.get("value").cloned().unwrap_or_default();
        }
        "move" | "copy" => {
            let from = text("from").ok_or_else(|| missing("from"))?;
            if from.is_empty() || path.is_empty() {
                return Err(PatchError::Unprocessable(format!(
                    "{op} operation does not apply: no field"
                )));
            }
            out["from"] = pointer(from, document).into();
        }
        "remove" => {}
        other => {
            return Err(PatchError::Unprocessable(format!(
                "Unexpected kind: {other}"
            )));
        }
    }
    if op == "add" && path.is_empty() {
        return Err(missing("field"));
    }
    serde_json::from_value(out).map_err(|error| {
        PatchError::Unprocessable(format!("{op} operation does not apply: {error}"))
    })
}

/// A path as the standard has it: a `~` that escapes nothing stands for itself, an index is what Go reads as a number, and
/// one below zero counts from the end of its list.
fn pointer(path: &str, document: &Value) -> String {
    if !path.contains(['~', '-', '+']) && !path.contains("/0") {
        return path.to_owned();
    }
    let mut found = Some(document);
    let mut out = String::with_capacity(path.len() + 4);
    for (n, token) in path.split('/').enumerate() {
        if n == 0 {
            out.push_str(token);
            continue;
        }
        let name = token.replace("~1", "/").replace("~0", "~");
        let list = found.and_then(Value::as_array);
        let index = list.zip(name.parse::<isize>().ok());
        let index = index.and_then(|(list, index)| match usize::try_from(index) {
            Ok(index) => Some(index),
            Err(_) => list.len().checked_sub(index.unsigned_abs()),
        });
        let name = index.map_or(name, |index| index.to_string());
        found = match found {
            Some(Value::Array(items)) => name.parse().ok().and_then(|n: usize| items.get(n)),
            Some(Value::Object(fields)) => fields.get(&name),
            _ => None,
        };
        out.push('/');
        out.push_str(&name.replace('~', "~0").replace('/', "~1"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_apply_in_order() {
        let mut document = json!({"a": [1, 2], "b": {"c": "d"}});
        let patch = br#"[
            {"op": "test", "path": "/b/c", "value": "d"},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "replace", "path": "/b/c", "value": "e"},
            {"op": "copy", "from": "/b/c", "path": "/f"},
            {"op": "move", "from": "/f", "path": "/b/x~1y"}
        ]"#;
        super::json(&mut document, patch).unwrap();
        assert_eq!(document, json!({"a": [2, 3], "b": {"c": "e", "x/y": "e"}}));
    }

    #[test]
    fn moves_make_nothing_too_deep_and_are_not_looked_into_for_ever() {
        let nested = |levels: usize| (0..levels).fold(json!("x"), |inside, _| json!({"a": inside}));
        let path = |levels: usize| "/a".repeat(levels);
        let document = json!({"deep": nested(200), "wide": {"a": 1}});
        let patch = |document: &Value, steps: &Value| {
            let mut patched = document.clone();
            super::json(&mut patched, steps.to_string().as_bytes()).map(|()| patched)
        };
        let to = |levels: usize| format!("/deep{}/b", path(levels));
        let step = |from: &str, path: &str| json!({"op": "move", "from": from, "path": path});
        // What is moved is not deep, though something else in the document is.
        let moved = patch(&document, &json!([step("/wide", &to(150))])).unwrap();
        assert_eq!(moved.pointer(&to(150)), Some(&json!({"a": 1})));
        let deep = json!({"deep": nested(200), "other": nested(150)});
        let refused = patch(&deep, &json!([step("/other", &to(150))])).unwrap_err();
        assert!(
            refused.to_string().contains("exceeded max depth"),
            "{refused}"
        );
        // Something large, back and forth.
        let wide: Vec<u8> = vec![0; 100_000];
        let document = json!({"deep": nested(200), "wide": wide});
        let there = step("/wide", &to(150));
        let back = step(&to(150), "/wide");
        let times = |times: usize| -> Value {
            (0..times)
                .flat_map(|_| [there.clone(), back.clone()])
                .collect()
        };
        assert_eq!(patch(&document, &times(5)).unwrap(), document);
        let refused = patch(&document, &times(50)).unwrap_err();
        assert!(
            refused.to_string().contains("exceeded max depth"),
            "{refused}"
        );
    }

    #[test]
    fn long_lists_are_not_moved_for_ever() {
        let list: Vec<u8> = vec![0; 500_000];
        let patch = |step: Value, times: usize| {
            let mut document = json!({ "a": list });
            let steps = Value::from(vec![step; times]).to_string();
            super::json(&mut document, steps.as_bytes()).map(|()| document)
        };
        let first = json!({"op": "remove", "path": "/a/0"});
        let shorter = patch(first.clone(), 100).unwrap();
        assert_eq!(shorter["a"].as_array().unwrap().len(), 499_900);
        let refused = patch(first, 10_000).unwrap_err();
        assert!(
            refused.to_string().contains("too long for so many changes"),
            "{refused}"
        );
        // At the end nothing has to move.
        let last = json!({"op": "add", "path": "/a/-", "value": 1});
        let longer = patch(last, 10_000).unwrap();
        assert_eq!(longer["a"].as_array().unwrap().len(), 510_000);
    }

    #[test]
    fn what_is_not_there_is_null_to_a_test() {
        let patch = |path: &str| {
            let test = json!({"op": "test", "path": path, "value": null});
            let add = json!({"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]});
            let mut document = json!({"metadata": {"name": "x"}});
            super::json(&mut document, json!([test, add]).to_string().as_bytes()).map(|()| document)
        };
        let patched = patch("/metadata/finalizers").unwrap();
        assert_eq!(patched["metadata"]["finalizers"], json!(["a/b"]));
        assert!(patch("/metadata/name").is_err());
        assert!(patch("/spec/finalizers").is_err());
    }

    #[test]
    fn replacing_a_field_that_is_not_there_adds_it() {
        let replace = |path: &str| {
            let mut document = json!({"metadata": {"annotations": {}}, "list": [1]});
            let patch = json!([{"op": "replace", "path": path, "value": "v"}]).to_string();
            super::json(&mut document, patch.as_bytes()).map(|()| document)
        };
        let patched = replace("/metadata/annotations/a~1b").unwrap();
        assert_eq!(patched["metadata"]["annotations"], json!({"a/b": "v"}));
        for path in ["/nope/a", "/list/1", "/list/x"] {
            assert!(replace(path).is_err(), "{path}");
        }
    }

    #[test]
    fn operations_are_read_as_upstream_reads_them() {
        let patched = |operations: Value| {
            let mut document = json!({"list": [1, 2, 3], "a": {"b": 1}});
            super::json(&mut document, operations.to_string().as_bytes()).map(|()| document)
        };
        // What has no value sets null.
        for op in ["add", "replace"] {
            let document = patched(json!([{"op": op, "path": "/a/b"}])).unwrap();
            assert_eq!(document["a"], json!({"b": null}), "{op}");
        }
        assert!(patched(json!([{"op": "test", "path": "/a/c"}])).is_ok());
        assert!(patched(json!([{"op": "test", "path": "/a/b"}])).is_err());
        // Indices count from the end.
        let document = patched(json!([{"op": "remove", "path": "/list/-1"}])).unwrap();
        assert_eq!(document["list"], json!([1, 2]));
        let document = patched(json!([{"op": "replace", "path": "/list/-3", "value": 0}])).unwrap();
        assert_eq!(document["list"], json!([0, 2, 3]));
        assert!(patched(json!([{"op": "remove", "path": "/list/-4"}])).is_err());
        // They are what Go reads as numbers.
        for (path, list) in [
            ("/list/01", json!([1, 0, 3])),
            ("/list/+2", json!([1, 2, 0])),
            ("/list/-0", json!([0, 2, 3])),
            ("/list/-01", json!([1, 2, 0])),
        ] {
            let replace = json!([{"op": "replace", "path": path, "value": 0}]);
            assert_eq!(patched(replace).unwrap()["list"], list, "{path}");
        }
        // A tilde that escapes nothing is one.
        let odd = json!([{"op": "add", "path": "/a/~2-", "value": 1}, {"op": "add", "path": "/a/~", "value": 2}]);
        assert_eq!(
            patched(odd).unwrap()["a"],
            json!({"b": 1, "~2-": 1, "~": 2})
        );
        // The whole document is no field.
        for operation in [
            json!({"op": "copy", "from": "", "path": "/a/c"}),
            json!({"op": "move", "from": "/a", "path": ""}),
            json!({"op": "add", "path": "", "value": {}}),
        ] {
            let told = patched(json!([operation]));
            assert!(
                matches!(told, Err(PatchError::Unprocessable(_))),
                "{told:?}"
            );
        }
    }

    #[test]
    fn operations_of_other_types_are_told_as_go_does() {
        let malformed = |text: &str| {
            let text = format!("json: cannot unmarshal {text}");
            Err(PatchError::Malformed(text))
        };
        for (patch, strict, lenient) in [
            (
                json!({}),
                "object into Go value of type []handlers.jsonPatchOp",
                malformed("object into Go value of type jsonpatch.Patch"),
            ),
            (
                json!([5]),
                "number into Go value of type handlers.jsonPatchOp",
                malformed("number into Go value of type jsonpatch.Operation"),
            ),
            (
                json!([{"op": "add", "path": []}]),
                "array into Go struct field jsonPatchOp.path of type string",
                Err(PatchError::Unprocessable(
                    "add operation does not apply: no path".to_owned(),
                )),
            ),
            (
                json!([{"op": "move", "path": "/a", "from": true}]),
                "bool into Go struct field jsonPatchOp.from of type string",
                Err(PatchError::Unprocessable(
                    "move operation does not apply: no from".to_owned(),
                )),
            ),
        ] {
            let patch = patch.to_string();
            let told = super::json(&mut json!({}), patch.as_bytes());
            assert_eq!(told, lenient, "{patch}");
            let told = json_fault(patch.as_bytes());
            let strict = format!("json: cannot unmarshal {strict}");
            assert_eq!(told, Some(strict), "{patch}");
        }
        assert_eq!(json_fault(br#"[{"op": "add", "path": "/a"}, null]"#), None);
        let text = "unexpected end of JSON input".to_owned();
        assert_eq!(json_fault(b"[{").as_deref(), Some(&*text));
        let told = super::json(&mut json!({}), b"[{");
        assert_eq!(told, Err(PatchError::Malformed(text)));
    }

    #[test]
    fn a_patch_that_does_not_fit_changes_nothing() {
        let mut document = json!({"a": 1});
        let patch =
            br#"[{"op": "remove", "path": "/a"}, {"op": "test", "path": "/b", "value": 1}]"#;
        assert!(matches!(
            super::json(&mut document, patch),
            Err(PatchError::Unprocessable(_))
        ));
        assert_eq!(document, json!({"a": 1}));
    }

    #[test]
    fn a_patch_cannot_make_a_document_grow_without_end() {
        let mut document = json!({"list": ["x".repeat(1000)], "a": {}});
        let doubles = json!({"op": "copy", "from": "/list", "path": "/list/-"});
        let nests = json!({"op": "copy", "from": "/a", "path": "/a/x"});
        let moves = [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/a", "path": "/b/x"}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ];
        for patch in [
            vec![doubles; 60],
            vec![nests; 1000],
            moves.iter().cloned().cycle().take(3000).collect(),
        ] {
            let patch = Value::from(patch).to_string();
            let before = document.clone();
            assert!(matches!(
                super::json(&mut document, patch.as_bytes()),
                Err(PatchError::Unprocessable(_))
            ));
            assert_eq!(document, before);
        }
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        let mut document = json!({});
        assert!(matches!(
            super::json(&mut document, br#"[{"op": "dance", "path": "/a"}]"#),
            Err(PatchError::Unprocessable(_))
        ));
        let many = format!(
            "[{}]",
            vec![r#"{"op":"add","path":"/a","value":1}"#; 10_001].join(",")
        );
        assert_eq!(
            super::json(&mut document, many.as_bytes()),
            Err(PatchError::TooManyOperations(10_001))
        );
    }
}
