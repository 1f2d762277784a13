//! [`CertificateRequest`]: what a request for a certificate (PKCS #10) asks for, and which requests of
//! nodes are as they should be. [`ClientCertificate`]: whom a certificate makes of its owner.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>.

mod client;
mod pair;
mod pem;
mod signature;
k8s_openapi::k8s_if_ge_1_37! {
    mod anchors;
    mod pods;

    pub(crate) use self::{
        anchors::trust_anchors,
        pods::{IssuedCertificate, PodKey},
    };
}

use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

pub(crate) use self::pair::check as check_pair;
pub use self::{
    client::{CREDENTIAL_ID, ClientCertificate, ClientCertificateError},
    signature::{Curve, Hash, verify_ecdsa},
};

/// A request for a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateRequestError {
    /// It is not PEM, or of another sort.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// What the block holds is no such request.
    #[error("the certificate request is malformed")]
    Malformed,
    /// It was not signed with the key that it is for, or nobody can tell; in upstream's words.
    #[error("{0}")]
    Signature(&'static str),
}

/// What a request for a certificate asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The subject's common name; of several the last.
    pub common_name: String,
    /// The subject's organisations, in order.
    pub organizations: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Mail addresses.
    pub email_addresses: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// The subject, DER.
    pub subject: Vec<u8>,
    /// The public key with its algorithm (`SubjectPublicKeyInfo`), DER.
    pub public_key: Vec<u8>,
    /// The value of the extension with the alternative names, DER; empty if there is none.
    pub alternative_names: Vec<u8>,
    /// What is wrong with the signature.
    unsigned: Option<&'static str>,
}

/// The object identifier of the alternative names.
const ALTERNATIVE_NAMES: &str = "2.5.29.17";

impl CertificateRequest {
    /// Reads a PEM block `CERTIFICATE REQUEST`.
    ///
    /// # Errors
    /// Fails if it is none.
    pub fn parse(pem: &[u8]) -> Result<Self, CertificateRequestError> {
        let (block, _) = pem::first(pem).ok_or(CertificateRequestError::Pem)?;
        if block.label != b"CERTIFICATE REQUEST" {
            return Err(CertificateRequestError::Pem);
        }
        let der = block.der;
        let malformed = CertificateRequestError::Malformed;
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(malformed);
        };
        let info = &request.certification_request_info;
        let mut out = CertificateRequest {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            unsigned: signature::check(&request).err(),
            ..Default::default()
        };
        for name in info.subject.iter_common_name() {
            out.common_name = name.as_str().map_err(|_| malformed.clone())?.to_owned();
        }
        for name in info.subject.iter_organization() {
            let name = name.as_str().map_err(|_| malformed.clone())?;
            out.organizations.push(name.to_owned());
        }
        for attribute in info.iter_attributes() {
            use x509_parser::cri_attributes::ParsedCriAttribute;
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in &asked.extensions {
                if extension.oid.to_id_string() != ALTERNATIVE_NAMES {
                    continue;
                }
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension()
                else {
                    return Err(malformed);
                };
                out.alternative_names = extension.value.to_vec();
                for name in &names.general_names {
                    out.alternative_name(name)?;
                }
            }
        }
        Ok(out)
    }

    fn alternative_name(&mut self, name: &GeneralName<'_>) -> Result<(), CertificateRequestError> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.email_addresses.push((*name).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                let ip = ip.map_err(|_| CertificateRequestError::Malformed)?;
                self.ip_addresses.push(ip);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether it was signed with the key that it is for.
    ///
    /// # Errors
    /// Fails if not.
    pub fn check_signature(&self) -> Result<(), CertificateRequestError> {
        match self.unsigned {
            None => Ok(()),
            Some(why) => Err(CertificateRequestError::Signature(why)),
        }
    }

    /// Whether a kubelet may ask for this to speak to the API server.
    ///
    /// # Errors
    /// Fails with upstream's text.
    pub fn check_kubelet_client(&self, usages: &[String]) -> Result<(), &'static str> {
        self.check_node()?;
        if !self.dns_names.is_empty() {
            return Err("DNS subjectAltNames are not allowed");
        }
        if !self.email_addresses.is_empty() {
            return Err("Email subjectAltNames are not allowed");
        }
        if !self.ip_addresses.is_empty() {
            return Err("IP subjectAltNames are not allowed");
        }
        if !self.uris.is_empty() {
            return Err("URI subjectAltNames are not allowed");
        }
        self.check_node_name()?;
        if are(usages, &["client auth", "digital signature"]) {
            Ok(())
        } else {
            Err("usages did not match [client auth digital signature key encipherment]")
        }
    }

    /// Whether a kubelet may ask for this to serve with.
    ///
    /// # Errors
    /// Fails with upstream's text.
    pub fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), &'static str> {
        self.check_node()?;
        if self.dns_names.is_empty() && self.ip_addresses.is_empty() {
            return Err("DNS or IP subjectAltName is required");
        }
        if !self.email_addresses.is_empty() {
            return Err("Email subjectAltNames are not allowed");
        }
        if !self.uris.is_empty() {
            return Err("URI subjectAltNames are not allowed");
        }
        if !are(usages, &["digital signature", "server auth"]) {
            return Err("usages did not match [digital signature key encipherment server auth]");
        }
        self.check_node_name()
    }

    fn check_node(&self) -> Result<(), &'static str> {
        if self.organizations == ["system:nodes"] {
            Ok(())
        } else {
            Err("subject organization is not system:nodes")
        }
    }

    fn check_node_name(&self) -> Result<(), &'static str> {
        if self.common_name.starts_with("system:node:") {
            Ok(())
        } else {
            Err("subject common name does not begin with system:node:")
        }
    }
}

