//! Starting one container: image, configuration, creation, start, `postStart`.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Secret};
use k8s_runtime::{ContainerConfig, ContainerStatus, Error, Image, Mount, Propagation, SandboxId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Message, kill};
use crate::{
    context::Context,
    events::Kind,
    hooks, images,
    pod::{
        ContainerKind, PodView,
        env::{self, Env, EnvInput, EnvSources},
        expansion::expand,
        hosts::hosts_file,
        labels,
        resources::container_resources,
        security::security_context,
    },
    sync::Start,
    volume::{manager::PodVolumes, subpath},
};

/// A container could not be started. Reason and message are what its status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// One start.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) cx: Arc<Context>,
    pub(crate) pod: Arc<PodView>,
    pub(crate) sandbox: SandboxId,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) volumes: PodVolumes,
    pub(crate) start: Start,
    pub(crate) cancel: CancellationToken,
    pub(crate) worker: mpsc::Sender<Message>,
}

const CANCELLED: StartError = StartError {
    reason: "ContainerCreating",
    message: String::new(),
};

/// Starts the container and returns what the runtime says of it then.
pub(crate) async fn run(s: Starting) -> Result<ContainerStatus, StartError> {
    let Some((kind, container)) = s.pod.find(&s.start.name) else {
        return Err(StartError {
            reason: "CreateContainerConfigError",
            message: "no such container".to_owned(),
        });
    };
    let secrets = pull_secrets(&s.cx, &s.pod).await;
    let ensured = tokio::select! {
        biased;
        () = s.cancel.cancelled() => return Err(CANCELLED),
        image = s.cx.images.ensure(&s.cx.recorder, &s.pod, container, &secrets) => image,
    };
    let fail = |reason: &'static str, message: String, shown: &str| {
        let name = container.name.as_str();
        s.cx.recorder.pod(
            &s.pod,
            Some(name),
            Kind::Warning,
            "Failed",
            format!("Error: {shown}"),
        );
        StartError { reason, message }
    };
    let image = ensured.map_err(|e| fail(e.reason, e.message, e.reason))?;
    for id in &s.start.remove {
        // One that never ran; what remains of it is tried again later.
        let _ = s.cx.runtime.remove_container(id).await;
    }
    let config = configure(&s, kind, container, &image)
        .await
        .map_err(|m| fail("CreateContainerConfigError", m.clone(), &m))?;
    if s.cancel.is_cancelled() {
        return Err(CANCELLED);
    }
    let created = s.cx.runtime.create_container(&s.sandbox, config).await;
    let id = created.map_err(|e| fail("CreateContainerError", e.to_string(), &e.to_string()))?;
    let tell = |reason: &str, message: String| {
        s.cx.recorder
            .pod(&s.pod, Some(&container.name), Kind::Normal, reason, message);
    };
    tell("Created", format!("Created container {}", container.name));
    if s.cancel.is_cancelled() {
        let _ = s.cx.runtime.remove_container(&id).await;
        return Err(CANCELLED);
    }
    if let Err(error) = s.cx.runtime.start_container(&id).await {
        let message = error.to_string().replace(id.0.as_str(), &container.name);
        return Err(fail("RunContainerError", message.clone(), &message));
    }
    tell("Started", format!("Started container {}", container.name));
    let state = |e: Error| StartError {
        reason: "RunContainerError",
        message: e.to_string(),
    };
    let status = s.cx.runtime.container(&id).await.map_err(state)?;
    let Some(handler) = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.post_start.as_ref())
    else {
        return Ok(status);
    };
    let hooked = Message::Hooked {
        name: container.name.clone(),
        status: Box::new(status),
    };
    // Without a worker there is nobody to hide the container from.
    let _ = s.worker.send(hooked).await;
    let hook = hooks::run(&s.cx, &s.pod, container, &id, &s.ips, handler);
    let result = tokio::select! {
        biased;
        () = s.cancel.cancelled() => Ok(()),
        result = hook => result,
    };
    if let Err(message) = result {
        s.cx.recorder.pod(
            &s.pod,
            Some(&container.name),
            Kind::Warning,
            "FailedPostStartHook",
            "PostStartHook failed",
        );
        let killed = kill::run(kill::Kill {
            cx: s.cx.clone(),
            pod: s.pod.clone(),
            id,
            name: container.name.clone(),
            message: "FailedPostStartHook".to_owned(),
            grace: Duration::from_secs(u64::try_from(s.pod.grace_seconds()).unwrap_or(30)),
            ips: s.ips.clone(),
            again: false,
        });
        if let Err(error) = killed.await {
            tracing::warn!(%error, container = %container.name, "container with a failed postStart hook not ended");
        }
        return Err(StartError {
            reason: "PostStartHookError",
            message,
        });
    }
    s.cx.runtime.container(&id).await.map_err(state)
}

