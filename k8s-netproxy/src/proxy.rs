//! [`Proxy`]: keeps a dataplane in step with the API.

use std::{fmt, time::Duration};

use futures::{FutureExt, StreamExt};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Dataplane, RuleSet,
    rules::{NodeContext, rules},
    state::{State, inputs},
};

/// How long a failed `apply` waits for its next try, unless the rules change first.
const RETRY: Duration = Duration::from_secs(1);

/// Watches Services and EndpointSlices and hands a dataplane the rules of one node.
///
/// It mirrors upstream's kube-proxy, and needs the same rights: list and watch of both resources.
pub struct Proxy<D> {
    client: Client,
    context: NodeContext,
    dataplane: D,
    synced: watch::Sender<bool>,
}

impl<D: fmt::Debug> fmt::Debug for Proxy<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("context", &self.context)
            .field("dataplane", &self.dataplane)
            .finish_non_exhaustive()
    }
}

impl<D: Dataplane> Proxy<D> {
    /// A proxy for the node of that name.
    pub fn new(client: Client, node_name: impl Into<String>, dataplane: D) -> Self {
        let context = NodeContext {
            node_name: node_name.into(),
        };
        Self {
            client,
            context,
            dataplane,
            synced: watch::Sender::new(false),
        }
    }

    /// Turns true when the first full rule set is in force.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Runs until `stop` is cancelled. The rules stay in force afterwards, so that a restart is not
    /// noticed; the dataplane is returned for who wants to [`Dataplane::clear`] it.
    ///
    /// Changes that arrive while the dataplane is busy share its next call.
    pub async fn run(mut self, stop: CancellationToken) -> D {
        let mut inputs = inputs(&self.client);
        let mut state = State::default();
        let mut dirty = false;
        let mut retry = None;
        loop {
            if dirty && state.is_synced() && retry.is_none() {
                let wanted: RuleSet =
                    rules(state.services.values(), &state.by_service, &self.context);
                match self.dataplane.apply(&wanted).await {
                    Ok(()) => {
                        dirty = false;
                        self.synced.send_replace(true);
                    }
                    Err(error) => {
                        tracing::error!(%error, "rules not applied, trying again");
                        retry = Some(Box::pin(tokio::time::sleep(RETRY)));
                    }
                }
            }
            let waited = async {
                match &mut retry {
                    Some(timer) => timer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return self.dataplane,
                () = waited => retry = None,
                input = inputs.next() => {
                    let Some(input) = input else { return self.dataplane };
                    state.take(input);
                    // Whatever else is there already belongs to the same change of rules.
                    while let Some(Some(input)) = inputs.next().now_or_never() {
                        state.take(input);
                    }
                    dirty = true;
                }
            }
        }
    }
}
