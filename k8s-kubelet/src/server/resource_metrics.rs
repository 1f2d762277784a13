//! `/metrics/resource`: CPU time and memory of node, pods and containers, as the metrics server
//! reads them (KEP-727).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    metrics::{Metric, Stability::Stable},
    stats::{self, Used},
};
use crate::context::Context;

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point")]
fn float(n: u64) -> f64 {
    n as f64
}

/// All of them, in the text format.
pub(crate) async fn metrics(cx: &Context) -> String {
    let (used, error) = match stats::used(cx).await {
        Ok(used) => (used, 0.0),
        Err(error) => {
            tracing::warn!(%error, "containers not measured");
            (Vec::new(), 1.0)
        }
    };
    text(&used, |pods| stats::whole(cx, pods), cx.clock.now(), error)
}

/// `node` makes of the sums over the pods what the node uses.
fn text(
    used: &[Used],
    node: impl FnOnce((u64, u64)) -> (u64, u64),
    now: Timestamp,
    error: f64,
) -> String {
    let mut start = Metric::new(
        Stable,
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    let mut cpu = Metric::new(
        Stable,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    let mut memory = Metric::new(
        Stable,
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    );
    let mut pods: BTreeMap<(&str, &str), (u64, u64, Timestamp)> = BTreeMap::new();
    for c in used {
        let (namespace, pod, _) = &c.pod;
        let labels = format!(
            "{{container={:?},namespace={namespace:?},pod={pod:?}}}",
            c.container
        );
        let at = Some(c.stats.at);
        if let Some(started) = c.started {
            start.add(labels.clone(), started.as_duration().as_secs_f64(), None);
        }
        cpu.add(labels.clone(), seconds(c.stats.cpu_usage_nanos), at);
        memory.add(labels, float(c.stats.memory_working_set_bytes), at);
        let sum = pods.entry((namespace, pod)).or_insert((0, 0, c.stats.at));
        sum.0 += c.stats.cpu_usage_nanos;
        sum.1 += c.stats.memory_working_set_bytes;
    }
    let mut pod_cpu = Metric::new(
        Stable,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    let mut pod_memory = Metric::new(
        Stable,
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
    );
    let mut total = (0, 0);
    for ((namespace, pod), (nanos, bytes, at)) in pods {
        let labels = format!("{{namespace={namespace:?},pod={pod:?}}}");
        pod_cpu.add(labels.clone(), seconds(nanos), Some(at));
        pod_memory.add(labels, float(bytes), Some(at));
        total = (total.0 + nanos, total.1 + bytes);
    }
    let (nanos, bytes) = node(total);
    let mut node_cpu = Metric::new(
        Stable,
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    node_cpu.add(String::new(), seconds(nanos), Some(now));
    let mut node_memory = Metric::new(
        Stable,
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
    );
    node_memory.add(String::new(), float(bytes), Some(now));
    let mut scrape = Metric::new(
        Stable,
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    scrape.add(String::new(), error, None);
    let all = [
        cpu,
        memory,
        start,
        node_cpu,
        node_memory,
        pod_cpu,
        pod_memory,
        scrape,
    ];
    all.iter().map(Metric::to_string).collect()
}

#[cfg(test)]
mod tests {
    use k8s_runtime::{ContainerId, ContainerStats};

    use super::*;

    #[test]
    fn containers_pods_and_node_are_told_with_the_time_of_their_measurement() {
        let at = Timestamp::from_second(1000).unwrap();
        let used = |container: &str, cpu_usage_nanos| Used {
            pod: ("ns".to_owned(), "p".to_owned(), "uid".to_owned()),
            container: container.to_owned(),
            started: Some(Timestamp::from_second(900).unwrap()),
            stats: ContainerStats {
                id: ContainerId(container.to_owned()),
                at,
                cpu_usage_nanos,
                memory_working_set_bytes: 4096,
                pids: 1,
            },
        };
        let used = [used("a", 1_500_000_000), used("b", 500_000_000)];
        let out = text(&used, |pods| pods, at, 0.0);
        for line in [
            "# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds",
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"p\"} 1.5 1000000",
            "container_start_time_seconds{container=\"b\",namespace=\"ns\",pod=\"p\"} 900",
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"p\"} 2 1000000",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\"} 8192 1000000",
            "node_cpu_usage_seconds_total 2 1000000",
            "resource_scrape_error 0",
        ] {
            assert!(out.lines().any(|l| l == line), "{line}\n{out}");
        }
        let out = text(&[], |_| (7_000_000_000, 1 << 20), at, 1.0);
        assert!(out.contains("node_cpu_usage_seconds_total 7 1000000\n"));
        assert!(out.contains("node_memory_working_set_bytes 1048576 1000000\n"));
        assert!(out.contains("resource_scrape_error 1\n") && !out.contains("pod_"));
    }
}
