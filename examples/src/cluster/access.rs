//! Who may use the API: authenticators and authorizers, as the flags have them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use k8s_apiserver::{
    MaxInFlight,
    admission::reader::ObjectReader,
    auth::{
        ConfiguredTokens, OidcTokens, RequestHeaders, ReviewVersion, ServiceAccountTokens,
        Standard, WebhookTokenOptions, WebhookTokens,
    },
    authz::{
        AllowMasters, Authorizer, Chain, ConfiguredAuthorizers, WebhookAuthorizer,
        WebhookAuthorizerOptions, node::NodeAuthorizer, rbac::Rbac,
    },
    pki::FRONT_PROXY_CLIENT,
};

use super::oidc::OidcFlags;

/// Upstream's flags for authentication, authorization and the number of requests served at once.
#[derive(Args, Clone, Debug)]
pub struct AccessOptions {
    /// Whose tokens are taken, and who may come without: a file with an AuthenticationConfiguration
    /// of apiserver.config.k8s.io, which is followed as it changes
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    pub authentication_config: Option<PathBuf>,
    /// Tokens of an OpenID Connect provider.
    #[command(flatten)]
    pub oidc: OidcFlags,
    /// A webhook that knows tokens, a file in the format of kubeconfigs
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of TokenReviews sent to it
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    pub authentication_token_webhook_version: ReviewVersion,
    /// How long its answers are good
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// Which authorizers are asked, in which order: a file with an AuthorizationConfiguration of
    /// apiserver.config.k8s.io, in place of Node, RBAC and the webhook below; followed as it changes
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "authorization_webhook_config_file"
    )]
    pub authorization_config: Option<PathBuf>,
    /// A webhook that is asked what roles do not allow, a file in the format of kubeconfigs
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// The version of SubjectAccessReviews sent to it
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    pub authorization_webhook_version: ReviewVersion,
    /// How long its permissions are good
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long its refusals are good
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// How many requests that read are served at once; with the next one, the seats that priority
    /// levels share
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// How many requests that write are served at once
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
}

/// Text in Prometheus' format.
pub(super) type Metrics = Box<dyn Fn() -> String + Send + Sync>;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    k8s_model::duration::parse(text)
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("not a duration: {text:?}; give 30s, 2m or 1h30m"))
}

impl AccessOptions {
    pub(super) fn max_in_flight(&self) -> MaxInFlight {
        MaxInFlight {
            reading: self.max_requests_inflight,
            mutating: self.max_mutating_requests_inflight,
        }
    }

    /// The issuers that the configuration names, if there is one.
    pub(super) fn configured(
        &self,
        tokens: &ServiceAccountTokens,
    ) -> anyhow::Result<Option<Arc<ConfiguredTokens>>> {
        let made = self.authentication_config.as_ref().map(|path| {
            let configured = ConfiguredTokens::from_file(path, &[tokens.issuer()]);
            configured.with_context(|| path.display().to_string())
        });
        Ok(made.transpose()?.map(Arc::new))
    }

    /// The provider of tokens that flags name, if there is one.
    pub(super) fn oidc(&self) -> anyhow::Result<Option<Arc<OidcTokens>>> {
        Ok(self.oidc.tokens()?.map(Arc::new))
    }

    /// The front proxy, certificates, tokens, then the configured issuers, the provider and the webhook if there are
    /// any. Without credentials one may come to these paths, unless the configuration says otherwise.
    pub(super) fn authenticator(
        &self,
        tokens: &Arc<ServiceAccountTokens>,
        configured: Option<&Arc<ConfiguredTokens>>,
        oidc: Option<&Arc<OidcTokens>>,
        anonymous_paths: &[&str],
        reader: &Arc<dyn ObjectReader>,
    ) -> anyhow::Result<Standard> {
        let mut known = Standard::new(Some(tokens.clone()))
            .with_first(Arc::new(RequestHeaders::new([FRONT_PROXY_CLIENT])))
            .with_anonymous_paths(anonymous_paths.iter().copied());
        if let Some(configured) = configured {
            known = known.with(configured.clone());
            if let Some(anonymous) = configured.anonymous() {
                known = known.with_anonymous(anonymous.clone());
            }
        }
        if let Some(oidc) = oidc {
            known = known.with(oidc.clone());
        }
        if let Some(file) = &self.authentication_token_webhook_config_file {
            let options = WebhookTokenOptions {
                version: self.authentication_token_webhook_version,
                cache_ttl: self.authentication_token_webhook_cache_ttl,
                audiences: tokens.api_audiences().to_vec(),
            };
            let webhook = WebhookTokens::from_file(file, options, reader.clone());
            let webhook = webhook.context("--authentication-token-webhook-config-file")?;
            known = known.with(Arc::new(webhook));
        }
        Ok(known)
    }

    /// What the configuration says; without, these two, then the webhook if there is one. And what there is to measure.
    pub(super) fn authorizer(
        &self,
        nodes: Arc<NodeAuthorizer>,
        rbac: Arc<Rbac>,
        reader: &Arc<dyn ObjectReader>,
    ) -> anyhow::Result<(Arc<dyn Authorizer>, Option<Metrics>)> {
        if let Some(path) = &self.authorization_config {
            let made = ConfiguredAuthorizers::from_file(path, nodes, rbac, reader.clone());
            let made = made.with_context(|| path.display().to_string())?;
            let metrics: Metrics = Box::new(made.metrics());
            return Ok((Arc::new(made), Some(metrics)));
        }
        let mut authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(AllowMasters), nodes, rbac];
        if let Some(file) = &self.authorization_webhook_config_file {
            let options = WebhookAuthorizerOptions {
                version: self.authorization_webhook_version,
                allowed_ttl: self.authorization_webhook_cache_authorized_ttl,
                denied_ttl: self.authorization_webhook_cache_unauthorized_ttl,
                ..WebhookAuthorizerOptions::default()
            };
            let webhook = WebhookAuthorizer::from_file(file, options, reader.clone());
            let webhook = webhook.context("--authorization-webhook-config-file")?;
            authorizers.push(Arc::new(webhook));
        }
        Ok((Arc::new(Chain::new(authorizers)), None))
    }
}
