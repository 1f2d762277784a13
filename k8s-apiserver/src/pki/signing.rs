//! Certificates for requests that were approved.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_model::certificates::CertificateRequest;
use rcgen::SigningKey;
use x509_parser::{prelude::FromDer, x509::X509Name};

use super::{PkiError, authority::Authority, der};

/// How much earlier than now a certificate begins to be good, for clocks that are a little off; as
/// upstream.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Certificates that are good for less end so long from now, others so long from when they begin.
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

/// The object identifier of an extended key usage, encoded, if it is one; and its place among others.
fn extended_key_usage(usage: &str) -> Option<(u8, &'static [u8])> {
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
        "any" => (0, ANY),
        "server auth" => (1, PKIX[0]),
        "client auth" => (2, PKIX[1]),
        "code signing" => (3, PKIX[2]),
        "email protection" | "s/mime" => (4, PKIX[3]),
        "ipsec end system" => (5, PKIX[4]),
        "ipsec tunnel" => (6, PKIX[5]),
        "ipsec user" => (7, PKIX[6]),
        "timestamping" => (8, PKIX[7]),
        "ocsp signing" => (9, PKIX[8]),
        "microsoft sgc" => (10, MICROSOFT_SGC),
        "netscape sgc" => (11, NETSCAPE_SGC),
        _ => return None,
    })
}

/// The attributes that a certificate's subject has, in their order; no others are taken over from requests, since
/// one may say something of its bearer that nobody has approved (`1.3.6.1.4.1.57683.2` is the UID).
const ATTRIBUTES: &[(&str, &[u8])] = &[
    ("2.5.4.6", &[0x55, 0x04, 0x06]),
    ("2.5.4.10", &[0x55, 0x04, 0x0a]),
    ("2.5.4.11", &[0x55, 0x04, 0x0b]),
    ("2.5.4.7", &[0x55, 0x04, 0x07]),
    ("2.5.4.8", &[0x55, 0x04, 0x08]),
    ("2.5.4.9", &[0x55, 0x04, 0x09]),
    ("2.5.4.17", &[0x55, 0x04, 0x11]),
    (COMMON_NAME, &[0x55, 0x04, 0x03]),
    (SERIAL_NUMBER, &[0x55, 0x04, 0x05]),
];
const COMMON_NAME: &str = "2.5.4.3";
const SERIAL_NUMBER: &str = "2.5.4.5";

/// A text as ASN.1 has it: printable if it can be.
fn text(value: &str) -> Vec<u8> {
    let printable = |b: u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b);
    let tag = if value.bytes().all(printable) {
        0x13
    } else {
        0x0c
    };
    der::element(tag, value.as_bytes())
}

/// The subject of a certificate for a request's subject: each attribute once with all its values, as Go writes
/// names.
fn subject(of_request: &[u8]) -> Vec<u8> {
    let Ok((_, name)) = X509Name::from_der(of_request) else {
        return der::sequence(&[]);
    };
    let mut out = Vec::new();
    for (id, encoded) in ATTRIBUTES {
        let mut values: Vec<Vec<u8>> = name
            .iter_attributes()
            .filter(|attribute| attribute.attr_type().to_id_string() == *id)
            .filter_map(|attribute| attribute.as_str().ok())
            .filter(|value| !value.is_empty())
            .map(|value| der::sequence(&[&der::oid(encoded), &text(value)]))
            .collect();
        if matches!(*id, COMMON_NAME | SERIAL_NUMBER) {
            // They are one value: the last.
            values.drain(..values.len().saturating_sub(1));
        }
        values.sort();
        if !values.is_empty() {
            out.extend(der::element(0x31, &values.concat()));
        }
    }
    der::sequence(&[&out])
}

/// The alternative names of a certificate for a request: of the four sorts that it may have.
fn alternative_names(request: &CertificateRequest) -> Vec<u8> {
    let mut out = Vec::new();
    let mut texts = |tag: u8, names: &[String]| {
        for name in names {
            out.extend(der::element(tag, name.as_bytes()));
        }
    };
    texts(0x82, &request.dns_names);
    texts(0x81, &request.email_addresses);
    for ip in &request.ip_addresses {
        out.extend(match ip {
            IpAddr::V4(ip) => der::element(0x87, &ip.octets()),
            IpAddr::V6(ip) => der::element(0x87, &ip.octets()),
        });
    }
    for uri in &request.uris {
        out.extend(der::element(0x86, uri.as_bytes()));
    }
    out
}

fn extensions(
    request: &CertificateRequest,
    usages: &[String],
    nameless: bool,
    authority_key: &[u8],
) -> Vec<u8> {
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
    let mut ids: Vec<_> = usages
        .iter()
        .filter_map(|usage| extended_key_usage(usage))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let extended: Vec<u8> = ids.into_iter().flat_map(|(_, id)| der::oid(id)).collect();
    if !extended.is_empty() {
        let value = der::sequence(&[&extended]);
        out.extend(extension(&[0x55, 0x1d, 0x25], false, &value));
    }
    out.extend(extension(&[0x55, 0x1d, 0x13], true, &der::sequence(&[])));
    let authority = der::sequence(&[&der::element(0x80, authority_key)]);
    out.extend(extension(&[0x55, 0x1d, 0x23], false, &authority));
    let names = alternative_names(request);
    if !names.is_empty() {
        let names = der::sequence(&[&names]);
        out.extend(extension(&[0x55, 0x1d, 0x11], nameless, &names));
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
        let not_signed = |text: String| PkiError::Request(text);
        request.check_signature().map_err(|error| {
            not_signed(format!(
                "unable to verify certificate request signature: {error}"
            ))
        })?;
        let from = now - BACKDATE;
        let until = if lifetime < SHORT {
            now + lifetime
        } else {
            from + lifetime
        };
        let until = until.min(self.not_after);
        let over = if from >= self.not_after {
            "the signer has expired"
        } else {
            "refusing to sign a certificate that expired in the past"
        };
        if now >= self.not_after {
            return Err(not_signed(format!("{over}: NotAfter={}", self.not_after)));
        }
        let subject = subject(&request.subject);
        let nameless = subject == [0x30, 0];
        let mut serial = uuid::Uuid::new_v4().into_bytes();
        serial[0] &= 0x7f;
        let body = der::sequence(&[
            &der::element(0xa0, &der::integer(&[2])),
            &der::integer(&serial),
            &der::ecdsa_with_sha256(),
            &self.subject,
            &der::sequence(&[&der::time(from), &der::time(until)]),
            &subject,
            &request.public_key,
            &extensions(request, usages, nameless, &self.key_identifier),
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
