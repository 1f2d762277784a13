//! [`Pools`]: the devices that there are, by pool.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_model::quantity::Amount;
use k8s_openapi::api::core::v1::NodeSelector;

use super::{
    expression::Expression,
    taken::DeviceId,
    wire::{Device, DeviceTaintRule, ResourceSlice, Taint},
};
use crate::{plugins::matches_node_selector, snapshot::NodeInfo};

/// How many expressions are remembered, with what they said of each device.
const EXPRESSIONS: usize = 256;

/// What pools have to share out: by the names of the set and of the counter.
pub(crate) type Counters = BTreeMap<(String, String), Amount>;

/// All devices that slices of their pool's newest generation list. Made anew when one of them changes.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// By driver and name.
    pools: Vec<PoolInfo>,
    slices: Vec<SliceInfo>,
    /// All devices, those of a slice one after the other.
    devices: Vec<DeviceInfo>,
    /// The slices of one node.
    on_node: HashMap<String, Vec<usize>>,
    /// The slices of several nodes.
    of_many: Vec<usize>,
    expressions: Mutex<HashMap<String, Arc<Expression>>>,
}

#[derive(Debug)]
struct PoolInfo {
    driver: Arc<str>,
    name: Arc<str>,
    is_complete: bool,
    /// Whether two of its devices have one name, on whatever nodes.
    has_namesakes: bool,
    /// Why its counters make no sense.
    is_invalid: bool,
    counters: Counters,
    slices: Vec<usize>,
}

#[derive(Debug)]
struct SliceInfo {
    slice: Arc<ResourceSlice>,
    pool: usize,
    /// The position of its first device.
    first: usize,
}

#[derive(Debug)]
struct DeviceInfo {
    id: DeviceId,
    slice: usize,
    /// Its place in the slice.
    index: usize,
    /// What rules add to its own taints.
    taints: Vec<Taint>,
}

/// The pools that a node can have devices of.
#[derive(Debug, Default)]
pub(crate) struct NodePools {
    /// The devices, in the order in which they are given away, by position.
    pub(crate) devices: Vec<usize>,
    /// One of the pools that a driver is still publishing: `driver/pool`.
    pub(crate) incomplete: Option<String>,
    /// One of the pools that make no sense.
    pub(crate) invalid: Option<String>,
}

