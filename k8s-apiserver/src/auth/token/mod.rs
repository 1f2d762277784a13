//! Tokens of service accounts: signed here, checked here.
//!
//! A token names its service account, and by choice a pod, secret or node with whose life it ends
//! (KEP-1205, KEP-4193). It is good as long as its time runs, its audience is asked for, and all that
//! it names is still there with the same UID. Tokens in Secrets are as upstream's have been from the beginning: see
//! `legacy`.

mod legacy;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dashmap::DashMap;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use self::legacy::LegacyClaims;
pub(crate) use self::legacy::{LAST_USED, UsedSecret, is_written_down};
use super::{Audiences, Authenticated, AuthenticationError, Authenticator, Identity};
use crate::{
    admission::{Warnings, reader::ObjectReader},
    audit,
    metrics::Writer,
    pki::SigningKey,
};

/// The issuer of a cluster whose domain is `cluster.local`.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// How long a deleted object's tokens stay good, for clocks that differ.
const LEEWAY_SECONDS: i64 = 60;
/// Tokens whose signature is known to be good; past that many all are forgotten.
const REMEMBERED: usize = 10_000;

/// An object that a token names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectClaim {
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<ObjectClaim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<ObjectClaim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<ObjectClaim>,
    serviceaccount: ObjectClaim,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

/// What a token of either sort says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Known {
    Bound(Box<Claims>),
    Legacy(LegacyClaims),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
    #[serde(default)]
    nbf: i64,
    sub: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(decoder)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// What a new token says.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// The namespace of the service account and of all that is named.
    pub namespace: String,
    /// The service account.
    pub service_account: ObjectClaim,
    /// The pod with whose life the token ends.
    pub pod: Option<ObjectClaim>,
    /// The node of that pod, or the node with whose life the token ends.
    pub node: Option<ObjectClaim>,
    /// The secret with whose life the token ends.
    pub secret: Option<ObjectClaim>,
    /// For whom it is.
    pub audiences: Vec<String>,
    /// When it ends.
    pub expires: Timestamp,
    /// After when its use is to be frowned upon.
    pub warn_after: Option<Timestamp>,
}

/// A token that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Who its bearer is.
    pub identity: Identity,
    /// Which of the audiences that were asked for it has.
    pub audiences: Vec<String>,
    /// What its bearer is to be told, in a `Warning` header.
    pub warning: Option<&'static str>,
}

/// Keys that cannot sign tokens.
#[derive(Debug, thiserror::Error)]
#[error("the service accounts' key cannot be used")]
pub struct TokenKeyError;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Signs and checks the tokens of service accounts.
pub struct ServiceAccountTokens {
    issuer: String,
    key_id: String,
    point: Vec<u8>,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    reader: Arc<dyn ObjectReader>,
    clock: Clock,
    uses: Uses,
    /// Who writes down the days on which tokens in Secrets are used.
    diary: parking_lot::RwLock<Option<mpsc::Sender<UsedSecret>>>,
    /// Signatures that were checked already, by the token's digest.
    remembered: DashMap<[u8; 32], Arc<Known>>,
}

/// How often good tokens were used.
#[derive(Default)]
struct Uses {
    valid: AtomicU64,
    /// Past the time after which that is to be frowned upon.
    stale: AtomicU64,
    /// Those in Secrets.
    legacy: AtomicU64,
    /// Of those: in Secrets that were made for their account.
    automatic: AtomicU64,
    /// In other Secrets.
    manual: AtomicU64,
    /// In Secrets whose tokens are taken no more.
    invalidated: AtomicU64,
}

impl std::fmt::Debug for ServiceAccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountTokens")
            .field("issuer", &self.issuer)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

fn invalid(reason: impl Into<String>) -> AuthenticationError {
    AuthenticationError::Invalid(reason.into())
}

/// For which of the audiences that are asked for a token is.
fn common(of_token: &[String], asked: &[String]) -> Result<Vec<String>, AuthenticationError> {
    let matching = of_token.iter().filter(|audience| asked.contains(audience));
    let matching: Vec<String> = matching.cloned().collect();
    if matching.is_empty() {
        return Err(invalid(format!(
            "token audiences {} is invalid for the target audiences {}",
            crate::authz::rbac::go_quoted(of_token),
            crate::authz::rbac::go_quoted(asked),
        )));
    }
    Ok(matching)
}

