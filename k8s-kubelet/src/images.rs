//! Images: whether to pull, with which credentials, and what to tell about it.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use k8s_model::duration::print_std;
use k8s_openapi::api::core::v1::{Container, Secret};
use k8s_runtime::{Error, Image, ImageService, RegistryAuth};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    events::{Kind, Recorder},
    pod::PodView,
};

/// A container can't have its image. Reason and message are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

type Pull = Shared<BoxFuture<'static, (Result<Image, Arc<Error>>, Duration)>>;

/// Makes sure that images are there.
pub(crate) struct ImageManager {
    pub(crate) service: Arc<dyn ImageService>,
    /// Pulls under way: whoever wants the same image with the same credentials shares one.
    pulls: Arc<Mutex<HashMap<(String, String), Pull>>>,
}

impl fmt::Debug for ImageManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageManager").finish_non_exhaustive()
    }
}

fn pull_policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or(image);
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if !image.contains('@') && (!name.contains(':') || name.ends_with(":latest")) => "Always",
        _ => "IfNotPresent",
    }
}

impl ImageManager {
    pub(crate) fn new(service: Arc<dyn ImageService>) -> Self {
        Self {
            service,
            pulls: Arc::default(),
        }
    }

    /// The image of a container, pulled if need be. Tells events on the way.
    pub(crate) async fn ensure(
        &self,
        recorder: &Recorder,
        pod: &PodView,
        container: &Container,
        secrets: &[Secret],
    ) -> Result<Image, ImageError> {
        let name = container.image.as_deref().unwrap_or_default();
        let tell = |kind, reason: &str, message: &str| {
            recorder.pod(pod, Some(&container.name), kind, reason, message)
        };
        let present = match self.service.image(name).await {
            Ok(present) => present,
            Err(Error::InvalidReference { .. }) => {
                let message = format!(
                    "Failed to apply default image tag {name:?}: couldn't parse image reference {name:?}: invalid reference format"
                );
                tell(Kind::Warning, "InspectFailed", &message);
                return Err(ImageError {
                    reason: "InvalidImageName",
                    message,
                });
            }
            Err(error) => {
                let message = format!("Failed to inspect image {name:?}: {error}");
                tell(Kind::Warning, "InspectFailed", &message);
                return Err(ImageError {
                    reason: "ImageInspectError",
                    message,
                });
            }
        };
        let policy = pull_policy(container);
        match present {
            Some(image) if policy != "Always" => {
                tell(
                    Kind::Normal,
                    "Pulled",
                    &format!("Container image {name:?} already present on machine"),
                );
                return Ok(image);
            }
            None if policy == "Never" => {
                let message =
                    format!("Container image {name:?} is not present with pull policy of Never");
                tell(Kind::Warning, "ErrImageNeverPull", &message);
                return Err(ImageError {
                    reason: "ErrImageNeverPull",
                    message,
                });
            }
            _ => {}
        }
        tell(Kind::Normal, "Pulling", &format!("Pulling image {name:?}"));
        let begin = Instant::now();
        let candidates = credentials(name, secrets);
        let mut last = None;
        for auth in candidates {
            let (result, took) = self.pull(name, auth).await;
            match result {
                Ok(image) => {
                    let message = format!(
                        "Successfully pulled image {name:?} in {} ({} including waiting). Image size: {} bytes.",
                        print_std(rounded(took)),
                        print_std(rounded(begin.elapsed())),
                        image.size_bytes
                    );
                    tell(Kind::Normal, "Pulled", &message);
                    return Ok(image);
                }
                Err(error) => last = Some(error),
            }
        }
        let message = last.map(|e| e.to_string()).unwrap_or_default();
        tell(
            Kind::Warning,
            "Failed",
            &format!("Failed to pull image {name:?}: {message}"),
        );
        Err(ImageError {
            reason: "ErrImagePull",
            message,
        })
    }

    async fn pull(
        &self,
        name: &str,
        auth: Option<RegistryAuth>,
    ) -> (Result<Image, Arc<Error>>, Duration) {
        let user = auth
            .as_ref()
            .map(|a| format!("{}:{}", a.username, a.password))
            .unwrap_or_default();
        let key = (name.to_owned(), user);
        let pull = {
            let mut pulls = self.pulls.lock();
            // Dropped by all who waited for it: begin anew.
            pulls.retain(|_, p| p.strong_count().is_some_and(|n| n > 1));
            pulls
                .entry(key)
                .or_insert_with(|| {
                    let (service, name) = (self.service.clone(), name.to_owned());
                    async move {
                        let begin = Instant::now();
                        let result = service.pull(&name, auth.as_ref()).await.map_err(Arc::new);
                        (result, begin.elapsed())
                    }
                    .boxed()
                    .shared()
                })
                .clone()
        };
        pull.await
    }
}

