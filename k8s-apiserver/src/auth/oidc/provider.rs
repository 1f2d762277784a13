//! [`Provider`]: where the keys of an issuer come from.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Limited};
use rustls::{ClientConfig, client::danger::ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use tokio_rustls::TlsConnector;

use super::{OidcError, invalid, key::Key, metrics::JwtMetrics};
use crate::{
    auth::AuthenticationError,
    crypto,
    http::Body,
    proxy::{Forwarder, tcp},
    webhook::{system_roots, trusting},
};

/// How long the provider may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon keys are fetched again for a token that none of them fits.
const REFETCH: Duration = Duration::from_secs(10);
/// How long its documents may be.
const LIMIT: usize = 1 << 20;

/// Fetches the keys of an issuer when they are first needed, and again when a token is signed by another.
pub(super) struct Provider {
    issuer: String,
    /// Where its description is.
    discovery: String,
    tls: Arc<ClientConfig>,
    /// Read without waiting: most tokens are signed with what is known.
    keys: ArcSwapOption<Vec<Key>>,
    /// When keys were last fetched; whoever fetches holds it.
    fetched: Mutex<Option<Instant>>,
    forwarder: Forwarder,
    metrics: Arc<JwtMetrics>,
}

/// Host, port and path of an `https` URL.
pub(super) fn location(url: &str) -> Option<(String, u16, String)> {
    let uri: http::Uri = url.parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let path = uri.path_and_query()?.to_string();
    Some((host, uri.port_u16().unwrap_or(443), path))
}

/// Judges the certificate of the provider's server by those who may vouch for it, as PEM has them.
pub(in crate::auth) fn trusted(ca: &str) -> Result<Arc<dyn ServerCertVerifier>, OidcError> {
    let mut certificates = CertificateDer::pem_slice_iter(ca.as_bytes());
    if certificates.next().is_none() {
        let text = "data does not contain any valid RSA or ECDSA certificates";
        return Err(OidcError::Authority(text.to_owned()));
    }
    let provider = Arc::new(crypto::provider());
    trusting(ca.as_bytes(), provider).map_err(OidcError::Authority)
}

/// The TLS settings; without any authorities, those are good that this machine trusts.
fn tls(ca: &str) -> Result<ClientConfig, OidcError> {
    let provider = Arc::new(crypto::provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| OidcError::Authority(e.to_string()))?;
    let builder = match ca {
        "" => builder.with_root_certificates(system_roots()),
        ca => builder
            .dangerous()
            .with_custom_certificate_verifier(trusted(ca)?),
    };
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

impl Provider {
    /// The provider of that issuer, whose description is at `discovery`, or below its URL if that is empty.
    pub(super) fn new(issuer: &str, discovery: &str, ca: &str) -> Result<Self, OidcError> {
        let discovery = match discovery {
            "" => {
                let base = issuer.trim_end_matches('/');
                format!("{base}/.well-known/openid-configuration")
            }
            other => other.to_owned(),
        };
        if location(&discovery).is_none() {
            return Err(OidcError::Issuer(issuer.to_owned()));
        }
        Ok(Provider {
            issuer: issuer.to_owned(),
            discovery,
            tls: Arc::new(tls(ca)?),
            keys: ArcSwapOption::empty(),
            fetched: Mutex::default(),
            forwarder: Forwarder::default(),
            metrics: Arc::default(),
        })
    }

    /// Measures there.
    pub(super) fn measured(mut self, metrics: Arc<JwtMetrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Fetches the keys now.
    pub(super) async fn refresh(&self) -> Result<(), AuthenticationError> {
        self.fetch(&mut *self.fetched.lock().await).await
    }

    async fn fetch(&self, at: &mut Option<Instant>) -> Result<(), AuthenticationError> {
        let fetched = tokio::time::timeout(TIMEOUT, self.fetch_keys())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        *at = Some(Instant::now());
        let text = fetched.as_ref().ok().map(|(_, text)| text.as_bytes());
        self.metrics.fetched(&self.issuer, text);
        let (fetched, _) =
            fetched.map_err(|e| AuthenticationError::Unavailable(format!("oidc: {e}")))?;
        self.keys.store(Some(Arc::new(fetched)));
        Ok(())
    }

    /// What `verify` finds with one of the keys that a token may be signed with.
    ///
    /// # Errors
    /// If it finds nothing with any of them.
    pub(super) async fn with_key<T>(
        &self,
        id: Option<&str>,
        verify: impl Fn(&Key) -> Option<T>,
    ) -> Result<T, AuthenticationError> {
        let find = || {
            let keys = self.keys.load_full();
            let mut keys = keys.iter().flat_map(|keys| keys.iter());
            keys.find_map(|key| key.is(id).then(|| verify(key)).flatten())
        };
        if let Some(found) = find() {
            return Ok(found);
        }
        {
            // One fetches, the others whose keys are not known wait for what it gets.
            let mut fetched = self.fetched.lock().await;
            if fetched.is_none_or(|at| at.elapsed() >= REFETCH) {
                self.fetch(&mut fetched).await?;
            }
        }
        find().ok_or_else(|| {
            invalid("verify token: failed to verify signature: failed to verify id token signature")
        })
    }

    /// The keys, and their text.
    async fn fetch_keys(&self) -> io::Result<(Vec<Key>, String)> {
        let found = self.text(&self.discovery, None).await?;
        let found: Value = serde_json::from_str(&found).map_err(io::Error::other)?;
        if found["issuer"] != self.issuer.as_str() {
            return Err(io::Error::other(format!(
                "issuer did not match the issuer returned by provider, expected {:?} got {}",
                self.issuer, found["issuer"]
            )));
        }
        let keys = found["jwks_uri"]
            .as_str()
            .ok_or_else(|| io::Error::other("the provider has no jwks_uri"))?;
        let text = self.text(keys, None).await?;
        let set: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
        let keys = Key::all(&set).ok_or_else(|| io::Error::other("the provider has no keys"))?;
        Ok((keys, text))
    }

    /// What is at an `https` URL, which may want to see a token.
    pub(super) async fn text(&self, url: &str, bearer: Option<&str>) -> io::Result<String> {
        let (host, port, path) =
            location(url).ok_or_else(|| io::Error::other(format!("{url:?} is no https URL")))?;
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let stream = tcp(&host, port).await?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await?;
        let authority = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let mut request = Request::new(Body::empty());
        if let Some(token) = bearer {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| io::Error::other("the token for it is no token"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let response = self
            .forwarder
            .send(Box::new(stream), &authority, &path, request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status();
        if !status.is_success() {
            return Err(io::Error::other(format!("{url}: {status}")));
        }
        let body = Limited::new(response.into_body(), LIMIT)
            .collect()
            .await
            .map_err(io::Error::other)?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn tokens_of_known_keys_do_not_wait_for_those_of_unknown_ones() {
        // Takes connections, and says nothing.
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let silent = silent.await.unwrap();
        let issuer = format!("https://localhost:{}", silent.local_addr().unwrap().port());
        let provider = Provider::new(&issuer, "", "").unwrap();
        let keys = json!({"keys": [{"kty": "RSA", "kid": "known", "n": "AQAB", "e": "AQAB"}]});
        let keys = Key::all(&keys).unwrap();
        assert_eq!(keys.len(), 1);
        provider.keys.store(Some(Arc::new(keys)));
        let mut forged = Box::pin(provider.with_key(Some("forged"), |_| None::<()>));
        assert!(forged.as_mut().now_or_never().is_none(), "it is fetched");
        let known = provider.with_key(Some("known"), |_| Some(1));
        assert_eq!(known.now_or_never().unwrap().unwrap(), 1);
        let mut other = Box::pin(provider.with_key(Some("forged"), |_| None::<()>));
        assert!(other.as_mut().now_or_never().is_none(), "one fetches");
    }

    #[tokio::test]
    async fn the_certificate_of_the_provider_may_be_its_own_authority() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let own_key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], own_key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let issuer = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let mut stream = acceptor.accept(stream).await.unwrap();
            let asked = stream.read(&mut [0; 1024]).await.unwrap();
            assert!(asked > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let provider = Provider::new(&issuer, "", &certificate.pem()).unwrap();
        let (text, _stream) = tokio::join!(provider.text(&issuer, None), serving);
        assert_eq!(text.unwrap(), "hi");
    }
}
