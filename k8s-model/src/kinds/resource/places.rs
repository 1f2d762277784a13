//! On which nodes devices can be used.

use k8s_openapi::api::{
    core::v1::NodeSelector,
    resource::v1::{Device, ResourceSliceSpec},
};
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_subdomain, json},
        core::pod::node_selector,
    },
};

const TRUE_OR_UNSET: &str = "must be either unset or set to true";

/// What says on which nodes, and what is wrong with that.
#[derive(Default)]
struct Said {
    by: Vec<&'static str>,
    out: ErrorList,
}

impl Said {
    /// By the name of the only node; `empty` is what is wrong with a name without letters.
    fn by_name(&mut self, name: Option<&String>, empty: &str, path: &Path) {
        let at = path.child("nodeName");
        match name.map(String::as_str) {
            None => {}
            Some("") => self.out.push(field::invalid(at, "", empty)),
            Some(name) => {
                self.by.push("`nodeName`");
                self.out.extend(dns_subdomain(name, at));
            }
        }
    }

    fn by_selector(&mut self, selector: Option<&NodeSelector>, path: &Path) {
        if let Some(selector) = selector {
            self.by.push("`nodeSelector`");
            self.out.extend(node_selector(selector, false, &path.child("nodeSelector")));
        }
    }

    /// By a field that is set, or is not there.
    fn by_flag(&mut self, flag: Option<bool>, (name, shown): (&str, &'static str), path: &Path) {
        match flag {
            Some(true) => self.by.push(shown),
            Some(false) => self.out.push(field::invalid(path.child(name), false, TRUE_OR_UNSET)),
            None => {}
        }
    }

    /// All that is wrong, if one field must say it.
    fn exactly_one(mut self, none: &str, several: &str, path: &Path) -> ErrorList {
        match self.by.len() {
            0 => self.out.push(field::required(path.clone(), none)),
            1 => {}
            _ => {
                let value = format!("{{{}}}", self.by.join(", "));
                self.out.push(field::invalid(path.clone(), value, several));
            }
        }
        self.out
    }
}

/// What is wrong with what a slice says for all its devices.
pub(super) fn of_slice(spec: &ResourceSliceSpec, path: &Path) -> ErrorList {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut said = Said::default();
    let empty = "must be either unset or set to a non-empty string";
    said.by_name(spec.node_name.as_ref(), empty, path);
    said.by_selector(spec.node_selector.as_ref(), path);
    if let Some(selector) = &spec.node_selector
        && selector.node_selector_terms.len() != 1
    {
        // Those of several slices are put together where devices are allocated.
        let at = path.child("nodeSelector").child("nodeSelectorTerms");
        let text = "must have exactly one node selector term";
        let terms = json(&selector.node_selector_terms);
        said.out.push(field::invalid(at, terms, text));
    }
    said.by_flag(spec.all_nodes, ("allNodes", "`allNodes`"), path);
    let per_device = ("perDeviceNodeSelection", "`perDeviceNodeSelection`");
    said.by_flag(spec.per_device_node_selection, per_device, path);
    said.exactly_one(ONE, &format!("{ONE}, but multiple fields are set"), path)
}

/// What is wrong with what a device says for itself: where each has to, exactly one thing, and elsewhere nothing.
pub(super) fn of_device(device: &Device, per_device: bool, path: &Path) -> ErrorList {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    const NONE: &str = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !per_device {
        let is_said = device.node_name.is_some()
            || device.node_selector.is_some()
            || device.all_nodes.is_some();
        return match is_said {
            true => vec![field::invalid(path.clone(), Value::Null, NONE)],
            false => ErrorList::new(),
        };
    }
    let mut said = Said::default();
    said.by_name(device.node_name.as_ref(), "must not be empty", path);
    said.by_selector(device.node_selector.as_ref(), path);
    said.by_flag(device.all_nodes, ("allNodes", "`allNodes`"), path);
    said.exactly_one(ONE, ONE, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(found: ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slice_says_in_one_way_where_its_devices_are() {
        let found = |fields: Value| {
            let mut spec = json!({"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}});
            spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let spec: ResourceSliceSpec = serde_json::from_value(spec).unwrap();
            told(of_slice(&spec, &Path::new("spec")))
        };
        let terms = |count: usize| {
            let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
            json!({"nodeSelector": {"nodeSelectorTerms": vec![term; count]}})
        };
        for good in [
            json!({"nodeName": "n.example.com"}),
            terms(1),
            json!({"allNodes": true}),
            json!({"perDeviceNodeSelection": true}),
        ] {
            assert_eq!(found(good), [""; 0]);
        }
        let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        let required = format!("spec: Required value: {one}");
        assert_eq!(found(json!({}))[..], [required.as_str()]);
        for (field, value, text) in [
            ("allNodes", json!(false), "spec.allNodes: Invalid value: false: must be either unset or set to true"),
            ("perDeviceNodeSelection", json!(false), "spec.perDeviceNodeSelection: Invalid value: false: must be either unset or set to true"),
            ("nodeName", json!(""), r#"spec.nodeName: Invalid value: "": must be either unset or set to a non-empty string"#),
        ] {
            assert_eq!(found(json!({field: value})), [text.to_owned(), required.clone()]);
        }
        assert_eq!(
            found(json!({"nodeName": "n", "allNodes": true})),
            [format!(r#"spec: Invalid value: "{{`nodeName`, `allNodes`}}": {one}, but multiple fields are set"#)]
        );
        assert!(found(json!({"nodeName": "N"}))[0].starts_with(r#"spec.nodeName: Invalid value: "N": a lowercase"#));
        let at = "spec.nodeSelector.nodeSelectorTerms";
        assert_eq!(
            found(terms(0)),
            [
                format!("{at}: Required value: must have at least one node selector term"),
                format!("{at}: Invalid value: []: must have exactly one node selector term"),
            ]
        );
        let found = found(terms(2));
        assert!(found.len() == 1 && found[0].ends_with("must have exactly one node selector term"), "{found:?}");
    }

    #[test]
    fn a_device_says_where_it_is_if_its_slice_does_not() {
        let found = |fields: Value, per_device: bool| {
            let mut device = json!({"name": "d"});
            device.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let device: Device = serde_json::from_value(device).unwrap();
            told(of_device(&device, per_device, &Path::new("d")))
        };
        assert_eq!(found(json!({}), false), [""; 0]);
        assert_eq!(found(json!({"nodeName": "n"}), true), [""; 0]);
        assert_eq!(
            found(json!({"allNodes": false}), false),
            [r#"d: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"#]
        );
        let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        assert_eq!(
            found(json!({"nodeName": "", "allNodes": false}), true),
            [
                r#"d.nodeName: Invalid value: "": must not be empty"#.to_owned(),
                "d.allNodes: Invalid value: false: must be either unset or set to true".to_owned(),
                format!("d: Required value: {one}"),
            ]
        );
        assert_eq!(
            found(json!({"nodeName": "n", "allNodes": true}), true),
            [format!(r#"d: Invalid value: "{{`nodeName`, `allNodes`}}": {one}"#)]
        );
    }
}
