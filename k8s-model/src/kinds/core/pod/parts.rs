//! Validation of changes to one part of a pod, through the subresources `ephemeralcontainers` and `resize`.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{
    qos_class,
    validation::{is_mirror, metadata_and_spec},
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
    let mut errors = metadata_and_spec(new);
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

/// Of containers, processor time and memory can be changed, but not so that the pod counts for more or less than before.
pub(super) fn resize(new: &Pod, old: &Pod) -> ErrorList {
    let refused = |text| vec![field::forbidden(Path::default(), text)];
    if is_mirror(old) {
        return refused("static pods cannot be resized");
    }
    let mut errors = metadata_and_spec(new);
    let empty = PodSpec::default();
    let (new_spec, old_spec) = (
        new.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return refused("windows pods cannot be resized");
    }
    let path = Path::new("spec");
    if qos_class(old) != qos_class(new) {
        let class = old.status.as_ref().and_then(|s| s.qos_class.clone());
        errors.push(field::invalid(
            path.clone(),
            class.unwrap_or_default(),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    let mut rest = new_spec.clone();
    let all = [
        ("containers", &mut rest.containers, &old_spec.containers[..]),
        (
            "initContainers",
            rest.init_containers.get_or_insert_default(),
            list(&old_spec.init_containers),
        ),
    ];
    let mut others_change = false;
    for (name, new, old) in all {
        for (index, (new, old)) in new.iter_mut().zip(old).enumerate() {
            let path = path.child(name).index(index).child("resources");
            errors.extend(removed(new, old, &path));
            put_back(new, old);
            others_change |= !same(&new.resources, &old.resources);
        }
    }
    if others_change {
        let changes = difference("PodSpec", old_spec, &rest);
        let text = format!("only cpu and memory resources are mutable\n{changes}");
        errors.push(field::forbidden(path, text));
    }
    errors
}

const MUTABLE: [&str; 2] = ["cpu", "memory"];

fn lists(container: &Container) -> [Option<&ResourceList>; 2] {
    let resources = container.resources.as_ref();
    [
        resources.and_then(|resources| resources.requests.as_ref()),
        resources.and_then(|resources| resources.limits.as_ref()),
    ]
}

/// What had an amount must go on having one.
fn removed(new: &Container, old: &Container, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for ((new, old), name) in lists(new)
        .into_iter()
        .zip(lists(old))
        .zip(["requests", "limits"])
    {
        let has = |key: &String| new.is_some_and(|list| list.contains_key(key));
        if old.is_some_and(|list| !list.keys().all(has)) {
            let text = format!("resource {name} cannot be removed");
            errors.push(field::forbidden(path.child(name), text));
        }
    }
    errors
}

/// Gives a container the processor time and memory that it had.
fn put_back(new: &mut Container, old: &Container) {
    let old = lists(old);
    let resources = new.resources.get_or_insert_default();
    for (list, old) in [&mut resources.requests, &mut resources.limits]
        .into_iter()
        .zip(old)
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
