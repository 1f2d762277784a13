//! Objects for the tests of decision cores.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};

pub(crate) fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

pub(crate) struct PodBuilder(Pod);

pub(crate) fn pod(namespace: &str, name: &str) -> PodBuilder {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(format!("uid-{name}"));
    pod.metadata.creation_timestamp = Some(time("2026-01-01T00:00:00Z"));
    PodBuilder(pod)
}

impl PodBuilder {
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.0.metadata.name = Some(name.to_owned());
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn on(mut self, node: &str) -> Self {
        self.0.spec.get_or_insert_default().node_name = Some(node.to_owned());
        self
    }

    pub(crate) fn ip(mut self, ip: &str) -> Self {
        let status = self.0.status.get_or_insert_default();
        status.pod_ip = Some(ip.to_owned());
        status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP {
            ip: ip.to_owned(),
        }]);
        self
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.0.status.get_or_insert_default().phase = Some(phase.to_owned());
        self
    }

    pub(crate) fn ready(mut self, since: &str) -> Self {
        let status = self.0.status.get_or_insert_default();
        status.phase = Some("Running".to_owned());
        status.conditions = Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(time(since)),
            ..Default::default()
        }]);
        self
    }

    pub(crate) fn restarts(mut self, count: i32) -> Self {
        self.0.status.get_or_insert_default().container_statuses = Some(vec![ContainerStatus {
            restart_count: count,
            ..Default::default()
        }]);
        self
    }

    pub(crate) fn controlled_by(mut self, uid: &str) -> Self {
        self.0.metadata.owner_references = Some(vec![OwnerReference {
            uid: uid.to_owned(),
            controller: Some(true),
            ..Default::default()
        }]);
        self
    }

    pub(crate) fn deleting(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(time("2026-01-01T01:00:00Z"));
        self
    }

    pub(crate) fn build(self) -> Pod {
        self.0
    }
}
