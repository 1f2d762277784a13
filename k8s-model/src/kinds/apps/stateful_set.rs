//! The rules of StatefulSets.

use std::{borrow::Cow, collections::HashSet};

use k8s_openapi::{
    api::{
        apps::v1::{
            RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus,
        },
        core::v1::{
            PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
            PodSpec, PodTemplateSpec, Volume,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::workload::{
    default_template, not_decremented, of_change, or_zero, replica_counts, selector_and_pods,
    selector_change, spelled_strategy,
};
use crate::{
    field::{self, ErrorList, Path},
    json::go_text,
    kinds::{
        checks::{
            IMMUTABLE, at_most_100_percent, dns_label, fill, int_or_percent, int_or_percent_value,
            int_or_string, list, non_negative, repeats, same, slot, slot_mut, supported, text,
        },
        core::{
            persistent_volume_claim,
            pod::{prepare_template, template_warnings},
        },
        difference::spelled_list,
        typed::KindRules,
    },
    names,
};

/// What of a spec is checked.
#[derive(Clone, Copy)]
struct Checks<'a> {
    /// What cannot change: an update does not ask for it.
    fixed: bool,
    /// The pods of the template.
    pods: bool,
    /// The template that there was: what it did may go on.
    old: Option<&'a PodTemplateSpec>,
}

impl<'a> Checks<'a> {
    const OF_NEW: Checks<'static> = Checks {
        fixed: true,
        pods: true,
        old: None,
    };

    /// A set whose spec was not right before may keep its pods as they are.
    fn of_update(old: &'a StatefulSetSpec, path: &Path) -> Checks<'a> {
        let checks = Checks {
            fixed: false,
            pods: true,
            old: Some(&old.template),
        };
        let pods = validate_spec(old, checks, path).is_empty();
        Checks { pods, ..checks }
    }
}

/// The rules of StatefulSets.
pub(crate) struct StatefulSetRules;

impl KindRules for StatefulSetRules {
    type Kind = StatefulSet;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;

    fn default(&self, set: &mut StatefulSet) {
        let Some(spec): Option<&mut StatefulSetSpec> = slot_mut(&mut set.spec) else {
            return;
        };
        fill(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if text(&strategy.type_).is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
            strategy.rolling_update.get_or_insert_default();
        }
        if text(&strategy.type_) == "RollingUpdate"
            && let Some(rolling) = &mut strategy.rolling_update
        {
            rolling.partition.get_or_insert(0);
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        }
        let retention = spec
            .persistent_volume_claim_retention_policy
            .get_or_insert_default();
        fill(&mut retention.when_deleted, "Retain");
        fill(&mut retention.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            persistent_volume_claim::default_spec(claim.spec.get_or_insert_default());
            fill(&mut claim.status.get_or_insert_default().phase, "Pending");
        }
        default_template(&mut spec.template);
    }

    fn spec_changed(&self, new: &StatefulSet, old: &StatefulSet) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, set: &mut StatefulSet) {
        prepare(set, None);
        set.status = Some(StatefulSetStatus {
            available_replicas: Some(0),
            ..StatefulSetStatus::default()
        });
    }

    fn validate(&self, set: &StatefulSet) -> ErrorList {
        let spec: Option<&StatefulSetSpec> = slot(&set.spec);
        let empty = StatefulSetSpec::default();
        let spec = spec.unwrap_or(&empty);
        validate_spec(spec, Checks::OF_NEW, &Path::new("spec"))
    }

    fn prepare_for_update(&self, new: &mut StatefulSet, old: &StatefulSet) {
        prepare(new, Some(old));
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &StatefulSet, old: &StatefulSet) -> ErrorList {
        let specs: (Option<&StatefulSetSpec>, Option<&StatefulSetSpec>) =
            (slot(&new.spec), slot(&old.spec));
        let (Some(new), Some(old)) = specs else {
            return self.validate(new);
        };
        let path = Path::new("spec");
        let mut errors = validate_spec(new, Checks::of_update(old, &path), &path);
        errors.extend(changes(new, old, &path));
        errors
    }

    fn prepare_for_status_update(&self, new: &mut StatefulSet, old: &StatefulSet) {
        new.spec = old.spec.clone();
    }

    fn validate_status_update(&self, new: &StatefulSet, old: &StatefulSet) -> ErrorList {
        let path = Path::new("status");
        let (new, old) = (
            new.status.clone().unwrap_or_default(),
            old.status.clone().unwrap_or_default(),
        );
        let mut errors = replica_counts(
            new.replicas,
            &[
                ("readyReplicas", or_zero(new.ready_replicas)),
                ("currentReplicas", or_zero(new.current_replicas)),
                ("updatedReplicas", or_zero(new.updated_replicas)),
                ("availableReplicas", or_zero(new.available_replicas)),
                ("observedGeneration", or_zero(new.observed_generation)),
                ("collisionCount", or_zero(new.collision_count)),
            ],
            &path,
        );
        errors.extend(not_decremented(
            new.collision_count,
            old.collision_count,
            path.child("collisionCount"),
        ));
        errors
    }

    fn warnings(&self, set: &StatefulSet) -> Vec<String> {
        let mut advice = template_advice(set);
        advice.extend(claim_advice(set, |template| template));
        advice.extend(history_advice(set));
        advice
    }

    fn update_warnings(&self, new: &StatefulSet, old: &StatefulSet) -> Vec<String> {
        let mut advice = of_change(new, old, template_advice);
        // Upstream tells this one by the name that the field has in Go.
        advice.extend(claim_advice(new, |template| template.child("Spec")));
        advice.extend(history_advice(new));
        advice
    }

    /// Its pods' host names begin with it.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }
}

fn template_advice(set: &StatefulSet) -> Vec<String> {
    let path = Path::new("spec").child("template");
    let spec: Option<&StatefulSetSpec> = slot(&set.spec);
    spec.map(|spec| template_warnings(&spec.template, &path))
        .unwrap_or_default()
}

/// Advice on the claims that are made for pods, each at a place in its template.
fn claim_advice(set: &StatefulSet, place: impl Fn(Path) -> Path) -> Vec<String> {
    let path = Path::new("spec").child("volumeClaimTemplates");
    let spec: Option<&StatefulSetSpec> = slot(&set.spec);
    let claims = spec.map_or(&[][..], |spec| list(&spec.volume_claim_templates));
    let claims = claims.iter().enumerate();
    let advice = claims.filter_map(|(index, claim)| {
        let place = place(path.index(index));
        let spec = claim.spec.as_ref()?;
        Some(persistent_volume_claim::spec_warnings(spec, &place))
    });
    advice.flatten().collect()
}

fn history_advice(set: &StatefulSet) -> Option<String> {
    let spec: Option<&StatefulSetSpec> = slot(&set.spec);
    let path = Path::new("spec").child("revisionHistoryLimit");
    let told = "a negative value retains all historical revisions; a value >= 0 is recommended";
    (spec?.revision_history_limit? < 0).then(|| format!("{path}: {told}"))
}

/// What changes that cannot.
fn changes(new: &StatefulSetSpec, old: &StatefulSetSpec, path: &Path) -> ErrorList {
    let mut errors = selector_change(&new.selector, &old.selector, path.child("selector"));
    let claims = [new, old].map(|spec| list(&spec.volume_claim_templates));
    if !same(&claims[0], &claims[1]) {
        let path = path.child("volumeClaimTemplates");
        let claims = new.volume_claim_templates.as_deref();
        let spelled = spelled_list("PersistentVolumeClaim", claims);
        errors.push(field::invalid_spelled(path, &spelled, IMMUTABLE));
    }
    let [service, was] = [new, old].map(|spec| {
        let name: Option<&String> = slot(&spec.service_name);
        name.map_or("", String::as_str)
    });
    if service != was {
        errors.push(field::invalid(
            path.child("serviceName"),
            service,
            IMMUTABLE,
        ));
    }
    let [policy, was] = [new, old].map(|spec| text(&spec.pod_management_policy));
    if policy != was {
        let path = path.child("podManagementPolicy");
        errors.push(field::invalid(path, policy, IMMUTABLE));
    }
    errors
}

/// Drops from the template what templates cannot say, unless the stored one says it.
fn prepare(new: &mut StatefulSet, old: Option<&StatefulSet>) {
    let new: Option<&mut StatefulSetSpec> = slot_mut(&mut new.spec);
    let old: Option<&StatefulSetSpec> = old.and_then(|old| slot(&old.spec));
    if let Some(new) = new {
        prepare_template(&mut new.template, old.map(|old| &old.template));
    }
}

fn validate_spec(spec: &StatefulSetSpec, checks: Checks<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let policy = text(&spec.pod_management_policy);
    let at = path.child("podManagementPolicy");
    match policy {
        "" => errors.push(field::required(at, "")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(field::invalid(
            at,
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    errors.extend(update_strategy(spec, &path.child("updateStrategy")));
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for (value, name) in [
            (&retention.when_deleted, "whenDeleted"),
            (&retention.when_scaled, "whenScaled"),
        ] {
            errors.extend(supported(
                text(value),
                &["Retain", "Delete"],
                path.child(name),
            ));
        }
    }
    if checks.fixed {
        let claims = list(&spec.volume_claim_templates);
        errors.extend(claim_templates(claims, &path.child("volumeClaimTemplates")));
    }
    errors.extend(non_negative(
        spec.replicas.unwrap_or_default(),
        path.child("replicas"),
    ));
    errors.extend(non_negative(
        spec.min_ready_seconds.unwrap_or_default(),
        path.child("minReadySeconds"),
    ));
    if let Some(ordinals) = &spec.ordinals {
        errors.extend(non_negative(
            ordinals.start.unwrap_or_default(),
            path.child("ordinals.start"),
        ));
    }
    let service: Option<&String> = slot(&spec.service_name);
    if let Some(service) = service.filter(|name| !name.is_empty())
        && checks.fixed
    {
        errors.extend(dns_label(service, path.child("serviceName")));
    }
    errors.extend(selector_and_pods(
        &spec.selector,
        &as_in_pods(spec),
        checks.old.into(),
        checks.pods,
        "StatefulSet",
        path,
    ));
    errors
}

fn claim_templates(claims: &[PersistentVolumeClaim], path: &Path) -> ErrorList {
    let empty = PersistentVolumeClaimSpec::default();
    let claims = claims.iter().enumerate();
    let found = claims.flat_map(|(index, claim)| {
        let spec = claim.spec.as_ref().unwrap_or(&empty);
        let stored = persistent_volume_claim::Stored::default();
        persistent_volume_claim::validate_spec(spec, stored, &path.index(index).child("spec"))
    });
    found.collect()
}

/// The template without what pods have from the set instead: the names of their hosts, which are not looked at, and the
/// volumes of its claims, which come first and take the place of those of the same name.
fn as_in_pods(spec: &StatefulSetSpec) -> Cow<'_, PodTemplateSpec> {
    let claims = list(&spec.volume_claim_templates);
    let named = |pod: &PodSpec| pod.hostname.is_some() || pod.subdomain.is_some();
    if claims.is_empty() && !spec.template.spec.as_ref().is_some_and(named) {
        return Cow::Borrowed(&spec.template);
    }
    let mut template = spec.template.clone();
    let pod = template.spec.get_or_insert_default();
    pod.hostname = None;
    pod.subdomain = None;
    if !claims.is_empty() {
        let names: Vec<&str> = (claims.iter())
            .map(|claim| text(&claim.metadata.name))
            .collect();
        let distinct = names.iter().zip(repeats(&names));
        let distinct = distinct.filter(|(_, repeats)| !repeats);
        let mut volumes: Vec<Volume> = distinct.map(|(name, _)| claimed(name)).collect();
        let names: HashSet<&str> = names.into_iter().collect();
        let own = pod.volumes.take().into_iter().flatten();
        volumes.extend(own.filter(|volume| !names.contains(volume.name.as_str())));
        pod.volumes = Some(volumes);
    }
    Cow::Owned(template)
}

/// The volume of a claim of that name.
fn claimed(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn update_strategy(spec: &StatefulSetSpec, path: &Path) -> ErrorList {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let at = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("", _) => vec![field::required(path.clone(), "")],
        ("OnDelete", Some(rolling)) => vec![field::invalid_spelled(
            at,
            &spelled(rolling),
            "only allowed for updateStrategy 'RollingUpdate'",
        )],
        ("OnDelete" | "RollingUpdate", None) => ErrorList::new(),
        ("RollingUpdate", Some(rolling)) => {
            let mut errors =
                non_negative(rolling.partition.unwrap_or_default(), at.child("partition"));
            if let Some(unavailable) = &rolling.max_unavailable {
                let at = at.child("maxUnavailable");
                errors.extend(int_or_percent(unavailable, at.clone()));
                if int_or_percent_value(unavailable) == 0 {
                    errors.push(field::invalid(
                        at.clone(),
                        int_or_string(unavailable),
                        "cannot be 0",
                    ));
                }
                errors.extend(at_most_100_percent(unavailable, at));
            }
            errors
        }
        (_, rolling) => vec![field::invalid_spelled(
            path.clone(),
            &spelled_strategy(&strategy.type_, rolling.as_ref().map(spelled)),
            "must be 'RollingUpdate' or 'OnDelete'",
        )],
    }
}

/// The numbers of a rolling update as upstream's internal type is told.
fn spelled(rolling: &RollingUpdateStatefulSetStrategy) -> String {
    let partition = rolling.partition.unwrap_or_default();
    let unavailable = rolling.max_unavailable.as_ref().map(int_or_string);
    let unavailable = go_text(&unavailable.unwrap_or_default());
    format!(r#"{{"Partition":{partition},"MaxUnavailable":{unavailable}}}"#)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::checks::json;

    fn set(patch: Value) -> StatefulSet {
        let mut value = json!({"metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "serviceName": "s",
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "c", "image": "x:1"}]}},
        }});
        json_patch::merge(&mut value, &json!({"spec": patch}));
        let mut set = serde_json::from_value(value).unwrap();
        StatefulSetRules.default(&mut set);
        set
    }

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn containers(image: &str, mount: &str) -> Value {
        let mounts = json!([{"name": mount, "mountPath": "/d"}]);
        json!({"spec": {"containers": [{"name": "c", "image": image, "volumeMounts": mounts}]}})
    }

    #[test]
    fn the_metadata_of_the_template_is_told_once_more() {
        let labels = json!({"a": "b", "c": "d e"});
        let annotations = json!({"controller.kubernetes.io/pod-deletion-cost": "x"});
        let meta = json!({"labels": labels, "annotations": annotations});
        let bad = set(json!({"template": {"metadata": meta}}));
        let fields = |errors: ErrorList| -> Vec<String> {
            let fields = errors.iter().map(|error| error.field.to_string());
            fields.collect()
        };
        let once = [
            "spec.template.labels",
            "spec.template.annotations[controller.kubernetes.io/pod-deletion-cost]",
        ];
        assert_eq!(
            fields(StatefulSetRules.validate(&bad)),
            [once, once].concat()
        );
        // Its pods are not looked at, as they were not right before.
        assert_eq!(
            fields(StatefulSetRules.validate_update(&bad, &bad)),
            ["spec.template.labels"]
        );
    }

    #[test]
    fn containers_may_mount_the_claims() {
        let found = |mount: &str| {
            let template = containers("x:1", mount);
            told(StatefulSetRules.validate(&set(json!({"template": template}))))
        };
        assert_eq!(found("data"), [""; 0]);
        assert_eq!(
            found("other"),
            ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]
        );
    }

    #[test]
    fn claims_and_the_history_are_advised_on_whatever_changes() {
        let claim = json!({"metadata": {"name": "d"}, "spec": {"resources": {"requests": {"storage": "100m"}}}});
        let pods = json!({"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}});
        let mut odd = set(json!({
            "volumeClaimTemplates": [claim], "revisionHistoryLimit": -1, "template": pods}));
        let label = "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead";
        let fraction = "fractional byte value \"100m\" is invalid, must be an integer";
        let before =
            format!("spec.volumeClaimTemplates[0].resources.requests[storage]: {fraction}");
        let after =
            format!("spec.volumeClaimTemplates[0].Spec.resources.requests[storage]: {fraction}");
        let history = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
        let rules = StatefulSetRules;
        assert_eq!(rules.warnings(&odd), [label, &before, history]);
        assert_eq!(rules.update_warnings(&odd, &odd), [&after, history]);
        let old = odd.clone();
        odd.metadata.generation = Some(1);
        assert_eq!(rules.update_warnings(&odd, &old), [label, &after, history]);
        assert_eq!(rules.warnings(&set(json!({}))), [""; 0]);
    }

    #[test]
    fn volumes_of_claims_come_first_and_stand_for_others() {
        let found = |claims: &[&str], volumes: Value| {
            let claim = |name: &&str| {
                json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}})
            };
            let claims: Vec<Value> = claims.iter().map(claim).collect();
            let template = json!({"spec": {"volumes": volumes}});
            let set = set(json!({"volumeClaimTemplates": claims, "template": template}));
            told(StatefulSetRules.validate(&set))
        };
        let no_source = json!([{"name": "a", "hostPath": {"path": ""}}]);
        let wrong = |index: usize| {
            format!("spec.template.spec.volumes[{index}].hostPath.path: Required value")
        };
        assert_eq!(found(&[], no_source.clone()), [wrong(0)]);
        assert_eq!(found(&["b", "c", "b"], no_source.clone()), [wrong(2)]);
        assert_eq!(found(&["b", "a"], no_source), [""; 0]);
        assert_eq!(
            found(&["b", ""], json!([])),
            [
                "spec.template.spec.volumes[1].persistentVolumeClaim.claimName: Required value",
                "spec.template.spec.volumes[1].name: Required value",
            ]
        );
        let bad = found(&["B"], json!([]));
        let begins =
            r#"spec.template.spec.volumes[0].name: Invalid value: "B": a lowercase RFC 1123 label"#;
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert!(bad[0].starts_with(begins), "{bad:?}");
    }

    #[test]
    fn names_of_hosts_are_not_the_templates() {
        let template = json!({"spec": {"hostname": "A.", "subdomain": "B."}});
        for claims in [json!([]), Value::Null] {
            let set = set(json!({"template": template, "volumeClaimTemplates": claims}));
            assert_eq!(told(StatefulSetRules.validate(&set)), [""; 0]);
        }
    }

    #[test]
    fn a_strategy_is_shown_with_all_its_fields() {
        let found = |strategy: Value| {
            told(StatefulSetRules.validate(&set(json!({"updateStrategy": strategy}))))
        };
        let known = "must be 'RollingUpdate' or 'OnDelete'";
        for (strategy, expected) in [
            (
                json!({"type": "X"}),
                format!(r#"spec.updateStrategy: Invalid value: {{"Type":"X","RollingUpdate":null}}: {known}"#),
            ),
            (
                json!({"type": "X", "rollingUpdate": {"partition": 2}}),
                format!(
                    r#"spec.updateStrategy: Invalid value: {{"Type":"X","RollingUpdate":{{"Partition":2,"MaxUnavailable":null}}}}: {known}"#
                ),
            ),
            (
                json!({"type": "OnDelete", "rollingUpdate": {"maxUnavailable": "5%"}}),
                r#"spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":0,"MaxUnavailable":"5%"}: only allowed for updateStrategy 'RollingUpdate'"#
                    .to_owned(),
            ),
        ] {
            assert_eq!(found(strategy), [expected]);
        }
    }

    #[test]
    fn one_pod_after_the_other_is_updated() {
        let strategy = |strategy: Value| {
            let set = set(json!({"updateStrategy": strategy}));
            json(&set)["spec"]["updateStrategy"].clone()
        };
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}});
        assert_eq!(strategy(Value::Null), rolling);
        assert_eq!(strategy(json!({"rollingUpdate": {}})), rolling);
        let all = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1, "maxUnavailable": "50%"}});
        assert_eq!(strategy(all.clone()), all);
        for left in ["OnDelete", "RollingUpdate"] {
            assert_eq!(strategy(json!({"type": left})), json!({"type": left}));
        }
    }

    #[test]
    fn a_name_begins_a_host_name() {
        assert_eq!(StatefulSetRules.validate_name("a-b", false), [""; 0]);
        assert_eq!(StatefulSetRules.validate_name("a.b", false).len(), 1);
    }

    #[test]
    fn what_cannot_change_is_checked_where_it_is_new() {
        let claims = |spec: Value| json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": spec}]});
        for (spec, found) in [
            (json!({"serviceName": null}), vec![]),
            (json!({"serviceName": ""}), vec![]),
            (
                json!({"serviceName": "a.b"}),
                vec!["spec.serviceName: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                claims(json!({})),
                vec![
                    "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
                    "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
                ],
            ),
        ] {
            let set = set(spec.clone());
            assert_eq!(told(StatefulSetRules.validate(&set)), found, "{spec}");
            let mut new = set.clone();
            StatefulSetRules.default(&mut new);
            assert_eq!(told(StatefulSetRules.validate_update(&new, &set)), [""; 0]);
        }
    }

    #[test]
    fn claims_are_told_as_upstreams_own_type() {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let claim = json!({"metadata": {"name": "d", "labels": {"a": "b"}}, "spec": spec});
        let new = set(json!({"volumeClaimTemplates": [claim]}));
        let found = told(StatefulSetRules.validate_update(&new, &set(json!({}))));
        let claim = r#"{"name":"d","labels":{"a":"b"},"Spec":{"AccessModes":["ReadWriteOnce"],"Selector":null,"Resources":{"Limits":null,"Requests":{"storage":"1Gi"}},"VolumeName":"","StorageClassName":null,"VolumeMode":"Filesystem","DataSource":null,"DataSourceRef":null,"VolumeAttributesClassName":null},"Status":{"Phase":"Pending","AccessModes":null,"Capacity":null,"Conditions":null,"AllocatedResources":null,"AllocatedResourceStatuses":null,"CurrentVolumeAttributesClassName":null,"ModifyVolumeStatus":null,"HealthStatus":null}}"#;
        let expected =
            format!("spec.volumeClaimTemplates: Invalid value: [{claim}]: field is immutable");
        assert!(found.contains(&expected), "{found:?}");
    }

    #[test]
    fn each_field_that_cannot_change_is_told() {
        let old = set(json!({}));
        let changed = |patch: Value| told(StatefulSetRules.validate_update(&set(patch), &old));
        assert_eq!(
            changed(
                json!({"replicas": 5, "minReadySeconds": 1, "ordinals": {"start": 1},
                "updateStrategy": {"type": "OnDelete"}, "revisionHistoryLimit": 1,
                "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}})
            ),
            [""; 0]
        );
        assert_eq!(
            changed(
                json!({"podManagementPolicy": "Parallel", "serviceName": null, "volumeClaimTemplates": null,
                "replicas": -1, "selector": {"matchLabels": {"a": null, "c": "d"}},
                "template": {"metadata": {"labels": {"c": "d"}}}})
            ),
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                r#"spec.selector: Invalid value: {"matchLabels":{"c":"d"}}: field is immutable"#,
                "spec.volumeClaimTemplates: Invalid value: null: field is immutable",
                r#"spec.serviceName: Invalid value: "": field is immutable"#,
                r#"spec.podManagementPolicy: Invalid value: "Parallel": field is immutable"#,
            ]
        );
        let none = set(json!({"volumeClaimTemplates": null}));
        let empty = set(json!({"volumeClaimTemplates": []}));
        assert_eq!(
            told(StatefulSetRules.validate_update(&empty, &none)),
            [""; 0]
        );
    }

    #[test]
    fn what_the_template_did_may_go_on() {
        let with = |replicas: i32, image: &str| {
            set(json!({"replicas": replicas, "template": {"spec": {
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "a", "operator": "In", "values": ["?"]}]}]}}},
                "containers": [{"name": "c", "image": image}]}}}))
        };
        assert_eq!(told(StatefulSetRules.validate(&with(1, "x:1"))).len(), 1);
        let changed =
            |new: &StatefulSet| told(StatefulSetRules.validate_update(new, &with(1, "x:1")));
        assert_eq!(changed(&with(2, "x:1")), [""; 0]);
        // It was right then: its pods are looked at.
        assert_eq!(
            changed(&with(2, "")),
            ["spec.template.spec.containers[0].image: Required value"]
        );
    }

    #[test]
    fn pods_that_were_not_right_before_may_stay() {
        let with = |replicas: i32, image: &str| {
            set(json!({"replicas": replicas, "template": containers(image, "data")}))
        };
        let refused = ["spec.template.spec.containers[0].image: Required value"];
        let changed =
            |new: &StatefulSet, old: &StatefulSet| told(StatefulSetRules.validate_update(new, old));
        assert_eq!(changed(&with(2, ""), &with(1, "")), [""; 0]);
        assert_eq!(changed(&with(2, ""), &with(2, "x:1")), refused);
        let other = set(json!({"template": {"metadata": {"labels": {"a": "c"}}}}));
        let errors = changed(&other, &with(1, ""));
        assert_eq!(
            errors,
            [
                r#"spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`"#
            ]
        );
    }
}
