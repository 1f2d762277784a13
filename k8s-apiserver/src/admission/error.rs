//! [`AdmissionError`]: why a write was refused.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause};

use super::reader::ReadError;

/// Why a write was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// 403 `Forbidden`. The client sees `pods "x" is forbidden: ` and this message.
    #[error("{message}")]
    Forbidden {
        /// Why.
        message: String,
        /// The causes for `details.causes`.
        causes: Vec<StatusCause>,
    },
    /// 404 `NotFound` of another object that the write needs, such as its namespace.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// The group of the object that is missing.
        group: String,
        /// The plural name of its resource.
        resource: String,
        /// Its name.
        name: String,
    },
    /// 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
    /// Any other answer, ready-made.
    #[error("{}", .0.message.as_deref().unwrap_or_default())]
    Status(Box<Status>),
    /// What the plugin needs cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl AdmissionError {
    /// A refusal without causes.
    pub fn forbidden(message: impl Into<String>) -> Self {
        AdmissionError::Forbidden {
            message: message.into(),
            causes: Vec::new(),
        }
    }
}
