//! The kinds of `certificates.k8s.io` besides requests for signing: ClusterTrustBundles and
//! PodCertificateRequests.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

use super::{
    checks::{IMMUTABLE, immutable, text},
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
        for (name, value) in [
            ("signerName", &spec.signer_name),
            ("podName", &spec.pod_name),
            ("podUID", &spec.pod_uid),
            ("serviceAccountName", &spec.service_account_name),
            ("serviceAccountUID", &spec.service_account_uid),
            ("nodeName", &spec.node_name),
            ("nodeUID", &spec.node_uid),
        ] {
            if value.is_empty() {
                out.push(field::required(path.child(name), "must be set"));
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

    #[test]
    fn a_request_says_for_whom_it_is_and_for_how_long() {
        let spec = json!({"signerName": "kubernetes.io/kube-apiserver-client-pod", "podName": "a", "podUID": "1",
            "serviceAccountName": "b", "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3",
            "stubPKCS10Request": ""});
        let request = |spec: &serde_json::Value| -> PodCertificateRequest {
            serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap()
        };
        let mut good = request(&spec);
        PodCertificateRequestRules.default(&mut good);
        assert_eq!(good.spec.max_expiration_seconds, Some(86_400));
        assert!(PodCertificateRequestRules.validate(&good).is_empty());
        let mut long = spec.clone();
        long["maxExpirationSeconds"] = 90_000.into();
        long["podName"] = "".into();
        assert_eq!(
            PodCertificateRequestRules.validate(&request(&long)).len(),
            2
        );
    }
}
