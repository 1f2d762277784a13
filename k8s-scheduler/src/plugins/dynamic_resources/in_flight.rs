//! [`InFlight`]: allocations that the API does not show yet.

use std::{collections::HashMap, sync::Arc};

use crate::snapshot::{
    Devices, ResourceClaim,
    devices::{Taken, wire::Allocation},
};

/// Allocations that were decided, by the UID of their claim: from then on until the API shows them.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    claims: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The claim as it will be; as it was written, once it was.
    claim: Arc<ResourceClaim>,
    is_written: bool,
}

/// What is known of a claim beside what the API shows.
#[derive(Debug)]
pub(super) enum Ahead {
    /// It gets its devices at the moment.
    Pending,
    /// It has got them.
    Written(Arc<ResourceClaim>),
}

fn revision(claim: &ResourceClaim) -> u64 {
    let text = claim.metadata.resource_version.as_deref();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl InFlight {
    /// Forgets what the API shows by now.
    pub(super) fn catch_up(&mut self, devices: &Devices) {
        self.claims.retain(|uid, entry| {
            let shown = devices.claim(entry.claim.namespace(), entry.claim.name());
            !entry.is_written
                || shown.is_some_and(|shown| {
                    shown.uid() == uid && revision(shown) < revision(&entry.claim)
                })
        });
    }

    /// The devices that the API does not show as taken.
    pub(super) fn taken(&self, devices: &Devices) -> Taken {
        let mut taken = Taken::default();
        for (uid, entry) in &self.claims {
            let shown = devices.claim(entry.claim.namespace(), entry.claim.name());
            let is_shown =
                shown.is_some_and(|shown| shown.uid() == uid && shown.status.allocation.is_some());
            if let Some(allocation) = entry.claim.status.allocation.as_ref().filter(|_| !is_shown) {
                taken.take(allocation);
            }
        }
        taken
    }

    pub(super) fn ahead(&self, uid: &str) -> Option<Ahead> {
        let entry = self.claims.get(uid)?;
        Some(match entry.is_written {
            true => Ahead::Written(entry.claim.clone()),
            false => Ahead::Pending,
        })
    }

    /// Notes what a claim is going to have.
    pub(super) fn begin(&mut self, claim: &ResourceClaim, allocation: &Allocation) {
        let mut claim = claim.clone();
        claim.status.allocation = Some(allocation.clone());
        let entry = Entry {
            claim: Arc::new(claim),
            is_written: false,
        };
        self.claims.insert(entry.claim.uid().to_owned(), entry);
    }

    /// Notes that it was written.
    pub(super) fn written(&mut self, claim: Arc<ResourceClaim>) {
        if let Some(entry) = self.claims.get_mut(claim.uid()) {
            entry.claim = claim;
            entry.is_written = true;
        }
    }

    /// Takes it back, if it was not written.
    pub(super) fn abandon(&mut self, uid: &str) {
        if self.claims.get(uid).is_some_and(|entry| !entry.is_written) {
            self.claims.remove(uid);
        }
    }
}
