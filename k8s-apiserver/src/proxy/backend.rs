//! Servers in pods, as the proxies reach them: over TCP, or over TLS that vouches for nothing.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::dial::{ByteStream, server_name, tcp_to};
use crate::Error;

/// How long a handshake may take, as upstream's.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connects to a server in a pod or on a node, at one of the addresses that were judged.
pub(super) async fn dial(
    https: bool,
    host: &str,
    addresses: &[IpAddr],
    port: u16,
) -> io::Result<Box<dyn ByteStream>> {
    let stream = tcp_to(host, addresses, port).await?;
    if https {
        return secured(host, stream).await;
    }
    Ok(Box::new(stream))
}

/// Speaks TLS, if the other end does so in time.
async fn secured(host: &str, stream: impl ByteStream) -> io::Result<Box<dyn ByteStream>> {
    let provider = Arc::new(crate::crypto::provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(any_certificate(provider))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handshake = TlsConnector::from(Arc::new(config)).connect(server_name(host)?, stream);
    let stream = tokio::time::timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")
        })??;
    Ok(Box::new(stream))
}

pub(super) fn unreached(error: io::Error) -> Error {
    Error::service_unavailable(format!("error trying to reach service: {error}"))
}

/// A verifier that takes any certificate.
pub(crate) fn any_certificate(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyCertificate(provider))
}

/// Takes any certificate: nobody vouches for those of servers in pods, and upstream's proxies don't ask
/// either.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let (near, _far) = tokio::io::duplex(1 << 16);
        let begun = Instant::now();
        let Err(error) = secured("10.0.0.7", near).await else {
            panic!("nobody is there");
        };
        assert_eq!(begun.elapsed().as_secs(), 10);
        let error = unreached(error);
        let text = "error trying to reach service: net/http: TLS handshake timeout";
        assert_eq!(
            (error.code(), error.status().message.as_deref()),
            (503, Some(text))
        );
    }
}
