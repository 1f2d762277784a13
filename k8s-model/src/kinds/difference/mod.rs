//! What an object says and what an update would change, in the form in which upstream tells it: as JSON, and as a unified
//! diff of how both are written as JSON.
//!
//! It is upstream's internal type that is written, whose fields have Go's names and are all there, `null` or not.

mod internal;
mod unified;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{IMMUTABLE, json, same},
};

/// What an update would change, in the form in which upstream tells it; `ty` is the name of the internal type, such as
/// `PodSpec`.
pub(crate) fn difference(ty: &str, old: &impl Serialize, new: &impl Serialize) -> String {
    unified::diff(
        &internal::lines(ty, &json(old)),
        &internal::lines(ty, &json(new)),
    )
}

/// What is wrong with another object than there was, where that cannot be. The new one is shown likewise.
pub(crate) fn immutable<T: PartialEq + Serialize>(
    ty: &str,
    new: &T,
    old: &T,
    path: Path,
) -> ErrorList {
    match same(new, old) {
        true => ErrorList::new(),
        false => vec![field::invalid_spelled(path, &spelled(ty, new), IMMUTABLE)],
    }
}

/// An object, likewise, in one line.
pub(crate) fn spelled(ty: &str, object: &impl Serialize) -> String {
    internal::compact(ty, &json(object))
}

/// A label selector, likewise.
pub(crate) fn spelled_selector(selector: &LabelSelector) -> String {
    spelled("LabelSelector", selector)
}

/// A list of objects, likewise. One that is absent is told as such.
pub(crate) fn spelled_list(ty: &str, objects: Option<&[impl Serialize]>) -> String {
    let Some(objects) = objects else {
        return "null".to_owned();
    };
    let objects: Vec<String> = objects.iter().map(|one| spelled(ty, one)).collect();
    format!("[{}]", objects.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_shows_what_changes_with_three_lines_around() {
        let claim = |volume: &str| {
            json!({"accessModes": ["ReadWriteOnce"], "volumeName": volume,
                "selector": {"matchLabels": {"b": "<", "a": "1"}},
                "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"})
        };
        let expected = r#"@@ -14,7 +14,7 @@
    "storage": "1Gi"
   }
  },
- "VolumeName": "v",
+ "VolumeName": "w",
  "StorageClassName": null,
  "VolumeMode": "Filesystem",
  "DataSource": null,
"#;
        let told = difference("PersistentVolumeClaimSpec", &claim("v"), &claim("w"));
        assert_eq!(told, expected);
    }

    #[test]
    fn an_object_is_told_in_one_line() {
        let claim = json!({"name": "a: b", "resourceClaimName": "<"});
        assert_eq!(
            spelled("PodResourceClaim", &claim),
            r#"{"Name":"a: b","ResourceClaimName":"\u003c","ResourceClaimTemplateName":null}"#
        );
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        assert_eq!(
            spelled("Taint", &taint),
            r#"{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}"#
        );
        let term = json!({"matchFields": [{"key": "a", "operator": "In", "values": ["b"]}]});
        assert_eq!(
            spelled("NodeSelectorTerm", &term),
            r#"{"MatchExpressions":null,"MatchFields":[{"Key":"a","Operator":"In","Values":["b"]}]}"#
        );
    }

    #[test]
    fn what_stands_elsewhere_inside_is_told_there() {
        let pod = |host| json!({"containers": [{"name": "a", "image": "i"}], "hostNetwork": host});
        let told = difference("PodSpec", &pod(false), &pod(true));
        assert!(
            told.contains("-  \"HostNetwork\": false,\n+  \"HostNetwork\": true,\n"),
            "{told}"
        );
        let mounted = json!({"containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/"}]}]});
        let told = difference("PodSpec", &pod(false), &mounted);
        let expected = r#"-   "VolumeMounts": null,
+   "VolumeMounts": [
+    {
+     "Name": "v",
+     "ReadOnly": false,
+     "RecursiveReadOnly": null,
+     "MountPath": "/",
+     "SubPath": "",
+     "MountPropagation": null,
+     "SubPathExpr": "",
+     "BindMountOptions": null
+    }
+   ],
"#;
        assert!(told.contains(expected), "{told}");
    }
}
