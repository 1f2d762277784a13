//! The etcd backend keeps the store's promises, on clusters that lose members.
//! Run with `cargo nextest run -p k8s-store --all-features --run-ignored only`; with
//! `K8S_STORE_HISTORY_ROUNDS=100`, so many histories are judged instead of one.
#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "the helpers are tests as well")]

#[path = "support/etcd.rs"]
mod etcd;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use etcd::Etcd;
use futures::StreamExt;
use k8s_store::{
    Error, EtcdOptions, EtcdStore, EtcdTls, Expect, List, Op, Revision, Store, WatchStream, Write,
    testing::{HistoryPlan, check_history},
};

/// Connects once the cluster answers.
async fn connect(options: EtcdOptions) -> EtcdStore {
    loop {
        match EtcdStore::connect(options.clone()).await {
            Err(Error::Unavailable { .. }) => {}
            outcome => return outcome.unwrap(),
        }
    }
}

async fn one(root: &'static str) -> (EtcdStore, Etcd) {
    let etcd = Etcd::start(1);
    let mut options = EtcdOptions::new(etcd.endpoints());
    options.root = root.into();
    (connect(options).await, etcd)
}

mod one_member {
    k8s_store::store_conformance!(ignore = "needs etcd", async || super::one("").await);

    k8s_store::durable_store_conformance!(
        ignore = "needs etcd",
        || crate::Etcd::start(1),
        async |etcd: &crate::Etcd| {
            super::connect(k8s_store::EtcdOptions::new(etcd.endpoints())).await
        },
    );
}

mod one_member_with_a_root {
    k8s_store::store_conformance!(ignore = "needs etcd", async || super::one("/root/\u{ff}/")
        .await);
}

mod three_members {
    k8s_store::store_conformance!(ignore = "needs etcd", async || {
        let etcd = super::Etcd::start(3);
        let options = k8s_store::EtcdOptions::new(etcd.endpoints());
        (super::connect(options).await, etcd)
    });
}

fn put(key: &str, value: impl Into<Bytes>) -> Write {
    Write {
        key: Bytes::copy_from_slice(key.as_bytes()),
        expect: Expect::Any,
        op: Op::Put {
            value: value.into(),
            ttl: None,
        },
    }
}

