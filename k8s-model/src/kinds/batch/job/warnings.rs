//! Advice on Jobs, and on those that CronJobs make.

use k8s_openapi::api::batch::v1::JobSpec;

use crate::{field::Path, kinds::core::pod::template_warnings};

/// Of so many indexes all can be kept track of, however many pods there are at once.
const TRACKED_INDEXES: i32 = 100_000;
/// Of so many pods at once all can be kept track of, however many indexes there are.
const TRACKED_PODS: i32 = 10_000;

/// Advice on a job's spec.
pub(in crate::kinds::batch) fn of_spec(spec: &JobSpec, path: &Path) -> Vec<String> {
    let completions = spec.completions.unwrap_or_default();
    let parallelism = spec.parallelism.unwrap_or_default();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let mut out = Vec::new();
    if indexed && completions > TRACKED_INDEXES && parallelism > TRACKED_PODS {
        out.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    out.extend(template_warnings(&spec.template, &path.child("template")));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn many_indexes_at_once_are_advised_against() {
        let told = |mode: &str, completions: Value, parallelism: Value| {
            let pods = json!({"nodeSelector": {"beta.kubernetes.io/os": ""}, "containers": []});
            let spec = json!({"completionMode": mode, "completions": completions,
                "parallelism": parallelism, "template": {"spec": pods}});
            let mut told = of_spec(&serde_json::from_value(spec).unwrap(), &Path::new("a"));
            let of_template = told.pop().unwrap();
            assert!(of_template.starts_with("a.template."), "{of_template}");
            told
        };
        assert_eq!(
            told("Indexed", 100_001.into(), 10_001.into()),
            [
                "a: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
            ]
        );
        for (mode, completions, parallelism) in [
            ("NonIndexed", 100_001.into(), 10_001.into()),
            ("Indexed", 100_000.into(), 10_001.into()),
            ("Indexed", 100_001.into(), 10_000.into()),
            ("Indexed", Value::Null, 10_001.into()),
            ("Indexed", 100_001.into(), Value::Null),
        ] {
            assert_eq!(told(mode, completions, parallelism), [""; 0]);
        }
    }
}
