//! Requests to a cluster of members, any of which may be gone.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use http::uri::PathAndQuery;
use parking_lot::RwLock;
use prost::Message;
use tokio::time::Instant;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use super::{
    EtcdOptions,
    fault::{Fault, fault},
    proto::{AuthenticateRequest, AuthenticateResponse, Nothing, StatusResponse},
};
use crate::Error;

/// How often a connection in use is probed: etcd takes more than one ping in
/// five seconds for an attack.
const PING: Duration = Duration::from_secs(6);
/// How long an answer to that may take.
const PONG: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
/// How long a read waits for one member before it asks another.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long to wait when all members were asked; doubled each time.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether a request can be made again when nobody knows whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// A cluster of members.
#[derive(Debug)]
pub(super) struct Client {
    members: Vec<Member>,
    /// Which one is asked first.
    current: AtomicUsize,
    user: Option<(String, String)>,
    token: RwLock<Option<MetadataValue<Ascii>>>,
    timeout: Duration,
}

#[derive(Debug)]
struct Member {
    channel: Channel,
    /// Whether its answers to questions for progress are in order.
    orderly: OnceLock<bool>,
}

/// Waits longer and longer.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: PAUSE }
    }
}

impl Backoff {
    pub(super) fn step(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        pause
    }
}

impl Client {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, Error> {
        let members = options.endpoints.iter().map(|url| member(url, options));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(Error::Setup {
                detail: "etcd needs at least one endpoint".into(),
            });
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            user: options.user.clone(),
            token: RwLock::default(),
            timeout: options.timeout,
        })
    }

    /// Asks one member after another until one answers or the time is up.
    pub(super) async fn call<Q, A>(
        &self,
        path: &'static str,
        query: Q,
        kind: Kind,
    ) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = Backoff::default();
        let mut tries = 0;
        let mut renewed = false;
        loop {
            let at = self.current.load(Ordering::Relaxed);
            let member = &self.members[at % self.members.len()];
            let until = match kind {
                Kind::Read => deadline.min(Instant::now() + ATTEMPT),
                Kind::Write => deadline,
            };
            let answer =
                tokio::time::timeout_at(until, self.ask(&member.channel, path, query.clone()));
            let status = match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("etcd did not answer in time"),
            };
            let again = match fault(&status) {
                Fault::NotDone => true,
                Fault::Unknown => kind == Kind::Read,
                Fault::Token if self.user.is_some() && !renewed => {
                    renewed = true;
                    self.authenticate(&member.channel).await?;
                    continue;
                }
                // The member is in order, but whoever asks next may as well stay.
                _ => return Err(status),
            };
            self.leave(at);
            tries += 1;
            if !again || Instant::now() >= deadline {
                return Err(status);
            }
            tracing::debug!(%status, path, "asking another member of etcd");
            if tries % self.members.len() == 0 {
                tokio::time::sleep(backoff.step()).await;
            }
        }
    }

    /// Opens a stream in both directions to the current member. The second
    /// value says which one that is.
    pub(super) async fn stream<Q, A>(
        &self,
        path: &'static str,
        queries: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<(Streaming<A>, usize), (Status, usize)>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let at = self.current.load(Ordering::Relaxed);
        let member = &self.members[at % self.members.len()];
        let open = async {
            self.identify(&member.channel).await?;
            let request = self.dress(Request::new(queries));
            let mut grpc = ready(&member.channel).await?;
            let path = PathAndQuery::from_static(path);
            grpc.streaming(request, path, ProstCodec::default()).await
        };
        match tokio::time::timeout(ATTEMPT, open).await {
            Ok(Ok(answer)) => Ok((answer.into_inner(), at)),
            Ok(Err(status)) => {
                if fault(&status) == Fault::Token {
                    *self.token.write() = None;
                }
                Err((status, at))
            }
            Err(_) => Err((Status::deadline_exceeded("etcd did not answer in time"), at)),
        }
    }

    /// Takes note that a member is not to be asked first any more.
    pub(super) fn leave(&self, at: usize) {
        let _ = self
            .current
            .compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a member puts the answer to a question for progress behind all
    /// events up to it, which etcd does since 3.4.25 and 3.5.8.
    pub(super) async fn is_orderly(&self, at: usize) -> bool {
        let member = &self.members[at % self.members.len()];
        if let Some(known) = member.orderly.get() {
            return *known;
        }
        let path = "/etcdserverpb.Maintenance/Status";
        let asked = self.ask::<_, StatusResponse>(&member.channel, path, Nothing {});
        match tokio::time::timeout(ATTEMPT, asked).await {
            Ok(Ok(status)) => *member.orderly.get_or_init(|| orderly(&status.version)),
            _ => false,
        }
    }

    async fn ask<Q, A>(&self, channel: &Channel, path: &'static str, query: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.identify(channel).await?;
        let request = self.dress(Request::new(query));
        let mut grpc = ready(channel).await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(request, path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    /// Makes sure of a token, where there is a user.
    async fn identify(&self, channel: &Channel) -> Result<(), Status> {
        if self.user.is_some() && self.token.read().is_none() {
            self.authenticate(channel).await?;
        }
        Ok(())
    }

    async fn authenticate(&self, channel: &Channel) -> Result<(), Status> {
        let Some((name, password)) = self.user.clone() else {
            return Ok(());
        };
        let mut grpc = ready(channel).await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Auth/Authenticate");
        let request = Request::new(AuthenticateRequest { name, password });
        let answer = grpc
            .unary::<_, AuthenticateResponse, _>(request, path, ProstCodec::default())
            .await;
        let token = match answer {
            Ok(answer) => answer.into_inner().token,
            // Whoever has a name need not have switched authentication on yet.
            Err(status) if status.message().contains("authentication is not enabled") => {
                return Ok(());
            }
            Err(status) => return Err(status),
        };
        let token = token
            .parse()
            .map_err(|_| Status::internal("etcd gave a token that is none"))?;
        *self.token.write() = Some(token);
        Ok(())
    }

    fn dress<T>(&self, mut request: Request<T>) -> Request<T> {
        let metadata = request.metadata_mut();
        // A member that has lost the others says so instead of waiting.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &*self.token.read() {
            metadata.insert("token", token.clone());
        }
        request
    }
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone())
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    Ok(grpc)
}

