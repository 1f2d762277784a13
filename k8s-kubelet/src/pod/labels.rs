//! Labels and annotations by which the kubelet finds its own containers again after a restart.
//! The names are upstream's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use k8s_runtime::{ContainerConfig, ContainerStatus};

use super::PodView;

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const MESSAGE_FILE: &str = "io.kubernetes.container.terminationMessageFile";
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
const IMAGE: &str = "io.kubernetes.container.imageName";

/// A sandbox's labels: the pod's own and who it is.
pub(crate) fn sandbox_labels(pod: &PodView) -> BTreeMap<String, String> {
    let mut labels = pod.object.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    labels
}

fn identity(pod: &PodView) -> [(String, String); 3] {
    [
        (POD_NAME.to_owned(), pod.name().to_owned()),
        (POD_NAMESPACE.to_owned(), pod.namespace().to_owned()),
        (POD_UID.to_owned(), pod.uid().to_owned()),
    ]
}

pub(crate) fn container_labels(pod: &PodView, container: &Container) -> BTreeMap<String, String> {
    identity(pod)
        .into_iter()
        .chain([(CONTAINER_NAME.to_owned(), container.name.clone())])
        .collect()
}

/// What must be known about a container when its pod is gone.
pub(crate) fn container_annotations(
    pod: &PodView,
    container: &Container,
    restart_count: u32,
    image_name: &str,
    message_file: Option<&str>,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([
        (HASH.to_owned(), hash(container)),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (MESSAGE_PATH.to_owned(), message_path(container).to_owned()),
        (
            MESSAGE_POLICY.to_owned(),
            container
                .termination_message_policy
                .clone()
                .unwrap_or_else(|| "File".to_owned()),
        ),
        (IMAGE.to_owned(), image_name.to_owned()),
        (
            GRACE.to_owned(),
            pod.spec()
                .termination_grace_period_seconds
                .unwrap_or(30)
                .to_string(),
        ),
    ]);
    if let Some(file) = message_file {
        out.insert(MESSAGE_FILE.to_owned(), file.to_owned());
    }
    out
}

pub(crate) fn message_path(container: &Container) -> &str {
    container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log")
}

/// Changes when a container has to be replaced. Only the image of a running pod's container can
/// change, so only it and the name count, as upstream since v1.31.
pub(crate) fn hash(container: &Container) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let image = container.image.as_deref().unwrap_or_default();
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}

/// What the kubelet wrote on a container.
pub(crate) trait Annotated {
    fn hash(&self) -> &str;
    fn restart_count(&self) -> u32;
    fn image_name(&self) -> &str;
    fn message_file(&self) -> Option<&str>;
    fn falls_back_to_logs(&self) -> bool;
    fn grace_seconds(&self) -> i64;
}

impl Annotated for ContainerConfig {
    fn hash(&self) -> &str {
        self.annotations.get(HASH).map_or("", String::as_str)
    }

    fn restart_count(&self) -> u32 {
        self.annotations
            .get(RESTART_COUNT)
            .and_then(|v| v.parse().ok())
            .unwrap_or(self.attempt)
    }

    fn image_name(&self) -> &str {
        self.annotations
            .get(IMAGE)
            .map_or(self.image.as_str(), String::as_str)
    }

    fn message_file(&self) -> Option<&str> {
        self.annotations.get(MESSAGE_FILE).map(String::as_str)
    }

    fn falls_back_to_logs(&self) -> bool {
        self.annotations
            .get(MESSAGE_POLICY)
            .is_some_and(|p| p == "FallbackToLogsOnError")
    }

    fn grace_seconds(&self) -> i64 {
        self.annotations
            .get(GRACE)
            .and_then(|v| v.parse().ok())
            .unwrap_or(30)
    }
}

/// The UID of the pod that a container belongs to.
pub(crate) fn pod_uid(container: &ContainerStatus) -> &str {
    container
        .config
        .labels
        .get(POD_UID)
        .map_or("", String::as_str)
}

/// The name of the pod's container.
pub(crate) fn container_name(container: &ContainerStatus) -> &str {
    container
        .config
        .labels
        .get(CONTAINER_NAME)
        .unwrap_or(&container.config.name)
}