impl ServiceAccountTokens {
    /// Signs with that key, as that issuer, which is also the audience of tokens that name none.
    ///
    /// # Errors
    /// If the key is not an ECDSA key on P-256 in PEM.
    pub fn new(
        key: &SigningKey,
        issuer: impl Into<String>,
        reader: Arc<dyn ObjectReader>,
    ) -> Result<Self, TokenKeyError> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(key.public.as_bytes())
            .map_err(|_| TokenKeyError)?;
        // The uncompressed point ends the structure: 0x04 and two coordinates of 32 bytes.
        let point = spki
            .len()
            .checked_sub(65)
            .map(|at| spki[at..].to_vec())
            .filter(|point| point[0] == 4)
            .ok_or(TokenKeyError)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(ServiceAccountTokens {
            issuer: issuer.into(),
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(&spki)),
            encoding: EncodingKey::from_ec_pem(key.private.as_bytes())
                .map_err(|_| TokenKeyError)?,
            decoding: DecodingKey::from_ec_der(&point),
            point,
            validation,
            reader,
            clock: Arc::new(Timestamp::now),
            uses: Uses::default(),
            diary: parking_lot::RwLock::default(),
            remembered: DashMap::new(),
        })
    }

    /// Takes the time from there, and not from the system.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The issuer, as tokens name it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences of tokens that are meant for the API server.
    pub fn api_audiences(&self) -> &[String] {
        std::slice::from_ref(&self.issuer)
    }

    /// The time that tokens are checked against.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The public key as a JSON web key set: what `/openid/v1/jwks` serves.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [{
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&self.point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&self.point[33..]),
        }]})
    }

    /// What `/.well-known/openid-configuration` serves, if the keys are at that URL.
    pub fn discovery(&self, jwks_uri: &str) -> serde_json::Value {
        serde_json::json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// A new token.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn issue(&self, spec: TokenSpec) -> Result<String, TokenKeyError> {
        self.issue_as(spec, uuid::Uuid::new_v4().to_string())
    }

    /// A new token with that identifier.
    pub(crate) fn issue_as(&self, spec: TokenSpec, id: String) -> Result<String, TokenKeyError> {
        let now = self.now().as_second();
        let claims = Claims {
            aud: spec.audiences,
            exp: spec.expires.as_second(),
            iat: now,
            iss: self.issuer.clone(),
            jti: id,
            nbf: now,
            sub: format!(
                "{}{}:{}",
                super::SERVICE_ACCOUNT_PREFIX,
                spec.namespace,
                spec.service_account.name
            ),
            kubernetes: Kubernetes {
                namespace: spec.namespace,
                node: spec.node,
                pod: spec.pod,
                secret: spec.secret,
                serviceaccount: spec.service_account,
                warnafter: spec.warn_after.map(|t| t.as_second()),
            },
        };
        self.sign(&claims)
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, TokenKeyError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(|_| TokenKeyError)
    }

    fn claims(&self, token: &str) -> Result<Arc<Known>, AuthenticationError> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(claims) = self.remembered.get(&digest) {
            return Ok(claims.clone());
        }
        let claims = jsonwebtoken::decode::<Known>(token, &self.decoding, &self.validation)
            .map_err(|_| invalid("invalid bearer token"))?
            .claims;
        let claims = Arc::new(claims);
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(digest, claims.clone());
        Ok(claims)
    }

    /// Checks a token that is meant for one of the audiences.
    ///
    /// # Errors
    /// If it isn't good, and for what reason; or if what it names cannot be read now.
    pub async fn verify(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<VerifiedToken, AuthenticationError> {
        let claims = self.claims(token)?;
        let claims = match &*claims {
            Known::Bound(claims) => claims,
            Known::Legacy(claims) => return self.verify_legacy(token, claims, audiences).await,
        };
        if claims.iss != self.issuer {
            return Err(invalid("invalid bearer token"));
        }
        let now = self.now().as_second();
        if claims.exp + LEEWAY_SECONDS < now {
            return Err(invalid("service account token has expired"));
        }
        if claims.nbf - LEEWAY_SECONDS > now {
            return Err(invalid("service account token is not valid yet"));
        }
        let matching = common(&claims.aud, audiences)?;
        let named = &claims.kubernetes;
        let namespace = named.namespace.as_str();
        let account = &named.serviceaccount;
        self.still_there("serviceaccounts", namespace, account, now)
            .await?;
        if let Some(secret) = &named.secret {
            self.still_there("secrets", namespace, secret, now).await?;
        }
        let mut identity = Identity::service_account(namespace, &account.name, &account.uid);
        let mut extra = |key: &str, value: &str| {
            identity.extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        };
        if let Some(pod) = &named.pod {
            self.still_there("pods", namespace, pod, now).await?;
            extra("pod-name", &pod.name);
            extra("pod-uid", &pod.uid);
        }
        if let Some(node) = &named.node {
            // A pod's token ends with the pod, whatever becomes of the node's object.
            if named.pod.is_none() {
                self.still_there("nodes", "", node, now).await?;
            }
            extra("node-name", &node.name);
            extra("node-uid", &node.uid);
        }
        if !claims.jti.is_empty() {
            extra("credential-id", &format!("JTI={}", claims.jti));
        }
        match named.warnafter.filter(|after| now > *after) {
            Some(after) => {
                // Good only because those who read it once and for all would fail.
                let text = format!(
                    "subject: {}, seconds after warning threshold: {}",
                    claims.sub,
                    now - after
                );
                tracing::warn!(token = text, "stale token");
                audit::annotate_early("authentication.k8s.io/stale-token", text);
                self.uses.stale.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                self.uses.valid.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(VerifiedToken {
            identity,
            audiences: matching,
            warning: None,
        })
    }

    pub(crate) fn write_metrics(&self, out: &mut Writer) {
        for (name, help, count) in [
            (
                "serviceaccount_valid_tokens_total",
                "[ALPHA] Cumulative valid projected service account tokens used",
                &self.uses.valid,
            ),
            (
                "serviceaccount_stale_tokens_total",
                "[ALPHA] Cumulative stale projected service account tokens used",
                &self.uses.stale,
            ),
            (
                "serviceaccount_legacy_tokens_total",
                "[ALPHA] Cumulative legacy service account tokens used",
                &self.uses.legacy,
            ),
            (
                "serviceaccount_legacy_auto_token_uses_total",
                "[ALPHA] Cumulative auto-generated legacy tokens used",
                &self.uses.automatic,
            ),
            (
                "serviceaccount_legacy_manual_token_uses_total",
                "[ALPHA] Cumulative manually created legacy tokens used",
                &self.uses.manual,
            ),
            (
                "serviceaccount_invalid_legacy_auto_token_uses_total",
                "[ALPHA] Cumulative invalid auto-generated legacy tokens used",
                &self.uses.invalidated,
            ),
        ] {
            out.family(name, "counter", help);
            out.sample("", "", count.load(Ordering::Relaxed) as f64);
        }
    }

    /// Checks that the object is there, is the same one, and was not deleted a while ago. What is at hand is enough to
    /// say so, and not to say that it isn't.
    async fn still_there(
        &self,
        resource: &str,
        namespace: &str,
        wanted: &ObjectClaim,
        now: i64,
    ) -> Result<(), AuthenticationError> {
        let reader = &self.reader;
        let recent = reader.recent_raw("", resource, namespace, &wanted.name);
        let recent = recent.await.map_err(unavailable)?;
        if is_that(recent, resource, namespace, wanted, now).is_ok() {
            return Ok(());
        }
        let newest = reader.get_raw("", resource, namespace, &wanted.name);
        let newest = newest.await.map_err(unavailable)?;
        is_that(newest, resource, namespace, wanted, now)
    }
}

fn unavailable(error: impl std::fmt::Display) -> AuthenticationError {
    AuthenticationError::Unavailable(error.to_string())
}

/// Checks that an object is the one that is wanted.
fn is_that(
    json: Option<bytes::Bytes>,
    resource: &str,
    namespace: &str,
    wanted: &ObjectClaim,
    now: i64,
) -> Result<(), AuthenticationError> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        uid: String,
        deletion_timestamp: Option<Timestamp>,
    }
    let json = json.ok_or_else(|| invalid("service account token has been invalidated"))?;
    let head: Head = serde_json::from_slice(&json).map_err(unavailable)?;
    if head.metadata.uid != wanted.uid {
        return Err(invalid(format!(
            "the UID of {resource} {namespace}/{} ({}) does not match the claim ({})",
            wanted.name, head.metadata.uid, wanted.uid
        )));
    }
    let deleted = head.metadata.deletion_timestamp;
    if deleted.is_some_and(|at| at.as_second() < now - LEEWAY_SECONDS) {
        return Err(invalid("service account token has been invalidated"));
    }
    Ok(())
}

