//! ClusterTrustBundles.

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;

use super::{
    certificates::{bundle_name, signer as signer_name},
    checks::{IMMUTABLE, messages, text},
    typed::KindRules,
};
use crate::{
    certificates::trust_anchors,
    field::{self, ErrorList, Path},
    names,
};

/// The longest bundle, in bytes.
const BUNDLE: usize = 1024 * 1024;

/// The rules of ClusterTrustBundles.
pub(crate) struct ClusterTrustBundleRules;

impl KindRules for ClusterTrustBundleRules {
    type Kind = ClusterTrustBundle;

    const UNCONDITIONAL_UPDATE: bool = false;

    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];

    fn selectable(&self, bundle: &ClusterTrustBundle) -> Vec<String> {
        vec![bundle.spec.signer_name.clone().unwrap_or_default()]
    }

    fn validate(&self, bundle: &ClusterTrustBundle) -> ErrorList {
        let mut out = named(bundle);
        out.extend(anchored(bundle));
        out
    }

    fn validate_update(&self, new: &ClusterTrustBundle, old: &ClusterTrustBundle) -> ErrorList {
        let mut out = named(new);
        // What was good once stays so.
        if new.spec.trust_bundle != old.spec.trust_bundle {
            out.extend(anchored(new));
        }
        if text(&new.spec.signer_name) != text(&old.spec.signer_name) {
            let path = Path::new("spec").child("signerName");
            out.push(field::invalid(path, text(&new.spec.signer_name), IMMUTABLE));
        }
        out
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        // The rest depends on the signer.
        names::path_segment(name, prefix)
    }
}

/// That a bundle is named after its signer, if it has one.
fn named(bundle: &ClusterTrustBundle) -> ErrorList {
    let name = text(&bundle.metadata.name);
    let signer = text(&bundle.spec.signer_name);
    let path = Path::new("metadata").child("name");
    let problems = bundle_name(name, signer);
    let mut out = messages(&path, name, problems);
    if !signer.is_empty() {
        out.extend(signer_name(signer, &Path::new("spec").child("signerName")));
    }
    out
}

/// That its text is certificates of authorities and nothing else, each once.
fn anchored(bundle: &ClusterTrustBundle) -> ErrorList {
    let path = Path::new("spec").child("trustBundle");
    let pem = &bundle.spec.trust_bundle;
    if pem.len() > BUNDLE {
        return vec![field::too_long(path, BUNDLE)];
    }
    messages(&path, "<value omitted>", trust_anchors(pem.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn certificate(is_ca: bool) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut made = rcgen::CertificateParams::new(vec!["ca.example.com".to_owned()]).unwrap();
        if is_ca {
            made.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        made.self_signed(&key).unwrap().pem()
    }

    fn bundle(name: &str, signer: &str, pem: &str) -> Vec<String> {
        let bundle =
            json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": pem}});
        let bundle = serde_json::from_value(bundle).unwrap();
        let found = ClusterTrustBundleRules.validate(&bundle);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bundle_is_named_after_its_signer() {
        let pem = certificate(true);
        assert_eq!(bundle("roots", "", &pem), [""; 0]);
        assert_eq!(
            bundle("example.com:ca:roots", "example.com/ca", &pem),
            [""; 0]
        );
        let found = bundle("roots", "example.com/ca", &pem);
        assert!(
            found[0].contains("must be named with prefix example.com:ca:"),
            "{found:?}"
        );
        assert_eq!(bundle("a:b", "", &pem).len(), 1);
    }

    #[test]
    fn a_signer_has_the_form_of_one() {
        let pem = certificate(true);
        assert_eq!(
            bundle("ca:roots", "ca", &pem),
            [
                r#"spec.signerName: Invalid value: "ca": must be a fully qualified domain and path of the form 'example.com/signer-name'"#
            ]
        );
        let found = bundle("example:ca:roots", "example/ca", &pem);
        assert_eq!(
            found,
            [
                r#"spec.signerName: Invalid value: "example": should be a domain with at least two segments separated by dots"#
            ]
        );
    }

    #[test]
    fn a_bundle_that_stays_is_not_read_again() {
        let bundle = |pem: &str, labels: Value| -> ClusterTrustBundle {
            let bundle = json!({"metadata": {"name": "roots", "labels": labels}, "spec": {"trustBundle": pem}});
            serde_json::from_value(bundle).unwrap()
        };
        let old = bundle("read once", json!({}));
        let update = |new| ClusterTrustBundleRules.validate_update(&new, &old).len();
        assert_eq!(update(bundle("read once", json!({"a": "b"}))), 0);
        assert_eq!(update(bundle("read anew", json!({}))), 1);
    }

    #[test]
    fn a_bundle_holds_certificates_each_once_and_nothing_else() {
        let pem = certificate(true);
        for (text, problem) in [
            (String::new(), "at least one trust anchor must be provided"),
            (
                "roots\n".to_owned() + &pem + &certificate(true) + &pem,
                "duplicate trust anchor (indices [0 2])",
            ),
            (
                pem.replace("CERTIFICATE", "PUBLIC KEY") + &pem + &pem,
                "entry 0 has bad block type: PUBLIC KEY",
            ),
            (
                pem.replace("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE-----\na: b\n"),
                "entry 0 has PEM block headers",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n".to_owned(),
                "entry 0 does not parse as X.509",
            ),
            (
                certificate(false),
                "entry 0 does not have the CA bit set",
            ),
        ] {
            let found = bundle("roots", "", &text);
            assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
        }
    }
}
