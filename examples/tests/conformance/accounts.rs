//! What sig-auth requires of the tokens that pods get.

use anyhow::{Context, ensure};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use k8s_openapi::api::{authentication::v1::TokenReview, core::v1::Pod};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{
    boot,
    case::{POD, becomes, log, pod, prepare},
};

const TOKENS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Runs a pod whose containers each print a file; gives the pod's account and what they said.
async fn print(
    client: &Client,
    volumes: Value,
    mounts: &Value,
    files: &[(&str, &str)],
) -> anyhow::Result<Vec<String>> {
    prepare(client, "accounts").await?;
    let container = |(name, path): &(&str, &str)| json!({"name": name, "command": ["cat", path], "volumeMounts": mounts});
    let containers: Vec<Value> = files.iter().map(container).collect();
    let spec = json!({"containers": containers, "volumes": volumes});
    let pods: Api<Pod> = Api::namespaced(client.clone(), "accounts");
    pods.create(&PostParams::default(), &pod(spec)?).await?;
    becomes(&pods, |pod| pod["status"]["phase"] == "Succeeded").await?;
    let mut said = Vec::new();
    for (name, _) in files {
        said.push(log(&pods, name).await?);
    }
    Ok(said)
}

/// Asks the server whose token it is.
async fn review(client: &Client, token: &str, audiences: Value) -> anyhow::Result<Value> {
    let review = serde_json::from_value(json!({"spec": {"token": token, "audiences": audiences}}))?;
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &review).await?;
    Ok(serde_json::to_value(review.status)?)
}

/// [sig-auth] ServiceAccounts should mount an API token into pods
#[tokio::test]
#[ignore = "needs root"]
async fn a_pod_gets_token_authority_and_namespace() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = boot(folder.path()).await;
    let files = ["token", "ca.crt", "namespace"].map(|file| format!("{TOKENS}/{file}"));
    let [token, authority, namespace] = &files;
    let files = [
        ("token", token.as_str()),
        ("authority", authority),
        ("namespace", namespace),
    ];
    let said = print(&client, json!([]), &json!([]), &files).await?;
    let status = review(&client, &said[0], Value::Null).await?;
    ensure!(status["authenticated"] == true, "{status}");
    ensure!(
        status["user"]["username"] == "system:serviceaccount:accounts:default",
        "{status}"
    );
    let pod = &status["user"]["extra"]["authentication.kubernetes.io/pod-name"];
    ensure!(*pod == json!([POD]), "{status}");
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let root = kubeconfig.clusters[0]
        .cluster
        .clone()
        .context("a cluster")?;
    let root = serde_json::to_value(root)?["certificate-authority-data"].clone();
    let mounted = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(&said[1])
    };
    ensure!(root == *mounted, "{root} is not {mounted}");
    ensure!(said[2] == "accounts", "{}", said[2]);
    cluster.stop();
    Ok(())
}

/// [sig-auth] ServiceAccounts should mount projected service account token
#[tokio::test]
#[ignore = "needs root"]
async fn a_pod_gets_the_token_that_it_asks_for() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = boot(folder.path()).await;
    let source =
        json!({"path": "token", "audience": "https://shop.example.com", "expirationSeconds": 600});
    let volumes =
        json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": source}]}}]);
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let said = print(&client, volumes, &mounts, &[("token", "/v/token")]).await?;
    let status = review(&client, &said[0], json!(["https://shop.example.com"])).await?;
    ensure!(status["authenticated"] == true, "{status}");
    ensure!(
        status["audiences"] == json!(["https://shop.example.com"]),
        "{status}"
    );
    let status = review(&client, &said[0], Value::Null).await?;
    ensure!(
        status["authenticated"] != true,
        "it is not for the API server: {status}"
    );
    cluster.stop();
    Ok(())
}

/// [sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer
///
/// The pod's token and authority are all that is used to verify the token.
#[tokio::test]
#[ignore = "needs root"]
async fn a_pods_token_is_verified_by_what_its_issuer_publishes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, client) = boot(folder.path()).await;
    let files = ["token", "ca.crt"].map(|file| format!("{TOKENS}/{file}"));
    let files = [("token", files[0].as_str()), ("authority", &files[1])];
    let said = print(&client, json!([]), &json!([]), &files).await?;
    let (token, authority) = (&said[0], &said[1]);

    let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let user = json!([{"name": kubeconfig.auth_infos[0].name, "user": {"token": token}}]);
    kubeconfig.auth_infos = serde_json::from_value(user)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let pem = rustls::pki_types::pem::PemObject::from_pem_slice(authority.as_bytes());
    let certificate: rustls::pki_types::CertificateDer<'_> = pem.context("a certificate")?;
    config.root_cert = Some(vec![certificate.to_vec()]);
    let pod = Client::try_from(config)?;
    let get = async |path: &str| -> anyhow::Result<Value> {
        Ok(pod
            .request(http::Request::get(path).body(Vec::new())?)
            .await?)
    };
    let discovery = get("/.well-known/openid-configuration").await?;
    let issuer = discovery["issuer"].as_str().context("an issuer")?;
    let keys = discovery["jwks_uri"].as_str().context("an address")?;
    ensure!(keys.ends_with("/openid/v1/jwks"), "{discovery}");
    let keys: JwkSet = serde_json::from_value(get("/openid/v1/jwks").await?)?;

    let header = decode_header(token)?;
    let algorithms = discovery["id_token_signing_alg_values_supported"].to_string();
    ensure!(
        algorithms.contains(&format!("{:?}", header.alg)),
        "{discovery}"
    );
    let key = keys.find(&header.kid.context("a key's name")?);
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[issuer]);
    let claims = decode::<Value>(
        token,
        &DecodingKey::from_jwk(key.context("the key")?)?,
        &validation,
    )?;
    ensure!(
        claims.claims["sub"] == "system:serviceaccount:accounts:default",
        "{claims:?}"
    );
    ensure!(
        claims.claims["kubernetes.io"]["pod"]["name"] == POD,
        "{claims:?}"
    );
    cluster.stop();
    Ok(())
}
