//! Validation of certificates that pods have in volumes (KEP-4317).

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::VolumeProjection, k8s_if_ge_1_34, k8s_if_ge_1_35, k8s_if_le_1_33, k8s_if_le_1_34,
};

use crate::field::{ErrorList, Path};

k8s_if_ge_1_34! {
    use k8s_openapi::api::core::v1::PodCertificateProjection;

    use super::{non_reserved_path, projected::repeated};
    use crate::{
        field,
        kinds::{
            certificates::{LIFE, longest_life, signer},
            checks::{supported, text},
        },
    };

    const KEYS: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

    /// Checks a certificate, if that is what the source is. The paths are those that the volume has so far.
    pub(super) fn validate<'a>(
        source: &'a VolumeProjection,
        paths: &mut BTreeSet<&'a str>,
        path: &Path,
        volume: &Path,
    ) -> Option<ErrorList> {
        let certificate = source.pod_certificate.as_ref()?;
        let mut errors = signer(&certificate.signer_name, &path.child("signerName"));
        errors.extend(annotations(certificate, &path.child("userAnnotations")));
        errors.extend(supported(&certificate.key_type, KEYS, path.child("keyType")));
        errors.extend(life(certificate, path.child("maxExpirationSeconds")));
        let mut count = 0;
        for (name, file) in [
            ("credentialBundlePath", &certificate.credential_bundle_path),
            ("keyPath", &certificate.key_path),
            ("certificateChainPath", &certificate.certificate_chain_path),
        ] {
            let file = text(file);
            if file.is_empty() {
                continue;
            }
            count += 1;
            errors.extend(non_reserved_path(file, path.child(name)));
            errors.extend(repeated(file, paths, volume));
        }
        if count == 0 {
            let text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
            errors.push(field::required(path.clone(), text));
        }
        Some(errors)
    }

    /// How long the certificate may hold at most, if that is said.
    fn life(certificate: &PodCertificateProjection, path: Path) -> Option<field::Error> {
        let life = certificate.max_expiration_seconds?;
        let most = longest_life(&certificate.signer_name);
        let bound = if life < LIFE.0 {
            format!(">= {}", LIFE.0)
        } else if life > most {
            format!("<= {most}")
        } else {
            return None;
        };
        let text = format!("if provided, maxExpirationSeconds must be {bound}");
        Some(field::invalid(path, life, text))
    }
}

k8s_if_ge_1_35! {
    fn annotations(certificate: &PodCertificateProjection, path: &Path) -> ErrorList {
        let own = certificate.user_annotations.as_ref();
        own.map(|own| crate::kinds::certificates::user_annotations(own, path)).unwrap_or_default()
    }
}

k8s_if_le_1_34! {
    k8s_if_ge_1_34! {
        fn annotations(_certificate: &PodCertificateProjection, _path: &Path) -> ErrorList {
            ErrorList::new()
        }
    }
}

k8s_if_le_1_33! {
    pub(super) fn validate<'a>(
        _source: &'a VolumeProjection,
        _paths: &mut BTreeSet<&'a str>,
        _path: &Path,
        _volume: &Path,
    ) -> Option<ErrorList> {
        None
    }
}
