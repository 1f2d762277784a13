//! Time to live, which etcd has for leases only.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    client::{Client, Kind},
    fault,
    proto::{LeaseGrantRequest, LeaseGrantResponse},
};
use crate::Error;

/// The most keys on a lease: they all go in one commit.
const MOST_KEYS: usize = 1000;
/// A lease lives longer than its keys need by this share, so that the keys
/// written in the meantime can have the same one…
const SHARE: u64 = 20;
/// …but no longer than this, in seconds. Upstream's `DefaultLeaseReuseDurationSeconds`.
const LONGEST: u64 = 60;

/// The leases that more keys can be put on, by the time that these need.
#[derive(Debug, Default)]
pub(super) struct Leases {
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    id: i64,
    /// Until when a key put on it lives long enough.
    until: Instant,
    keys: usize,
}

impl Leases {
    /// A lease on which a key lives for at least that long.
    pub(super) async fn lease(&self, client: &Client, ttl: Duration) -> Result<i64, Error> {
        let seconds = u64::try_from(ttl.as_nanos().div_ceil(1_000_000_000))
            .unwrap_or(u64::MAX)
            // etcd counts in seconds, and has an upper bound.
            .clamp(1, 9_000_000_000 - LONGEST);
        if let Some(id) = self.take(seconds) {
            return Ok(id);
        }
        let spare = (seconds / SHARE).min(LONGEST);
        let begun = Instant::now();
        let request = LeaseGrantRequest {
            ttl: i64::try_from(seconds + spare).unwrap_or(i64::MAX),
        };
        // A lease too many expires by itself.
        let granted: LeaseGrantResponse = client
            .call("/etcdserverpb.Lease/LeaseGrant", request, Kind::Read)
            .await
            .map_err(fault::error)?;
        if !granted.error.is_empty() {
            return Err(fault::error(tonic::Status::unknown(granted.error)));
        }
        if spare > 0 {
            let open = Open {
                id: granted.id,
                until: begun + Duration::from_secs(spare),
                keys: 1,
            };
            self.open.lock().insert(seconds, open);
        }
        Ok(granted.id)
    }

    fn take(&self, seconds: u64) -> Option<i64> {
        let mut open = self.open.lock();
        let found = open.get_mut(&seconds)?;
        if found.keys >= MOST_KEYS || Instant::now() >= found.until {
            open.remove(&seconds);
            return None;
        }
        found.keys += 1;
        Some(found.id)
    }

    /// Forgets all leases: one of them is gone.
    pub(super) fn forget(&self) {
        self.open.lock().clear();
    }
}
