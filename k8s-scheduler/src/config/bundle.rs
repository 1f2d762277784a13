//! [`Bundle`]: one plugin at all the points that it extends.

use std::sync::Arc;

use serde_json::Value;

use super::{ConfigError, arguments, invalid};
use crate::{
    framework::{
        Bind, Filter, Permit, PostBind, PostFilter, PreBind, PreEnqueue, PreFilter, PreScore,
        QueueSort, Reserve, Score,
    },
    plugins,
    profile::Profile,
};

/// An extension point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

/// One plugin, at all the points that it extends: what a [`Factory`](super::Factory) makes.
///
/// ```
/// use std::sync::Arc;
/// use k8s_scheduler::{config::Bundle, plugins::NodeResourcesFit};
///
/// let fit = Arc::new(NodeResourcesFit::most_allocated());
/// let bundle = Bundle::default().filter(fit.clone()).score(fit);
/// # let _ = bundle;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    pre_enqueue: Option<Arc<dyn PreEnqueue>>,
    queue_sort: Option<Arc<dyn QueueSort>>,
    pre_filter: Option<Arc<dyn PreFilter>>,
    filter: Option<Arc<dyn Filter>>,
    post_filter: Option<Arc<dyn PostFilter>>,
    pre_score: Option<Arc<dyn PreScore>>,
    score: Option<Arc<dyn Score>>,
    reserve: Option<Arc<dyn Reserve>>,
    permit: Option<Arc<dyn Permit>>,
    pre_bind: Option<Arc<dyn PreBind>>,
    bind: Option<Arc<dyn Bind>>,
    post_bind: Option<Arc<dyn PostBind>>,
}

