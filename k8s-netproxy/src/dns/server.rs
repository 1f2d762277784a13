//! [`ClusterDns`]: the name server that pods ask.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use hickory_proto::{
    op::{Header, HeaderCounts, Metadata, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, PTR, SOA, SRV, TXT},
    },
};
use hickory_server::{
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use kube::Client;
use parking_lot::RwLock;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{Answer, Records, forward::forward};
use crate::{
    Error,
    state::{State, inputs},
};

/// How long answers may be kept, in seconds: CoreDNS's default for a cluster.
const TTL: u32 = 30;

/// What a [`ClusterDns`] needs to know.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The cluster domain, such as `cluster.local`.
    pub domain: String,
    /// Name servers for everything else; without any, such names are refused.
    pub upstream: Vec<SocketAddr>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            domain: "cluster.local".into(),
            upstream: Vec::new(),
        }
    }
}

/// Answers for Services and their endpoints, over UDP and TCP.
pub struct ClusterDns {
    client: Client,
    config: DnsConfig,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    synced: watch::Sender<bool>,
}

impl fmt::Debug for ClusterDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterDns")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ClusterDns {
    /// A server that does not listen anywhere yet.
    ///
    /// # Errors
    ///
    /// [`Error::Domain`] if the cluster domain is no domain name.
    pub fn try_new(client: Client, config: DnsConfig) -> Result<Self, Error> {
        Name::from_str(&config.domain).map_err(|_| Error::Domain(config.domain.clone()))?;
        Ok(Self {
            client,
            config,
            udp: Vec::new(),
            tcp: Vec::new(),
            synced: watch::Sender::new(false),
        })
    }

    /// Listens at one more address, over UDP and TCP on the same port. Returns the address, with the
    /// port that port 0 became.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the address can't be had.
    pub async fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let failed = |source| Error::Listen { address, source };
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        let address = udp.local_addr().map_err(failed)?;
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        self.udp.push(udp);
        self.tcp.push(tcp);
        Ok(address)
    }

    /// Turns true when the first full set of records is served. Until then every question about the
    /// cluster is answered with `SERVFAIL`, never with a wrong "no such name".
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Serves until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let records = Arc::new(RwLock::new(None));
        let handler = Handler {
            records: records.clone(),
            upstream: self.config.upstream,
            domain: self.config.domain.clone(),
        };
        let mut server = Server::new(handler);
        for socket in self.udp {
            server.register_socket(socket);
        }
        for listener in self.tcp {
            server.register_listener(listener, Duration::from_secs(10), 32);
        }
        let mut inputs = inputs(&self.client);
        let mut state = State::default();
        loop {
            let input = tokio::select! {
                () = stop.cancelled() => break,
                input = inputs.next() => input,
            };
            let Some(input) = input else { break };
            state.take(input);
            while let Some(Some(input)) = inputs.next().now_or_never() {
                state.take(input);
            }
            if state.is_synced() {
                let fresh = Records::build(
                    &self.config.domain,
                    state.services.values(),
                    &state.by_service,
                );
                *records.write() = Some(Arc::new(fresh));
                self.synced.send_replace(true);
            }
        }
        if let Err(error) = server.shutdown_gracefully().await {
            tracing::debug!(%error, "DNS server ended with an error");
        }
    }
}

struct Handler {
    records: Arc<RwLock<Option<Arc<Records>>>>,
    upstream: Vec<SocketAddr>,
    domain: String,
}

struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    fn code(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let reply = self.answer(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = !self.upstream.is_empty();
        let message = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            reply.answers.iter(),
            reply.authorities.iter(),
            std::iter::empty(),
            reply.additionals.iter(),
        );
        response
            .send_response(message)
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "answer not sent");
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(Header {
                    metadata,
                    counts: HeaderCounts::default(),
                })
            })
    }
}

impl Handler {
    async fn answer(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::code(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else {
            return Reply::code(ResponseCode::FormErr);
        };
        let name: Name = info.query.name().into();
        let asked = name.to_ascii();
        let records = self.records.read().clone();
        let Some(records) = records else {
            return Reply::code(ResponseCode::ServFail);
        };
        if !records.is_ours(&asked) {
            return self.elsewhere(request).await;
        }
        match records.lookup(&asked) {
            None => self.nothing(ResponseCode::NXDomain),
            Some(answer) => {
                self.ours(&name, info.query.query_type(), answer, &records)
                    .await
            }
        }
    }

    async fn ours(
        &self,
        name: &Name,
        kind: RecordType,
        answer: Answer,
        records: &Records,
    ) -> Reply {
        let mut reply = Reply::code(ResponseCode::NoError);
        reply.authoritative = true;
        let wants = |k| kind == k || kind == RecordType::ANY;
        if let Some(target) = answer.cname.as_deref().and_then(host) {
            reply
                .answers
                .push(record(name, RData::CNAME(CNAME(target.clone()))));
            if kind == RecordType::A
                && let Some(found) = records.lookup(&target.to_ascii())
            {
                reply
                    .answers
                    .extend(found.a.iter().map(|ip| record(&target, RData::A(A(*ip)))));
            }
            return reply;
        }
        if wants(RecordType::A) {
            let mut ips = answer.a;
            // Answers rotate, so that clients that take the first one spread.
            if ips.len() > 1 {
                let by = rotation() % ips.len();
                ips.rotate_left(by);
            }
            reply
                .answers
                .extend(ips.into_iter().map(|ip| record(name, RData::A(A(ip)))));
        }
        if wants(RecordType::SRV) {
            for target in &answer.srv {
                let Some(to) = host(&target.host) else {
                    continue;
                };
                reply.answers.push(record(
                    name,
                    RData::SRV(SRV::new(0, 100, target.port, to.clone())),
                ));
                for ip in records.lookup(&target.host).unwrap_or_default().a {
                    reply.additionals.push(record(&to, RData::A(A(ip))));
                }
            }
        }
        if wants(RecordType::PTR) {
            reply.answers.extend(
                answer
                    .ptr
                    .iter()
                    .filter_map(|h| host(h))
                    .map(|to| record(name, RData::PTR(PTR(to)))),
            );
        }
        if wants(RecordType::TXT)
            && let Some(text) = answer.txt
        {
            reply
                .answers
                .push(record(name, RData::TXT(TXT::new(vec![text]))));
        }
        if reply.answers.is_empty() {
            self.nothing(ResponseCode::NoError)
        } else {
            reply
        }
    }

    /// A name without the records asked for, with the zone's SOA so that resolvers may remember it.
    fn nothing(&self, code: ResponseCode) -> Reply {
        let mut reply = Reply::code(code);
        reply.authoritative = true;
        if let (Some(zone), Some(ns), Some(mailbox)) = (
            host(&self.domain),
            host(&format!("ns.dns.{}", self.domain)),
            host(&format!("hostmaster.{}", self.domain)),
        ) {
            let soa = SOA::new(ns, mailbox, 1, 7200, 1800, 86400, TTL);
            reply.authorities.push(record(&zone, RData::SOA(soa)));
        }
        reply
    }

    async fn elsewhere(&self, request: &Request) -> Reply {
        if self.upstream.is_empty() {
            return Reply::code(ResponseCode::Refused);
        }
        match forward(request.as_slice(), &self.upstream).await {
            None => Reply::code(ResponseCode::ServFail),
            Some(message) => Reply {
                code: message.metadata.response_code,
                authoritative: false,
                answers: message.answers,
                authorities: message.authorities,
                additionals: message.additionals,
            },
        }
    }
}

fn rotation() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn host(name: &str) -> Option<Name> {
    let mut name = Name::from_str(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}
