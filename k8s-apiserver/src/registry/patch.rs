//! Patch: the four kinds of patches, applied to an object as a value tree.

use std::borrow::Cow;

use bytes::Bytes;
use k8s_model::{
    Codec, Object,
    apply::{Applied, ApplyError, Tracker},
    decode::{DecodeError, duplicate_fields, misfit, missing_kind, syntax_error, whole_numbers},
    field::{self, Path},
    patch,
    schema::Type,
};
use serde_json::{Value, json};

use super::{
    Row,
    update::{Change, Live},
};
use crate::{Error, Result, admission::Warnings, endpoints::yaml, http::options::FieldValidation};

/// How a patch is meant, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists merge by their keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

pub(crate) const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl PatchType {
    /// How a patch of a row's object is meant. Custom resources have no strategic merge patches.
    pub(crate) fn of(content_type: &str, row: &Row) -> Result<Self> {
        match PatchType::from_content_type(content_type) {
            Some(PatchType::Strategic) | None if row.custom().is_some() => {
                let types: Vec<&str> = PATCH_TYPES
                    .into_iter()
                    .filter(|t| PatchType::from_content_type(t) != Some(PatchType::Strategic))
                    .collect();
                Err(Error::unsupported_media_type(&types))
            }
            Some(kind) => Ok(kind),
            None => Err(Error::not_consumed()),
        }
    }

    pub(crate) fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json-patch+json" => Some(PatchType::Json),
            "application/merge-patch+json" => Some(PatchType::Merge),
            "application/strategic-merge-patch+json" => Some(PatchType::Strategic),
            "application/apply-patch+yaml" => Some(PatchType::Apply),
            _ => None,
        }
    }
}

/// A patch as it was sent.
#[derive(Debug)]
pub(crate) enum Patch {
    Json(Bytes, Seen),
    Merge(Value, Seen),
    Strategic(Value, Seen),
    Apply(Configuration),
    /// What is no patch, and what upstream says of it.
    Faulty(String),
}

/// What upstream says of what is no merge patch.
const INVALID: &str = "Invalid JSON Patch";

/// What is seen of a patch before it is carried out.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Whether it may look at managed fields. If not, nobody needs to parse them for it.
    managed_fields: bool,
    /// What a strict decoder complains about.
    findings: Vec<String>,
}

/// The kind of what is patched.
pub(crate) struct PatchedKind<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) codec: &'a Codec,
}

/// What server-side apply applies.
#[derive(Debug)]
pub(crate) struct Configuration {
    value: Value,
    force: bool,
    /// The keys that it has twice, and where.
    repeated: Vec<String>,
}

impl Patch {
    /// What is wrong with it is told only when it is carried out, after all that is wrong with its object: unless it is
    /// to be applied.
    pub(crate) fn new(
        kind: PatchType,
        bytes: Bytes,
        force: bool,
        validation: FieldValidation,
    ) -> Result<Self> {
        if kind == PatchType::Apply {
            return Configuration::parse(&bytes, force).map(Patch::Apply);
        }
        let lenient = validation == FieldValidation::Ignore;
        Ok(Patch::read(kind, bytes, lenient).unwrap_or_else(Patch::Faulty))
    }

