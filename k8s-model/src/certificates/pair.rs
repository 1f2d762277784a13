//! [`check`]: whether a certificate and a private key belong together, as Go's servers of TLS find out.
//!
//! Keys are those of [PKCS #1](https://www.rfc-editor.org/rfc/rfc8017#appendix-A.1.2),
//! [PKCS #8](https://www.rfc-editor.org/rfc/rfc5958) and [SEC 1](https://www.rfc-editor.org/rfc/rfc5915); the texts are those of
//! Go's `crypto/tls`.

use ring::signature::{Ed25519KeyPair, KeyPair, RsaKeyPair};
use x509_parser::{
    asn1_rs::{Any, Class, FromDer, Tag},
    public_key::PublicKey,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::{
    pem,
    signature::{self, Curve, Sort},
};

/// Checks that PEM texts are a certificate and the private key to it.
///
/// # Errors
/// Fails with Go's text. Of what only Go could judge nothing is said: certificates that are malformed, RSA keys of sizes that
/// are unusual, other curves.
pub(crate) fn check(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let certificate = first_certificate(certificate)?;
    let key = first_key(key)?;
    let Some(public) = Public::of_certificate(&certificate) else {
        return Ok(());
    };
    let wrong = match Private::read(&key) {
        Private::None => "failed to parse private key",
        Private::Of(own) if own.sort != public.sort => {
            "private key type does not match public key type"
        }
        Private::Of(own) if own != public => "private key does not match public key",
        Private::Of(_) | Private::Unknown => return Ok(()),
    };
    Err(format!("tls: {wrong}"))
}

/// The contents of the first block that is wanted, or the types of those that there are.
fn block(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, Vec<&[u8]>> {
    let (mut rest, mut skipped) = (text, Vec::new());
    while let Some((block, tail)) = pem::first(rest) {
        if wanted(block.label) {
            return Ok(block.der);
        }
        skipped.push(block.label);
        rest = tail;
    }
    Err(skipped)
}

/// Types in Go's form of a list.
fn listed(types: &[&[u8]]) -> String {
    String::from_utf8_lossy(&types.join(&b' ')).into_owned()
}

fn first_certificate(text: &[u8]) -> Result<Vec<u8>, String> {
    block(text, |label| label == b"CERTIFICATE").map_err(|skipped| match *skipped {
        [] => "tls: failed to find any PEM data in certificate input".to_owned(),
        [only] if only.ends_with(b"PRIVATE KEY") => {
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; \
             PEM inputs may have been switched"
                .to_owned()
        }
        _ => format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of \
             the following types: [{}]",
            listed(&skipped)
        ),
    })
}

fn first_key(text: &[u8]) -> Result<Vec<u8>, String> {
    let is_key = |label: &[u8]| label == b"PRIVATE KEY" || label.ends_with(b" PRIVATE KEY");
    block(text, is_key).map_err(|skipped| match *skipped {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [b"CERTIFICATE"] => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        _ => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping \
             PEM blocks of the following types: [{}]",
            listed(&skipped)
        ),
    })
}

/// A public key: that of a certificate, or that to a private one.
#[derive(PartialEq, Eq)]
struct Public {
    sort: Sort,
    curve: Option<Curve>,
    /// As certificates have it.
    bits: Vec<u8>,
}

impl Public {
    /// The key of a certificate, if it is one that Go takes.
    fn of_certificate(der: &[u8]) -> Option<Self> {
        let Ok(([], certificate)) = x509_parser::parse_x509_certificate(der) else {
            return None;
        };
        let key = certificate.public_key();
        let (sort, curve) = signature::sort(&key.algorithm).ok()?;
        let good = match (sort, curve) {
            (Sort::Rsa, _) => matches!(key.parsed(), Ok(PublicKey::RSA(_))),
            (Sort::Ed25519, _) => is_ed25519(key),
            (Sort::Ecdsa, Some(curve)) => is_point(curve, &key.subject_public_key.data),
            (Sort::Ecdsa, None) => false,
        };
        good.then(|| Public {
            sort,
            curve,
            bits: key.subject_public_key.data.to_vec(),
        })
    }
}

fn is_ed25519(key: &SubjectPublicKeyInfo<'_>) -> bool {
    key.algorithm.parameters.is_none() && key.subject_public_key.data.len() == 32
}

/// Whether a point is on a curve, and written in full.
fn is_point(curve: Curve, bits: &[u8]) -> bool {
    macro_rules! on {
        ($curve:ident) => {
            $curve::ecdsa::VerifyingKey::from_sec1_bytes(bits).is_ok()
        };
    }
    bits.first() == Some(&4)
        && match curve {
            Curve::P256 => on!(p256),
            Curve::P384 => on!(p384),
            Curve::P521 => on!(p521),
        }
}