async fn changes(watch: &mut WatchStream) -> (Revision, usize) {
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        if !batch.changes.is_empty() {
            return (batch.revision, batch.changes.len());
        }
    }
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn keys_lie_where_upstream_puts_them() {
    let (store, etcd) = one("").await;
    store
        .commit(vec![put("/registry/pods/default/a", "x")])
        .await
        .unwrap();
    let options = EtcdOptions {
        root: "/registry".into(),
        ..EtcdOptions::new(etcd.endpoints())
    };
    let below = connect(options).await;
    let entry = below.get(b"/pods/default/a", None).await.unwrap().unwrap();
    assert_eq!(entry.value, "x");
    assert_eq!(below.list(List::default()).await.unwrap().entries.len(), 1);
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn what_etcd_would_refuse_is_refused_with_a_reason() {
    let (store, _etcd) = one("").await;
    let large = vec![0; 2 << 20];
    let error = store.commit(vec![put("a", large)]).await.unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { .. }), "{error}");
    let many = (0..129).map(|n| put(&format!("k{n}"), "x")).collect();
    let error = store.commit(many).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooManyWrites {
                writes: 129,
                limit: 128
            }
        ),
        "{error}"
    );
    let mut reserved = put("a", "x");
    reserved.key = vec![0xff; 40].into();
    let error = store.commit(vec![reserved]).await.unwrap_err();
    assert!(matches!(error, Error::ReservedKey { .. }), "{error}");
    assert_eq!(store.revision().await.unwrap(), Revision(1));
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn an_exceeded_quota_is_a_full_disk() {
    let etcd = Etcd::start_with(1, "http", &["--quota-backend-bytes", "2000000"]);
    let store = connect(EtcdOptions::new(etcd.endpoints())).await;
    let mut n = 0;
    let error = loop {
        n += 1;
        let large = vec![7; 200 << 10];
        if let Err(error) = store.commit(vec![put(&format!("k{n}"), large)]).await {
            break error;
        }
        assert!(n < 100, "the quota was never reached");
    };
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    assert!(
        store.get(b"k1", None).await.unwrap().is_some(),
        "reads go on"
    );
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn closing_ends_watches_and_everything_after() {
    let (store, _etcd) = one("").await;
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    store.close();
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    assert!(watch.next().await.is_none());
    assert!(matches!(store.revision().await, Err(Error::Closed)));
    assert!(matches!(store.commit(vec![]).await, Err(Error::Closed)));
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn certificates_are_checked_on_both_sides() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::from_params(&params, &ca_key);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        (
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    };
    issue("server");
    let identity = issue("client");
    std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    let arguments = [
        "--cert-file=DIR/server.crt",
        "--key-file=DIR/server.key",
        "--trusted-ca-file=DIR/ca.crt",
        "--client-cert-auth",
    ];
    let etcd = Etcd::start_in(dir, 1, "https", &arguments);
    let authority = ca.pem().into_bytes();
    let with = |identity| EtcdOptions {
        tls: Some(EtcdTls {
            authority: authority.clone(),
            identity,
        }),
        timeout: Duration::from_secs(3),
        ..EtcdOptions::new(etcd.endpoints())
    };
    let store = connect(with(Some(identity))).await;
    store.commit(vec![put("a", "x")]).await.unwrap();
    let nobody = EtcdStore::connect(with(None)).await;
    assert!(
        matches!(nobody, Err(Error::Unavailable { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn a_password_is_given_and_tokens_are_renewed() {
    // Tokens last for a second at most.
    let etcd = Etcd::start_with(1, "http", &["--auth-token-ttl", "1"]);
    let user = Some(("root".to_owned(), "secret".to_owned()));
    let options = EtcdOptions {
        user,
        ..EtcdOptions::new(etcd.endpoints())
    };
    // A name does no harm while etcd asks for none.
    connect(options.clone()).await;
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"secret"}"#),
        ("role/add", r#"{"name":"root"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        configure(&etcd, path, body);
    }

    let store = connect(options.clone()).await;
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    for n in 0..3 {
        let at = store.commit(vec![put("a", n.to_string())]).await.unwrap();
        assert_eq!(changes(&mut watch).await, (at.revision, 1));
        // Longer than a token lasts unused.
        let lease = Write {
            op: Op::Put {
                value: "x".into(),
                ttl: Some(Duration::from_secs(3)),
            },
            ..put("lease", "")
        };
        store.commit(vec![lease]).await.unwrap();
        assert_eq!(changes(&mut watch).await.1, 1);
        assert_eq!(changes(&mut watch).await.1, 1);
    }
    for wrong in [None, Some(("root".to_owned(), "guess".to_owned()))] {
        let options = EtcdOptions {
            user: wrong,
            ..options.clone()
        };
        let error = EtcdStore::connect(options).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    }
}

/// Asks etcd, by its gateway for JSON, to change who may do what.
fn configure(etcd: &Etcd, path: &str, body: &str) {
    use std::io::{Read, Write};
    let address = etcd.endpoints()[0].replace("http://", "");
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let length = body.len();
    let request = format!(
        "POST /v3/auth/{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// What a client does about a commit that may have happened: it looks.
async fn increment(store: &EtcdStore, n: u64) -> Revision {
    loop {
        let found = store.get(b"n", None).await;
        let Ok(found) = found else { continue };
        let expect = found
            .as_ref()
            .map_or(Expect::Absent, |e| Expect::Modified(e.modified));
        if let Some(entry) = found.filter(|entry| entry.value == n.to_string()) {
            return entry.modified;
        }
        let write = Write {
            expect,
            ..put("n", n.to_string())
        };
        if let Ok(done) = store.commit(vec![write]).await {
            return done.revision;
        }
    }
}

/// Runs until the writer has written all; `meanwhile` gets the cluster.
async fn disturbed(meanwhile: impl AsyncFnOnce(&mut Etcd)) {
    const WRITES: u64 = 1500;
    let mut etcd = Etcd::start(3);
    let options = EtcdOptions {
        timeout: Duration::from_secs(5),
        ..EtcdOptions::new(etcd.endpoints())
    };
    let store = connect(options).await;
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    let watcher = tokio::spawn(async move {
        let (mut last, mut values) = (Revision(1), Vec::new());
        while values.last() != Some(&WRITES) {
            let batch = watch.next().await.unwrap().unwrap();
            for change in batch.changes.iter() {
                assert!(batch.revision > last, "{} after {last}", batch.revision);
                last = batch.revision;
                let current = change.current.as_ref().unwrap();
                let text = std::str::from_utf8(&current.value).unwrap();
                values.push(text.parse().unwrap());
            }
        }
        values
    });
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 1..=WRITES {
                increment(&store, n).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    meanwhile(&mut etcd).await;
    writer.await.unwrap();
    let values = watcher.await.unwrap();
    assert!(values.into_iter().eq(1..=WRITES), "a gap or a repetition");
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn nothing_is_lost_or_repeated_when_members_are_killed() {
    disturbed(async |etcd| {
        for member in [0, 1, 2, 0] {
            tokio::time::sleep(Duration::from_millis(500)).await;
            etcd.kill(member);
            tokio::time::sleep(Duration::from_secs(1)).await;
            etcd.revive(member);
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn nothing_is_lost_or_repeated_when_members_are_paused() {
    disturbed(async |etcd| {
        for member in [0, 1, 2] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            etcd.pause(member);
            tokio::time::sleep(Duration::from_secs(4)).await;
            etcd.resume(member);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd"]
async fn histories_are_strictly_serializable_while_members_come_and_go() {
    let mut etcd = Etcd::start(3);
    let options = EtcdOptions {
        timeout: Duration::from_secs(5),
        ..EtcdOptions::new(etcd.endpoints())
    };
    let store = connect(options).await;
    let rounds = std::env::var("K8S_STORE_HISTORY_ROUNDS");
    let rounds = rounds.map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    for seed in 0..rounds {
        let plan = HistoryPlan {
            seed,
            clients: 6,
            requests: 400,
            pause: Duration::from_millis(20),
            ..HistoryPlan::default()
        };
        let check = tokio::spawn(check_history(Arc::new(store.clone()), plan));
        let pause = Duration::from_millis(700);
        for member in [0, 1, 2] {
            tokio::time::sleep(pause).await;
            etcd.kill(member);
            tokio::time::sleep(pause).await;
            etcd.revive(member);
            tokio::time::sleep(pause).await;
            etcd.pause((member + 1) % 3);
            tokio::time::sleep(pause).await;
            etcd.resume((member + 1) % 3);
        }
        check.await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs etcd"]
async fn a_cluster_without_a_majority_answers_that_it_is_not_available() {
    let mut etcd = Etcd::start(3);
    let options = EtcdOptions {
        timeout: Duration::from_secs(2),
        ..EtcdOptions::new(etcd.endpoints())
    };
    let store = connect(options).await;
    store.commit(vec![put("a", "1")]).await.unwrap();
    etcd.kill(1);
    etcd.kill(2);
    let error = store.commit(vec![put("a", "2")]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let error = store.get(b"a", None).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    etcd.revive(1);
    while store.commit(vec![put("a", "3")]).await.is_err() {}
    assert_eq!(store.get(b"a", None).await.unwrap().unwrap().value, "3");
}
