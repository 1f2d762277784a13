use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;

use super::{
    sign::{LONGEST, Verdict},
    *,
};

fn request(signer: &str, common_name: &str, organization: &str) -> CertificateSigningRequest {
    let mut params = CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let mut request: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"request": "", "signerName": signer, "usages": ["client auth", "digital signature"]},
    }))
    .unwrap();
    request.spec.request = k8s_openapi::ByteString(pem.into_bytes());
    request
}

fn said(mut request: CertificateSigningRequest, sort: &str) -> CertificateSigningRequest {
    let condition = serde_json::from_value(json!({
        "type": sort, "status": "True", "lastUpdateTime": "2026-01-01T01:00:00Z",
    }));
    let status = request.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(condition.unwrap());
    request
}

const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

#[test]
fn only_nodes_are_approved_without_being_asked_about() {
    let mut node = request(KUBELET, "system:node:a", "system:nodes");
    let names = |request: &CertificateSigningRequest| -> Vec<&str> {
        approve::grounds(request).iter().map(|g| g.0).collect()
    };
    assert_eq!(names(&node), ["nodeclient"]);
    node.spec.username = Some("system:node:a".to_owned());
    assert_eq!(names(&node), ["selfnodeclient", "nodeclient"]);
    assert!(names(&said(node, "Denied")).is_empty());
    assert!(names(&request(KUBELET, "jane", "dev")).is_empty());
    assert!(names(&request(CLIENT, "system:node:a", "system:nodes")).is_empty());
}

#[test]
fn approved_requests_are_granted_if_they_fit_their_signer() {
    let client = request(CLIENT, "jane", "dev");
    assert_eq!(sign::judge(&client, LONGEST), Verdict::Ignore);
    let mut client = said(client, "Approved");
    let Verdict::Sign(asked, lifetime) = sign::judge(&client, LONGEST) else {
        panic!("not granted");
    };
    assert_eq!(asked.common_name, "jane");
    assert_eq!(lifetime, Duration::from_secs(365 * 24 * 3600));
    client.spec.expiration_seconds = Some(3600);
    assert!(matches!(sign::judge(&client, LONGEST), Verdict::Sign(_, d) if d.as_secs() == 3600));
    let short = Duration::from_secs(30);
    assert!(matches!(sign::judge(&client, short), Verdict::Sign(_, d) if d == short));
    client.spec.expiration_seconds = Some(1);
    assert!(matches!(sign::judge(&client, LONGEST), Verdict::Sign(_, d) if d.as_secs() == 600));
    client.spec.usages = Some(vec!["server auth".to_owned()]);
    assert_eq!(
        sign::judge(&client, LONGEST),
        Verdict::Fail("invalid usage for client certificate: server auth".to_owned())
    );
    let stranger = said(request(KUBELET, "jane", "dev"), "Approved");
    assert_eq!(
        sign::judge(&stranger, LONGEST),
        Verdict::Fail("subject organization is not system:nodes".to_owned())
    );
    let other = said(request("example.com/s", "jane", "dev"), "Approved");
    assert_eq!(sign::judge(&other, LONGEST), Verdict::Ignore);
    assert_eq!(
        sign::judge(&said(stranger, "Failed"), LONGEST),
        Verdict::Ignore
    );
}

#[test]
fn requests_go_an_hour_after_they_are_done_with_or_a_day_after_nobody_answered() {
    let at = |request: &CertificateSigningRequest| {
        clean::deadline(request).map(|deadline| deadline.to_string())
    };
    let pending = request(CLIENT, "jane", "dev");
    assert_eq!(at(&pending).as_deref(), Some("2026-01-02T00:00:00Z"));
    let denied = said(pending.clone(), "Denied");
    assert_eq!(at(&denied).as_deref(), Some("2026-01-01T02:00:00Z"));
    // It waits for its certificate.
    let mut approved = said(pending, "Approved");
    assert_eq!(at(&approved), None);
    let status = approved.status.as_mut().unwrap();
    status.certificate = Some(k8s_openapi::ByteString(b"x".to_vec()));
    assert_eq!(at(&approved).as_deref(), Some("2026-01-01T02:00:00Z"));
}
