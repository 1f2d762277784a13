//! [`EventHub`]: one event to many readers.

use futures::{StreamExt, stream::BoxStream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use crate::{Error, RuntimeEvent};

/// How many events a reader may be behind before it is told that it missed some.
const CAPACITY: usize = 1024;

/// Hands each event to everybody who listens at that moment.
#[derive(Debug)]
pub(crate) struct EventHub {
    sender: broadcast::Sender<RuntimeEvent>,
}

impl EventHub {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(CAPACITY),
        }
    }

    pub(crate) fn send(&self, event: RuntimeEvent) {
        // No reader is no error.
        let _ = self.sender.send(event);
    }

    pub(crate) fn subscribe(&self) -> BoxStream<'static, Result<RuntimeEvent, Error>> {
        BroadcastStream::new(self.sender.subscribe())
            .map(|r| r.map_err(|BroadcastStreamRecvError::Lagged(missed)| Error::Lagged(missed)))
            .boxed()
    }
}