async fn pull_secrets(cx: &Context, pod: &PodView) -> Vec<Secret> {
    let mut out = Vec::new();
    for reference in pod.spec().image_pull_secrets.iter().flatten() {
        match cx.sources.secret(pod.namespace(), &reference.name).await {
            Ok(Some(secret)) => out.push(secret),
            Ok(None) => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                );
                cx.recorder.pod(
                    pod,
                    None,
                    Kind::Warning,
                    "FailedToRetrieveImagePullSecret",
                    message,
                );
            }
            Err(error) => tracing::debug!(%error, "image pull secret not read"),
        }
    }
    out
}

async fn configure(
    s: &Starting,
    kind: ContainerKind,
    container: &Container,
    image: &Image,
) -> Result<ContainerConfig, String> {
    let (cx, pod) = (&s.cx, &s.pod);
    let env = environment(cx, pod, container, &s.ips).await?;
    for message in &env.skipped {
        cx.recorder.pod(
            pod,
            None,
            Kind::Warning,
            "InvalidEnvironmentVariableNames",
            message,
        );
    }
    let security = security_context(pod, container, &image.into(), &cx.settings.seccomp_dir)?;
    let io = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let log_dir = cx.pod_log_dir(pod).join(&container.name);
    fs::create_dir_all(&log_dir).map_err(|e| {
        io(
            &format!(
                "create container log directory for container {} failed",
                container.name
            ),
            e,
        )
    })?;
    let restart_count = s
        .start
        .restart_count
        .unwrap_or_else(|| restarts_by_logs(&log_dir));
    let mut mounts = volume_mounts(s, container, &env)?;
    if !mounts
        .iter()
        .any(|m| m.container_path == Path::new("/etc/hosts"))
        && kind != ContainerKind::Ephemeral
    {
        mounts.extend(hosts_mount(s)?);
    }
    let message_path = labels::message_path(container);
    let message_file = cx
        .volumes
        .pod_dir(pod.uid())
        .join("containers")
        .join(&container.name)
        .join(format!("{:08x}", fastrand::u32(..)));
    if !message_path.is_empty() {
        make_message_file(&message_file).map_err(|e| io("termination message file", e))?;
        mounts.push(Mount {
            container_path: PathBuf::from(message_path),
            host_path: message_file.clone(),
            ..Mount::default()
        });
    }
    let lookup = |name: &str| env.get(name);
    let expanded = |list: &Option<Vec<String>>| {
        list.iter()
            .flatten()
            .map(|a| expand(a, lookup))
            .collect::<Vec<_>>()
    };
    let shown = images::shown_name(container.image.as_deref().unwrap_or_default(), image);
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: restart_count,
        image: image.id.clone(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(
            pod,
            container,
            restart_count,
            &shown,
            (!message_path.is_empty())
                .then(|| message_file.to_str())
                .flatten(),
        ),
        env: env.vars,
        mounts,
        log_path: PathBuf::from(format!("{}/{restart_count}.log", container.name)),
        stdin: container.stdin.unwrap_or_default(),
        stdin_once: container.stdin_once.unwrap_or_default(),
        tty: container.tty.unwrap_or_default(),
        security,
        resources: container_resources(pod, container, cx.settings.memory_capacity),
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|l| l.stop_signal.clone()),
    })
}

