//! PodCertificateRequests (KEP-4317): a kubelet asks for a certificate for a pod's key, and a signer answers once.

#[cfg(test)]
mod tests;

use k8s_openapi::{
    api::certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    certificates::{LIFE, longest_life, signer, user_annotations},
    checks::{conditions, immutable, list, messages, text},
    typed::KindRules,
};
use crate::{
    certificates::{IssuedCertificate, PodKey, check_certificates},
    field::{self, ErrorList, Path},
    metadata, names,
    structural::format_fits,
};

/// How a request ends.
const ENDS: [&str; 3] = ["Issued", "Denied", "Failed"];
/// The longest UID, request and chain of certificates, in bytes.
const UID: usize = 128;
const REQUEST: usize = 10 * 1024;
const CHAIN: usize = 100 * 1024;
/// How long after its beginning and before its end a certificate is renewed at least, in seconds.
const MARGIN: i64 = 600;

/// The rules of PodCertificateRequests.
pub(crate) struct PodCertificateRequestRules;

impl KindRules for PodCertificateRequestRules {
    type Kind = PodCertificateRequest;

    const UNCONDITIONAL_UPDATE: bool = false;
    const SELECTABLE: &'static [&'static str] =
        &["spec.signerName", "spec.podName", "spec.nodeName"];

    fn selectable(&self, request: &PodCertificateRequest) -> Vec<String> {
        let spec = &request.spec;
        vec![
            spec.signer_name.clone(),
            spec.pod_name.clone(),
            spec.node_name.clone(),
        ]
    }

    fn default(&self, request: &mut PodCertificateRequest) {
        request.spec.max_expiration_seconds.get_or_insert(LIFE.2);
    }

    fn prepare_for_create(&self, request: &mut PodCertificateRequest) {
        request.status = None;
    }

    fn validate(&self, request: &PodCertificateRequest) -> ErrorList {
        let (spec, path) = (&request.spec, Path::new("spec"));
        let mut out = ErrorList::new();
        out.extend(signer(&spec.signer_name, &path.child("signerName")));
        let annotations = spec.unverified_user_annotations.as_ref();
        if let Some(annotations) = annotations {
            let path = path.child("unverifiedUserAnnotations");
            out.extend(user_annotations(annotations, &path));
        }
        for (name, value) in [
            ("podName", &spec.pod_name),
            ("serviceAccountName", &spec.service_account_name),
            ("nodeName", &spec.node_name),
        ] {
            let wrong = names::dns_subdomain(value, false);
            out.extend(messages(&path.child(name), value.as_str(), wrong));
        }
        for (name, uid) in [
            ("podUID", &spec.pod_uid),
            ("serviceAccountUID", &spec.service_account_uid),
            ("nodeUID", &spec.node_uid),
        ] {
            if uid.is_empty() {
                out.push(field::invalid(path.child(name), "", "must not be empty"));
            }
            if uid.len() > UID {
                out.push(field::too_long(path.child(name), UID));
            }
        }
        let most = longest_life(&spec.signer_name);
        let life = spec.max_expiration_seconds.unwrap_or(LIFE.2);
        if !(LIFE.0..=most).contains(&life) {
            let text = format!("must be in the range [{}, {most}]", LIFE.0);
            out.push(field::invalid(
                path.child("maxExpirationSeconds"),
                life,
                text,
            ));
        }
        let (key, path) = (
            &spec.stub_pkc_s10_request.0,
            path.child("stubPKCS10Request"),
        );
        if key.len() > REQUEST {
            out.push(field::too_long(path, REQUEST));
        } else if let Err(problem) = PodKey::requested(key) {
            out.push(field::invalid_unshown(path, problem));
        }
        out
    }

    fn prepare_for_update(&self, new: &mut PodCertificateRequest, old: &PodCertificateRequest) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(
        &self,
        new: &PodCertificateRequest,
        old: &PodCertificateRequest,
    ) -> ErrorList {
        immutable(&new.spec, &old.spec, Path::new("spec"))
    }

    fn prepare_for_status_update(
        &self,
        new: &mut PodCertificateRequest,
        old: &PodCertificateRequest,
    ) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
        keep_conditions(new, old);
    }

    /// When conditions last changed.
    fn stamp(
        &self,
        subresource: &str,
        new: &mut PodCertificateRequest,
        old: Option<&PodCertificateRequest>,
        now: Timestamp,
    ) {
        if subresource.is_empty() {
            return;
        }
        let before = old.and_then(|old| old.status.as_ref());
        let before = before.map(|status| list(&status.conditions));
        let before = before.unwrap_or_default();
        let is_said =
            |condition: &Condition| condition.last_transition_time.0 != metadata::UNSET_TIME;
        let status = new.status.as_mut();
        let conditions = status.and_then(|status| status.conditions.as_mut());
        for condition in conditions.into_iter().flatten() {
            if is_said(condition) {
                continue;
            }
            let same = before.iter().find(|old| {
                old.type_ == condition.type_ && old.status == condition.status && is_said(old)
            });
            let since = same.map(|old| old.last_transition_time.clone());
            condition.last_transition_time = since.unwrap_or_else(|| metadata::to_second(now));
        }
    }

    fn validate_status_update(
        &self,
        new: &PodCertificateRequest,
        old: &PodCertificateRequest,
    ) -> ErrorList {
        let (now, before) = (status(new), status(old));
        let path = Path::new("status");
        let said = path.child("conditions");
        let mut out = ends(list(&now.conditions), &said);
        out.extend(conditions(list(&now.conditions), &said));
        if !out.is_empty() {
            return out;
        }
        let unlike = |wanted: &PodCertificateRequestStatus, text: &str| match now == *wanted {
            true => ErrorList::new(),
            false => vec![field::invalid_unshown(path.clone(), text)],
        };
        if !list(&before.conditions).is_empty() {
            let text = "immutable after PodCertificateRequest is issued, denied, or failed";
            return unlike(&before, text);
        }
        match list(&now.conditions).first().map(|c| c.type_.as_str()) {
            Some("Issued") => issued(&now, old, &path),
            Some(_) => {
                let text = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
                let wanted = PodCertificateRequestStatus {
                    conditions: now.conditions.clone(),
                    ..Default::default()
                };
                unlike(&wanted, text)
            }
            None => {
                let text = r#"status is immutable unless transitioning to "Issued", "Denied", or "Failed""#;
                unlike(&before, text)
            }
        }
    }
}