/// Whether the usages are these, with or without the one that only RSA keys need.
fn are(usages: &[String], wanted: &[&str]) -> bool {
    let known = |usage: &String| wanted.contains(&usage.as_str()) || usage == "key encipherment";
    usages.iter().all(known)
        && wanted
            .iter()
            .all(|wanted| usages.iter().any(|u| u == wanted))
}

/// Checks that a text is one or more PEM blocks `CERTIFICATE`.
///
/// # Errors
/// Fails with what is wrong.
pub fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut rest = pem;
    let mut blocks = 0;
    while let Some((block, tail)) = pem::first(rest) {
        if block.label != b"CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                String::from_utf8_lossy(block.label)
            ));
        }
        if block.headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        blocks += 1;
        if block.der.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        let mut certificates = block.der.as_slice();
        while !certificates.is_empty() {
            (certificates, _) = x509_parser::parse_x509_certificate(certificates)
                .map_err(|_| "x509: malformed certificate".to_owned())?;
        }
        rest = tail;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

/// Checks that there is a certificate among the PEM blocks of a text, as Go looks for authorities in it.
///
/// # Errors
/// Fails with what is wrong.
pub fn check_authorities(text: &[u8]) -> Result<(), String> {
    let told = |text: &str| Err(format!("unable to load root certificates: {text}"));
    let mut rest = text;
    let mut fault = None;
    while !rest.is_empty() {
        let Some((block, tail)) = pem::first(rest) else {
            fault.get_or_insert("unable to parse bytes as PEM block");
            break;
        };
        rest = tail;
        if block.label != b"CERTIFICATE" || block.headers {
            continue;
        }
        if x509_parser::parse_x509_certificate(&block.der).is_ok() {
            return Ok(());
        }
        fault.get_or_insert("failed to parse certificate: x509: malformed certificate");
    }
    told(fault.unwrap_or("no valid certificate authority data seen"))
}

