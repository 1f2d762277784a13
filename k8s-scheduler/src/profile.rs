//! [`Profile`]: which plugins a scheduler has.

use std::sync::Arc;

use crate::{
    framework::{
        Bind, Filter, Permit, Plugin, PostBind, PostFilter, PreBind, PreEnqueue, PreFilter,
        PreScore, QueueSort, Reserve, Score,
    },
    plugins,
};

/// The scheduler that takes pods that name no other.
pub const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";

/// Plugins by extension point, in the order in which they are called.
///
/// [`Profile::default`] has upstream's default plugins, as far as this crate has them, with upstream's
/// weights. Building is by value:
///
/// ```
/// use std::sync::Arc;
/// use k8s_scheduler::{Profile, plugins::{NodeResourcesFit, PrioritySort}};
///
/// let profile = Profile::empty("bin-packer", Arc::new(PrioritySort))
///     .with_filter(Arc::new(NodeResourcesFit::most_allocated()))
///     .with_score(Arc::new(NodeResourcesFit::most_allocated()), 1);
/// assert_eq!(profile.scheduler_name(), "bin-packer");
/// ```
#[derive(Clone, Debug)]
pub struct Profile {
    scheduler_name: String,
    pub(crate) queue_sort: Arc<dyn QueueSort>,
    pub(crate) pre_enqueue: Vec<Arc<dyn PreEnqueue>>,
    pub(crate) pre_filter: Vec<Arc<dyn PreFilter>>,
    pub(crate) filter: Vec<Arc<dyn Filter>>,
    pub(crate) post_filter: Vec<Arc<dyn PostFilter>>,
    pub(crate) pre_score: Vec<Arc<dyn PreScore>>,
    pub(crate) score: Vec<(Arc<dyn Score>, i64)>,
    pub(crate) reserve: Vec<Arc<dyn Reserve>>,
    pub(crate) permit: Vec<Arc<dyn Permit>>,
    pub(crate) pre_bind: Vec<Arc<dyn PreBind>>,
    pub(crate) bind: Vec<Arc<dyn Bind>>,
    pub(crate) post_bind: Vec<Arc<dyn PostBind>>,
}

macro_rules! with {
    ($($(#[$doc:meta])* $name:ident $field:ident $point:ident;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, plugin: Arc<dyn $point>) -> Self {
            self.$field.push(plugin);
            self
        })*
    };
}

impl Profile {
    /// A profile with nothing but a name and an order: every node fits every pod, and nobody binds.
    /// The driver binds through the API if no Bind plugin did.
    pub fn empty(scheduler_name: impl Into<String>, queue_sort: Arc<dyn QueueSort>) -> Self {
        Self {
            scheduler_name: scheduler_name.into(),
            queue_sort,
            pre_enqueue: Vec::new(),
            pre_filter: Vec::new(),
            filter: Vec::new(),
            post_filter: Vec::new(),
            pre_score: Vec::new(),
            score: Vec::new(),
            reserve: Vec::new(),
            permit: Vec::new(),
            pre_bind: Vec::new(),
            bind: Vec::new(),
            post_bind: Vec::new(),
        }
    }

    /// The value of `spec.schedulerName` of the pods that it takes.
    pub fn scheduler_name(&self) -> &str {
        &self.scheduler_name
    }

    with! {
        /// Adds a plugin at PreEnqueue.
        with_pre_enqueue pre_enqueue PreEnqueue;
        /// Adds a plugin at PreFilter.
        with_pre_filter pre_filter PreFilter;
        /// Adds a plugin at Filter.
        with_filter filter Filter;
        /// Adds a plugin at PostFilter.
        with_post_filter post_filter PostFilter;
        /// Adds a plugin at PreScore.
        with_pre_score pre_score PreScore;
        /// Adds a plugin at Reserve.
        with_reserve reserve Reserve;
        /// Adds a plugin at Permit.
        with_permit permit Permit;
        /// Adds a plugin at PreBind.
        with_pre_bind pre_bind PreBind;
        /// Adds a plugin at Bind.
        with_bind bind Bind;
        /// Adds a plugin at PostBind.
        with_post_bind post_bind PostBind;
    }

    /// Adds a plugin at Score, whose scores count `weight` times.
    #[must_use]
    pub fn with_score(mut self, plugin: Arc<dyn Score>, weight: i64) -> Self {
        self.score.push((plugin, weight));
        self
    }

    /// The same plugins under another scheduler's name.
    #[must_use]
    pub fn with_name(mut self, scheduler_name: impl Into<String>) -> Self {
        self.scheduler_name = scheduler_name.into();
        self
    }

