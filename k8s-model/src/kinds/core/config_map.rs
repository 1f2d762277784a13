//! The rules of ConfigMaps.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::messages,
        core::secret::{MAX_SIZE, frozen},
        typed::KindRules,
    },
    names,
};

/// The rules of ConfigMaps.
pub(crate) struct ConfigMapRules;

impl KindRules for ConfigMapRules {
    type Kind = ConfigMap;

    fn validate(&self, map: &ConfigMap) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut size = 0;
        let data = Path::new("data");
        for (key, value) in map.data.iter().flatten() {
            errors.extend(messages(
                &data.key(key),
                key.as_str(),
                names::config_map_key(key),
            ));
            if map
                .binary_data
                .as_ref()
                .is_some_and(|binary| binary.contains_key(key))
            {
                errors.push(field::invalid(
                    data.key(key),
                    key.as_str(),
                    "duplicate of key present in binaryData",
                ));
            }
            size += value.len();
        }
        for (key, value) in map.binary_data.iter().flatten() {
            let path = Path::new("binaryData").key(key);
            errors.extend(messages(&path, key.as_str(), names::config_map_key(key)));
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.push(field::too_long(Path::default().key(""), MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap) -> ErrorList {
        let mut errors = frozen(
            (new.immutable, old.immutable),
            &[
                (
                    "data",
                    new.data.as_ref().filter(|data| !data.is_empty())
                        == old.data.as_ref().filter(|data| !data.is_empty()),
                ),
                (
                    "binaryData",
                    new.binary_data.as_ref().filter(|data| !data.is_empty())
                        == old.binary_data.as_ref().filter(|data| !data.is_empty()),
                ),
            ],
        );
        errors.extend(self.validate(new));
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: serde_json::Value) -> ConfigMap {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_immutable_map_keeps_its_data() {
        let old = map(json!({"metadata": {}, "data": {"a": "1"}, "immutable": true}));
        let new = map(json!({"metadata": {}, "data": {"a": "2"}}));
        let errors: Vec<_> = ConfigMapRules
            .validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }

    #[test]
    fn keys_are_file_names() {
        let errors = ConfigMapRules.validate(&map(json!({"metadata": {}, "data": {"a/b": ""}})));
        assert!(
            errors[0].to_string().starts_with(
                "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of"
            ),
            "{}",
            errors[0]
        );
    }
}
