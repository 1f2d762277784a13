//! [`Configuration`]: a scheduler as a `KubeSchedulerConfiguration` file describes it.

mod arguments;
mod bundle;
mod extender;
mod file;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::Value;

pub use bundle::Bundle;
use bundle::{Point, bundled};
use extender::extenders;
use file::{File, PluginSet, ProfileSection};

use crate::{
    driver::{DriverConfig, LeaderElection},
    plugins,
    profile::{DEFAULT_SCHEDULER_NAME, Profile, Profiles},
    queue::Backoff,
};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no YAML or JSON of this form.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A field has a value that makes no sense.
    #[error("{field}: {text}")]
    Invalid {
        /// The field's path.
        field: String,
        /// What is wrong with it.
        text: String,
    },
}

pub(crate) fn invalid(field: impl Into<String>, text: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        field: field.into(),
        text: text.into(),
    }
}

/// Makes a plugin from its arguments, an object that may be empty.
pub type Factory = Arc<dyn Fn(&Value) -> Result<Bundle, String> + Send + Sync>;

/// The plugins that a configuration may name: the bundled ones, and those that are added here.
#[derive(Clone, Default)]
pub struct Registry {
    factories: BTreeMap<String, Factory>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.factories.keys()).finish()
    }
}

impl Registry {
    /// Adds a plugin, by the name that configurations call it by.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, factory: Factory) -> Self {
        self.factories.insert(name.into(), factory);
        self
    }

    fn make(
        &self,
        name: &str,
        arguments: &Value,
        devices: &Arc<plugins::DynamicResources>,
    ) -> Result<Option<Bundle>, ConfigError> {
        if let Some(factory) = self.factories.get(name) {
            let made =
                factory(arguments).map_err(|text| invalid(format!("pluginConfig[{name}]"), text));
            return made.map(Some);
        }
        bundled(name, arguments, devices)
    }
}

/// Profiles and settings from a file in upstream's format (`kubescheduler.config.k8s.io/v1`).
///
/// ```
/// use k8s_scheduler::config::{Configuration, Registry};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let configuration = Configuration::parse(
///     "apiVersion: kubescheduler.config.k8s.io/v1
/// kind: KubeSchedulerConfiguration
/// profiles:
/// - schedulerName: default-scheduler
/// - schedulerName: bin-packer
///   plugins:
///     score:
///       disabled: [{name: NodeResourcesBalancedAllocation}]
///   pluginConfig:
///   - name: NodeResourcesFit
///     args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
/// ",
///     &Registry::default(),
/// )?;
/// assert!(configuration.profiles.get("bin-packer").is_some());
/// # Ok(())
/// # }
/// ```
///
/// Every node is considered for every pod: `percentageOfNodesToScore` is checked and has no effect, nor has
/// `parallelism`. `clientConnection` is the business of whoever makes the client.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The profiles.
    pub profiles: Profiles,
    /// The driver's settings.
    pub driver: DriverConfig,
}

impl Configuration {
    /// Reads the text of a file, YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says which field is wrong.
    pub fn parse(text: &str, registry: &Registry) -> Result<Self, ConfigError> {
        let file: File =
            serde_saphyr::from_str(text).map_err(|e| ConfigError::Malformed(e.to_string()))?;
        file.check()?;
        let sections = if file.profiles.is_empty() {
            vec![ProfileSection::default()]
        } else {
            file.profiles.clone()
        };
        let ignored = file.extenders.iter().flat_map(|e| e.ignored());
        let ignored: Vec<&str> = ignored.collect();
        let mut profiles: Option<Profiles> = None;
        let mut bind_timeout = Duration::from_secs(600);
        // What is given away is known to all profiles.
        let devices = Arc::default();
        for (i, section) in sections.iter().enumerate() {
            let path = format!("profiles[{i}]");
            if let Some(timeout) = section.bind_timeout()? {
                bind_timeout = timeout;
            }
            let profile = build(section, &path, registry, &ignored, &devices)?;
            profiles = Some(match profiles {
                None => profile.into(),
                Some(before) if before.get(profile.scheduler_name()).is_some() => {
                    let name = profile.scheduler_name();
                    let text = format!("Duplicate value: {name:?}");
                    return Err(invalid(format!("{path}.schedulerName"), text));
                }
                Some(before) if before.first().queue_sort.name() != profile.queue_sort.name() => {
                    let text = "queueSort must be the same for all profiles";
                    return Err(invalid(format!("{path}.plugins.queueSort"), text));
                }
                Some(before) => before.with(profile),
            });
        }
        let profiles = profiles.ok_or_else(|| invalid("profiles", "Required value"))?;
        let driver = DriverConfig {
            backoff: Backoff {
                initial: Duration::from_secs(file.pod_initial_backoff_seconds.unwrap_or(1)),
                max: Duration::from_secs(file.pod_max_backoff_seconds.unwrap_or(10)),
                ..Backoff::default()
            },
            bind_timeout,
            leader_election: file.leader_election(),
            extenders: extenders(&file.extenders)?,
            ..DriverConfig::default()
        };
        Ok(Self { profiles, driver })
    }