    /// Reads a patch that is not applied; if it is none, what upstream says. Who wants to hear of unknown fields hears
    /// another decoder.
    fn read(kind: PatchType, bytes: Bytes, lenient: bool) -> Result<Self, String> {
        let mut seen = Seen {
            managed_fields: memchr::memmem::find(&bytes, b"anagedFields").is_some(),
            findings: Vec::new(),
        };
        if kind == PatchType::Json {
            if !lenient {
                if let Some(text) = patch::json_fault(&bytes) {
                    return Err(format!("error decoding patch: {text}"));
                }
                seen.findings = json_patch_findings(&bytes);
            }
            return Ok(Patch::Json(bytes, seen));
        }
        let merges = kind == PatchType::Merge;
        let bad = |text: String| match merges {
            true if lenient => INVALID.to_owned(),
            true => format!("error decoding patch: {text}"),
            false => text,
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| bad(syntax_error(&bytes).unwrap_or_else(|| error.to_string())))?;
        let value = match value {
            Value::Null if merges => return Err(INVALID.to_owned()),
            Value::Null => json!({}),
            // It becomes the object, and is found out as that.
            value @ Value::Array(_) if merges && lenient => value,
            value if !value.is_object() => return Err(bad(not_a_map(&value))),
            value => value,
        };
        let duplicates = duplicate_fields(&bytes);
        seen.findings = duplicates
            .iter()
            .map(|f| format!("duplicate field {f:?}"))
            .collect();
        Ok(match merges {
            true => Patch::Merge(value, seen),
            false => Patch::Strategic(value, seen),
        })
    }

    /// What it makes of an object of a row's kind, and what a strict decoder complains about on
    /// the way: that goes into `warnings`, or is refused.
    pub(crate) fn change(
        &self,
        row: &Row,
        live: &Live<'_>,
        tracker: Option<&Tracker<'_>>,
        validation: FieldValidation,
        warnings: &Warnings,
    ) -> Result<Change> {
        if let Patch::Apply(configuration) = self {
            let tracker = tracker.ok_or_else(Error::method_not_allowed)?;
            let applied = configuration.apply(tracker, live.object.to_value(), live.managed)?;
            let object = match applied.object {
                Some(value) => configuration.decode(row, &value)?,
                None => live.object.boxed_clone(),
            };
            configuration.report_duplicates(validation, warnings)?;
            return Ok(Change {
                object,
                managed: Some(applied.managed),
                checks_uid: false,
            });
        }
        let resource = &row.resource;
        let mut value = live.object.to_value();
        let mut managed = live.managed;
        if self.mentions_managed_fields() && !managed.is_empty() {
            value["metadata"]["managedFields"] =
                serde_json::from_slice(managed).map_err(Error::internal)?;
            managed = &[];
        }
        let kind = PatchedKind {
            group: resource.group,
            version: resource.version,
            kind: resource.kind,
            codec: &resource.codec,
        };
        let mut object = self.patched(&kind, value, managed, validation, warnings)?;
        resource.strategy.default(&mut *object);
        Ok(Change {
            object,
            managed: None,
            checks_uid: false,
        })
    }

    /// What it makes of the value tree of an object of a kind, without defaults. The managed fields are those that the
    /// tree lacks as the patch does not look at them. Not for apply.
    pub(crate) fn patched(
        &self,
        kind: &PatchedKind<'_>,
        value: Value,
        managed: &[u8],
        validation: FieldValidation,
        warnings: &Warnings,
    ) -> Result<Box<dyn Object>> {
        let ty = Type::of_kind(kind.group, kind.version, kind.kind);
        let mut value = self.apply_to_value(ty, value)?;
        if let (Patch::Strategic(..), Some(fields)) = (self, value.as_object_mut()) {
            // Upstream does not look at what such a patch says of these, if only they are texts.
            let api_version = match kind.group {
                "" => kind.version.to_owned(),
                group => format!("{group}/{}", kind.version),
            };
            for (name, text) in [("apiVersion", &*api_version), ("kind", kind.kind)] {
                if fields.get(name).is_none_or(Value::is_string) {
                    fields.insert(name.to_owned(), text.into());
                }
            }
        }
        let json = serde_json::to_vec(&value).map_err(Error::internal)?;
        let whole = || with_managed(&value, managed).to_string();
        let invalid = |text: &str| self.invalid(whole(), text);
        let mut findings = match self {
            Patch::Json(_, seen) | Patch::Merge(_, seen) | Patch::Strategic(_, seen) => {
                seen.findings.clone()
            }
            Patch::Apply(_) | Patch::Faulty(_) => Vec::new(),
        };
        let object = (kind.codec.from_json)(&json, &mut |field| {
            findings.push(format!("unknown field {field:?}"));
        })
        .map_err(|error| {
            match &error {
                DecodeError::NoKind => return invalid(&missing_kind(whole().as_bytes())),
                DecodeError::Undefined { api_version, .. } if api_version.is_empty() => {
                    return Error::internal(
                        "Object 'apiVersion' is missing in 'object has no apiVersion field'",
                    );
                }
                DecodeError::Undefined { .. } => return Error::undefined(&error, &json),
                _ => {}
            }
            let told = match self {
                Patch::Strategic(..) => ty.and_then(|ty| misfit(ty, &value)),
                _ => None,
            };
            invalid(&told.unwrap_or_else(|| error.reason()))
        })?;
        match validation {
            _ if findings.is_empty() => {}
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(findings),
            FieldValidation::Strict => {
                let text = format!("strict decoding error: {}", findings.join(", "));
                return Err(invalid(&text));
            }
        }
        Ok(object)
    }

