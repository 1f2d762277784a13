//! What upstream declares of fields, next to what it looks at by hand: see KEP-5073.

use serde::Serialize;
use serde_json::Value;

use super::checks::{IMMUTABLE, same};
use crate::field::{self, ErrorList, Path};

/// A field of which something is declared. Of one that is as it was, nothing is found.
pub(crate) struct Declared<'a, T> {
    new: &'a T,
    old: Option<&'a T>,
    path: Path,
    found: ErrorList,
}

impl<'a, T: PartialEq + Serialize> Declared<'a, T> {
    /// A field, and what it is in the object whose place is taken.
    pub(crate) fn of(new: &'a T, old: Option<&'a T>, path: Path) -> Self {
        Declared {
            new,
            old,
            path,
            found: ErrorList::new(),
        }
    }

    /// It must be set.
    pub(crate) fn required(mut self, is_unset: impl FnOnce(&T) -> bool) -> Self {
        if is_unset(self.new) {
            self.found.push(field::required(self.path.clone(), ""));
        }
        self
    }

    /// It stays as it is.
    pub(crate) fn immutable(mut self) -> Self {
        if self.old.is_some_and(|old| !same(self.new, old)) {
            let error = field::invalid(self.path.clone(), Value::Null, IMMUTABLE);
            self.found.push(error);
        }
        self
    }

