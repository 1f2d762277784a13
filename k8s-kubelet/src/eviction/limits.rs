//! [`exceeded`]: which of a pod's limits on local storage it has passed.

use std::collections::BTreeMap;

use k8s_model::quantity::{Amount, Format};
use k8s_openapi::{
    api::core::v1::{Container, Volume},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::pod::PodView;

const RESOURCE: &str = "ephemeral-storage";
/// Pods of this priority and above are critical to the cluster.
const CRITICAL: i32 = 2_000_000_000;

/// What a pod takes of its node's disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Each `emptyDir`, those in memory too.
    pub(crate) empty_dirs: BTreeMap<String, u64>,
    /// What each running container wrote outside of its mounts, and its log.
    pub(crate) containers: BTreeMap<String, u64>,
    /// Whatever else lies on the disk for the pod.
    pub(crate) rest: u64,
}

fn limit(container: &Container) -> Option<Amount> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Amount::parse(&limits.get(RESOURCE)?.0).ok()
}

fn size_limit(volume: &Volume) -> Option<Amount> {
    let size = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    Amount::parse(&size.0).ok().filter(|a| a.signum() > 0)
}

/// Whether an `emptyDir` is on the disk, not in memory.
pub(crate) fn on_disk(volume: &Volume) -> bool {
    let medium = volume.empty_dir.as_ref().map(|e| e.medium.as_deref());
    matches!(medium, Some(None | Some("")))
}

/// The limit of the pod as a whole: the sum of its containers' that have one, or the largest of an
/// init container. As upstream counts it, one container's limit is enough for the pod to have one.
fn pod_limit(pod: &PodView) -> Option<Amount> {
    let main = pod.main().iter().filter_map(limit).reduce(|a, b| a + b);
    let init = pod.init().iter().filter_map(limit).max();
    let most = main.max(init)?;
    let overhead: Option<&Quantity> = pod.spec().overhead.as_ref().and_then(|o| o.get(RESOURCE));
    match overhead.and_then(|o| Amount::parse(&o.0).ok()) {
        Some(overhead) => Some(most + overhead),
        None => Some(most),
    }
}

/// Whether the pod is to be measured at all.
pub(crate) fn limited(pod: &PodView) -> bool {
    let critical = pod.spec().priority.is_some_and(|p| p >= CRITICAL);
    let volumes = pod.spec().volumes.iter().flatten();
    !critical && (pod_limit(pod).is_some() || volumes.filter_map(size_limit).next().is_some())
}

fn bytes(n: u64) -> Amount {
    Amount::new(i64::try_from(n).unwrap_or(i64::MAX), Format::BinarySi)
}

/// The message of the eviction, in upstream's words, if the pod is past a limit: of an `emptyDir`,
/// of the pod as a whole, of a container, in this order.
pub(crate) fn exceeded(pod: &PodView, usage: &Usage) -> Option<String> {
    let volumes = || pod.spec().volumes.iter().flatten();
    for volume in volumes() {
        let used = usage.empty_dirs.get(&volume.name);
        if let (Some(limit), Some(used)) = (size_limit(volume), used)
            && bytes(*used) > limit
        {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit \"{limit}\". ",
                volume.name
            ));
        }
    }
    if let Some(limit) = pod_limit(pod) {
        let volumes = volumes().filter(|v| on_disk(v));
        let volumes: u64 = volumes.filter_map(|v| usage.empty_dirs.get(&v.name)).sum();
        if bytes(volumes + usage.containers.values().sum::<u64>() + usage.rest) > limit {
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
            ));
        }
    }
    let past = |c: &&Container| {
        let limit = limit(c).filter(|l| !l.is_zero());
        limit
            .zip(usage.containers.get(&c.name))
            .is_some_and(|(limit, used)| bytes(*used) > limit)
    };
    let container = pod.main().iter().find(past)?;
    Some(format!(
        "Container {} exceeded its local ephemeral storage limit \"{}\". ",
        container.name,
        limit(container)?
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> PodView {
        PodView::new(serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    fn container(name: &str, limit: Option<&str>) -> Value {
        match limit {
            Some(limit) => {
                json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}})
            }
            None => json!({"name": name}),
        }
    }

    fn usage(empty_dirs: &[(&str, u64)], containers: &[(&str, u64)], rest: u64) -> Usage {
        let map = |list: &[(&str, u64)]| list.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        Usage {
            empty_dirs: map(empty_dirs),
            containers: map(containers),
            rest,
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn an_empty_dir_past_its_size_evicts_its_pod_wherever_it_lies() {
        for medium in ["", "Memory"] {
            let volume =
                json!({"name": "cache", "emptyDir": {"medium": medium, "sizeLimit": "1024Ki"}});
            let pod = pod(json!({"containers": [container("c", None)], "volumes": [volume]}));
            assert!(limited(&pod));
            assert_eq!(exceeded(&pod, &usage(&[("cache", MIB)], &[], MIB)), None);
            assert_eq!(
                exceeded(&pod, &usage(&[("cache", MIB + 1)], &[], 0)).unwrap(),
                "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". "
            );
        }
    }

    #[test]
    fn the_pods_limit_is_the_sum_of_those_its_containers_have() {
        let volumes = json!([
            {"name": "disk", "emptyDir": {}}, {"name": "tmpfs", "emptyDir": {"medium": "Memory"}},
        ]);
        let containers = [
            container("a", Some("2Mi")),
            container("b", Some("1Mi")),
            container("c", None),
        ];
        let pod = pod(json!({"containers": containers, "volumes": volumes}));
        let used = [("disk", MIB), ("tmpfs", 100 * MIB)];
        let full = usage(&used, &[("a", MIB / 2), ("c", MIB)], MIB / 2);
        assert_eq!(exceeded(&pod, &full), None, "what is in memory is no disk");
        let more = Usage {
            rest: full.rest + 1,
            ..full
        };
        assert_eq!(
            exceeded(&pod, &more).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "
        );
    }

    #[test]
    fn one_container_past_its_own_limit_is_named() {
        let containers = [container("a", Some("2Mi")), container("b", Some("1Mi"))];
        let pod = pod(json!({"containers": containers}));
        assert_eq!(
            exceeded(&pod, &usage(&[], &[("a", 0), ("b", MIB + 1)], 0)).unwrap(),
            "Container b exceeded its local ephemeral storage limit \"1Mi\". "
        );
        assert_eq!(
            exceeded(&pod, &usage(&[], &[("a", 0), ("b", MIB)], 0)),
            None
        );
    }

    #[test]
    fn pods_without_limits_and_critical_ones_are_left_alone() {
        let volumes = json!([{"name": "disk", "emptyDir": {"sizeLimit": "0"}}]);
        let free = pod(json!({"containers": [container("a", None)], "volumes": volumes}));
        assert!(!limited(&free));
        assert_eq!(
            exceeded(&free, &usage(&[("disk", u64::MAX / 2)], &[("a", 9)], 0)),
            None
        );
        let critical = json!({"containers": [container("a", Some("1"))], "priority": CRITICAL});
        assert!(!limited(&pod(critical)));
    }
}
