//! [`ImageLocality`].

use crate::{
    framework::{CycleState, Feasible, MAX_NODE_SCORE, Plugin, PreScore, Scope, Score, Status},
    snapshot::{NodeInfo, PodInfo},
};

/// Below this many bytes of a pod's images, a node gets nothing for having them.
const MIN_THRESHOLD: i64 = 23 * 1024 * 1024;
/// Above this many bytes for each container it gets full marks.
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * 1024 * 1024;

/// Prefers nodes that have a pod's images already; images that few nodes have count for less, so that
/// pods do not heap up there. The numbers are upstream's.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageLocality;

/// An image of the pod, and the share of nodes that have it.
#[derive(Clone, Debug)]
struct Wanted(Vec<(String, f64)>);

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn scope(&self) -> Scope {
        Scope::Node
    }
}

impl PreScore for ImageLocality {
    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Feasible<'_>,
    ) -> Result<bool, Status> {
        let snapshot = nodes.snapshot();
        let all = snapshot.len().max(1) as f64;
        let images = pod.node_shape().images.iter().filter_map(|image| {
            let full = full(image);
            let count = snapshot.nodes_with_image(&full);
            (count > 0).then(|| (full, count as f64 / all))
        });
        let wanted: Vec<(String, f64)> = images.collect();
        let applies = !wanted.is_empty();
        if applies {
            state.put(Wanted(wanted));
        }
        Ok(applies)
    }
}

impl Score for ImageLocality {
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Wanted(wanted)) = state.get() else {
            return 0;
        };
        let mut sum = 0i64;
        for (image, share) in wanted {
            let size = node.image_size(image).unwrap_or(0);
            sum = sum.saturating_add((size as f64 * share) as i64);
        }
        let count = i64::try_from(pod.node_shape().images.len()).unwrap_or(i64::MAX);
        let most = MAX_CONTAINER_THRESHOLD.saturating_mul(count.max(1));
        let span = i128::from(most - MIN_THRESHOLD);
        let part = i128::from(sum.clamp(MIN_THRESHOLD, most) - MIN_THRESHOLD);
        i64::try_from(i128::from(MAX_NODE_SCORE) * part / span).unwrap_or(0)
    }
}

/// The reference with the tag that it means.
fn full(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}
