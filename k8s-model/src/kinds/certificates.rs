//! The group `certificates.k8s.io`: CertificateSigningRequests.

use k8s_openapi::{
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    jiff::Timestamp,
    k8s_if_ge_1_34, k8s_if_ge_1_35,
};
use serde_json::Value;

use crate::{
    certificates::{CertificateRequest, check_certificates},
    field::{self, ErrorList, Path},
    kinds::{
        checks::{json, list, repeats},
        typed::KindRules,
    },
    metadata, names,
};

/// The rules of CertificateSigningRequests.
///
/// Who asks is the API server's to fill in, before validation.
pub(crate) struct CertificateSigningRequestRules;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

type Request = CertificateSigningRequest;
type Condition = CertificateSigningRequestCondition;

fn conditions(request: &Request) -> &[Condition] {
    request
        .status
        .as_ref()
        .map(|status| list(&status.conditions))
        .unwrap_or_default()
}

fn of_type<'a>(request: &'a Request, sort: &str) -> Vec<&'a Condition> {
    let all = conditions(request).iter();
    all.filter(|condition| condition.type_ == sort).collect()
}

fn certificate(request: &Request) -> &[u8] {
    let status = request.status.as_ref();
    let issued = status.and_then(|status| status.certificate.as_ref());
    issued.map_or(&[], |issued| &issued.0)
}

fn signed(request: &Request) -> Result<(), crate::certificates::CertificateRequestError> {
    CertificateRequest::parse(&request.spec.request.0)?.check_signature()
}

/// What the conditions must be like; what was wrong already may stay so.
fn validate_conditions(new: &Request, old: &Request) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let mut errors = ErrorList::new();
    let conditions = conditions(new);
    let sorts = |conditions: &[Condition]| repeats(conditions.iter().map(|c| c.type_.clone()));
    let repeated = sorts(self::conditions(old)).contains(&true);
    let repeats = sorts(conditions);
    let has_old = !of_type(old, "").is_empty();
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        let sort = condition.type_.as_str();
        if sort.is_empty() && !has_old {
            errors.push(field::required(at.child("type"), ""));
        }
        let allowed: &[&str] = match sort {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        if condition.status.is_empty() {
            errors.push(field::required(at.child("status"), ""));
        } else if !allowed.contains(&condition.status.as_str()) {
            let status = condition.status.as_str();
            errors.push(field::not_supported(at.child("status"), status, allowed));
        }
        if !repeated && repeats[index] {
            errors.push(field::duplicate(at.child("type"), sort));
        }
    }
    errors
}

/// What an update must be like, through whichever subresource.
fn validate_change(new: &Request, old: &Request, approves: bool, issues: bool) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let mut errors = validate_conditions(new, old);
    let issued = Path::new("status").child("certificate");
    let (after, before) = (certificate(new), certificate(old));
    if after != before
        && !after.is_empty()
        && (before.is_empty() || check_certificates(before).is_ok())
        && let Err(text) = check_certificates(after)
    {
        errors.push(field::invalid(issued.clone(), "<certificate data>", text));
    }
    for sort in ["Approved", "Denied", "Failed"] {
        if of_type(new, sort).len() < of_type(old, sort).len() {
            errors.push(field::forbidden(
                path.clone(),
                format!("updates may not remove a condition of type {sort:?}"),
            ));
        }
    }
    for sort in ["Approved", "Denied"] {
        let (new, old) = (of_type(new, sort), of_type(old, sort));
        let what = match new.len().cmp(&old.len()) {
            _ if approves => continue,
            std::cmp::Ordering::Less => continue,
            std::cmp::Ordering::Greater => "add",
            std::cmp::Ordering::Equal if new != old => "modify",
            std::cmp::Ordering::Equal => continue,
        };
        errors.push(field::forbidden(
            path.clone(),
            format!("updates may not {what} a condition of type {sort:?}"),
        ));
    }
    if after != before {
        if !issues {
            let text = "updates may not set certificate content";
            errors.push(field::forbidden(issued, text));
        } else if !before.is_empty() {
            let text = "updates may not modify existing certificate content";
            errors.push(field::forbidden(issued, text));
        }
    }
    errors
}

