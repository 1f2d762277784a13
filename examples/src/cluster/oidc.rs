//! Tokens of an OpenID Connect provider, as upstream's flags have them.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;
use k8s_apiserver::auth::{OidcOptions, OidcTokens, SigningAlgorithm};

/// Upstream's `--oidc-*` flags.
#[derive(Args, Clone, Debug)]
pub struct OidcFlags {
    /// The OpenID Connect provider whose tokens are taken: its https URL, as tokens name it
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// Whom its tokens must be for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub oidc_client_id: Option<String>,
    /// Who may vouch for its server, a PEM file [default: those whom this machine trusts]
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim with the user's name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// What is put before it; - for nothing [default: URL#, or nothing for email]
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub oidc_username_prefix: String,
    /// The claim with the groups
    #[arg(long, value_name = "CLAIM", default_value = "")]
    pub oidc_groups_claim: String,
    /// What is put before each of them
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub oidc_groups_prefix: String,
    /// A claim that must be there; may be given more than once
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = claim)]
    pub oidc_required_claim: Vec<(String, String)>,
    /// How tokens may be signed
    #[arg(
        long,
        value_name = "ALGORITHM,…",
        value_delimiter = ',',
        default_value = "RS256"
    )]
    pub oidc_signing_algs: Vec<SigningAlgorithm>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((claim, value)) if !claim.is_empty() => Ok((claim.to_owned(), value.to_owned())),
        _ => Err("give CLAIM=VALUE".to_owned()),
    }
}

impl OidcFlags {
    /// The authenticator, if there is a provider.
    pub(super) fn tokens(&self) -> anyhow::Result<Option<OidcTokens>> {
        let (Some(issuer), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            return Ok(None);
        };
        let authority = match &self.oidc_ca_file {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
            None => String::new(),
        };
        let options = OidcOptions {
            username_claim: self.oidc_username_claim.clone(),
            username_prefix: self.oidc_username_prefix.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            groups_prefix: self.oidc_groups_prefix.clone(),
            required_claims: self.oidc_required_claim.iter().cloned().collect(),
            algorithms: self.oidc_signing_algs.clone(),
            ..OidcOptions::new(issuer, client, authority)
        };
        Ok(Some(OidcTokens::new(options).context("--oidc-issuer-url")?))
    }
}
