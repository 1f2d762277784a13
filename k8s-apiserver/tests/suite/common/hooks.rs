//! A server over TLS, and a webhook that it can ask, over TLS too.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_apiserver::{
    ApiServer, ApiServerBuilder,
    http::Body,
    pki::{Credential, Pki, ServerNames},
    proxy::Connecter,
    serve::{self, Limits, Server},
};
use k8s_store::{Expect, List, MemoryStore, Op, Store, Write};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use super::{listen, wire::Wire};

pub(crate) const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
pub(crate) const MUTATING: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    /// The message of a refusal.
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code.as_u16(), code, "{}", self.body);
        self.body
    }
}

/// Where all connections to pods lead.
#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Connecter for Nowhere {
    async fn connect(
        &self,
        _namespace: &str,
        _name: &str,
        _subresource: &str,
        _rest_path: &str,
        request: Request<Body>,
    ) -> http::Response<Body> {
        let asked = request.uri().path_and_query().map(ToString::to_string);
        http::Response::new(Body::from(format!("nowhere {}", asked.unwrap_or_default())))
    }
}

/// A server as a cluster has it.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pki: Pki,
    admin: Credential,
    listener: Server,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(ApiServer::builder()).await
    }

    pub(crate) async fn start_with(builder: ApiServerBuilder) -> Self {
        let pki = Pki::in_memory().unwrap();
        let server = builder
            .connecter("", "pods", Arc::new(Nowhere))
            .build()
            .await
            .unwrap();
        let listener = listen(&server, &pki, Limits::default()).await;
        let admin = pki.issue_client("admin", &["system:masters"]).unwrap();
        let cluster = Cluster {
            server,
            pki,
            admin,
            listener,
        };
        // What a controller makes elsewhere: pods cannot do without.
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = "/api/v1/namespaces/default/serviceaccounts";
        cluster.post(path, account).await.expect(201);
        cluster
    }

    /// A request as the administrator.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        self.ask_as(&self.admin, method, path, kind, body).await
    }

    /// A request as somebody.
    pub(crate) async fn ask_as(
        &self,
        who: &Credential,
        method: &str,
        path: &str,
        kind: &str,
        body: Value,
    ) -> Answer {
        let headers = [("content-type", kind)];
        self.ask_with(who, method, path, &headers, body).await
    }

    /// Reads something in a media type.
    pub(crate) async fn wanting(&self, path: &str, accept: &str) -> Answer {
        let headers = [("accept", accept)];
        self.ask_with(&self.admin, "GET", path, &headers, Value::Null)
            .await
    }

    async fn ask_with(
        &self,
        who: &Credential,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let config = serve::client_config(self.pki.ca_der(), Some(who), &[b"http/1.1"]).unwrap();
        let stream = tokio::net::TcpStream::connect(self.listener.addresses()[0])
            .await
            .unwrap();
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let body = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let code = answer.status();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings.map(|w| w.to_str().unwrap().to_owned()).collect();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        Answer {
            code,
            body,
            warnings,
        }
    }

    /// A connection of the administrator's, to be written to byte by byte.
    pub(crate) async fn wire(&self) -> Wire {
        let config = serve::client_config(self.pki.ca_der(), Some(&self.admin), &[b"http/1.1"]);
        let stream = tokio::net::TcpStream::connect(self.listener.addresses()[0]);
        let stream = tokio_rustls::TlsConnector::from(config.unwrap())
            .connect(
                ServerName::try_from("localhost").unwrap(),
                stream.await.unwrap(),
            )
            .await
            .unwrap();
        Wire {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) fn user(&self, name: &str, groups: &[&str]) -> Credential {
        self.pki.issue_client(name, groups).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, Value::Null).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(
        &self,
        method: &str,
        path: &str,
        body: Value,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let waiting = async {
            loop {
                let answer = self.ask(method, path, body.clone()).await;
                if wanted(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(answer) => answer,
            Err(_) => panic!(
                "{method} {path} never answers as wanted: {:?}",
                self.ask(method, path, body).await
            ),
        }
    }

    /// Makes a definition of a custom resource and waits until it is served.
    pub(crate) async fn define(&self, definition: Value) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        self.post(path, definition).await.expect(201);
        self.until("GET", &format!("{path}/{name}"), Value::Null, |answer| {
            let conditions = answer.body["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Established" && c["status"] == "True")
            })
        })
        .await;
    }

    /// Makes a configuration and waits until its webhooks are asked. For that it gets one more, which refuses
    /// config maps with a label that nobody else uses.
    pub(crate) async fn install(&self, hook: &Webhook, path: &str, name: &str, hooks: &[Value]) {
        let configuration = self.configuration(hook, path, name, hooks);
        self.post(path, configuration).await.expect(201);
        self.in_effect(name).await;
    }

    pub(crate) fn configuration(
        &self,
        hook: &Webhook,
        path: &str,
        name: &str,
        hooks: &[Value],
    ) -> Value {
        let marker = hook.hook(
            "/always-deny",
            json!({
                "name": "marker.example.com",
                "objectSelector": {"matchLabels": {"marker": name}},
                "rules": [rule(&["CREATE"], "", "configmaps")],
            }),
        );
        let mut hooks = hooks.to_vec();
        hooks.push(marker);
        let kind = match path {
            MUTATING => "MutatingWebhookConfiguration",
            _ => "ValidatingWebhookConfiguration",
        };
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "labels": {"of": "test"}}, "webhooks": hooks})
    }

    /// Waits until the webhooks of a configuration are asked.
    pub(crate) async fn in_effect(&self, name: &str) {
        let (path, marker) = marker(name);
        self.until("POST", &path, marker, |answer| answer.code == 400)
            .await;
    }

    /// Waits until they no longer are.
    pub(crate) async fn no_longer_in_effect(&self, name: &str) {
        let (path, marker) = marker(name);
        self.until("POST", &path, marker, |answer| answer.code == 201)
            .await;
    }
}