/// Keeps conditions as they were where there are as many of a type as before.
fn keep_conditions(new: &mut PodCertificateRequest, old: &PodCertificateRequest) {
    let before = old.status.as_ref().map(|status| list(&status.conditions));
    let before = before.unwrap_or_default();
    let now = new.status.as_mut().and_then(|s| s.conditions.as_mut());
    let Some(now) = now else {
        return;
    };
    for sort in ENDS {
        let of_sort = |condition: &&Condition| condition.type_ == sort;
        let before: Vec<&Condition> = before.iter().filter(of_sort).collect();
        if now.iter().filter(of_sort).count() != before.len() {
            continue;
        }
        let now = now.iter_mut().filter(|condition| condition.type_ == sort);
        for (now, before) in now.zip(before) {
            now.clone_from(before);
        }
    }
}

/// The status, which is the same whether it is empty or not there.
fn status(request: &PodCertificateRequest) -> PodCertificateRequestStatus {
    let mut status = request.status.clone().unwrap_or_default();
    status.conditions = status.conditions.filter(|all| !all.is_empty());
    status.certificate_chain = status.certificate_chain.filter(|chain| !chain.is_empty());
    status
}

/// At most one condition, which says how the request ended.
fn ends(all: &[Condition], path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let mut ended = false;
    for (i, condition) in all.iter().enumerate() {
        // Upstream puts the index where a name is.
        let path = path.child(&format!("[{i}]"));
        let sort = condition.type_.as_str();
        if !ENDS.contains(&sort) {
            out.push(field::not_supported(path.child("type"), sort, &ENDS));
            continue;
        }
        if std::mem::replace(&mut ended, true) {
            let text = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            out.push(field::invalid(path.child("type"), sort, text));
        }
        if condition.status != "True" {
            let path = path.child("status");
            out.push(field::not_supported(
                path,
                condition.status.as_str(),
                &["True"],
            ));
        }
    }
    out
}

