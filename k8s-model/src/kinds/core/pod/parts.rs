//! Validation of changes to one part of a pod, through the subresources `ephemeralcontainers` and `resize`.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};

use super::{
    is_sidecar, qos_class,
    resources::is_empty,
    validation::{changed, is_mirror},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, same},
        difference::difference,
        quantities::ResourceList,
    },
};

/// Ephemeral containers can be added, and stay as they are.
pub(super) fn ephemeral_containers(new: &Pod, old: &Pod) -> ErrorList {
    if is_mirror(old) {
        let text = "static pods do not support ephemeral containers";
        return vec![field::forbidden(Path::default(), text)];
    }
    let mut errors = changed(new, old);
    let containers = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.ephemeral_containers.clone())
            .unwrap_or_default()
    };
    let new = containers(new);
    for container in &containers(old) {
        let name = &container.name;
        let text = match new.iter().find(|other| other.name == *name) {
            Some(other) if other == container => continue,
            Some(other) => {
                let changes = difference("EphemeralContainer", container, other);
                format!("existing ephemeral containers {name:?} may not be changed\n{changes}")
            }
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
        };
        let path = Path::new("spec").child("ephemeralContainers");
        errors.push(field::forbidden(path, text));
    }
    errors
}

/// Of a pod and its containers, processor time and memory can be changed, but not so that the pod counts for more or less than
/// before (KEP-1287, KEP-5419).
pub(super) fn resize(new: &Pod, old: &Pod) -> ErrorList {
    let refused = |text| vec![field::forbidden(Path::default(), text)];
    if is_mirror(old) {
        return refused("static pods cannot be resized");
    }
    let empty = PodSpec::default();
    let (new_spec, old_spec) = (
        new.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return refused("windows pods cannot be resized");
    }
    let mut errors = changed(new, old);
    let path = Path::new("spec");
    if qos_class(old) != qos_class(new) {
        let class = old.status.as_ref().and_then(|s| s.qos_class.clone());
        errors.push(field::invalid(
            path.clone(),
            class.unwrap_or_default(),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !node_resizes(old) {
        let text = "Pod running on node without support for resize";
        errors.push(field::forbidden(path.clone(), text));
    }
    let mut rest = new_spec.clone();
    errors.extend(pod_level(&mut rest.resources, &old_spec.resources, &path));
    let moved = other_containers(new_spec, old_spec, &path);
    if !moved.is_empty() {
        errors.extend(moved);
        return errors;
    }
    let (init, old_init) = (
        rest.init_containers.as_deref_mut().unwrap_or_default(),
        list(&old_spec.init_containers),
    );
    for (name, new, old) in [
        ("initContainers", &*init, old_init),
        ("containers", &*rest.containers, &*old_spec.containers),
    ] {
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            let path = path.child(name).index(index).child("resources");
            errors.extend(removed(&new.resources, &old.resources, "resource", &path));
        }
    }
    for (new, old) in rest.containers.iter_mut().zip(&old_spec.containers) {
        put_back(&mut new.resources, &old.resources);
        if !same(new, old) {
            errors.push(field::forbidden(path.clone(), ONLY_MUTABLE));
        }
    }
    for (index, (new, old)) in init.iter_mut().zip(old_init).enumerate() {
        let path = path.child("initContainers").index(index);
        errors.extend(init_container(new, old, &path));
    }
    // Nothing else has been taken over.
    if errors.is_empty() && !same(&rest, old_spec) {
        let changes = difference("PodSpec", old_spec, &rest);
        errors.push(field::forbidden(path, format!("{ONLY_MUTABLE}\n{changes}")));
    }
    errors
}

const ONLY_MUTABLE: &str = "only cpu and memory resources are mutable";
const MUTABLE: [&str; 2] = ["cpu", "memory"];

/// Whether the pod's node can resize it. One that can says what the containers have that run.
fn node_resizes(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.map_or(&[][..], |status| list(&status.container_statuses));
    let running = |container: &&ContainerStatus| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    };
    let first = containers.iter().find(running);
    first.is_none_or(|container| container.resources.is_some())
}

/// The containers are those that there were, in their order.
fn other_containers(new: &PodSpec, old: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, new, old) in [
        ("containers", &*new.containers, &*old.containers),
        (
            "initContainers",
            list(&new.init_containers),
            list(&old.init_containers),
        ),
    ] {
        let path = path.child(name);
        if new.len() != old.len() {
            let text = format!("{name} may not be added or removed on resize");
            errors.push(field::forbidden(path, text));
            continue;
        }
        let pairs = new.iter().zip(old).enumerate();
        for (index, _) in pairs.filter(|(_, (new, old))| new.name != old.name) {
            let text = format!("{name} may not be renamed or reordered on resize");
            errors.push(field::forbidden(path.index(index).child("name"), text));
        }
    }
    errors
}

