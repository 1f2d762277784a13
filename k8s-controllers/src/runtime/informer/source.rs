//! Where an informer's events come from: kube's watcher, with streaming lists where the server
//! has them.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Client, Resource,
    runtime::watcher::{self, Event, InitialListStrategy},
};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use tracing::debug;

/// How to get the first list, decided once per server.
#[derive(Debug, Default)]
pub(crate) struct WatchMode(OnceCell<InitialListStrategy>);

impl WatchMode {
    /// Streaming lists (KEP-3157) need a server of 1.27 or later. An older one ignores the request
    /// for them and would leave us waiting for the end of the list, so the version is asked for;
    /// a later one that has them switched off says so, and `watch_stream` then falls back.
    async fn get(&self, client: &Client) -> InitialListStrategy {
        let mut backoff = Backoff::default();
        loop {
            let asked = self.0.get_or_try_init(|| async {
                let version = client.apiserver_version().await?;
                let number = |text: &str| {
                    text.chars()
                        .take_while(char::is_ascii_digit)
                        .collect::<String>()
                        .parse::<u32>()
                        .unwrap_or(0)
                };
                Ok::<_, kube::Error>(match (number(&version.major), number(&version.minor)) {
                    (1, 27..) | (2.., _) => InitialListStrategy::StreamingList,
                    _ => InitialListStrategy::ListWatch,
                })
            });
            match asked.await {
                Ok(strategy) => return strategy.clone(),
                Err(error) => {
                    debug!(error = %error, "the server's version is not known yet");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }
}

/// Watch events of everything that `api` sees and `config` selects. Never ends; errors are to be
/// followed by a pause.
pub(crate) fn watch_stream<K>(
    client: Client,
    mode: std::sync::Arc<WatchMode>,
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    stream::once(async move {
        let strategy = mode.get(&client).await;
        let start = move |strategy: InitialListStrategy| {
            let config = watcher::Config {
                initial_list_strategy: strategy,
                ..config.clone()
            };
            watcher::watcher(api.clone(), config).boxed()
        };
        let streaming = strategy == InitialListStrategy::StreamingList;
        stream::unfold(
            (start(strategy), start, streaming),
            |(mut events, start, mut streaming)| async move {
                let event = events.next().await?;
                match &event {
                    Err(watcher::Error::WatchStartFailed(kube::Error::Api(status)))
                        if streaming && matches!(status.code, 400 | 422) =>
                    {
                        streaming = false;
                        events = start(InitialListStrategy::ListWatch);
                    }
                    _ => {}
                }
                Some((event, (events, start, streaming)))
            },
        )
    })
    .flatten()
}

/// The pauses after failed watches: 50 ms doubling up to 30 s, as long as client-go's at the top.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(30);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(FIRST)
    }
}

impl Backoff {
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.0;
        self.0 = (delay * 2).min(LONGEST);
        delay
    }

    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }
}