/// What some bytes are as a private key.
enum Private {
    /// One to which there is this public one.
    Of(Public),
    /// None, certainly.
    None,
    /// One perhaps.
    Unknown,
}

impl Private {
    fn read(der: &[u8]) -> Self {
        let Some((outer, after)) = sequence(der) else {
            return Private::None;
        };
        // All begin with a version; what follows it tells them apart.
        let Some((_, rest)) = value(outer, Tag::Integer) else {
            return Private::None;
        };
        if value(rest, Tag::Integer).is_some() {
            return match after {
                [] => Self::pkcs1(der),
                _ => Private::None,
            };
        }
        if let Some((_, octets)) = value(rest, Tag::Sequence) {
            return match value(octets, Tag::OctetString) {
                Some((key, _)) => Self::pkcs8(rest, key),
                None => Private::None,
            };
        }
        Self::sec1(None, der)
    }

    fn pkcs1(der: &[u8]) -> Self {
        // Go takes more than the library, which only knows for certain what is a key.
        match RsaKeyPair::from_der(der) {
            Ok(pair) => Private::Of(Public {
                sort: Sort::Rsa,
                curve: None,
                bits: pair.public().as_ref().to_vec(),
            }),
            Err(_) => Private::Unknown,
        }
    }

    /// Reads a key of an algorithm, which some bytes begin with.
    fn pkcs8(algorithm: &[u8], key: &[u8]) -> Self {
        let Ok((_, algorithm)) = AlgorithmIdentifier::from_der(algorithm) else {
            return Private::Unknown;
        };
        match signature::sort(&algorithm) {
            Ok((Sort::Rsa, _)) => Self::pkcs1(key),
            Ok((Sort::Ecdsa, curve)) => Self::sec1(curve, key),
            Ok((Sort::Ed25519, _)) if algorithm.parameters.is_some() => Private::None,
            Ok((Sort::Ed25519, _)) => Self::ed25519(key),
            Err(_) => Private::Unknown,
        }
    }

    fn ed25519(der: &[u8]) -> Self {
        let seed = value(der, Tag::OctetString);
        let pair = seed.and_then(|(seed, _)| Ed25519KeyPair::from_seed_unchecked(seed).ok());
        match pair {
            Some(pair) => Private::Of(Public {
                sort: Sort::Ed25519,
                curve: None,
                bits: pair.public_key().as_ref().to_vec(),
            }),
            None => Private::None,
        }
    }

    /// Reads a key on a curve, which it may tell itself.
    fn sec1(curve: Option<Curve>, der: &[u8]) -> Self {
        let content = sequence(der);
        let content = content.and_then(|(content, _)| value(content, Tag::Integer));
        let content = content.filter(|(version, _)| *version == [1]);
        let Some((scalar, rest)) = content.and_then(|(_, rest)| value(rest, Tag::OctetString))
        else {
            return Private::None;
        };
        let Some(curve) = curve.or_else(|| own_curve(rest)) else {
            return Private::Unknown;
        };
        match point(curve, scalar) {
            Some(bits) => Private::Of(Public {
                sort: Sort::Ecdsa,
                curve: Some(curve),
                bits,
            }),
            None => Private::None,
        }
    }
}

/// The point to a number, if there is one.
fn point(curve: Curve, scalar: &[u8]) -> Option<Vec<u8>> {
    let size = match curve {
        Curve::P256 => 32,
        Curve::P384 => 48,
        Curve::P521 => 66,
    };
    // Some have more zeros before it than there should be, others none.
    let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
    let digits = &scalar[zeros..];
    let zeros = usize::checked_sub(size, digits.len())?;
    let padded = [&vec![0; zeros], digits].concat();
    macro_rules! on {
        ($curve:ident) => {{
            let key = $curve::ecdsa::SigningKey::from_slice(&padded).ok()?;
            key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
        }};
    }
    Some(match curve {
        Curve::P256 => on!(p256),
        Curve::P384 => on!(p384),
        Curve::P521 => on!(p521),
    })
}

/// The curve that a key of SEC 1 tells after its number.
fn own_curve(rest: &[u8]) -> Option<Curve> {
    let (_, parameters) = Any::from_der(rest).ok()?;
    if (parameters.class(), parameters.tag()) != (Class::ContextSpecific, Tag(0)) {
        return None;
    }
    let (_, name) = Any::from_der(parameters.data).ok()?;
    signature::curve(&name)
}

