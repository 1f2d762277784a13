//! What pods and templates cannot say: fields of features that are off in Kubernetes 1.37, which stay where they were set,
//! and annotations that fields have replaced.

use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    k8s_if_ge_1_37, k8s_if_le_1_36,
};

/// Annotations in which init containers were before they had fields.
const REPLACED: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// Drops from a template what it cannot say, unless the stored one says it.
pub(crate) fn prepare_template(new: &mut PodTemplateSpec, old: Option<&PodTemplateSpec>) {
    if let Some(metadata) = &mut new.metadata {
        drop_replaced(metadata);
    }
    if let Some(spec) = &mut new.spec {
        drop_unused(spec, old.and_then(|old| old.spec.as_ref()));
    }
}

/// Drops from a pod what it cannot say, unless the stored one says it.
pub(super) fn prepare_pod(new: &mut Pod, old: Option<&Pod>) {
    drop_replaced(&mut new.metadata);
    if let Some(spec) = &mut new.spec {
        drop_unused(spec, old.and_then(|old| old.spec.as_ref()));
    }
}

fn drop_replaced(metadata: &mut ObjectMeta) {
    let Some(annotations) = &mut metadata.annotations else {
        return;
    };
    let mut dropped = false;
    for key in REPLACED {
        dropped |= annotations.remove(key).is_some();
    }
    if dropped && annotations.is_empty() {
        metadata.annotations = None;
    }
}

k8s_if_le_1_36! {
    use k8s_openapi::api::core::v1::PodSpec;

    fn drop_unused(_new: &mut PodSpec, _old: Option<&PodSpec>) {}
}

