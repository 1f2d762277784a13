//! [`CertificateRequest`]: what a request for a certificate (PKCS #10) asks for, and which requests of
//! nodes are as they should be.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::jiff::Timestamp;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
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
    /// It was not signed with the key that it is for.
    #[error("the certificate request's signature is not valid")]
    Signature,
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
    /// Whether it was signed with the key that it is for.
    signed: bool,
}

/// The object identifier of the alternative names.
const ALTERNATIVE_NAMES: &str = "2.5.29.17";

/// The contents of the first PEM block, and its label.
fn first_block(pem: &[u8]) -> Option<(&str, Vec<u8>, &[u8])> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    let rest = rest.strip_prefix(label)?.strip_prefix("-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label, STANDARD.decode(body).ok()?, rest.as_bytes()))
}

impl CertificateRequest {
    /// Reads a PEM block `CERTIFICATE REQUEST`.
    ///
    /// # Errors
    /// Fails if it is none.
    pub fn parse(pem: &[u8]) -> Result<Self, CertificateRequestError> {
        let (label, der, _) = first_block(pem).ok_or(CertificateRequestError::Pem)?;
        if label != "CERTIFICATE REQUEST" {
            return Err(CertificateRequestError::Pem);
        }
        let malformed = CertificateRequestError::Malformed;
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(malformed);
        };
        let info = &request.certification_request_info;
        let mut out = CertificateRequest {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            signed: request.verify_signature().is_ok(),
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
        if self.signed {
            Ok(())
        } else {
            Err(CertificateRequestError::Signature)
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
    while let Some((label, der, tail)) = first_block(rest) {
        if label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {label:?}"
            ));
        }
        if !matches!(x509_parser::parse_x509_certificate(&der), Ok(([], _))) {
            return Err("the certificate is malformed".to_owned());
        }
        blocks += 1;
        rest = tail;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

/// Until when the first certificate of a PEM text is good, if it is one.
pub fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, der, _) = first_block(pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
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
