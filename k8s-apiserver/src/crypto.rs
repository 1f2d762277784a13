//! [`provider`]: the cryptography of TLS.

use std::sync::LazyLock;

use k8s_model::certificates::{Curve, Hash, verify_ecdsa};
use rustls::{
    SignatureScheme,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
};
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};

/// *ring*'s, and what it does not have and upstream does: certificates with keys on the curve P-521, and SHA-512 on the
/// other curves. They can be checked, not shown.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        signature_verification_algorithms: *ALGORITHMS,
        ..rustls::crypto::ring::default_provider()
    }
}

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// They live as long as the process, as the type wants it.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let ring = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let mut mapping = ring.mapping.to_vec();
    for own in &OWN {
        match mapping.iter_mut().find(|(known, _)| *known == own.scheme) {
            // Until TLS 1.2 a scheme says nothing of the curve; later it means the first of them.
            Some((_, known)) => *known = [*known, &[own as Algorithm]].concat().leak(),
            None => mapping.push((own.scheme, vec![own as Algorithm].leak())),
        }
    }
    let own = OWN.each_ref().map(|own| own as Algorithm);
    WebPkiSupportedAlgorithms {
        all: [ring.all, &own].concat().leak(),
        mapping: mapping.leak(),
    }
});

static OWN: [Ecdsa; 5] = [
    SHA512.on(Curve::P521),
    SHA384.on(Curve::P521),
    SHA256.on(Curve::P521),
    SHA512.on(Curve::P384),
    SHA512.on(Curve::P256),
];

/// ECDSA on a curve with a hash; [RFC 5758](https://www.rfc-editor.org/rfc/rfc5758#section-3.2).
#[derive(Clone, Copy, Debug)]
struct Ecdsa {
    curve: Curve,
    hash: Hash,
    id: AlgorithmIdentifier,
    /// What TLS calls it.
    scheme: SignatureScheme,
}

const SHA256: Ecdsa = Ecdsa {
    curve: Curve::P256,
    hash: Hash::Sha256,
    id: alg_id::ECDSA_SHA256,
    scheme: SignatureScheme::ECDSA_NISTP256_SHA256,
};
const SHA384: Ecdsa = Ecdsa {
    curve: Curve::P384,
    hash: Hash::Sha384,
    id: alg_id::ECDSA_SHA384,
    scheme: SignatureScheme::ECDSA_NISTP384_SHA384,
};
const SHA512: Ecdsa = Ecdsa {
    curve: Curve::P521,
    hash: Hash::Sha512,
    id: alg_id::ECDSA_SHA512,
    scheme: SignatureScheme::ECDSA_NISTP521_SHA512,
};