impl KindRules for CertificateSigningRequestRules {
    type Kind = CertificateSigningRequest;

    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];

    fn prepare_for_create(&self, request: &mut Request) {
        request.status = Some(Default::default());
    }

    fn validate(&self, request: &Request) -> ErrorList {
        let path = Path::new("spec");
        let spec = &request.spec;
        let mut errors = ErrorList::new();
        if let Err(error) = signed(request) {
            errors.push(field::invalid(
                path.child("request"),
                match spec.request.0.is_empty() {
                    true => Value::Null,
                    false => json(&spec.request),
                },
                error.to_string(),
            ));
        }
        let usages = list(&spec.usages);
        if usages.is_empty() {
            errors.push(field::required(path.child("usages"), ""));
        }
        for (index, usage) in usages.iter().enumerate() {
            if !USAGES.contains(&usage.as_str()) {
                let path = path.child("usages").index(index);
                errors.push(field::not_supported(path, usage.as_str(), USAGES));
            }
        }
        let repeats = repeats(usages);
        for (index, usage) in usages.iter().enumerate() {
            if repeats[index] {
                let path = path.child("usages").index(index);
                errors.push(field::duplicate(path, usage.as_str()));
            }
        }
        if spec.signer_name == "kubernetes.io/legacy-unknown" {
            errors.push(field::invalid(
                path.child("signerName"),
                spec.signer_name.as_str(),
                "the legacy signerName is not allowed via this API version",
            ));
        } else {
            errors.extend(signer(&spec.signer_name, &path.child("signerName")));
        }
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            errors.push(field::invalid(
                path.child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            ));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut Request, old: &Request) {
        new.spec = old.spec.clone();
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Request, old: &Request) -> ErrorList {
        validate_change(new, old, false, false)
    }

    fn prepare_for_status_update(&self, new: &mut Request, old: &Request) {
        new.spec = old.spec.clone();
        // Neither is for a signer to say: where their number is right they stay as they are.
        for sort in ["Approved", "Denied"] {
            let kept = of_type(old, sort);
            if kept.is_empty() || kept.len() != of_type(new, sort).len() {
                continue;
            }
            let status = new.status.get_or_insert_default();
            let said = status.conditions.iter_mut().flatten();
            for (said, kept) in said.filter(|c| c.type_ == sort).zip(kept) {
                said.clone_from(kept);
            }
        }
    }

    /// When conditions were updated and last changed.
    fn stamp(&self, subresource: &str, new: &mut Request, old: Option<&Request>, now: Timestamp) {
        if subresource.is_empty() {
            return;
        }
        let before = old.map(conditions).unwrap_or_default();
        let now = metadata::to_second(now);
        let status = new.status.as_mut();
        let said = status.and_then(|status| status.conditions.as_mut());
        for condition in said.into_iter().flatten() {
            let updated = &mut condition.last_update_time;
            updated.get_or_insert_with(|| now.clone());
            if condition.last_transition_time.is_none() {
                let same = before
                    .iter()
                    .find(|old| old.type_ == condition.type_ && old.status == condition.status);
                let since = same.and_then(|old| old.last_transition_time.clone());
                condition.last_transition_time = Some(since.unwrap_or_else(|| now.clone()));
            }
        }
    }

    fn validate_status_update(&self, new: &Request, old: &Request) -> ErrorList {
        validate_change(new, old, false, true)
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Request, old: &Request) {
        if subresource != "approval" {
            return self.prepare_for_status_update(new, old);
        }
        let said = new.status.take().and_then(|status| status.conditions);
        new.spec = old.spec.clone();
        new.status.clone_from(&old.status);
        new.status.get_or_insert_default().conditions = said;
    }

    fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &Request,
        old: &Request,
    ) -> ErrorList {
        let approves = subresource == "approval";
        validate_change(new, old, approves, !approves)
    }

    /// Of the two decisions there is one at most. Where both were there before, they may stay.
    fn declared(&self, new: &Request, old: Option<&Request>) -> ErrorList {
        const APPROVED: &str = r#"conditions[{"type": "Approved"}]"#;
        const DENIED: &str = r#"conditions[{"type": "Denied"}]"#;
        let has_both = |request: &Request| {
            let has = |sort: &str| !of_type(request, sort).is_empty();
            has("Approved") && has("Denied")
        };
        if !has_both(new) || old.is_some_and(has_both) {
            return ErrorList::new();
        }
        vec![field::invalid(
            Path::new("status").child("conditions"),
            format!("{{{APPROVED}, {DENIED}}}"),
            format!("must specify at most one of: `{APPROVED}`, `{DENIED}`"),
        )]
    }

    fn selectable(&self, request: &Request) -> Vec<String> {
        vec![request.spec.signer_name.clone()]
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }
}

