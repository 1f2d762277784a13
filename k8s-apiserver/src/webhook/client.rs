//! [`Client`]: asks one webhook.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::ByteString;
use parking_lot::Mutex;
use serde::Deserialize;

use super::{
    CallError, Trust,
    connect::{Connector, server_name},
    credentials::Credentials,
};
use crate::admission::reader::ObjectReader;

/// How long a connection is kept that nobody uses; as upstream.
const IDLE: Duration = Duration::from_secs(90);
/// How many such connections a client keeps.
const IDLE_CONNECTIONS: usize = 25;

/// A Service, as configurations of webhooks refer to one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct ServiceReference {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The path to ask at.
    #[serde(default)]
    pub(crate) path: Option<String>,
    /// Its port.
    #[serde(default = "https")]
    pub(crate) port: u16,
}

fn https() -> u16 {
    443
}

/// Where a webhook is, as configurations say it: `clientConfig` of admission webhooks and of conversion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientConfig {
    /// Its URL.
    #[serde(default)]
    pub(crate) url: Option<String>,
    /// Or a Service.
    #[serde(default)]
    pub(crate) service: Option<ServiceReference>,
    /// Who may vouch for it.
    #[serde(default)]
    pub(crate) ca_bundle: Option<ByteString>,
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// At a URL. Whether anything but `https` will do is for the caller to say.
    Url(String),
    /// Behind a Service.
    Service(ServiceReference),
}

/// Asks one webhook. Connections are kept and used again.
pub(crate) struct Client {
    uri: String,
    credentials: Option<Credentials>,
    http: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("uri", &self.uri).finish()
    }
}

impl Client {
    /// A client of the webhook there. Services are looked up with the reader.
    pub(crate) fn new(
        address: Address,
        trust: &Trust,
        reader: Arc<dyn ObjectReader>,
    ) -> Result<Self, CallError> {
        let uri = match &address {
            Address::Url(url) => url.clone(),
            Address::Service(service) => {
                let path = service.path.as_deref().unwrap_or_default();
                format!(
                    "https://{}.{}.svc:{}/{}",
                    service.name,
                    service.namespace,
                    service.port,
                    path.trim_start_matches('/')
                )
            }
        };
        let bad = || CallError::Config(format!("Unparsable URL: {uri}"));
        let parsed: Uri = uri.parse().map_err(|_| bad())?;
        let host = parsed.host().ok_or_else(bad)?;
        let tls = match parsed.scheme_str() {
            Some("https") => {
                let name = trust.server_name.as_deref().unwrap_or(host);
                let name = server_name(name).ok_or_else(bad)?;
                Some((name, Arc::new(trust.tls()?)))
            }
            Some("http") => None,
            _ => return Err(bad()),
        };
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .build(Connector::new(address, tls, reader));
        Ok(Client {
            uri,
            credentials: trust.credentials.clone(),
            http,
        })
    }

    /// Sends a JSON document and gives back the answer, of `limit` bytes at most. All in all that takes no
    /// longer than `timeout`, which the webhook is told in the query.
    pub(crate) async fn post(
        &self,
        body: Bytes,
        timeout: Duration,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let mark = if self.uri.contains('?') { '&' } else { '?' };
        self.post_to(
            &format!("{}{mark}timeout={seconds}s", self.uri),
            body,
            timeout,
            limit,
        )
        .await
    }

    /// As [`Client::post`], without saying how long it may take.
    pub(crate) async fn post_plain(
        &self,
        body: Bytes,
        timeout: Duration,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        self.post_to(&self.uri, body, timeout, limit).await
    }

