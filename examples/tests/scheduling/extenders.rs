//! Extenders: another process has its say, in upstream's protocol and as upstream's file configures it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::{core::v1::Pod, scheduling::v1::PriorityClass};
use k8s_scheduler::config::{Configuration, Registry};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cluster::{Cluster, cpu, from};

type Answerer = dyn Fn(&str, &Value) -> Option<Value> + Send + Sync;

/// An extender, and what it was asked: verbs with their arguments.
struct Extender {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    _task: tokio::task::JoinHandle<()>,
}

impl Extender {
    async fn answering(
        answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/extender", listener.local_addr().expect("it"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answerer> = Arc::new(answer);
        let log = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                let service =
                    service_fn(move |request| serve(request, answer.clone(), log.clone()));
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            url,
            asked,
            _task: task,
        }
    }

    fn asked(&self, verb: &str) -> Vec<Value> {
        let asked = self.asked.lock().expect("no panic");
        let calls = asked.iter().filter(|(v, _)| v == verb);
        calls.map(|(_, arguments)| arguments.clone()).collect()
    }

    /// A cluster whose scheduler has this extender, with more lines of its section.
    async fn cluster(&self, section: &str) -> Cluster {
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
             extenders:\n- urlPrefix: {}\n  {section}\n",
            self.url
        );
        let configuration =
            Configuration::parse(&text, &Registry::default()).expect("it is well formed");
        Cluster::with(configuration.profiles, configuration.driver).await
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: Arc<Answerer>,
    log: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let verb = path.rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.expect("a body");
    let arguments: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    let reply = answer(&verb, &arguments);
    log.lock().expect("no panic").push((verb, arguments));
    Ok(match reply {
        Some(reply) => Response::new(Full::from(reply.to_string())),
        None => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    })
}

#[tokio::test]
async fn an_extender_filters_and_scores_by_name() {
    let extender = Extender::answering(|verb, arguments| {
        let names = arguments["NodeNames"].as_array().expect("names");
        Some(match verb {
            "filter" if arguments["Pod"]["metadata"]["name"] == "nowhere" => {
                json!({"NodeNames": [], "FailedNodes": {"one": "too red"},
                       "FailedAndUnresolvableNodes": {"two": "too green"}})
            }
            // As programs in other languages write it.
            "filter" => json!({"nodenames": names}),
            _ => json!([{"Host": "one", "Score": 0}, {"Host": "two", "Score": 10}]),
        })
    })
    .await;
    let section =
        "filterVerb: filter\n  prioritizeVerb: prioritize\n  weight: 100\n  nodeCacheCapable: true";
    let cluster = extender.cluster(section).await;
    for name in ["a", "b", "c"] {
        cluster.pod(name, json!({})).await;
        assert_eq!(cluster.place_of(name).await, "two");
    }
    cluster.pod("nowhere", json!({})).await;
    let said = cluster.refusal_of("nowhere").await;
    assert!(
        said.starts_with("0/2 nodes are available: 1 too green, 1 too red."),
        "{said}"
    );
    let asked = extender.asked("filter");
    assert!(asked[0]["Nodes"].is_null(), "{}", asked[0]);
    assert_eq!(asked[0]["Pod"]["kind"], "Pod");
}

#[tokio::test]
async fn an_extender_that_does_not_know_the_nodes_is_sent_them() {
    let extender = Extender::answering(|_, arguments| {
        let items = arguments["Nodes"]["items"].as_array().expect("nodes");
        let one = items.iter().find(|n| n["metadata"]["name"] == "one");
        Some(json!({"Nodes": {"metadata": {}, "items": [one]}}))
    })
    .await;
    let cluster = extender.cluster("filterVerb: filter").await;
    for name in ["a", "b"] {
        cluster.pod(name, json!({})).await;
        assert_eq!(cluster.place_of(name).await, "one");
    }
}