/// A signer is named by a domain and a path.
pub(super) fn signer(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let [domain, rest] = name.split('/').collect::<Vec<_>>()[..] else {
        return vec![field::invalid(
            path.clone(),
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        )];
    };
    let mut errors = ErrorList::new();
    if domain.len() > 253 {
        errors.push(field::too_long(path.clone(), 253));
    }
    let mut labels = |segment: &str, check: fn(&str, bool) -> Vec<String>| {
        for label in segment.split('.') {
            let wrong = check(label, false);
            if !wrong.is_empty() {
                errors.extend(wrong.into_iter().map(|text| {
                    let text = format!("validating label {label:?}: {text}");
                    field::invalid(path.clone(), segment, text)
                }));
                break;
            }
        }
        if std::ptr::eq(segment, domain) && !segment.contains('.') {
            errors.push(field::invalid(
                path.clone(),
                segment,
                "should be a domain with at least two segments separated by dots",
            ));
        }
    };
    labels(domain, names::dns_label);
    labels(rest, names::dns_subdomain);
    if name.len() > 571 {
        errors.push(field::too_long(path.clone(), 571));
    }
    errors
}

/// What is wrong with the name of a ClusterTrustBundle, which begins with its signer's, if it has one.
pub(super) fn bundle_name(name: &str, signer: &str) -> Vec<String> {
    match (signer, signer.replace('/', ":") + ":") {
        ("", _) if name.contains(':') => {
            vec![
                "ClusterTrustBundle without signer name must not have \":\" in its name".to_owned(),
            ]
        }
        ("", _) => names::dns_subdomain(name, false),
        (signer, prefix) => match name.strip_prefix(&prefix) {
            Some(rest) => names::dns_subdomain(rest, false),
            None => vec![format!(
                "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            )],
        },
    }
}

k8s_if_ge_1_34! {
    /// The shortest, the longest and the default life of a pod's certificate, in seconds.
    pub(super) const LIFE: (i32, i32, i32) = (3600, 91 * 24 * 3600, 24 * 3600);

    /// The longest life of a pod's certificate, in seconds: the cluster's own signers promise certificates of a day.
    pub(super) fn longest_life(signer: &str) -> i32 {
        if signer.starts_with("kubernetes.io/") { LIFE.2 } else { LIFE.1 }
    }
}

k8s_if_ge_1_35! {
    use std::collections::BTreeMap;

    /// Annotations of which each says whose it is.
    pub(super) fn user_annotations(annotations: &BTreeMap<String, String>, path: &Path) -> ErrorList {
        let mut out = metadata::validate_annotations(annotations, path);
        for key in annotations.keys().filter(|key| !key.contains('/')) {
            let text = "all keys must be domain-prefixed";
            out.push(field::invalid(path.clone(), key.as_str(), text));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Strategy, kinds::typed::Typed};

    fn request(spec: Value, status: Value) -> Request {
        let mut base = json!({"request": "", "signerName": "example.com/s", "usages": ["any"]});
        for (key, value) in spec.as_object().unwrap() {
            base[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": base, "status": status}))
            .unwrap()
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn condition(sort: &str, reason: &str) -> Value {
        json!({"type": sort, "status": "True", "reason": reason})
    }

    #[test]
    fn a_new_request_names_known_usages_and_a_signer() {
        let asked = request(
            json!({"usages": ["any", "all", "any"], "signerName": "x/Y", "expirationSeconds": 1}),
            json!({}),
        );
        let found = texts(CertificateSigningRequestRules.validate(&asked));
        assert_eq!(
            found[0],
            r#"spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST"#
        );
        assert!(found[1].starts_with(r#"spec.usages[1]: Unsupported value: "all""#));
        assert_eq!(found[2], r#"spec.usages[2]: Duplicate value: "any""#);
        assert_eq!(
            found[3],
            r#"spec.signerName: Invalid value: "x": should be a domain with at least two segments separated by dots"#
        );
        assert!(
            found[4].starts_with(r#"spec.signerName: Invalid value: "Y": validating label "Y": "#)
        );
        assert!(found[5].starts_with("spec.expirationSeconds: Invalid value: 1: "));
    }

    #[test]
    fn approval_adds_conditions_and_nothing_takes_them_away() {
        let rules = CertificateSigningRequestRules;
        let plain = request(json!({}), json!({}));
        let approved = request(
            json!({}),
            json!({"conditions": [condition("Approved", "a")]}),
        );
        let both = json!({"conditions": [condition("Approved", "a"), condition("Denied", "b")]});
        let both = request(json!({}), both);
        let approve = |new: &Request, old: &Request| {
            let rules = Typed(CertificateSigningRequestRules);
            texts(rules.validate_subresource_update("approval", new, old))
        };
        assert!(approve(&approved, &plain).is_empty());
        assert!(approve(&both, &both).is_empty());
        assert_eq!(
            approve(&both, &approved),
            [
                r#"status.conditions: Invalid value: "{conditions[{\"type\": \"Approved\"}], conditions[{\"type\": \"Denied\"}]}": must specify at most one of: `conditions[{"type": "Approved"}]`, `conditions[{"type": "Denied"}]`"#
            ]
        );
        assert_eq!(
            approve(&plain, &approved),
            [
                r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#
            ]
        );
        assert_eq!(
            texts(rules.validate_subresource_update("status", &approved, &plain)),
            [r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#]
        );
        let issued = request(json!({}), json!({"certificate": "AAAA"}));
        assert_eq!(
            approve(&issued, &plain),
            [
                r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#,
                "status.certificate: Forbidden: updates may not set certificate content"
            ]
        );
        assert_eq!(
            texts(rules.validate_subresource_update("status", &issued, &plain)),
            [
                r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#
            ]
        );
        assert_eq!(
            texts(rules.validate_subresource_update("status", &plain, &issued)),
            ["status.certificate: Forbidden: updates may not modify existing certificate content"]
        );
    }

    #[test]
    fn conditions_of_one_type_are_told_unless_there_were_such_before() {
        let of = |conditions: Value| request(json!({}), json!({"conditions": conditions}));
        let twice = of(json!([condition("a", "x"), condition("a", "y")]));
        let more = of(json!([
            condition("a", "x"),
            condition("a", "y"),
            condition("b", "x"),
            condition("b", "y")
        ]));
        let judge = |new: &Request, old: &Request| {
            texts(CertificateSigningRequestRules.validate_subresource_update("approval", new, old))
        };
        assert_eq!(
            judge(&twice, &of(json!([]))),
            [r#"status.conditions[1].type: Duplicate value: "a""#]
        );
        assert!(judge(&more, &twice).is_empty());
    }

    #[test]
    fn conditions_are_true_where_they_must_be() {
        let mut odd = condition("Denied", "x");
        odd["status"] = json!("False");
        let new = request(json!({}), json!({"conditions": [odd]}));
        let old = request(json!({}), json!({}));
        assert_eq!(
            texts(
                CertificateSigningRequestRules.validate_subresource_update("approval", &new, &old)
            ),
            [
                r#"status.conditions[0].status: Unsupported value: "False": supported values: "True""#
            ]
        );
    }
}
