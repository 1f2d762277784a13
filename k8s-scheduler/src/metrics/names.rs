//! The values of labels.

use crate::framework::EventKind;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident: $($(#[$d:meta])* $variant:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$d])* $variant,)*
        }

        impl $name {
            pub(super) const ALL: &[$name] = &[$($name::$variant,)*];
            pub(super) const COUNT: usize = Self::ALL.len();

            pub(super) fn text(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}

labels! {
    /// What became of an attempt.
    Outcome:
    Scheduled = "scheduled",
    Unschedulable = "unschedulable",
    Error = "error",
}

labels! {
    /// An extension point.
    Point:
    PreFilter = "PreFilter",
    Filter = "Filter",
    PostFilter = "PostFilter",
    PreScore = "PreScore",
    Score = "Score",
    Reserve = "Reserve",
    Permit = "Permit",
    PreBind = "PreBind",
    Bind = "Bind",
    PostBind = "PostBind",
}

labels! {
    /// A part of the queue.
    Where:
    Active = "active",
    Backoff = "backoff",
    Unschedulable = "unschedulable",
    Gated = "gated",
}

labels! {
    /// What brought a pod into a part of the queue.
    Incoming:
    PodAdd = "UnschedulablePodAdd",
    PodUpdate = "UnschedulablePodUpdate",
    Failure = "ScheduleAttemptFailure",
    BackoffComplete = "BackoffComplete",
    Timeout = "UnschedulableTimeout",
    Node = "NodeAddOrUpdate",
    NodeDelete = "NodeDelete",
    AssignedPodAdd = "AssignedPodAdd",
    AssignedPodUpdate = "AssignedPodUpdate",
    AssignedPodDelete = "AssignedPodDelete",
    Storage = "StorageChange",
    Devices = "DeviceChange",
    Object = "ObjectChange",
    Forced = "ForceActivate",
}

impl From<EventKind> for Incoming {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Node => Incoming::Node,
            EventKind::NodeDelete => Incoming::NodeDelete,
            EventKind::AssignedPodAdd => Incoming::AssignedPodAdd,
            EventKind::AssignedPodUpdate => Incoming::AssignedPodUpdate,
            EventKind::AssignedPodDelete => Incoming::AssignedPodDelete,
            EventKind::PodUpdate => Incoming::PodUpdate,
            EventKind::Storage => Incoming::Storage,
            EventKind::Devices => Incoming::Devices,
            EventKind::Object => Incoming::Object,
            EventKind::Permit => Incoming::Forced,
        }
    }
}
