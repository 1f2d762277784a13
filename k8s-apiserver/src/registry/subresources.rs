//! What the subresources with a kind of their own do to an object.

use std::borrow::Cow;

use k8s_model::{
    Object,
    apply::{ApplyError, BEFORE_FIRST_APPLY, Tracker},
    custom::{CustomObject, ScalePaths},
    field::{self, Path},
    labels::Selector,
};
use k8s_openapi::{
    api::{
        autoscaling::v1::{Scale, ScaleSpec, ScaleStatus},
        core::v1::{Binding, Container, Pod, PodCondition, PodSpec},
    },
    apimachinery::pkg::apis::meta::v1::{FieldsV1, LabelSelector, ManagedFieldsEntry, ObjectMeta},
    jiff::Timestamp,
};

use serde_json::{Value, json};

use super::{Managed, Registry, Row, Target, patch::Configuration, update::Live};
use crate::{Error, Result, admission::Operation};

/// An object as a `Scale`.
///
/// # Errors
/// If it has none.
pub(crate) fn scale_of(row: &Row, object: &dyn Object) -> Result<Scale> {
    if let Some(scale) = row.custom().and_then(|custom| custom.scale()) {
        return custom_scale(scale, object);
    }
    built_in_scale(object)
        .ok_or_else(|| Error::internal(format_args!("{} have no scale", row.resource.resource)))
}

/// How many replicas the scale of an object has that says nothing of them: nobody wants so many.
const UNSAID: i32 = i32::MIN;

/// The scale of an object that is to have another.
///
/// # Errors
/// If it has none.
pub(crate) fn scale_before(row: &Row, object: &dyn Object) -> Result<Scale> {
    match row.custom().and_then(|custom| custom.scale()) {
        Some(paths) => custom_scale_or(paths, object, Some(UNSAID.into())),
        None => scale_of(row, object),
    }
}

fn custom_scale(paths: &ScalePaths, object: &dyn Object) -> Result<Scale> {
    custom_scale_or(paths, object, None)
}

fn custom_scale_or(paths: &ScalePaths, object: &dyn Object, other: Option<i64>) -> Result<Scale> {
    let object = object
        .downcast_ref::<CustomObject>()
        .ok_or_else(|| Error::internal("not a custom resource"))?;
    let fields = object.fields();
    let replicas = paths.spec_replicas(fields).or(other).ok_or_else(|| {
        let path = paths.spec_path();
        Error::internal(format_args!(
            "the spec replicas field {path:?} does not exist"
        ))
    })?;
    let number = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
    Ok(Scale {
        metadata: scale_meta(object.metadata()),
        spec: Some(ScaleSpec {
            replicas: Some(number(replicas)).filter(|n| *n != 0),
        }),
        status: Some(ScaleStatus {
            replicas: number(paths.status_replicas(fields)),
            selector: Some(paths.selector(fields).to_owned()).filter(|s| !s.is_empty()),
        }),
    })
}

