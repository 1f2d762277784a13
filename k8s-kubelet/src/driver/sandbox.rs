//! Making a pod's sandbox.

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_runtime::{Error, NamespaceMode, SandboxConfig, SandboxStatus};
use kube::Api;

use crate::{
    context::Context,
    pod::{PodView, dns::dns_config, hosts::hostname, labels::sandbox_labels, sysctl},
};

/// What the sandbox of a pod should be.
pub(crate) fn config(
    cx: &Context,
    pod: &PodView,
    attempt: u32,
    runtime_handler: String,
) -> SandboxConfig {
    let spec = pod.spec();
    let mode = |host: Option<bool>, otherwise| {
        if host == Some(true) {
            NamespaceMode::Node
        } else {
            otherwise
        }
    };
    let own_pid = if pod.share_process_namespace() {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    let (name, domain) = hostname(pod, &cx.settings.cluster_domain);
    let full = spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty();
    let sysctls = spec
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.as_ref());
    SandboxConfig {
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        uid: pod.uid().to_owned(),
        attempt,
        hostname: match (pod.host_network(), full) {
            (true, _) => String::new(),
            (false, true) => format!("{name}.{domain}"),
            (false, false) => name,
        },
        labels: sandbox_labels(pod),
        annotations: pod.object.metadata.annotations.clone().unwrap_or_default(),
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, own_pid),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        dns: dns_config(
            pod,
            &cx.settings.cluster_dns,
            &cx.settings.cluster_domain,
            &cx.settings.node_dns,
        ),
        cgroup_parent: pod.qos().cgroup_parent(pod.uid()),
        sysctls: sysctls
            .into_iter()
            .flatten()
            .map(|s| (sysctl::dotted(&s.name), s.value.clone()))
            .collect(),
        log_directory: cx.pod_log_dir(pod),
        runtime_handler,
    }
}

/// The runtime handler that the pod's `RuntimeClass` names; empty without one.
async fn runtime_handler(cx: &Context, pod: &PodView) -> Result<String, SandboxError> {
    let class = pod.spec().runtime_class_name.as_deref();
    let Some(class) = class.filter(|name| !name.is_empty()) else {
        return Ok(String::new());
    };
    let failed = |message: String| {
        let pod = pod.describe();
        SandboxError(format!(
            "failed to create sandbox for pod {pod:?}: {message}"
        ))
    };
    match Api::<RuntimeClass>::all(cx.client.clone()).get(class).await {
        Ok(class) => Ok(class.handler),
        Err(kube::Error::Api(status)) => Err(failed(status.message.clone())),
        Err(error) => Err(failed(format!(
            "failed to lookup RuntimeClass {class}: {error}"
        ))),
    }
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SandboxError(String);

impl From<Error> for SandboxError {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// Makes it. A sandbox of the same attempt that a former kubelet left half-made is taken over.
pub(crate) async fn make(
    cx: &Context,
    pod: &PodView,
    attempt: u32,
) -> Result<SandboxStatus, SandboxError> {
    let handler = runtime_handler(cx, pod).await?;
    let config = config(cx, pod, attempt, handler);
    std::fs::create_dir_all(&config.log_directory)
        .map_err(|e| Error::io(format!("create {}", config.log_directory.display()), e))?;
    let id = cx.runtime.run_sandbox(config).await?;
    Ok(cx.runtime.sandbox(&id).await?)
}
