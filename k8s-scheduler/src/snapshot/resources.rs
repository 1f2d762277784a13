//! [`Resources`]: amounts of what a node has and pods request.

use std::collections::BTreeMap;

use k8s_model::quantity::Amount;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

/// Millicores that a container without a CPU request counts for in scores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// Bytes that a container without a memory request counts for in scores.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource. Arithmetic saturates: an absurd request fits nowhere instead of wrapping round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU in millicores.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local disk in bytes.
    pub ephemeral_storage: i64,
    /// Everything else, such as `hugepages-2Mi` or `example.com/gpu`, in whole units.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// Amounts from a resource list. A quantity that can't be read counts as more than any
    /// node has. `pods` is left out.
    pub fn from_list(list: &BTreeMap<String, Quantity>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => resources.milli_cpu = milli(quantity),
                "memory" => resources.memory = whole(quantity),
                "ephemeral-storage" => resources.ephemeral_storage = whole(quantity),
                "pods" => {}
                _ => {
                    resources.scalar.insert(name.clone(), whole(quantity));
                }
            }
        }
        resources
    }

    /// Adds other amounts.
    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral_storage = self
            .ephemeral_storage
            .saturating_add(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let sum = self.scalar.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes other amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_sub(other.milli_cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.ephemeral_storage = self
            .ephemeral_storage
            .saturating_sub(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let rest = self.scalar.entry(name.clone()).or_default();
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// Takes the larger of each amount.
    pub fn max(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let most = self.scalar.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

fn milli(quantity: &Quantity) -> i64 {
    Amount::try_from(quantity).map_or(i64::MAX, |amount| amount.milli_value())
}

fn whole(quantity: &Quantity) -> i64 {
    Amount::try_from(quantity).map_or(i64::MAX, |amount| amount.value())
}

fn of_container(container: &Container) -> Resources {
    container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref())
        .map(Resources::from_list)
        .unwrap_or_default()
}

fn is_restartable(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What a pod requests. Init containers run one after another, beside the restartable ones before
/// them (KEP-753); requests at pod level replace the sum of CPU and memory (KEP-2837).
pub(super) fn requests(spec: &PodSpec) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&of_container(container));
    }
    let mut sidecars = Resources::default();
    let mut init = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut while_it_runs = of_container(container);
        if is_restartable(container) {
            sidecars.add(&while_it_runs);
            init.max(&sidecars);
        } else {
            while_it_runs.add(&sidecars);
            init.max(&while_it_runs);
        }
    }
    sum.add(&sidecars);
    sum.max(&init);
    if let Some(pod) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let level = Resources::from_list(pod);
        if pod.contains_key("cpu") {
            sum.milli_cpu = level.milli_cpu;
        }
        if pod.contains_key("memory") {
            sum.memory = level.memory;
        }
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Resources::from_list(overhead));
    }
    sum
}

/// CPU and memory as the scores count them.
pub(super) fn non_zero(spec: &PodSpec) -> (i64, i64) {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| is_restartable(c));
    let mut total = (0i64, 0i64);
    for container in spec.containers.iter().chain(sidecars) {
        let requests = container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        let has = |name: &str| requests.and_then(|r| r.get(name));
        total.0 = total
            .0
            .saturating_add(has("cpu").map_or(DEFAULT_MILLI_CPU, milli));
        total.1 = total
            .1
            .saturating_add(has("memory").map_or(DEFAULT_MEMORY, whole));
    }
    if let Some(overhead) = &spec.overhead {
        let overhead = Resources::from_list(overhead);
        total.0 = total.0.saturating_add(overhead.milli_cpu);
        total.1 = total.1.saturating_add(overhead.memory);
    }
    total
}
