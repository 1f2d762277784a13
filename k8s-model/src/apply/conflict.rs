//! [`ApplyError`]: why a configuration is not applied.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use super::set::spell;
use crate::status;

/// A field that somebody else owns and that an applied configuration changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The owner, as in `"kubectl" using apps/v1`.
    pub manager: String,
    /// The path, with elements as in `FieldsV1`.
    pub path: Vec<String>,
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A configuration of another kind or version, as in `apps/v1, Kind=Deployment`: upstream answers 400.
    #[error("invalid object type: {0}")]
    InvalidType(String),
    /// A configuration with managed fields of its own: upstream answers 400.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// A configuration that does not fit its type: upstream answers 500.
    #[error("failed to create typed patch object ({object}): {text}")]
    Typed {
        /// Namespace, name, version and kind of the configuration.
        object: String,
        /// What is wrong with it.
        text: String,
    },
    /// An object that cannot be had in the version in which somebody owns its fields: upstream answers 500.
    #[error("{0}")]
    Conversion(String),
    /// Others own what would change: upstream answers 409.
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
}

fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager,
            spell(&one.path)
        );
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", spell(&conflict.path)));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// A version as upstream spells it beside a kind: `/v1` without a group.
pub(super) fn slashed(api_version: &str) -> String {
    if api_version.contains('/') {
        api_version.to_owned()
    } else {
        format!("/{api_version}")
    }
}

impl ApplyError {
    /// For a configuration of this version and kind, where another is wanted.
    pub fn of_type(api_version: &str, kind: &str) -> Self {
        ApplyError::InvalidType(format!("{}, Kind={kind}", slashed(api_version)))
    }

    /// The answer to the client.
    pub fn to_status(&self) -> Status {
        let text = self.to_string();
        match self {
            ApplyError::InvalidType(_) | ApplyError::ManagedFields => status::bad_request(text),
            ApplyError::Typed { .. } | ApplyError::Conversion(_) => status::failure(500, "", text),
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|conflict| StatusCause {
                    reason: Some("FieldManagerConflict".into()),
                    message: Some(format!("conflict with {}", conflict.manager)),
                    field: Some(spell(&conflict.path)),
                });
                let mut status = status::failure(409, "Conflict", text);
                status.details = Some(StatusDetails {
                    causes: Some(causes.collect()),
                    ..StatusDetails::default()
                });
                status
            }
        }
    }
}
