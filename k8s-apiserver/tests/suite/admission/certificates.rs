//! Requests for certificates: who may approve and sign which.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(name: &str, signer: &str, organization: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "jane");
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({"metadata": {"name": name}, "spec": {
        "request": STANDARD.encode(pem), "signerName": signer, "usages": ["client auth"],
        "username": "somebody else",
    }})
}

fn approve(mut request: Value, sort: &str) -> Value {
    let condition = json!({"type": sort, "status": "True", "reason": "Test"});
    let status = request["status"].as_object_mut().unwrap();
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    conditions.as_array_mut().unwrap().push(condition);
    request
}

async fn put(server: &ApiServer, part: &str, object: Value) -> (StatusCode, Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    call(server, "PUT", &format!("{REQUESTS}/{name}/{part}"), object).await
}

#[tokio::test]
async fn a_request_says_who_asks_and_is_approved_once() {
    let server = server().await;
    let signer = "kubernetes.io/kube-apiserver-client";
    let made = make(&server, REQUESTS, request("r", signer, "dev")).await;
    assert_ne!(made["spec"]["username"], "somebody else");
    assert_eq!(made["spec"]["groups"][0], "system:masters");
    // The status is no place for approvals.
    let (status, answer) = put(&server, "status", approve(made.clone(), "Approved")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer["message"],
        "CertificateSigningRequest.certificates.k8s.io \"r\" is invalid: status.conditions: Forbidden: updates may not add a condition of type \"Approved\""
    );
    let (status, approved) = put(&server, "approval", approve(made, "Approved")).await;
    assert_eq!(status, StatusCode::OK, "{approved}");
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let (status, answer) = put(&server, "approval", approve(approved, "Denied")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("status.conditions: Invalid value: ")
    );
}

#[tokio::test]
async fn approving_and_signing_take_permission_for_the_signer() {
    let server = server().await;
    let role = json!({"metadata": {"name": "updates"}, "rules": [{
        "apiGroups": ["certificates.k8s.io"], "verbs": ["update"],
        "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
    }]});
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    make(&server, &format!("{roles}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "updates"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "updates"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]});
    make(&server, &format!("{roles}/clusterrolebindings"), binding).await;
    let made = make(&server, REQUESTS, request("r", "example.com/s", "dev")).await;
    let jane = server.client(Identity::user("jane"));
    type Csr = k8s_openapi::api::certificates::v1::CertificateSigningRequest;
    let api = Api::<Csr>::all(jane);
    let params = PostParams::default();
    let approved: Csr = serde_json::from_value(approve(made.clone(), "Approved")).unwrap();
    // A binding takes a moment to be known.
    let refusal = loop {
        let result: Result<Csr, _> = api
            .replace_subresource("approval", "r", &params, &approved)
            .await;
        match result.unwrap_err() {
            kube::Error::Api(status) if status.message.contains("cannot update") => {
                tokio::task::yield_now().await;
            }
            kube::Error::Api(status) => break status.message,
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        refusal,
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with signerName \"example.com/s\""
    );
    let mut failed = made;
    failed["status"]["conditions"] =
        json!([{"type": "Failed", "status": "True", "reason": "Test"}]);
    let failed: Csr = serde_json::from_value(failed).unwrap();
    let result = api.replace_status("r", &params, &failed).await;
    let kube::Error::Api(status) = result.unwrap_err() else {
        panic!("not an answer");
    };
    assert_eq!(
        status.message,
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to sign requests with signerName \"example.com/s\""
    );
}

#[tokio::test]
async fn nobody_asks_for_the_group_that_may_do_everything() {
    let server = server().await;
    let signer = "kubernetes.io/kube-apiserver-client";
    assert_eq!(
        refused(&server, REQUESTS, request("r", signer, "system:masters")).await,
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let mut bad = request("r", signer, "dev");
    bad["spec"]["request"] = json!(STANDARD.encode("no PEM"));
    let (status, answer) = call(&server, "POST", REQUESTS, bad).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("PEM block type must be CERTIFICATE REQUEST"));
}
