//! Objects of every kind, in JSON and protobuf.

use std::sync::Arc;

use k8s_model::{Object, Resource, ResourceTable, decode, field::Path, metadata, protobuf};
use serde_json::Value;

/// What stands in objects.
pub(super) const WORDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "creationTimestamp",
    "2026-01-01T00:00:00Z",
    "100m",
    "1Gi",
    "50%",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "k8s.io/x",
];

macro_rules! wire {
    ($($name:literal),* $(,)?) => {
        &[$((
            include_str!(concat!("../../../k8s-model/tests/wire/", $name, ".json")),
            include_bytes!(concat!("../../../k8s-model/tests/wire/", $name, ".pb")),
        )),*]
    };
}

/// A choice of upstream's own encodings.
const GOLDEN: &[(&str, &[u8])] = wire![
    "admissionregistration.k8s.io.v1.MutatingAdmissionPolicy",
    "admissionregistration.k8s.io.v1.MutatingAdmissionPolicyBinding",
    "admissionregistration.k8s.io.v1.MutatingWebhookConfiguration",
    "admissionregistration.k8s.io.v1.ValidatingAdmissionPolicy",
    "admissionregistration.k8s.io.v1.ValidatingAdmissionPolicyBinding",
    "apps.v1.ControllerRevision",
    "apps.v1.DaemonSet",
    "apps.v1.Deployment",
    "apps.v1.ReplicaSet",
    "authentication.k8s.io.v1.TokenRequest",
    "authorization.k8s.io.v1.LocalSubjectAccessReview",
    "authorization.k8s.io.v1.SelfSubjectRulesReview",
    "authorization.k8s.io.v1.SubjectAccessReview",
    "autoscaling.v1.Scale",
    "batch.v1.CronJob",
    "batch.v1.Job",
    "certificates.k8s.io.v1.CertificateSigningRequest",
    "certificates.k8s.io.v1.PodCertificateRequest",
    "core.v1.Binding",
    "core.v1.ConfigMap",
    "core.v1.Endpoints",
    "core.v1.Event",
    "core.v1.LimitRange",
    "core.v1.Node",
    "core.v1.PersistentVolume",
    "core.v1.PersistentVolumeClaim",
    "core.v1.Pod",
    "core.v1.PodTemplate",
    "core.v1.ResourceQuota",
    "core.v1.Secret",
    "core.v1.Service",
    "discovery.k8s.io.v1.EndpointSlice",
    "events.k8s.io.v1.Event",
    "flowcontrol.apiserver.k8s.io.v1.PriorityLevelConfiguration",
    "networking.k8s.io.v1.IPAddress",
    "networking.k8s.io.v1.Ingress",
    "networking.k8s.io.v1.IngressClass",
    "networking.k8s.io.v1.NetworkPolicy",
    "networking.k8s.io.v1.ServiceCIDR",
    "rbac.authorization.k8s.io.v1.ClusterRoleBinding",
    "rbac.authorization.k8s.io.v1.Role",
    "rbac.authorization.k8s.io.v1.RoleBinding",
    "resource.k8s.io.v1.DeviceClass",
    "resource.k8s.io.v1.ResourceClaim",
    "resource.k8s.io.v1.ResourceClaimTemplate",
    "resource.k8s.io.v1.ResourceSlice",
    "storage.k8s.io.v1.CSIDriver",
    "storage.k8s.io.v1.VolumeAttachment",
    "storage.k8s.io.v1.VolumeAttributesClass",
    "storagemigration.k8s.io.v1.StorageVersionMigration",
];

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    GOLDEN
        .iter()
        .map(|(json, _)| json.as_bytes().to_vec())
        .collect()
}

pub(super) fn protobuf_seeds() -> Vec<Vec<u8>> {
    GOLDEN.iter().map(|(_, bytes)| bytes.to_vec()).collect()
}

/// The row that an object says it is of.
fn row(value: &Value) -> Option<&'static Arc<Resource>> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ResourceTable::builtin().kind(group, version, kind)
}

/// All that is done to an object between decoding and storing.
fn settle(row: &Resource, mut object: Box<dyn Object>) {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut rng = fastrand::Rng::with_seed(1);
    let old = object.boxed_clone();
    metadata::prepare_for_create(object.metadata_mut(), now, &mut rng);
    row.strategy.prepare_for_create(&mut *object);
    row.strategy.default(&mut *object);
    let rule = |name: &str, prefix: bool| row.strategy.validate_name(name, prefix);
    for error in metadata::validate(object.metadata(), true, &rule, &Path::new("metadata")) {
        let _ = error.to_string();
    }
    for error in row.strategy.validate(&*object) {
        let _ = error.to_string();
    }
    let _ = row.strategy.warnings(&*object);
    let _ = row.strategy.selectable_fields(&*object);
    // Defaults are final.
    let once = object.to_value();
    row.strategy.default(&mut *object);
    assert_eq!(object.to_value(), once, "defaults of {}", row.kind);
    row.strategy.prepare_for_update(&mut *object, &*old);
    metadata::prepare_for_update(object.metadata_mut(), old.metadata());
    let _ = row.strategy.validate_update(&*object, &*old);
    let _ = row.strategy.validate_status_update(&*object, &*old);
}

pub(super) fn json(input: &[u8]) {
    let _ = decode::duplicate_fields(input);
    let parsed: Option<Value> = serde_json::from_slice(input).ok();
    let pod = ResourceTable::builtin().kind("", "v1", "Pod");
    let Some(row) = parsed.as_ref().and_then(row).or(pod) else {
        return;
    };
    let mut unknown = Vec::new();
    match (row.codec.from_json)(input, &mut |path| unknown.push(path)) {
        Ok(object) => {
            // What was read is written so that it is read again.
            let value = object.to_value();
            let bytes = value.to_string();
            let again =
                (row.codec.from_json)(bytes.as_bytes(), &mut |path| panic!("{path} is unknown"));
            assert_eq!(again.map(|object| object.to_value()).ok(), Some(value));
            if let Ok(encoded) = protobuf::encode(bytes.as_bytes()) {
                let decoded = protobuf::decode(&encoded).expect("what was encoded is decoded");
                let again = protobuf::encode(decoded.to_string().as_bytes());
                assert_eq!(again.ok(), Some(encoded));
            }
            settle(row, object);
        }
        Err(error) => {
            let answer = error.answer(input, &row.api_version(), row.kind);
            assert!(!answer.is_empty());
        }
    }
}

pub(super) fn protobuf(input: &[u8]) {
    match protobuf::decode(input) {
        Ok(value) => {
            let json = value.to_string();
            if let Some(row) = row(&value) {
                let _ = (row.codec.from_json)(json.as_bytes(), &mut |_| {});
            }
            if let Ok(bytes) = protobuf::encode(json.as_bytes()) {
                let again = protobuf::decode(&bytes).expect("what was encoded is decoded");
                let twice = protobuf::encode(again.to_string().as_bytes());
                assert_eq!(twice.ok(), Some(bytes));
            }
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
}
