//! Requests and limits as cgroup settings.

use k8s_openapi::api::core::v1::Container;
use k8s_runtime::Resources;

use super::{PodView, qos::amount};

const PERIOD: u64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// The limits of one container.
pub(crate) fn container_resources(
    pod: &PodView,
    container: &Container,
    memory_capacity: u64,
) -> Resources {
    let cpu_limit = amount(container, "cpu", true);
    // A request that is absent is the limit; without either, the least share.
    let cpu_request = amount(container, "cpu", false).or(cpu_limit);
    let memory = amount(container, "memory", true).filter(|v| *v > 0);
    let quota = cpu_limit.filter(|v| *v > 0).map(|milli| {
        i64::try_from(milli * i128::from(PERIOD) / 1000)
            .unwrap_or(i64::MAX)
            .max(MIN_QUOTA)
    });
    Resources {
        cpu_period: quota.map(|_| PERIOD),
        cpu_quota: quota,
        cpu_shares: Some(shares(cpu_request.unwrap_or(0))),
        memory_limit_bytes: memory.map(|m| i64::try_from(m / 1000).unwrap_or(i64::MAX)),
        oom_score_adj: Some(
            pod.qos()
                .oom_score_adj(pod.spec(), container, memory_capacity),
        ),
        cpuset_cpus: None,
        pids_limit: None,
    }
}

fn shares(milli_cpu: i128) -> u64 {
    u64::try_from(milli_cpu * 1024 / 1000)
        .unwrap_or(MAX_SHARES)
        .clamp(MIN_SHARES, MAX_SHARES)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{Pod, ResourceRequirements},
        apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;

    #[test]
    fn half_a_cpu_is_half_a_period() {
        let limits = [("cpu", "500m"), ("memory", "64Mi")];
        let container = Container {
            resources: Some(ResourceRequirements {
                limits: Some(
                    limits
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned())))
                        .collect(),
                ),
                ..Default::default()
            }),
            ..Default::default()
        };
        let r = container_resources(&PodView::new(Pod::default()), &container, 1 << 30);
        assert_eq!(
            (r.cpu_quota, r.cpu_period, r.cpu_shares),
            (Some(50_000), Some(100_000), Some(512))
        );
        assert_eq!(r.memory_limit_bytes, Some(64 << 20));
        let r = container_resources(
            &PodView::new(Pod::default()),
            &Container::default(),
            1 << 30,
        );
        assert_eq!(
            (r.cpu_quota, r.cpu_shares, r.oom_score_adj),
            (None, Some(2), Some(1000))
        );
    }
}
