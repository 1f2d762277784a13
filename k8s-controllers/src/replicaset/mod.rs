//! ReplicaSet and ReplicationController: so many pods of one template, no more and no less.
//!
//! Mirrors upstream's `pkg/controller/replicaset`, which serves both kinds too. [`decide`] is the
//! pure core; [`driver`] reads informers and makes the requests.

pub(crate) mod decide;
pub(crate) mod driver;
mod set;

pub(crate) use set::ReplicaOwner;