fn scale_meta(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        creation_timestamp: meta.creation_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

fn built_in_scale(object: &dyn Object) -> Option<Scale> {
    let value = object.to_value();
    let number = |path: &str| {
        value
            .pointer(path)
            .and_then(Value::as_i64)
            .and_then(|n| i32::try_from(n).ok())
    };
    // The core group's selector is a map, that of the others a selector.
    let selector = value.pointer("/spec/selector").cloned().unwrap_or_default();
    let selector = if object.api_version() == "v1" {
        Selector::from_labels(&serde_json::from_value(selector).unwrap_or_default())
    } else {
        let selector: Option<LabelSelector> = serde_json::from_value(selector).ok()?;
        Selector::try_from(&selector.unwrap_or_default()).ok()?
    };
    Some(Scale {
        metadata: scale_meta(object.metadata()),
        spec: Some(ScaleSpec {
            replicas: number("/spec/replicas").filter(|n| *n != 0),
        }),
        status: Some(ScaleStatus {
            replicas: number("/status/replicas").unwrap_or(0),
            selector: Some(selector.to_string()),
        }),
    })
}

/// Upstream's `ValidateScale`, which it does not ask of custom resources: these are judged as a whole.
pub(crate) fn check_scale(row: &Row, scale: &Scale, name: &str) -> Result<()> {
    if row.custom().is_some() {
        return Ok(());
    }
    let replicas = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    if replicas < 0 {
        let finding = field::invalid(
            Path::new("spec").child("replicas"),
            replicas,
            "must be greater than or equal to 0",
        );
        return Err(Error::invalid_kind(
            "autoscaling",
            "Scale",
            name,
            &vec![finding],
        ));
    }
    Ok(())
}

/// The object with other replicas, under the resource version and UID of the scale.
pub(crate) fn set_scale(row: &Row, object: &dyn Object, scale: &Scale) -> Result<Box<dyn Object>> {
    let replicas = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    let mut object = match row.custom().and_then(|custom| custom.scale()) {
        Some(paths) if replicas == UNSAID => {
            let path = paths.spec_path();
            let text = format!("the spec replicas field {path:?} cannot be empty");
            return Err(Error::bad_request(text));
        }
        Some(paths) => {
            let mut object = object.boxed_clone();
            let set = object
                .downcast_mut::<CustomObject>()
                .is_some_and(|object| paths.set_spec_replicas(object.fields_mut(), replicas));
            if !set {
                let path = paths.spec_path();
                return Err(Error::internal(format_args!(
                    "the spec replicas field {path:?} cannot be set"
                )));
            }
            object
        }
        None => {
            let mut value = object.to_value();
            if let Some(spec) = value.get_mut("spec") {
                spec["replicas"] = replicas.into();
            }
            (row.resource.codec.from_value)(value, &mut |_| {}).map_err(Error::internal)?
        }
    };
    let meta = object.metadata_mut();
    // Without one, the change is to whatever is there.
    let version = scale.metadata.resource_version.as_ref();
    if let Some(version) = version.filter(|version| !version.is_empty()) {
        meta.resource_version = Some(version.clone());
    }
    if scale
        .metadata
        .uid
        .as_deref()
        .is_some_and(|uid| !uid.is_empty())
    {
        meta.uid.clone_from(&scale.metadata.uid);
    }
    Ok(object)
}

/// That a scale is told for the object that there is.
pub(crate) fn check_uid_of_scale(row: &Row, object: &dyn Object, scale: &Scale) -> Result<()> {
    let uid = scale.metadata.uid.as_deref().unwrap_or_default();
    let found = object.metadata().uid.as_deref().unwrap_or_default();
    if uid.is_empty() || uid == found {
        return Ok(());
    }
    let resource = format!("{}/scale", row.resource.resource);
    let resource = k8s_model::status::GroupResource::new(row.resource.group, &resource);
    let name = object.metadata().name.as_deref().unwrap_or_default();
    let text =
        format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
    Err(Error::from(k8s_model::status::conflict(
        resource, name, &text,
    )))
}

/// The names of fields on the way to the replicas of a row's objects.
pub(super) fn replicas_names(row: &Row) -> Vec<String> {
    match row.custom().and_then(|custom| custom.scale()) {
        Some(paths) => paths.spec_names().to_vec(),
        None => vec!["spec".to_owned(), "replicas".to_owned()],
    }
}

/// Whether somebody owns a field. To upstream, a scale whose replicas nobody owns is an object that nobody's changes are
/// tracked of before it is applied.
pub(super) fn are_owned(managed: &[u8], names: &[String]) -> bool {
    let entries: Vec<Value> = serde_json::from_slice(managed).unwrap_or_default();
    entries.iter().any(|entry| {
        let mut steps = names.iter();
        let found = steps.try_fold(&entry["fieldsV1"], |fields, name| {
            fields.get(format!("f:{name}"))
        });
        found.is_some()
    })
}

/// The managed fields of an object whose replicas nobody owned until a scale is applied.
fn owned_before(row: &Row, managed: &[u8], names: &[String]) -> Result<Vec<u8>> {
    let fields = json!({});
    let fields =
        (names.iter().rev()).fold(fields, |below, name| json!({format!("f:{name}"): below}));
    let before = ManagedFieldsEntry {
        manager: Some(BEFORE_FIRST_APPLY.to_owned()),
        operation: Some("Update".to_owned()),
        api_version: Some(row.api_version.clone()),
        // Upstream loses when it was on the way from the scale.
        time: None,
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        subresource: Some("scale".to_owned()),
    };
    let mut entries: Vec<Value> = serde_json::from_slice(managed).unwrap_or_default();
    entries.push(serde_json::to_value(before).map_err(Error::internal)?);
    serde_json::to_vec(&entries).map_err(Error::internal)
}

/// What applying a configuration of a scale makes of the scale, and of the managed fields of the
/// object that has it: replicas are owned in the object, through its subresource.
pub(crate) fn apply_scale(
    row: &Row,
    configuration: &Configuration,
    tracker: &Tracker<'_>,
    live: &Live<'_>,
    mut scale: Scale,
) -> Result<(Scale, Option<Vec<u8>>)> {
    let config = configuration.value();
    let text = |pointer: &str| {
        let found = config.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default()
    };
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    if version != "autoscaling/v1" || kind != "Scale" {
        return Err(ApplyError::of_type(version, kind).to_status().into());
    }
    let said = |name: &str| {
        let found = config.get("metadata").and_then(|meta| meta.get(name));
        found.and_then(Value::as_str).map(str::to_owned)
    };
    let meta = &mut scale.metadata;
    meta.name = said("name").or(meta.name.take());
    meta.namespace = said("namespace").or(meta.namespace.take());
    meta.uid = said("uid").or(meta.uid.take());
    let mut part = json!({
        "apiVersion": row.api_version,
        "kind": row.resource.kind,
        "metadata": config.get("metadata").cloned().unwrap_or_default(),
    });
    let names = replicas_names(row);
    if let Some(replicas) = config.pointer("/spec/replicas") {
        let nested =
            (names.iter().rev()).fold(replicas.clone(), |value, name| json!({name: value}));
        if let (Some(part), Value::Object(nested)) = (part.as_object_mut(), nested) {
            part.extend(nested);
        }
    }
    let mut managed = Cow::Borrowed(live.managed);
    if !are_owned(live.managed, &names) {
        managed = Cow::Owned(owned_before(row, live.managed, &names)?);
    }
    let applied = configuration
        .apply_part(tracker, live.object.to_value(), &part, &managed)
        .map_err(|error| match error {
            // The owners are told in the version of the scale, and so is the field, as upstream sees them.
            ApplyError::Conflicts(mut conflicts) => {
                for conflict in &mut conflicts {
                    if let Some((manager, _)) = conflict.manager.rsplit_once(" using ") {
                        conflict.manager = format!("{manager} using autoscaling/v1");
                    }
                    if conflict
                        .path
                        .first()
                        .is_none_or(|name| name != "f:metadata")
                    {
                        conflict.path = ["f:spec", "f:replicas"].map(str::to_owned).to_vec();
                    }
                }
                Error::from(ApplyError::Conflicts(conflicts).to_status())
            }
            other => Error::from(other.to_status()),
        })?;
    if let Some(object) = &applied.object {
        let pointer = format!("/{}", names.join("/"));
        let replicas = object.pointer(&pointer).and_then(Value::as_i64);
        scale.spec.get_or_insert_default().replicas = replicas.and_then(|n| i32::try_from(n).ok());
        let version = object.pointer("/metadata/resourceVersion");
        scale.metadata.resource_version = version.and_then(Value::as_str).map(str::to_owned);
    }
    Ok((scale, Some(applied.managed)))
}

/// Upstream's `ValidatePodBinding`, and that it is about the pod in the URL.
pub(crate) fn check_binding(binding: &Binding, name: &str) -> Result<()> {
    if binding.metadata.name.as_deref().unwrap_or_default() != name {
        return Err(Error::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let mut findings = Vec::new();
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let path = Path::new("target").child("kind");
        findings.push(field::not_supported(path, kind, &["Node", "<empty>"]));
    }
    if binding
        .target
        .name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        findings.push(field::required(Path::new("target").child("name"), ""));
    }
    // Upstream does not class this.
    match findings.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::unknown(one.to_string())),
        several => {
            let texts: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Error::unknown(format!("[{}]", texts.join(", "))))
        }
    }
}