k8s_if_ge_1_37! {
    use k8s_openapi::api::core::v1::{
        HTTPGetAction, KeyToPath, Lifecycle, PodSpec, Probe, ProjectedVolumeSource, Volume, VolumeMount,
    };

    /// Fields that stand and fall together.
    #[derive(Clone, Copy)]
    #[repr(u8)]
    enum Feature {
        /// Pods that are scheduled with others (GenericWorkload).
        SchedulingGroup = 1,
        EvictionResponders = 1 << 1,
        EmptyDirMode = 1 << 2,
        BindMountOptions = 1 << 3,
        /// ContainerStopSignals (KEP-4960).
        StopSignal = 1 << 4,
        HttpProtocol = 1 << 5,
        GrpcMode = 1 << 6,
        /// Whose the files in a volume are.
        FileUser = 1 << 7,
    }

    fn drop_unused(new: &mut PodSpec, old: Option<&PodSpec>) {
        let found = walk(new, 0);
        if found == 0 {
            return;
        }
        // Seldom: somebody sets what nearly nobody can. So the stored spec may well be copied to look at it.
        let kept = old.map_or(0, |old| walk(&mut old.clone(), 0));
        walk(new, found & !kept);
    }

    /// Drops the fields of features that are off, and says of which it found fields.
    fn walk(spec: &mut PodSpec, off: u8) -> u8 {
        let mut walk = Walk { off, found: 0 };
        walk.see(Feature::SchedulingGroup, &mut spec.scheduling_group);
        walk.see(Feature::EvictionResponders, &mut spec.eviction_responders);
        for volume in spec.volumes.iter_mut().flatten() {
            walk.volume(volume);
        }
        for container in super::containers::all_mut(spec) {
            let probes = [
                &mut container.liveness_probe,
                &mut container.readiness_probe,
                &mut container.startup_probe,
            ];
            walk.container(&mut container.volume_mounts, &mut container.lifecycle, probes);
        }
        for container in spec.ephemeral_containers.iter_mut().flatten() {
            let probes = [
                &mut container.liveness_probe,
                &mut container.readiness_probe,
                &mut container.startup_probe,
            ];
            walk.container(&mut container.volume_mounts, &mut container.lifecycle, probes);
        }
        walk.found
    }

    /// Features, as sums: those whose fields are dropped, and those of which fields were found.
    struct Walk {
        off: u8,
        found: u8,
    }

    impl Walk {
        fn see<T>(&mut self, feature: Feature, value: &mut Option<T>) {
            if value.is_none() {
                return;
            }
            self.found |= feature as u8;
            if self.off & feature as u8 != 0 {
                *value = None;
            }
        }

        fn container(
            &mut self,
            mounts: &mut Option<Vec<VolumeMount>>,
            lifecycle: &mut Option<Lifecycle>,
            probes: [&mut Option<Probe>; 3],
        ) {
            for mount in mounts.iter_mut().flatten() {
                self.see(Feature::BindMountOptions, &mut mount.bind_mount_options);
            }
            for probe in probes.into_iter().flatten() {
                self.http(&mut probe.http_get);
                if let Some(grpc) = &mut probe.grpc {
                    self.see(Feature::GrpcMode, &mut grpc.mode);
                }
            }
            if let Some(hooks) = lifecycle {
                let had_signal = hooks.stop_signal.is_some();
                self.see(Feature::StopSignal, &mut hooks.stop_signal);
                for hook in [&mut hooks.post_start, &mut hooks.pre_stop].into_iter().flatten() {
                    self.http(&mut hook.http_get);
                }
                if had_signal && *hooks == Lifecycle::default() {
                    *lifecycle = None;
                }
            }
        }

        fn http(&mut self, action: &mut Option<HTTPGetAction>) {
            if let Some(action) = action {
                self.see(Feature::HttpProtocol, &mut action.protocol);
            }
        }

        fn volume(&mut self, volume: &mut Volume) {
            if let Some(source) = &mut volume.empty_dir {
                self.see(Feature::EmptyDirMode, &mut source.mode);
            }
            if let Some(source) = &mut volume.secret {
                self.see(Feature::FileUser, &mut source.default_user);
                self.keys(&mut source.items);
            }
            if let Some(source) = &mut volume.config_map {
                self.see(Feature::FileUser, &mut source.default_user);
                self.keys(&mut source.items);
            }
            if let Some(source) = &mut volume.downward_api {
                self.see(Feature::FileUser, &mut source.default_user);
                for file in source.items.iter_mut().flatten() {
                    self.see(Feature::FileUser, &mut file.user);
                }
            }
            if let Some(source) = &mut volume.projected {
                self.projected(source);
            }
        }

        fn projected(&mut self, volume: &mut ProjectedVolumeSource) {
            self.see(Feature::FileUser, &mut volume.default_user);
            for source in volume.sources.iter_mut().flatten() {
                if let Some(source) = &mut source.secret {
                    self.keys(&mut source.items);
                }
                if let Some(source) = &mut source.config_map {
                    self.keys(&mut source.items);
                }
                let files = source.downward_api.iter_mut().filter_map(|source| source.items.as_mut());
                for file in files.flatten() {
                    self.see(Feature::FileUser, &mut file.user);
                }
                if let Some(token) = &mut source.service_account_token {
                    self.see(Feature::FileUser, &mut token.user);
                }
                if let Some(bundle) = &mut source.cluster_trust_bundle {
                    self.see(Feature::FileUser, &mut bundle.user);
                }
                if let Some(certificate) = &mut source.pod_certificate {
                    self.see(Feature::FileUser, &mut certificate.user);
                }
            }
        }

        fn keys(&mut self, items: &mut Option<Vec<KeyToPath>>) {
            for item in items.iter_mut().flatten() {
                self.see(Feature::FileUser, &mut item.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::{
        apps::{
            daemon_set::DaemonSetRules, deployment::DeploymentRules, replica_set::ReplicaSetRules,
            stateful_set::StatefulSetRules,
        },
        batch::{cron_job::CronJobRules, job::JobRules},
        core::{
            pod::PodRules, pod_template::PodTemplateRules,
            replication_controller::ReplicationControllerRules,
        },
        typed::KindRules,
    };

    fn container(alpha: bool) -> Value {
        let set = |value: Value| if alpha { value } else { Value::Null };
        let http = json!({"port": 1, "protocol": set(json!("HTTP2"))});
        json!({"name": "c",
            "volumeMounts": [{"name": "v", "mountPath": "/v", "bindMountOptions": set(json!(["noexec"]))}],
            "livenessProbe": {"httpGet": http}, "readinessProbe": {"grpc": {"port": 1, "mode": set(json!("TLS"))}},
            "startupProbe": {"httpGet": http},
            "lifecycle": {"postStart": {"httpGet": http}, "preStop": {"httpGet": http},
                "stopSignal": set(json!("SIGUSR1"))}})
    }

    /// A spec with all that the features have, or the same without it.
    fn spec(alpha: bool) -> Value {
        let set = |value: Value| if alpha { value } else { Value::Null };
        let keys = json!([{"key": "k", "path": "p", "user": set(json!(1))}]);
        let files = json!([{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}, "user": set(json!(1))}]);
        let signal = set(json!({"stopSignal": "SIGUSR1"}));
        json!({
            "schedulingGroup": set(json!({"podGroupName": "g"})),
            "evictionResponders": set(json!([{"name": "example.com/r", "priority": 1}])),
            "containers": [container(alpha), {"name": "d", "lifecycle": signal}],
            "initContainers": [container(alpha)],
            "ephemeralContainers": [container(alpha)],
            "volumes": [
                {"name": "a", "emptyDir": {"mode": set(json!(448))}},
                {"name": "b", "secret": {"defaultUser": set(json!(1)), "items": keys}},
                {"name": "c", "configMap": {"name": "m", "defaultUser": set(json!(1)), "items": keys}},
                {"name": "d", "downwardAPI": {"defaultUser": set(json!(1)), "items": files}},
                {"name": "e", "projected": {"defaultUser": set(json!(1)), "sources": [
                    {"secret": {"name": "s", "items": keys}}, {"configMap": {"name": "m", "items": keys}},
                    {"downwardAPI": {"items": files}}, {"serviceAccountToken": {"path": "t", "user": set(json!(1))}},
                    {"clusterTrustBundle": {"path": "b", "user": set(json!(1))}},
                    {"podCertificate": {"signerName": "s", "keyType": "k", "user": set(json!(1))}},
                ]}},
            ],
        })
    }

    fn template(spec: Value) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn fields_of_features_that_are_off_are_dropped() {
        let (full, plain) = (template(spec(true)), template(spec(false)));
        for old in [None, Some(&plain)] {
            let mut new = full.clone();
            prepare_template(&mut new, old);
            assert_eq!(new, plain);
        }
        let mut new = full.clone();
        prepare_template(&mut new, Some(&full));
        assert_eq!(new, full);
    }

    #[test]
    fn what_the_stored_spec_uses_anywhere_stays() {
        let full = template(spec(true));
        let old = template(json!({"containers": [],
            "initContainers": [{"name": "o", "lifecycle": {"stopSignal": "SIGINT"}}]}));
        let mut new = full.clone();
        prepare_template(&mut new, Some(&old));
        let mut expected = spec(false);
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            expected[list][0]["lifecycle"]["stopSignal"] = json!("SIGUSR1");
        }
        expected["containers"][1]["lifecycle"] = json!({"stopSignal": "SIGUSR1"});
        assert_eq!(new, template(expected));
    }

    #[test]
    fn annotations_that_fields_replaced_are_dropped() {
        let annotated = |more: Value| {
            let mut all: std::collections::BTreeMap<String, Value> =
                REPLACED.map(|key| (key.to_owned(), json!("[]"))).into();
            all.extend(more.as_object().unwrap().clone());
            serde_json::from_value(json!({"metadata": {"annotations": all}})).unwrap()
        };
        let mut new: PodTemplateSpec = annotated(json!({}));
        let old = new.clone();
        prepare_template(&mut new, Some(&old));
        assert_eq!(new.metadata.unwrap().annotations, None);
        let mut new: PodTemplateSpec = annotated(json!({"a": "b"}));
        prepare_template(&mut new, None);
        assert_eq!(json!(new.metadata.unwrap().annotations), json!({"a": "b"}));
    }

    #[test]
    fn pods_are_prepared_when_they_are_made_and_changed() {
        let pod = |alpha| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"annotations": {REPLACED[0]: "[]"}}, "spec": spec(alpha)}),
            )
            .unwrap()
        };
        let mut plain = pod(false);
        plain.metadata.annotations = None;
        let mut new = pod(true);
        PodRules.prepare_for_create(&mut new);
        assert_eq!(
            (new.spec, new.metadata),
            (plain.spec.clone(), plain.metadata.clone())
        );
        let mut new = pod(true);
        PodRules.prepare_for_update(&mut new, &plain);
        assert_eq!(new, plain);
        for subresource in ["ephemeralcontainers", "resize"] {
            let mut new = pod(true);
            PodRules.prepare_for_subresource_update(subresource, &mut new, &plain);
            assert_eq!(new, plain);
        }
    }

    /// That a kind drops a signal from its template, and keeps it where it was.
    fn check<R>(rules: R, around: fn(Value) -> Value)
    where
        R: KindRules,
        R::Kind: serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = |lifecycle: Value| -> R::Kind {
            let template = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "lifecycle": lifecycle}]}});
            serde_json::from_value(around(template)).unwrap()
        };
        let full = || object(json!({"stopSignal": "SIGUSR1"}));
        let has_signal = |object: &R::Kind| json!(object).to_string().contains("SIGUSR1");
        let mut new = full();
        rules.prepare_for_create(&mut new);
        assert!(!has_signal(&new));
        let mut new = full();
        rules.prepare_for_update(&mut new, &object(Value::Null));
        assert!(!has_signal(&new));
        let mut new = full();
        rules.prepare_for_update(&mut new, &full());
        assert!(has_signal(&new));
    }

    #[test]
    fn pod_templates_are_prepared_in_every_kind_that_has_them() {
        let selected = |template| {
            json!({"metadata": {"name": "a", "uid": "u"},
                "spec": {"selector": {}, "serviceName": "s", "template": template}})
        };
        check(DaemonSetRules, selected);
        check(DeploymentRules, selected);
        check(ReplicaSetRules, selected);
        check(StatefulSetRules, selected);
        check(JobRules, selected);
        check(ReplicationControllerRules, selected);
        check(
            PodTemplateRules,
            |template| json!({"metadata": {}, "template": template}),
        );
        check(
            CronJobRules,
            |template| json!({"metadata": {}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}}),
        );
    }
}