    /// The answer to a patch whose result is no object of its kind, which upstream quotes.
    fn invalid(&self, patched: String, text: &str) -> Error {
        let quoted = match self {
            Patch::Strategic(change, _) => patch::spell_go(change),
            _ => patched,
        };
        let finding = field::invalid(Path::new("patch"), quoted, text);
        Error::invalid_kind("", "", "", &vec![finding])
    }

    fn mentions_managed_fields(&self) -> bool {
        match self {
            Patch::Json(_, seen) | Patch::Merge(_, seen) | Patch::Strategic(_, seen) => {
                seen.managed_fields
            }
            Patch::Apply(_) | Patch::Faulty(_) => false,
        }
    }

    /// Applies it to a value tree of a type.
    fn apply_to_value(&self, ty: Option<Type>, mut value: Value) -> Result<Value> {
        match self {
            Patch::Json(bytes, _) => {
                patch::json(&mut value, bytes).map_err(|e| Error::from(e.to_status()))?;
            }
            Patch::Merge(change, _) => patch::merge(&mut value, change),
            Patch::Strategic(change, _) => {
                value = patch::strategic(value, change.clone(), ty)
                    .map_err(|e| Error::from(e.to_status()))?;
            }
            Patch::Apply(_) => return Err(Error::method_not_allowed()),
            Patch::Faulty(text) => return Err(Error::bad_request(text)),
        }
        Ok(value)
    }
}

impl Configuration {
    fn parse(bytes: &[u8], force: bool) -> Result<Self> {
        let bad = |error: String| Error::bad_request(format!("error decoding YAML: {error}"));
        // What clients send is JSON, nearly always.
        let (value, repeated) = match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => {
                let fields = duplicate_fields(bytes);
                let line = |field: &String| {
                    let name = field.rsplit('.').next().unwrap_or(field);
                    // What is sent as JSON has one line.
                    format!("line 1: key {name:?} already set in map")
                };
                (value, fields.iter().map(line).collect())
            }
            Err(_) => {
                let document = yaml::read(bytes)
                    .map_err(|why| bad(format!("error converting YAML to JSON: {why}")))?;
                (document.value, document.repeated)
            }
        };
        if !value.is_object() && !value.is_null() {
            return Err(bad(format!(
                "error unmarshaling JSON: while decoding JSON: {}",
                not_a_map(&value)
            )));
        }
        let mut value = value;
        whole_numbers(&mut value);
        Ok(Configuration {
            value,
            force,
            repeated,
        })
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Applies it to an object's tree.
    pub(crate) fn apply(
        &self,
        tracker: &Tracker<'_>,
        live: Value,
        managed: &[u8],
    ) -> Result<Applied> {
        let applied = self.apply_part(tracker, live, &self.value, managed);
        applied.map_err(|e| Error::from(e.to_status()))
    }

    /// As [`Configuration::apply`], with another configuration that was made of this one.
    pub(crate) fn apply_part(
        &self,
        tracker: &Tracker<'_>,
        live: Value,
        part: &Value,
        managed: &[u8],
    ) -> Result<Applied, ApplyError> {
        tracker.apply(live, part, managed, self.force)
    }

