//! [`check`]: whether a request for a certificate is signed with the key that it is for, as Go finds out.
//!
//! [RFC 2986](https://www.rfc-editor.org/rfc/rfc2986); algorithms and texts are those of Go's `crypto/x509`, but for the
//! curve P-224.

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use ring::{
    digest::{self, digest},
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use x509_parser::{
    asn1_rs::Any, certification_request::X509CertificationRequest,
    signature_algorithm::SignatureAlgorithm as X509SignatureAlgorithm, x509::AlgorithmIdentifier,
};

const UNKNOWN: &str = "x509: cannot verify signature: algorithm unimplemented";

/// The sorts of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Rsa,
    Ecdsa,
    Ed25519,
}

/// The curves of ECDSA; see [FIPS 186-4](https://doi.org/10.6028/NIST.FIPS.186-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `secp256r1`.
    P256,
    /// `secp384r1`.
    P384,
    /// `secp521r1`.
    P521,
}

/// The hashes that signatures may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// For requests alone, which somebody looks at.
    Sha1,
    /// 256 bits of SHA-2.
    Sha256,
    /// 384 bits of SHA-2.
    Sha384,
    /// 512 bits of SHA-2.
    Sha512,
}

/// What a signature says of itself.
#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Pkcs1(Hash),
    Pss(Hash),
    Ecdsa(Hash),
    Ed25519,
}

/// Whether a request is signed with the key that it is for.
///
/// # Errors
/// Fails with Go's text.
pub(super) fn check(request: &X509CertificationRequest<'_>) -> Result<(), &'static str> {
    let info = &request.certification_request_info;
    let key = &info.subject_pki;
    let (sort, curve) = sort(&key.algorithm)?;
    let algorithm = Algorithm::read(request)?;
    if algorithm.sort() != sort {
        return Err(mismatch(algorithm.sort(), sort));
    }
    let (message, signature) = (info.raw, &*request.signature_value.data);
    let key = &*key.subject_public_key.data;
    let ring = |algorithm: &'static dyn VerificationAlgorithm| {
        let key = UnparsedPublicKey::new(algorithm, key);
        key.verify(message, signature).is_ok()
    };
    let (good, otherwise) = match algorithm {
        Algorithm::Pkcs1(hash) => (ring(pkcs1(hash)), "crypto/rsa: verification error"),
        Algorithm::Pss(hash) => (
            ring(pss(hash).ok_or(UNKNOWN)?),
            "crypto/rsa: verification error",
        ),
        Algorithm::Ed25519 => (
            ring(&signature::ED25519),
            "x509: Ed25519 verification failure",
        ),
        Algorithm::Ecdsa(hash) => (
            curve.is_some_and(|curve| verify_ecdsa(curve, hash, key, message, signature)),
            "x509: ECDSA verification failure",
        ),
    };
    if good { Ok(()) } else { Err(otherwise) }
}

/// What sort of keys an algorithm has, and on what curve.
///
/// # Errors
/// Fails with Go's text.
pub(super) fn sort(
    algorithm: &AlgorithmIdentifier<'_>,
) -> Result<(Sort, Option<Curve>), &'static str> {
    Ok(match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => (Sort::Rsa, None),
        "1.3.101.112" => (Sort::Ed25519, None),
        "1.2.840.10045.2.1" => {
            let curve = algorithm.parameters.as_ref().and_then(curve);
            let curve = curve.ok_or("x509: unsupported elliptic curve")?;
            (Sort::Ecdsa, Some(curve))
        }
        _ => return Err(UNKNOWN),
    })
}

/// The curve of a name, an object identifier.
pub(super) fn curve(name: &Any<'_>) -> Option<Curve> {
    Some(match name.as_oid().ok()?.to_id_string().as_str() {
        "1.2.840.10045.3.1.7" => Curve::P256,
        "1.3.132.0.34" => Curve::P384,
        "1.3.132.0.35" => Curve::P521,
        _ => return None,
    })
}

