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
            "Invalid value: 1800000000000: leaf certificate lifetime must be >= 1 hour",
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
            "notAfter: Invalid value: \"2027-01-15T09:56:40Z\": must be set to the NotAfter time",
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

#[test]
fn an_answer_is_kept_as_it_was_given() {
    let answered = |sort: &str, message: &str| -> PodCertificateRequest {
        let condition = json!({"type": sort, "status": "True", "reason": "R", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let mut request = request(&asked(&key(&PKCS_ED25519)));
        request.status = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        request
    };
    let message = |request: &PodCertificateRequest| {
        let status = request.status.as_ref().unwrap();
        list(&status.conditions)[0].message.clone()
    };
    let old = answered("Denied", "first");
    for (sort, kept) in [("Denied", "first"), ("Failed", "second")] {
        let mut new = answered(sort, "second");
        PodCertificateRequestRules.prepare_for_status_update(&mut new, &old);
        assert_eq!(message(&new), kept, "{sort}");
    }
}

#[test]
fn an_answer_to_a_pod_says_when_it_was_given() {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    const BEFORE: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-01-02T00:00:00Z";
    let now: Timestamp = NOW.parse().unwrap();
    let with = |conditions: Value| {
        let mut one = request(b"");
        one.status = Some(serde_json::from_value(json!({"conditions": conditions})).unwrap());
        one
    };
    let denied = |time: &str| {
        let condition = json!({ "type": "Denied", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": time });
        with(json!([condition]))
    };
    for (old, said, kept) in [
        (with(json!([])), NEVER, NOW),
        (with(json!([])), BEFORE, BEFORE),
        (denied(BEFORE), NEVER, BEFORE),
        (denied(NEVER), NEVER, NOW),
    ] {
        let mut new = denied(said);
        PodCertificateRequestRules.stamp("status", &mut new, Some(&old), now);
        assert_eq!(new, denied(kept));
    }
}
