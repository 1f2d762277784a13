use std::{net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::PublicKeyData;

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
    let clients = |pki: &Pki| {
        let front_proxy = pki.front_proxy().unwrap().client;
        [pki.kubelet_client().unwrap(), front_proxy]
    };
    assert_eq!(clients(&first), clients(&second));
}

#[test]
fn what_has_not_long_to_go_is_due() {
    let pki = Pki::in_memory().unwrap();
    let fresh = pki.kubelet_client().unwrap();
    assert!(!fresh.is_due());
    let lasting = |days: i64| {
        let mut params = rcgen::CertificateParams::default();
        authority::validity(&mut params, days);
        let key = KeyPair::generate().unwrap();
        Credential {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    };
    assert!(!lasting(32).is_due());
    assert!(lasting(29).is_due());
    assert!(lasting(-1).is_due());
    let nonsense = Credential {
        certificate: "nonsense".to_owned(),
        key: fresh.key,
    };
    assert!(nonsense.is_due());
}

#[test]
fn clients_certificates_are_issued_again_that_do_not_fit() {
    let folder = Folder::new();
    let pki = Pki::open_or_create(&folder.0).unwrap();
    let path = folder.0.join("apiserver-kubelet-client");
    let good = pki.kubelet_client().unwrap();
    let other_user = pki.issue_client("somebody", &[MASTERS]).unwrap();
    let other_groups = pki
        .issue_client(KUBELET_CLIENT, &[MASTERS, "more"])
        .unwrap();
    let other_authority = Pki::in_memory().unwrap().kubelet_client().unwrap();
    let other_key = Credential {
        certificate: good.certificate,
        key: other_user.key.clone(),
    };
    for pair in [other_user, other_groups, other_authority, other_key] {
        std::fs::write(path.with_extension("crt"), &pair.certificate).unwrap();
        std::fs::write(path.with_extension("key"), &pair.key).unwrap();
        let again = pki.kubelet_client().unwrap();
        let written = std::fs::read_to_string(path.with_extension("crt")).unwrap();
        assert_eq!(written, again.certificate);
        assert_ne!(again.certificate, pair.certificate);
        assert_ne!(again.key, pair.key);
    }
}

#[test]
fn an_authority_that_lost_its_certificate_keeps_its_key() {
    let folder = Folder::new();
    let before = Pki::open_or_create(&folder.0).unwrap();
    let alice = before.issue_client("alice", &["dev"]).unwrap();
    let key = || std::fs::read_to_string(folder.0.join("ca.key")).unwrap();
    let key_before = key();
    std::fs::remove_file(folder.0.join("ca.crt")).unwrap();
    let after = Pki::open_or_create(&folder.0).unwrap();
    assert_eq!(key(), key_before);
    let written = std::fs::read_to_string(folder.0.join("ca.crt")).unwrap();
    assert_eq!(written, after.ca_pem());
    let der = alice.certificate_der().unwrap();
    let (_, alice) = x509_parser::parse_x509_certificate(&der).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(after.ca_der()).unwrap();
    alice.verify_signature(Some(ca.public_key())).unwrap();
    assert_eq!(alice.issuer(), ca.subject());
}

#[test]
fn half_of_the_key_for_tokens_is_reported_and_left_alone() {
    let folder = Folder::new();
    Pki::open_or_create(&folder.0).unwrap();
    let public = || std::fs::read_to_string(folder.0.join("sa.pub")).unwrap();
    let before = public();
    std::fs::remove_file(folder.0.join("sa.key")).unwrap();
    let error = Pki::open_or_create(&folder.0).unwrap_err();
    assert!(error.to_string().contains("no sa.key"), "{error}");
    assert_eq!(public(), before);
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
    let pki = Pki::open_or_create(&folder.0).unwrap();
    pki.apiserver(&names()).unwrap();
    pki.kubelet_client().unwrap();
    pki.front_proxy().unwrap();
    for name in [
        "ca.key",
        "sa.key",
        "apiserver.key",
        "apiserver-kubelet-client.key",
        "front-proxy-ca.key",
        "front-proxy-client.key",
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

#[test]
fn a_request_is_answered_with_a_certificate_for_what_it_asks() {
    let pki = Pki::in_memory().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let names = &mut params.distinguished_name;
    names.push(rcgen::DnType::CommonName, "system:node:a");
    names.push(rcgen::DnType::OrganizationName, "system:nodes");
    let ip = IpAddr::from([10, 0, 0, 1]);
    params.subject_alt_names = vec![rcgen::SanType::IpAddress(ip)];
    let key = KeyPair::generate().unwrap();
    let asked = params.serialize_request(&key).unwrap().pem().unwrap();
    let asked = CertificateRequest::parse(asked.as_bytes()).unwrap();
    let usages = ["digital signature", "server auth"].map(str::to_owned);
    let hour = SignedDuration::from_hours(1);
    let pem = pki.sign_request(&asked, &usages, hour).unwrap();
    k8s_model::certificates::check_certificates(pem.as_bytes()).unwrap();

    let credential = Credential {
        certificate: pem,
        key: key.serialize_pem(),
    };
    let der = credential.certificate_der().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let (_, authority) = x509_parser::parse_x509_certificate(pki.ca_der()).unwrap();
    parsed
        .verify_signature(Some(authority.public_key()))
        .unwrap();
    assert_eq!(
        parsed.subject().to_string(),
        "O=system:nodes, CN=system:node:a"
    );
    assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_encipherment());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names.len(), 1);
    let validity = parsed.validity();
    let good = validity.not_after.timestamp() - validity.not_before.timestamp();
    // Clocks may be five minutes off; what is good for long does not get them as well.
    assert_eq!(good, 3600 + 300);
    let day = SignedDuration::from_hours(24);
    let long = pki.sign_request(&asked, &usages, day).unwrap();
    let long = Credential {
        certificate: long,
        key: String::new(),
    };
    let long = long.certificate_der().unwrap();
    let (_, long) = x509_parser::parse_x509_certificate(&long).unwrap();
    let good = long.validity().not_after.timestamp() - long.validity().not_before.timestamp();
    assert_eq!(good, 24 * 3600);
    // No longer than the authority itself.
    let ages = SignedDuration::from_hours(24 * 365 * 50);
    let pem = pki.sign_request(&asked, &usages, ages).unwrap();
    let pem = Credential {
        certificate: pem,
        key: String::new(),
    };
    let der = pem.certificate_der().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(
        parsed.validity().not_after.timestamp(),
        authority.validity().not_after.timestamp()
    );
}

#[test]
fn a_certificate_says_nothing_of_its_bearer_but_what_was_looked_at() {
    use rcgen::DnType;

    let pki = Pki::in_memory().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let names = &mut params.distinguished_name;
    names.push(DnType::CommonName, "jane");
    names.push(DnType::OrganizationName, "dev");
    names.push(
        DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]),
        "somebody's UID",
    );
    params.subject_alt_names = vec![
        rcgen::SanType::URI("spiffe://a".try_into().unwrap()),
        rcgen::SanType::OtherName((vec![1, 2, 3], "other".into())),
        rcgen::SanType::DnsName("a.example.com".try_into().unwrap()),
    ];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Any];
    let key = KeyPair::generate().unwrap();
    let asked = params.serialize_request(&key).unwrap().pem().unwrap();
    let asked = CertificateRequest::parse(asked.as_bytes()).unwrap();
    let usages = ["s/mime", "client auth", "email protection"].map(str::to_owned);
    let hour = SignedDuration::from_hours(1);
    let pem = pki.sign_request(&asked, &usages, hour).unwrap();
    let signed = Credential {
        certificate: pem,
        key: String::new(),
    };
    let der = signed.certificate_der().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(parsed.subject().to_string(), "O=dev, CN=jane");
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value;
    let names: Vec<String> = names.general_names.iter().map(|n| n.to_string()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("a.example.com"), "{names:?}");
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.email_protection && !extended.any);
    assert!(extended.other.is_empty());
}
