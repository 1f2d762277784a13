//! Where a webhook is, from a file in the format of kubeconfigs: what `--authentication-token-webhook-config-file` and
//! its like name.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Address, Client, Trust, credentials::Credentials};
use crate::admission::reader::ObjectReader;

/// A webhook's configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("webhook configuration {path}: {reason}", path = .path.display())]
pub struct WebhookFileError {
    path: PathBuf,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    context: Context,
    #[serde(default)]
    cluster: Cluster,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// A client of the webhook that the file's current context names.
pub(crate) fn client(
    path: &Path,
    reader: Arc<dyn ObjectReader>,
) -> Result<Client, WebhookFileError> {
    read(path)
        .and_then(|(url, trust)| {
            Client::new(Address::Url(url), &trust, reader).map_err(|e| e.to_string())
        })
        .map_err(|reason| WebhookFileError {
            path: path.to_owned(),
            reason,
        })
}

fn read(path: &Path) -> Result<(String, Trust), String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let (cluster, mut user) = chosen(&text)?;
    if !cluster.server.starts_with("https:") {
        // Upstream shows none to whom anybody on the way could read them.
        user = User::default();
    }
    // Paths are relative to the file.
    let folder = path.parent().unwrap_or(Path::new("."));
    let trust = trust(folder, &cluster, &user)?;
    Ok((cluster.server, trust))
}

/// Reads any text as such a file, but none of the files that it names.
#[cfg(feature = "__fuzz")]
pub(crate) fn fuzz(text: &str) {
    let Ok((cluster, user)) = chosen(text) else {
        return;
    };
    let files = [
        &cluster.certificate_authority,
        &user.client_certificate,
        &user.client_key,
        &user.token_file,
    ];
    if files.iter().all(|file| file.is_none()) {
        let _ = trust(Path::new("."), &cluster, &user);
    }
}

/// What the current context names.
fn chosen(text: &str) -> Result<(Cluster, User), String> {
    // Without the lines around the fault: they may be tokens or keys, and this is logged.
    let file: File = serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string())?;
    let named = |all: Vec<Named>, name: &str| all.into_iter().find(|one| one.name == name);
    let context = named(file.contexts, &file.current_context)
        .ok_or_else(|| format!("there is no current context {:?}", file.current_context))?
        .context;
    let cluster = named(file.clusters, &context.cluster)
        .ok_or_else(|| format!("there is no cluster {:?}", context.cluster))?
        .cluster;
    let user = named(file.users, &context.user).map_or_else(User::default, |named| named.user);
    if cluster.server.is_empty() {
        return Err(format!("cluster {:?} has no server", context.cluster));
    }
    Ok((cluster, user))
}

fn trust(folder: &Path, cluster: &Cluster, user: &User) -> Result<Trust, String> {
    let load = |data: &Option<String>, file: &Option<String>| match (data, file) {
        (Some(data), _) => {
            let decoded = STANDARD.decode(data.trim());
            decoded.map(Some).map_err(|e| format!("not base64: {e}"))
        }
        (None, Some(file)) => {
            let read = fs::read(folder.join(file));
            read.map(Some).map_err(|e| format!("{file}: {e}"))
        }
        (None, None) => Ok(None),
    };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err("credentials from programs and providers are not supported".to_owned());
    }
    let authority = load(
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    )?;
    let certificate = load(&user.client_certificate_data, &user.client_certificate)?;
    let key = load(&user.client_key_data, &user.client_key)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err("a client certificate needs its key, and a key its certificate".to_owned());
        }
    };
    Ok(Trust {
        ca_bundle: authority.unwrap_or_default(),
        server_name: cluster.tls_server_name.clone(),
        insecure: cluster.insecure_skip_tls_verify,
        identity,
        credentials: credentials(folder, user)?,
    })
}

fn credentials(folder: &Path, user: &User) -> Result<Option<Credentials>, String> {
    if let Some(file) = &user.token_file {
        let read = Credentials::of_file(&folder.join(file));
        // A token beside it counts while there is none in the file.
        if read.is_ok() || user.token.is_none() {
            return read.map(Some);
        }
    }
    let text = match (&user.token, &user.username, &user.password) {
        (Some(token), ..) => format!("Bearer {token}"),
        (None, Some(name), Some(password)) => {
            let pair = STANDARD.encode(format!("{name}:{password}"));
            format!("Basic {pair}")
        }
        _ => return Ok(None),
    };
    Credentials::fixed(&text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_current_context_says_where_and_with_what() {
        let folder = std::env::temp_dir().join(format!("kubeconfig-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("hook.yaml");
        fs::write(folder.join("ca.pem"), "authority").unwrap();
        let text = "
apiVersion: v1
kind: Config
current-context: b
contexts:
- {name: a, context: {cluster: none, user: none}}
- {name: b, context: {cluster: hook, user: me}}
clusters:
- {name: hook, cluster: {server: 'https://hook.example:1/x', certificate-authority: ca.pem, tls-server-name: other}}
users:
- {name: me, user: {token: abc}}
";
        fs::write(&path, text).unwrap();
        let (url, trust) = read(&path).unwrap();
        assert_eq!(url, "https://hook.example:1/x");
        assert_eq!(trust.ca_bundle, b"authority");
        assert_eq!(trust.server_name.as_deref(), Some("other"));
        assert_eq!(trust.credentials.unwrap().now().await, "Bearer abc");
        fs::write(&path, text.replace("https:", "http:")).unwrap();
        assert!(
            read(&path).unwrap().1.credentials.is_none(),
            "not over http"
        );
        fs::write(folder.join("token"), "fresh\n").unwrap();
        for (user, shown) in [
            ("{tokenFile: token}", "Bearer fresh"),
            ("{token: abc, tokenFile: token}", "Bearer fresh"),
            ("{token: abc, tokenFile: gone}", "Bearer abc"),
            ("{username: u, password: p}", "Basic dTpw"),
        ] {
            fs::write(&path, text.replace("{token: abc}", user)).unwrap();
            let (_, trust) = read(&path).unwrap();
            assert_eq!(trust.credentials.unwrap().now().await, shown);
        }
        for (change, to, said) in [
            ("context: b", "context: c", "no current context \"c\""),
            ("context: b", "context: a", "no cluster \"none\""),
            ("{token: abc}", "{client-key-data: YQ==}", "needs its key"),
            ("{token: abc}", "{exec: {command: x}}", "not supported"),
            ("ca.pem", "gone.pem", "gone.pem"),
        ] {
            fs::write(&path, text.replace(change, to)).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
