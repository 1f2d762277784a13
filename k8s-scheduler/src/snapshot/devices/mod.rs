//! [`Devices`]: what there is to be claimed, and who has it (KEP-4381).

mod expression;
mod pools;
mod taken;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

pub(crate) use expression::Expression;
pub(crate) use pools::{Counters, Pools};
pub(crate) use taken::{DeviceId, Taken};
pub use wire::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice};

use super::objects::{Key, key};

/// The objects about devices, and what follows from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    claims: HashMap<Key, Arc<ResourceClaim>>,
    classes: HashMap<String, Arc<DeviceClass>>,
    slices: BTreeMap<String, Arc<ResourceSlice>>,
    rules: BTreeMap<String, Arc<DeviceTaintRule>>,
    /// By the claims that the API shows. Shared with cycles, for as long as they last.
    taken: Arc<Taken>,
    /// What the slices and rules come to, once somebody asks.
    pools: OnceLock<Arc<Pools>>,
}

impl Devices {
    pub(super) fn set_claim(&mut self, mut claim: ResourceClaim) {
        claim.metadata.managed_fields = None;
        let key = key(&claim.metadata);
        if let Some(allocation) = &claim.status.allocation {
            Arc::make_mut(&mut self.taken).take(allocation);
        }
        let before = self.claims.insert(key, Arc::new(claim));
        self.forget(before.as_deref());
    }

    pub(super) fn unset_claim(&mut self, claim: &ResourceClaim) {
        let before = self.claims.remove(&key(&claim.metadata));
        self.forget(before.as_deref());
    }

    fn forget(&mut self, claim: Option<&ResourceClaim>) {
        if let Some(allocation) = claim.and_then(|c| c.status.allocation.as_ref()) {
            Arc::make_mut(&mut self.taken).give_back(allocation);
        }
    }

    pub(super) fn set_class(&mut self, mut class: DeviceClass) {
        class.metadata.managed_fields = None;
        self.classes.insert(key(&class.metadata).1, Arc::new(class));
    }

    pub(super) fn unset_class(&mut self, class: &DeviceClass) {
        self.classes.remove(&key(&class.metadata).1);
    }

    pub(super) fn set_slice(&mut self, mut slice: ResourceSlice) {
        slice.metadata.managed_fields = None;
        self.pools = OnceLock::new();
        self.slices.insert(key(&slice.metadata).1, Arc::new(slice));
    }

    pub(super) fn unset_slice(&mut self, slice: &ResourceSlice) {
        self.pools = OnceLock::new();
        self.slices.remove(&key(&slice.metadata).1);
    }

    pub(super) fn set_rule(&mut self, mut rule: DeviceTaintRule) {
        rule.metadata.managed_fields = None;
        self.pools = OnceLock::new();
        self.rules.insert(key(&rule.metadata).1, Arc::new(rule));
    }

    pub(super) fn unset_rule(&mut self, rule: &DeviceTaintRule) {
        self.pools = OnceLock::new();
        self.rules.remove(&key(&rule.metadata).1);
    }

    /// A claim.
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// A class.
    pub(crate) fn class(&self, name: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(name)
    }

    /// The devices that claims have, as the API shows it.
    pub(crate) fn taken(&self) -> &Arc<Taken> {
        &self.taken
    }

    /// The devices that there are.
    pub(crate) fn pools(&self) -> &Arc<Pools> {
        self.pools.get_or_init(|| {
            let rules: Vec<Arc<DeviceTaintRule>> = self.rules.values().cloned().collect();
            Arc::new(Pools::new(self.slices.values(), &rules))
        })
    }
}