/// Milliseconds are enough for a message.
fn rounded(d: Duration) -> Duration {
    Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// The credentials to try for an image, best match first; none at all when nothing matches.
fn credentials(image: &str, secrets: &[Secret]) -> Vec<Option<RegistryAuth>> {
    let image = with_registry(image);
    let mut found: Vec<(usize, RegistryAuth)> = Vec::new();
    for secret in secrets {
        let data = secret.data.as_ref();
        let config = if let Some(json) = data.and_then(|d| d.get(".dockerconfigjson")) {
            serde_json::from_slice::<DockerConfig>(&json.0).ok()
        } else if let Some(json) = data.and_then(|d| d.get(".dockercfg")) {
            serde_json::from_slice(&json.0)
                .ok()
                .map(|auths| DockerConfig { auths })
        } else {
            None
        };
        for (registry, auth) in config.map(|c| c.auths).unwrap_or_default() {
            let registry = registry
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            let registry = registry
                .trim_end_matches('/')
                .trim_end_matches("/v1")
                .trim_end_matches("/v2");
            let registry = if registry == "index.docker.io" {
                "docker.io"
            } else {
                registry
            };
            let matches = image
                .strip_prefix(registry)
                .is_some_and(|rest| rest.starts_with(['/', ':', '@']));
            if matches && let Some(auth) = decode(&auth) {
                found.push((registry.len(), auth));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut out: Vec<Option<RegistryAuth>> =
        found.into_iter().map(|(_, auth)| Some(auth)).collect();
    if out.is_empty() {
        out.push(None);
    }
    out
}

fn decode(auth: &DockerAuth) -> Option<RegistryAuth> {
    if !auth.username.is_empty() {
        return Some(RegistryAuth {
            username: auth.username.clone(),
            password: auth.password.clone(),
        });
    }
    let text = String::from_utf8(STANDARD.decode(auth.auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(RegistryAuth {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// An image name with its registry, as Docker reads names.
fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

/// The name under which a container's image is shown: the tag it was asked for, in full.
pub(crate) fn shown_name(asked: &str, image: &Image) -> String {
    let full = with_registry(asked);
    let tagged = format!("{full}:latest");
    let is_it = |tag: &&String| **tag == full || **tag == tagged;
    image
        .repo_tags
        .iter()
        .find(is_it)
        .or(image.repo_tags.first())
        .cloned()
        .unwrap_or_else(|| asked.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn credentials_are_found_by_registry_and_path() {
        let json = serde_json::json!({"auths": {
            "registry.example:5000": {"username": "all", "password": "x"},
            "registry.example:5000/team": {"auth": STANDARD.encode("team:y:z")},
            "https://index.docker.io/v1/": {"username": "hub", "password": "h"},
        }});
        let data = [(
            ".dockerconfigjson".to_owned(),
            ByteString(json.to_string().into_bytes()),
        )];
        let secret = Secret {
            data: Some(data.into()),
            ..Default::default()
        };
        let users = |image: &str| -> Vec<Option<String>> {
            credentials(image, std::slice::from_ref(&secret))
                .into_iter()
                .map(|a| a.map(|a| a.username))
                .collect()
        };
        assert_eq!(
            users("registry.example:5000/team/app:1"),
            [Some("team".to_owned()), Some("all".to_owned())]
        );
        assert_eq!(users("busybox"), [Some("hub".to_owned())]);
        assert_eq!(users("quay.io/x/y"), [None]);
    }

    #[test]
    fn latest_is_always_pulled_by_default() {
        let policy = |image: &str| {
            let c = Container {
                image: Some(image.to_owned()),
                ..Default::default()
            };
            pull_policy(&c).to_owned()
        };
        assert_eq!(policy("busybox"), "Always");
        assert_eq!(policy("host:5000/busybox"), "Always");
        assert_eq!(policy("busybox:1.36"), "IfNotPresent");
        assert_eq!(policy("busybox@sha256:0"), "IfNotPresent");
    }
}
