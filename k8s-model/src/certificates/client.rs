//! [`ClientCertificate`]: whom a certificate makes of its owner.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::{parse_x509_certificate, x509::X509Name};

/// Under which key the extra attributes of a user have [`ClientCertificate::credential_id`].
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The attribute of a subject that holds a user's UID (KEP-4317 and `AllowParsingUserUIDFromCertAuth`).
const UID: &str = "1.3.6.1.4.1.57683.2";

/// A certificate cannot be read, or is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientCertificateError(String);

/// Whom a certificate makes of its owner, if somebody vouches for it; that is not looked at here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The user: the subject's common name. Empty if there is none; the owner is nobody then, and the groups and the UID
    /// are not read.
    pub name: String,
    /// The groups: the subject's organisations, in order.
    pub groups: Vec<String>,
    /// The user's UID; often empty.
    pub uid: String,
    /// What tells the credential: `X509SHA256=` and the certificate's digest in hexadecimal.
    pub credential_id: String,
    /// When the certificate runs out.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Reads a certificate, DER.
    ///
    /// # Errors
    /// Fails if it is none, or has a group that is no text, or a UID that is none.
    pub fn read(der: &[u8]) -> Result<Self, ClientCertificateError> {
        let bad = |e: &dyn std::fmt::Display| ClientCertificateError(e.to_string());
        let (_, certificate) = parse_x509_certificate(der).map_err(|e| bad(&e))?;
        let until = certificate.validity().not_after.timestamp();
        let mut out = ClientCertificate {
            name: String::new(),
            groups: Vec::new(),
            uid: String::new(),
            credential_id: "X509SHA256=".to_owned(),
            not_after: Timestamp::from_second(until).map_err(|e| bad(&e))?,
        };
        for byte in Sha256::digest(der) {
            let _ = write!(out.credential_id, "{byte:02x}");
        }
        let subject = certificate.subject();
        // Of several names the last counts, as Go reads certificates: whoever judges requests for them judges that one.
        let names = subject.iter_common_name().filter_map(|n| n.as_str().ok());
        let Some(name) = names.last().filter(|name| !name.is_empty()) else {
            return Ok(out);
        };
        out.name = name.to_owned();
        for group in subject.iter_organization() {
            let group = group.as_str().map_err(|e| bad(&e))?;
            out.groups.push(group.to_owned());
        }
        out.uid = uid(subject)?;
        Ok(out)
    }
}

fn uid(subject: &X509Name<'_>) -> Result<String, ClientCertificateError> {
    let bad = |text: &str| Err(ClientCertificateError(text.to_owned()));
    let all = subject.iter_attributes();
    let mut uids = all.filter(|attribute| attribute.attr_type().to_id_string() == UID);
    let Some(uid) = uids.next() else {
        return Ok(String::new());
    };
    match uid.as_str() {
        Err(_) => bad("unable to parse UID into a string"),
        Ok("") => bad("UID cannot be an empty string"),
        Ok(_) if uids.next().is_some() => bad("expected 1 UID, but found multiple"),
        Ok(uid) => Ok(uid.to_owned()),
    }
}
