//! PodCertificateRequests (KEP-4317): a kubelet asks for a certificate for a pod's key, and a signer answers once.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    certificates::signer,
    checks::{conditions, immutable, list, messages, text},
    typed::KindRules,
};
use crate::{
    certificates::{IssuedCertificate, PodKey, check_certificates},
    duration,
    field::{self, ErrorList, Path},
    metadata, names,
    structural::is_email,
};

/// How a request ends.
const ENDS: [&str; 3] = ["Issued", "Denied", "Failed"];
/// The longest UID, request and chain of certificates, in bytes.
const UID: usize = 128;
const REQUEST: usize = 10 * 1024;
const CHAIN: usize = 100 * 1024;
/// How long after its beginning and before its end a certificate is renewed at least, in seconds.
const MARGIN: i64 = 600;

/// The shortest, the longest and the default life of a pod's certificate, in seconds.
const LIFE: (i32, i32, i32) = (3600, 91 * 24 * 3600, 24 * 3600);

/// The rules of PodCertificateRequests.
pub(crate) struct PodCertificateRequestRules;

impl KindRules for PodCertificateRequestRules {
    type Kind = PodCertificateRequest;

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
        // The cluster's own signers promise certificates of a day.
        let own = spec.signer_name.starts_with("kubernetes.io/");
        let most = if own { LIFE.2 } else { LIFE.1 };
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

/// Annotations of which each says whose it is.
fn user_annotations(annotations: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut out = metadata::validate_annotations(annotations, path);
    for key in annotations.keys().filter(|key| !key.contains('/')) {
        let text = "all keys must be domain-prefixed";
        out.push(field::invalid(path.clone(), key.as_str(), text));
    }
    out
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
    for address in leaf.email_addresses.iter().filter(|text| !is_email(text)) {
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
        vec![field::invalid_time(path.child(name), time, text)]
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
        let spelled = duration::print(life.saturating_mul(1_000_000_000));
        vec![field::invalid_spelled(chain_path.clone(), &spelled, text)]
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

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
    };
    use serde_json::{Value, json};

    use super::*;

    fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
        KeyPair::generate_for(algorithm).unwrap()
    }

