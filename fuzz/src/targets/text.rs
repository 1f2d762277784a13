//! Small languages: quantities, selectors, paths, names, certificates.

use std::collections::BTreeMap;

use k8s_model::{certificates, fields, json_path::JsonPath, labels, names, quantity};
use serde_json::json;

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

pub(super) fn quantity_seeds() -> Vec<Vec<u8>> {
    lines(
        "0\n1\n-1\n100m\n1.5Gi\n1e3\n12E\n0.000000001\n1e-9\n9223372036854775807\n+.5Ki\n1.Mi\n123456789012345678901n\n5u",
    )
}

pub(super) fn quantity(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(canonical) = quantity::canonical(text) else {
        assert!(quantity::Amount::parse(text).is_err(), "{text:?}");
        return;
    };
    let amount = quantity::Amount::parse(text).expect("it has a canonical form");
    let again = quantity::Amount::parse(&canonical).expect("the canonical form is read");
    assert_eq!(amount.value(), again.value(), "{text:?} {canonical:?}");
    assert_eq!(
        quantity::canonical(&canonical).as_deref(),
        Ok(&*canonical),
        "{text:?}"
    );
    assert!(
        canonical.len() <= text.len() + 64,
        "{text:?} grew to {canonical:?}"
    );
    let _ = (
        amount.milli_value(),
        amount.scaled_value(-9),
        amount.to_f64(),
        amount.signum(),
    );
    let _ = amount.round_up(-3).to_quantity();
}

pub(super) fn selector_seeds() -> Vec<Vec<u8>> {
    lines(
        "a=b\na==b,c!=d\nenv in (a,b),!x\nx notin (y),z\na>1,b<2\nexample.com/role=\nmetadata.name=x\n\
         spec.nodeName!=a,status.phase=Running\nmetadata.name=a\\,b\\=c\n,\n()\na in ()",
    )
}

pub(super) fn selector(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Ok(selector) = text.parse::<labels::Selector>() {
        let spelled = selector.to_string();
        let again: labels::Selector = spelled.parse().expect("what was spelled is read");
        for (key, value) in [("a", "b"), ("env", "a"), ("x", ""), ("", "")] {
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(
                selector.matches(&labels),
                again.matches(&labels),
                "{text:?} {spelled:?}"
            );
        }
    }
    if let Ok(selector) = text.parse::<fields::Selector>() {
        let spelled = selector.to_string();
        let again: fields::Selector = spelled.parse().expect("what was spelled is read");
        for value in ["", "a", "x", "Running", "~1a"] {
            let there = |_: &str| Some(value);
            assert_eq!(
                selector.matches_with(there),
                again.matches_with(there),
                "{text:?} {spelled:?}"
            );
        }
    }
}

pub(super) fn json_path_seeds() -> Vec<Vec<u8>> {
    lines(
        ".spec.replicas\n.status.conditions[?(@.type==\"Ready\")].status\n.metadata.labels['a\\.b']\n.a[0]\n.a[-1]\n\
         .a[*].b\n..b\n{.a}\n.a[0:2]\n.a[::2]\n.a['b','c']\n.a[0,-1]\n.a}{.b\n.a[?(2<=@.b)]",
    )
}

pub(super) fn json_path(input: &[u8]) {
    let Some(path) = text(input).and_then(|text| text.parse::<JsonPath>().ok()) else {
        return;
    };
    let value = json!({
        "a": [{"b": 1}, {"b": 2}, [3]], "spec": {"replicas": 1}, "metadata": {"labels": {"a.b": "c"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let found = path.find(&value).len();
    assert!(found <= 4096, "{found} values are found");
    assert_eq!(path.first(&value).is_some(), found > 0);
}

pub(super) fn names_seeds() -> Vec<Vec<u8>> {
    lines(
        "a\nmy-svc.example.com\nexample.com/role\nMY_VAR\n10.0.0.1\nfd00::1\n::ffff:10.0.0.1\n10.0.0.0/8\nfd00::/8\n*.a.b\n\
         1.2.3.4/33\n100%\nX-Header\nhttp",
    )
}

pub(super) fn names(input: &[u8]) {
    let Some(text) = text(input) else { return };
    for prefix in [false, true] {
        let _ = (
            names::dns_subdomain(text, prefix),
            names::dns_label(text, prefix),
        );
        let _ = (
            names::dns1035(text, prefix),
            names::path_segment(text, prefix),
        );
    }
    let _ = (
        names::wildcard_dns_subdomain(text),
        names::qualified_name(text),
        names::label_value(text),
    );
    let _ = (
        names::config_map_key(text),
        names::env_var_name(text),
        names::relaxed_env_var_name(text),
    );
    let _ = (
        names::c_identifier(text),
        names::port_name(text),
        names::percent(text),
    );
    let _ = (names::http_header_name(text), names::ip_address(text));
    let _ = text.parse::<k8s_apiserver::Cidr>();
    let _ = k8s_runtime::images::normalize(text);
}

pub(super) fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("request.pem").to_vec(),
        include_bytes!("certificate.pem").to_vec(),
    ]
}

pub(super) fn certificate(input: &[u8]) {
    // As it is, and as the content of PEM: mutations inside of base64 are mostly none of the content.
    let mut inputs = vec![input.to_vec()];
    for label in ["CERTIFICATE REQUEST", "CERTIFICATE"] {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let text: String = String::from_utf8_lossy(input)
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let mut der = STANDARD.decode(text).unwrap_or_else(|_| input.to_vec());
        if let Some(last) = input.last() {
            let at = usize::from(*last) % der.len().max(1);
            if let Some(byte) = der.get_mut(at) {
                *byte ^= input.len() as u8;
            }
        }
        let pem = format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(der)
        );
        inputs.push(pem.into_bytes());
    }
    for input in inputs {
        if let Ok(request) = certificates::CertificateRequest::parse(&input) {
            let _ = request.check_signature();
            let _ = request.check_kubelet_client(&[]);
            let _ = request.check_kubelet_serving(&["digital signature".to_owned()]);
        }
        let _ = certificates::check_certificates(&input);
        let _ = certificates::expiry(&input);
    }
}
