//! Requests that the server makes of itself: what it has at boot, conditions, clean-up.

use super::{Row, Target, ownership::SERVER};
use crate::{
    admission::{Warnings, more::SentOptions},
    auth::Identity,
};

/// The server as one who asks: it may do everything, plugins have no say in it, and what it writes
/// belongs to `kube-apiserver`.
pub(crate) struct Internal {
    user: Identity,
    warnings: Warnings,
}

impl Internal {
    pub(crate) fn new() -> Self {
        Self {
            user: Identity::system_masters(),
            warnings: Warnings::default(),
        }
    }

    /// An object, or all of a row where the name is empty.
    pub(crate) fn target<'a>(
        &'a self,
        row: &'a Row,
        namespace: &'a str,
        name: &'a str,
    ) -> Target<'a> {
        Target {
            row,
            user: &self.user,
            namespace,
            name,
            subresource: "",
            dry_run: false,
            manager: Some(SERVER),
            internal: true,
            warnings: &self.warnings,
            options: SentOptions::None,
            gate: None,
        }
    }

    /// An object's status.
    pub(crate) fn status<'a>(&'a self, row: &'a Row, name: &'a str) -> Target<'a> {
        Target {
            subresource: "status",
            ..self.target(row, "", name)
        }
    }
}
