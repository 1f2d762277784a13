//! The few DER forms of a client certificate.
//!
//! `rcgen` keeps one value per attribute of a distinguished name; a user in several groups needs
//! several `O`s, so those certificates are put together here.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// One element: tag, length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let length = content.len().to_be_bytes();
        let skip = length.iter().take_while(|b| **b == 0).count();
        out.push(0x80 | (length.len() - skip) as u8);
        out.extend_from_slice(&length[skip..]);
    }
    out.extend_from_slice(content);
    out
}

/// A sequence of ready elements.
pub(super) fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

/// A positive integer, from its big-endian bytes.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes
        .iter()
        .take_while(|b| **b == 0)
        .count()
        .min(bytes.len().saturating_sub(1));
    let digits = &bytes[skip..];
    if digits[0] & 0x80 == 0 {
        element(0x02, digits)
    } else {
        element(0x02, &[&[0], digits].concat())
    }
}

/// An object identifier, from its encoded arcs.
pub(super) fn oid(encoded: &[u8]) -> Vec<u8> {
    element(0x06, encoded)
}

/// A bit string of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes].concat())
}

/// A point in time: the short form until 2049, as RFC 5280 has it, the long one from then on.
pub(super) fn time(time: jiff::Timestamp) -> Vec<u8> {
    let utc = time.to_zoned(jiff::tz::TimeZone::UTC);
    if (1950..2050).contains(&utc.year()) {
        element(0x17, utc.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        element(0x18, utc.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

/// A name of one common name and any number of organisations.
pub(super) fn name(common_name: &str, organisations: &[String]) -> Vec<u8> {
    const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let attribute = |kind: &[u8], value: &str| {
        element(
            SET,
            &sequence(&[&oid(kind), &element(0x0c, value.as_bytes())]),
        )
    };
    let mut parts: Vec<u8> = organisations
        .iter()
        .flat_map(|organisation| attribute(ORGANISATION, organisation))
        .collect();
    parts.extend(attribute(COMMON_NAME, common_name));
    element(SEQUENCE, &parts)
}

/// `ecdsa-with-SHA256`.
pub(super) fn ecdsa_with_sha256() -> Vec<u8> {
    sequence(&[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02])])
}

/// The extensions of a client's certificate: digital signature, client authentication, no CA.
pub(super) fn client_extensions(authority_key: &[u8]) -> Vec<u8> {
    let extension = |id: &[u8], critical: bool, value: &[u8]| {
        let value = element(0x04, value);
        if critical {
            sequence(&[&oid(id), &element(0x01, &[0xff]), &value])
        } else {
            sequence(&[&oid(id), &value])
        }
    };
    let key_usage = extension(&[0x55, 0x1d, 0x0f], true, &element(0x03, &[7, 0x80]));
    let client_auth = oid(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]);
    let extended = extension(&[0x55, 0x1d, 0x25], false, &sequence(&[&client_auth]));
    let constraints = extension(&[0x55, 0x1d, 0x13], true, &sequence(&[]));
    let authority = extension(
        &[0x55, 0x1d, 0x23],
        false,
        &sequence(&[&element(0x80, authority_key)]),
    );
    element(
        0xa3,
        &sequence(&[&key_usage, &extended, &constraints, &authority]),
    )
}

/// A PEM block.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