async fn environment(
    cx: &Context,
    pod: &PodView,
    container: &Container,
    ips: &[IpAddr],
) -> Result<Env, String> {
    let text = |e: kube::Error| match e {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    let (config_maps, secrets) = env::references(container);
    let mut sources = EnvSources::default();
    for name in config_maps {
        let found = cx
            .sources
            .config_map(pod.namespace(), &name)
            .await
            .map_err(text)?;
        sources.config_maps.insert(name, found);
    }
    for name in secrets {
        let found = cx
            .sources
            .secret(pod.namespace(), &name)
            .await
            .map_err(text)?;
        sources.secrets.insert(name, found);
    }
    let listed =
        tokio::time::timeout(Duration::from_secs(10), cx.services.wait_until_ready()).await;
    if !matches!(listed, Ok(Ok(()))) {
        return Err(
            "services have not yet been read at least once, cannot construct envvars".to_owned(),
        );
    }
    let services = cx.services.state();
    let links = pod.spec().enable_service_links.unwrap_or(true);
    let services = env::service_env(services.iter().map(AsRef::as_ref), pod.namespace(), links);
    let node = cx.facts();
    let ips = if pod.host_network() {
        node.ips.clone()
    } else {
        ips.to_vec()
    };
    env::resolve(EnvInput {
        pod,
        container,
        sources: &sources,
        services,
        node: &node,
        pod_ips: &ips,
    })
}

fn volume_mounts(s: &Starting, container: &Container, env: &Env) -> Result<Vec<Mount>, String> {
    let name = &container.name;
    let mut out = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = s.volumes.volumes.get(&mount.name).ok_or_else(|| {
            format!(
                "cannot find volume {:?} to mount into container {name:?}",
                mount.name
            )
        })?;
        let sub_path = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
            Some(expression) => {
                let mut missing = None;
                let text = expand(expression, |name| {
                    let value = env.get(name);
                    if value.is_none() {
                        missing.get_or_insert_with(|| name.to_owned());
                    }
                    value
                });
                if let Some(missing) = missing {
                    return Err(format!("missing value for {missing:?}"));
                }
                text
            }
            None => mount.sub_path.clone().unwrap_or_default(),
        };
        let mut host_path = volume.path.clone();
        if !sub_path.is_empty() {
            let path = Path::new(&sub_path);
            if path.is_absolute() {
                return Err(format!(
                    "error SubPath `{sub_path}` must not be an absolute path"
                ));
            }
            if path.components().any(|c| c == Component::ParentDir) {
                return Err(format!(
                    "unable to provision SubPath `{sub_path}`: must not contain '..'"
                ));
            }
            let target =
                s.cx.volumes
                    .pod_dir(s.pod.uid())
                    .join("volume-subpaths")
                    .join(&mount.name)
                    .join(name)
                    .join(index.to_string());
            host_path = subpath::prepare(&volume.path, &sub_path, &target, s.cx.volumes.may_mount).map_err(|error| {
                // The cause could tell a tenant about the node's file system.
                tracing::warn!(%error, container = %name, volume = %mount.name, "subPath not usable");
                format!("failed to prepare subPath for volumeMount {:?} of container {name:?}", mount.name)
            })?;
        }
        out.push(Mount {
            container_path: Path::new("/").join(&mount.mount_path),
            host_path,
            read_only: mount.read_only.unwrap_or_default() || volume.read_only,
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        });
    }
    Ok(out)
}

fn hosts_mount(s: &Starting) -> Result<Option<Mount>, String> {
    let facts = s.cx.facts();
    let ips = if s.pod.host_network() {
        &facts.ips
    } else {
        &s.ips
    };
    if ips.is_empty() {
        return Ok(None);
    }
    let node_hosts = if s.pod.host_network() {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        String::new()
    };
    let text = hosts_file(&s.pod, ips, &s.cx.settings.cluster_domain, &node_hosts);
    let path = s.cx.volumes.pod_dir(s.pod.uid()).join("etc-hosts");
    fs::create_dir_all(s.cx.volumes.pod_dir(s.pod.uid()))
        .and_then(|()| fs::write(&path, text))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
        .map_err(|e| format!("hosts file: {e}"))?;
    Ok(Some(Mount {
        container_path: PathBuf::from("/etc/hosts"),
        host_path: path,
        ..Mount::default()
    }))
}

fn make_message_file(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(path)?;
    // Whatever user the container runs as must be able to write it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// How often a container was restarted, by the log files it left: all that remains of it when the
/// runtime has forgotten it.
fn restarts_by_logs(dir: &Path) -> u32 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|e| {
        let name = e.file_name();
        name.to_str()?.split_once(".log")?.0.parse::<u32>().ok()
    });
    numbers.max().map_or(0, |n| n + 1)
}
