//! Pulling images from registries and their mirrors.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Read},
    str::FromStr,
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    manifest::OciDescriptor,
    secrets::RegistryAuth as ClientAuth,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    ImageStore,
    config::{ConfigFile, Descriptor, Manifest},
    reference,
    store::Names,
};
use crate::{Error, Image, PullErrorKind, RegistryAuth, sim::hex};

/// What a registry may answer a request for a manifest with.
const ACCEPT: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// How many layers of one image are downloaded at once, as in upstream's runtimes.
const PARALLEL: usize = 3;

/// No manifest or configuration is larger than this.
const MAX_JSON: usize = 8 << 20;

/// A registry that is asked in another one's place, written `HOST=URL`.
///
/// The URL's path, if any, goes before the repository's name:
/// `docker.io=https://mirror.example/hub` asks for `https://mirror.example/v2/hub/library/busybox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    host: String,
    registry: String,
    prefix: String,
    plain: bool,
}

impl FromStr for Mirror {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::InvalidConfig(format!("registry mirror {s:?}: {why}"));
        let (host, url) = s
            .split_once('=')
            .ok_or_else(|| invalid("it must be HOST=URL"))?;
        let url: http::Uri = url
            .parse()
            .map_err(|_| invalid("the URL can't be parsed"))?;
        let plain = match url.scheme_str() {
            Some("http") => true,
            Some("https") => false,
            _ => return Err(invalid("the URL must start with http:// or https://")),
        };
        let registry = url
            .authority()
            .ok_or_else(|| invalid("the URL names no host"))?
            .to_string();
        if host.is_empty() || host.contains('/') {
            return Err(invalid("HOST must be a registry's host name"));
        }
        let host = if host == "index.docker.io" {
            "docker.io"
        } else {
            host
        };
        Ok(Self {
            host: host.to_owned(),
            registry,
            prefix: url.path().trim_matches('/').to_owned(),
            plain,
        })
    }
}

impl Mirror {
    fn rewrite(&self, reference: &Reference) -> Reference {
        let repository = match self.prefix.as_str() {
            "" => reference.repository().to_owned(),
            prefix => format!("{prefix}/{}", reference.repository()),
        };
        with_repository(reference, self.registry.clone(), repository)
    }
}

fn with_repository(reference: &Reference, registry: String, repository: String) -> Reference {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Reference::with_digest(registry, repository, digest.to_owned()),
        (None, tag) => {
            Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
        }
    }
}

/// One client for each registry and credentials: a client keeps the first ones that it was given.
pub(crate) struct Clients {
    plain: Vec<String>,
    clients: Mutex<HashMap<String, Client>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

impl Clients {
    pub(crate) fn new(mirrors: &[Mirror]) -> Self {
        let plain = mirrors
            .iter()
            .filter(|m| m.plain)
            .map(|m| m.registry.clone())
            .collect();
        Self {
            plain,
            clients: Mutex::default(),
        }
    }

    fn get(&self, registry: &str, auth: &ClientAuth) -> Client {
        let secret = match auth {
            ClientAuth::Basic(user, password) => {
                hex(&Sha256::digest(format!("{user}\0{password}")))
            }
            _ => String::new(),
        };
        let key = format!("{registry} {secret}");
        let mut clients = self.clients.lock();
        if clients.len() > 64 {
            clients.clear();
        }
        let client = clients.entry(key).or_insert_with(|| {
            let mut plain = self.plain.clone();
            // As upstream's runtimes do, a registry on this very machine is asked without TLS.
            if is_loopback(registry) {
                plain.push(registry.to_owned());
            }
            Client::new(ClientConfig {
                protocol: ClientProtocol::HttpsExcept(plain),
                connect_timeout: Some(Duration::from_secs(30)),
                read_timeout: Some(Duration::from_secs(60)),
                user_agent: concat!("k8s-runtime/", env!("CARGO_PKG_VERSION")),
                ..ClientConfig::default()
            })
        });
        client.clone()
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(h, _)| h);
    host == "localhost"
        || host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|a| a.is_loopback())
}

