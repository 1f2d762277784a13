//! The rules of VolumeAttributesClasses.

use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{qualified_name, same},
        typed::KindRules,
    },
};

/// Upstream's bounds on parameters: how many, and how many bytes in all.
const PARAMETERS: usize = 512;
const PARAMETERS_SIZE: usize = 256 * 1024;

/// The rules of VolumeAttributesClasses.
pub(crate) struct VolumeAttributesClassRules;

impl KindRules for VolumeAttributesClassRules {
    type Kind = VolumeAttributesClass;

    fn validate(&self, class: &VolumeAttributesClass) -> ErrorList {
        let mut out = ErrorList::new();
        let path = Path::new("driverName");
        match class.driver_name.is_empty() {
            true => out.push(field::required(path, "")),
            false => out.extend(qualified_name(&class.driver_name.to_lowercase(), path)),
        }
        let path = Path::new("parameters");
        let parameters = class.parameters.iter().flatten();
        let (count, size) = parameters.fold((0, 0), |(count, size), (key, value)| {
            (count + 1, size + key.len() + value.len())
        });
        if count > PARAMETERS {
            out.push(field::too_long(path, PARAMETERS));
            return out;
        }
        let keys = class.parameters.iter().flat_map(|all| all.keys());
        if keys.into_iter().any(String::is_empty) {
            let text = "field can not be empty.";
            out.push(field::invalid(path.clone(), "", text));
        }
        if size > PARAMETERS_SIZE {
            out.push(field::too_long(path.clone(), PARAMETERS_SIZE));
        }
        if count == 0 {
            let text = "must contain at least one key/value pair";
            out.push(field::required(path, text));
        }
        out
    }

    fn validate_update(
        &self,
        new: &VolumeAttributesClass,
        old: &VolumeAttributesClass,
    ) -> ErrorList {
        let forbidden = |name: &str| {
            let text = format!("updates to {name} are forbidden.");
            field::forbidden(Path::new(name), text)
        };
        let mut out = ErrorList::new();
        if new.driver_name != old.driver_name {
            out.push(forbidden("driverName"));
        }
        if !same(&new.parameters, &old.parameters) {
            out.push(forbidden("parameters"));
        }
        out.extend(self.validate(new));
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(driver: &str, parameters: Value) -> VolumeAttributesClass {
        let class = json!({"metadata": {}, "driverName": driver, "parameters": parameters});
        serde_json::from_value(class).unwrap()
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_changes_comes_before_what_is_wrong_with_it() {
        let (old, new) = (class("d", json!({"a": "b"})), class("", json!({"": "b"})));
        assert_eq!(
            texts(VolumeAttributesClassRules.validate_update(&new, &old)),
            [
                "driverName: Forbidden: updates to driverName are forbidden.",
                "parameters: Forbidden: updates to parameters are forbidden.",
                "driverName: Required value",
                r#"parameters: Invalid value: "": field can not be empty."#,
            ]
        );
        assert_eq!(VolumeAttributesClassRules.validate_update(&old, &old), []);
    }

    #[test]
    fn parameters_are_there_and_not_too_many() {
        let found =
            |parameters| texts(VolumeAttributesClassRules.validate(&class("d", parameters)));
        assert_eq!(
            found(json!({})),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
        let many: Value = (0..=PARAMETERS)
            .map(|n| (n.to_string(), json!("")))
            .collect();
        assert_eq!(found(many).len(), 1);
    }
}
