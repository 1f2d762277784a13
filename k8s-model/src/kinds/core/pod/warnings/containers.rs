//! Advice on containers: their bytes, their variables, and annotations that name them.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{EnvVar, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::BYTES;
use crate::{
    field::Path,
    kinds::{
        checks::list,
        core::pod::{annotations, containers::all},
        quantities::fractions,
    },
};

pub(super) fn containers(spec: &PodSpec, meta: &ObjectMeta, path: &Path, out: &mut Vec<String>) {
    for (name, index, container) in all(spec) {
        out.extend(annotations::of_container_out_of_use(
            &container, spec, meta, path,
        ));
        let place = || path.child("spec").child(name).index(index);
        if let Some(resources) = &container.resources {
            for bytes in BYTES {
                for (amounts, name) in [
                    (&resources.limits, "limits"),
                    (&resources.requests, "requests"),
                ] {
                    if let Some(amounts) = amounts
                        .as_ref()
                        .filter(|amounts| amounts.contains_key(bytes))
                    {
                        let path = place().child("resources").child(name);
                        fractions(Some(amounts), &[bytes], &path, out);
                    }
                }
            }
        }
        environment(list(&container.env), || place().child("env"), out);
    }
}

/// A variable may stand again if it is made of what it was before, and of more.
fn environment(variables: &[EnvVar], path: impl Fn() -> Path, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, EnvVar { name, value, .. }) in variables.iter().enumerate() {
        if seen.insert(name.as_str()) {
            continue;
        }
        let (value, before) = (value.as_deref().unwrap_or_default(), format!("$({name})"));
        if value == before || !value.contains(&before) {
            out.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                path().index(index),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::told;

    #[test]
    fn parts_of_bytes_are_told_kind_by_kind() {
        let half = json!({"memory": "500m", "ephemeral-storage": "1500m"});
        let spec =
            json!({"containers": [{"name": "c", "resources": {"limits": half, "requests": half}}]});
        let found = told(spec, Value::Null);
        let places: Vec<&str> = found
            .iter()
            .map(|text| text.split(": ").next().unwrap())
            .collect();
        let at = "t.spec.containers[0].resources";
        assert_eq!(
            places,
            [
                format!("{at}.limits[memory]"),
                format!("{at}.requests[memory]"),
                format!("{at}.limits[ephemeral-storage]"),
                format!("{at}.requests[ephemeral-storage]"),
            ]
        );
    }

    #[test]
    fn a_variable_that_hides_another_is_told() {
        let variables = |values: &[&str]| {
            let all: Vec<Value> = values
                .iter()
                .map(|value| json!({"name": "A", "value": value}))
                .collect();
            told(
                json!({"containers": [{"name": "c", "env": all}]}),
                Value::Null,
            )
        };
        assert_eq!(variables(&["1", "$(A):2"]), [""; 0]);
        for hiding in ["2", "$(A)", "$(B)"] {
            assert_eq!(
                variables(&["1", hiding]),
                [
                    r#"t.spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#
                ]
            );
        }
    }
}
