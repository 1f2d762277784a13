//! [`Status`]: a plugin's verdict.

use std::borrow::Cow;

/// What kind of verdict it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The pod does not fit now; something may change that.
    Unschedulable,
    /// The pod does not fit, and evicting other pods from the node would not help.
    UnschedulableAndUnresolvable,
    /// The plugin itself failed. The pod is tried again.
    Error,
}

/// Why a pod can't have a node, or can't be scheduled at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The kind of verdict.
    pub code: Code,
    /// The reasons, each a phrase that is counted over nodes in the pod's condition.
    pub reasons: Vec<Cow<'static, str>>,
    /// The plugin that said so. The framework fills it in.
    pub plugin: &'static str,
}

impl Status {
    /// Does not fit now.
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Code::Unschedulable,
            reasons: vec![reason.into()],
            plugin: "",
        }
    }

    /// Does not fit, and eviction would not help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Code::UnschedulableAndUnresolvable,
            reasons: vec![reason.into()],
            plugin: "",
        }
    }

    /// The plugin failed.
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Code::Error,
            reasons: vec![reason.into()],
            plugin: "",
        }
    }

    /// The same verdict as said by a plugin of that name.
    #[must_use]
    pub fn by(mut self, plugin: &'static str) -> Self {
        self.plugin = plugin;
        self
    }
}
