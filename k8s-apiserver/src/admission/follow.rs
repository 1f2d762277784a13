//! [`Follower`]: memory that follows the stored objects.

use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::reader::{ObjectReader, RawEvent};

/// Tasks that hand the changes of some resources to closures. They end when the value is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    wanted: usize,
    synced: watch::Sender<usize>,
    tasks: Vec<AbortOnDropHandle<()>>,
}

impl Follower {
    pub(crate) fn new() -> Self {
        Follower {
            wanted: 0,
            synced: watch::Sender::new(0),
            tasks: Vec::new(),
        }
    }

    /// Spawns a task that hands each event of the resource to the closure, the snapshot first.
    pub(crate) fn follow(
        &mut self,
        reader: &dyn ObjectReader,
        group: &str,
        resource: &str,
        mut apply: impl FnMut(RawEvent) + Send + 'static,
    ) {
        let mut events = reader.watch_raw(group, resource);
        let synced = self.synced.clone();
        self.wanted += 1;
        self.tasks
            .push(AbortOnDropHandle::new(tokio::spawn(async move {
                let mut first = true;
                while let Some(event) = events.next().await {
                    apply(event);
                    if first {
                        first = false;
                        synced.send_modify(|n| *n += 1);
                    }
                }
            })));
    }

    /// Waits until every closure has had its snapshot.
    pub(crate) async fn synced(&self) {
        let wanted = self.wanted;
        // The sender is `self`'s own, so it cannot be gone.
        let _ = self.synced.subscribe().wait_for(|n| *n >= wanted).await;
    }
}
