//! Taking over what a former run left.

use std::{fs, path::PathBuf, sync::Arc};

use super::{
    Inner, blocking, container,
    container::Container,
    namespaces, read_json,
    sandbox::{self, Sandbox},
    shim_client,
};
use crate::{ContainerId, ContainerState, Error, NamespaceMode, SandboxId, error::IoContext};

pub(super) async fn recover(inner: &Arc<Inner>) -> Result<(), Error> {
    sandboxes(inner).await?;
    containers(inner).await?;
    leftovers(inner).await
}

/// The entries of a directory by name.
fn entries(dir: PathBuf) -> Result<Vec<(String, PathBuf)>, Error> {
    let list = fs::read_dir(&dir).context(|| format!("read {dir:?}"))?;
    Ok(list
        .flatten()
        .filter_map(|e| Some((e.file_name().into_string().ok()?, e.path())))
        .collect())
}

async fn sandboxes(inner: &Arc<Inner>) -> Result<(), Error> {
    for (id, dir) in entries(inner.root.join("sandboxes"))? {
        let Ok(mut record) = read_json::<sandbox::Record>(&dir.join("sandbox.json")) else {
            tracing::info!(sandbox = id, "removing a sandbox that was never finished");
            inner.take_down(&id, &dir, None).await;
            fs::remove_dir_all(&dir).context(|| format!("remove {dir:?}"))?;
            continue;
        };
        if !record.ready {
            // Mostly nothing is left, unless the former run ended in the middle.
            inner.take_down(&id, &dir, None).await;
        } else {
            let lost = missing(&record, &dir).or_else(|| {
                let network = inner.network.as_ref()?;
                record
                    .ips
                    .iter()
                    .find_map(|ip| network.adopt(&id, *ip).err())
                    .map(|e| e.to_string())
            });
            if let Some(lost) = lost {
                // As after a reboot: the pod gets a new sandbox.
                tracing::info!(sandbox = id, lost, "a sandbox did not survive");
                inner.take_down(&id, &dir, record.holder.take()).await;
                record.ready = false;
                super::write_json(&dir.join("sandbox.json"), &record)?;
            }
        }
        let id = SandboxId(id);
        inner
            .sandboxes
            .lock()
            .insert(id.clone(), Arc::new(Sandbox::new(id, dir, record)));
    }
    Ok(())
}

/// What a sandbox lost, if anything.
fn missing(record: &sandbox::Record, dir: &std::path::Path) -> Option<String> {
    let own_net = record.config.network != NamespaceMode::Node;
    let wanted = [
        (own_net, namespaces::NET),
        (own_net, namespaces::UTS),
        (record.config.ipc != NamespaceMode::Node, namespaces::IPC),
        (record.config.pid == NamespaceMode::Pod, namespaces::PID),
    ];
    for (wanted, name) in wanted {
        if wanted && !namespaces::is_pinned(&dir.join("ns").join(name)) {
            return Some(format!("its {name} namespace"));
        }
    }
    match record.holder {
        Some(pid) if !sandbox::holds(pid, dir) => {
            Some("the first process of its process namespace".to_owned())
        }
        _ => None,
    }
}

async fn containers(inner: &Arc<Inner>) -> Result<(), Error> {
    for (id, dir) in entries(inner.root.join("containers"))? {
        let known = read_json::<container::Record>(&dir.join("container.json"))
            .ok()
            .filter(|r| inner.sandboxes.lock().contains_key(&r.sandbox));
        let Some(record) = known else {
            tracing::info!(
                container = id,
                "removing a container that was never finished"
            );
            let at = dir.clone();
            if inner.root.join("runtime").join(&id).exists() {
                let _ = inner.run("delete", &["delete", "--force", &id]).await;
            }
            blocking(move || namespaces::unmount(&at.join("rootfs"))).await?;
            fs::remove_dir_all(&dir).context(|| format!("remove {dir:?}"))?;
            inner.images.release(&id);
            continue;
        };
        let state = read_json(&dir.join("state.json")).unwrap_or_default();
        let container = Arc::new(Container::new(ContainerId(id), dir, record, state));
        adopt(inner, &container).await?;
        inner
            .containers
            .lock()
            .insert(container.id.clone(), container);
    }
    Ok(())
}

async fn adopt(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<(), Error> {
    let watch = match container.phase() {
        ContainerState::Exited => {
            inner.clean_up(container).await;
            return Ok(());
        }
        _ => shim_client::watch(&container.dir).await?,
    };
    let exited = container.dir.join(crate::shim::files::EXIT).exists();
    if container.phase() == ContainerState::Created {
        if watch.is_none() && !exited {
            return Ok(());
        }
        // The former run ended between starting it and noting that.
        let file = container.dir.join(crate::shim::files::PID);
        let pid = fs::read_to_string(&file).ok();
        let at = fs::metadata(&file).and_then(|m| m.modified()).ok();
        let at = at.and_then(|t| jiff::Timestamp::try_from(t).ok());
        container.state.send_modify(|s| {
            s.started_at = Some(at.unwrap_or(container.record.created_at));
            s.pid = pid.and_then(|p| p.trim().parse().ok());
        });
    }
    match watch {
        Some(watch) => inner.follow(container, Some(watch)),
        None => {
            let exit = read_json(&container.dir.join(crate::shim::files::EXIT)).ok();
            inner.note_exit(container, exit);
            inner.clean_up(container).await;
        }
    }
    Ok(())
}

/// What has no owner any more: links on the bridge, layers that containers held.
async fn leftovers(inner: &Arc<Inner>) -> Result<(), Error> {
    if let Some(network) = &inner.network {
        let owners: Vec<String> = inner
            .sandboxes
            .lock()
            .values()
            .filter(|s| s.is_ready())
            .map(|s| s.id.0.clone())
            .collect();
        network.sweep(&owners).await?;
    }
    for lease in inner.images.leases() {
        if !inner
            .containers
            .lock()
            .contains_key(&ContainerId(lease.clone()))
        {
            inner.images.release(&lease);
        }
    }
    Ok(())
}
