//! [`Error`]: a refusal, as the client will see it. The one place that makes failures into `Status`.

use std::fmt;

use k8s_model::{
    DecodeError, Resource, field,
    status::{self, GroupResource},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause};

use crate::admission::AdmissionError;

/// What the server answers when it does not do what it was asked: a `metav1.Status`.
///
/// Reasons, codes and texts are upstream's; they come from [`k8s_model::status`].
#[derive(Clone, Debug, PartialEq)]
pub struct Error(Box<Status>);

/// The result of an API operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The status.
    pub fn status(&self) -> &Status {
        &self.0
    }

    /// The status, by value.
    pub fn into_status(self) -> Status {
        *self.0
    }

    /// The status as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // A `Status` always serialises.
        serde_json::to_vec(self.status()).unwrap_or_default()
    }

    /// The HTTP code.
    pub fn code(&self) -> u16 {
        self.0
            .code
            .and_then(|c| u16::try_from(c).ok())
            .unwrap_or(500)
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    fn cause(mut self, reason: &str, message: &str) -> Self {
        let details = self.0.details.get_or_insert_default();
        details.causes.get_or_insert_default().push(StatusCause {
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            message: Some(message.to_owned()),
            ..StatusCause::default()
        });
        self
    }

    /// Changes the message.
    pub(crate) fn with_message(mut self, f: impl FnOnce(&str) -> String) -> Self {
        let old = self.0.message.take().unwrap_or_default();
        self.0.message = Some(f(&old));
        self
    }

    /// An error that upstream does not class: 500 with nothing but its text.
    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        status::failure(500, "", message).into()
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        status::bad_request(message).into()
    }

    pub(crate) fn unauthorized() -> Self {
        status::unauthorized().into()
    }

    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, message: &str) -> Self {
        status::forbidden(GroupResource::new(group, resource), name, message).into()
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        status::not_found(GroupResource::new(group, resource), name).into()
    }

    /// Nothing is served at the path at all.
    pub(crate) fn no_such_path() -> Self {
        status::no_such_path().into()
    }

    pub(crate) fn method_not_allowed() -> Self {
        let mut status = status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Default::default());
        status.into()
    }

    /// 405, of resources that are served around the router.
    pub(crate) fn method_not_supported(resource: &Resource, verb: &str) -> Self {
        status::method_not_supported(of(resource), verb).into()
    }

    pub(crate) fn not_acceptable(accepted: &[&str]) -> Self {
        status::not_acceptable(accepted).into()
    }

    /// 406, in other words.
    pub(crate) fn not_acceptable_as(text: String) -> Self {
        status::failure(406, "NotAcceptable", text).into()
    }

    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        status::already_exists(of(resource), name).into()
    }

    pub(crate) fn generated_name_taken(resource: &Resource, name: &str) -> Self {
        status::generate_name_conflict(of(resource), name, 1).into()
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, message: &str) -> Self {
        status::conflict(of(resource), name, message).into()
    }

    pub(crate) fn stale(resource: &Resource, name: &str) -> Self {
        Error::conflict(resource, name, status::OPTIMISTIC_LOCK)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        status::expired(message).into()
    }

    /// A continue token that is too old, with one that goes on inconsistently.
    pub(crate) fn expired_continue(token: String) -> Self {
        let mut error = Error::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        );
        error.0.metadata.continue_ = Some(token);
        error
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        status::too_large(&format!("limit is {limit}")).into()
    }

    pub(crate) fn unsupported_media_type(accepted: &[&str]) -> Self {
        status::unsupported_media_type(accepted).into()
    }

    /// 415 for a patch of a built-in kind: upstream's router says it.
    pub(crate) fn not_consumed() -> Self {
        let text = "415: Unsupported Media Type";
        let mut status = status::failure(415, "UnsupportedMediaType", text);
        status.details = Some(Default::default());
        status.into()
    }

    /// 406 for what has none of the media types that are wanted: upstream's router says it.
    pub(crate) fn not_produced(available: &[&str]) -> Self {
        let list = available.join(", ");
        let text = format!("406: Not Acceptable\n\nAvailable representations: {list}");
        let mut status = status::failure(406, "NotAcceptable", text);
        status.details = Some(Default::default());
        status.into()
    }

    pub(crate) fn invalid(resource: &Resource, name: &str, findings: &field::ErrorList) -> Self {
        // Findings name the kind as it is stored.
        Error::invalid_kind(resource.storage_group, resource.kind, name, findings)
    }

    pub(crate) fn invalid_kind(
        group: &str,
        kind: &str,
        name: &str,
        findings: &field::ErrorList,
    ) -> Self {
        status::invalid(GroupResource::new(group, kind), name, findings).into()
    }

    /// Options in a query or body that do not fit.
    pub(crate) fn invalid_options(kind: &str, finding: field::Error) -> Self {
        Error::invalid_kind("meta.k8s.io", kind, "", &vec![finding])
    }

    /// A request for a resource version that the server has not reached.
    pub(crate) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let text = format!("Too large resource version: {asked}, current: {current}");
        Error::from(status::timeout(&text, 1))
            .cause("ResourceVersionTooLarge", "Too large resource version")
    }

    /// An eviction that a disruption budget does not allow now.
    pub(crate) fn disruption_budget(cause: &str, retry_after_seconds: i32) -> Self {
        Error::from(status::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            retry_after_seconds,
        ))
        .cause("DisruptionBudget", cause)
    }

    /// The object lies in a namespace, and none was named.
    pub(crate) fn namespace_required() -> Self {
        Error::bad_request("Namespace parameter required.")
    }

    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        status::internal_error(&message.to_string()).into()
    }

    pub(crate) fn service_unavailable(message: impl Into<String>) -> Self {
        status::service_unavailable(message).into()
    }

    pub(crate) fn admission(error: AdmissionError, resource: &Resource, name: &str) -> Self {
        match error {
            AdmissionError::Forbidden { message, causes } => {
                let mut error = Error::forbidden(resource.group, resource.resource, name, &message);
                if !causes.is_empty() {
                    error.0.details.get_or_insert_default().causes = Some(causes);
                }
                error
            }
            AdmissionError::NotFound {
                group,
                resource,
                name,
            } => Error::not_found(&group, &resource, &name),
            AdmissionError::BadRequest(message) => Error::bad_request(message),
            AdmissionError::Status(status) => Error(status),
            other => Error::internal(other),
        }
    }

    /// A custom resource of another kind or version than the one that is defined, in which strategies find that out.
    pub(crate) fn undefined(error: &DecodeError, object: &[u8]) -> Self {
        let DecodeError::Undefined {
            api_version,
            kind,
            expected_api_version,
            expected_kind,
        } = error
        else {
            return Error::bad_request(error.reason());
        };
        let mut findings = field::ErrorList::new();
        for (name, found, expected) in [
            ("kind", kind, expected_kind),
            ("apiVersion", api_version, expected_api_version),
        ] {
            if found != expected {
                let text = format!("must be {expected}");
                findings.push(field::invalid(field::Path::new(name), found.as_str(), text));
            }
        }
        let object: serde_json::Value = serde_json::from_slice(object).unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let group = expected_api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        Error::invalid_kind(group, kind, name, &findings)
    }

    /// A body that is not the object it should be.
    pub(crate) fn decode(error: &DecodeError, body: &[u8], api_version: &str, kind: &str) -> Self {
        Error::bad_request(error.answer(body, api_version, kind))
    }
}