/// The bearer token of a request, if it has one.
pub(crate) fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let token = words(headers)?.next()?;
    (!token.is_empty()).then_some(token)
}

/// Whether a token is not seen for the space before it; who sends it may wonder.
pub(crate) fn is_spaced(headers: &http::HeaderMap) -> bool {
    let Some(mut words) = words(headers) else {
        return false;
    };
    words.next().is_some_and(str::is_empty) && words.next().is_some()
}

/// What follows the scheme, if that is of tokens.
fn words(headers: &http::HeaderMap) -> Option<std::str::Split<'_, char>> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let mut words = value.trim().split(' ');
    let is_bearer = words.next()?.eq_ignore_ascii_case("bearer");
    is_bearer.then_some(words)
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        match bearer(&parts.headers) {
            None => Ok(None),
            Some(token) => {
                let verified = self.verify(token, self.api_audiences()).await?;
                if let Some(text) = verified.warning
                    && let Some(warnings) = parts.extensions.get::<Warnings>()
                {
                    warnings.add(text);
                }
                Ok(Some(verified.identity))
            }
        }
    }

    async fn authenticate_for(
        &self,
        parts: &http::request::Parts,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(token) = bearer(&parts.headers) else {
            return Ok(None);
        };
        let verified = self.verify(token, audiences.wanted()).await?;
        Ok(Some(Authenticated {
            identity: verified.identity,
            audiences: verified.audiences,
        }))
    }
}

#[cfg(test)]
mod tests;