/// Until when the first certificate of a PEM text is good, if it is one.
pub fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (block, _) = pem::first(pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&block.der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn request(common_name: &str, organization: &str, names: Vec<SanType>) -> CertificateRequest {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        CertificateRequest::parse(pem.as_bytes()).unwrap()
    }

    fn usages(of: &[&str]) -> Vec<String> {
        of.iter().map(|usage| (*usage).to_owned()).collect()
    }

    #[test]
    fn a_request_says_who_it_is_for() {
        let dns = SanType::DnsName(Ia5String::try_from("a.example.com").unwrap());
        let ip = SanType::IpAddress([10, 0, 0, 1].into());
        let asked = request("jane", "dev", vec![dns, ip]);
        assert_eq!(asked.common_name, "jane");
        assert_eq!(asked.organizations, ["dev"]);
        assert_eq!(asked.dns_names, ["a.example.com"]);
        assert_eq!(asked.ip_addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(asked.check_signature(), Ok(()));
        assert!(!asked.alternative_names.is_empty());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, error) in [
            ("", CertificateRequestError::Pem),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                CertificateRequestError::Pem,
            ),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                CertificateRequestError::Malformed,
            ),
        ] {
            assert_eq!(CertificateRequest::parse(text.as_bytes()), Err(error));
        }
    }

    #[test]
    fn a_signature_that_does_not_fit_is_told_by_the_sort_of_key() {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key);
        let mut der = request.unwrap().der().to_vec();
        // Within the subject's public key there is nothing to change; what follows it, the attributes, is signed too.
        let at = der
            .windows(3)
            .position(|w| w == [0x06, 0x08, 0x2a])
            .unwrap()
            + 12;
        der[at + 20] ^= 1;
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"
        );
        let asked = CertificateRequest::parse(pem.as_bytes()).unwrap();
        assert_eq!(
            asked.check_signature().unwrap_err().to_string(),
            "x509: ECDSA verification failure"
        );
    }

    #[test]
    fn issued_certificates_have_no_headers_and_nothing_but_certificates() {
        let refused = |text: &str| check_certificates(text.as_bytes()).unwrap_err();
        assert_eq!(
            refused("AAAA"),
            "must contain at least one CERTIFICATE PEM block"
        );
        assert_eq!(
            refused("-----BEGIN X-----\nAAAA\n-----END X-----\n"),
            r#"only CERTIFICATE PEM blocks are allowed, found "X""#
        );
        assert_eq!(
            refused("-----BEGIN CERTIFICATE-----\na: b\n\nAAAA\n-----END CERTIFICATE-----\n"),
            "no PEM block headers are permitted"
        );
        assert_eq!(
            refused("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
            "found CERTIFICATE PEM block containing 0 certificates"
        );
    }

    #[test]
    fn requests_of_nodes_are_checked() {
        let client = usages(&["client auth", "digital signature"]);
        let serving = usages(&["server auth", "digital signature", "key encipherment"]);
        let node = request("system:node:a", "system:nodes", Vec::new());
        assert_eq!(node.check_kubelet_client(&client), Ok(()));
        assert_eq!(
            node.check_kubelet_client(&serving),
            Err("usages did not match [client auth digital signature key encipherment]")
        );
        assert_eq!(
            node.check_kubelet_serving(&serving),
            Err("DNS or IP subjectAltName is required")
        );
        let ip = SanType::IpAddress([10, 0, 0, 1].into());
        let server = request("system:node:a", "system:nodes", vec![ip]);
        assert_eq!(server.check_kubelet_serving(&serving), Ok(()));
        assert_eq!(
            server.check_kubelet_client(&client),
            Err("IP subjectAltNames are not allowed")
        );
        let other = request("jane", "system:nodes", Vec::new());
        assert_eq!(
            other.check_kubelet_client(&client),
            Err("subject common name does not begin with system:node:")
        );
        let stranger = request("system:node:a", "dev", Vec::new());
        assert_eq!(
            stranger.check_kubelet_client(&client),
            Err("subject organization is not system:nodes")
        );
    }
}