pub(super) async fn pull(
    store: &ImageStore,
    wanted: &Reference,
    auth: Option<&RegistryAuth>,
) -> Result<Image, Error> {
    let credentials = match auth {
        Some(a) if !a.username.is_empty() => {
            ClientAuth::Basic(a.username.clone(), a.password.clone())
        }
        _ => ClientAuth::Anonymous,
    };
    let mirrors = &store.inner().mirrors;
    for mirror in mirrors.iter().filter(|m| m.host == wanted.registry()) {
        // A mirror gets no credentials: they were given for the registry.
        match pull_from(
            store,
            wanted,
            &mirror.rewrite(wanted),
            &ClientAuth::Anonymous,
        )
        .await
        {
            Err(error @ Error::PullFailed { .. }) => {
                tracing::info!(image = %wanted, mirror = mirror.registry, %error, "mirror failed, trying the next");
            }
            done => return done,
        }
    }
    let (registry, repository) = (wanted.registry().to_owned(), wanted.repository().to_owned());
    pull_from(
        store,
        wanted,
        &with_repository(wanted, registry, repository),
        &credentials,
    )
    .await
}

async fn pull_from(
    store: &ImageStore,
    wanted: &Reference,
    from: &Reference,
    auth: &ClientAuth,
) -> Result<Image, Error> {
    let busy = {
        let store = store.clone();
        tokio::task::spawn_blocking(move || store.busy())
            .await
            .map_err(|e| Error::io("pull", io::Error::other(e)))??
    };
    let failed = |e: OciDistributionError| Error::PullFailed {
        reference: wanted.whole(),
        kind: kind(&e),
        message: describe(&e),
    };
    let malformed = |message: String| Error::PullFailed {
        reference: wanted.whole(),
        kind: PullErrorKind::Malformed,
        message,
    };
    let client = store.inner().client.get(from.registry(), auth);

    let (mut raw, _) = client
        .pull_manifest_raw(from, auth, ACCEPT)
        .await
        .map_err(failed)?;
    let digest = check(&raw, from.digest()).map_err(malformed)?;
    let mut manifest = Manifest::parse(&raw).map_err(|e| malformed(e.to_string()))?;
    if manifest.manifests.is_some() {
        let chosen = manifest.choose().ok_or_else(|| {
            malformed(format!(
                "no match for platform linux/{}",
                super::config::our_architecture()
            ))
        })?;
        let chosen_digest = chosen.digest.clone();
        let exact = from.clone_with_digest(chosen_digest.clone());
        raw = client
            .pull_manifest_raw(&exact, auth, ACCEPT)
            .await
            .map_err(failed)?
            .0;
        check(&raw, Some(&chosen_digest)).map_err(malformed)?;
        manifest = Manifest::parse(&raw).map_err(|e| malformed(e.to_string()))?;
    }
    let config = manifest
        .config
        .ok_or_else(|| malformed("the manifest names no configuration".to_owned()))?;
    let config = small_blob(&client, from, &config)
        .await
        .map_err(failed)?
        .ok_or_else(|| malformed("the configuration does not match its digest".to_owned()))?;
    let parsed = ConfigFile::parse(&config).map_err(|e| malformed(e.to_string()))?;
    let layers = manifest.layers.unwrap_or_default();
    if parsed.diff_ids().len() != layers.len() {
        return Err(malformed(
            "configuration and manifest name different layers".to_owned(),
        ));
    }
    let jobs = parsed.diff_ids().iter().cloned().zip(layers);
    futures::stream::iter(jobs.map(Ok::<_, Error>))
        .try_for_each_concurrent(PARALLEL, |(diff_id, layer)| {
            let (client, store) = (&client, store.clone());
            async move { pull_layer(&store, client, wanted, from, diff_id, layer).await }
        })
        .await?;

    let repository = reference::repository(wanted);
    let names = Names {
        tags: match (wanted.digest(), wanted.tag()) {
            (None, Some(tag)) => vec![format!("{repository}:{tag}")],
            _ => Vec::new(),
        },
        digests: vec![format!("{repository}@{digest}")],
    };
    let store = store.clone();
    tokio::task::spawn_blocking(move || {
        let _busy = busy;
        store.commit(&config, Some(&raw), names)
    })
    .await
    .map_err(|e| Error::io("pull", io::Error::other(e)))?
}

