//! Work inside network namespaces.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};
use rtnetlink::Handle;

use crate::{Error, error::IoContext};

/// Runs blocking work on a thread of its own inside a network namespace, the current one if none
/// is given. A thread of its own, because a thread that changed its namespaces is of no use to
/// others.
pub(crate) async fn inside<T, F>(netns: Option<PathBuf>, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    on_thread("netns", move || {
        if let Some(path) = netns {
            enter(&path)?;
        }
        work()
    })
    .await
}

/// Runs work on a thread that is thrown away afterwards. The runtime's context is there, so that
/// sockets can be registered.
pub(crate) async fn on_thread<T, F>(name: &str, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            let _guard = runtime.enter();
            // Nobody may be waiting any more.
            let _ = sender.send(work());
        })
        .context(|| "start a thread".to_owned())?;
    receiver
        .await
        .map_err(|_| Error::io("work on a thread", io::Error::other("it ended early")))?
}

fn enter(path: &Path) -> Result<(), Error> {
    let netns = File::open(path).context(|| format!("open network namespace {path:?}"))?;
    setns(&netns, CloneFlags::CLONE_NEWNET).context(|| format!("enter network namespace {path:?}"))
}

/// Opens a netlink connection in the calling thread's network namespace. The connection ends with
/// its last handle.
pub(crate) fn netlink() -> Result<Handle, Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().context(|| "open netlink".to_owned())?;
    tokio::spawn(connection);
    Ok(handle)
}