/// Gives a pod to a node.
pub(crate) fn bind(pod: &mut Pod, binding: &Binding, now: Timestamp) -> Result<()> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let conflict = |text: String| {
        let resource = k8s_model::status::GroupResource::new("", "pods/binding");
        Err(Error::from(k8s_model::status::conflict(
            resource, &name, &text,
        )))
    };
    let wanted = &binding.metadata;
    if let Some(uid) = wanted.uid.as_deref().filter(|u| !u.is_empty())
        && pod.metadata.uid.as_deref() != Some(uid)
    {
        let found = pod.metadata.uid.as_deref().unwrap_or_default();
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        ));
    }
    if let Some(version) = wanted.resource_version.as_deref().filter(|v| !v.is_empty())
        && pod.metadata.resource_version.as_deref() != Some(version)
    {
        let found = pod.metadata.resource_version.as_deref().unwrap_or_default();
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
        ));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    if spec
        .scheduling_gates
        .as_deref()
        .is_some_and(|gates| !gates.is_empty())
    {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name = binding.target.name.clone();
    if let Some(annotations) = &wanted.annotations {
        let all = pod.metadata.annotations.get_or_insert_default();
        all.extend(annotations.clone());
    }
    if let Some(labels) = &wanted.labels {
        let all = pod.metadata.labels.get_or_insert_default();
        all.extend(labels.clone());
    }
    let status = pod.status.get_or_insert_default();
    // It said where the pod might go.
    status.nominated_node_name = None;
    let conditions = status.conditions.get_or_insert_default();
    let scheduled = PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: Some(k8s_model::metadata::to_second(now)),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|c| c.type_ == "PodScheduled") {
        Some(found) if found.status == "True" => {
            *found = PodCondition {
                last_transition_time: found.last_transition_time.clone(),
                ..scheduled
            };
        }
        Some(found) => *found = scheduled,
        None => conditions.push(scheduled),
    }
    pod.metadata.resource_version = None;
    Ok(())
}

