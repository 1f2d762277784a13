//! ServiceCIDRs, which addresses of Services come from, and IPAddresses, which say whose they are (KEP-1880).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use k8s_apiserver::{Advertised, ApiServer, ApiServerBuilder, Cidr};
use k8s_openapi::jiff::Timestamp;
use k8s_store::{Expect, List, MemoryStore, Op, Store, Write};
use serde_json::{Value, json};

use crate::{
    common::{call, get, send, server, text},
    services::{SERVICES, service},
    watches::{Lines, brief},
};

pub(crate) const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
pub(crate) const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

pub(crate) async fn small(store: &Arc<MemoryStore>, cidr: &str) -> ApiServer {
    let cidr: Cidr = cidr.parse().unwrap();
    let builder = ApiServer::builder().store(store.clone()).service_cidr(cidr);
    builder.build().await.unwrap()
}

/// Makes a Service; its address.
async fn made(server: &ApiServer, name: &str, spec: Value) -> String {
    let (status, made) = call(server, "POST", SERVICES, service(name, spec)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let ip = made["spec"]["clusterIP"].as_str().unwrap_or_default();
    ip.to_owned()
}

async fn cidr(server: &ApiServer, name: &str, cidr: &str) {
    let body = json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}});
    let (status, made) = call(server, "POST", CIDRS, body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
}