/// That names in a certificate are such as can be resolved and written to.
fn leaf_names(leaf: &IssuedCertificate, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    for name in &leaf.dns_names {
        let mut wrong = |is_wrong: bool, text: &str| {
            if is_wrong {
                out.push(field::invalid(path.clone(), name.as_str(), text));
            }
        };
        wrong(
            name.is_empty(),
            "leaf certificate should not contain empty DNSName",
        );
        wrong(
            name.contains(".."),
            "leaf certificate's DNSName should not contain '..'",
        );
        wrong(
            name.starts_with('.') || name.ends_with('.'),
            "leaf certificate's DNSName should not start or end with '.'",
        );
    }
    let is_no_address = |text: &&String| !format_fits("email", text);
    for address in leaf.email_addresses.iter().filter(is_no_address) {
        let text = "leaf certificate should not contain invalid EmailAddress";
        out.push(field::invalid(path.clone(), address.as_str(), text));
    }
    out
}

/// Whether what is issued is for the key that was asked for, and for no longer than that was.
fn issued(
    status: &PodCertificateRequestStatus,
    request: &PodCertificateRequest,
    path: &Path,
) -> ErrorList {
    let chain = text(&status.certificate_chain);
    let chain_path = path.child("certificateChain");
    if chain.len() > CHAIN {
        return vec![field::too_long(chain_path, CHAIN)];
    }
    let bad = |text: &str| vec![field::invalid(chain_path.clone(), chain, text)];
    let leaf = match IssuedCertificate::first(chain.as_bytes()) {
        Ok(leaf) => leaf,
        Err(problem) => return bad(problem),
    };
    let mut out = leaf_names(&leaf, &chain_path);
    let asked = PodKey::requested(&request.spec.stub_pkc_s10_request.0);
    if asked.is_ok_and(|asked| asked != leaf.key) {
        out.extend(bad(
            "leaf certificate was not issued to the requested public key",
        ));
        return out;
    }
    let mut time = |name: &str, time: &Option<Time>, text: &str| {
        if time.is_none() {
            out.push(field::required(path.child(name), text));
        }
        time.as_ref().map(|time| time.0)
    };
    let consistent = "must be present and consistent with the issued certificate";
    let refresh = "must be present and in the range [notbefore+10min, notafter-10min]";
    let begins = time("notBefore", &status.not_before, consistent);
    let ends = time("notAfter", &status.not_after, consistent);
    let renews = time("beginRefreshAt", &status.begin_refresh_at, refresh);
    let (Some(begins), Some(ends), Some(renews), true) = (begins, ends, renews, out.is_empty())
    else {
        return out;
    };
    let wrong = |name: &str, time: Timestamp, text: &str| {
        vec![field::invalid(path.child(name), time.to_string(), text)]
    };
    if begins != leaf.begins {
        let text = "must be set to the NotBefore time encoded in the leaf certificate";
        return wrong("notBefore", begins, text);
    }
    if ends != leaf.ends {
        let text = "must be set to the NotAfter time encoded in the leaf certificate";
        return wrong("notAfter", ends, text);
    }
    let life = ends.as_second() - begins.as_second();
    let too = |text: &str| {
        // A duration is told in nanoseconds.
        let nanoseconds = life.saturating_mul(1_000_000_000);
        vec![field::invalid(chain_path.clone(), nanoseconds, text)]
    };
    if life < i64::from(LIFE.0) {
        return too("leaf certificate lifetime must be >= 1 hour");
    }
    let most = request.spec.max_expiration_seconds.unwrap_or(LIFE.2);
    if life > i64::from(most) {
        return too(&format!(
            "leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})"
        ));
    }
    if renews.as_second() < begins.as_second() + MARGIN {
        let text = "must be at least 10 minutes after status.notBefore";
        return wrong("beginRefreshAt", renews, text);
    }
    if renews.as_second() > ends.as_second() - MARGIN {
        let text = "must be at least 10 minutes before status.notAfter";
        return wrong("beginRefreshAt", renews, text);
    }
    match check_certificates(chain.as_bytes()) {
        Ok(()) => Vec::new(),
        Err(problem) => bad(&problem),
    }
}
