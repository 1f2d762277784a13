//! The annotation in which client-side apply keeps what it applied last, and how `kubectl` goes
//! over from it to server-side apply.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Shape, conflict::Conflict, set::FieldSet, tape::Tape, walk};
use crate::metadata::TOTAL_ANNOTATION_SIZE_LIMIT;

/// The annotation.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one manager to whom all this applies. Others opt out by another name.
pub(super) const KUBECTL: &str = "kubectl";

fn last_applied(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(ANNOTATION)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// The conflicts that are not with what the same configuration was applied to by client-side
/// apply; `None` if there is no such configuration.
pub(super) fn remaining_conflicts(
    conflicts: &[Conflict],
    live: &Value,
    api_version: &str,
    shape: &Shape,
) -> Option<Vec<Conflict>> {
    let allowed = allowed(live, api_version, shape)?;
    let rest = conflicts.iter().filter(|c| !allowed.has(&c.path));
    Some(rest.cloned().collect())
}

/// The fields that client-side apply set and that are as it set them.
fn allowed(live: &Value, api_version: &str, shape: &Shape) -> Option<FieldSet> {
    let last: Value = serde_json::from_str(last_applied(live)?).ok()?;
    if last.get("apiVersion")?.as_str()? != api_version {
        return None;
    }
    let (last, live) = (last.to_string(), live.to_string());
    let (last, live) = (Tape::new(last.as_bytes())?, Tape::new(live.as_bytes())?);
    let mut fields = walk::fields_of(last.root(), shape);
    let comparison = walk::compare(last.root(), live.root(), shape);
    for changed in [&comparison.modified, &comparison.added, &comparison.removed] {
        fields.subtract(changed);
    }
    Some(fields)
}

/// Brings the annotation of an object that has one up to date with the configuration, so that
/// client-side apply can be gone back to.
pub(super) fn sync(object: &mut Value, config: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), format!("{config}\n").into());
    let sizes: BTreeMap<&String, usize> = annotations
        .iter()
        .map(|(k, v)| (k, v.as_str().map_or(0, str::len)))
        .collect();
    let total: usize = sizes.iter().map(|(k, size)| k.len() + size).sum();
    if total > TOTAL_ANNOTATION_SIZE_LIMIT {
        annotations.remove(ANNOTATION);
    }
}
