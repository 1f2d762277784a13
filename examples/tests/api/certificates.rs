//! Requests for certificates.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::{Entry, fixture::Fixture};

pub(crate) const ENTRIES: &[Entry] = &[(
    "[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations",
    requests_for_certificates_live,
)];

const GROUP: &str = "/apis/certificates.k8s.io";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SIGNER: &str = "example.com/test";

fn request(key: &KeyPair) -> Value {
    let params = CertificateParams::new(vec!["test.example.com".to_owned()]).expect("a name");
    let request = params.serialize_request(key).expect("a request");
    json!({
        "metadata": {"generateName": "test-"},
        "spec": {
            "request": STANDARD.encode(request.pem().expect("PEM")), "signerName": SIGNER,
            "expirationSeconds": 3600,
            "usages": ["digital signature", "key encipherment", "server auth"],
        },
    })
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Test", "message": "Set by a test"})
}

fn kinds_of_conditions(request: &Value) -> Vec<&str> {
    let conditions = request["status"]["conditions"].as_array();
    let kinds = conditions.into_iter().flatten().map(|c| c["type"].as_str());
    kinds.map(|kind| kind.expect("a type")).collect()
}

#[tokio::test]
async fn requests_for_certificates_live() {
    let cluster = Fixture::server().await;
    let api = &cluster.api;
    let groups = api.get("/apis").await;
    let mut groups = groups["groups"].as_array().expect("groups").iter();
    assert!(groups.any(|group| group["name"] == "certificates.k8s.io"));
    assert_eq!(api.get(GROUP).await["versions"][0]["version"], "v1");
    let resources = api.get(&format!("{GROUP}/v1")).await;
    let resources = resources["resources"].as_array().expect("resources");
    let all = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let some = ["get", "patch", "update"];
    for (name, verbs) in [
        ("certificatesigningrequests", all.as_slice()),
        ("certificatesigningrequests/approval", &some),
        ("certificatesigningrequests/status", &some),
    ] {
        let found = resources.iter().find(|r| r["name"] == name);
        assert_eq!(found.expect(name)["verbs"], json!(verbs), "{name}");
    }

    let key = KeyPair::generate().expect("a key");
    let mut made = Value::Null;
    for _ in 0..3 {
        made = api.create(REQUESTS, request(&key)).await;
    }
    let path = format!(
        "{REQUESTS}/{}",
        made["metadata"]["name"].as_str().expect("a name")
    );
    let found = api.get(&path).await;
    assert_eq!(found["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(found["spec"]["expirationSeconds"], 3600);
    let selected = format!("{REQUESTS}?fieldSelector=spec.signerName%3Dexample.com%2Ftest");
    assert_eq!(api.list(&selected).await.len(), 3);

    let mut watch = api
        .watch(&format!(
            "{REQUESTS}?fieldSelector=metadata.name%3D{}",
            found["metadata"]["name"].as_str().expect("a name")
        ))
        .await;
    watch.brings("ADDED", &found).await;
    let patched = api
        .merge(
            &path,
            json!({"metadata": {"annotations": {"patched": "true"}}}),
        )
        .await;
    watch.brings("MODIFIED", &patched).await;
    let note = |request: &mut Value| request["metadata"]["annotations"]["updated"] = "true".into();
    let updated = api.change(&path, note).await;
    assert_eq!(
        updated["metadata"]["annotations"],
        json!({"patched": "true", "updated": "true"})
    );
    watch.brings("MODIFIED", &updated).await;

    let approval = format!("{path}/approval");
    assert_eq!(
        api.get(&approval).await["kind"],
        "CertificateSigningRequest"
    );
    let patch = json!({
        "metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [condition("ApprovalPatch")]},
    });
    let patched = api.merge(&approval, patch).await;
    assert_eq!(kinds_of_conditions(&patched), ["ApprovalPatch"]);
    assert_eq!(
        patched["metadata"]["annotations"]["patchedapproval"],
        "true"
    );
    let updated = api
        .change(&approval, |request| {
            let conditions = request["status"]["conditions"].as_array_mut();
            conditions.expect("conditions").push(condition("Approved"));
        })
        .await;
    assert_eq!(kinds_of_conditions(&updated), ["ApprovalPatch", "Approved"]);

    let status = format!("{path}/status");
    assert_eq!(
        api.get(&status).await["metadata"]["uid"],
        made["metadata"]["uid"]
    );
    let params = CertificateParams::new(vec!["test.example.com".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let certificate = STANDARD.encode(certificate);
    let patch = json!({
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"certificate": certificate},
    });
    let patched = api.merge(&status, patch).await;
    assert_eq!(patched["status"]["certificate"], certificate);
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    let updated = api
        .change(&status, |request| {
            let conditions = request["status"]["conditions"].as_array_mut();
            conditions
                .expect("conditions")
                .push(condition("StatusUpdate"));
        })
        .await;
    assert_eq!(
        kinds_of_conditions(&updated),
        ["ApprovalPatch", "Approved", "StatusUpdate"]
    );

    api.delete(&path).await;
    assert_eq!(api.refused("GET", &path, Value::Null).await["code"], 404);
    assert_eq!(api.list(&selected).await.len(), 2);
    api.delete(&selected).await;
    assert_eq!(api.list(&selected).await.len(), 0);
}