    /// Looks further at one of which nothing was found.
    pub(crate) fn then(mut self, check: impl FnOnce(&'a T, Path) -> ErrorList) -> ErrorList {
        if self.found.is_empty() {
            self.found = check(self.new, self.path.clone());
        }
        self.found()
    }

    /// What was found.
    pub(crate) fn found(self) -> ErrorList {
        // Compared only where it matters: objects can be large.
        if self.found.is_empty() || self.old.is_some_and(|old| same(self.new, old)) {
            return ErrorList::new();
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ResourceTable;

    /// What is told of an object, new or in the place of another.
    fn told(kind: (&str, &str), new: &Value, old: Option<&Value>) -> Vec<String> {
        let table = ResourceTable::builtin();
        let row = table.resource(kind.0, "v1", kind.1).unwrap();
        let read = |fields: &Value| {
            let mut object = json!({"metadata": {"name": "a"}});
            json_patch::merge(&mut object, fields);
            (row.codec.from_value)(object, &mut |_| {}).unwrap()
        };
        let found = match old {
            Some(old) => row.strategy.validate_update(&*read(new), &*read(old)),
            None => row.strategy.validate(&*read(new)),
        };
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_declared_comes_last_and_says_no_more_than_it_must() {
        let slices = ("discovery.k8s.io", "endpointslices");
        let endpoints = json!([{"addresses": []}, {"addresses": vec!["10.0.0.1"; 101]}]);
        let ports = json!([{"name": "A", "protocol": "TCP"}]);
        let slice = json!({"addressType": "IPv5", "endpoints": endpoints, "ports": ports});
        let found = told(slices, &slice, None);
        assert!(found[0].starts_with("ports[0].name: Invalid value: "));
        assert_eq!(
            found[1..],
            [
                r#"addressType: Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6""#,
                "endpoints[0].addresses: Required value",
                "endpoints[1].addresses: Too many: 101: must have at most 100 items",
            ]
        );
        let (four, none) = (json!({"addressType": "IPv4"}), json!({"addressType": ""}));
        assert_eq!(
            told(slices, &none, Some(&four)),
            [
                "addressType: Required value",
                "addressType: Invalid value: null: field is immutable",
            ]
        );

        let block = json!({"from": [{"ipBlock": {"cidr": "", "except": []}}]});
        let policy = json!({"spec": {"podSelector": {}, "ingress": [block], "policyTypes": ["x"]}});
        let found = told(("networking.k8s.io", "networkpolicies"), &policy, None);
        assert!(found[0].starts_with("spec.policyTypes[0]: Unsupported value: "));
        let cidr = "spec.ingress[0].from[0].ipBlock.cidr: Required value";
        assert_eq!(found[1..], [cidr]);

        let classes = ("networking.k8s.io", "ingressclasses");
        let parameters = json!({"kind": "", "name": "", "scope": "x"});
        let class = json!({"spec": {"controller": "a/b", "parameters": parameters}});
        let found = told(classes, &class, None);
        assert!(found[0].starts_with("spec.parameters.scope: Unsupported value: "));
        assert_eq!(
            found[1..],
            [
                "spec.parameters.kind: Required value",
                "spec.parameters.name: Required value",
            ]
        );

        let rules = json!({"rules": [{"verbs": [], "apiGroups": [""]}]});
        let expected = [
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "rules[0].verbs: Required value",
        ];
        for kind in ["roles", "clusterroles"] {
            let kind = ("rbac.authorization.k8s.io", kind);
            assert_eq!(told(kind, &rules, None), expected);
        }
        let role = json!({"kind": "ClusterRole", "apiGroup": "x", "name": ""});
        let binding = json!({"roleRef": role, "subjects": [{"kind": "User", "name": ""}]});
        for kind in ["rolebindings", "clusterrolebindings"] {
            let found = told(("rbac.authorization.k8s.io", kind), &binding, None);
            assert!(found[0].starts_with("roleRef.apiGroup: Unsupported value: "));
            assert!(found[1].starts_with("subjects[0].apiGroup: Unsupported value: "));
            assert_eq!(
                found[2..],
                [
                    "subjects[0].name: Required value",
                    "roleRef.name: Required value",
                ]
            );
        }

        let attachment = |attacher: &str| json!({"spec": {"attacher": attacher, "nodeName": "N", "source": {"persistentVolumeName": "v"}}});
        let attachments = ("storage.k8s.io", "volumeattachments");
        let of_node = |found: &[String]| found[0].starts_with("spec.nodeName: Invalid value: ");
        let found = told(attachments, &attachment(""), None);
        assert!(of_node(&found) && found[1..] == ["spec.attacher: Required value"]);
        let found = told(attachments, &attachment(&"A".repeat(64)), None);
        let long = "spec.attacher: Too long: may not be more than 63 characters";
        assert!(of_node(&found) && found[1..] == [long]);
        let found = told(attachments, &attachment("-"), None);
        let begin = r#"spec.attacher: Invalid value: "-": an RFC 1123 subdomain must consist of "#;
        assert!(found[1].starts_with(begin), "{found:?}");

        let bindings = (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings",
        );
        let params =
            json!({"spec": {"paramRef": {"name": "a"}, "policyName": "", "validationActions": []}});
        let found = told(bindings, &params, None);
        assert!(found[0].starts_with("spec.paramRef.parameterNotFoundAction: "));
        assert_eq!(
            found[1..],
            [
                "spec.policyName: Required value",
                "spec.validationActions: Required value",
            ]
        );

        let autoscaler = |most: i32| json!({"spec": {"scaleTargetRef": {"apiVersion": "a/b", "kind": "", "name": "a"}, "minReplicas": 2, "maxReplicas": most}});
        let autoscalers = ("autoscaling", "horizontalpodautoscalers");
        let of_target = "spec.scaleTargetRef.kind: Required value";
        let fewer = |most: i32| {
            format!(
                "spec.maxReplicas: Invalid value: {most}: must be greater than or equal to `minReplicas`"
            )
        };
        assert_eq!(
            told(autoscalers, &autoscaler(0), None),
            [&fewer(0), of_target, "spec.maxReplicas: Required value"]
        );
        let negative = "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1";
        assert_eq!(
            told(autoscalers, &autoscaler(-1), None),
            [&fewer(-1), of_target, negative]
        );

        let counts =
            json!({"spec": {"replicas": -1, "minReadySeconds": -2, "selector": {"a": "b"}}});
        assert_eq!(
            told(("", "replicationcontrollers"), &counts, None),
            [
                "spec.template: Required value",
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0",
            ]
        );

        let template = json!({"spec": {"template": {"spec": {"containers": []}}}});
        let cron_job = json!({"spec": {"schedule": "", "jobTemplate": template}});
        let found = told(("batch", "cronjobs"), &cron_job, None);
        assert!(found.len() > 1);
        assert_eq!(found[found.len() - 1], "spec.schedule: Required value");
    }

    #[test]
    fn what_stays_as_it_is_is_not_shown() {
        let null = |path: &str| format!("{path}: Invalid value: null: field is immutable");
        let classes = ("node.k8s.io", "runtimeclasses");
        let class = |handler: &str| json!({"handler": handler});
        let changed = told(classes, &class("b"), Some(&class("a")));
        assert_eq!(changed, [null("handler")]);
        assert_eq!(told(classes, &class("a"), Some(&class("a"))), [""; 0]);
        let removed = told(classes, &class(""), Some(&class("a")));
        assert_eq!(removed, [&null("handler"), "handler: Required value"]);
        let found = told(classes, &class(""), None);
        assert_eq!(found, ["handler: Required value"]);

        let addresses = ("networking.k8s.io", "ipaddresses");
        let address = |name: &str| json!({"spec": {"parentRef": {"resource": "services", "namespace": "n/", "name": name}}});
        let found = told(addresses, &address(""), None);
        assert!(found[0].starts_with("spec.parentRef.namespace: Invalid value: "));
        assert_eq!(found[1..], ["spec.parentRef.name: Required value"]);
        let found = told(addresses, &address("b"), Some(&address("a")));
        assert_eq!(found[1..], [null("spec.parentRef")]);
        let none = json!({"spec": {"parentRef": {"resource": "", "name": ""}}});
        let found = told(addresses, &none, Some(&address("a")));
        let parent = "spec.parentRef: Required value";
        assert_eq!(found, [parent, &null("spec.parentRef")]);

        let classes = ("storage.k8s.io", "storageclasses");
        let class = |provisioner: &str, policy: &str, mode: &str| json!({"provisioner": provisioner, "parameters": {"a": mode}, "reclaimPolicy": policy, "volumeBindingMode": mode});
        let (one, two) = (
            class("a", "Delete", "Immediate"),
            class("", "Retain", "WaitForFirstConsumer"),
        );
        assert_eq!(
            told(classes, &two, Some(&one)),
            [
                "provisioner: Required value".to_owned(),
                null("provisioner"),
                null("parameters"),
                null("reclaimPolicy"),
                null("volumeBindingMode"),
            ]
        );

        let attachment = |node: &str| json!({"spec": {"attacher": "a", "nodeName": node, "source": {"persistentVolumeName": "v"}}});
        let found = told(
            ("storage.k8s.io", "volumeattachments"),
            &attachment("b"),
            Some(&attachment("a")),
        );
        assert_eq!(found, [null("spec")]);
    }

    #[test]
    fn a_level_has_what_its_type_says() {
        let levels = (
            "flowcontrol.apiserver.k8s.io",
            "prioritylevelconfigurations",
        );
        let told = |spec: Value| told(levels, &json!({"spec": spec}), None);
        assert_eq!(told(json!({"type": ""})), ["spec.type: Required value"]);
        assert_eq!(
            told(json!({"type": "Limited", "exempt": {"lendablePercent": 101}})),
            ["spec.exempt: Forbidden", "spec.limited: Required value",]
        );
        let limited = |response: Value| json!({"type": "Limited", "limited": {"lendablePercent": 101, "limitResponse": response}});
        let percent = "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive";
        let at = "spec.limited.limitResponse";
        assert_eq!(
            told(limited(json!({"type": "Queue"}))),
            [percent, &format!("{at}.queuing: Required value")]
        );
        let queuing = json!({"queues": 1, "handSize": 1, "queueLengthLimit": 1});
        assert_eq!(
            told(limited(json!({"type": "Reject", "queuing": queuing}))),
            [percent, &format!("{at}.queuing: Forbidden")]
        );
        assert_eq!(
            told(limited(json!({"type": ""}))),
            [percent, &format!("{at}.type: Required value")]
        );
        // What is of no type that there is has neither.
        let found = told(
            json!({"type": "x", "exempt": {}, "limited": {"limitResponse": {"type": "Reject"}}}),
        );
        assert_eq!(
            found[1..],
            ["spec.exempt: Forbidden", "spec.limited: Forbidden"]
        );
    }
}