fn marker(name: &str) -> (String, Value) {
    let mut marker = config_map("marker", json!({}));
    marker["metadata"]["labels"] = json!({"marker": name});
    let path = "/api/v1/namespaces/kube-public/configmaps?dryRun=All";
    (path.to_owned(), marker)
}

pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

pub(crate) fn rule(operations: &[&str], group: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]})
}

type Handler = dyn Fn(&str, &Value) -> Option<Value> + Send + Sync;

/// How long a webhook takes at paths that end in `-late`.
pub(crate) const LATE: Duration = Duration::from_millis(1500);

/// A webhook at `https://localhost`, which remembers what it was asked.
pub(crate) struct Webhook {
    pki: Pki,
    port: u16,
    asked: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    _server: Server,
}

impl Webhook {
    /// With somebody to answer: the path and the review to the whole answer; nothing is never answered.
    pub(crate) async fn start(
        answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let pki = Pki::in_memory().unwrap();
        let names = ServerNames {
            dns: vec!["localhost".to_owned(), "hook.default.svc".to_owned()],
            ips: Vec::new(),
        };
        let tls = serve::server_config(&pki.apiserver(&names).unwrap(), pki.ca_der()).unwrap();
        let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let asked: Arc<Mutex<BTreeMap<String, Vec<Value>>>> = Arc::default();
        let answer: Arc<Handler> = Arc::new(answer);
        let all = asked.clone();
        let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let (answer, all) = (answer.clone(), all.clone());
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let review: Value = serde_json::from_slice(&body).unwrap();
                if path.ends_with("-late") {
                    tokio::time::sleep(LATE).await;
                }
                let given = answer(&path, &review);
                all.lock().unwrap().entry(path).or_default().push(review);
                let body = match given {
                    Some(body) => body,
                    None => std::future::pending().await,
                };
                Ok::<_, Infallible>(http::Response::new(Body::from(body.to_string())))
            }
        });
        let server = serve::serve(service, vec![socket], tls, Limits::default()).unwrap();
        Webhook {
            pki,
            port,
            asked,
            _server: server,
        }
    }

    /// One that answers admission reviews: the path and the request to the response, which needs no UID.
    pub(crate) async fn admission(
        answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Webhook::start(move |path, review| {
            let mut response = match path {
                "/always-deny" => deny("this webhook denies all requests"),
                _ => answer(path, &review["request"])?,
            };
            response["uid"] = review["request"]["uid"].clone();
            Some(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
        })
        .await
    }

    /// What it was asked at a path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Value> {
        self.asked
            .lock()
            .unwrap()
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn ca(&self) -> String {
        STANDARD.encode(self.pki.ca_pem())
    }

    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": self.ca()})
    }

    /// A webhook of a configuration, which is asked at a path.
    pub(crate) fn hook(&self, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{}.example.com", path.trim_matches('/').replace('/', "-")) ,
            "admissionReviewVersions": ["v1", "v1beta1"], "sideEffects": "None",
            "clientConfig": self.client_config(path),
        });
        for (key, value) in more.as_object().unwrap() {
            hook[key] = value.clone();
        }
        hook
    }

    /// Makes the Service `default/hook` and its endpoint, in a cluster that keeps its objects there.
    pub(crate) async fn behind_service(&self, cluster: &Cluster, store: &MemoryStore) -> Value {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
            "spec": {"ports": [{"port": 443, "targetPort": self.port}]}});
        cluster
            .post("/api/v1/namespaces/default/services", service)
            .await
            .expect(201);
        const ELSEWHERE: &str = "192.0.2.1";
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4", "endpoints": [{"addresses": [ELSEWHERE]}],
            "ports": [{"name": "", "port": self.port}]});
        cluster
            .post(
                "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                slice,
            )
            .await
            .expect(201);
        // As the server itself would not let anybody make it: an endpoint on the loopback.
        let list = List {
            prefix: Bytes::from_static(b"/registry/endpointslices/default/hook-1"),
            ..List::default()
        };
        let entry = store.list(list).await.unwrap().entries.remove(0);
        let value = String::from_utf8(entry.value.to_vec()).unwrap();
        let write = Write {
            key: entry.key,
            expect: Expect::Modified(entry.modified),
            op: Op::Put {
                value: value.replace(ELSEWHERE, "127.0.0.1").into(),
                ttl: None,
            },
        };
        store.commit(vec![write]).await.unwrap();
        json!({"service": {"namespace": "default", "name": "hook"}, "caBundle": self.ca()})
    }
}

pub(crate) fn allow() -> Value {
    json!({"allowed": true})
}

pub(crate) fn deny(message: &str) -> Value {
    json!({"allowed": false, "status": {"message": message}})
}

/// Allows with a JSON patch.
pub(crate) fn patch(steps: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(steps.to_string())})
}