impl Ecdsa {
    /// The same on another curve.
    const fn on(self, curve: Curve) -> Self {
        Ecdsa { curve, ..self }
    }
}

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let is_signed = verify_ecdsa(self.curve, self.hash, public_key, message, signature);
        is_signed.then_some(()).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.curve {
            Curve::P256 => alg_id::ECDSA_P256,
            Curve::P384 => alg_id::ECDSA_P384,
            Curve::P521 => alg_id::ECDSA_P521,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use p521::ecdsa::{
        SigningKey,
        signature::{Signer as _, hazmat::PrehashSigner},
    };
    use rustls::{
        ClientConfig, RootCertStore, ServerConfig, SignatureAlgorithm, SupportedProtocolVersion,
        sign::{CertifiedKey, Signer, SigningKey as TlsKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    };
    use rustls_pki_types::{CertificateDer, PrivateSec1KeyDer, ServerName, pem::PemObject};
    use tokio_rustls::{TlsAcceptor, TlsConnector};
    use x509_parser::parse_x509_certificate;

    use super::*;
    use crate::{
        pki::{Pki, ServerNames},
        serve::{client_config, server_config},
    };

    // Made by openssl: the authority signs itself with SHA-256, and the leaf with SHA-384.
    const AUTHORITY: &[u8] = include_bytes!("../tests/data/p521/ca.crt");
    const LEAF: &[u8] = include_bytes!("../tests/data/p521/leaf.crt");
    const KEY: &[u8] = include_bytes!("../tests/data/p521/leaf.key");

    fn certificate(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).unwrap()
    }

    /// A key that TLS can sign with, which the provider cannot make.
    #[derive(Clone, Debug)]
    struct Key(SigningKey);

    impl Key {
        fn read() -> Self {
            let key = PrivateSec1KeyDer::from_pem_slice(KEY).unwrap();
            // A sequence of 1, the number, and more.
            Key(SigningKey::from_slice(&key.secret_sec1_der()[8..74]).unwrap())
        }
    }

    impl TlsKey for Key {
        fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
            let known = offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512);
            known.then(|| Box::new(self.clone()) as Box<dyn Signer>)
        }

        fn algorithm(&self) -> SignatureAlgorithm {
            SignatureAlgorithm::ECDSA
        }
    }

    impl Signer for Key {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
            let signature: p521::ecdsa::Signature = self.0.sign(message);
            Ok(signature.to_der().as_bytes().to_vec())
        }

        fn scheme(&self) -> SignatureScheme {
            SignatureScheme::ECDSA_NISTP521_SHA512
        }
    }

    fn shown(key: Key) -> Arc<SingleCertAndKey> {
        Arc::new(CertifiedKey::new(vec![certificate(LEAF)], Arc::new(key)).into())
    }

    async fn shake_hands(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> io::Result<()> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let name = ServerName::try_from("localhost").unwrap();
        let accepting = TlsAcceptor::from(server).accept(far);
        let connecting = TlsConnector::from(client).connect(name, near);
        let (accepted, connected) = tokio::join!(accepting, connecting);
        accepted.map(drop).and(connected.map(drop))
    }

    /// A client that shows the certificate to a server of this crate's.
    async fn as_client(version: &'static SupportedProtocolVersion, key: Key) -> io::Result<()> {
        let pki = Pki::in_memory().unwrap();
        let names = ServerNames::for_apiserver("cluster.local", None);
        let serving = pki.apiserver(&names).unwrap();
        let server = server_config(&serving, &certificate(AUTHORITY)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca_der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(shown(key));
        shake_hands(server, Arc::new(client)).await
    }

    /// A server that shows the certificate to a client of this crate's.
    async fn as_server(version: &'static SupportedProtocolVersion, key: Key) -> io::Result<()> {
        let server = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown(key));
        let client = client_config(&certificate(AUTHORITY), None, &[]).unwrap();
        shake_hands(Arc::new(server), client).await
    }

    #[tokio::test]
    async fn certificates_with_keys_on_p521_are_as_good_as_others() {
        for version in [&TLS12, &TLS13] {
            as_client(version, Key::read()).await.unwrap();
            as_server(version, Key::read()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_has_not_the_key_is_found_out() {
        let other = Key(SigningKey::from_slice(&[1; 66]).unwrap());
        for version in [&TLS12, &TLS13] {
            let error = as_client(version, other.clone()).await.unwrap_err();
            assert!(error.to_string().contains("BadSignature"), "{error}");
            let error = as_server(version, other.clone()).await.unwrap_err();
            // What the client found.
            assert!(error.to_string().contains("DecryptError"), "{error}");
        }
    }

    #[test]
    fn signatures_are_good_with_the_hash_that_they_say() {
        let (authority, leaf) = (certificate(AUTHORITY), certificate(LEAF));
        let (_, authority) = parse_x509_certificate(&authority).unwrap();
        let (_, leaf) = parse_x509_certificate(&leaf).unwrap();
        let key = &authority.public_key().subject_public_key.data;
        for (certificate, hash) in [(&authority, Hash::Sha256), (&leaf, Hash::Sha384)] {
            let message = certificate.tbs_certificate.as_ref();
            let signature = &certificate.signature_value.data;
            for own in &OWN {
                let verified = own.verify_signature(key, message, signature);
                assert_eq!(
                    verified.is_ok(),
                    own.curve == Curve::P521 && own.hash == hash
                );
            }
            let is_it = |own: &&Ecdsa| own.curve == Curve::P521 && own.hash == hash;
            let own = OWN.iter().find(is_it).unwrap();
            let cut = &message[1..];
            for (key, message, signature) in [
                (&key[..], cut, &signature[..]),
                (&key[1..], message, &signature[..]),
                (&key[..], message, &signature[1..]),
                (&[][..], message, &[][..]),
            ] {
                own.verify_signature(key, message, signature).unwrap_err();
            }
        }
    }

    #[test]
    fn any_curve_goes_with_sha512() {
        macro_rules! signed {
            ($curve:ident, $size:literal) => {{
                let key = $curve::ecdsa::SigningKey::from_slice(&[1; $size]).unwrap();
                let hash = ring::digest::digest(&ring::digest::SHA512, b"message");
                let signature: $curve::ecdsa::Signature = key.sign_prehash(hash.as_ref()).unwrap();
                let key = $curve::ecdsa::VerifyingKey::from(&key).to_sec1_point(false);
                let signature = signature.to_der();
                (key.as_bytes().to_vec(), signature.as_bytes().to_vec())
            }};
        }
        for (curve, (key, signature)) in [
            (Curve::P256, signed!(p256, 32)),
            (Curve::P384, signed!(p384, 48)),
            (Curve::P521, signed!(p521, 66)),
        ] {
            for own in &OWN {
                let verified = own.verify_signature(&key, b"message", &signature);
                assert_eq!(
                    verified.is_ok(),
                    own.curve == curve && own.hash == Hash::Sha512
                );
                own.verify_signature(&key, b"massage", &signature)
                    .unwrap_err();
            }
        }
    }
}