/// Takes over the part of a pod's spec that a subresource is for.
pub(crate) fn take_part(subresource: &str, pod: &mut Pod, wanted: &Pod) {
    pod.metadata
        .resource_version
        .clone_from(&wanted.metadata.resource_version);
    let (Some(spec), Some(wanted)) = (pod.spec.as_mut(), wanted.spec.as_ref()) else {
        return;
    };
    if subresource == "ephemeralcontainers" {
        spec.ephemeral_containers = wanted.ephemeral_containers.clone();
        return;
    }
    let count = |spec: &PodSpec| {
        let init_containers = spec.init_containers.as_ref();
        (spec.containers.len(), init_containers.map_or(0, Vec::len))
    };
    if count(spec) != count(wanted) {
        spec.clone_from(wanted);
        return;
    }
    take_sizes(&mut spec.containers, &wanted.containers);
    if let (Some(all), Some(wanted)) = (&mut spec.init_containers, &wanted.init_containers) {
        take_sizes(all, wanted);
    }
    spec.resources.clone_from(&wanted.resources);
}

/// Takes over what containers are to have. Others than there are, or in another order, are taken as they are, to be found wrong.
fn take_sizes(all: &mut Vec<Container>, wanted: &[Container]) {
    let names = |all: &[Container]| -> Vec<String> {
        all.iter().map(|container| container.name.clone()).collect()
    };
    if names(all) != names(wanted) {
        *all = wanted.to_vec();
        return;
    }
    for (container, wanted) in all.iter_mut().zip(wanted) {
        container.resources.clone_from(&wanted.resources);
        container.resize_policy.clone_from(&wanted.resize_policy);
    }
}

