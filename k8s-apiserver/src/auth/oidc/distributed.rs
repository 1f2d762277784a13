//! [`DistributedClaims`]: groups that a token does not have itself, but says where they are.
//!
//! See <https://openid.net/specs/openid-connect-core-1_0.html#AggregatedDistributedClaims>. As upstream's, this follows
//! the claim with the groups alone, and claims that are in the token after all (aggregated ones) are not read.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{OidcTokens, provider::Provider, unverified_issuer};
use crate::webhook::Memory;

/// How many issuers may vouch for claims.
const ISSUERS: usize = 16;
/// How long a source may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a source has said is believed, as upstream believes a token.
const KEPT: Duration = Duration::from_secs(10);

type Claims = Map<String, Value>;

/// Where a claim is.
#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    access_token: String,
}

/// Fetches a claim that tokens do not have themselves.
pub(super) struct DistributedClaims {
    claim: String,
    /// Who may have signed it. Each is another issuer's.
    providers: Mutex<HashMap<String, Arc<Provider>>>,
    known: Memory<[u8; 32], Value>,
}

impl DistributedClaims {
    /// Fetches that claim.
    pub(super) fn new(claim: &str) -> Self {
        DistributedClaims {
            claim: claim.to_owned(),
            providers: Mutex::default(),
            known: Memory::new(),
        }
    }

    /// Puts the claim into those of a good token, if the token says where it is.
    ///
    /// # Errors
    /// In upstream's words.
    pub(super) async fn expand(
        &self,
        tokens: &OidcTokens,
        claims: &mut Claims,
    ) -> Result<(), String> {
        let claim = self.claim.as_str();
        if claims.contains_key(claim) {
            return Ok(());
        }
        let Some(names) = claims.get("_claim_names") else {
            return Ok(());
        };
        let names: HashMap<String, String> = serde_json::from_value(names.clone())
            .map_err(|e| format!("oidc: error parsing distributed claim names: {e}"))?;
        let sources = claims
            .get("_claim_sources")
            .ok_or("oidc: no claim sources")?;
        let mut sources: HashMap<String, Source> = serde_json::from_value(sources.clone())
            .map_err(|e| format!("oidc: could not parse claim sources: {e}"))?;
        let Some(name) = names.get(claim) else {
            return Ok(());
        };
        let source = sources.remove(name).ok_or_else(|| {
            format!("id token _claim_names contained a source {name} missing in _claims_sources")
        })?;
        if source.endpoint.is_empty() {
            return Ok(());
        }
        let mut hash = Sha256::new();
        hash.update(&source.endpoint);
        hash.update([0]);
        hash.update(&source.access_token);
        let key: [u8; 32] = hash.finalize().into();
        let value = match self.known.get(&key) {
            Some(value) => value,
            None => {
                let resolved = self.resolve(tokens, &source);
                let value = tokio::time::timeout(TIMEOUT, resolved)
                    .await
                    .unwrap_or_else(|_| {
                        Err(format!(
                            "while getting distributed claim {claim:?}: it takes too long"
                        ))
                    })?;
                self.known.put(key, value.clone(), KEPT);
                value
            }
        };
        claims.insert(claim.to_owned(), value);
        Ok(())
    }

    async fn resolve(&self, tokens: &OidcTokens, source: &Source) -> Result<Value, String> {
        let (claim, endpoint) = (self.claim.as_str(), source.endpoint.as_str());
        let bearer = Some(source.access_token.as_str()).filter(|token| !token.is_empty());
        let token = tokens
            .provider
            .text(endpoint, bearer)
            .await
            .map_err(|e| format!("while getting distributed claim {claim:?}: {e}"))?;
        let token = token.trim();
        let issuer = unverified_issuer(token).ok_or_else(|| {
            format!("getting untrusted issuer from endpoint {endpoint} failed for claim {claim:?}")
        })?;
        let provider = self
            .provider(tokens, &issuer)
            .map_err(|e| format!("verifying untrusted issuer {issuer} failed: {e}"))?;
        let signed = match &provider {
            Some(provider) => tokens.signed(provider, &issuer, token).await,
            None => tokens.signed(&tokens.provider, &issuer, token).await,
        };
        let mut found = signed.map_err(|e| format!("verify distributed claim token: {e}"))?;
        found.remove(claim).ok_or_else(|| {
            format!(
                "jwt returned by distributed claim endpoint {endpoint:?} did not contain claim: {claim}"
            )
        })
    }

    /// Where the keys of an issuer come from; `None` if from where those of the token do.
    fn provider(&self, tokens: &OidcTokens, issuer: &str) -> Result<Option<Arc<Provider>>, String> {
        if issuer == tokens.issuer.url {
            return Ok(None);
        }
        let mut providers = self.providers.lock();
        if let Some(provider) = providers.get(issuer) {
            return Ok(Some(provider.clone()));
        }
        if providers.len() >= ISSUERS {
            return Err("there are too many of them".to_owned());
        }
        let made = Provider::new(issuer, "", &tokens.issuer.ca).map_err(|e| e.to_string())?;
        let made = Arc::new(made);
        providers.insert(issuer.to_owned(), made.clone());
        Ok(Some(made))
    }
}
