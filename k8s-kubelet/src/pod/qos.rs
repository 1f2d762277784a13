//! Quality-of-service classes and what follows from them.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::quantity;

/// How well a pod is protected when its node runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// The class of a pod: requests equal limits for CPU and memory everywhere, none at all, or
    /// something in between.
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let mut any = false;
        let mut guaranteed = true;
        for container in spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
        {
            for resource in ["cpu", "memory"] {
                let limit = amount(container, resource, true);
                let request = amount(container, resource, false).or(limit);
                any |= request.is_some_and(|v| v > 0) || limit.is_some_and(|v| v > 0);
                guaranteed &= limit.is_some_and(|v| v > 0) && request == limit;
            }
        }
        match (any, guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }

    /// The class of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Guaranteed, Self::Burstable, Self::BestEffort]
            .into_iter()
            .find(|class| class.as_str() == name)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// Where the pod's cgroup is, below each controller's root.
    pub(crate) fn cgroup_parent(self, uid: &str) -> String {
        match self {
            Self::Guaranteed => format!("kubepods/pod{uid}"),
            Self::Burstable => format!("kubepods/burstable/pod{uid}"),
            Self::BestEffort => format!("kubepods/besteffort/pod{uid}"),
        }
    }

    /// The score adjustment for the out-of-memory killer. As upstream: guaranteed pods go last,
    /// best-effort ones first, the others by how much of the node they asked for.
    pub(crate) fn oom_score_adj(
        self,
        spec: &PodSpec,
        container: &Container,
        memory_capacity: u64,
    ) -> i32 {
        const GUARANTEED: i64 = -997;
        const NODE_CRITICAL: i32 = 2_000_001_000;
        if spec.priority.is_some_and(|p| p >= NODE_CRITICAL) {
            return GUARANTEED as i32;
        }
        match self {
            Self::Guaranteed => GUARANTEED as i32,
            Self::BestEffort => 1000,
            Self::Burstable => {
                let request = amount(container, "memory", false).unwrap_or(0) / 1000;
                let share = 1000 * request / i128::from(memory_capacity.max(1));
                i32::try_from((1000 - share).clamp(i128::from(1000 + GUARANTEED), 999))
                    .unwrap_or(999)
            }
        }
    }
}

/// A container's limit or request in thousandths.
pub(crate) fn amount(container: &Container, resource: &str, limit: bool) -> Option<i128> {
    let resources = container.resources.as_ref()?;
    let list = if limit {
        resources.limits.as_ref()
    } else {
        resources.requests.as_ref()
    };
    quantity::milli(list?.get(resource)?)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let map = |list: &[(&str, &str)]| {
            Some(
                list.iter()
                    .map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned())))
                    .collect(),
            )
        };
        Container {
            resources: Some(ResourceRequirements {
                requests: map(requests),
                limits: map(limits),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn spec(containers: Vec<Container>) -> PodSpec {
        PodSpec {
            containers,
            ..Default::default()
        }
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        assert_eq!(Qos::of(&spec(vec![Container::default()])), Qos::BestEffort);
        let full = [("cpu", "1"), ("memory", "1Gi")];
        assert_eq!(
            Qos::of(&spec(vec![container(&full, &full)])),
            Qos::Guaranteed
        );
        assert_eq!(
            Qos::of(&spec(vec![container(&full, &full), Container::default()])),
            Qos::Burstable
        );
        assert_eq!(
            Qos::of(&spec(vec![container(&[("cpu", "100m")], &[])])),
            Qos::Burstable
        );
    }

    #[test]
    fn burstable_pods_that_ask_for_more_are_killed_later() {
        let gib = 1u64 << 30;
        let c = container(&[("memory", "512Mi")], &[]);
        let s = spec(vec![c.clone()]);
        assert_eq!(Qos::of(&s).oom_score_adj(&s, &c, gib), 500);
        let tiny = container(&[("memory", "1")], &[]);
        assert_eq!(Qos::Burstable.oom_score_adj(&s, &tiny, gib), 999);
    }
}
