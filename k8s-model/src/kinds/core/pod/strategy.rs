//! The rules of pods.

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodStatus},
    jiff::Timestamp,
};

use super::{
    alpha, annotations, conditions, defaults, label_keys, parts, resources, status, update,
    validation, warnings,
};
use crate::{
    field::ErrorList,
    kinds::{
        checks::{list, same, text},
        typed::KindRules,
    },
    metadata,
};

/// The rules of pods.
pub(crate) struct PodRules;

impl KindRules for PodRules {
    type Kind = Pod;

    const GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ];

    fn default(&self, pod: &mut Pod) {
        defaults::pod(pod);
    }

    fn spec_changed(&self, new: &Pod, old: &Pod) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, pod: &mut Pod) {
        alpha::prepare_pod(pod, None);
        if let Some(spec) = &mut pod.spec {
            defaults::service_account_names(spec);
        }
        let mut status = PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(resources::qos_class(pod).to_owned()),
            ..PodStatus::default()
        };
        let gated = pod
            .spec
            .as_ref()
            .is_some_and(|spec| !list(&spec.scheduling_gates).is_empty());
        if gated {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "False".to_owned(),
                reason: Some("SchedulingGated".to_owned()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
                ..PodCondition::default()
            }]);
        }
        // A creation is tried again with the same pod where somebody else was quicker.
        let again = pod.status.as_ref() == Some(&status);
        pod.status = Some(status);
        label_keys::merge(pod, again);
        annotations::apply_app_armor(pod);
    }

    /// Since when a new pod waits for its gates.
    fn stamp(&self, _subresource: &str, new: &mut Pod, old: Option<&Pod>, now: Timestamp) {
        if old.is_some() {
            return;
        }
        let conditions = new.status.as_mut().and_then(|s| s.conditions.as_mut());
        for condition in conditions.into_iter().flatten() {
            condition.last_transition_time = Some(metadata::to_second(now));
        }
    }

    fn validate(&self, pod: &Pod) -> ErrorList {
        validation::create(pod)
    }

    fn prepare_for_update(&self, new: &mut Pod, old: &Pod) {
        alpha::prepare_pod(new, Some(old));
        if let Some(spec) = &mut new.spec {
            defaults::service_account_names(spec);
        }
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Pod, old: &Pod) -> ErrorList {
        update::update(new, old)
    }

    fn prepare_for_status_update(&self, new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        new.metadata
            .deletion_timestamp
            .clone_from(&old.metadata.deletion_timestamp);
        new.metadata
            .owner_references
            .clone_from(&old.metadata.owner_references);
        status::keep(
            new.status.get_or_insert_default(),
            old.status.as_ref().unwrap_or(&PodStatus::default()),
        );
    }

    fn validate_status_update(&self, new: &Pod, old: &Pod) -> ErrorList {
        status::validate_update(new, old)
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Pod, old: &Pod) {
        match subresource {
            // The part has been taken over, and nothing else.
            "ephemeralcontainers" | "resize" => alpha::prepare_pod(new, Some(old)),
            _ => self.prepare_for_status_update(new, old),
        }
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Pod, old: &Pod) -> ErrorList {
        match subresource {
            "ephemeralcontainers" => parts::ephemeral_containers(new, old),
            "resize" => parts::resize(new, old),
            _ => self.validate_status_update(new, old),
        }
    }

    fn early_warnings(&self, pod: &Pod) -> Vec<String> {
        annotations::app_armor_advice(pod)
    }

    fn warnings(&self, pod: &Pod) -> Vec<String> {
        warnings::pod_warnings(pod)
    }

    /// None: it is rarely people who change pods, and agents do so often.
    fn update_warnings(&self, _new: &Pod, _old: &Pod) -> Vec<String> {
        Vec::new()
    }

    fn status_warnings(&self, new: &Pod, _old: &Pod) -> Vec<String> {
        let status = new.status.as_ref();
        status.map(warnings::status_warnings).unwrap_or_default()
    }

    fn grace_period(&self, pod: &Pod, requested: Option<i64>) -> Option<i64> {
        let spec = pod.spec.as_ref();
        if spec.is_none_or(|spec| text(&spec.node_name).is_empty()) || conditions::is_terminal(pod)
        {
            return Some(0);
        }
        let own = || spec.and_then(|spec| spec.termination_grace_period_seconds);
        let period = requested.or_else(own).unwrap_or(0);
        Some(if period < 0 { 1 } else { period })
    }

    fn selectable(&self, pod: &Pod) -> Vec<String> {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let of_spec = |pick: fn(&k8s_openapi::api::core::v1::PodSpec) -> &Option<String>| {
            spec.map_or("", |spec| text(pick(spec))).to_owned()
        };
        let of_status = |pick: fn(&PodStatus) -> &Option<String>| {
            status.map_or("", |s| text(pick(s))).to_owned()
        };
        let ip = status
            .and_then(|status| list(&status.pod_ips).first())
            .map(|ip| ip.ip.clone())
            .unwrap_or_default();
        vec![
            of_spec(|spec| &spec.node_name),
            of_spec(|spec| &spec.restart_policy),
            of_spec(|spec| &spec.scheduler_name),
            of_spec(|spec| &spec.service_account_name),
            spec.and_then(|spec| spec.host_network)
                .unwrap_or_default()
                .to_string(),
            of_status(|status| &status.phase),
            ip,
            of_status(|status| &status.nominated_node_name),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_new_pod_is_pending_whatever_it_says() {
        let mut pod = pod(json!({"metadata": {}, "spec": {"containers": []},
            "status": {"phase": "Running"}}));
        PodRules.prepare_for_create(&mut pod);
        assert_eq!(
            serde_json::to_value(&pod.status).unwrap(),
            json!({"phase": "Pending", "qosClass": "BestEffort"})
        );
    }

    #[test]
    fn a_new_pod_waits_for_its_gates_from_now_on() {
        let gates = json!([{"name": "a.io/b"}]);
        let mut pod = pod(json!({"spec": {"containers": [], "schedulingGates": gates}}));
        PodRules.prepare_for_create(&mut pod);
        let now = Timestamp::from_second(60).unwrap();
        PodRules.stamp("", &mut pod, None, now);
        let since = |pod: &Pod| {
            let status = serde_json::to_value(&pod.status).unwrap();
            status["conditions"][0]["lastTransitionTime"].clone()
        };
        assert_eq!(since(&pod), "1970-01-01T00:01:00Z");
        let old = pod.clone();
        PodRules.stamp("", &mut pod, Some(&old), Timestamp::UNIX_EPOCH);
        assert_eq!(since(&pod), "1970-01-01T00:01:00Z");
    }

    #[test]
    fn a_creation_that_is_tried_again_has_the_same_outcome() {
        let labels = json!({"labels": {"a": "1"}});
        let spread = json!({"maxSkew": 1, "topologyKey": "t", "whenUnsatisfiable": "DoNotSchedule",
            "matchLabelKeys": ["a"], "labelSelector": {}});
        let mut pod = pod(json!({"metadata": labels,
            "spec": {"containers": [], "topologySpreadConstraints": [spread]}}));
        PodRules.prepare_for_create(&mut pod);
        let once = pod.clone();
        let spread = once
            .spec
            .as_ref()
            .unwrap()
            .topology_spread_constraints
            .clone();
        assert_eq!(
            serde_json::to_value(spread).unwrap()[0]["labelSelector"],
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]})
        );
        PodRules.prepare_for_create(&mut pod);
        assert_eq!(pod, once);
    }

    #[test]
    fn a_new_pods_name_should_be_a_label() {
        let named =
            |name: &str| pod(json!({"metadata": {"name": name}, "spec": {"containers": []}}));
        assert_eq!(PodRules.warnings(&named("a-b")), [""; 0]);
        let told = PodRules.warnings(&named("a.b"));
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: ["),
            "{told:?}"
        );
        assert_eq!(
            PodRules.update_warnings(&named("a.b"), &named("a.b")),
            [""; 0]
        );
    }

    #[test]
    fn grace_is_for_pods_that_run() {
        let grace = |node: &str, phase: &str, requested| {
            let pod = pod(json!({"metadata": {},
                "spec": {"nodeName": node, "containers": [], "terminationGracePeriodSeconds": 7},
                "status": {"phase": phase}}));
            PodRules.grace_period(&pod, requested)
        };
        assert_eq!(grace("n", "Running", None), Some(7));
        assert_eq!(grace("n", "Running", Some(3)), Some(3));
        assert_eq!(grace("n", "Running", Some(-1)), Some(1));
        assert_eq!(grace("", "Pending", None), Some(0));
        assert_eq!(grace("n", "Succeeded", Some(3)), Some(0));
    }
}
