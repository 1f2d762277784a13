//! `Status` answers to failed requests, with upstream's reasons, codes and texts.
//!
//! Each function builds the answer for one condition; upstream's are in
//! `k8s.io/apimachinery/pkg/api/errors`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::field::{self, ErrorList};

/// What a client is told when its resource version is not the current one.
pub const OPTIMISTIC_LOCK: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// A group and a plural name (or, for [`invalid`], a kind): `deployments.apps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// The group; empty for the core group.
    pub group: &'a str,
    /// The plural name.
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    /// A group and a plural name.
    pub fn new(group: &'a str, resource: &'a str) -> Self {
        GroupResource { group, resource }
    }
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.group, self.resource) {
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

/// A failure with any code and reason, and without details.
pub fn failure(code: i32, reason: &str, message: impl Into<String>) -> Status {
    Status {
        status: Some("Failure".to_owned()),
        code: Some(code),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: Some(message.into()),
        ..Default::default()
    }
}

fn details(resource: GroupResource<'_>, name: &str) -> StatusDetails {
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    StatusDetails {
        group: set(resource.group),
        kind: set(resource.resource),
        name: set(name),
        ..Default::default()
    }
}

fn about(resource: GroupResource<'_>, name: &str, status: Status) -> Status {
    Status {
        details: Some(details(resource, name)),
        ..status
    }
}

fn retry_after(seconds: i32, mut status: Status) -> Status {
    status.details.get_or_insert_default().retry_after_seconds = (seconds > 0).then_some(seconds);
    status
}

/// 404: there is no such object.
pub fn not_found(resource: GroupResource<'_>, name: &str) -> Status {
    about(
        resource,
        name,
        failure(404, "NotFound", format!("{resource} {name:?} not found")),
    )
}

/// 404: there is nothing at that path.
pub fn no_such_path() -> Status {
    let status = failure(
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
    Status {
        details: Some(StatusDetails::default()),
        ..status
    }
}

/// 409: there is such an object already.
pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Status {
    about(
        resource,
        name,
        failure(
            409,
            "AlreadyExists",
            format!("{resource} {name:?} already exists"),
        ),
    )
}

/// 409: no free name was found for `metadata.generateName`.
pub fn generate_name_conflict(resource: GroupResource<'_>, name: &str, seconds: i32) -> Status {
    let message = format!(
        "{resource} {name:?} already exists, the server was not able to generate a unique name for the object"
    );
    retry_after(
        seconds,
        about(resource, name, failure(409, "AlreadyExists", message)),
    )
}

/// 409: the object is not what the client thinks it is; `cause` is often [`OPTIMISTIC_LOCK`].
pub fn conflict(resource: GroupResource<'_>, name: &str, cause: &str) -> Status {
    let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {cause}");
    about(resource, name, failure(409, "Conflict", message))
}

/// 422: the object breaks the rules of its kind. `kind` has the kind in place of the plural name.
pub fn invalid(kind: GroupResource<'_>, name: &str, errors: &ErrorList) -> Status {
    let mut message = format!("{kind} {name:?} is invalid");
    if !errors.is_empty() {
        message.push_str(": ");
        message.push_str(&field::aggregate(errors));
    }
    let mut status = about(kind, name, failure(422, "Invalid", message));
    let causes = field::told(errors).map(|error| StatusCause {
        reason: Some(error.kind.reason().to_owned()),
        message: Some(error.body()),
        field: Some(error.field.to_string()),
    });
    status.details.get_or_insert_default().causes = Some(causes.collect());
    status
}

/// 400: the request makes no sense.
pub fn bad_request(message: impl Into<String>) -> Status {
    failure(400, "BadRequest", message)
}

/// 401: nobody knows who asks.
pub fn unauthorized() -> Status {
    failure(401, "Unauthorized", "Unauthorized")
}

/// 403: who asks may not. The resource may be empty, and so may the name.
pub fn forbidden(resource: GroupResource<'_>, name: &str, cause: &str) -> Status {
    let message = if resource == GroupResource::default() {
        format!("forbidden: {cause}")
    } else if name.is_empty() {
        format!("{resource} is forbidden: {cause}")
    } else {
        format!("{resource} {name:?} is forbidden: {cause}")
    };
    about(resource, name, failure(403, "Forbidden", message))
}

/// 405: the resource has no such verb.
pub fn method_not_supported(resource: GroupResource<'_>, action: &str) -> Status {
    let message = format!("{action} is not supported on resources of kind \"{resource}\"");
    about(resource, "", failure(405, "MethodNotAllowed", message))
}

/// 406: the client takes none of the encodings that there are.
pub fn not_acceptable(accepted: &[&str]) -> Status {
    let list = accepted.join(", ");
    failure(
        406,
        "NotAcceptable",
        format!("only the following media types are accepted: {list}"),
    )
}

/// 410: the resource version is too old (upstream's `Gone`, for what will not come back).
pub fn gone(message: impl Into<String>) -> Status {
    failure(410, "Gone", message)
}

/// 410: the history up to the wanted resource version is compacted; list again.
pub fn expired(message: impl Into<String>) -> Status {
    failure(410, "Expired", message)
}

/// 413: the body is too large.
pub fn too_large(message: &str) -> Status {
    failure(
        413,
        "RequestEntityTooLarge",
        format!("Request entity too large: {message}"),
    )
}

/// 415: the body has an encoding that the server does not take.
pub fn unsupported_media_type(accepted: &[&str]) -> Status {
    let list = accepted.join(", ");
    failure(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        ),
    )
}

/// 422: the patch is well formed, and cannot be carried out.
pub fn unprocessable_patch() -> Status {
    let status = failure(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    Status {
        details: Some(StatusDetails::default()),
        ..status
    }
}

/// 429: come back later.
pub fn too_many_requests(message: impl Into<String>, seconds: i32) -> Status {
    retry_after(seconds, failure(429, "TooManyRequests", message))
}

/// 500: a bug, or a part that does not work.
pub fn internal_error(cause: &str) -> Status {
    let mut status = failure(
        500,
        "InternalError",
        format!("Internal error occurred: {cause}"),
    );
    status.details = Some(StatusDetails {
        causes: Some(vec![StatusCause {
            message: Some(cause.to_owned()),
            ..Default::default()
        }]),
        ..Default::default()
    });
    status
}

/// 500: it did not work out this time; try again.
pub fn server_timeout(resource: GroupResource<'_>, operation: &str, seconds: i32) -> Status {
    let message = format!(
        "The {operation} operation against {resource} could not be completed at this time, please try again."
    );
    retry_after(
        seconds,
        about(resource, operation, failure(500, "ServerTimeout", message)),
    )
}

/// 503: not now.
pub fn service_unavailable(message: impl Into<String>) -> Status {
    failure(503, "ServiceUnavailable", message)
}

/// 504: it took too long, and may still happen.
pub fn timeout(message: &str, seconds: i32) -> Status {
    retry_after(
        seconds,
        failure(504, "Timeout", format!("Timeout: {message}")),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::Path;

    #[test]
    fn a_missing_pod_reads_as_upstream() {
        assert_eq!(
            serde_json::to_value(not_found(GroupResource::new("", "pods"), "x")).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                "message": "pods \"x\" not found", "reason": "NotFound",
                "details": {"name": "x", "kind": "pods"}, "code": 404,
            })
        );
        let deployments = GroupResource::new("apps", "deployments");
        assert_eq!(
            conflict(deployments, "x", OPTIMISTIC_LOCK).message.unwrap(),
            "Operation cannot be fulfilled on deployments.apps \"x\": the object has been modified; please apply your changes to the latest version and try again"
        );
    }

    #[test]
    fn several_findings_stand_in_brackets_once_each() {
        let kind = GroupResource::new("", "Pod");
        let one = field::required(Path::new("a"), "");
        let two = field::required(Path::new("b"), "");
        assert_eq!(
            invalid(kind, "x", &vec![one.clone()]).message.unwrap(),
            "Pod \"x\" is invalid: a: Required value"
        );
        let status = invalid(kind, "x", &vec![one.clone(), two, one]);
        assert_eq!(
            status.message.unwrap(),
            "Pod \"x\" is invalid: [a: Required value, b: Required value]"
        );
        assert_eq!(status.details.unwrap().causes.unwrap().len(), 3);
    }
}
