//! The options of a request: query parameters, read by upstream's rules.

use serde::Deserialize;

use k8s_model::field::{self, Path};

use super::uri;
use crate::{Error, Result};

/// As Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A boolean parameter as upstream's conversion reads it: anything but `false` and `0` is true,
/// an empty value too.
fn flag(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "false" | "0")
}

/// What a client says about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How `resourceVersion` is meant on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    NotOlderThan,
    Exact,
}

/// `ListOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) bookmarks: bool,
    /// Empty and `0` are not the same.
    pub(crate) resource_version: String,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn parse(query: Option<&str>, watch: bool) -> Result<Self> {
        let mut options = ListOptions::default();
        let mut version_match = String::new();
        for (key, value) in uri::query_pairs(query) {
            match key.as_ref() {
                "labelSelector" => options.label_selector = value.into_owned(),
                "fieldSelector" => options.field_selector = value.into_owned(),
                "allowWatchBookmarks" => options.bookmarks = flag(&value),
                "resourceVersion" => options.resource_version = value.into_owned(),
                "resourceVersionMatch" => version_match = value.into_owned(),
                "timeoutSeconds" => {
                    options.timeout_seconds = integer(&value)?.and_then(|n| u64::try_from(n).ok())
                }
                "limit" => {
                    options.limit = integer(&value)?
                        .and_then(|n| usize::try_from(n).ok())
                        .unwrap_or(0)
                }
                "continue" => options.continue_token = value.into_owned(),
                "sendInitialEvents" => options.send_initial_events = Some(flag(&value)),
                _ => {}
            }
        }
        options.version_match = match version_match.as_str() {
            "" => None,
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            "Exact" => Some(VersionMatch::Exact),
            other => {
                return Err(Error::invalid_options(
                    "ListOptions",
                    field::not_supported(
                        Path::new("resourceVersionMatch"),
                        other,
                        &["Exact", "NotOlderThan", ""],
                    ),
                ));
            }
        };
        options.validate(watch)?;
        Ok(options)
    }

    /// As upstream's `ValidateListOptions`.
    fn validate(&self, watch: bool) -> Result<()> {
        if watch {
            if let Some(_send) = self.send_initial_events {
                if self.version_match != Some(VersionMatch::NotOlderThan) {
                    return Err(invalid(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    ));
                }
                if !self.continue_token.is_empty() {
                    return Err(invalid("continue", "continue is forbidden for watch"));
                }
            } else if self.version_match.is_some() {
                return Err(invalid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            return Ok(());
        }
        if self.send_initial_events.is_some() {
            return Err(invalid(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        if let Some(version_match) = self.version_match {
            if self.resource_version.is_empty() {
                return Err(invalid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !self.continue_token.is_empty() {
                return Err(invalid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if version_match == VersionMatch::Exact && self.resource_version == "0" {
                return Err(invalid(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        Ok(())
    }
}

fn invalid(field: &str, text: &str) -> Error {
    Error::invalid_options("ListOptions", field::forbidden(Path::new(field), text))
}

fn integer(text: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Error::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: invalid syntax"
        ))
    })
}

/// A resource version from a client: a number, or nothing.
pub(crate) fn parse_resource_version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Error::bad_request(format!(
            "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// What `CreateOptions`, `UpdateOptions` and `PatchOptions` have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

impl WriteOptions {
    pub(crate) fn parse(query: Option<&str>, kind: &str) -> Result<Self> {
        let mut options = WriteOptions::default();
        for (key, value) in uri::query_pairs(query) {
            match (key.as_ref(), value.as_ref()) {
                ("dryRun", value) => options.dry_run = dry_run(value, kind)?,
                ("fieldValidation", "") => {}
                ("fieldValidation", "Ignore") => options.field_validation = FieldValidation::Ignore,
                ("fieldValidation", "Warn") => options.field_validation = FieldValidation::Warn,
                ("fieldValidation", "Strict") => options.field_validation = FieldValidation::Strict,
                ("fieldValidation", other) => {
                    return Err(Error::invalid_options(
                        kind,
                        field::not_supported(
                            Path::new("fieldValidation"),
                            other,
                            &["Ignore", "Strict", "Warn", ""],
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

fn dry_run(value: &str, kind: &str) -> Result<bool> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(Error::invalid_options(
            kind,
            field::not_supported(Path::new("dryRun"), vec![other], &["All"]),
        )),
    }
}

/// How dependents of a deleted object fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// `Preconditions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) preconditions: Preconditions,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireDeleteOptions {
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub(crate) fn parse(query: Option<&str>, body: Option<serde_json::Value>) -> Result<Self> {
        let wire = match body {
            Some(body) => serde_json::from_value::<WireDeleteOptions>(body).map_err(|e| {
                Error::bad_request(format!("couldn't get version/kind; json parse error: {e}"))
            })?,
            None => {
                let mut wire = WireDeleteOptions::default();
                for (key, value) in uri::query_pairs(query) {
                    match key.as_ref() {
                        "gracePeriodSeconds" => wire.grace_period_seconds = integer(&value)?,
                        "orphanDependents" => wire.orphan_dependents = Some(flag(&value)),
                        "propagationPolicy" => wire.propagation_policy = Some(value.into_owned()),
                        "dryRun" => wire
                            .dry_run
                            .get_or_insert_default()
                            .push(value.into_owned()),
                        _ => {}
                    }
                }
                wire
            }
        };
        let mut options = DeleteOptions {
            grace_period_seconds: wire.grace_period_seconds,
            preconditions: wire.preconditions.unwrap_or_default(),
            orphan_dependents: wire.orphan_dependents,
            ..Default::default()
        };
        for value in wire.dry_run.iter().flatten() {
            options.dry_run |= dry_run(value, "DeleteOptions")?;
        }
        options.propagation = match wire.propagation_policy.as_deref() {
            None | Some("") => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                return Err(Error::invalid_options(
                    "DeleteOptions",
                    field::not_supported(
                        Path::new("propagationPolicy"),
                        other,
                        &["Foreground", "Background", "Orphan", "nil"],
                    ),
                ));
            }
        };
        if options.propagation.is_some() && options.orphan_dependents.is_some() {
            return Err(Error::invalid_options(
                "DeleteOptions",
                field::invalid(
                    Path::new("propagationPolicy"),
                    wire.propagation_policy.as_deref().unwrap_or_default(),
                    "orphanDependents and deletionPropagation cannot be both set",
                ),
            ));
        }
        // Upstream takes a negative period for one second on the way of a delete.
        if options.grace_period_seconds.is_some_and(|s| s < 0) {
            options.grace_period_seconds = Some(1);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options_are_checked_as_upstream_does() {
        assert!(ListOptions::parse(Some("resourceVersionMatch=Exact"), false).is_err());
        assert!(
            ListOptions::parse(Some("resourceVersionMatch=Exact&resourceVersion=0"), false)
                .is_err()
        );
        assert!(
            ListOptions::parse(Some("resourceVersionMatch=Exact&resourceVersion=5"), false).is_ok()
        );
        assert!(ListOptions::parse(Some("sendInitialEvents=true"), true).is_err());
        assert!(
            ListOptions::parse(
                Some("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
                true
            )
            .is_ok()
        );
    }

    #[test]
    fn delete_options_come_from_the_body_or_the_query() {
        let o = DeleteOptions::parse(Some("gracePeriodSeconds=5&propagationPolicy=Orphan"), None)
            .unwrap();
        assert_eq!(o.grace_period_seconds, Some(5));
        assert_eq!(o.propagation, Some(Propagation::Orphan));
        let body = serde_json::json!({"gracePeriodSeconds": -4, "preconditions": {"uid": "u"}});
        let o = DeleteOptions::parse(None, Some(body)).unwrap();
        assert_eq!(o.grace_period_seconds, Some(1));
        assert_eq!(o.preconditions.uid.as_deref(), Some("u"));
    }
}
