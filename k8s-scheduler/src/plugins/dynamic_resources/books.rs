//! [`Books`]: what a search has taken on its way.

use std::collections::HashMap;

use k8s_model::quantity::Amount;

use super::{
    capacity::{Used, used},
    search::Search,
};
use crate::snapshot::devices::{
    Counters,
    wire::{Device, Wanted},
};

/// What a search has taken on its way, beside what others have.
#[derive(Debug)]
pub(super) struct Books<'a> {
    search: &'a Search,
    /// The claims that have a device, for themselves or for administration.
    holders: HashMap<usize, Vec<usize>>,
    /// What is used of devices that are shared.
    shares: HashMap<usize, Vec<Used>>,
    /// What is used of the counters of pools.
    consumed: HashMap<usize, Counters>,
}

/// What a device uses of the counters of its pool.
pub(super) fn consumed(device: &Device) -> impl Iterator<Item = ((String, String), Amount)> + '_ {
    device.consumes_counters.iter().flat_map(|consumption| {
        let counters = consumption.counters.iter();
        counters.map(|(name, amount)| {
            let key = (consumption.counter_set.clone(), name.clone());
            (key, amount.value.0)
        })
    })
}

impl<'a> Books<'a> {
    pub(super) fn new(search: &'a Search) -> Self {
        Self {
            search,
            holders: HashMap::new(),
            shares: HashMap::new(),
            consumed: HashMap::new(),
        }
    }

    /// Whether a device can't be had by a claim, because somebody has it: for administration, the claim itself.
    pub(super) fn is_in_use(&self, claim: usize, wanted: &Wanted, device: usize) -> bool {
        let holders = self.holders.get(&device);
        if wanted.admin_access == Some(true) {
            return holders.is_some_and(|claims| claims.contains(&claim));
        }
        self.search.is_taken(self.search.pools.id(device))
            || holders.is_some_and(|claims| !claims.is_empty())
    }

    /// What a request would use of a device, if there is so much left.
    pub(super) fn room(&self, wanted: &Wanted, device: usize) -> Option<Used> {
        let (id, info) = (
            self.search.pools.id(device),
            self.search.pools.device(device),
        );
        let used = used(&wanted.capacity.requests, info)?;
        let shares = self.shares.get(&device);
        let fits = used.iter().all(|(name, amount)| {
            let mut sum = self.search.used(id, name) + *amount;
            for share in shares.into_iter().flatten() {
                sum += share.get(name).copied().unwrap_or_default();
            }
            info.capacity
                .get(name)
                .is_some_and(|all| sum <= all.value.0)
        });
        fits.then_some(used)
    }

    /// Whether a device takes of its pool's counters when it is taken. Who shares a device uses what the first one took.
    pub(super) fn has_counters(&self, device: usize) -> bool {
        let pools = &self.search.pools;
        let info = pools.device(device);
        let is_open = info.allow_multiple_allocations == Some(true)
            && (self.search.is_used(pools.id(device))
                || self.shares.get(&device).is_some_and(|all| !all.is_empty()));
        !info.consumes_counters.is_empty() && !is_open
    }

    /// Takes what a device uses of its pool's counters, if there is so much left.
    pub(super) fn consume(&mut self, device: usize) -> bool {
        let pool = self.search.pools.pool_of(device);
        let info = self.search.pools.device(device);
        let left = self.search.counters(pool);
        let taken = self.consumed.entry(pool).or_default();
        for (key, amount) in consumed(info) {
            *taken.entry(key).or_default() += amount;
        }
        let fits = consumed(info).all(|(key, _)| {
            let taken = taken.get(&key).copied().unwrap_or_default();
            left.get(&key).is_some_and(|left| taken <= *left)
        });
        if !fits {
            self.restore(device);
        }
        fits
    }

    /// Gives it back.
    pub(super) fn restore(&mut self, device: usize) {
        let pool = self.search.pools.pool_of(device);
        if let Some(taken) = self.consumed.get_mut(&pool) {
            for (key, amount) in consumed(self.search.pools.device(device)) {
                *taken.entry(key).or_default() -= amount;
            }
        }
    }

    /// A claim takes a device, or uses so much of one that is shared.
    pub(super) fn take(&mut self, claim: usize, device: usize, used: Option<&Used>) {
        match used {
            Some(used) => self.shares.entry(device).or_default().push(used.clone()),
            None => self.holders.entry(device).or_default().push(claim),
        }
    }

    /// Takes back what was taken last of a device.
    pub(super) fn give_back(&mut self, device: usize, was_shared: bool) {
        if was_shared {
            if let Some(shares) = self.shares.get_mut(&device) {
                shares.pop();
            }
        } else if let Some(holders) = self.holders.get_mut(&device) {
            holders.pop();
        }
    }
}