fn of(resource: &Resource) -> GroupResource<'static> {
    GroupResource::new(resource.group, resource.resource)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message.as_deref().unwrap_or_default())
    }
}

impl std::error::Error for Error {}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error(Box::new(status))
    }
}

impl From<Box<Status>> for Error {
    fn from(status: Box<Status>) -> Self {
        Error(status)
    }
}

impl From<k8s_store::Error> for Error {
    fn from(error: k8s_store::Error) -> Self {
        match &error {
            k8s_store::Error::ValueTooLarge { limit, .. }
            | k8s_store::Error::BatchTooLarge { limit, .. } => Error::too_large(*limit),
            k8s_store::Error::Closed => Error::service_unavailable("the server is shutting down"),
            // As upstream: etcd's own words if it has any, or else a timeout; and nothing about whether to
            // try again, for a write may have happened.
            k8s_store::Error::Unavailable { source } => {
                tracing::warn!(cause = %source, "the store is not available");
                let cause = source.to_string();
                if cause.starts_with("etcdserver: ") {
                    return status::failure(500, "", cause).into();
                }
                let what = "request did not complete within requested timeout";
                status::timeout(&format!("{what} - {cause}"), 0).into()
            }
            k8s_store::Error::ReadOnly { source } => {
                tracing::warn!(cause = %source, "the store is read-only");
                status::failure(500, "", format!("{error}: {source}")).into()
            }
            k8s_store::Error::Denied { detail } => {
                tracing::error!(detail, "the store denies access");
                status::failure(500, "", detail.clone()).into()
            }
            _ => {
                tracing::error!(%error, "the store did not do what it was asked");
                Error::internal(error)
            }
        }
    }
}

impl From<crate::registry::value::BadValue> for Error {
    fn from(error: crate::registry::value::BadValue) -> Self {
        Error::internal(error)
    }
}

impl From<crate::registry::value::Corrupt> for Error {
    fn from(error: crate::registry::value::Corrupt) -> Self {
        Error::internal(error)
    }
}
