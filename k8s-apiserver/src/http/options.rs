//! The options of a request: query parameters, read by upstream's rules.

use std::{
    borrow::Cow,
    num::{IntErrorKind, ParseIntError},
};

use serde::Deserialize;

use k8s_model::{
    decode::{misread, type_meta_fault},
    field::{self, Path},
    metadata::validate_field_manager,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

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
pub(crate) fn flag(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "false" | "0")
}

/// Whether an object is asked for as it was created, which once could be.
pub(crate) fn wants_export(query: Option<&str>) -> bool {
    let [export] = first(query, ["export"]);
    export.is_some_and(|text| flag(&text))
}

/// Of each of these parameters the first value, as upstream has it. Everybody who reads one has to take the same: what is
/// authorized is what is done.
fn first<'q, const N: usize>(
    query: Option<&'q str>,
    names: [&str; N],
) -> [Option<Cow<'q, str>>; N] {
    let mut out = [const { None }; N];
    for (name, value) in uri::query_pairs(query) {
        if let Some(at) = names.iter().position(|known| *known == name) {
            out[at].get_or_insert(value);
        }
    }
    out
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
    pub(crate) timeout_seconds: Option<i64>,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn parse(query: Option<&str>, watch: bool) -> Result<Self> {
        let mut options = ListOptions::default();
        let [
            labels,
            fields,
            bookmarks,
            version,
            version_match,
            timeout,
            limit,
            token,
            initial,
        ] = first(
            query,
            [
                "labelSelector",
                "fieldSelector",
                "allowWatchBookmarks",
                "resourceVersion",
                "resourceVersionMatch",
                "timeoutSeconds",
                "limit",
                "continue",
                "sendInitialEvents",
            ],
        );
        let text = |value: Option<Cow<'_, str>>| value.unwrap_or_default().into_owned();
        options.label_selector = text(labels);
        options.field_selector = text(fields);
        options.bookmarks = bookmarks.is_some_and(|value| flag(&value));
        options.resource_version = text(version);
        let version_match = text(version_match);
        let number = |value: Option<Cow<'_, str>>| {
            let parsed = value.map(|value| integer(&value)).transpose();
            parsed.map(Option::flatten)
        };
        options.timeout_seconds = number(timeout)?;
        options.limit = number(limit)?
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0);
        options.continue_token = text(token);
        let initial = initial.map(|value| flag(&value));
        options.send_initial_events = initial;
        options.version_match = match version_match.as_str() {
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            "Exact" => Some(VersionMatch::Exact),
            _ => None,
        };
        // Such watches of old begin with what there is, and are told where that ends.
        if let [Some(asked)] = first(query, ["watch"])
            && flag(&asked)
            && watch
            && options.send_initial_events.is_none()
            && version_match.is_empty()
            && matches!(options.resource_version.as_str(), "" | "0")
        {
            options.send_initial_events = Some(true);
            options.version_match = Some(VersionMatch::NotOlderThan);
            // Refused beside a token, though nobody asked for it: as upstream, which looks after it has defaulted.
            if !options.continue_token.is_empty() {
                let path = "resourceVersionMatch";
                let findings = vec![forbidden(path, NO_MATCH_OF_PAGES)];
                return Err(Error::invalid_kind(
                    "meta.k8s.io",
                    "ListOptions",
                    "",
                    &findings,
                ));
            }
        }
        let findings = if watch {
            options.validate_watch(initial, &version_match)
        } else {
            options.validate_list(&version_match)
        };
        if findings.is_empty() {
            Ok(options)
        } else {
            Err(Error::invalid_kind(
                "meta.k8s.io",
                "ListOptions",
                "",
                &findings,
            ))
        }
    }

    /// As upstream's `validateWatchOptions`.
    fn validate_watch(&self, initial: Option<bool>, version_match: &str) -> field::ErrorList {
        let mut out = Vec::new();
        if initial.is_some() && version_match != "NotOlderThan" {
            out.push(forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if version_match.is_empty() {
            return out;
        }
        if initial.is_none() {
            out.push(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if version_match != "NotOlderThan" {
            out.push(field::not_supported(
                Path::new("resourceVersionMatch"),
                version_match,
                &["NotOlderThan"],
            ));
        }
        if !self.continue_token.is_empty() {
            out.push(forbidden("resourceVersionMatch", NO_MATCH_OF_PAGES));
        }
        out
    }

    /// As upstream's `ValidateListOptions`.
    fn validate_list(&self, version_match: &str) -> field::ErrorList {
        let mut out = Vec::new();
        if !version_match.is_empty() {
            if self.resource_version.is_empty() {
                out.push(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !self.continue_token.is_empty() {
                out.push(forbidden("resourceVersionMatch", NO_MATCH_OF_PAGES));
            }
            if self.version_match.is_none() {
                out.push(field::not_supported(
                    Path::new("resourceVersionMatch"),
                    version_match,
                    &["Exact", "NotOlderThan", ""],
                ));
            }
            if self.version_match == Some(VersionMatch::Exact) && self.resource_version == "0" {
                out.push(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        if self.send_initial_events.is_some() {
            out.push(forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        out
    }
}

fn forbidden(field: &str, text: &str) -> field::Error {
    field::forbidden(Path::new(field), text)
}

fn integer(text: &str) -> Result<Option<i64>> {
    text.parse().map(Some).map_err(|error| {
        let fault = go_fault(&error);
        Error::bad_request(format!("strconv.ParseInt: parsing {text:?}: {fault}"))
    })
}

/// What Go says of a text that is no number, or one that is too large.
fn go_fault(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

const NO_MATCH_OF_PAGES: &str = "resourceVersionMatch is forbidden when continue is provided";

/// A resource version from a client: a number, or nothing.
pub(crate) fn parse_resource_version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| {
        let fault = go_fault(&error);
        Error::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {fault}"
        ))
    })
}

/// What `CreateOptions`, `UpdateOptions` and `PatchOptions` have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
    /// Empty if it is not given.
    pub(crate) field_manager: String,
    /// Whether a configuration is applied whoever owns what it changes.
    pub(crate) force: Option<bool>,
    /// Whether they are those of a patch.
    pub(crate) patches: bool,
}

impl WriteOptions {
    /// Reads those of a create or an update, by the kind of the options.
    pub(crate) fn parse(query: Option<&str>, kind: &str) -> Result<Self> {
        let (options, findings) = WriteOptions::read(query);
        options.checked(findings, kind)
    }

    /// Reads those of a patch.
    pub(crate) fn parse_patch(query: Option<&str>, is_apply: bool) -> Result<Self> {
        let (mut options, mut findings) = WriteOptions::read(query);
        options.patches = true;
        let mut first = Vec::new();
        if is_apply {
            if options.field_manager.is_empty() {
                first.push(field::required(
                    Path::new("fieldManager"),
                    "is required for apply patch",
                ));
            }
        } else if options.force.is_some() {
            first.push(field::forbidden(
                Path::new("force"),
                "may not be specified for non-apply patch",
            ));
        }
        first.append(&mut findings);
        options.checked(first, "PatchOptions")
    }

    fn checked(self, findings: field::ErrorList, kind: &str) -> Result<Self> {
        if findings.is_empty() {
            Ok(self)
        } else {
            Err(Error::invalid_kind("meta.k8s.io", kind, "", &findings))
        }
    }

    fn read(query: Option<&str>) -> (Self, field::ErrorList) {
        let mut options = WriteOptions::default();
        let mut dry_run = Vec::new();
        match self::dry_run(&dry_runs(query)) {
            Ok(dry) => options.dry_run = dry,
            Err(finding) => dry_run.push(finding),
        }
        let names = ["fieldManager", "force", "fieldValidation"];
        let [manager, force, validated] = first(query, names);
        options.field_manager = manager.unwrap_or_default().into_owned();
        options.force = force.map(|value| flag(&value));
        let mut validation = Vec::new();
        match validated.as_deref().unwrap_or_default() {
            "" => {}
            "Ignore" => options.field_validation = FieldValidation::Ignore,
            "Warn" => options.field_validation = FieldValidation::Warn,
            "Strict" => options.field_validation = FieldValidation::Strict,
            other => validation.push(field::not_supported(
                Path::new("fieldValidation"),
                other,
                &["", "Ignore", "Strict", "Warn"],
            )),
        }
        let mut findings =
            validate_field_manager(&options.field_manager, &Path::new("fieldManager"));
        findings.append(&mut dry_run);
        findings.append(&mut validation);
        (options, findings)
    }
}

/// What a query says of dry runs.
fn dry_runs(query: Option<&str>) -> Vec<String> {
    let said = uri::query_pairs(query).filter(|(key, _)| key == "dryRun");
    said.map(|(_, value)| value.into()).collect()
}

/// Whether nothing is to be stored. What is wrong with one of the values is told of them all.
fn dry_run(values: &[String]) -> Result<bool, field::Error> {
    match values.iter().all(|value| value == "All") {
        true => Ok(!values.is_empty()),
        false => Err(field::not_supported(
            Path::new("dryRun"),
            values.to_vec(),
            &["All"],
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

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) preconditions: meta::Preconditions,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub(crate) fn parse(query: Option<&str>, body: Option<serde_json::Value>) -> Result<Self> {
        let wire = match body {
            Some(serde_json::Value::Null) => meta::DeleteOptions::default(),
            Some(body) => {
                if let Some(text) = type_meta_fault(&body) {
                    return Err(Error::bad_request(format!(
                        "couldn't get version/kind; json parse error: {text}"
                    )));
                }
                serde_json::from_value::<meta::DeleteOptions>(body.clone()).map_err(|error| {
                    let ty = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
                    Error::bad_request(misread::<meta::DeleteOptions>(&body, ty, &error))
                })?
            }
            None => {
                let mut wire = meta::DeleteOptions::default();
                let names = [
                    "gracePeriodSeconds",
                    "orphanDependents",
                    "propagationPolicy",
                    "uid",
                    "resourceVersion",
                ];
                let [grace, orphan, propagation, uid, version] = first(query, names);
                let told = |text: Option<Cow<'_, str>>| {
                    let text = text.filter(|text| !text.is_empty());
                    text.map(Cow::into_owned)
                };
                wire.preconditions = Some(meta::Preconditions {
                    uid: told(uid),
                    resource_version: told(version),
                });
                let grace = grace.map(|value| integer(&value)).transpose()?;
                wire.grace_period_seconds = grace.flatten();
                wire.orphan_dependents = orphan.map(|value| flag(&value));
                wire.propagation_policy = propagation.map(Cow::into_owned);
                wire.dry_run = Some(dry_runs(query));
                wire
            }
        };
        let kind = wire.kind.as_deref().unwrap_or_default();
        // Another kind of object says nothing of what is to be deleted, and how.
        if !matches!(kind, "" | "DeleteOptions") {
            return Err(Error::bad_request(format!(
                "no kind {kind:?} is registered for version {:?} in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\"",
                match wire.api_version.as_deref() {
                    None | Some("") => "meta.k8s.io/v1",
                    Some(version) => version,
                }
            )));
        }
        let mut options = DeleteOptions {
            grace_period_seconds: wire.grace_period_seconds,
            preconditions: wire.preconditions.unwrap_or_default(),
            orphan_dependents: wire.orphan_dependents,
            ..Default::default()
        };
        options.dry_run = dry_run(&wire.dry_run.unwrap_or_default())
            .map_err(|finding| Error::invalid_options("DeleteOptions", finding))?;
        options.propagation = match wire.propagation_policy.as_deref() {
            None => None,
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
    fn dry_runs_are_of_all_or_refused_as_a_whole() {
        let refused = |error: Error| error.status().message.clone().unwrap_or_default();
        let query = Some("dryRun=All&dryRun=x");
        let told = r#"dryRun: Unsupported value: ["All","x"]: supported values: "All""#;
        let write = WriteOptions::parse(query, "PatchOptions").unwrap_err();
        assert!(refused(write).ends_with(told));
        let delete = DeleteOptions::parse(query, None).unwrap_err();
        assert!(refused(delete).ends_with(told));
        let query = Some("dryRun=All&dryRun=All");
        assert!(DeleteOptions::parse(query, None).unwrap().dry_run);
        assert!(!DeleteOptions::parse(None, None).unwrap().dry_run);
    }

    #[test]
    fn of_what_is_given_twice_the_first_counts() {
        let query = "fieldSelector=metadata.name%3Da&labelSelector=b&limit=1&fieldSelector=&labelSelector=&limit=x";
        let list = ListOptions::parse(Some(query), false).unwrap();
        assert_eq!(list.field_selector, "metadata.name=a");
        assert_eq!((list.label_selector.as_str(), list.limit), ("b", 1));
        let query = "fieldManager=a&fieldManager=b&force=1&force=0&fieldValidation=Strict&fieldValidation=Ignore";
        let write = WriteOptions::parse(Some(query), "PatchOptions").unwrap();
        assert_eq!(
            (write.field_manager.as_str(), write.force),
            ("a", Some(true))
        );
        assert_eq!(write.field_validation, FieldValidation::Strict);
        let query = "gracePeriodSeconds=1&gracePeriodSeconds=9&propagationPolicy=Orphan&propagationPolicy=x";
        let delete = DeleteOptions::parse(Some(query), None).unwrap();
        assert_eq!(delete.grace_period_seconds, Some(1));
        assert_eq!(delete.propagation, Some(Propagation::Orphan));
    }

    #[test]
    fn delete_options_come_from_the_body_or_the_query() {
        let o = DeleteOptions::parse(Some("gracePeriodSeconds=5&propagationPolicy=Orphan"), None)
            .unwrap();
        assert_eq!(o.grace_period_seconds, Some(5));
        assert_eq!(o.propagation, Some(Propagation::Orphan));
        let o = DeleteOptions::parse(Some("resourceVersion=5&uid="), None).unwrap();
        assert_eq!(o.preconditions.resource_version.as_deref(), Some("5"));
        assert_eq!(o.preconditions.uid, None);
        let body = serde_json::json!({"gracePeriodSeconds": -4, "preconditions": {"uid": "u"}});
        let o = DeleteOptions::parse(None, Some(body)).unwrap();
        assert_eq!(o.grace_period_seconds, Some(1));
        assert_eq!(o.preconditions.uid.as_deref(), Some("u"));
    }
}
