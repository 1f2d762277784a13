//! [`ImageLocality`].

use crate::{
    framework::{CycleState, MAX_NODE_SCORE, Plugin, Score},
    snapshot::{NodeInfo, PodInfo},
};

/// Below this many bytes of a pod's images, a node gets nothing for having them.
const MIN_THRESHOLD: i64 = 23 * 1024 * 1024;
/// Above this many bytes for each container it gets full marks.
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * 1024 * 1024;

/// Prefers nodes that have a pod's images already. The numbers are upstream's.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
}

impl Score for ImageLocality {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(spec) = &pod.pod.spec else { return 0 };
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let (mut sum, mut count) = (0i64, 0i64);
        for container in containers {
            count += 1;
            let size = container
                .image
                .as_deref()
                .and_then(|i| node.images.get(i).or_else(|| node.images.get(&full(i))));
            sum = sum.saturating_add(size.copied().unwrap_or(0));
        }
        let most = MAX_CONTAINER_THRESHOLD.saturating_mul(count.max(1));
        MAX_NODE_SCORE * (sum.clamp(MIN_THRESHOLD, most) - MIN_THRESHOLD) / (most - MIN_THRESHOLD)
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