    async fn post_to(
        &self,
        uri: &str,
        body: Bytes,
        timeout: Duration,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission");
        if let Some(credentials) = &self.credentials {
            request = request.header(header::AUTHORIZATION, credentials.now().await);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| CallError::Config(e.to_string()))?;
        let answer = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|e| CallError::transport(uri, &e))?;
            let status = response.status();
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|found| found.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            let body = Limited::new(response.into_body(), limit)
                .collect()
                .await
                .map_err(|e| match e.is::<http_body_util::LengthLimitError>() {
                    true => CallError::TooLong(limit),
                    false => CallError::transport(uri, &*e),
                })?
                .to_bytes();
            let is_text = content_type.is_empty() || content_type.starts_with("text/");
            match status.is_success() {
                true if body.is_empty() => Err(CallError::Empty {
                    code: status,
                    content_type: match content_type.as_str() {
                        "" => "application/json".to_owned(),
                        said => said.to_owned(),
                    },
                }),
                true => Ok(body),
                false => Err(CallError::status(status, is_text, &body)),
            }
        };
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or_else(|_| {
                Err(CallError::Transport {
                    url: uri.to_owned(),
                    reason: "context deadline exceeded".to_owned(),
                })
            })
    }
}

/// The clients that are in use: who asks at the same place shares the connections.
#[derive(Debug)]
pub(crate) struct Clients {
    reader: Arc<dyn ObjectReader>,
    known: Mutex<HashMap<Key, Weak<Client>>>,
}

/// URL or Service, and who vouches.
type Key = (Option<String>, Option<ServiceReference>, Vec<u8>);