    /// The same where a leader is elected, with who this is; without an election, nothing changes.
    #[must_use]
    pub fn with_identity(mut self, identity: impl Into<String>) -> Self {
        if let Some(election) = &mut self.driver.leader_election {
            *election = LeaderElection {
                identity: identity.into(),
                ..election.clone()
            };
        }
        self
    }
}

/// Upstream's default plugins with their weights, in their order.
const DEFAULTS: [(&str, i64); 18] = [
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DynamicResources", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
];

/// Upstream's binder: what the driver does where no plugin binds.
const DEFAULT_BINDER: &str = "DefaultBinder";

/// A list of plugins after a set of changes: what is disabled goes, what is enabled comes last or has
/// another weight.
fn changed(mut list: Vec<(String, i64)>, set: &PluginSet) -> Vec<(String, i64)> {
    let is_off = |name: &str| set.disabled.iter().any(|d| d.name == "*" || d.name == name);
    list.retain(|(name, _)| !is_off(name));
    for plugin in &set.enabled {
        let weight = plugin.weight.unwrap_or(0);
        match list.iter_mut().find(|(name, _)| *name == plugin.name) {
            Some(known) if weight > 0 => known.1 = weight,
            Some(_) => {}
            None => list.push((plugin.name.clone(), weight)),
        }
    }
    list
}

/// Has NodeResourcesFit leave resources aside that an extender looks after.
fn leave_to_extenders(arguments: &mut Value, resources: &[&str]) {
    if resources.is_empty() {
        return;
    }
    if let Some(fields) = arguments.as_object_mut() {
        let list = fields.entry("ignoredResources").or_insert(Value::Null);
        if list.is_null() {
            *list = Value::Array(Vec::new());
        }
        if let Some(list) = list.as_array_mut() {
            list.extend(resources.iter().map(|r| Value::from(*r)));
        }
    }
}

fn build(
    section: &ProfileSection,
    path: &str,
    registry: &Registry,
    ignored: &[&str],
    devices: &Arc<plugins::DynamicResources>,
) -> Result<Profile, ConfigError> {
    let defaults = DEFAULTS
        .iter()
        .map(|(name, weight)| ((*name).to_owned(), *weight));
    let everywhere = changed(defaults.collect(), &section.plugins.multi_point);
    let mut bundles: BTreeMap<String, Bundle> = BTreeMap::new();
    let sets = section.plugins.points();
    let named = sets
        .iter()
        .flat_map(|(_, set)| set.enabled.iter().map(|p| p.name.clone()));
    for name in everywhere.iter().map(|(name, _)| name.clone()).chain(named) {
        if name == DEFAULT_BINDER || bundles.contains_key(&name) {
            continue;
        }
        let mut arguments = section.arguments(&name);
        if name == "NodeResourcesFit" {
            leave_to_extenders(&mut arguments, ignored);
        }
        let bundle = registry.make(&name, &arguments, devices)?;
        let unknown = || {
            invalid(
                format!("{path}.plugins"),
                format!("plugin {name:?} does not exist"),
            )
        };
        bundles.insert(name.clone(), bundle.ok_or_else(unknown)?);
    }
    for argument in &section.plugin_config {
        if argument.name != DEFAULT_BINDER
            && registry
                .make(&argument.name, &argument.args(), devices)?
                .is_none()
        {
            let text = format!("plugin {:?} does not exist", argument.name);
            return Err(invalid(format!("{path}.pluginConfig"), text));
        }
    }
    let name = section
        .scheduler_name
        .as_deref()
        .unwrap_or(DEFAULT_SCHEDULER_NAME);
    let mut profile = Profile::empty(name, Arc::new(plugins::PrioritySort));
    for (point, set) in sets {
        // Those named for a point come before those that extend whatever they can.
        let own = changed(Vec::new(), set);
        let is_off = |name: &str| set.disabled.iter().any(|d| d.name == "*" || d.name == name);
        let others = everywhere
            .iter()
            .filter(|(name, _)| !is_off(name) && !own.iter().any(|(n, _)| n == name));
        for (name, weight) in own.iter().chain(others) {
            let Some(bundle) = bundles.get(name) else {
                continue;
            };
            let is_own = own.iter().any(|(n, _)| n == name);
            if is_own && !bundle.extends(point) {
                let text = format!("plugin {name:?} does not extend {} plugin", point.name());
                return Err(invalid(format!("{path}.plugins.{}", point.name()), text));
            }
            profile = bundle.extend(profile, point, (*weight).max(1));
        }
    }
    Ok(profile)
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Point::PreEnqueue => "preEnqueue",
            Point::QueueSort => "queueSort",
            Point::PreFilter => "preFilter",
            Point::Filter => "filter",
            Point::PostFilter => "postFilter",
            Point::PreScore => "preScore",
            Point::Score => "score",
            Point::Reserve => "reserve",
            Point::Permit => "permit",
            Point::PreBind => "preBind",
            Point::Bind => "bind",
            Point::PostBind => "postBind",
        }
    }
}

#[cfg(test)]
mod tests;
