//! Fields that are optional in one API level and required in another.
//!
//! k8s-openapi took over upstream's changed markers with 1.37: `spec` of the workload kinds lost
//! its `Option`, their conditions' `type` and `status` gained one. These helpers read and write
//! both forms, so that the crate builds at every level that k8s-openapi supports.

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, StatefulSet, StatefulSetSpec,
};

/// A field as an `Option`, whichever it is.
pub(crate) fn get<'a, T: 'a>(field: impl Into<Option<&'a T>>) -> Option<&'a T> {
    field.into()
}

/// A string field, whichever it is; empty when unset.
pub(crate) fn text<'a>(field: impl Into<Option<&'a String>>) -> &'a str {
    field.into().map_or("", String::as_str)
}

/// What a Deployment asks for.
pub(crate) fn deployment_spec(deployment: &Deployment) -> Option<&DeploymentSpec> {
    get(&deployment.spec)
}

/// What a Deployment asks for, to change.
#[cfg(test)]
pub(crate) fn deployment_spec_mut(deployment: &mut Deployment) -> Option<&mut DeploymentSpec> {
    (&mut deployment.spec).into()
}

/// What a ReplicaSet asks for.
pub(crate) fn replica_set_spec(set: &ReplicaSet) -> Option<&ReplicaSetSpec> {
    get(&set.spec)
}

/// What a ReplicaSet asks for, to change.
pub(crate) fn replica_set_spec_mut(set: &mut ReplicaSet) -> Option<&mut ReplicaSetSpec> {
    (&mut set.spec).into()
}

/// What a StatefulSet asks for.
pub(crate) fn stateful_set_spec(set: &StatefulSet) -> Option<&StatefulSetSpec> {
    get(&set.spec)
}

/// A value in the form that the field has.
pub(crate) fn set<T, F: From<T>>(value: T) -> F {
    F::from(value)
}
