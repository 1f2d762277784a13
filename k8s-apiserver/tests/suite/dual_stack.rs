//! Services with an address of each family.

use std::sync::Arc;

use http::StatusCode;
use k8s_apiserver::{ApiServer, Cidr};
use k8s_store::MemoryStore;
use serde_json::{Value, json};

use crate::{
    common::{call, get},
    service_cidrs::{ADDRESSES, CIDRS, names, small, until},
    services::{SERVICES, service},
};

/// A server with a range of each family; IPv6 is the default.
async fn dual(store: &Arc<MemoryStore>) -> ApiServer {
    let builder = ApiServer::builder().store(store.clone());
    let builder = builder.service_cidr("fd00:10:96::/112".parse().unwrap());
    let builder = builder.secondary_service_cidr("10.7.0.0/20".parse().unwrap());
    builder.build().await.unwrap()
}

/// The spec of a Service, and how many addresses of each family it has: `64` is one of IPv6, then one of IPv4.
fn families(service: &Value) -> (&Value, String) {
    let spec = &service["spec"];
    let list = |field: &str| spec[field].as_array().unwrap();
    let digits = list("ipFamilies").iter().map(|family| {
        let family = family.as_str().unwrap();
        family.trim_start_matches("IPv").to_owned()
    });
    let digits: String = digits.collect();
    for (ip, digit) in list("clusterIPs").iter().zip(digits.chars()) {
        let ip = ip.as_str().unwrap();
        let is_six = ip.starts_with("fd00:10:96::");
        assert!(is_six || ip.starts_with("10.7."), "{ip}");
        assert_eq!(is_six, digit == '6', "{spec}");
    }
    assert_eq!(list("clusterIPs").len(), digits.len(), "{spec}");
    assert_eq!(spec["clusterIP"], spec["clusterIPs"][0]);
    (spec, digits)
}