/// What the pod as a whole has (KEP-5419). Gives back the processor time and memory that it had.
fn pod_level(
    new: &mut Option<ResourceRequirements>,
    old: &Option<ResourceRequirements>,
    path: &Path,
) -> ErrorList {
    if !lists(new)
        .into_iter()
        .chain(lists(old))
        .flatten()
        .any(|list| !list.is_empty())
    {
        return ErrorList::new();
    }
    let at = path.child("resources");
    if old.is_some() && new.is_none() {
        let text = "pod-level resources cannot be removed";
        return vec![field::forbidden(at, text)];
    }
    let mut errors = removed(new, old, "pod-level resource", &at);
    put_back(new, old);
    if !same(new, old) {
        let text = "only cpu and memory resources are mutable at pod-level";
        errors.push(field::forbidden(path.clone(), text));
    }
    errors
}

/// An init container that has run to its end is not started again to have more.
fn init_container(new: &mut Container, old: &Container, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let changes = !same(new, old);
    put_back(&mut new.resources, &old.resources);
    if !same(new, old) {
        let text = "only cpu and memory resources for init or sidecar containers are mutable";
        errors.push(field::forbidden(path.clone(), text));
    }
    let mut policies = list(&new.resize_policy).iter();
    let restarts = policies.any(|policy| policy.restart_policy == "RestartContainer");
    if changes && restarts && !is_sidecar(new) {
        let text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errors.push(field::forbidden(path.clone(), text));
    }
    errors
}

fn lists(resources: &Option<ResourceRequirements>) -> [Option<&ResourceList>; 2] {
    let resources = resources.as_ref();
    [
        resources.and_then(|resources| resources.requests.as_ref()),
        resources.and_then(|resources| resources.limits.as_ref()),
    ]
}

/// What had an amount must go on having one.
fn removed(
    new: &Option<ResourceRequirements>,
    old: &Option<ResourceRequirements>,
    what: &str,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    for ((new, old), name) in lists(new)
        .into_iter()
        .zip(lists(old))
        .zip(["requests", "limits"])
    {
        let has = |key: &String| new.is_some_and(|list| list.contains_key(key));
        if old.is_some_and(|list| !list.keys().all(has)) {
            let text = format!("{what} {name} cannot be removed");
            errors.push(field::forbidden(path.child(name), text));
        }
    }
    errors
}

