//! Taints of devices, and what claims tolerate of them.

use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{fill, messages, one_of, one_of_or_empty, qualified_name, text},
    names,
};

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// What is wrong with a taint. An effect that it had `before` stays.
pub(super) fn taint(taint: &DeviceTaint, before: Option<&str>, path: &Path) -> ErrorList {
    let mut out = qualified_name(&taint.key, path.child("key"));
    out.extend(label_value(text(&taint.value), &path.child("value")));
    if before != Some(&taint.effect) {
        out.extend(one_of(&taint.effect, &EFFECTS, path.child("effect")));
    }
    out
}

fn label_value(value: &str, path: &Path) -> ErrorList {
    messages(path, value, names::label_value(value))
}

/// What is wrong with tolerations.
pub(super) fn tolerations(all: &[DeviceToleration], path: &Path) -> ErrorList {
    let each = all.iter().enumerate();
    each.flat_map(|(index, one)| toleration(one, &path.index(index)))
        .collect()
}

fn toleration(toleration: &DeviceToleration, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let (key, value) = (text(&toleration.key), text(&toleration.value));
    if !key.is_empty() {
        out.extend(qualified_name(key, path.child("key")));
    }
    match text(&toleration.operator) {
        "Exists" if !value.is_empty() => {
            let text = "must be empty for operator `Exists`";
            out.push(field::invalid(path.child("value"), value, text));
        }
        "Exists" => {}
        "Equal" => out.extend(label_value(value, &path.child("value"))),
        other => out.extend(one_of(other, &["Equal", "Exists"], path.child("operator"))),
    }
    let effect = text(&toleration.effect);
    out.extend(one_of_or_empty(effect, &EFFECTS, path.child("effect")));
    out
}

/// Fills in how a taint's value is compared.
pub(super) fn default_tolerations(all: &mut Option<Vec<DeviceToleration>>) {
    for toleration in all.iter_mut().flatten() {
        fill(&mut toleration.operator, "Equal");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(found: ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_toleration_says_of_which_taints_it_is() {
        let found = |one: Value| {
            let all: Vec<DeviceToleration> = serde_json::from_value(json!([one])).unwrap();
            told(tolerations(&all, &Path::new("t")))
        };
        for good in [
            json!({"operator": "Exists"}),
            json!({"operator": "Equal", "key": "a.b/c", "value": "d", "effect": "None"}),
        ] {
            assert_eq!(found(good), [""; 0]);
        }
        for (bad, begins) in [
            (json!({}), "t[0].operator: Required value"),
            (json!({"operator": "In"}), r#"t[0].operator: Unsupported value: "In": supported values: "Equal", "Exists""#),
            (json!({"operator": "Exists", "key": "a b"}), r#"t[0].key: Invalid value: "a b": name part must consist"#),
            (json!({"operator": "Equal", "value": "a b"}), r#"t[0].value: Invalid value: "a b": a valid label must be"#),
            (
                json!({"operator": "Exists", "effect": "PreferNoSchedule"}),
                r#"t[0].effect: Unsupported value: "PreferNoSchedule": supported values: "NoExecute", "NoSchedule", "None""#,
            ),
        ] {
            let found = found(bad);
            assert!(found.len() == 1 && found[0].starts_with(begins), "{found:?}");
        }
    }
}