macro_rules! points {
    ($($(#[$doc:meta])* $field:ident $point:ident;)*) => {
        impl Bundle {
            $($(#[$doc])*
            #[must_use]
            pub fn $field(mut self, plugin: Arc<dyn $point>) -> Self {
                self.$field = Some(plugin);
                self
            })*

            /// Whether the plugin extends a point.
            pub(super) fn extends(&self, point: Point) -> bool {
                match point {
                    $(Point::$point => self.$field.is_some(),)*
                }
            }
        }
    };
}

points! {
    /// Extends PreEnqueue.
    pre_enqueue PreEnqueue;
    /// Extends QueueSort.
    queue_sort QueueSort;
    /// Extends PreFilter.
    pre_filter PreFilter;
    /// Extends Filter.
    filter Filter;
    /// Extends PostFilter.
    post_filter PostFilter;
    /// Extends PreScore.
    pre_score PreScore;
    /// Extends Score.
    score Score;
    /// Extends Reserve.
    reserve Reserve;
    /// Extends Permit.
    permit Permit;
    /// Extends PreBind.
    pre_bind PreBind;
    /// Extends Bind.
    bind Bind;
    /// Extends PostBind.
    post_bind PostBind;
}

impl Bundle {
    /// Puts the plugin at a point of a profile, if it extends that.
    pub(super) fn extend(&self, mut profile: Profile, point: Point, weight: i64) -> Profile {
        match point {
            Point::PreEnqueue => profile.pre_enqueue.extend(self.pre_enqueue.clone()),
            Point::QueueSort => {
                if let Some(sort) = &self.queue_sort {
                    profile.queue_sort = sort.clone();
                }
            }
            Point::PreFilter => profile.pre_filter.extend(self.pre_filter.clone()),
            Point::Filter => profile.filter.extend(self.filter.clone()),
            Point::PostFilter => profile.post_filter.extend(self.post_filter.clone()),
            Point::PreScore => profile.pre_score.extend(self.pre_score.clone()),
            Point::Score => {
                let score = self.score.clone();
                profile.score.extend(score.map(|score| (score, weight)));
            }
            Point::Reserve => profile.reserve.extend(self.reserve.clone()),
            Point::Permit => profile.permit.extend(self.permit.clone()),
            Point::PreBind => profile.pre_bind.extend(self.pre_bind.clone()),
            Point::Bind => profile.bind.extend(self.bind.clone()),
            Point::PostBind => profile.post_bind.extend(self.post_bind.clone()),
        }
        profile
    }
}

/// A bundled plugin by its name; `None` if there is no such plugin.
pub(super) fn bundled(
    name: &str,
    arguments: &Value,
    devices: &Arc<plugins::DynamicResources>,
) -> Result<Option<Bundle>, ConfigError> {
    let new = Bundle::default;
    let explain = |text: String| invalid(format!("pluginConfig[{name}]"), text);
    Ok(Some(match name {
        "SchedulingGates" => new().pre_enqueue(Arc::new(plugins::SchedulingGates)),
        "PrioritySort" => new().queue_sort(Arc::new(plugins::PrioritySort)),
        "NodeUnschedulable" => new().filter(Arc::new(plugins::NodeUnschedulable)),
        "NodeName" => {
            let plugin = Arc::new(plugins::NodeName);
            new().pre_filter(plugin.clone()).filter(plugin)
        }
        "TaintToleration" => {
            let plugin = Arc::new(plugins::TaintToleration);
            new().filter(plugin.clone()).score(plugin)
        }
        "NodeAffinity" => {
            let plugin = Arc::new(arguments::node_affinity(arguments).map_err(explain)?);
            let bundle = new().pre_filter(plugin.clone()).filter(plugin.clone());
            bundle.pre_score(plugin.clone()).score(plugin)
        }
        "NodePorts" => {
            let plugin = Arc::new(plugins::NodePorts);
            new().pre_filter(plugin.clone()).filter(plugin)
        }
        "NodeResourcesFit" => {
            let plugin = Arc::new(arguments::fit(arguments).map_err(explain)?);
            new().filter(plugin.clone()).score(plugin)
        }
        "NodeResourcesBalancedAllocation" => {
            new().score(Arc::new(arguments::balanced(arguments).map_err(explain)?))
        }
        "VolumeRestrictions" => {
            let plugin = Arc::new(plugins::VolumeRestrictions);
            new().pre_filter(plugin.clone()).filter(plugin)
        }
        "NodeVolumeLimits" => {
            let plugin = Arc::new(plugins::NodeVolumeLimits);
            new().pre_filter(plugin.clone()).filter(plugin)
        }
        "VolumeBinding" => {
            let plugin = Arc::new(plugins::VolumeBinding::default());
            let bundle = new().pre_filter(plugin.clone()).filter(plugin.clone());
            bundle.reserve(plugin.clone()).pre_bind(plugin)
        }
        "VolumeZone" => {
            let plugin = Arc::new(plugins::VolumeZone);
            new().pre_filter(plugin.clone()).filter(plugin)
        }
        "PodTopologySpread" => {
            let plugin = Arc::new(arguments::spread(arguments).map_err(explain)?);
            let bundle = new().pre_filter(plugin.clone()).filter(plugin.clone());
            bundle.pre_score(plugin.clone()).score(plugin)
        }
        "InterPodAffinity" => {
            let plugin = Arc::new(arguments::inter_pod_affinity(arguments).map_err(explain)?);
            let bundle = new().pre_filter(plugin.clone()).filter(plugin.clone());
            bundle.pre_score(plugin.clone()).score(plugin)
        }
        "DynamicResources" => {
            let plugin = || devices.clone();
            let bundle = new().pre_enqueue(plugin()).pre_filter(plugin());
            let bundle = bundle.filter(plugin()).post_filter(plugin());
            let bundle = bundle.pre_score(plugin()).score(plugin());
            bundle.reserve(plugin()).pre_bind(plugin())
        }
        "DefaultPreemption" => {
            new().post_filter(Arc::new(arguments::preemption(arguments).map_err(explain)?))
        }
        "ImageLocality" => {
            let plugin = Arc::new(plugins::ImageLocality);
            new().pre_score(plugin.clone()).score(plugin)
        }
        "GangScheduling" => new().permit(Arc::new(plugins::GangScheduling::default())),
        _ => return Ok(None),
    }))
}
