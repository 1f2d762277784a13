//! The file's form.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ConfigError, bundle::Point, extender::ExtenderSection, invalid};
use crate::driver::LeaderElection;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    api_version: String,
    kind: String,
    parallelism: Option<i64>,
    percentage_of_nodes_to_score: Option<i64>,
    pub(super) pod_initial_backoff_seconds: Option<u64>,
    pub(super) pod_max_backoff_seconds: Option<u64>,
    #[serde(default)]
    leader_election: Option<Election>,
    #[serde(default, rename = "clientConnection")]
    _client_connection: Option<Value>,
    #[serde(default, rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(default, rename = "enableContentionProfiling")]
    _enable_contention_profiling: Option<bool>,
    #[serde(default)]
    pub(super) profiles: Vec<ProfileSection>,
    #[serde(default)]
    pub(super) extenders: Vec<ExtenderSection>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Election {
    leader_elect: Option<bool>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
    resource_lock: Option<String>,
    resource_name: Option<String>,
    resource_namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ProfileSection {
    pub(super) scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    pub(super) plugins: PluginsSection,
    pub(super) plugin_config: Vec<PluginConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PluginsSection {
    pre_enqueue: PluginSet,
    queue_sort: PluginSet,
    pre_filter: PluginSet,
    filter: PluginSet,
    post_filter: PluginSet,
    pre_score: PluginSet,
    score: PluginSet,
    reserve: PluginSet,
    permit: PluginSet,
    pre_bind: PluginSet,
    bind: PluginSet,
    post_bind: PluginSet,
    pub(super) multi_point: PluginSet,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PluginSet {
    pub(super) enabled: Vec<Named>,
    pub(super) disabled: Vec<Named>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) weight: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginConfig {
    pub(super) name: String,
    #[serde(default)]
    args: Option<Value>,
}

impl PluginConfig {
    pub(super) fn args(&self) -> Value {
        self.args.clone().unwrap_or_else(|| json!({}))
    }
}

impl PluginsSection {
    pub(super) fn points(&self) -> [(Point, &PluginSet); 12] {
        [
            (Point::PreEnqueue, &self.pre_enqueue),
            (Point::QueueSort, &self.queue_sort),
            (Point::PreFilter, &self.pre_filter),
            (Point::Filter, &self.filter),
            (Point::PostFilter, &self.post_filter),
            (Point::PreScore, &self.pre_score),
            (Point::Score, &self.score),
            (Point::Reserve, &self.reserve),
            (Point::Permit, &self.permit),
            (Point::PreBind, &self.pre_bind),
            (Point::Bind, &self.bind),
            (Point::PostBind, &self.post_bind),
        ]
    }
}

impl ProfileSection {
    pub(super) fn arguments(&self, name: &str) -> Value {
        let config = self.plugin_config.iter().find(|c| c.name == name);
        config.map_or_else(|| json!({}), PluginConfig::args)
    }

    pub(super) fn bind_timeout(&self) -> Result<Option<Duration>, ConfigError> {
        match self.arguments("VolumeBinding").get("bindTimeoutSeconds") {
            None => Ok(None),
            Some(seconds) => {
                let text = "must be greater than or equal to 0";
                let error = || invalid("pluginConfig[VolumeBinding].bindTimeoutSeconds", text);
                Ok(Some(Duration::from_secs(
                    seconds.as_u64().ok_or_else(error)?,
                )))
            }
        }
    }
}

impl File {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (version, kind) = (
            "kubescheduler.config.k8s.io/v1",
            "KubeSchedulerConfiguration",
        );
        if self.api_version != version || self.kind != kind {
            let text = format!("must be {version:?}, {kind:?}");
            return Err(invalid("apiVersion, kind", text));
        }
        if self.parallelism.is_some_and(|p| p <= 0) {
            return Err(invalid(
                "parallelism",
                "should be an integer value greater than zero",
            ));
        }
        let percentages = self.profiles.iter().map(|p| p.percentage_of_nodes_to_score);
        for percentage in percentages
            .chain([self.percentage_of_nodes_to_score])
            .flatten()
        {
            if !(0..=100).contains(&percentage) {
                return Err(invalid(
                    "percentageOfNodesToScore",
                    "not in valid range [0-100]",
                ));
            }
        }
        let initial = self.pod_initial_backoff_seconds.unwrap_or(1);
        if initial == 0 {
            return Err(invalid(
                "podInitialBackoffSeconds",
                "must be greater than 0",
            ));
        }
        if self.pod_max_backoff_seconds.unwrap_or(10).max(10) < initial
            || self
                .pod_max_backoff_seconds
                .is_some_and(|max| max < initial)
        {
            let text = "must be greater than or equal to PodInitialBackoffSeconds";
            return Err(invalid("podMaxBackoffSeconds", text));
        }
        if let Some(election) = &self.leader_election {
            for (field, value) in [
                ("leaseDuration", &election.lease_duration),
                ("renewDeadline", &election.renew_deadline),
                ("retryPeriod", &election.retry_period),
            ] {
                if value
                    .as_deref()
                    .is_some_and(|v| duration(v).is_none_or(|d| d.is_zero()))
                {
                    let text = "must be a duration greater than zero";
                    return Err(invalid(format!("leaderElection.{field}"), text));
                }
            }
            if election
                .resource_lock
                .as_deref()
                .is_some_and(|lock| lock != "leases")
            {
                return Err(invalid("leaderElection.resourceLock", "must be \"leases\""));
            }
        }
        Ok(())
    }

    /// Off unless the file says otherwise: a library does not know how many there are of it.
    pub(super) fn leader_election(&self) -> Option<LeaderElection> {
        let section = self
            .leader_election
            .as_ref()
            .filter(|e| e.leader_elect == Some(true))?;
        let mut election = LeaderElection::new("k8s-scheduler");
        let set = |to: &mut Duration, from: &Option<String>| {
            if let Some(value) = from.as_deref().and_then(duration) {
                *to = value;
            }
        };
        set(&mut election.lease_duration, &section.lease_duration);
        set(&mut election.renew_deadline, &section.renew_deadline);
        set(&mut election.retry_period, &section.retry_period);
        if let Some(name) = &section.resource_name {
            election.name.clone_from(name);
        }
        if let Some(namespace) = &section.resource_namespace {
            election.namespace.clone_from(namespace);
        }
        Some(election)
    }
}

/// A span that may be waited for.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let nanos = k8s_model::duration::parse(text)?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}
