//! Tokens of service accounts in Secrets.

use std::{error::Error, sync::Arc};

use crate::support::{Cluster, client_for, from, until};
use k8s_controllers::{ControllerManager, ServiceAccountTokenSigner, runtime::Clock};
use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// Signs in plain words.
struct Words;

impl ServiceAccountTokenSigner for Words {
    fn sign(
        &self,
        account: &ServiceAccount,
        secret: &str,
    ) -> Result<String, Box<dyn Error + Send + Sync>> {
        Ok(format!("{} may use {secret}", account.name_any()))
    }
}

fn secret(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
    })
}

#[tokio::test]
async fn a_secret_for_a_token_gets_one_and_goes_with_its_account() {
    let cluster = Cluster::bare().await;
    let server = cluster.server.clone();
    let manager = ControllerManager::builder(move |name| client_for(&server, name))
        .root_ca("PEM")
        .token_signer(Arc::new(Words))
        .build();
    let stop = cluster.stop.clone();
    let running = tokio::spawn(async move {
        manager.run(stop).await;
    });
    let (secrets, accounts) = (
        cluster.api::<Secret>("default"),
        cluster.api::<ServiceAccount>("default"),
    );
    let params = PostParams::default();
    let builder =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}});
    let builder = accounts.create(&params, &from(builder)).await.unwrap();
    for name in ["one", "two"] {
        let made = secrets
            .create(&params, &from(secret(name, "builder")))
            .await;
        made.unwrap();
    }
    let data = |secret: Option<&Secret>, key: &str| {
        let data = secret?.data.as_ref()?.get(key)?;
        String::from_utf8(data.0.clone()).ok()
    };
    for name in ["one", "two"] {
        let filled = until(&secrets, name, |s| data(s, "token").is_some()).await;
        let filled = filled.unwrap();
        let said = data(Some(&filled), "token").unwrap();
        assert_eq!(said, format!("builder may use {name}"));
        assert_eq!(data(Some(&filled), "namespace").unwrap(), "default");
        assert_eq!(data(Some(&filled), "ca.crt").unwrap(), "PEM");
        let uid = &filled.annotations()["kubernetes.io/service-account.uid"];
        assert_eq!(Some(uid), builder.metadata.uid.as_ref());
    }
    // What is taken out comes back.
    let without = Patch::Merge(json!({"data": {"token": null}}));
    secrets
        .patch("one", &PatchParams::default(), &without)
        .await
        .unwrap();
    until(&secrets, "one", |s| data(s, "token").is_some()).await;

    let named = Patch::Merge(json!({"secrets": [{"name": "one"}, {"name": "other"}]}));
    accounts
        .patch("builder", &PatchParams::default(), &named)
        .await
        .unwrap();
    secrets
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    until(&accounts, "builder", |account| {
        let names = account.and_then(|a| a.secrets.as_ref());
        let mut names = names.into_iter().flatten();
        names.all(|s| s.name.as_deref() == Some("other"))
    })
    .await;

    accounts
        .delete("builder", &DeleteParams::default())
        .await
        .unwrap();
    until(&secrets, "two", |s| s.is_none()).await;
    let orphan = secrets
        .create(&params, &from(secret("three", "nobody")))
        .await;
    orphan.unwrap();
    until(&secrets, "three", |s| s.is_none()).await;
    cluster.stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_was_made_for_an_account_and_nobody_uses_is_marked_and_then_removed() {
    let cluster = Cluster::bare().await;
    let server = cluster.server.clone();
    let (secrets, accounts) = (
        cluster.api::<Secret>("default"),
        cluster.api::<ServiceAccount>("default"),
    );
    let params = PostParams::default();
    let bot = json!({"metadata": {"name": "bot"}, "secrets": [{"name": "made"}, {"name": "used"}]});
    accounts.create(&params, &from(bot)).await.unwrap();
    for name in ["made", "used", "own"] {
        let made = secrets.create(&params, &from(secret(name, "bot"))).await;
        made.unwrap();
    }
    // Years later one of them was used the other day.
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 1000);
    let lately = later - SignedDuration::from_hours(24 * 10);
    let label = |name: &str, at: Timestamp| {
        let day = at.strftime("%Y-%m-%d").to_string();
        Patch::Merge(
            json!({"metadata": {"labels": {format!("kubernetes.io/legacy-token-{name}"): day}}}),
        )
    };
    secrets
        .patch("used", &PatchParams::default(), &label("last-used", lately))
        .await
        .unwrap();
    let manager = ControllerManager::builder(move |name| client_for(&server, name))
        .clock(Clock::starting_at(later))
        .build();
    let stop = cluster.stop.clone();
    let running = tokio::spawn(async move {
        manager.run(stop).await;
    });
    let invalid = "kubernetes.io/legacy-token-invalid-since";
    let marked = until(&secrets, "made", |secret| {
        secret.is_some_and(|secret| secret.labels().contains_key(invalid))
    })
    .await;
    let day = later.strftime("%Y-%m-%d").to_string();
    assert_eq!(marked.unwrap().labels()[invalid], day);
    let before = later - SignedDuration::from_hours(24 * 400);
    secrets
        .patch(
            "made",
            &PatchParams::default(),
            &label("invalid-since", before),
        )
        .await
        .unwrap();
    until(&secrets, "made", |secret| secret.is_none()).await;
    for name in ["used", "own"] {
        let secret = secrets.get(name).await.unwrap();
        assert!(!secret.labels().contains_key(invalid), "{name}");
    }
    cluster.stop.cancel();
    running.await.unwrap();
}