fn member(url: &str, options: &EtcdOptions) -> Result<Member, Error> {
    let setup = |detail: String| Error::Setup { detail };
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| setup(format!("{url} is no URL of an etcd member: {error}")))?;
    let mut endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    match endpoint.uri().scheme_str() {
        Some("http") if options.tls.is_none() => {}
        Some("https") => {
            let Some(tls) = &options.tls else {
                return Err(setup(format!(
                    "{url} needs the certificate of its authority"
                )));
            };
            let mut config =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority));
            if let Some((certificate, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| setup(format!("etcd's certificates are unusable: {error}")))?;
        }
        Some("http") => return Err(setup(format!("{url} does not use the TLS asked for"))),
        _ => return Err(setup(format!("{url} must begin with http:// or https://"))),
    }
    Ok(Member {
        channel: endpoint.connect_lazy(),
        orderly: OnceLock::new(),
    })
}

fn orderly(version: &str) -> bool {
    let mut numbers = version
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let mut next = || numbers.next().unwrap_or_default();
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_asked_for_only_where_the_answer_is_in_order() {
        for version in ["3.4.25", "3.5.8", "3.6.0-rc.1", "4.0.0"] {
            assert!(orderly(version), "{version}");
        }
        for version in ["3.4.23", "3.5.7", "3.3.30", "", "dev"] {
            assert!(!orderly(version), "{version}");
        }
    }

    #[tokio::test]
    async fn urls_and_certificates_must_fit_together() {
        let with = |url: &str, tls| {
            let options = EtcdOptions {
                tls,
                ..EtcdOptions::new([url])
            };
            Client::new(&options).map(|_| ())
        };
        assert!(with("http://localhost:2379", None).is_ok());
        for url in [
            "https://localhost:2379",
            "ftp://localhost",
            "localhost:2379",
            "::",
        ] {
            assert!(matches!(with(url, None), Err(Error::Setup { .. })), "{url}");
        }
        let tls = Some(super::super::EtcdTls {
            authority: Vec::new(),
            identity: None,
        });
        assert!(with("http://localhost:2379", tls).is_err());
        let none: [&str; 0] = [];
        assert!(Client::new(&EtcdOptions::new(none)).is_err());
    }
}