/// Gives back the processor time and memory that there was.
fn put_back(new: &mut Option<ResourceRequirements>, old: &Option<ResourceRequirements>) {
    let resources = new.get_or_insert_default();
    for (list, old) in [&mut resources.requests, &mut resources.limits]
        .into_iter()
        .zip(lists(old))
    {
        let mut all = list.take().unwrap_or_default();
        for name in MUTABLE {
            all.remove(name);
            if let Some(amount) = old.and_then(|old| old.get(name)) {
                all.insert(name.to_owned(), amount.clone());
            }
        }
        *list = Some(all).filter(|all| !all.is_empty());
    }
    // None at all and none in particular are the same.
    if is_empty(new) && is_empty(old) {
        new.clone_from(old);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(resources: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"}, "status": {"qosClass": "Burstable"},
            "spec": {
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
                "containers": [{
                    "name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                    "resources": resources,
                }],
            },
        }))
        .unwrap()
    }

    fn told(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_resize_changes_amounts_of_processor_time_and_memory() {
        let old = pod(json!({"requests": {"cpu": "1"}}));
        let resized = |resources| told(&resize(&pod(resources), &old));
        for fine in [
            json!({"requests": {"cpu": "2"}}),
            json!({"requests": {"cpu": "1", "memory": "5"}, "limits": {"memory": "7"}}),
        ] {
            assert_eq!(resized(fine), [""; 0]);
        }
        for (resources, text) in [
            (
                json!({"requests": {"cpu": "-1"}}),
                "must be greater than or equal to 0",
            ),
            (
                json!({"requests": {"memory": "1"}}),
                "resource requests cannot be removed",
            ),
            (
                json!({}),
                "Pod QOS Class may not change as a result of resizing",
            ),
            (
                json!({"requests": {"cpu": "1", "ephemeral-storage": "1"}}),
                "only cpu and memory resources are mutable",
            ),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                "must be less than or equal to cpu limit",
            ),
        ] {
            let errors = resized(resources);
            assert!(
                errors.iter().any(|error| error.contains(text)),
                "{text}: {errors:?}"
            );
        }
    }

    /// What is told of a pod with these changes, of one with those.
    fn resized(new: Value, old: Value) -> Vec<String> {
        let with = |patch: Value| {
            let mut value = serde_json::to_value(pod(json!({"requests": {"cpu": "1"}}))).unwrap();
            json_patch::merge(&mut value, &patch);
            serde_json::from_value::<Pod>(value).unwrap()
        };
        told(&resize(&with(new), &with(old)))
    }

    #[test]
    fn init_containers_are_resized_as_others_are() {
        let init = |more: Value| {
            let mut container = json!({
                "name": "i", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                "resources": {"requests": {"cpu": "1"}},
            });
            json_patch::merge(&mut container, &more);
            json!({"spec": {"initContainers": [container]}})
        };
        let (more, restarts) = (
            json!({"requests": {"cpu": "2"}}),
            json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
        );
        let found = |old: Value, change: Value| {
            let mut new = init(old.clone());
            json_patch::merge(&mut new["spec"]["initContainers"][0], &change);
            resized(new, init(old))
        };
        for old in [
            json!({}),
            json!({"restartPolicy": "Always"}),
            json!({"restartPolicy": "Always", "resizePolicy": restarts}),
        ] {
            assert_eq!(found(old, json!({"resources": more})), [""; 0]);
        }
        let at = "spec.initContainers[0]: Forbidden:";
        assert_eq!(
            found(
                json!({"resizePolicy": restarts}),
                json!({"resources": more})
            ),
            [format!(
                "{at} non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            )]
        );
        assert_eq!(
            found(
                json!({}),
                json!({"resources": {"requests": {"ephemeral-storage": "1"}}})
            ),
            [format!(
                "{at} only cpu and memory resources for init or sidecar containers are mutable"
            )]
        );
        assert_eq!(
            found(json!({}), json!({"resources": null})),
            [
                "spec.initContainers[0].resources.requests: Forbidden: resource requests cannot be removed"
            ]
        );
    }

    #[test]
    fn containers_stay_where_they_are() {
        let container = |name: &str| {
            json!({"name": name, "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                "resources": {"requests": {"cpu": "1"}}})
        };
        let of = |containers: Value| json!({"spec": {"containers": containers}});
        let old = of(json!([container("a"), container("b")]));
        for (new, told) in [
            (
                of(json!([container("a")])),
                "spec.containers: Forbidden: containers may not be added or removed on resize",
            ),
            (
                of(json!([container("a"), container("c")])),
                "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
            ),
            (
                json!({"spec": {"containers": [container("a"), container("b")], "initContainers": [container("i")]}}),
                "spec.initContainers: Forbidden: initContainers may not be added or removed on resize",
            ),
        ] {
            assert_eq!(resized(new, old.clone()), [told]);
        }
    }

    #[test]
    fn a_pod_as_a_whole_is_resized() {
        let of = |resources: Value| json!({"spec": {"resources": resources}});
        let old = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1"}});
        for (new, told) in [
            (
                json!({"requests": {"cpu": "2"}, "limits": {"memory": "2"}}),
                None,
            ),
            (
                json!({"requests": {"cpu": "2"}, "limits": null}),
                Some(
                    "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed",
                ),
            ),
        ] {
            let found = resized(of(new), of(old.clone()));
            assert_eq!(found, told.as_slice());
        }
        let pages =
            json!({"requests": {"hugepages-2Mi": "2Mi"}, "limits": {"hugepages-2Mi": "2Mi"}});
        let found = resized(of(pages), of(old.clone()));
        let told = "spec: Forbidden: only cpu and memory resources are mutable at pod-level";
        assert!(found.iter().any(|found| found == told), "{found:?}");
        let found = resized(json!({}), of(old));
        let told = "spec.resources: Forbidden: pod-level resources cannot be removed";
        assert!(found.iter().any(|found| found == told), "{found:?}");
    }

    #[test]
    fn a_node_that_resizes_says_what_containers_have() {
        let running = |resources: Value| {
            json!({"status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {}}, "resources": resources}]}})
        };
        let found = |resources: Value| resized(running(resources.clone()), running(resources));
        assert_eq!(found(json!({})), [""; 0]);
        assert_eq!(
            found(Value::Null),
            ["spec: Forbidden: Pod running on node without support for resize"]
        );
    }

    #[test]
    fn ephemeral_containers_are_checked_and_stay() {
        let with = |containers: Value| {
            let mut pod = pod(json!({}));
            let spec = pod.spec.as_mut().unwrap();
            spec.ephemeral_containers = Some(serde_json::from_value(containers).unwrap());
            pod
        };
        let one = json!({
            "name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
        });
        let old = with(json!([one]));
        let changed = |containers| told(&ephemeral_containers(&with(containers), &old));
        assert_eq!(changed(json!([one])), [""; 0]);
        let mut other = one.clone();
        other["image"] = "j".into();
        assert!(changed(json!([other]))[0].contains("\"e\" may not be changed"));
        other["name"] = "c".into();
        let errors = changed(json!([other]));
        assert!(errors[0].contains("Duplicate value: \"c\""), "{errors:?}");
        assert!(errors[1].contains("\"e\" may not be removed"), "{errors:?}");
    }
}