impl Algorithm {
    fn read(request: &X509CertificationRequest<'_>) -> Result<Self, &'static str> {
        let algorithm = &request.signature_algorithm;
        Ok(match algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.4" => {
                return Err("x509: cannot verify signature: insecure algorithm MD5-RSA");
            }
            "1.2.840.113549.1.1.5" => Algorithm::Pkcs1(Hash::Sha1),
            "1.2.840.113549.1.1.11" => Algorithm::Pkcs1(Hash::Sha256),
            "1.2.840.113549.1.1.12" => Algorithm::Pkcs1(Hash::Sha384),
            "1.2.840.113549.1.1.13" => Algorithm::Pkcs1(Hash::Sha512),
            "1.2.840.113549.1.1.10" => {
                let Ok(X509SignatureAlgorithm::RSASSA_PSS(parameters)) =
                    X509SignatureAlgorithm::try_from(algorithm)
                else {
                    return Err(UNKNOWN);
                };
                let hash = match parameters.hash_algorithm_oid().to_id_string().as_str() {
                    "2.16.840.1.101.3.4.2.1" => Hash::Sha256,
                    "2.16.840.1.101.3.4.2.2" => Hash::Sha384,
                    "2.16.840.1.101.3.4.2.3" => Hash::Sha512,
                    _ => return Err(UNKNOWN),
                };
                if parameters.salt_length() as usize != hash.digest().output_len() {
                    return Err(UNKNOWN);
                }
                Algorithm::Pss(hash)
            }
            "1.2.840.10045.4.1" => Algorithm::Ecdsa(Hash::Sha1),
            "1.2.840.10045.4.3.2" => Algorithm::Ecdsa(Hash::Sha256),
            "1.2.840.10045.4.3.3" => Algorithm::Ecdsa(Hash::Sha384),
            "1.2.840.10045.4.3.4" => Algorithm::Ecdsa(Hash::Sha512),
            "1.3.101.112" => Algorithm::Ed25519,
            _ => return Err(UNKNOWN),
        })
    }

    fn sort(self) -> Sort {
        match self {
            Algorithm::Pkcs1(_) | Algorithm::Pss(_) => Sort::Rsa,
            Algorithm::Ecdsa(_) => Sort::Ecdsa,
            Algorithm::Ed25519 => Sort::Ed25519,
        }
    }
}

impl Hash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

fn pkcs1(hash: Hash) -> &'static dyn VerificationAlgorithm {
    match hash {
        Hash::Sha1 => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        Hash::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Hash::Sha512 => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    }
}

fn pss(hash: Hash) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match hash {
        Hash::Sha1 => return None,
        Hash::Sha256 => &signature::RSA_PSS_2048_8192_SHA256,
        Hash::Sha384 => &signature::RSA_PSS_2048_8192_SHA384,
        Hash::Sha512 => &signature::RSA_PSS_2048_8192_SHA512,
    })
}

/// Whether a message is signed with a key on that curve by ECDSA, by that hash: any goes with any curve. The key is a point
/// as in [SEC 1](https://www.secg.org/sec1-v2.pdf#subsubsection.2.3.3), the signature DER.
pub fn verify_ecdsa(
    curve: Curve,
    hash: Hash,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let hash = digest(hash.digest(), message);
    // A hash is a number: zeros before it change nothing, and the libraries want half as many bits as the curve has.
    let number = |least: usize| {
        let zeros = least.saturating_sub(hash.as_ref().len());
        [&vec![0; zeros], hash.as_ref()].concat()
    };
    macro_rules! on {
        ($curve:ident, $least:literal) => {{
            let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(key);
            let signature = $curve::ecdsa::Signature::from_der(signature);
            match (key, signature) {
                (Ok(key), Ok(signature)) => key.verify_prehash(&number($least), &signature).is_ok(),
                _ => false,
            }
        }};
    }
    match curve {
        Curve::P256 => on!(p256, 32),
        Curve::P384 => on!(p384, 48),
        Curve::P521 => on!(p521, 64),
    }
}

