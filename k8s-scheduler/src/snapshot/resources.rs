//! [`Resources`]: amounts of what a node has and pods request.

use std::collections::BTreeMap;

use k8s_model::quantity::Amount;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec, PodStatus},
    apimachinery::pkg::api::resource::Quantity,
};

/// Millicores that a container without a CPU request counts for in scores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// Bytes that a container without a memory request counts for in scores.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource. Arithmetic saturates: an absurd request fits nowhere instead of wrapping round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// The amount of a resource by its name; cpu in millicores.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.scalar.get(name).copied().unwrap_or(0),
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

/// What one container requests. While it is resized in place (KEP-1287), the largest of what is
/// wanted, allocated and in force counts.
fn of_container(container: &Container, status: Option<&PodStatus>) -> Resources {
    let mut wanted = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref())
        .map(Resources::from_list)
        .unwrap_or_default();
    let Some(status) = status else { return wanted };
    let statuses = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses)
        .flatten();
    if let Some(now) = statuses.into_iter().find(|s| s.name == container.name) {
        let in_force = now.resources.as_ref().and_then(|r| r.requests.as_ref());
        let known = in_force.is_some() || now.allocated_resources.is_some();
        if known && is_resize_infeasible(status) {
            wanted = Resources::default();
        }
        for list in in_force.into_iter().chain(&now.allocated_resources) {
            wanted.max(&Resources::from_list(list));
        }
    }
    wanted
}

fn is_resize_infeasible(status: &PodStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"))
}

fn is_restartable(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Sums containers up. Init containers run one after another, beside the restartable ones before
/// them (KEP-753); requests at pod level replace the sum of what they name (KEP-2837).
fn sum(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&of(container));
    }
    if let Some(containers) = &spec.init_containers {
        let mut sidecars = Resources::default();
        let mut init = Resources::default();
        for container in containers {
            let mut while_it_runs = of(container);
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
    }
    if let Some(pod) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let level = Resources::from_list(pod);
        for name in pod.keys() {
            match name.as_str() {
                "cpu" => sum.milli_cpu = level.milli_cpu,
                "memory" => sum.memory = level.memory,
                name if name.starts_with("hugepages-") => {
                    let amount = level.scalar.get(name).copied().unwrap_or(0);
                    sum.scalar.insert(name.to_owned(), amount);
                }
                _ => {}
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Resources::from_list(overhead));
    }
    sum
}

/// What a pod requests.
pub(super) fn requests(spec: &PodSpec, status: Option<&PodStatus>) -> Resources {
    sum(spec, |container| of_container(container, status))
}

/// CPU and memory as the scores count them: a container that requests none counts for a little.
pub(super) fn non_zero(spec: &PodSpec) -> (i64, i64) {
    let total = sum(spec, |container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        let has = |name: &str| requests.and_then(|r| r.get(name));
        Resources {
            milli_cpu: has("cpu").map_or(DEFAULT_MILLI_CPU, milli),
            memory: has("memory").map_or(DEFAULT_MEMORY, whole),
            ..Resources::default()
        }
    });
    (total.milli_cpu, total.memory)
}