impl Registry {
    /// Lets the plugins change the scale of an object that is about to change.
    pub(super) async fn admit_scale(
        &self,
        target: &Target<'_>,
        new: Box<dyn Object>,
        old: &dyn Object,
    ) -> Result<Box<dyn Object>> {
        let before = scale_before(target.row, old)?;
        let scale: Box<dyn Object> = Box::new(scale_of(target.row, &*new)?);
        let (operation, managed) = (Operation::Update, Managed::default());
        let admitted = self
            .admit(target, operation, Some(scale), Some(&before), managed)
            .await?
            .object()?;
        match admitted.downcast_ref::<Scale>() {
            Some(scale) => {
                check_scale(target.row, scale, target.name)?;
                set_scale(target.row, &*new, scale)
            }
            None => Err(Error::internal("not a Scale")),
        }
    }

    /// Lets the plugins refuse it.
    pub(super) async fn validate_scale(
        &self,
        target: &Target<'_>,
        new: &dyn Object,
        old: &dyn Object,
    ) -> Result<()> {
        let before = scale_before(target.row, old)?;
        let scale: Box<dyn Object> = Box::new(scale_of(target.row, new)?);
        let (operation, managed) = (Operation::Update, Managed::default());
        self.validate(target, operation, Some(scale), Some(&before), managed)
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_resize_takes_over_sizes_and_what_is_to_be_found_wrong() {
        let container =
            |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let spec = |containers: Value, init: Value, cpu: &str| json!({"containers": containers, "initContainers": init, "resources": {"requests": {"cpu": cpu}}});
        let old = pod(json!({"metadata": {"generation": 1},
            "spec": spec(json!([container("a", "1")]), json!([container("i", "1")]), "1")}));
        let taken = |wanted: Value| {
            let mut taken = old.clone();
            take_part(
                "resize",
                &mut taken,
                &pod(json!({"metadata": {}, "spec": wanted})),
            );
            serde_json::to_value(taken).unwrap()["spec"].clone()
        };
        let more = spec(
            json!([container("a", "2")]),
            json!([container("i", "2")]),
            "2",
        );
        let mut other = more.clone();
        other["nodeName"] = json!("n");
        other["containers"][0]["image"] = json!("x");
        assert_eq!(taken(other), more);
        for wrong in [
            spec(
                json!([container("b", "1")]),
                json!([container("i", "1")]),
                "1",
            ),
            spec(
                json!([container("a", "1"), container("b", "1")]),
                json!([container("i", "1")]),
                "1",
            ),
            spec(
                json!([container("a", "1")]),
                json!([container("j", "1")]),
                "1",
            ),
        ] {
            assert_eq!(taken(wrong.clone()), wrong);
        }
    }

    #[test]
    fn a_pod_on_a_node_is_labelled_and_nominated_for_none() {
        let mut bound = pod(
            json!({"metadata": {"name": "p", "labels": {"a": "b", "c": "d"}},
            "spec": {"containers": []}, "status": {"nominatedNodeName": "m"}}),
        );
        let binding: Binding = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"a": "e"}, "annotations": {"f": "g"}},
            "target": {"kind": "Node", "name": "n"},
        }))
        .unwrap();
        bind(&mut bound, &binding, Timestamp::UNIX_EPOCH).unwrap();
        let bound = serde_json::to_value(bound).unwrap();
        assert_eq!(bound["metadata"]["labels"], json!({"a": "e", "c": "d"}));
        assert_eq!(bound["metadata"]["annotations"], json!({"f": "g"}));
        assert_eq!(bound["spec"]["nodeName"], "n");
        assert_eq!(bound["status"].get("nominatedNodeName"), None);
    }
}
