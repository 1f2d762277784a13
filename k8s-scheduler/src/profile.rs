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

    /// The plugin of that name, at whatever point that can turn a pod away.
    pub(crate) fn plugin(&self, name: &str) -> Option<&dyn Plugin> {
        let pre_filter = self.pre_filter.iter().map(|p| p.as_ref() as &dyn Plugin);
        let filter = self.filter.iter().map(|p| p.as_ref() as &dyn Plugin);
        let reserve = self.reserve.iter().map(|p| p.as_ref() as &dyn Plugin);
        let permit = self.permit.iter().map(|p| p.as_ref() as &dyn Plugin);
        pre_filter
            .chain(filter)
            .chain(reserve)
            .chain(permit)
            .find(|p| p.name() == name)
    }
}

impl Default for Profile {
    fn default() -> Self {
        let affinity = Arc::new(plugins::NodeAffinity);
        let taints = Arc::new(plugins::TaintToleration);
        let fit = Arc::new(plugins::NodeResourcesFit::least_allocated());
        Self::empty(DEFAULT_SCHEDULER_NAME, Arc::new(plugins::PrioritySort))
            .with_pre_enqueue(Arc::new(plugins::SchedulingGates))
            .with_pre_filter(affinity.clone())
            .with_filter(Arc::new(plugins::NodeUnschedulable))
            .with_filter(Arc::new(plugins::NodeName))
            .with_filter(taints.clone())
            .with_filter(affinity.clone())
            .with_filter(Arc::new(plugins::NodePorts))
            .with_filter(fit.clone())
            .with_score(taints, 3)
            .with_score(affinity, 2)
            .with_score(fit, 1)
            .with_score(Arc::new(plugins::NodeResourcesBalancedAllocation), 1)
            .with_score(Arc::new(plugins::ImageLocality), 1)
    }
}
