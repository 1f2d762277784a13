//! Where a workload has its pods' template, and which changes of a pod matter.

use std::collections::BTreeMap;

use k8s_model::Object;
use k8s_openapi::api::{
    apps::v1::{
        DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec,
        StatefulSet, StatefulSetSpec,
    },
    batch::v1::{CronJob, CronJobSpec, Job, JobSpec},
    core::v1::{Pod, PodSpec, PodTemplate, PodTemplateSpec, ReplicationController},
};

use crate::compat::get;

type Annotations = BTreeMap<String, String>;

/// The annotations and the spec of the pods that the object makes, if it makes any.
pub(super) fn of(object: &dyn Object) -> Option<(Option<&Annotations>, &PodSpec)> {
    let template: &PodTemplateSpec = if let Some(o) = object.downcast_ref::<Deployment>() {
        &get::<DeploymentSpec>(&o.spec)?.template
    } else if let Some(o) = object.downcast_ref::<ReplicaSet>() {
        get::<ReplicaSetSpec>(&o.spec)?.template.as_ref()?
    } else if let Some(o) = object.downcast_ref::<StatefulSet>() {
        &get::<StatefulSetSpec>(&o.spec)?.template
    } else if let Some(o) = object.downcast_ref::<DaemonSet>() {
        &get::<DaemonSetSpec>(&o.spec)?.template
    } else if let Some(o) = object.downcast_ref::<Job>() {
        &get::<JobSpec>(&o.spec)?.template
    } else if let Some(o) = object.downcast_ref::<CronJob>() {
        &get::<CronJobSpec>(&o.spec)?
            .job_template
            .spec
            .as_ref()?
            .template
    } else if let Some(o) = object.downcast_ref::<ReplicationController>() {
        o.spec.as_ref()?.template.as_ref()?
    } else if let Some(o) = object.downcast_ref::<PodTemplate>() {
        o.template.as_ref()?
    } else {
        return None;
    };
    let meta = template.metadata.as_ref();
    let annotations = meta.and_then(|meta| meta.annotations.as_ref());
    Some((annotations, template.spec.as_ref()?))
}

/// Whether a change of a pod can make a difference: another image, or another container.
pub(super) fn is_significant(new: &Pod, old: &Pod) -> bool {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else {
        return true;
    };
    let images = |spec: &PodSpec| -> Vec<Option<String>> {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
            .map(|container| container.image.clone())
            .collect()
    };
    if new.containers.len() != old.containers.len() || images(new) != images(old) {
        return true;
    }
    new.ephemeral_containers.iter().flatten().any(|container| {
        let mut before = old.ephemeral_containers.iter().flatten();
        before
            .find(|old| old.name == container.name)
            .is_none_or(|old| old.image != container.image)
    })
}