    /// The object that it makes where there is none, and its managed fields.
    pub(crate) fn create(
        &self,
        row: &Row,
        tracker: &Tracker<'_>,
    ) -> Result<(Box<dyn Object>, Vec<u8>)> {
        let live = json!({"apiVersion": row.api_version, "kind": row.resource.kind});
        let applied = self.apply(tracker, live.clone(), &[])?;
        let object = self.decode(row, applied.object.as_ref().unwrap_or(&live))?;
        Ok((object, applied.managed))
    }

    fn decode(&self, row: &Row, value: &Value) -> Result<Box<dyn Object>> {
        let resource = &row.resource;
        let json = serde_json::to_vec(value).map_err(Error::internal)?;
        let decoded = match row.custom() {
            Some(custom) => {
                (custom.decode_applied(&json)).map(|object| Box::new(object) as Box<dyn Object>)
            }
            None => (resource.codec.from_json)(&json, &mut |_| {}),
        };
        let mut object = decoded.map_err(|error| {
            let meta = &self.value["metadata"];
            let text = |name: &str| meta[name].as_str().unwrap_or_default();
            let version = if resource.group.is_empty() { "/" } else { "" };
            let kind = format!("{version}{}, Kind={}", row.api_version, resource.kind);
            Error::unknown(format!(
                "failed to convert new object ({}/{}; {kind}) to proper version: unable to convert unstructured object to {kind}: {error}",
                text("namespace"),
                text("name"),
            ))
        })?;
        resource.strategy.default(&mut *object);
        Ok(object)
    }

    /// Refuses or warns of keys that it has twice.
    pub(crate) fn report_duplicates(
        &self,
        validation: FieldValidation,
        warnings: &Warnings,
    ) -> Result<()> {
        if self.repeated.is_empty() || validation == FieldValidation::Ignore {
            return Ok(());
        }
        if validation == FieldValidation::Strict {
            return Err(Error::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
                self.repeated.join("\n  ")
            )));
        }
        warnings.extend(self.repeated.iter().cloned());
        Ok(())
    }
}

/// The tree of an object, with the managed fields that it lacks, if it has a place for them.
fn with_managed<'v>(value: &'v Value, managed: &[u8]) -> Cow<'v, Value> {
    let has_place = value.get("metadata").is_some_and(Value::is_object);
    let Some(managed) = serde_json::from_slice::<Value>(managed)
        .ok()
        .filter(|_| has_place)
    else {
        return Cow::Borrowed(value);
    };
    let mut whole = value.clone();
    whole["metadata"]["managedFields"] = managed;
    Cow::Owned(whole)
}

/// What Go says of a value that is decoded into a map and is none.
fn not_a_map(value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
}

/// What a strict decoder of JSON patches complains about.
fn json_patch_findings(bytes: &[u8]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    if let Ok(Value::Array(operations)) = serde_json::from_slice(bytes) {
        for (i, operation) in operations.iter().enumerate() {
            for name in operation.as_object().into_iter().flat_map(|o| o.keys()) {
                if !matches!(name.as_str(), "op" | "path" | "from" | "value") {
                    out.push(format!("json patch unknown field \"[{i}].{name}\""));
                }
            }
        }
    }
    let duplicates = duplicate_fields(bytes);
    out.extend(
        duplicates
            .iter()
            .map(|field| format!("json patch duplicate field {field:?}")),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_strategic_patch_and_no_merge_patch() {
        for lenient in [false, true] {
            let patch = |kind| Patch::read(kind, Bytes::from_static(b"null"), lenient);
            let Ok(Patch::Strategic(change, _)) = patch(PatchType::Strategic) else {
                panic!("a strategic patch");
            };
            assert_eq!(change, json!({}));
            assert_eq!(patch(PatchType::Merge).unwrap_err(), "Invalid JSON Patch");
        }
    }
}