/// The content of a value at the beginning of some DER, and what comes after it.
fn value(der: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    let fits = (any.class(), any.tag()) == (Class::Universal, tag);
    fits.then_some((any.data, rest))
}

fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    value(der, Tag::Sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl: before each certificate and its key a line that names them.
    const PAIRS: &str = include_str!("../../tests/data/pairs.pem");

    /// The names, certificates and keys.
    fn pairs() -> Vec<(&'static str, String, &'static str)> {
        const END: &str = "-----END CERTIFICATE-----\n";
        let all = PAIRS.split("# ").skip(1).map(|text| {
            let (name, pem) = text.split_once('\n').unwrap();
            let (certificate, key) = pem.split_once(END).unwrap();
            (name, format!("{certificate}{END}"), key)
        });
        all.collect()
    }

    fn told(certificate: &str, key: &str) -> Option<String> {
        check(certificate.as_bytes(), key.as_bytes()).err()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    #[test]
    fn keys_go_with_their_own_certificates() {
        let pairs = pairs();
        for ((of, certificate, _), (name, _, key)) in pairs
            .iter()
            .flat_map(|pair| pairs.iter().map(move |other| (pair, other)))
        {
            let sort = |name: &str| name.chars().next();
            let expected = if name.ends_with("encrypted") {
                Some("tls: failed to parse private key")
            } else if of == name || name.starts_with("rsa1024") {
                // Nobody but Go says that a key of 1024 bits is one.
                None
            } else if sort(of) == sort(name) {
                Some("tls: private key does not match public key")
            } else {
                Some("tls: private key type does not match public key type")
            };
            let found = told(certificate, key);
            assert_eq!(found.as_deref(), expected, "{of}, {name}");
        }
    }

    #[test]
    fn blocks_of_other_types_are_passed_over_and_told() {
        let (_, certificate, key) = &pairs()[0];
        let other = pem("A", &[0]) + &pem("B", &[0]);
        let both = (format!("{other}{certificate}"), format!("{other}{key}"));
        assert_eq!(told(&both.0, &both.1), None);
        for (text, wrong) in [
            ("", "failed to find any PEM data in certificate input"),
            (
                key,
                "failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
            ),
            (
                &other,
                r#"failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the following types: [A B]"#,
            ),
        ] {
            assert_eq!(told(text, key), Some(format!("tls: {wrong}")));
        }
        for (text, wrong) in [
            ("", "failed to find any PEM data in key input"),
            (
                certificate,
                "found a certificate rather than a key in the PEM for the private key",
            ),
            (
                &other,
                r#"failed to find PEM block with type ending in "PRIVATE KEY" in key input after skipping PEM blocks of the following types: [A B]"#,
            ),
        ] {
            assert_eq!(told(certificate, text), Some(format!("tls: {wrong}")));
        }
    }

    #[test]
    fn of_what_cannot_be_read_only_what_is_certain_is_told() {
        let (_, certificate, key) = &pairs()[0];
        assert_eq!(told(&pem("CERTIFICATE", &[0]), key), None);
        let no_key = Some("tls: failed to parse private key");
        for (der, expected) in [
            (&b""[..], no_key),
            (b"\x30\x03\x04\x01\x00", no_key),
            (b"\x30\x03\x02\x01\x00", no_key),
            // Of PKCS #8, without a key.
            (b"\x30\x07\x02\x01\x00\x30\x02\x05\x00", no_key),
            // Of SEC 1, of another version.
            (b"\x30\x06\x02\x01\x00\x04\x01\x01", no_key),
            // Without a curve.
            (b"\x30\x06\x02\x01\x01\x04\x01\x01", None),
            (b"\x30\x06\x02\x01\x00\x02\x01\x01", None),
            (b"\x30\x06\x02\x01\x00\x02\x01\x01\x00", no_key),
        ] {
            let found = told(certificate, &pem("PRIVATE KEY", der));
            assert_eq!(found.as_deref(), expected, "{der:x?}");
        }
    }

    #[test]
    fn numbers_may_have_more_or_fewer_zeros_before_them() {
        let one = point(Curve::P521, &[1]).unwrap();
        assert_eq!(
            point(Curve::P521, &[&[0; 70][..], &[1]].concat()),
            Some(one)
        );
        assert_eq!(point(Curve::P256, &[0]), None);
        assert_eq!(point(Curve::P256, &[1; 33]), None);
        assert_eq!(point(Curve::P256, &[0xff; 32]), None);
    }
}