/// Waits until a request is answered so.
pub(crate) async fn until(
    server: &ApiServer,
    uri: &str,
    wanted: impl Fn(StatusCode, &Value) -> bool,
) -> Value {
    let seen = async {
        loop {
            let (status, value) = get(server, uri).await;
            if wanted(status, &value) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, seen).await.expect(uri)
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// Waits until there is an event with that reason; the event.
async fn event(server: &ApiServer, reason: &str) -> Value {
    let has = |list: &Value| {
        let items = list["items"].as_array().into_iter().flatten();
        items
            .clone()
            .find(|event| event["reason"] == reason)
            .cloned()
    };
    let list = until(server, "/api/v1/events", |_, list| has(list).is_some()).await;
    has(&list).unwrap()
}

#[tokio::test]
async fn the_servers_own_range_is_a_service_cidr() {
    let store = Arc::new(MemoryStore::new());
    let server = small(&store, "10.7.0.0/20").await;
    let uri = format!("{CIDRS}/kubernetes");
    let (status, own) = get(&server, &uri).await;
    assert_eq!(status, StatusCode::OK, "{own}");
    assert_eq!(own["spec"]["cidrs"], json!(["10.7.0.0/20"]));
    assert_eq!(own["metadata"]["generation"], Value::Null);
    let condition = &own["status"]["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"],
            &condition["message"]
        ),
        (
            &json!("Ready"),
            &json!("True"),
            &json!(""),
            &json!("Kubernetes default Service CIDR is ready")
        )
    );
    // Who deletes it gets another.
    let (status, _) = call(&server, "DELETE", &uri, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    until(&server, &uri, |status, now| {
        status == StatusCode::OK && now["metadata"]["uid"] != own["metadata"]["uid"]
    })
    .await;
    // Who takes away what is said of it is told again.
    let none = json!({"status": {"conditions": null}});
    let (status, _) = call(&server, "PATCH", &format!("{uri}/status"), none).await;
    assert_eq!(status, StatusCode::OK);
    let kept = until(&server, &uri, |_, now| {
        now["status"]["conditions"][0]["status"] == "True"
    })
    .await;
    server.shutdown().await;

    // One that was started with another range keeps it, and tells.
    let server = small(&store, "10.8.0.0/20").await;
    let told = event(&server, "KubernetesDefaultServiceCIDRInconsistent").await;
    assert_eq!(
        told["message"],
        "The default ServiceCIDR [10.7.0.0/20] does not match the controller flag configurations [10.8.0.0/20]"
    );
    assert_eq!(told["metadata"]["namespace"], "default");
    let (_, own) = get(&server, &uri).await;
    assert_eq!(own["metadata"]["uid"], kept["metadata"]["uid"]);
    let ip = made(&server, "s", json!({})).await;
    assert!(ip.starts_with("10.7."), "{ip}");
}

#[tokio::test]
async fn the_address_of_a_service_is_an_object_as_long_as_the_service_has_it() {
    let server = server().await;
    let (_, list) = get(&server, ADDRESSES).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let uri = format!("{ADDRESSES}?watch=1&resourceVersion={from}");
    let mut watch = Lines::open(&server, &uri, "application/json").await;
    let ip = made(&server, "s", json!({})).await;
    let uri = format!("{ADDRESSES}/{ip}");
    let (status, object) = get(&server, &uri).await;
    assert_eq!(status, StatusCode::OK, "{object}");
    assert_eq!(
        object["spec"],
        json!({"parentRef": {"resource": "services", "namespace": "default", "name": "s"}})
    );
    assert_eq!(
        object["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    assert_eq!(object["metadata"]["generation"], Value::Null);
    let (_, made_service) = get(&server, &format!("{SERVICES}/s")).await;
    // One commit made both.
    assert_eq!(
        object["metadata"]["resourceVersion"],
        made_service["metadata"]["resourceVersion"]
    );
    assert_eq!(brief(&watch.next().await.unwrap()), ("ADDED", &*ip));
    // To a name elsewhere and back.
    let elsewhere = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    let (status, moved) = call(&server, "PATCH", &format!("{SERVICES}/s"), elsewhere).await;
    assert_eq!(status, StatusCode::OK, "{moved}");
    assert_eq!(get(&server, &uri).await.0, StatusCode::NOT_FOUND);
    assert_eq!(brief(&watch.next().await.unwrap()), ("DELETED", &*ip));
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null, "clusterIP": ip}});
    let (status, moved) = call(&server, "PATCH", &format!("{SERVICES}/s"), back).await;
    assert_eq!(status, StatusCode::OK, "{moved}");
    assert_eq!(brief(&watch.next().await.unwrap()), ("ADDED", &*ip));
    // What is only tried, or has no address, takes none.
    let tried = format!("{SERVICES}?dryRun=All");
    let (status, _) = call(&server, "POST", &tried, service("t", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED);
    made(&server, "h", json!({"clusterIP": "None"})).await;
    let tried = format!("{SERVICES}/s?dryRun=All");
    call(&server, "DELETE", &tried, Value::Null).await;
    let (_, list) = get(&server, ADDRESSES).await;
    assert_eq!(names(&list), [&*ip]);
    call(&server, "DELETE", &format!("{SERVICES}/s"), Value::Null).await;
    assert_eq!(brief(&watch.next().await.unwrap()), ("DELETED", &*ip));
    assert_eq!(get(&server, &uri).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_kubernetes_service_has_an_object_for_its_address_too() {
    let advertised = Advertised {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        port: 6443,
    };
    let builder = ApiServer::builder().advertise(advertised);
    let server = builder.build().await.unwrap();
    let (status, object) = get(&server, &format!("{ADDRESSES}/10.96.0.1")).await;
    assert_eq!(status, StatusCode::OK, "{object}");
    assert_eq!(object["spec"]["parentRef"]["name"], "kubernetes");
    // As kubectl shows them.
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let table = async |uri: &str| {
        let (_, body) = text(send(&server, "GET", uri, &accept, "").await).await;
        let table: Value = serde_json::from_str(&body).unwrap();
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        let names: Vec<Value> = columns.map(|c| c["name"].clone()).collect();
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        (json!(names), json!(cells[..2]))
    };
    assert_eq!(
        table(ADDRESSES).await,
        (
            json!(["Name", "ParentRef", "Age"]),
            json!(["10.96.0.1", "services/default/kubernetes"])
        )
    );
    assert_eq!(
        table(CIDRS).await,
        (
            json!(["Name", "CIDRs", "Age"]),
            json!(["kubernetes", "10.96.0.0/16"])
        )
    );
}

#[tokio::test]
async fn an_address_that_is_taken_or_in_no_range_is_refused() {
    let server = server().await;
    let refused = async |ip: &str| {
        let asked = service("s", json!({"clusterIP": ip}));
        let (status, error) = call(&server, "POST", SERVICES, asked).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    let start = "Service \"s\" is invalid: spec.clusterIPs: Invalid value:";
    for ip in ["10.97.0.1", "10.96.0.0", "10.96.255.255"] {
        let expected = format!(
            "{start} [\"{ip}\"]: failed to allocate IP {ip}: the provided network does not match the current range"
        );
        assert_eq!(refused(ip).await, expected);
    }
    // Whoever has an IPAddress has the address, whatever it is for.
    let gateway = json!({"metadata": {"name": "10.96.0.77"}, "spec": {"parentRef":
        {"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "default", "name": "g"}}});
    let (status, made) = call(&server, "POST", ADDRESSES, gateway).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let expected = format!(
        "{start} [\"10.96.0.77\"]: failed to allocate IP 10.96.0.77: provided IP is already allocated"
    );
    assert_eq!(refused("10.96.0.77").await, expected);
}

#[tokio::test]
async fn service_cidrs_add_to_a_range_that_is_full() {
    let store = Arc::new(MemoryStore::new());
    let server = small(&store, "10.0.0.0/28").await;
    let mut ips = std::collections::BTreeSet::new();
    for i in 0..14 {
        ips.insert(made(&server, &format!("s{i}"), json!({})).await);
    }
    assert_eq!(ips.len(), 14);
    let full = async |name: &str| {
        let (status, error) = call(&server, "POST", SERVICES, service(name, json!({}))).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{error}");
        assert_eq!(
            error["message"],
            "Internal error occurred: failed to allocate a serviceIP: range is full"
        );
    };
    full("a").await;
    // Of the other family, or too small: nothing to hand out.
    cidr(&server, "six", "2001:db8::/112").await;
    cidr(&server, "none", "10.3.0.0/32").await;
    full("a").await;
    cidr(&server, "more", "10.1.0.0/30").await;
    let ip = made(&server, "a", json!({})).await;
    assert!(["10.1.0.1", "10.1.0.2"].contains(&&*ip), "{ip}");
    made(&server, "b", json!({})).await;
    full("c").await;
    // One that is not ready hands out nothing, not even to who asks for it; nor does one that goes.
    cidr(&server, "later", "10.2.0.0/24").await;
    let uri = format!("{CIDRS}/later");
    let ready = |status: &str| {
        json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "R",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    let say = format!("{uri}/status");
    let (status, told) = call(&server, "PATCH", &say, ready("False")).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    full("c").await;
    let asked = service("c", json!({"clusterIP": "10.2.0.9"}));
    let (status, _) = call(&server, "POST", SERVICES, asked.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    call(&server, "PATCH", &say, ready("True")).await;
    let (status, given) = call(&server, "POST", SERVICES, asked).await;
    assert_eq!(status, StatusCode::CREATED, "{given}");
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    call(&server, "PATCH", &uri, held).await;
    let (status, _) = call(&server, "DELETE", &uri, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    full("d").await;
    // What is free again is found, wherever it is.
    call(&server, "DELETE", &format!("{SERVICES}/s3"), Value::Null).await;
    let again = made(&server, "d", json!({})).await;
    assert!(ips.contains(&again), "{again}");
}

#[tokio::test]
async fn two_servers_on_one_store_give_no_address_twice() {
    let store = Arc::new(MemoryStore::new());
    let one = small(&store, "10.0.0.0/28").await;
    let two = small(&store, "10.0.0.0/28").await;
    let asked = futures::future::join_all((0..20).map(|i| {
        let server = if i % 2 == 0 { one.clone() } else { two.clone() };
        async move {
            let body = service(&format!("s{i}"), json!({}));
            call(&server, "POST", SERVICES, body).await
        }
    }))
    .await;
    let given: Vec<&Value> = (asked.iter())
        .filter(|(status, _)| *status == StatusCode::CREATED)
        .map(|(_, service)| &service["spec"]["clusterIP"])
        .collect();
    let different: std::collections::BTreeSet<_> =
        given.iter().map(|ip| ip.as_str().unwrap()).collect();
    assert_eq!((given.len(), different.len()), (14, 14));
    let (_, list) = get(&two, ADDRESSES).await;
    assert_eq!(names(&list).len(), 14);
}

#[tokio::test]
async fn an_address_that_somebody_has_meddled_with_is_mended() {
    let server = server().await;
    let ip = made(&server, "s", json!({})).await;
    let uri = format!("{ADDRESSES}/{ip}");
    let (_, before) = get(&server, &uri).await;
    let is_fine = |_, now: &Value| {
        now["spec"] == before["spec"] && now["metadata"]["labels"] == before["metadata"]["labels"]
    };
    let (status, _) = call(&server, "DELETE", &uri, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let again = until(&server, &uri, is_fine).await;
    assert_ne!(again["metadata"]["uid"], before["metadata"]["uid"]);
    let told = event(&server, "ClusterIPNotAllocated").await;
    assert_eq!(
        told["message"],
        format!("Cluster IP [IPv4]: {ip} is not allocated; repairing")
    );
    assert_eq!(
        (&told["involvedObject"]["name"], &told["reportingComponent"]),
        (&json!("s"), &json!("ipallocator-repair-controller"))
    );
    let bare = json!({"metadata": {"labels": null}});
    let (status, _) = call(&server, "PATCH", &uri, bare).await;
    assert_eq!(status, StatusCode::OK);
    until(&server, &uri, is_fine).await;
}

#[tokio::test]
async fn an_address_that_somebody_else_was_given_meanwhile_is_a_services_again_or_stays_with_them()
{
    let store = Arc::new(MemoryStore::new());
    let unattended = unattended(&store).await;
    let ip = made(&unattended, "s", json!({})).await;
    let uri = format!("{ADDRESSES}/{ip}");
    call(&unattended, "DELETE", &uri, Value::Null).await;
    let other = json!({"metadata": {"name": ip}, "spec": {"parentRef":
        {"resource": "services", "namespace": "default", "name": "nobody"}}});
    let (status, made_other) = call(&unattended, "POST", ADDRESSES, other).await;
    assert_eq!(status, StatusCode::CREATED, "{made_other}");
    // The Service goes, and leaves alone what is not its own.
    let twin = made(&unattended, "twin", json!({})).await;
    let twin_uri = format!("{ADDRESSES}/{twin}");
    call(&unattended, "DELETE", &twin_uri, Value::Null).await;
    let theirs = json!({"metadata": {"name": twin}, "spec": {"parentRef":
        {"resource": "services", "namespace": "default", "name": "nobody"}}});
    call(&unattended, "POST", ADDRESSES, theirs).await;
    call(
        &unattended,
        "DELETE",
        &format!("{SERVICES}/twin"),
        Value::Null,
    )
    .await;
    assert_eq!(get(&unattended, &twin_uri).await.0, StatusCode::OK);
    // A server that looks gives it back to the Service that has it.
    let server = small(&store, "10.96.0.0/16").await;
    let (_, mended) = get(&server, &uri).await;
    assert_eq!(mended["spec"]["parentRef"]["name"], "s", "{mended}");
    event(&server, "ClusterIPNotAllocated").await;
    assert_eq!(get(&server, &twin_uri).await.0, StatusCode::OK);
}

/// A server that makes nothing by itself, and sees to nothing.
async fn unattended(store: &Arc<MemoryStore>) -> ApiServer {
    let builder = || ApiServer::builder().store(store.clone());
    // For the namespaces.
    builder().build().await.unwrap().shutdown().await;
    builder().bootstrap(false).build().await.unwrap()
}

#[tokio::test]
async fn a_store_without_addresses_has_them_before_any_is_handed_out() {
    let store = Arc::new(MemoryStore::new());
    let unattended = unattended(&store).await;
    let mut ips = Vec::new();
    for i in 0..20 {
        ips.push(made(&unattended, &format!("s{i}"), json!({})).await);
    }
    unattended.shutdown().await;
    // As a store that was made before there were any.
    let prefix = bytes::Bytes::from_static(b"/registry/ipaddresses/");
    let list = List {
        prefix,
        ..List::default()
    };
    let entries = store.list(list).await.unwrap().entries;
    assert_eq!(entries.len(), 20);
    let gone = entries.into_iter().map(|entry| Write {
        key: entry.key,
        expect: Expect::Any,
        op: Op::Delete,
    });
    store.commit(gone.collect()).await.unwrap();
    let server = small(&store, "10.96.0.0/16").await;
    for ip in ips {
        let (status, _) = get(&server, &format!("{ADDRESSES}/{ip}")).await;
        assert_eq!(status, StatusCode::OK, "{ip}");
        let asked = service("late", json!({"clusterIP": ip}));
        let (status, _) = call(&server, "POST", SERVICES, asked).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn an_address_of_no_service_goes_after_a_minute() {
    let now = Arc::new(AtomicI64::new(1_700_000_000));
    let clock = now.clone();
    let builder: ApiServerBuilder = ApiServer::builder().clock(Arc::new(move || {
        Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap()
    }));
    let server = builder.build().await.unwrap();
    let stray = |ip: &str, by: &str| {
        json!({"metadata": {"name": ip, "labels": {"ipaddress.kubernetes.io/managed-by": by}},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "gone"}}})
    };
    for (ip, by) in [
        ("10.96.0.9", "ipallocator.k8s.io"),
        ("10.96.0.10", "somebody.example.com"),
    ] {
        let (status, made) = call(&server, "POST", ADDRESSES, stray(ip, by)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
    now.fetch_add(61, Ordering::SeqCst);
    // Any change is a reason to look again.
    let touch = json!({"metadata": {"annotations": {"a": "b"}}});
    for ip in ["10.96.0.9", "10.96.0.10"] {
        call(
            &server,
            "PATCH",
            &format!("{ADDRESSES}/{ip}"),
            touch.clone(),
        )
        .await;
    }
    until(&server, &format!("{ADDRESSES}/10.96.0.9"), |status, _| {
        status == StatusCode::NOT_FOUND
    })
    .await;
    let told = event(&server, "IPAddressNotAllocated").await;
    assert_eq!(
        told["message"],
        "IPAddress: 10.96.0.9 for Service default/gone appears to have leaked: cleaning up"
    );
    let (status, _) = get(&server, &format!("{ADDRESSES}/10.96.0.10")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn an_address_that_is_held_is_marked_when_its_service_goes() {
    let server = server().await;
    let ip = made(&server, "s", json!({})).await;
    let uri = format!("{ADDRESSES}/{ip}");
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    let (status, _) = call(&server, "PATCH", &uri, held).await;
    assert_eq!(status, StatusCode::OK);
    call(&server, "DELETE", &format!("{SERVICES}/s"), Value::Null).await;
    let (status, marked) = get(&server, &uri).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        marked["metadata"]["deletionTimestamp"].is_string(),
        "{marked}"
    );
    let asked = service("t", json!({"clusterIP": ip}));
    let (status, _) = call(&server, "POST", SERVICES, asked.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let let_go = json!({"metadata": {"finalizers": null}});
    call(&server, "PATCH", &uri, let_go).await;
    let (status, given) = call(&server, "POST", SERVICES, asked).await;
    assert_eq!(status, StatusCode::CREATED, "{given}");
}

#[tokio::test]
async fn two_services_with_one_address_are_told_of() {
    let store = Arc::new(MemoryStore::new());
    let unattended = unattended(&store).await;
    let ip = made(&unattended, "a", json!({})).await;
    // Nobody was there to mend it.
    call(
        &unattended,
        "DELETE",
        &format!("{ADDRESSES}/{ip}"),
        Value::Null,
    )
    .await;
    let same = made(&unattended, "b", json!({"clusterIP": ip})).await;
    assert_eq!(ip, same);
    let server = small(&store, "10.96.0.0/16").await;
    let told = event(&server, "ClusterIPAlreadyAllocated").await;
    assert_eq!(told["involvedObject"]["name"], "a");
    assert_eq!(
        told["message"],
        format!(
            "Cluster IP [IPv4]:{ip} was assigned to multiple services; please recreate service"
        )
    );
    // Neither takes it from the other when it goes.
    call(&server, "DELETE", &format!("{SERVICES}/a"), Value::Null).await;
    let (_, object) = get(&server, &format!("{ADDRESSES}/{ip}")).await;
    assert_eq!(object["spec"]["parentRef"]["name"], "b");
}

#[tokio::test]
async fn an_address_in_no_range_is_told_of() {
    let store = Arc::new(MemoryStore::new());
    let server = small(&store, "10.0.0.0/28").await;
    cidr(&server, "more", "10.1.0.0/28").await;
    made(&server, "s", json!({"clusterIP": "10.1.0.5"})).await;
    // No controller holds it.
    call(&server, "DELETE", &format!("{CIDRS}/more"), Value::Null).await;
    let told = event(&server, "ClusterIPOutOfRange").await;
    assert_eq!(
        told["message"],
        "Cluster IP [IPv4]: 10.1.0.5 is not within any configured Service CIDR; please recreate service"
    );
    // It keeps what it has.
    let change = json!({"metadata": {"labels": {"a": "b"}}});
    let (status, kept) = call(&server, "PATCH", &format!("{SERVICES}/s"), change).await;
    assert_eq!(status, StatusCode::OK, "{kept}");
    assert_eq!(kept["spec"]["clusterIP"], "10.1.0.5");
}
