//! The rules of StatefulSets.

use std::borrow::Cow;

use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
    core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume},
};

use super::workload::{default_template, not_decremented, replica_counts, selector_and_template};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            at_most_100_percent, dns_label, fill, int_or_percent, int_or_percent_value,
            int_or_string, json, non_negative, same, slot, slot_mut, supported, text,
        },
        core::{persistent_volume_claim, pod::template_warnings},
        typed::KindRules,
    },
};

/// The rules of StatefulSets.
pub(crate) struct StatefulSetRules;

impl KindRules for StatefulSetRules {
    type Kind = StatefulSet;

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
        set.status = Some(StatefulSetStatus {
            available_replicas: Some(0),
            ..StatefulSetStatus::default()
        });
    }

    fn validate(&self, set: &StatefulSet) -> ErrorList {
        let spec: Option<&StatefulSetSpec> = slot(&set.spec);
        let empty = StatefulSetSpec::default();
        validate_spec(spec.unwrap_or(&empty), &Path::new("spec"))
    }

    fn prepare_for_update(&self, new: &mut StatefulSet, old: &StatefulSet) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &StatefulSet, old: &StatefulSet) -> ErrorList {
        let mut errors = self.validate(new);
        let specs: (Option<&StatefulSetSpec>, Option<&StatefulSetSpec>) =
            (slot(&new.spec), slot(&old.spec));
        let (Some(new), Some(old)) = specs else {
            return errors;
        };
        let mut copy = new.clone();
        copy.replicas = old.replicas;
        copy.template = old.template.clone();
        copy.update_strategy.clone_from(&old.update_strategy);
        copy.min_ready_seconds = old.min_ready_seconds;
        copy.ordinals.clone_from(&old.ordinals);
        copy.revision_history_limit = old.revision_history_limit;
        copy.persistent_volume_claim_retention_policy
            .clone_from(&old.persistent_volume_claim_retention_policy);
        if !same(&copy, old) {
            errors.push(field::forbidden(
                Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                 'template', 'updateStrategy', 'revisionHistoryLimit', \
                 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ));
        }
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
                ("readyReplicas", new.ready_replicas),
                ("currentReplicas", new.current_replicas),
                ("updatedReplicas", new.updated_replicas),
                ("availableReplicas", new.available_replicas),
            ],
            &path,
        );
        errors.extend(non_negative(
            new.observed_generation.unwrap_or_default(),
            path.child("observedGeneration"),
        ));
        errors.extend(non_negative(
            new.collision_count.unwrap_or_default(),
            path.child("collisionCount"),
        ));
        errors.extend(not_decremented(
            new.collision_count,
            old.collision_count,
            path.child("collisionCount"),
        ));
        errors
    }

    fn warnings(&self, set: &StatefulSet) -> Vec<String> {
        let path = Path::new("spec").child("template");
        let spec: Option<&StatefulSetSpec> = slot(&set.spec);
        spec.map(|spec| template_warnings(&spec.template, &path))
            .unwrap_or_default()
    }
}

fn validate_spec(spec: &StatefulSetSpec, path: &Path) -> ErrorList {
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
    errors.extend(selector_and_template(
        &spec.selector,
        &with_claims(spec),
        "StatefulSet",
        path,
    ));
    errors
}

/// The template as pods will have it: with a volume for each claim.
fn with_claims(spec: &StatefulSetSpec) -> Cow<'_, PodTemplateSpec> {
    let Some(claims) = &spec.volume_claim_templates else {
        return Cow::Borrowed(&spec.template);
    };
    let mut template = spec.template.clone();
    let pod = template.spec.get_or_insert_default();
    let volumes = pod.volumes.get_or_insert_default();
    for claim in claims {
        let name = text(&claim.metadata.name);
        let free = volumes.iter().all(|volume| volume.name != name);
        if free && dns_label(name, Path::default()).is_empty() {
            volumes.push(Volume {
                name: name.to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: name.to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            });
        }
    }
    Cow::Owned(template)
}

fn update_strategy(spec: &StatefulSetSpec, path: &Path) -> ErrorList {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let at = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("", _) => vec![field::required(path.clone(), "")],
        ("OnDelete", Some(rolling)) => vec![field::invalid(
            at,
            json(rolling),
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
        _ => vec![field::invalid(
            path.clone(),
            json(&strategy),
            "must be 'RollingUpdate' or 'OnDelete'",
        )],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_may_mount_the_claims() {
        let set = |mount: &str| -> StatefulSet {
            let mut set = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {
                "selector": {"matchLabels": {"a": "b"}}, "serviceName": "s",
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                    {"name": "c", "image": "x:1", "volumeMounts": [{"name": mount, "mountPath": "/d"}]}]}},
            }}))
            .unwrap();
            StatefulSetRules.default(&mut set);
            set
        };
        assert_eq!(StatefulSetRules.validate(&set("data")), []);
        assert_eq!(
            StatefulSetRules.validate(&set("other"))[0].to_string(),
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""
        );
    }
}
