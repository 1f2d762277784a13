//! Tokens of an OpenID Connect provider.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens>.

use std::{collections::BTreeMap, io, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Request;
use http_body_util::{BodyExt, Limited};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};
use tokio_rustls::TlsConnector;

use super::{AuthenticationError, Authenticator, Identity, token::bearer};
use crate::{
    http::Body,
    proxy::{Forwarder, tcp},
    webhook::system_roots,
};

/// How long the provider may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon keys are fetched again for a token that none of them fits.
const REFETCH: Duration = Duration::from_secs(10);
/// How long its documents may be.
const LIMIT: usize = 1 << 20;
/// How far ahead of this machine's the provider's clock may be.
const NOT_BEFORE_LEEWAY: u64 = 300;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OidcError {
    /// The issuer's URL is not of the form `https://host[:port][/path]`.
    #[error("'oidc-issuer-url' ({0:?}) has invalid scheme or host, require 'https'")]
    Issuer(String),
    /// The provider's authority is not PEM, or cannot be used.
    #[error("the authority of the OIDC provider cannot be used: {0}")]
    Authority(String),
}

/// Whose tokens are taken, and what is read from them; upstream's `--oidc-*`.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// `https://…`, as tokens name it. The keys are found below it.
    pub issuer_url: String,
    /// Whom tokens must be for.
    pub client_id: String,
    /// The authorities that may vouch for the provider's server, PEM. None: those that this machine trusts.
    pub ca: String,
    /// The claim with the user's name: `sub` by default. `email` is taken only if it is verified, where the token
    /// says anything about that.
    pub username_claim: String,
    /// What is put before it. By default `ISSUER#`, or nothing for `email`; `-` stands for nothing.
    pub username_prefix: String,
    /// The claim with the groups: a list or one string. Without, no groups.
    pub groups_claim: String,
    /// What is put before each.
    pub groups_prefix: String,
    /// Claims that must be there, with that value.
    pub required_claims: BTreeMap<String, String>,
    /// How tokens may be signed; RS256 by default.
    pub algorithms: Vec<SigningAlgorithm>,
}

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "RFC 7518 says what they are")]
pub enum SigningAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Ps256,
    Ps384,
    Ps512,
}

impl FromStr for SigningAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "RS256" => SigningAlgorithm::Rs256,
            "RS384" => SigningAlgorithm::Rs384,
            "RS512" => SigningAlgorithm::Rs512,
            "ES256" => SigningAlgorithm::Es256,
            "ES384" => SigningAlgorithm::Es384,
            "PS256" => SigningAlgorithm::Ps256,
            "PS384" => SigningAlgorithm::Ps384,
            "PS512" => SigningAlgorithm::Ps512,
            other => return Err(format!("unsupported signing algorithm {other:?}")),
        })
    }
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::Rs256 => Algorithm::RS256,
            SigningAlgorithm::Rs384 => Algorithm::RS384,
            SigningAlgorithm::Rs512 => Algorithm::RS512,
            SigningAlgorithm::Es256 => Algorithm::ES256,
            SigningAlgorithm::Es384 => Algorithm::ES384,
            SigningAlgorithm::Ps256 => Algorithm::PS256,
            SigningAlgorithm::Ps384 => Algorithm::PS384,
            SigningAlgorithm::Ps512 => Algorithm::PS512,
        }
    }
}

impl OidcOptions {
    /// Takes RS256 tokens of the issuer for the client, whose users are named `ISSUER#SUB`.
    pub fn new(
        issuer_url: impl Into<String>,
        client_id: impl Into<String>,
        ca: impl Into<String>,
    ) -> Self {
        OidcOptions {
            issuer_url: issuer_url.into(),
            client_id: client_id.into(),
            ca: ca.into(),
            username_claim: "sub".to_owned(),
            username_prefix: String::new(),
            groups_claim: String::new(),
            groups_prefix: String::new(),
            required_claims: BTreeMap::new(),
            algorithms: vec![SigningAlgorithm::Rs256],
        }
    }

    fn prefix(&self) -> String {
        match (self.username_prefix.as_str(), self.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{}#", self.issuer_url),
            (prefix, _) => prefix.to_owned(),
        }
    }
}

