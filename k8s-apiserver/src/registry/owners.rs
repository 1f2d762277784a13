//! References to owners that stand twice in an object: dropped, and told of.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::admission::Warnings;

/// Drops references that are there already. `admitted` is whether plugins have changed the object since it was sent.
pub(crate) fn dedup(meta: &mut ObjectMeta, admitted: bool, warnings: &Warnings) {
    let Some(owners) = meta.owner_references.as_deref() else {
        return;
    };
    let mut seen = HashSet::new();
    let is_new = owners.iter().map(|owner| {
        seen.insert((
            &owner.uid,
            &owner.name,
            &owner.kind,
            &owner.api_version,
            owner.controller,
            owner.block_owner_deletion,
        ))
    });
    let mut is_new: Vec<bool> = is_new.collect();
    if is_new.iter().all(|new| *new) {
        return;
    }
    let again = owners.iter().zip(&is_new).filter(|(_, new)| !**new);
    let uids: Vec<&str> = again.map(|(owner, _)| owner.uid.as_str()).collect();
    let admission = if admitted {
        " after mutating admission happens"
    } else {
        ""
    };
    warnings.add(format!(
        ".metadata.ownerReferences contains duplicate entries{admission}; API server dedups owner references in 1.20+, \
         and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        uids.join(", ")
    ));
    let mut is_new = is_new.drain(..);
    if let Some(owners) = &mut meta.owner_references {
        owners.retain(|_| is_new.next().unwrap_or(true));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn what_differs_in_anything_is_kept() {
        let one = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"});
        let mut other = one.clone();
        other["controller"] = false.into();
        let owners = json!({"ownerReferences": [one, other, one, one]});
        let mut meta: ObjectMeta = from_value(owners).unwrap();
        let warnings = Warnings::default();
        dedup(&mut meta, false, &warnings);
        let left = meta.owner_references.clone().unwrap();
        assert_eq!(left.len(), 2);
        assert_eq!(left[1].controller, Some(false));
        let told = warnings.take();
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("observed: u, u"), "{told:?}");
        dedup(&mut meta, true, &warnings);
        assert_eq!(warnings.take(), [""; 0]);
    }
}