impl Clients {
    pub(crate) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Clients {
            reader,
            known: Mutex::default(),
        }
    }

    /// The client for a webhook that is configured so.
    pub(crate) fn get(&self, config: &ClientConfig) -> Result<Arc<Client>, CallError> {
        let bundle = config.ca_bundle.as_ref().map_or(&[][..], |b| &b.0);
        let key = (config.url.clone(), config.service.clone(), bundle.to_vec());
        if let Some(client) = self.known.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let address = match (&config.url, &config.service) {
            (_, Some(service)) => Address::Service(service.clone()),
            (Some(url), None) => Address::Url(url.clone()),
            (None, None) => {
                return Err(CallError::Config(
                    "webhook configuration must have either service or URL".to_owned(),
                ));
            }
        };
        let client = Client::new(address, &Trust::bundle(bundle), self.reader.clone())?;
        let client = Arc::new(client);
        let mut known = self.known.lock();
        known.retain(|_, client| client.strong_count() > 0);
        known.insert(key, Arc::downgrade(&client));
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use serde_json::json;

    use super::*;
    use crate::{
        admission::memory::MemoryReader,
        http::Body,
        pki::{Pki, ServerNames},
        serve::{self, Limits, Server, server_config},
    };

    const SECOND: Duration = Duration::from_secs(10);

    struct Hook {
        pki: Pki,
        port: u16,
        connections: Arc<AtomicUsize>,
        _server: Server,
    }

    /// A webhook that says at which path it was asked, at `localhost` and behind the Service `ns/hook`.
    async fn hook() -> Hook {
        let pki = Pki::in_memory().unwrap();
        let names = ServerNames {
            dns: vec!["localhost".to_owned(), "hook.ns.svc".to_owned()],
            ips: Vec::new(),
        };
        let tls = server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
        let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let peers = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            if let Some(peer) = request.extensions().get::<serve::PeerAddress>() {
                peers.lock().insert(format!("{peer:?}"));
                count.store(peers.lock().len(), Ordering::SeqCst);
            }
            let uri = request.uri().to_string();
            async move {
                let answer = match request.uri().path() {
                    "/slow" => std::future::pending().await,
                    "/broken" => http::Response::builder().status(500),
                    _ => http::Response::builder(),
                };
                Ok::<_, Infallible>(answer.body(Body::from(uri)).unwrap())
            }
        });
        let server = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
        Hook {
            pki,
            port,
            connections,
            _server: server,
        }
    }

    impl Hook {
        fn config(&self, at: serde_json::Value) -> ClientConfig {
            let mut config: ClientConfig = serde_json::from_value(at).unwrap();
            config.ca_bundle = Some(ByteString(self.pki.ca_pem().as_bytes().to_vec()));
            config
        }

        fn url(&self, path: &str) -> ClientConfig {
            self.config(json!({"url": format!("https://localhost:{}{path}", self.port)}))
        }
    }

    async fn ask(config: &ClientConfig, reader: &MemoryReader) -> Result<String, String> {
        let clients = Clients::new(Arc::new(reader.clone()));
        let client = clients.get(config).map_err(|e| e.to_string())?;
        let answer = client
            .post(Bytes::from_static(b"{}"), SECOND, 1 << 10)
            .await;
        answer
            .map(|b| String::from_utf8(b.to_vec()).unwrap())
            .map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_webhook_is_asked_at_its_url_and_over_one_connection() {
        let hook = hook().await;
        let clients = Clients::new(Arc::new(MemoryReader::default()));
        let client = clients.get(&hook.url("/a/b")).unwrap();
        for _ in 0..3 {
            let answer = client.post(Bytes::new(), SECOND, 1 << 10).await.unwrap();
            assert!(answer.ends_with(b"/a/b?timeout=10s"), "{answer:?}");
        }
        assert_eq!(hook.connections.load(Ordering::SeqCst), 1);
        let same = clients.get(&hook.url("/a/b")).unwrap();
        assert!(Arc::ptr_eq(&client, &same));
        assert!(
            client
                .post(Bytes::new(), SECOND, 3)
                .await
                .is_err_and(|e| matches!(e, CallError::TooLong(3)))
        );
    }

    #[tokio::test]
    async fn a_webhook_behind_a_service_is_asked_at_an_endpoint_of_it() {
        let hook = hook().await;
        let reader = MemoryReader::default();
        let config = hook.config(
            json!({"service": {"namespace": "ns", "name": "hook", "path": "/x", "port": 8443}}),
        );
        let refused = ask(&config, &reader).await.unwrap_err();
        assert_eq!(
            refused,
            "Post \"https://hook.ns.svc:8443/x?timeout=10s\": service \"hook\" not found"
        );
        reader.put(
            "",
            "services",
            json!({
                "metadata": {"namespace": "ns", "name": "hook"},
                "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "web", "port": 8443}]},
            }),
        );
        let refused = ask(&config, &reader).await.unwrap_err();
        assert!(
            refused.ends_with("no endpoints available for service \"hook\""),
            "{refused}"
        );
        reader.put("discovery.k8s.io", "endpointslices", json!({
            "metadata": {"namespace": "ns", "name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"]}],
            "ports": [{"name": "web", "port": hook.port}],
        }));
        let answer = ask(&config, &reader).await.unwrap();
        assert!(answer.ends_with("/x?timeout=10s"), "{answer}");
        let other = ClientConfig {
            service: config
                .service
                .clone()
                .map(|s| ServiceReference { port: 1, ..s }),
            ..config
        };
        let refused = ask(&other, &reader).await.unwrap_err();
        assert!(
            refused.ends_with("no service port 1 found for service \"hook\""),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_in_upstreams_words() {
        let hook = hook().await;
        let reader = MemoryReader::default();
        let refused = ask(&hook.url("/broken"), &reader).await.unwrap_err();
        assert!(refused.starts_with("an error on the server ("), "{refused}");
        let stranger = Pki::in_memory().unwrap();
        let mut config = hook.url("/");
        config.ca_bundle = Some(ByteString(stranger.ca_pem().as_bytes().to_vec()));
        let refused = ask(&config, &reader).await.unwrap_err();
        assert!(
            refused.ends_with(
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ),
            "{refused}"
        );
        let closed = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = hook.config(json!({"url": format!("https://localhost:{closed}/")}));
        let refused = ask(&config, &reader).await.unwrap_err();
        assert!(
            refused.ends_with("connect: connection refused"),
            "{refused}"
        );
        let clients = Clients::new(Arc::new(reader.clone()));
        let slow = clients.get(&hook.url("/slow")).unwrap();
        let late = slow
            .post(Bytes::new(), Duration::from_millis(50), 1 << 10)
            .await
            .unwrap_err();
        assert!(
            late.to_string()
                .ends_with("/slow?timeout=1s\": context deadline exceeded"),
            "{late}"
        );
        assert!(clients.get(&ClientConfig::default()).is_err());
    }
}
