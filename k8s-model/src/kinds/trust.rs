//! ClusterTrustBundles.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

use super::{
    checks::{IMMUTABLE, text},
    typed::KindRules,
};
use crate::{
    field::{self, ErrorList, Path},
    names,
};

/// The longest bundle, in bytes.
const BUNDLE: usize = 1024 * 1024;

/// The rules of ClusterTrustBundles.
pub(crate) struct ClusterTrustBundleRules;

impl KindRules for ClusterTrustBundleRules {
    type Kind = ClusterTrustBundle;

    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];

    fn selectable(&self, bundle: &ClusterTrustBundle) -> Vec<String> {
        vec![bundle.spec.signer_name.clone().unwrap_or_default()]
    }

    fn validate(&self, bundle: &ClusterTrustBundle) -> ErrorList {
        let name = text(&bundle.metadata.name);
        let signer = text(&bundle.spec.signer_name);
        let path = Path::new("metadata").child("name");
        let problems = match (signer, signer.replace('/', ":") + ":") {
            ("", _) if name.contains(':') => {
                vec![
                    "ClusterTrustBundle without signer name must not have \":\" in its name"
                        .to_owned(),
                ]
            }
            ("", _) => names::dns_subdomain(name, false),
            (signer, prefix) => match name.strip_prefix(&prefix) {
                Some(rest) => names::dns_subdomain(rest, false),
                None => vec![format!(
                    "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
                )],
            },
        };
        let mut out: ErrorList = problems
            .into_iter()
            .map(|problem| field::invalid(path.clone(), name, problem))
            .collect();
        let path = Path::new("spec").child("trustBundle");
        let pem = &bundle.spec.trust_bundle;
        if pem.len() > BUNDLE {
            out.push(field::too_long(path, BUNDLE));
        } else if let Err(problem) = anchors(pem) {
            out.push(field::invalid(path, "<value omitted>", problem));
        }
        out
    }

    fn validate_update(&self, new: &ClusterTrustBundle, old: &ClusterTrustBundle) -> ErrorList {
        let mut out = self.validate(new);
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

/// That a text is certificates and nothing else, each once.
fn anchors(pem: &str) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (i, block) in Pem::iter_from_buffer(pem.as_bytes()).enumerate() {
        let block = block.map_err(|_| format!("entry {i} is no PEM block"))?;
        if block.label != "CERTIFICATE" {
            return Err(format!("entry {i} has bad block type: {}", block.label));
        }
        match X509Certificate::from_der(&block.contents) {
            Ok(([], _)) => {}
            _ => return Err(format!("entry {i} does not parse as X.509")),
        }
        if !seen.insert(block.contents) {
            return Err(format!("entry {i} is a repeat of an earlier one"));
        }
    }
    match seen.is_empty() {
        true => Err("at least one trust anchor must be provided".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["ca.example.com".to_owned()]).unwrap();
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
        let pem = certificate();
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
    fn a_bundle_holds_certificates_each_once_and_nothing_else() {
        let pem = certificate();
        for (text, problem) in [
            (String::new(), "at least one trust anchor must be provided"),
            (pem.clone() + &pem, "entry 1 is a repeat"),
            (
                pem.replace("CERTIFICATE", "PUBLIC KEY"),
                "entry 0 has bad block type: PUBLIC KEY",
            ),
        ] {
            let found = bundle("roots", "", &text);
            assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
        }
    }
}
