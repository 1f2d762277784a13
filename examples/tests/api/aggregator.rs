//! An API server behind this one: in place of upstream's sample, one that serves custom resources.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_apiserver::{
    ApiServer,
    auth::{AuthenticationError, Authenticator, Identity, PeerCertificates},
    pki::{Pki, ServerNames},
    resources,
    serve::{self, Limits, Server},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::PostParams,
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use crate::{Entry, fixture::Fixture, rest::JSON_PATCH};

pub(crate) const ENTRIES: &[Entry] = &[(
    "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator",
    a_server_behind_this_one_is_part_of_it,
)];

const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const API_SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.wardle.example.com";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";

/// Takes the front proxy's word for who asks.
#[derive(Debug)]
struct FrontProxy;

#[async_trait]
impl Authenticator for FrontProxy {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        // The listener lets nobody's certificate in but the front proxy's.
        if parts.extensions.get::<PeerCertificates>().is_none() {
            return Ok(None);
        }
        let values = |name: &str| {
            let values = parts.headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok())
        };
        let identity = values("x-remote-user").next().map(Identity::user);
        let groups = values("x-remote-group");
        Ok(identity.map(|identity| groups.fold(identity, Identity::group)))
    }
}

/// Serves flunders to whom the front proxy names.
async fn sample(pki: &Pki) -> Server {
    let server = ApiServer::builder()
        .resources(resources::for_custom_resources())
        .authenticator(Arc::new(FrontProxy))
        .build()
        .await
        .expect("a server");
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "flunders.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com", "scope": "Namespaced",
            "names": {"plural": "flunders", "kind": "Flunder"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    }))
    .expect("a definition");
    let definitions = Api::all(server.client(Identity::system_masters()));
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("it is created");
    let established = await_condition(
        definitions,
        "flunders.wardle.example.com",
        is_crd_established(),
    );
    established.await.expect("it is served");
    let names = ServerNames {
        dns: vec!["sample-api.default.svc".to_owned()],
        ips: Vec::new(),
    };
    let proxies =
        CertificateDer::from_pem_slice(pki.front_proxy().expect("a front proxy").ca.as_bytes());
    let credential = pki.apiserver(&names).expect("a certificate");
    let tls = serve::server_config(&credential, &proxies.expect("an authority"));
    let listener = serve::bind((Ipv4Addr::LOCALHOST, 0).into()).await;
    let listener = vec![listener.expect("a port")];
    serve::serve(server, listener, tls.expect("TLS"), Limits::default()).expect("it serves")
}

fn is_available(service: &Value) -> bool {
    let conditions = service["status"]["conditions"].as_array();
    let available = |c: &Value| c["type"] == "Available" && c["status"] == "True";
    conditions.into_iter().flatten().any(available)
}

#[tokio::test]
async fn a_server_behind_this_one_is_part_of_it() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let folder: PathBuf = cluster.folder.path().join("data").join("pki");
    let pki = Pki::open_or_create(folder).expect("the cluster's keys");
    let sample = sample(&pki).await;
    let service = json!({
        "metadata": {"name": "sample-api"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    api.create("/api/v1/namespaces/default/services", service)
        .await;
    let registration = json!({
        "metadata": {"name": "v1alpha1.wardle.example.com", "labels": {"test": "sample"}},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1",
            "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": "default", "name": "sample-api", "port": sample.addresses()[0].port()},
            "caBundle": STANDARD.encode(pki.ca_pem()),
        },
    });
    api.create(API_SERVICES, registration).await;
    api.until(API_SERVICE, is_available).await;
    let groups = api.get("/apis").await;
    let mut groups = groups["groups"].as_array().expect("groups").iter();
    assert!(groups.any(|group| group["name"] == "wardle.example.com"));
    let resources = api.get("/apis/wardle.example.com/v1alpha1").await;
    assert_eq!(resources["resources"][0]["name"], "flunders");

    // Its objects are handled as others are.
    let flunder = json!({
        "apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "it"},
        "spec": {"reference": "a"},
    });
    let mut watch = api.watch(FLUNDERS).await;
    let made = api.create(FLUNDERS, flunder).await;
    watch.brings("ADDED", &made).await;
    let path = format!("{FLUNDERS}/it");
    assert_eq!(api.get(&path).await["spec"]["reference"], "a");
    assert_eq!(api.list(FLUNDERS).await.len(), 1);
    let changed = api.merge(&path, json!({"spec": {"reference": "b"}})).await;
    watch.brings("MODIFIED", &changed).await;
    api.delete(&path).await;
    watch.brings("DELETED", &changed).await;
    assert_eq!(
        api.refused("GET", &path, Value::Null).await["reason"],
        "NotFound"
    );

    // Its registration, too.
    let status = format!("{API_SERVICE}/status");
    assert!(is_available(&api.get(&status).await));
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Test", "message": "Set by a test",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        })
    };
    let patch =
        json!([{"op": "add", "path": "/status/conditions/-", "value": condition("StatusPatched")}]);
    let patched = api.patch(&status, JSON_PATCH, patch).await;
    assert_eq!(patched["status"]["conditions"][1]["type"], "StatusPatched");
    let updated = api
        .change(&status, |service| {
            let conditions = service["status"]["conditions"].as_array_mut();
            conditions
                .expect("conditions")
                .push(condition("StatusUpdated"));
        })
        .await;
    assert_eq!(updated["status"]["conditions"][2]["type"], "StatusUpdated");
    let patched = api
        .merge(API_SERVICE, json!({"spec": {"versionPriority": 400}}))
        .await;
    assert_eq!(patched["spec"]["versionPriority"], 400);

    let labelled = format!("{API_SERVICES}?labelSelector=test%3Dsample");
    assert_eq!(api.list(&labelled).await.len(), 1);
    api.delete(&labelled).await;
    assert_eq!(api.list(&labelled).await.len(), 0);
    let is_gone = |groups: &Value| {
        let mut groups = groups["groups"].as_array().expect("groups").iter();
        !groups.any(|group| group["name"] == "wardle.example.com")
    };
    api.eventually("/apis", is_gone).await;
}
