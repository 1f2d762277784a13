//! [`PodKey`] and [`IssuedCertificate`]: for which key a pod's certificate is asked, and for which one is issued.

use k8s_openapi::jiff::Timestamp;
use x509_parser::{
    extensions::GeneralName,
    certification_request::X509CertificationRequest, prelude::FromDer, public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use super::{pem, signature};

/// A public key that pods may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodKey(Vec<u8>);

/// The curves P-256, P-384 and P-521.
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
const ED25519: &str = "1.3.101.112";

impl PodKey {
    /// The key of a request (PKCS #10, DER), if the request is signed with it.
    ///
    /// # Errors
    /// Fails with what is wrong.
    pub(crate) fn requested(der: &[u8]) -> Result<Self, &'static str> {
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err("must be a valid PKCS#10 certificate request");
        };
        let key = &request.certification_request_info.subject_pki;
        check(key)?;
        match signature::check(&request) {
            Ok(()) => Ok(PodKey(key.raw.to_vec())),
            Err(_) => Err("could not verify the signature of the certificate request"),
        }
    }
}

fn check(key: &SubjectPublicKeyInfo<'_>) -> Result<(), &'static str> {
    const UNKNOWN: &str = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            3072 | 4096 => Ok(()),
            _ => Err("RSA keys must have modulus size 3072 or 4096"),
        },
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref();
            let curve = curve.and_then(|curve| curve.as_oid().ok());
            match curve.is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str())) {
                true => Ok(()),
                false => Err("elliptic public keys must use curve P256, P384, or P521"),
            }
        }
        _ if key.algorithm.algorithm.to_id_string() == ED25519 => Ok(()),
        _ => Err(UNKNOWN),
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug)]
pub(crate) struct IssuedCertificate {
    /// For which key it is.
    pub(crate) key: PodKey,
    /// From when on it is good.
    pub(crate) begins: Timestamp,
    /// Until when it is.
    pub(crate) ends: Timestamp,
    /// For which DNS names and mail addresses it is.
    pub(crate) dns_names: Vec<String>,
    pub(crate) email_addresses: Vec<String>,
}

impl IssuedCertificate {
    /// The first of a chain in PEM.
    ///
    /// # Errors
    /// Fails with what is wrong.
    pub(crate) fn first(pem: &[u8]) -> Result<Self, &'static str> {
        let none = "issued certificate chain must contain at least one certificate";
        let (block, _) = pem::first(pem).ok_or(none)?;
        if block.label != b"CERTIFICATE" {
            return Err("issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
        }
        let malformed = "leaf certificate does not parse as valid X.509";
        let Ok(([], certificate)) = x509_parser::parse_x509_certificate(&block.der) else {
            return Err(malformed);
        };
        let validity = certificate.validity();
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| malformed);
        let (mut dns_names, mut email_addresses) = (Vec::new(), Vec::new());
        let alternatives = certificate
            .subject_alternative_name()
            .map_err(|_| malformed)?;
        let names = alternatives.map(|extension| &extension.value.general_names);
        for name in names.into_iter().flatten() {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => email_addresses.push((*name).to_owned()),
                _ => {}
            }
        }
        Ok(IssuedCertificate {
            dns_names,
            email_addresses,
            key: PodKey(certificate.public_key().raw.to_vec()),
            begins: time(validity.not_before.timestamp())?,
            ends: time(validity.not_after.timestamp())?,
        })
    }
}
