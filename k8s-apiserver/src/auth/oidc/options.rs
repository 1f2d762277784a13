//! [`OidcOptions`]: upstream's `--oidc-*`, and [`JwtIssuer`], what they and configuration files say in the end.

use std::{collections::BTreeMap, str::FromStr};

use jsonwebtoken::Algorithm;

use super::mapping::{Mapping, Source};

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
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl SigningAlgorithm {
    /// All of them: what an `AuthenticationConfiguration` takes.
    pub const ALL: [SigningAlgorithm; 9] = [
        SigningAlgorithm::Rs256,
        SigningAlgorithm::Rs384,
        SigningAlgorithm::Rs512,
        SigningAlgorithm::Es256,
        SigningAlgorithm::Es384,
        SigningAlgorithm::Es512,
        SigningAlgorithm::Ps256,
        SigningAlgorithm::Ps384,
        SigningAlgorithm::Ps512,
    ];
}

impl FromStr for SigningAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.name() == text);
        found.ok_or_else(|| format!("unsupported signing algorithm {text:?}"))
    }
}

impl SigningAlgorithm {
    /// As RFC 7518 names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            SigningAlgorithm::Rs256 => "RS256",
            SigningAlgorithm::Rs384 => "RS384",
            SigningAlgorithm::Rs512 => "RS512",
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::Es384 => "ES384",
            SigningAlgorithm::Es512 => "ES512",
            SigningAlgorithm::Ps256 => "PS256",
            SigningAlgorithm::Ps384 => "PS384",
            SigningAlgorithm::Ps512 => "PS512",
        }
    }

    /// What it is to who asks ring, if ring has it.
    pub(super) fn of_ring(self) -> Option<Algorithm> {
        Some(match self {
            SigningAlgorithm::Rs256 => Algorithm::RS256,
            SigningAlgorithm::Rs384 => Algorithm::RS384,
            SigningAlgorithm::Rs512 => Algorithm::RS512,
            SigningAlgorithm::Es256 => Algorithm::ES256,
            SigningAlgorithm::Es384 => Algorithm::ES384,
            SigningAlgorithm::Es512 => return None,
            SigningAlgorithm::Ps256 => Algorithm::PS256,
            SigningAlgorithm::Ps384 => Algorithm::PS384,
            SigningAlgorithm::Ps512 => Algorithm::PS512,
        })
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

/// An issuer of tokens, and what is made of them: one `jwt` of an
/// [`AuthenticationConfiguration`](crate::auth::AuthenticationConfiguration).
#[derive(Clone, Debug)]
pub struct JwtIssuer {
    pub(in crate::auth) url: String,
    /// Where its description is, if not below its URL.
    pub(in crate::auth) discovery_url: String,
    pub(in crate::auth) audiences: Vec<String>,
    pub(in crate::auth) ca: String,
    pub(in crate::auth) algorithms: Vec<SigningAlgorithm>,
    pub(in crate::auth) mapping: Mapping,
}

impl JwtIssuer {
    /// Its URL, as tokens name it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl From<OidcOptions> for JwtIssuer {
    fn from(options: OidcOptions) -> Self {
        let username = Source::Claim {
            claim: options.username_claim.clone(),
            prefix: options.prefix(),
        };
        let groups = (!options.groups_claim.is_empty()).then_some(Source::Claim {
            claim: options.groups_claim,
            prefix: options.groups_prefix,
        });
        JwtIssuer {
            url: options.issuer_url,
            discovery_url: String::new(),
            audiences: vec![options.client_id],
            ca: options.ca,
            algorithms: options.algorithms,
            mapping: Mapping {
                username,
                groups,
                uid: None,
                extra: Vec::new(),
                required: options.required_claims,
                claim_rules: Vec::new(),
                user_rules: Vec::new(),
            },
        }
    }
}
