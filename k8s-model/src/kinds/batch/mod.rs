//! The group `batch`.

mod alpha;
pub(crate) mod cron_job;
mod failure_policy;
mod indexes;
pub(crate) mod job;
mod schedule;
mod success_policy;
mod time_zone;