/// A signature of one sort, and a key of another.
fn mismatch(signature: Sort, key: Sort) -> &'static str {
    macro_rules! text {
        ($signature:literal, $key:literal) => {
            concat!(
                "x509: signature algorithm specifies an ",
                $signature,
                " public key, but have public key of type ",
                $key
            )
        };
    }
    match (signature, key) {
        (Sort::Rsa, Sort::Ecdsa) => text!("RSA", "*ecdsa.PublicKey"),
        (Sort::Rsa, _) => text!("RSA", "ed25519.PublicKey"),
        (Sort::Ecdsa, Sort::Rsa) => text!("ECDSA", "*rsa.PublicKey"),
        (Sort::Ecdsa, _) => text!("ECDSA", "ed25519.PublicKey"),
        (Sort::Ed25519, Sort::Rsa) => text!("Ed25519", "*rsa.PublicKey"),
        (Sort::Ed25519, _) => text!("Ed25519", "*ecdsa.PublicKey"),
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    /// Made by openssl: before each request a line that names its key and its signature.
    const REQUESTS: &str = include_str!("../../tests/data/requests.pem");

    fn requests() -> Vec<(&'static str, Vec<u8>)> {
        let all = REQUESTS.split("# ").skip(1).map(|text| {
            let (name, pem) = text.split_once('\n').unwrap();
            (
                name,
                super::super::pem::first(pem.as_bytes()).unwrap().0.der,
            )
        });
        all.collect()
    }

    fn judge(der: &[u8]) -> Result<(), &'static str> {
        check(&X509CertificationRequest::from_der(der).unwrap().1)
    }

    #[test]
    fn requests_are_good_that_go_takes() {
        for (name, der) in requests() {
            let expected = match name {
                "rsa2048 md5" => Err("x509: cannot verify signature: insecure algorithm MD5-RSA"),
                // Go wants a salt as long as the hash.
                "p256 sha224" | "rsa2048 pss sha256, longest salt" => Err(UNKNOWN),
                "secp256k1 sha256" => Err("x509: unsupported elliptic curve"),
                _ => Ok(()),
            };
            assert_eq!(judge(&der), expected, "{name}");
        }
    }

    #[test]
    fn what_was_changed_is_found_out_by_each_sort_of_key() {
        let mut found = std::collections::BTreeSet::new();
        for (name, mut der) in requests() {
            if judge(&der).is_err() {
                continue;
            }
            // The name in the subject is signed.
            let at = der.windows(4).position(|w| w == b"jane").unwrap();
            der[at] = b'J';
            found.insert((name.split(' ').next().unwrap(), judge(&der).unwrap_err()));
        }
        let ecdsa = "x509: ECDSA verification failure";
        let rsa = "crypto/rsa: verification error";
        let expected = [
            ("ed25519", "x509: Ed25519 verification failure"),
            ("p256", ecdsa),
            ("p384", ecdsa),
            ("p521", ecdsa),
            ("rsa1024", rsa),
            ("rsa2048", rsa),
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_signature_of_another_sort_than_the_key_s_is_told() {
        let requests = requests();
        let of = |name: &str| {
            let found = requests.iter().find(|(known, _)| *known == name);
            X509CertificationRequest::from_der(&found.unwrap().1)
                .unwrap()
                .1
        };
        let names = ["rsa2048 sha256", "p256 sha256", "ed25519"];
        let mut told = Vec::new();
        for (key, signature) in names.iter().flat_map(|key| names.map(|other| (key, other))) {
            let mut request = of(key);
            request.signature_algorithm = of(signature).signature_algorithm;
            if *key != signature {
                told.push(check(&request).unwrap_err());
            }
        }
        let start = "x509: signature algorithm specifies an ";
        let middle = " public key, but have public key of type ";
        let expected = [
            ("ECDSA", "*rsa.PublicKey"),
            ("Ed25519", "*rsa.PublicKey"),
            ("RSA", "*ecdsa.PublicKey"),
            ("Ed25519", "*ecdsa.PublicKey"),
            ("RSA", "ed25519.PublicKey"),
            ("ECDSA", "ed25519.PublicKey"),
        ];
        let expected = expected.map(|(says, is)| format!("{start}{says}{middle}{is}"));
        assert_eq!(told, expected);
    }
}