/// Knows the bearers of tokens that an OpenID Connect provider has signed. Its keys are fetched when they are first
/// needed, and again when a token is signed by another.
pub struct OidcTokens {
    options: OidcOptions,
    tls: Arc<ClientConfig>,
    keys: Mutex<Keys>,
    forwarder: Forwarder,
}

#[derive(Default)]
struct Keys {
    set: Option<JwkSet>,
    fetched: Option<Instant>,
}

impl std::fmt::Debug for OidcTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcTokens")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn invalid(text: impl std::fmt::Display) -> AuthenticationError {
    AuthenticationError::Invalid(format!("oidc: {text}"))
}

/// Host, port and path of an `https` URL.
fn location(url: &str) -> Option<(String, u16, String)> {
    let uri: http::Uri = url.parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let path = uri.path_and_query()?.to_string();
    Some((host, uri.port_u16().unwrap_or(443), path))
}

impl OidcTokens {
    /// Takes tokens as the options say. Asks nobody yet.
    ///
    /// # Errors
    /// If the issuer has no `https` URL, or the authority is of no use.
    pub fn new(options: OidcOptions) -> Result<Self, OidcError> {
        if location(&options.issuer_url).is_none() {
            return Err(OidcError::Issuer(options.issuer_url));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(options.ca.as_bytes()) {
            let certificate = certificate.map_err(|e| OidcError::Authority(e.to_string()))?;
            roots
                .add(certificate)
                .map_err(|e| OidcError::Authority(e.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| OidcError::Authority(e.to_string()))?
            .with_root_certificates(match options.ca.is_empty() {
                true => system_roots(),
                false => Arc::new(roots),
            })
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(OidcTokens {
            options,
            tls: Arc::new(tls),
            keys: Mutex::default(),
            forwarder: Forwarder::default(),
        })
    }

    /// Who the bearer of the token is; `None` if it is not one of the issuer's.
    ///
    /// # Errors
    /// If it isn't good, and for what reason; or if the keys cannot be fetched.
    pub async fn verify(&self, token: &str) -> Result<Option<Identity>, AuthenticationError> {
        if unverified_issuer(token).as_deref() != Some(self.options.issuer_url.as_str()) {
            return Ok(None);
        }
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        let allowed = |a: &SigningAlgorithm| Algorithm::from(*a) == header.alg;
        if !self.options.algorithms.iter().any(allowed) {
            return Err(invalid("verify token: unexpected signature algorithm"));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = 0;
        validation.set_issuer(&[&self.options.issuer_url]);
        validation.set_audience(&[&self.options.client_id]);
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
            .map_err(|e| invalid(format_args!("verify token: {e}")))?
            .claims;
        let now = jsonwebtoken::get_current_timestamp();
        if claims
            .get("nbf")
            .and_then(Value::as_u64)
            .is_some_and(|nbf| nbf > now + NOT_BEFORE_LEEWAY)
        {
            return Err(invalid("verify token: the token is not valid yet"));
        }
        identity(&self.options, &claims).map(Some)
    }

    async fn key(&self, id: Option<&str>) -> Result<DecodingKey, AuthenticationError> {
        // One fetches, the others wait for what it gets.
        let mut keys = self.keys.lock().await;
        let find = |set: &Option<JwkSet>| {
            let keys = &set.as_ref()?.keys;
            let found = match id {
                Some(id) => keys.iter().find(|k| k.common.key_id.as_deref() == Some(id)),
                None => keys.first().filter(|_| keys.len() == 1),
            };
            DecodingKey::from_jwk(found?).ok()
        };
        if let Some(key) = find(&keys.set) {
            return Ok(key);
        }
        if keys.fetched.is_none_or(|at| at.elapsed() >= REFETCH) {
            let unavailable = |e: io::Error| AuthenticationError::Unavailable(format!("oidc: {e}"));
            let fetched = tokio::time::timeout(TIMEOUT, self.fetch_keys())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            keys.fetched = Some(Instant::now());
            keys.set = Some(fetched.map_err(unavailable)?);
        }
        find(&keys.set).ok_or_else(|| invalid("verify token: failed to verify id token signature"))
    }

    async fn fetch_keys(&self) -> io::Result<JwkSet> {
        let issuer = &self.options.issuer_url;
        let base = issuer.trim_end_matches('/');
        let found: Value = self
            .fetch(&format!("{base}/.well-known/openid-configuration"))
            .await?;
        if found["issuer"] != issuer.as_str() {
            return Err(io::Error::other(format!(
                "issuer did not match the issuer returned by provider, expected {issuer:?} got {}",
                found["issuer"]
            )));
        }
        let keys = found["jwks_uri"]
            .as_str()
            .ok_or_else(|| io::Error::other("the provider has no jwks_uri"))?;
        self.fetch(keys).await
    }

    async fn fetch<T: serde::de::DeserializeOwned>(&self, url: &str) -> io::Result<T> {
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
        let request = Request::new(Body::empty());
        let response = self
            .forwarder
            .forward(Box::new(stream), &authority, &path, request)
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
        serde_json::from_slice(&body.to_bytes()).map_err(io::Error::other)
    }
}

/// The issuer that a token names, whether or not that is true.
fn unverified_issuer(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

fn identity(
    options: &OidcOptions,
    claims: &Map<String, Value>,
) -> Result<Identity, AuthenticationError> {
    let claim = &options.username_claim;
    let name = claims.get(claim).and_then(Value::as_str).ok_or_else(|| {
        invalid(format_args!(
            "parse username claims {claim:?}: claim not present"
        ))
    })?;
    if claim == "email" && claims.get("email_verified").is_some_and(|v| *v != true) {
        return Err(invalid("email not verified"));
    }
    for (claim, wanted) in &options.required_claims {
        match claims.get(claim).and_then(Value::as_str) {
            None => {
                return Err(invalid(format_args!(
                    "required claim {claim} not present in ID token"
                )));
            }
            Some(got) if got != wanted => {
                return Err(invalid(format_args!(
                    "required claim {claim} value does not match. Got = {got}, want = {wanted}"
                )));
            }
            Some(_) => {}
        }
    }
    let mut identity = Identity::user(format!("{}{name}", options.prefix()));
    let claim = &options.groups_claim;
    let bad = || {
        invalid(format_args!(
            "parse groups claim {claim:?}: neither text nor a list of it"
        ))
    };
    let groups: Vec<&str> = match claims.get(claim).filter(|_| !claim.is_empty()) {
        None => Vec::new(),
        Some(Value::String(group)) => vec![group],
        Some(Value::Array(groups)) => groups
            .iter()
            .map(|group| group.as_str().ok_or_else(bad))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(bad()),
    };
    for group in groups {
        identity = identity.group(format!("{}{group}", options.groups_prefix));
    }
    Ok(identity)
}

#[async_trait]
impl Authenticator for OidcTokens {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        match bearer(&parts.headers) {
            Some(token) => self.verify(token).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::Ipv4Addr};

    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;
    use crate::{
        admission::memory::MemoryReader,
        auth::ServiceAccountTokens,
        pki::{Pki, ServerNames},
        serve::{self, Limits, Server, server_config},
    };

    struct Provider {
        pki: Pki,
        issuer: String,
        _server: Server,
    }

    /// A provider whose key is that of service accounts.
    async fn provider() -> Provider {
        let pki = Pki::in_memory().unwrap();
        let reader = Arc::new(MemoryReader::default());
        let tokens = ServiceAccountTokens::new(pki.service_account_key(), "x", reader).unwrap();
        let tokens = Arc::new(tokens);
        let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let issuer = format!(
            "https://localhost:{}/oidc",
            socket.local_addr().unwrap().port()
        );
        let base = issuer.clone();
        let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let value = match request.uri().path() {
                "/oidc/.well-known/openid-configuration" => {
                    json!({"issuer": base, "jwks_uri": format!("{base}/keys")})
                }
                "/oidc/keys" => tokens.jwks(),
                _ => Value::Null,
            };
            async move { Ok::<_, Infallible>(http::Response::new(Body::from(value.to_string()))) }
        });
        let names = ServerNames {
            dns: vec!["localhost".to_owned()],
            ips: Vec::new(),
        };
        let tls = server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
        let server = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
        Provider {
            pki,
            issuer,
            _server: server,
        }
    }

    impl Provider {
        fn options(&self) -> OidcOptions {
            OidcOptions {
                algorithms: vec![SigningAlgorithm::Es256],
                groups_claim: "groups".to_owned(),
                groups_prefix: "oidc:".to_owned(),
                ..OidcOptions::new(&self.issuer, "kubernetes", self.pki.ca_pem())
            }
        }

        fn token(&self, change: Value) -> String {
            let now = jsonwebtoken::get_current_timestamp();
            let mut claims = json!({
                "iss": self.issuer, "aud": "kubernetes", "exp": now + 60, "sub": "jane",
                "email": "jane@example.com", "groups": ["dev", "ops"],
            });
            for (key, value) in change.as_object().unwrap() {
                claims[key] = value.clone();
            }
            let key = self.pki.service_account_key().private.clone();
            let key = EncodingKey::from_ec_pem(key.as_bytes()).unwrap();
            let reader = Arc::new(MemoryReader::default());
            let tokens =
                ServiceAccountTokens::new(self.pki.service_account_key(), "x", reader).unwrap();
            let mut header = Header::new(Algorithm::ES256);
            header.kid = tokens.jwks()["keys"][0]["kid"].as_str().map(str::to_owned);
            jsonwebtoken::encode(&header, &claims, &key).unwrap()
        }
    }

    #[tokio::test]
    async fn a_token_of_the_provider_gives_the_name_and_the_groups_that_it_says() {
        let provider = provider().await;
        let tokens = OidcTokens::new(provider.options()).unwrap();
        let jane = tokens
            .verify(&provider.token(json!({})))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(jane.name, format!("{}#jane", provider.issuer));
        assert_eq!(jane.groups, ["oidc:dev", "oidc:ops"]);
        let by_mail = OidcTokens::new(OidcOptions {
            username_claim: "email".to_owned(),
            ..provider.options()
        })
        .unwrap();
        let token = provider.token(json!({"email_verified": true, "groups": "dev"}));
        let jane = by_mail.verify(&token).await.unwrap().unwrap();
        assert_eq!(jane.name, "jane@example.com");
        assert_eq!(jane.groups, ["oidc:dev"]);
        let token = provider.token(json!({"email_verified": false}));
        assert!(by_mail.verify(&token).await.is_err());
    }

    #[tokio::test]
    async fn tokens_that_are_not_good_are_refused_and_those_of_others_left_to_others() {
        let provider = provider().await;
        let mut options = provider.options();
        options.required_claims = [("tenant".to_owned(), "acme".to_owned())].into();
        let tokens = OidcTokens::new(options).unwrap();
        let good = json!({"tenant": "acme"});
        assert!(
            tokens
                .verify(&provider.token(good))
                .await
                .unwrap()
                .is_some()
        );
        for bad in [
            json!({}),
            json!({"tenant": "other"}),
            json!({"tenant": "acme", "aud": "somebody"}),
            json!({"tenant": "acme", "exp": 1}),
            json!({"tenant": "acme", "exp": null}),
            json!({"tenant": "acme", "nbf": 99_999_999_999_u64}),
            json!({"tenant": "acme", "sub": null}),
            json!({"tenant": "acme", "groups": 3}),
        ] {
            assert!(
                tokens.verify(&provider.token(bad.clone())).await.is_err(),
                "{bad}"
            );
        }
        let other = json!({"tenant": "acme", "iss": "https://other"});
        assert_eq!(tokens.verify(&provider.token(other)).await.unwrap(), None);
        assert_eq!(tokens.verify("nonsense").await.unwrap(), None);
        // A signature cut short is none.
        let token = provider.token(json!({"tenant": "acme"}));
        assert!(tokens.verify(&token[..token.len() - 4]).await.is_err());
    }

    #[test]
    fn an_issuer_has_an_https_url() {
        for bad in ["http://issuer", "issuer", ""] {
            let options = OidcOptions::new(bad, "kubernetes", "");
            assert!(OidcTokens::new(options).is_err(), "{bad}");
        }
    }
}
