//! [`Hook`]: one webhook of a configuration.

use std::{sync::Arc, time::Duration};

use k8s_model::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use crate::{
    admission::{
        expressions::Condition,
        matching::{self, Rule},
    },
    webhook::{CallError, Client, ClientConfig, Clients},
};

/// One webhook of a configuration.
#[derive(Debug)]
pub(super) struct Hook {
    /// The name of the configuration.
    pub(super) configuration: String,
    /// Its own name.
    pub(super) name: String,
    /// What tells it from all others.
    pub(super) id: String,
    pub(super) rules: Vec<Rule>,
    /// Whether its rules cover other versions of what they name.
    pub(super) equivalent: bool,
    pub(super) namespace: Selector,
    pub(super) object: Selector,
    pub(super) conditions: Vec<Condition>,
    /// Whether a request goes on if it does not answer.
    pub(super) fails_open: bool,
    /// Whether it is asked again if the object changes after it.
    pub(super) reinvocable: bool,
    /// Whether it may be asked though nothing will be stored.
    pub(super) dry_runs: bool,
    pub(super) timeout: Duration,
    /// The version of reviews that it is sent, if it takes one that is known here.
    pub(super) review: Option<&'static str>,
    pub(super) client: Result<Arc<Client>, CallError>,
}

/// A configuration of either sort, as it is stored.
#[derive(Deserialize)]
pub(super) struct Configuration {
    #[serde(default)]
    metadata: Metadata,
    webhooks: Option<Vec<Wire>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    name: String,
    #[serde(default)]
    client_config: ClientConfig,
    #[serde(default)]
    rules: Vec<Rule>,
    match_policy: Option<String>,
    namespace_selector: Option<LabelSelector>,
    object_selector: Option<LabelSelector>,
    #[serde(default)]
    match_conditions: Vec<Condition>,
    failure_policy: Option<String>,
    reinvocation_policy: Option<String>,
    #[serde(default)]
    side_effects: String,
    timeout_seconds: Option<u64>,
    #[serde(default)]
    admission_review_versions: Vec<String>,
}

impl Configuration {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its webhooks, in order.
    pub(super) fn into_hooks(self, clients: &Clients) -> Vec<Arc<Hook>> {
        let configuration = self.metadata.name;
        let hooks = self.webhooks.into_iter().flatten().enumerate();
        hooks
            .map(|(i, wire)| {
                let versions = wire.admission_review_versions.iter();
                Arc::new(Hook {
                    id: format!("{configuration}/{}/{i}", wire.name),
                    configuration: configuration.clone(),
                    client: clients.get(&wire.client_config),
                    name: wire.name,
                    rules: wire.rules,
                    equivalent: wire.match_policy.as_deref() != Some("Exact"),
                    namespace: matching::selector(wire.namespace_selector.as_ref()),
                    object: matching::selector(wire.object_selector.as_ref()),
                    conditions: wire.match_conditions,
                    fails_open: wire.failure_policy.as_deref() == Some("Ignore"),
                    reinvocable: wire.reinvocation_policy.as_deref() == Some("IfNeeded"),
                    dry_runs: matches!(wire.side_effects.as_str(), "None" | "NoneOnDryRun"),
                    timeout: Duration::from_secs(wire.timeout_seconds.unwrap_or(10)),
                    review: versions
                        .filter_map(|version| match version.as_str() {
                            "v1" => Some("v1"),
                            "v1beta1" => Some("v1beta1"),
                            _ => None,
                        })
                        .next(),
                })
            })
            .collect()
    }
}