#[tokio::test]
async fn a_service_has_an_address_of_each_of_its_families() {
    let store = Arc::new(MemoryStore::new());
    let server = dual(&store).await;
    let (_, own) = get(&server, &format!("{CIDRS}/kubernetes")).await;
    assert_eq!(
        own["spec"]["cidrs"],
        json!(["fd00:10:96::/112", "10.7.0.0/20"])
    );
    let post = async |name: &str, spec: Value| {
        let (status, made) = call(&server, "POST", SERVICES, service(name, spec)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made
    };
    let single = post("single", json!({})).await;
    assert_eq!(families(&single).1, "6");
    assert_eq!(single["spec"]["ipFamilyPolicy"], "SingleStack");
    let four = post("four", json!({"ipFamilies": ["IPv4"]})).await;
    assert_eq!(families(&four).1, "4");
    let policy = |policy: &str| json!({"ipFamilyPolicy": policy});
    let both = post("both", policy("RequireDualStack")).await;
    assert_eq!(families(&both).1, "64");
    let chosen = json!({"clusterIP": "10.7.0.9", "clusterIPs": ["10.7.0.9", "fd00:10:96::9"],
        "ipFamilyPolicy": "PreferDualStack"});
    let chosen = post("chosen", chosen).await;
    assert_eq!(families(&chosen).1, "46");
    assert_eq!(
        chosen["spec"]["clusterIPs"],
        json!(["10.7.0.9", "fd00:10:96::9"])
    );
    // One that is taken takes the other with it.
    let taken = json!({"clusterIP": "fd00:10:96::8", "clusterIPs": ["fd00:10:96::8", "10.7.0.9"],
        "ipFamilyPolicy": "PreferDualStack"});
    let (status, error) = call(&server, "POST", SERVICES, service("taken", taken)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    assert_eq!(
        error["message"],
        "Service \"taken\" is invalid: spec.clusterIPs: Invalid value: [\"fd00:10:96::8\",\"10.7.0.9\"]: \
         failed to allocate IP 10.7.0.9: provided IP is already allocated"
    );
    let (_, list) = get(&server, ADDRESSES).await;
    let mut held: Vec<String> = [&single, &four, &both, &chosen]
        .iter()
        .flat_map(|made| made["spec"]["clusterIPs"].as_array().unwrap())
        .map(|ip| ip.as_str().unwrap().to_owned())
        .collect();
    held.sort();
    assert_eq!(names(&list), held);
    let (_, object) = get(&server, &format!("{ADDRESSES}/fd00:10:96::9")).await;
    assert_eq!(
        object["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"],
        "IPv6"
    );
    server.shutdown().await;
}

#[tokio::test]
async fn a_service_gets_and_loses_its_second_address_by_its_policy() {
    let store = Arc::new(MemoryStore::new());
    let server = dual(&store).await;
    let uri = format!("{SERVICES}/s");
    let (_, made) = call(&server, "POST", SERVICES, service("s", json!({}))).await;
    let first = made["spec"]["clusterIP"].clone();
    let patch = async |spec: Value| {
        let (status, now) = call(&server, "PATCH", &uri, json!({"spec": spec})).await;
        assert_eq!(status, StatusCode::OK, "{now}");
        now
    };
    let now = patch(json!({"ipFamilyPolicy": "PreferDualStack"})).await;
    assert_eq!(families(&now).1, "64");
    assert_eq!(now["spec"]["clusterIP"], first);
    let second = now["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();
    let (status, _) = get(&server, &format!("{ADDRESSES}/{second}")).await;
    assert_eq!(status, StatusCode::OK);
    // Whoever leaves them out means what is there.
    let version = &now["metadata"]["resourceVersion"];
    let mut same = service("s", json!({"ipFamilyPolicy": "PreferDualStack"}));
    same["metadata"]["resourceVersion"] = version.clone();
    let (status, put) = call(&server, "PUT", &uri, same).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(put["spec"]["clusterIPs"], now["spec"]["clusterIPs"]);
    // It is not given up by the way.
    let less = json!({"spec": {"clusterIPs": [first], "ipFamilies": ["IPv6"]}});
    let (status, error) = call(&server, "PATCH", &uri, less).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    let text = "must be 'SingleStack' to release the secondary cluster IP";
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(text), "{message}");
    let now = patch(json!({"ipFamilyPolicy": "SingleStack"})).await;
    assert_eq!(families(&now).1, "6");
    assert_eq!(now["spec"]["clusterIP"], first);
    let (status, _) = get(&server, &format!("{ADDRESSES}/{second}")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // To a name elsewhere and back, with two.
    patch(json!({"type": "ExternalName", "externalName": "example.com"})).await;
    let (_, list) = get(&server, ADDRESSES).await;
    assert_eq!(names(&list), [""; 0]);
    let back = json!({"type": "ClusterIP", "externalName": null,
        "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]});
    let now = patch(back).await;
    assert_eq!(families(&now).1, "46");
    let (status, _) = call(&server, "DELETE", &uri, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let (_, list) = get(&server, ADDRESSES).await;
    assert_eq!(names(&list), [""; 0]);
    server.shutdown().await;
}

#[tokio::test]
async fn a_cluster_gets_its_second_family_at_a_start() {
    let store = Arc::new(MemoryStore::new());
    let server = small(&store, "fd00:10:96::/112").await;
    let prefer = json!({"ipFamilyPolicy": "PreferDualStack"});
    let (_, made) = call(&server, "POST", SERVICES, service("s", prefer.clone())).await;
    assert_eq!(families(&made).1, "6");
    server.shutdown().await;
    let server = dual(&store).await;
    let both = json!(["fd00:10:96::/112", "10.7.0.0/20"]);
    let uri = format!("{CIDRS}/kubernetes");
    let own = until(&server, &uri, |_, own| own["spec"]["cidrs"] == both).await;
    assert_eq!(own["status"]["conditions"][0]["status"], "True");
    // Those that are there stay as they are.
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let (_, now) = call(&server, "PATCH", &format!("{SERVICES}/s"), labels).await;
    assert_eq!(families(&now).1, "6");
    let (_, made) = call(&server, "POST", SERVICES, service("t", prefer)).await;
    assert_eq!(families(&made).1, "64");
    server.shutdown().await;
    let one = "10.9.0.0/20".parse().unwrap();
    let other: Cidr = "10.7.0.0/20".parse().unwrap();
    let builder = ApiServer::builder().service_cidr(one);
    let error = builder.secondary_service_cidr(other).build().await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "the ranges of Services must be of different families: 10.9.0.0/20 and 10.7.0.0/20"
    );
}