impl Pools {
    pub(super) fn new<'a>(
        slices: impl Iterator<Item = &'a Arc<ResourceSlice>>,
        rules: &[Arc<DeviceTaintRule>],
    ) -> Self {
        let mut by_pool: BTreeMap<(&str, &str), Vec<&Arc<ResourceSlice>>> = BTreeMap::new();
        for slice in slices {
            let key = (slice.spec.driver.as_str(), slice.spec.pool.name.as_str());
            by_pool.entry(key).or_default().push(slice);
        }
        let mut pools = Self::default();
        for ((driver, name), slices) in by_pool {
            pools.add(driver.into(), name.into(), &slices, rules);
        }
        pools
    }

    /// Adds a pool, by its slices in the order of their names.
    fn add(
        &mut self,
        driver: Arc<str>,
        name: Arc<str>,
        slices: &[&Arc<ResourceSlice>],
        rules: &[Arc<DeviceTaintRule>],
    ) {
        let generation = |slice: &ResourceSlice| slice.spec.pool.generation;
        let newest = slices.iter().map(|s| generation(s)).max().unwrap_or(0);
        let current = slices.iter().filter(|s| generation(s) == newest);
        let current: Vec<&Arc<ResourceSlice>> = current.copied().collect();
        let expected = current.first().map(|s| s.spec.pool.resource_slice_count);
        let is_complete = i64::try_from(current.len()).ok() == expected;
        let pool = self.pools.len();
        let mut info = PoolInfo {
            driver: driver.clone(),
            name: name.clone(),
            is_complete,
            has_namesakes: false,
            is_invalid: false,
            counters: Counters::new(),
            slices: Vec::new(),
        };
        let mut sets = BTreeSet::new();
        let shared = current.iter().flat_map(|s| &s.spec.shared_counters);
        for set in shared {
            info.is_invalid |= !sets.insert(set.name.as_str());
            for (counter, amount) in &set.counters {
                let key = (set.name.clone(), counter.clone());
                info.counters.insert(key, amount.value.0);
            }
        }
        let mut names = BTreeSet::new();
        for slice in current {
            let position = self.slices.len();
            info.slices.push(position);
            self.slices.push(SliceInfo {
                slice: slice.clone(),
                pool,
                first: self.devices.len(),
            });
            if slice.spec.shared_counters.is_empty() {
                match slice.spec.node_name.as_str() {
                    "" => self.of_many.push(position),
                    node => self
                        .on_node
                        .entry(node.to_owned())
                        .or_default()
                        .push(position),
                }
            }
            for (index, device) in slice.spec.devices.iter().enumerate() {
                info.has_namesakes |= !names.insert(device.name.as_str());
                let consumed = device.consumes_counters.iter().flat_map(|c| {
                    let names = c.counters.keys();
                    names.map(|name| (c.counter_set.clone(), name.clone()))
                });
                for counter in consumed {
                    info.is_invalid |= !info.counters.contains_key(&counter);
                }
                let id = DeviceId {
                    driver: driver.clone(),
                    pool: name.clone(),
                    device: device.name.as_str().into(),
                };
                let taints = rules.iter().filter(|rule| applies(rule, &id));
                self.devices.push(DeviceInfo {
                    taints: taints.map(|rule| rule.spec.taint.clone()).collect(),
                    id,
                    slice: position,
                    index,
                });
            }
        }
        self.pools.push(info);
    }

    /// The device at a position.
    pub(crate) fn device(&self, position: usize) -> &Device {
        let info = &self.devices[position];
        &self.slices[info.slice].slice.spec.devices[info.index]
    }

    /// Which device is at a position.
    pub(crate) fn id(&self, position: usize) -> &DeviceId {
        &self.devices[position].id
    }

    /// Its taints: its own and those of rules.
    pub(crate) fn taints(&self, position: usize) -> impl Iterator<Item = &Taint> {
        let own = self.device(position).taints.iter();
        own.chain(&self.devices[position].taints)
    }

    /// The pool of a device.
    pub(crate) fn pool_of(&self, position: usize) -> usize {
        self.slices[self.devices[position].slice].pool
    }

    /// What a pool has to share out.
    pub(crate) fn counters(&self, pool: usize) -> &Counters {
        &self.pools[pool].counters
    }

    /// All devices of a pool, on whatever nodes, by position.
    pub(crate) fn devices_of(&self, pool: usize) -> impl Iterator<Item = usize> {
        let slices = self.pools[pool].slices.iter().map(|s| &self.slices[*s]);
        slices.flat_map(|s| s.first..s.first + s.slice.spec.devices.len())
    }

    /// Where a device can be used: on one node, or on those that a selector selects, or (none of both) on all.
    pub(crate) fn place(&self, position: usize) -> (bool, Option<&NodeSelector>) {
        let spec = &self.slices[self.devices[position].slice].slice.spec;
        if spec.per_device_node_selection {
            let device = self.device(position);
            return (!device.node_name.is_empty(), device.node_selector.as_ref());
        }
        (!spec.node_name.is_empty(), spec.node_selector.as_ref())
    }

    /// An expression, parsed, with what it said of the devices so far.
    pub(crate) fn expression(&self, source: &str) -> Arc<Expression> {
        let known = self.expressions.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(expression) = known.get(source) {
            return expression.clone();
        }
        if known.len() >= EXPRESSIONS {
            known.clear();
        }
        let expression = Arc::new(Expression::new(source, self.devices.len()));
        known.insert(source.to_owned(), expression.clone());
        expression
    }

    /// The devices that can be used on a node.
    pub(crate) fn on(&self, node: &NodeInfo) -> NodePools {
        let mut slices: Vec<usize> = self.on_node.get(node.name()).cloned().unwrap_or_default();
        let many = self.of_many.iter().copied();
        slices.extend(many.filter(|position| self.is_reachable(*position, node)));
        // Positions are in the order of drivers, pools and slices.
        slices.sort_unstable();
        let mut found = NodePools::default();
        let mut later = Vec::new();
        for slices in slices.chunk_by(|a, b| self.slices[*a].pool == self.slices[*b].pool) {
            let Some(pool) = slices.first().map(|s| &self.pools[self.slices[*s].pool]) else {
                continue;
            };
            let id = || Some(format!("{}/{}", pool.driver, pool.name));
            if !pool.is_complete {
                found.incomplete = found.incomplete.or_else(id);
                continue;
            }
            if pool.is_invalid || (pool.has_namesakes && self.have_namesakes(slices)) {
                found.invalid = found.invalid.or_else(id);
                continue;
            }
            let start = found.devices.len();
            for position in slices {
                let info = &self.slices[*position];
                let spec = &info.slice.spec;
                let devices = spec.devices.iter().enumerate();
                let usable = devices.filter(|(_, device)| {
                    !spec.per_device_node_selection
                        || is_for(
                            &device.node_name,
                            device.all_nodes,
                            device.node_selector.as_ref(),
                            node,
                        )
                });
                found
                    .devices
                    .extend(usable.map(|(index, _)| info.first + index));
            }
            // Devices that take their time to be bound come last.
            let waits = |s: &usize| {
                let mut devices = self.slices[*s].slice.spec.devices.iter();
                devices.any(|device| !device.binding_conditions.is_empty())
            };
            if slices.iter().any(waits) {
                later.extend(found.devices.drain(start..));
            }
        }
        found.devices.append(&mut later);
        found
    }

    fn is_reachable(&self, slice: usize, node: &NodeInfo) -> bool {
        let spec = &self.slices[slice].slice.spec;
        if spec.per_device_node_selection {
            return spec.devices.iter().any(|device| {
                let selector = device.node_selector.as_ref();
                is_for(&device.node_name, device.all_nodes, selector, node)
            });
        }
        is_for("", spec.all_nodes, spec.node_selector.as_ref(), node)
    }

    fn have_namesakes(&self, slices: &[usize]) -> bool {
        let mut names = BTreeSet::new();
        let slices = slices.iter().map(|s| &self.slices[*s].slice.spec);
        let mut devices = slices.flat_map(|spec| &spec.devices);
        devices.any(|device| !names.insert(device.name.as_str()))
    }
}

fn is_for(
    node_name: &str,
    all_nodes: bool,
    selector: Option<&NodeSelector>,
    node: &NodeInfo,
) -> bool {
    if !node_name.is_empty() {
        return node_name == node.name();
    }
    all_nodes || selector.is_some_and(|selector| matches_node_selector(selector, node))
}

fn applies(rule: &DeviceTaintRule, id: &DeviceId) -> bool {
    let holds =
        |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
    // A rule without a selector is about no device.
    rule.spec.device_selector.as_ref().is_some_and(|selector| {
        holds(&selector.driver, &id.driver)
            && holds(&selector.pool, &id.pool)
            && holds(&selector.device, &id.device)
    })
}
