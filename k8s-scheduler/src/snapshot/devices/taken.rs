//! [`Taken`]: the devices that claims have.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_model::quantity::Amount;

use super::wire::{Allocation, GivenDevice};

/// Which device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeviceId {
    pub(crate) driver: Arc<str>,
    pub(crate) pool: Arc<str>,
    pub(crate) device: Arc<str>,
}

impl std::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.device)
    }
}

impl DeviceId {
    fn of(given: &GivenDevice) -> Self {
        Self {
            driver: given.driver.as_str().into(),
            pool: given.pool.as_str().into(),
            device: given.device.as_str().into(),
        }
    }
}

/// The devices that claims have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Taken {
    /// Those that one claim has for itself; by how many claims, since the API shows them in no certain order.
    whole: HashMap<DeviceId, usize>,
    /// What is used of those that claims share, and by how many.
    shared: HashMap<DeviceId, Share>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Share {
    claims: usize,
    used: BTreeMap<String, Amount>,
}

impl Taken {
    /// Takes the devices of an allocation. Access for administration takes nothing.
    pub(crate) fn take(&mut self, allocation: &Allocation) {
        for given in owned(allocation) {
            let id = DeviceId::of(given);
            if given.share_id.is_none() {
                *self.whole.entry(id).or_default() += 1;
                continue;
            }
            let share = self.shared.entry(id).or_default();
            share.claims += 1;
            for (name, size) in &given.consumed_capacity {
                *share.used.entry(name.clone()).or_default() += size.0;
            }
        }
    }

    /// Gives them back.
    pub(crate) fn give_back(&mut self, allocation: &Allocation) {
        for given in owned(allocation) {
            let id = DeviceId::of(given);
            if given.share_id.is_none() {
                if let Some(count) = self.whole.get_mut(&id) {
                    *count -= 1;
                    if *count == 0 {
                        self.whole.remove(&id);
                    }
                }
                continue;
            }
            if let Some(share) = self.shared.get_mut(&id) {
                share.claims -= 1;
                for (name, size) in &given.consumed_capacity {
                    *share.used.entry(name.clone()).or_default() -= size.0;
                }
                if share.claims == 0 {
                    self.shared.remove(&id);
                }
            }
        }
    }

    /// Whether a claim has it for itself.
    pub(crate) fn has_whole(&self, id: &DeviceId) -> bool {
        self.whole.contains_key(id)
    }

    /// Whether a claim has it, or a part of it.
    pub(crate) fn has(&self, id: &DeviceId) -> bool {
        self.has_whole(id) || self.shared.contains_key(id)
    }

    /// How much of a device that is shared is used.
    pub(crate) fn used(&self, id: &DeviceId, capacity: &str) -> Amount {
        let share = self.shared.get(id);
        let used = share.and_then(|share| share.used.get(capacity));
        used.copied().unwrap_or_default()
    }
}

fn owned(allocation: &Allocation) -> impl Iterator<Item = &GivenDevice> {
    let results = allocation.devices.results.iter();
    results.filter(|given| given.admin_access != Some(true))
}
