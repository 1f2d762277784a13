//! What an update would change, in the form in which upstream tells it: as a unified diff of how both are written as
//! JSON.
//!
//! It is upstream's internal type that is written, whose fields have Go's names and are all there, `null` or not.

mod internal;
mod unified;

use serde::Serialize;

use crate::kinds::checks::json;

/// What an update would change, in the form in which upstream tells it; `ty` is the name of the internal type, such as
/// `PodSpec`.
pub(crate) fn difference(ty: &str, old: &impl Serialize, new: &impl Serialize) -> String {
    unified::diff(
        &internal::lines(ty, &json(old)),
        &internal::lines(ty, &json(new)),
    )
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