    /// The plugin of that name, at whatever point that can turn a pod away.
    pub(crate) fn plugin(&self, name: &str) -> Option<&dyn Plugin> {
        let pre_filter = self.pre_filter.iter().map(|p| p.as_ref() as &dyn Plugin);
        let filter = self.filter.iter().map(|p| p.as_ref() as &dyn Plugin);
        let reserve = self.reserve.iter().map(|p| p.as_ref() as &dyn Plugin);
        let permit = self.permit.iter().map(|p| p.as_ref() as &dyn Plugin);
        let pre_enqueue = self.pre_enqueue.iter().map(|p| p.as_ref() as &dyn Plugin);
        pre_filter
            .chain(filter)
            .chain(reserve)
            .chain(permit)
            .chain(pre_enqueue)
            .find(|p| p.name() == name)
    }
}

impl Default for Profile {
    fn default() -> Self {
        let affinity = Arc::new(plugins::NodeAffinity::default());
        let taints = Arc::new(plugins::TaintToleration);
        let ports = Arc::new(plugins::NodePorts);
        let name = Arc::new(plugins::NodeName);
        let images = Arc::new(plugins::ImageLocality);
        let fit = Arc::new(plugins::NodeResourcesFit::least_allocated());
        let balanced = Arc::new(plugins::NodeResourcesBalancedAllocation::default());
        let restrictions = Arc::new(plugins::VolumeRestrictions);
        let limits = Arc::new(plugins::NodeVolumeLimits);
        let volumes = Arc::new(plugins::VolumeBinding::default());
        let zones = Arc::new(plugins::VolumeZone);
        let spread = Arc::new(plugins::PodTopologySpread::default());
        let company = Arc::new(plugins::InterPodAffinity::default());
        let devices = Arc::new(plugins::DynamicResources::default());
        Self::empty(DEFAULT_SCHEDULER_NAME, Arc::new(plugins::PrioritySort))
            .with_pre_enqueue(Arc::new(plugins::SchedulingGates))
            .with_pre_enqueue(devices.clone())
            .with_pre_filter(name.clone())
            .with_pre_filter(affinity.clone())
            .with_pre_filter(ports.clone())
            .with_pre_filter(restrictions.clone())
            .with_pre_filter(limits.clone())
            .with_pre_filter(volumes.clone())
            .with_pre_filter(zones.clone())
            .with_pre_filter(spread.clone())
            .with_pre_filter(company.clone())
            .with_pre_filter(devices.clone())
            .with_filter(Arc::new(plugins::NodeUnschedulable))
            .with_filter(name)
            .with_filter(taints.clone())
            .with_filter(affinity.clone())
            .with_filter(ports)
            .with_filter(fit.clone())
            .with_filter(restrictions)
            .with_filter(limits)
            .with_filter(volumes.clone())
            .with_filter(zones)
            .with_filter(spread.clone())
            .with_filter(company.clone())
            .with_filter(devices.clone())
            .with_post_filter(devices.clone())
            .with_post_filter(Arc::new(plugins::DefaultPreemption::default()))
            .with_pre_score(affinity.clone())
            .with_pre_score(spread.clone())
            .with_pre_score(company.clone())
            .with_pre_score(devices.clone())
            .with_pre_score(images.clone())
            .with_reserve(volumes.clone())
            .with_reserve(devices.clone())
            .with_pre_bind(volumes)
            .with_pre_bind(devices.clone())
            .with_score(taints, 3)
            .with_score(affinity, 2)
            .with_score(fit, 1)
            .with_score(spread, 2)
            .with_score(company, 2)
            .with_score(devices, 2)
            .with_score(balanced, 1)
            .with_score(images, 1)
    }
}

/// The profiles of one scheduler, by name. All of them share one queue, ordered as the first one says.
#[derive(Clone, Debug)]
pub struct Profiles {
    first: Arc<Profile>,
    others: Vec<Arc<Profile>>,
}

impl From<Profile> for Profiles {
    fn from(profile: Profile) -> Self {
        Arc::new(profile).into()
    }
}

impl From<Arc<Profile>> for Profiles {
    fn from(first: Arc<Profile>) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }
}

impl Profiles {
    /// Adds a profile, in place of an earlier one of its name.
    #[must_use]
    pub fn with(mut self, profile: Profile) -> Self {
        let profile = Arc::new(profile);
        if self.first.scheduler_name == profile.scheduler_name {
            self.first = profile;
            return self;
        }
        self.others
            .retain(|p| p.scheduler_name != profile.scheduler_name);
        self.others.push(profile);
        self
    }

    /// The profile of that name.
    pub fn get(&self, scheduler_name: &str) -> Option<&Arc<Profile>> {
        self.iter().find(|p| p.scheduler_name == scheduler_name)
    }

    /// The first one.
    pub fn first(&self) -> &Arc<Profile> {
        &self.first
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}
