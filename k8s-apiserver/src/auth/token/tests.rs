use serde_json::json;

use super::*;
use crate::{admission::memory::MemoryReader, pki::Pki};

fn claim(name: &str, uid: &str) -> ObjectClaim {
    ObjectClaim {
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

fn put(reader: &MemoryReader, resource: &str, name: &str, uid: &str) {
    reader.put(
        "",
        resource,
        json!({ "metadata": { "namespace": "ns", "name": name, "uid": uid } }),
    );
}

struct Fixture {
    reader: MemoryReader,
    time: Arc<std::sync::atomic::AtomicI64>,
    tokens: ServiceAccountTokens,
}

fn fixture() -> Fixture {
    use std::sync::atomic::AtomicI64;
    let reader = MemoryReader::default();
    put(&reader, "serviceaccounts", "builder", "sa-uid");
    put(&reader, "pods", "p", "pod-uid");
    let pki = Pki::in_memory().unwrap();
    let time = Arc::new(AtomicI64::new(1_700_000_000));
    let now = time.clone();
    let tokens = ServiceAccountTokens::new(
        pki.service_account_key(),
        DEFAULT_ISSUER,
        Arc::new(reader.clone()),
    )
    .unwrap()
    .with_clock(move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap());
    Fixture {
        reader,
        time,
        tokens,
    }
}

fn spec(fixture: &Fixture) -> TokenSpec {
    TokenSpec {
        namespace: "ns".to_owned(),
        service_account: claim("builder", "sa-uid"),
        pod: Some(claim("p", "pod-uid")),
        node: Some(claim("n", "node-uid")),
        secret: None,
        audiences: fixture.tokens.api_audiences().to_vec(),
        expires: fixture.tokens.now() + jiff::SignedDuration::from_secs(600),
        warn_after: None,
    }
}

async fn reason(fixture: &Fixture, token: &str) -> String {
    let audiences = fixture.tokens.api_audiences();
    match fixture.tokens.verify(token, audiences).await {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_good_token_names_the_account_and_what_it_is_bound_to() {
    let fixture = fixture();
    let token = fixture.tokens.issue(spec(&fixture)).unwrap();
    let request = http::Request::get("/")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    let (parts, ()) = request.into_parts();
    let identity = fixture.tokens.authenticate(&parts).await.unwrap().unwrap();
    assert_eq!(identity.name, "system:serviceaccount:ns:builder");
    assert_eq!(identity.uid, "sa-uid");
    assert_eq!(
        identity.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:ns",
            "system:authenticated"
        ]
    );
    assert_eq!(
        identity.extra["authentication.kubernetes.io/pod-name"],
        ["p"]
    );
    assert_eq!(
        identity.extra["authentication.kubernetes.io/node-name"],
        ["n"]
    );
}

#[tokio::test]
async fn a_token_that_is_used_past_its_hour_is_counted() {
    let fixture = fixture();
    let mut wanted = spec(&fixture);
    wanted.warn_after = Some(fixture.tokens.now() + jiff::SignedDuration::from_secs(60));
    let token = fixture.tokens.issue(wanted).unwrap();
    let page = || {
        let mut out = Writer::default();
        fixture.tokens.write_metrics(&mut out);
        out.finish()
    };
    assert_eq!(reason(&fixture, &token).await, "good");
    assert!(page().contains("serviceaccount_valid_tokens_total 1\n"));
    assert!(page().contains("serviceaccount_stale_tokens_total 0\n"));
    fixture.time.fetch_add(61, Ordering::SeqCst);
    assert_eq!(reason(&fixture, &token).await, "good");
    assert!(page().contains("serviceaccount_stale_tokens_total 1\n"));
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let fixture = fixture();
    let token = fixture.tokens.issue(spec(&fixture)).unwrap();
    assert_eq!(reason(&fixture, &token).await, "good");
    fixture
        .time
        .fetch_add(661, std::sync::atomic::Ordering::SeqCst);
    assert!(reason(&fixture, &token).await.contains("has expired"));
}

#[tokio::test]
async fn a_token_ends_with_its_pod_and_its_account() {
    let fixture = fixture();
    let token = fixture.tokens.issue(spec(&fixture)).unwrap();
    put(&fixture.reader, "pods", "p", "another");
    assert!(reason(&fixture, &token).await.contains("does not match"));
    fixture.reader.delete("", "pods", "ns", "p");
    assert!(
        reason(&fixture, &token)
            .await
            .contains("has been invalidated")
    );
    put(&fixture.reader, "pods", "p", "pod-uid");
    assert_eq!(reason(&fixture, &token).await, "good");
    fixture
        .reader
        .delete("", "serviceaccounts", "ns", "builder");
    assert!(
        reason(&fixture, &token)
            .await
            .contains("has been invalidated")
    );
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused() {
    let fixture = fixture();
    let mut wanted = spec(&fixture);
    wanted.audiences = vec!["vault".to_owned()];
    let token = fixture.tokens.issue(wanted).unwrap();
    assert!(reason(&fixture, &token).await.contains("audiences"));
    let good = fixture
        .tokens
        .verify(&token, &["vault".to_owned()])
        .await
        .unwrap();
    assert_eq!(good.audiences, ["vault"]);
}

#[tokio::test]
async fn a_token_of_another_key_is_refused() {
    let fixture = fixture();
    let other = super::tests::fixture();
    let token = other.tokens.issue(spec(&fixture)).unwrap();
    assert!(
        reason(&fixture, &token)
            .await
            .contains("invalid bearer token")
    );
    assert!(
        reason(&fixture, "a.b.c")
            .await
            .contains("invalid bearer token")
    );
}

#[tokio::test]
async fn a_token_in_a_secret_is_good_while_the_secret_has_it() {
    let fixture = fixture();
    let account = claim("builder", "sa-uid");
    let issue = |secret: &str| {
        let account = account.clone();
        fixture
            .tokens
            .issue_for_secret("ns", account, secret)
            .unwrap()
    };
    let token = issue("kept");
    let keep = |token: &str, labels: serde_json::Value| {
        let token = base64::engine::general_purpose::STANDARD.encode(token);
        let secret = json!({
            "metadata": { "namespace": "ns", "name": "kept", "labels": labels },
            "data": { "token": token },
        });
        fixture.reader.put("", "secrets", secret);
    };
    let invalidated = "invalid credentials: service account token has been invalidated";
    assert_eq!(reason(&fixture, &token).await, invalidated);
    keep(&token, json!({}));
    let good = fixture
        .tokens
        .verify(&token, fixture.tokens.api_audiences());
    let good = good.await.unwrap();
    assert_eq!(
        good.identity,
        Identity::service_account("ns", "builder", "sa-uid")
    );
    let elsewhere = fixture.tokens.verify(&token, &["vault".to_owned()]).await;
    assert!(elsewhere.unwrap_err().to_string().contains("audiences"));
    // As long as the server's time may go on.
    fixture.time.fetch_add(1_000_000_000, Ordering::SeqCst);
    assert_eq!(reason(&fixture, &token).await, "good");
    keep(
        &token,
        json!({ "kubernetes.io/legacy-token-invalid-since": "2026-01-01" }),
    );
    assert!(
        reason(&fixture, &token)
            .await
            .contains("has been marked invalid")
    );
    let mut used = fixture.tokens.used_secrets();
    let today = fixture.tokens.now().strftime("%Y-%m-%d").to_string();
    for (labels, written) in [
        (json!({}), true),
        (json!({ LAST_USED: "2001-01-01" }), true),
        (json!({ LAST_USED: "long ago" }), true),
        (json!({ LAST_USED: today }), false),
    ] {
        keep(&token, labels.clone());
        assert_eq!(reason(&fixture, &token).await, "good");
        let told = used.try_recv().ok();
        assert_eq!(told.is_some(), written, "{labels}");
        assert!(told.is_none_or(|used| used.name == "kept" && used.day.to_string() == today));
    }
    assert_eq!(fixture.tokens.uses.manual.load(Ordering::Relaxed), 6);
    assert_eq!(fixture.tokens.uses.invalidated.load(Ordering::Relaxed), 1);
    keep(&issue("another"), json!({}));
    assert!(
        reason(&fixture, &token)
            .await
            .contains("does not match server's copy")
    );
    keep(&token, json!({}));
    put(&fixture.reader, "serviceaccounts", "builder", "another");
    assert!(
        reason(&fixture, &token)
            .await
            .contains("does not match claim")
    );
    fixture
        .reader
        .delete("", "serviceaccounts", "ns", "builder");
    assert!(reason(&fixture, &token).await.contains("not found"));
    fixture.reader.delete("", "secrets", "ns", "kept");
    assert_eq!(reason(&fixture, &token).await, invalidated);
}