#[tokio::test]
async fn an_extender_that_fails_stops_its_pods_unless_it_is_ignorable() {
    let extender = Extender::answering(|_, _| None).await;
    let cluster = extender.cluster("filterVerb: filter").await;
    cluster.pod("a", json!({})).await;
    let said = cluster.refusal_of("a").await;
    assert!(
        said.starts_with("failed filter with extender at URL http://127.0.0.1"),
        "{said}"
    );
    assert!(said.ends_with("code 500"), "{said}");
    let cluster = extender
        .cluster("filterVerb: filter\n  ignorable: true")
        .await;
    cluster.pod("a", json!({})).await;
    cluster.place_of("a").await;
}

#[tokio::test]
async fn an_extender_is_asked_only_about_pods_that_want_what_it_manages() {
    let extender =
        Extender::answering(|_, arguments| Some(json!({"NodeNames": arguments["NodeNames"]})))
            .await;
    let section = "filterVerb: filter\n  nodeCacheCapable: true\n  managedResources:\n  - name: example.com/unit\n    ignoredByScheduler: true";
    let cluster = extender.cluster(section).await;
    cluster.pod("plain", json!({})).await;
    cluster.place_of("plain").await;
    assert!(extender.asked("filter").is_empty());
    // No node has any, and the scheduler leaves that to the extender.
    cluster
        .pod(
            "special",
            json!({"containers": [{"name": "c", "image": "example.com/pause",
            "resources": {"limits": {"example.com/unit": "1"}, "requests": {"example.com/unit": "1"}}}]}),
        )
        .await;
    cluster.place_of("special").await;
    assert_eq!(extender.asked("filter").len(), 1);
}

#[tokio::test]
async fn an_extender_binds_and_says_where_room_may_be_made() {
    let (sender, receiver) = std::sync::mpsc::channel::<Value>();
    let extender = Extender::answering(move |verb, arguments| {
        Some(match verb {
            "bind" => {
                sender.send(arguments.clone()).expect("somebody listens");
                json!({})
            }
            _ => {
                // Only on that node, with the victims that were proposed.
                let victims = &arguments["NodeNameToMetaVictims"]["two"];
                json!({"NodeNameToMetaVictims": {"two": victims}})
            }
        })
    })
    .await;
    let section = "bindVerb: bind\n  preemptVerb: preempt\n  nodeCacheCapable: true";
    let cluster = extender.cluster(section).await;
    let classes = Api::<PriorityClass>::all(cluster.client.clone());
    let class = from(json!({"metadata": {"name": "high"}, "value": 1000}));
    classes
        .create(&PostParams::default(), &class)
        .await
        .expect("a class");
    let client = cluster.client.clone();
    let handle = tokio::runtime::Handle::current();
    // The extender's other half, which does what it was asked for.
    let binder = std::thread::spawn(move || {
        for _ in 0..3 {
            let wanted = receiver.recv().expect("a binding");
            let name = wanted["PodName"].as_str().expect("a name").to_owned();
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                                 "target": {"kind": "Node", "name": wanted["Node"]}});
            let pods = Api::<Pod>::default_namespaced(client.clone());
            let params = PostParams::default();
            handle.spawn(async move {
                let bound =
                    pods.create_subresource::<_, Value>("binding", &name, &params, &binding);
                bound.await.expect("it is bound");
            });
        }
    });
    for name in ["low-1", "low-2"] {
        cluster.pod(name, json!({"containers": cpu("1500m")})).await;
        cluster.place_of(name).await;
    }
    cluster
        .pod(
            "high",
            json!({"priorityClassName": "high", "containers": cpu("1500m")}),
        )
        .await;
    assert_eq!(cluster.place_of("high").await, "two");
    tokio::task::spawn_blocking(|| binder.join())
        .await
        .expect("it ends")
        .expect("no panic");
    let asked = extender.asked("preempt");
    let proposed = asked[0]["NodeNameToMetaVictims"]
        .as_object()
        .expect("nodes");
    assert_eq!(proposed.len(), 2);
}
