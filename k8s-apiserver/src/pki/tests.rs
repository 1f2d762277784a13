use std::{net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("pki-{}", uuid::Uuid::new_v4()));
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names() -> ServerNames {
    ServerNames::for_apiserver("cluster.local", Some(IpAddr::from([10, 96, 0, 1])))
}

#[test]
fn a_second_opening_finds_the_same_keys() {
    let folder = Folder::new();
    let first = Pki::open_or_create(&folder.0).unwrap();
    let second = Pki::open_or_create(&folder.0).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(
        first.service_account_key().private,
        second.service_account_key().private
    );
    let serving = first.apiserver(&names()).unwrap();
    assert_eq!(
        serving.certificate,
        second.apiserver(&names()).unwrap().certificate
    );
}

#[test]
fn other_names_renew_the_serving_certificate() {
    let folder = Folder::new();
    let pki = Pki::open_or_create(&folder.0).unwrap();
    let before = pki.apiserver(&names()).unwrap();
    let after = pki.apiserver(&names().with("10.1.2.3")).unwrap();
    assert_ne!(before.certificate, after.certificate);
}

#[test]
fn private_keys_are_for_their_owner_alone() {
    let folder = Folder::new();
    Pki::open_or_create(&folder.0)
        .unwrap()
        .apiserver(&names())
        .unwrap();
    for name in [
        "ca.key",
        "sa.key",
        "apiserver.key",
        "apiserver-kubelet-client.key",
    ] {
        let mode = std::fs::metadata(folder.0.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_foreign_file_is_reported_and_left_alone() {
    let folder = Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join("ca.crt"), "nonsense").unwrap();
    std::fs::write(folder.0.join("ca.key"), "nonsense").unwrap();
    let error = Pki::open_or_create(&folder.0).unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
    assert_eq!(
        std::fs::read_to_string(folder.0.join("ca.crt")).unwrap(),
        "nonsense"
    );
}

#[test]
fn a_client_certificate_carries_every_group() {
    let pki = Pki::in_memory().unwrap();
    let groups: Vec<String> = (0..20).map(|i| format!("team-{i}")).collect();
    let credential = pki.issue_client("ålice", &groups).unwrap();
    let der = credential.certificate_der().unwrap();
    let (rest, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(rest.is_empty());
    let (_, ca) = x509_parser::parse_x509_certificate(pki.ca_der()).unwrap();
    parsed.verify_signature(Some(ca.public_key())).unwrap();
    let subject = parsed.subject();
    let name = subject.iter_common_name().next().unwrap();
    assert_eq!(name.as_str().unwrap(), "ålice");
    let found: Vec<&str> = subject
        .iter_organization()
        .map(|o| o.as_str().unwrap())
        .collect();
    assert_eq!(found, groups);
}

#[test]
fn a_kubeconfig_is_yaml_whatever_the_user_is_called() {
    let pki = Pki::in_memory().unwrap();
    let config = pki
        .kubeconfig("https://127.0.0.1:6443", "sys: \"odd\"", &["a"])
        .unwrap()
        .with_namespace("ns");
    let value: serde_json::Value = serde_saphyr::from_str(&config.to_string()).unwrap();
    assert_eq!(value["users"][0]["name"], "sys: \"odd\"");
    assert_eq!(
        value["clusters"][0]["cluster"]["server"],
        "https://127.0.0.1:6443"
    );
    assert_eq!(value["contexts"][0]["context"]["namespace"], "ns");
    assert_eq!(value["current-context"], value["contexts"][0]["name"]);
}
