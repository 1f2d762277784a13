//! Certificates for requests that were approved.

use jiff::{SignedDuration, Timestamp};
use k8s_model::certificates::CertificateRequest;
use rcgen::SigningKey;

use super::{PkiError, authority::Authority, der};

/// How much earlier than now a certificate begins to be good, for clocks that are a little off; as
/// upstream.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Certificates that are good for less count from now.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// The bit of a key usage, if it is one.
fn key_usage(usage: &str) -> Option<u8> {
    Some(match usage {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The object identifier of an extended key usage, encoded, if it is one.
fn extended_key_usage(usage: &str) -> Option<&'static [u8]> {
    const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
    const PKIX: [&[u8]; 9] = [
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x04],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x05],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x06],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x07],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08],
        &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09],
    ];
    const MICROSOFT_SGC: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x03, 0x03];
    const NETSCAPE_SGC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x04, 0x01];
    Some(match usage {
        "any" => ANY,
        "server auth" => PKIX[0],
        "client auth" => PKIX[1],
        "code signing" => PKIX[2],
        "email protection" | "s/mime" => PKIX[3],
        "ipsec end system" => PKIX[4],
        "ipsec tunnel" => PKIX[5],
        "ipsec user" => PKIX[6],
        "timestamping" => PKIX[7],
        "ocsp signing" => PKIX[8],
        "microsoft sgc" => MICROSOFT_SGC,
        "netscape sgc" => NETSCAPE_SGC,
        _ => return None,
    })
}

fn extensions(request: &CertificateRequest, usages: &[String], authority_key: &[u8]) -> Vec<u8> {
    let extension = |id: &[u8], critical: bool, value: &[u8]| {
        let value = der::element(0x04, value);
        if critical {
            der::sequence(&[&der::oid(id), &der::element(0x01, &[0xff]), &value])
        } else {
            der::sequence(&[&der::oid(id), &value])
        }
    };
    let mut out = Vec::new();
    let mut bits = [0u8; 2];
    let mut last = None;
    for bit in usages.iter().filter_map(|usage| key_usage(usage)) {
        bits[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
        last = last.max(Some(bit));
    }
    if let Some(last) = last {
        let length = usize::from(last / 8) + 1;
        let value = [&[7 - last % 8], &bits[..length]].concat();
        out.extend(extension(
            &[0x55, 0x1d, 0x0f],
            true,
            &der::element(0x03, &value),
        ));
    }
    let mut extended: Vec<u8> = Vec::new();
    let mut seen = Vec::new();
    for id in usages.iter().filter_map(|usage| extended_key_usage(usage)) {
        if !seen.contains(&id) {
            seen.push(id);
            extended.extend(der::oid(id));
        }
    }
    if !extended.is_empty() {
        let value = der::sequence(&[&extended]);
        out.extend(extension(&[0x55, 0x1d, 0x25], false, &value));
    }
    out.extend(extension(&[0x55, 0x1d, 0x13], true, &der::sequence(&[])));
    let authority = der::sequence(&[&der::element(0x80, authority_key)]);
    out.extend(extension(&[0x55, 0x1d, 0x23], false, &authority));
    if !request.alternative_names.is_empty() {
        let nameless = request.subject == [0x30, 0];
        out.extend(extension(
            &[0x55, 0x1d, 0x11],
            nameless,
            &request.alternative_names,
        ));
    }
    der::element(0xa3, &der::sequence(&[&out]))
}

impl Authority {
    /// A certificate, PEM, for what a request asks for.
    pub(super) fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let from = if lifetime < SHORT {
            now
        } else {
            now - BACKDATE
        };
        let until = (now + lifetime).min(self.not_after);
        let mut serial = uuid::Uuid::new_v4().into_bytes();
        serial[0] &= 0x7f;
        let body = der::sequence(&[
            &der::element(0xa0, &der::integer(&[2])),
            &der::integer(&serial),
            &der::ecdsa_with_sha256(),
            &self.subject,
            &der::sequence(&[&der::time(from), &der::time(until)]),
            &request.subject,
            &request.public_key,
            &extensions(request, usages, &self.key_identifier),
        ]);
        let signature = self.issuer.key().sign(&body)?;
        let certificate = der::sequence(&[
            &body,
            &der::ecdsa_with_sha256(),
            &der::bit_string(&signature),
        ]);
        Ok(der::pem("CERTIFICATE", &certificate))
    }
}
