//! [`PrioritySort`].

use crate::{
    framework::{Plugin, QueueSort},
    snapshot::PodInfo,
};

/// Higher priority first.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }
}

impl QueueSort for PrioritySort {
    fn less(&self, a: &PodInfo, b: &PodInfo) -> bool {
        a.priority() > b.priority()
    }
}
