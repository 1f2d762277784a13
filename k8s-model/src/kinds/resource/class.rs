//! DeviceClasses.

use k8s_openapi::api::resource::v1::{DeviceClass, DeviceClassSpec};

use super::{
    config::{CONFIGS, configuration},
    lists::each,
    names,
    selectors::selectors,
};
use crate::{
    field::{ErrorList, Path},
    kinds::{
        checks::{list, same, slot},
        typed::KindRules,
    },
};

/// The rules of DeviceClasses.
pub(crate) struct DeviceClassRules;

impl KindRules for DeviceClassRules {
    type Kind = DeviceClass;

    const GENERATION: bool = true;

    fn spec_changed(&self, new: &DeviceClass, old: &DeviceClass) -> bool {
        new.spec != old.spec
    }

    fn validate(&self, class: &DeviceClass) -> ErrorList {
        spec(class, None)
    }

    fn validate_update(&self, new: &DeviceClass, old: &DeviceClass) -> ErrorList {
        spec(new, Some(old))
    }
}

fn spec(class: &DeviceClass, old: Option<&DeviceClass>) -> ErrorList {
    let new: Option<&DeviceClassSpec> = slot(&class.spec);
    let Some(new) = new else {
        return ErrorList::new();
    };
    let old: Option<&DeviceClassSpec> = old.and_then(|old| slot(&old.spec));
    let path = Path::new("spec");
    let stored = old.is_some_and(|old| same(&new.selectors, &old.selectors));
    let mut out = selectors(list(&new.selectors), stored, &path.child("selectors"));
    let stored = old.is_some_and(|old| same(&new.config, &old.config));
    out.extend(each(list(&new.config), CONFIGS, &path.child("config"), |config, path| {
        configuration(config.opaque.as_ref(), stored, path)
    }));
    let before = old.and_then(|old| old.extended_resource_name.as_ref());
    if let Some(name) = &new.extended_resource_name
        && Some(name) != before
    {
        out.extend(names::extended_resource(name, &path.child("extendedResourceName")));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(spec: Value) -> DeviceClass {
        serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": spec})).unwrap()
    }

    fn told(found: &ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_class_configures_drivers_by_objects() {
        let found = |config: Value| told(&DeviceClassRules.validate(&class(json!({"config": config}))));
        let opaque = |driver: &str, parameters: Value| json!({"opaque": {"driver": driver, "parameters": parameters}});
        assert_eq!(found(json!([opaque("Gpu.example.com", json!({"a": 1}))])), [""; 0]);
        let long = json!({"a": "x".repeat(10 << 10)});
        let any_case = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and \
            end with an alphanumeric character (e.g. 'Example.com', regex used for validation is \
            '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        for (config, text) in [
            (json!({}), "spec.config[0].opaque: Required value".to_owned()),
            (opaque("", json!({})), "spec.config[0].opaque.driver: Required value".to_owned()),
            (
                opaque("a_b", json!({})),
                format!(r#"spec.config[0].opaque.driver: Invalid value: "a_b": {any_case}"#),
            ),
            (
                opaque(&"a".repeat(64), json!({})),
                "spec.config[0].opaque.driver: Too long: may not be more than 63 characters".to_owned(),
            ),
            (opaque("a", Value::Null), "spec.config[0].opaque.parameters: Required value".to_owned()),
            (
                opaque("a", json!([1])),
                r#"spec.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object"#.to_owned(),
            ),
            (
                opaque("a", long.clone()),
                "spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes".to_owned(),
            ),
        ] {
            assert_eq!(found(json!([config])), [text]);
        }
        let many = vec![opaque("a", json!({})); CONFIGS + 1];
        assert_eq!(
            found(json!(many)),
            ["spec.config: Too many: 33: must have at most 32 items"]
        );
        // What is there stays as long as it is.
        let old = class(json!({"config": [opaque("a", long)]}));
        assert_eq!(DeviceClassRules.validate_update(&old, &old), []);
    }

    #[test]
    fn a_class_may_stand_for_an_extended_resource() {
        let named = |name: &str| class(json!({"extendedResourceName": name}));
        let at = "spec.extendedResourceName: Invalid value: ";
        for (name, texts) in [
            ("example.com/gpu", vec![]),
            ("gpu", vec![r#""gpu": a name must be a domain-prefixed path, such as 'example.com/my-prop'"#]),
            ("kubernetes.io/gpu", vec![r#""kubernetes.io/gpu": must not have "kubernetes.io/" domain"#]),
            ("requests.a.b/gpu", vec![r#""requests.a.b/gpu": must not have "requests." prefix"#]),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| format!("{at}{text}")).collect();
            assert_eq!(told(&DeviceClassRules.validate(&named(name))), texts);
        }
        assert_eq!(DeviceClassRules.validate(&named("a b/c")).len(), 1);
        assert_eq!(DeviceClassRules.validate_update(&named("gpu"), &named("gpu")), []);
    }

    #[test]
    fn selectors_that_are_there_are_not_looked_at_again() {
        let old = class(json!({"selectors": [{"cel": {"expression": "1"}}]}));
        let mut new = old.clone();
        new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(DeviceClassRules.validate_update(&new, &old), []);
        assert_eq!(DeviceClassRules.validate(&new).len(), 1);
        let more = class(json!({"selectors": [{"cel": {"expression": "1"}}, {"cel": {"expression": "true"}}]}));
        assert_eq!(DeviceClassRules.validate_update(&more, &old).len(), 1);
    }
}