    fn asked(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::default();
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn request(key: &[u8]) -> PodCertificateRequest {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let spec = json!({"signerName": "kubernetes.io/kube-apiserver-client-pod", "podName": "a", "podUID": "1",
            "serviceAccountName": "b", "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3",
            "maxExpirationSeconds": 86_400, "stubPKCS10Request": STANDARD.encode(key)});
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap()
    }

    fn found(request: &PodCertificateRequest) -> Vec<String> {
        let found = PodCertificateRequestRules.validate(request);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_says_for_whom_it_is_and_for_how_long() {
        let mut good = request(&asked(&key(&PKCS_ED25519)));
        good.spec.max_expiration_seconds = None;
        PodCertificateRequestRules.default(&mut good);
        assert_eq!(good.spec.max_expiration_seconds, Some(86_400));
        assert_eq!(found(&good), [""; 0]);
        let mut bad = good;
        bad.spec.max_expiration_seconds = Some(3000);
        bad.spec.pod_name = String::new();
        bad.spec.pod_uid = "u".repeat(129);
        bad.spec.node_uid = String::new();
        bad.spec.signer_name = "nobody".to_owned();
        let annotations = [("example.com/a", "x"), ("mine", "y")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        bad.spec.unverified_user_annotations = Some(annotations.into());
        let found = found(&bad);
        let begins = [
            r#"spec.signerName: Invalid value: "nobody": must be a fully qualified domain"#,
            r#"spec.unverifiedUserAnnotations: Invalid value: "mine": all keys"#,
            r#"spec.podName: Invalid value: "": a lowercase RFC 1123 subdomain"#,
            "spec.podUID: Too long",
            r#"spec.nodeUID: Invalid value: "": must not be empty"#,
            "spec.maxExpirationSeconds: Invalid value: 3000: must be in the range [3600, 7862400]",
        ];
        assert_eq!(found.len(), begins.len(), "{found:?}");
        for (found, begins) in found.iter().zip(begins) {
            assert!(found.starts_with(begins), "{found}");
        }
    }

    #[test]
    fn who_asks_for_a_key_must_have_it() {
        let (mine, others) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ED25519));
        for key in [&mine, &others] {
            assert_eq!(found(&request(&asked(key))), [""; 0]);
        }
        let mut forged = asked(&mine);
        *forged.last_mut().unwrap() ^= 1;
        let small = key(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(found(&request(&asked(&small))), [""; 0]);
        for (bytes, text) in [
            (forged, "signature"),
            (Vec::new(), "must be a valid PKCS#10 certificate request"),
            (
                b"nonsense".to_vec(),
                "must be a valid PKCS#10 certificate request",
            ),
            (vec![0; REQUEST + 1], "Too long"),
        ] {
            let found = found(&request(&bytes));
            assert!(found.len() == 1 && found[0].contains(text), "{found:?}");
        }
    }

    #[test]
    fn a_signer_answers_once_and_with_what_was_asked_for() {
        let (mine, others) = (key(&PKCS_ED25519), key(&PKCS_ED25519));
        let old = request(&asked(&mine));
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let certificate = |key: &KeyPair, life: i64| {
            let mut params = CertificateParams::default();
            let time = |seconds: i64| {
                let since = std::time::Duration::from_secs(at(seconds).as_second() as u64);
                rcgen::date_time_ymd(1970, 1, 1) + since
            };
            (params.not_before, params.not_after) = (time(0), time(life));
            params.self_signed(key).unwrap().pem()
        };
        let ended = |sort: &str| {
            json!([{"type": sort, "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        let good = json!({"conditions": ended("Issued"), "certificateChain": certificate(&mine, 7200),
            "notBefore": at(0), "notAfter": at(7200), "beginRefreshAt": at(3600)});
        let with = |change: Value| {
            let mut status = good.clone();
            for (name, value) in change.as_object().unwrap() {
                status[name] = value.clone();
            }
            status
        };
        let judge = |old: &PodCertificateRequest, status: &Value| {
            let mut new = old.clone();
            new.status = serde_json::from_value(status.clone()).unwrap();
            let found = PodCertificateRequestRules.validate_status_update(&new, old);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            (found, new)
        };
        let (found, issued) = judge(&old, &good);
        assert_eq!(found, [""; 0]);
        for sort in ["Denied", "Failed"] {
            let (found, _) = judge(&old, &json!({"conditions": ended(sort)}));
            assert_eq!(found, [""; 0]);
        }
        assert_eq!(judge(&issued, &good).0, [""; 0]);
        let mut two = ended("Issued");
        two.as_array_mut()
            .unwrap()
            .extend(ended("Denied").as_array().cloned().unwrap());
        let mut untrue = ended("Issued");
        untrue[0]["status"] = "False".into();
        let (mut unreasoned, mut babbled) = (ended("Issued"), ended("Issued"));
        unreasoned[0]["reason"] = "".into();
        babbled[0]["reason"] = "because, of".into();
        let nested = good["certificateChain"].as_str().unwrap().to_owned();
        let named = |name: rcgen::SanType| {
            let mut params = CertificateParams::default();
            params.subject_alt_names.push(name);
            json!({"certificateChain": params.self_signed(&mine).unwrap().pem()})
        };
        let dns = |name: &str| named(rcgen::SanType::DnsName(name.try_into().unwrap()));
        let mail = |name: &str| named(rcgen::SanType::Rfc822Name(name.try_into().unwrap()));
        let first = |status: &Value| judge(&old, status).0.swap_remove(0);
        for (names, text) in [
            (
                dns(""),
                r#""": leaf certificate should not contain empty DNSName"#,
            ),
            (
                dns("a..b"),
                r#""a..b": leaf certificate's DNSName should not contain '..'"#,
            ),
            (
                dns("a.b."),
                r#""a.b.": leaf certificate's DNSName should not start or end with '.'"#,
            ),
            (
                mail("nobody"),
                r#""nobody": leaf certificate should not contain invalid EmailAddress"#,
            ),
        ] {
            let wanted = format!("status.certificateChain: Invalid value: {text}");
            assert_eq!(first(&with(names)), wanted);
        }
        for names in [dns("a.b"), mail("jane@example.com")] {
            // These times are not the certificate's.
            let found = first(&with(names));
            assert!(found.starts_with("status.notBefore: "), "{found}");
        }
        assert_eq!(
            first(&with(json!({"conditions": ended("Other")}))),
            "status.conditions.[0].type: Unsupported value: \"Other\": supported values: \"Issued\", \"Denied\", \"Failed\""
        );
        for (old, status, text) in [
            (
                &issued,
                with(json!({"beginRefreshAt": at(3700)})),
                "immutable after PodCertificateRequest is issued",
            ),
            (
                &issued,
                json!({}),
                "immutable after PodCertificateRequest is issued",
            ),
            (
                &old,
                with(json!({"conditions": null})),
                "immutable unless transitioning to",
            ),
            (
                &old,
                with(json!({"conditions": ended("Denied")})),
                "must be empty when denying or failing",
            ),
            (
                &old,
                with(json!({"conditions": ended("Other")})),
                "Unsupported value: \"Other\"",
            ),
            (
                &old,
                with(json!({"conditions": two})),
                "There may be at most one condition",
            ),
            (
                &old,
                with(json!({"conditions": untrue})),
                "Unsupported value: \"False\"",
            ),
            (
                &old,
                with(json!({"conditions": unreasoned})),
                "status.conditions[0].reason: Required value: must be set",
            ),
            (
                &old,
                with(json!({"conditions": babbled})),
                "a condition reason must start with alphabetic character",
            ),
            (
                &old,
                with(json!({"certificateChain": certificate(&others, 7200)})),
                "was not issued to the requested public key",
            ),
            (
                &old,
                with(json!({"certificateChain": ""})),
                "must contain at least one certificate",
            ),
            (
                &old,
                with(json!({"certificateChain": nested.replace("CERTIFICATE", "PRIVATE KEY")})),
                "must consist entirely of CERTIFICATE PEM blocks",
            ),
            (
                &old,
                with(json!({"certificateChain": nested + "-----BEGIN X-----\n-----END X-----\n"})),
                "only CERTIFICATE PEM blocks are allowed",
            ),
            (
                &old,
                with(json!({"certificateChain": certificate(&mine, 1800), "notAfter": at(1800)})),
                "Invalid value: 30m0s: leaf certificate lifetime must be >= 1 hour",
            ),
            (
                &old,
                with(
                    json!({"certificateChain": certificate(&mine, 90_000), "notAfter": at(90_000)}),
                ),
                "<= spec.maxExpirationSeconds (86400)",
            ),
            (
                &old,
                with(json!({"notAfter": at(7000)})),
                "notAfter: Invalid value: 2027-01-15 09:56:40 +0000 UTC: must be set to the NotAfter time",
            ),
            (
                &old,
                with(json!({"notBefore": at(1)})),
                "must be set to the NotBefore time",
            ),
            (
                &old,
                with(json!({"notBefore": null})),
                "status.notBefore: Required value",
            ),
            (
                &old,
                with(json!({"beginRefreshAt": at(500)})),
                "10 minutes after status.notBefore",
            ),
            (
                &old,
                with(json!({"beginRefreshAt": at(7100)})),
                "10 minutes before status.notAfter",
            ),
        ] {
            let (found, _) = judge(old, &status);
            assert!(
                found.len() == 1 && found[0].contains(text),
                "{text}: {found:?}"
            );
        }
    }
}
