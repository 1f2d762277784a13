//! `cluster token`: what a machine joins with.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::json;

use super::{arguments::TokenOptions, joining, layout::Layout};

/// How long a cluster that just started may take to be ready for it.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(options: TokenOptions) -> anyhow::Result<()> {
    let path = Layout::new(&options.data_dir).kubeconfig();
    let config = Kubeconfig::read_from(&path)
        .with_context(|| format!("cannot read {}: start the cluster once", path.display()))?;
    let own = config.clusters.first().and_then(|c| c.cluster.as_ref());
    let own = own.and_then(|c| c.server.clone()).unwrap_or_default();
    let config =
        kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let api = Api::<ConfigMap>::namespaced(client.clone(), "kube-public");
    let published = await_condition(api, "cluster-info", |map: Option<&ConfigMap>| map.is_some());
    match tokio::time::timeout(PATIENCE, published).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error).context("cannot ask the cluster: does it run?"),
        Err(_) => bail!("the cluster is not ready for machines to join"),
    }
    let info = joining::info(&client).await?;
    let token = Token::random()?;
    create(&client, &token, options.ttl).await?;
    print(&format!(
        "cluster node --join {} --token {}.{} --discovery-token-ca-cert-hash {}",
        reachable(&own, &info.server),
        token.id,
        token.secret,
        joining::hash(&info.authority)?
    ));
    Ok(())
}

/// Where a machine reaches the server whose data directory this is. Its own kubeconfig has the loopback's
/// address if it serves at all of them; the cluster knows another one, perhaps another server's.
fn reachable<'a>(own: &'a str, published: &'a str) -> &'a str {
    let port = |url: &str| url.rsplit(':').next().map(str::to_owned);
    if own.contains("//127.") && port(own) == port(published) {
        published
    } else {
        own
    }
}

/// A bootstrap token: <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>.
struct Token {
    id: String,
    secret: String,
}

impl Token {
    fn random() -> anyhow::Result<Self> {
        Ok(Self {
            id: letters(6)?,
            secret: letters(16)?,
        })
    }
}

/// Small letters and digits that nobody can guess.
fn letters(count: usize) -> anyhow::Result<String> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let random = rustls::crypto::ring::default_provider().secure_random;
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 32];
        if random.fill(&mut bytes).is_err() {
            bail!("the system has no randomness");
        }
        // Each letter equally likely: 252 is a multiple of 36.
        let good = bytes.into_iter().filter(|byte| *byte < 252);
        let letters = good.map(|byte| char::from(ALPHABET[usize::from(byte % 36)]));
        text.extend(letters.take(count - text.len()));
    }
    Ok(text)
}

async fn create(client: &Client, token: &Token, ttl: SignedDuration) -> anyhow::Result<()> {
    let expiration = Timestamp::now()
        .checked_add(ttl)
        .context("--ttl is too long")?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system"},
        "stringData": {
            "token-id": token.id,
            "token-secret": token.secret,
            "expiration": format!("{expiration:.0}"),
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": joining::JOINERS,
            "description": "made by `cluster token`",
        },
    });
    let secret: Secret = serde_json::from_value(secret).context("a Secret")?;
    Api::<Secret>::namespaced(client.clone(), "kube-system")
        .create(&PostParams::default(), &secret)
        .await
        .context("cannot make the token")?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn print(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_server_itself_by_an_address_that_others_can_reach() {
        let own = "https://127.0.0.1:6443";
        assert_eq!(
            reachable(own, "https://10.0.0.1:6443"),
            "https://10.0.0.1:6443"
        );
        assert_eq!(reachable(own, "https://10.0.0.1:6444"), own);
        let wide = "https://10.0.0.2:6443";
        assert_eq!(reachable(wide, "https://10.0.0.1:6443"), wide);
    }

    #[test]
    fn tokens_have_the_form_that_the_api_server_knows() {
        let token = Token::random().unwrap();
        assert_eq!((token.id.len(), token.secret.len()), (6, 16));
        let fine = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        assert!(fine(&token.id) && fine(&token.secret));
        assert_ne!(token.secret, Token::random().unwrap().secret);
    }
}