async fn pull_layer(
    store: &ImageStore,
    client: &Client,
    wanted: &Reference,
    from: &Reference,
    diff_id: String,
    layer: Descriptor,
) -> Result<(), Error> {
    if store.has_layer(&diff_id) {
        return Ok(());
    }
    let failed = |kind, message| Error::PullFailed {
        reference: wanted.whole(),
        kind,
        message,
    };
    let descriptor = oci_descriptor(&layer);
    let mut stream = client
        .pull_blob_stream(from, &descriptor)
        .await
        .map_err(|e| failed(kind(&e), describe(&e)))?
        .stream;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(16);
    let unpack = {
        let store = store.clone();
        tokio::task::spawn_blocking(move || {
            let blob = (layer.digest.as_str(), layer.size);
            let reader = ChannelReader {
                receiver,
                chunk: Bytes::new(),
                ended: false,
            };
            store.add_layer(&diff_id, Some(blob), || Ok(Box::new(reader)))
        })
    };
    let mut broken_off = None;
    while let Some(chunk) = stream.next().await {
        let message = match chunk {
            Ok(chunk) => Ok(chunk),
            Err(e) => {
                broken_off = Some(e.to_string());
                Err(e)
            }
        };
        let last = message.is_err();
        if sender.send(message).await.is_err() || last {
            break;
        }
    }
    if broken_off.is_none() {
        let _ = sender.send(Ok(Bytes::new())).await;
    }
    drop(sender);
    match unpack
        .await
        .map_err(|e| Error::io("pull", io::Error::other(e)))?
    {
        Ok(()) => Ok(()),
        Err(Error::BrokenArchive(message)) => Err(match broken_off {
            Some(message) => failed(PullErrorKind::Network, message),
            None => failed(PullErrorKind::Malformed, message),
        }),
        Err(e) => Err(e),
    }
}

/// Reads what a task sends. An empty chunk is the end; a sender that goes away without one is an
/// error.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
}

impl Read for ChannelReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            self.ended = self.chunk.is_empty();
        }
        let n = self.chunk.len().min(buf.len());
        self.chunk.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

fn oci_descriptor(d: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: d.media_type.clone(),
        digest: d.digest.clone(),
        size: i64::try_from(d.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

/// A small blob; `None` if it is not what its descriptor says.
async fn small_blob(
    client: &Client,
    from: &Reference,
    d: &Descriptor,
) -> Result<Option<Vec<u8>>, OciDistributionError> {
    let mut stream = client
        .pull_blob_stream(from, &oci_descriptor(d))
        .await?
        .stream;
    let mut out = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        out.extend_from_slice(&chunk);
        if out.len() > MAX_JSON {
            return Ok(None);
        }
    }
    Ok(check(&out, Some(&d.digest)).is_ok().then_some(out))
}

fn check(data: &[u8], expected: Option<&str>) -> Result<String, String> {
    let digest = format!("sha256:{}", hex(&Sha256::digest(data)));
    match expected {
        Some(e) if e != digest => Err(format!("content has the digest {digest} instead of {e}")),
        _ => Ok(digest),
    }
}

fn kind(e: &OciDistributionError) -> PullErrorKind {
    use OciDistributionError as E;
    match e {
        E::AuthenticationFailure(_) | E::UnauthorizedError { .. } => PullErrorKind::Unauthorized,
        E::ImageManifestNotFoundError(_) => PullErrorKind::NotFound,
        E::RegistryError { envelope, .. } => match envelope.errors.first().map(|e| &e.code) {
            Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => PullErrorKind::Unauthorized,
            Some(
                OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound
                | OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestBlobUnknown,
            ) => PullErrorKind::NotFound,
            _ => PullErrorKind::Other,
        },
        E::ServerError { code: 404, .. } => PullErrorKind::NotFound,
        E::ServerError {
            code: 401 | 403, ..
        } => PullErrorKind::Unauthorized,
        E::RequestError(e) => match e.status().map(|s| s.as_u16()) {
            Some(401 | 403) => PullErrorKind::Unauthorized,
            Some(404) => PullErrorKind::NotFound,
            Some(_) => PullErrorKind::Other,
            None => PullErrorKind::Network,
        },
        E::IoError(_) => PullErrorKind::Network,
        E::ServerError { .. } => PullErrorKind::Other,
        _ => PullErrorKind::Malformed,
    }
}

/// An error with its causes, which is where the reason is.
fn describe(e: &OciDistributionError) -> String {
    let mut out = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        let text = c.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        cause = c.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_replaces_host_and_prefixes_the_repository() {
        let busybox = reference::parse("busybox").unwrap();
        for (mirror, image) in [
            (
                "docker.io=http://127.0.0.1:5000",
                "127.0.0.1:5000/library/busybox:latest",
            ),
            (
                "docker.io=https://m.example/hub/",
                "m.example/hub/library/busybox:latest",
            ),
        ] {
            let mirror: Mirror = mirror.parse().unwrap();
            assert_eq!(mirror.rewrite(&busybox).whole(), image);
        }
        for bad in [
            "",
            "docker.io",
            "docker.io=",
            "docker.io=m.example",
            "=http://x",
            "a/b=http://x",
        ] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }
}
