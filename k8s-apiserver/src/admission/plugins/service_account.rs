//! [`ServiceAccount`]: every pod has an identity.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::{
    Resource,
    api::core::v1::{
        ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile,
        EnvFromSource, EnvVar, KeyToPath, ObjectFieldSelector, Pod, PodSpec, ProjectedVolumeSource,
        ServiceAccount as Account, ServiceAccountTokenProjection, Volume, VolumeMount,
        VolumeProjection,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use parking_lot::Mutex;

use super::{MIRROR_POD, askable};
use crate::{
    Error,
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
        reader::{ObjectReader, ReadError},
        references::References,
    },
};

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and seven seconds: known by its oddity as what nobody asked for.
const TOKEN_SECONDS: i64 = 3607;
/// How often the account `default` is looked for: a controller makes it for each new namespace.
const ATTEMPTS: u32 = 10;
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

/// Gives a pod the account `default` if it names none, checks that the account is there, and mounts
/// a token for it (KEP-2907), the cluster's authority and the namespace's name into its containers.
#[derive(Debug)]
pub struct ServiceAccount {
    reader: Arc<dyn ObjectReader>,
    random: Mutex<fastrand::Rng>,
    /// Accounts as they were when they were last read: most pods of a namespace have the same, and it hardly
    /// ever changes.
    known: Mutex<Known>,
}

/// Accounts by namespace and name, with the JSON that they were read from.
type Known = HashMap<(String, String), (Bytes, Arc<Account>)>;

/// How many accounts are known at most.
const KNOWN: usize = 256;

impl ServiceAccount {
    /// Looks accounts up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        ServiceAccount {
            reader,
            random: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Names the volumes after numbers from that seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        self.random.lock().seed(seed);
        self
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Arc<Account>, AdmissionError> {
        let problem = |text: &dyn std::fmt::Display| {
            AdmissionError::forbidden(format!(
                "error looking up service account {namespace}/{name}: {text}"
            ))
        };
        if let Some(text) = askable::refusal(name) {
            return Err(problem(&text));
        }
        let json = match self.stored(namespace, name).await {
            Ok(Some(json)) => json,
            Ok(None) => return Err(problem(&format!("serviceaccount {name:?} not found"))),
            Err(error) => return Err(problem(&error)),
        };
        let key = (namespace.to_owned(), name.to_owned());
        {
            let known = self.known.lock();
            if let Some((_, account)) = known.get(&key).filter(|(seen, _)| *seen == json) {
                return Ok(account.clone());
            }
        }
        let account: Account = serde_json::from_slice(&json).map_err(|source| {
            problem(&ReadError::Decode {
                resource: Account::URL_PATH_SEGMENT.to_owned(),
                namespace: key.0.clone(),
                name: key.1.clone(),
                source,
            })
        })?;
        let account = Arc::new(account);
        let mut known = self.known.lock();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(key, (json, account.clone()));
        Ok(account)
    }

    /// The JSON of an account, if it exists. The account `default` is waited for.
    async fn stored(&self, namespace: &str, name: &str) -> Result<Option<Bytes>, ReadError> {
        let (group, plural) = (Account::GROUP, Account::URL_PATH_SEGMENT);
        let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
        let mut pause = None;
        for attempt in 1..=attempts {
            let found = self.reader.get_raw(group, plural, namespace, name).await?;
            if found.is_some() || attempt == attempts {
                return Ok(found);
            }
            let pause = *pause
                .get_or_insert_with(|| Duration::from_millis(self.random.lock().u64(100..200)));
            tokio::time::sleep(pause).await;
        }
        Ok(None)
    }

    async fn check(&self, namespace: &str, pod: &Pod) -> Result<(), AdmissionError> {
        let Some(spec) = &pod.spec else {
            return Ok(());
        };
        let name = spec.service_account_name.as_deref().unwrap_or_default();
        if is_mirror(&pod.metadata) {
            return check_mirror(pod, spec);
        }
        let account = self.account(namespace, name).await?;
        if is_enforced(&account) {
            check_secrets(name, &account, spec).map_err(AdmissionError::forbidden)?;
        }
        Ok(())
    }

    /// Containers that are added to a running pod see no more secrets than the others.
    async fn check_added(&self, namespace: &str, pod: &Pod) -> Result<(), AdmissionError> {
        let Some(spec) = &pod.spec else {
            return Ok(());
        };
        let name = spec.service_account_name.as_deref().unwrap_or_default();
        if name.is_empty() {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(AdmissionError::forbidden(format!(
                "no service account specified for pod {namespace}/{pod}"
            )));
        }
        let account = self.account(namespace, name).await?;
        if !is_enforced(&account) {
            return Ok(());
        }
        check_ephemeral(name, &account, spec).map_err(|text| {
            // Upstream does not class this.
            AdmissionError::Status(Box::new(Error::unknown(text).into_status()))
        })
    }
}

/// Whether pods of the account may refer to its own secrets alone.
fn is_enforced(account: &Account) -> bool {
    let annotations = account.metadata.annotations.as_ref();
    annotations
        .and_then(|a| a.get(ENFORCE_SECRETS))
        .is_some_and(|v| matches!(v.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn is_mirror(meta: &ObjectMeta) -> bool {
    meta.annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(MIRROR_POD))
}

fn check_mirror(pod: &Pod, spec: &PodSpec) -> Result<(), AdmissionError> {
    let references = References::of(pod);
    if references.service_account.is_some() {
        return Err(AdmissionError::forbidden(
            "a mirror pod may not reference service accounts",
        ));
    }
    if !references.secrets.is_empty() {
        return Err(AdmissionError::forbidden(
            "a mirror pod may not reference secrets",
        ));
    }
    let token = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|v| v.projected.as_ref()?.sources.as_ref())
        .flatten()
        .any(|source| source.service_account_token.is_some());
    if token {
        return Err(AdmissionError::forbidden(
            "a mirror pod may not use ServiceAccountToken volume projections",
        ));
    }
    Ok(())
}

/// The secrets that those who run as the account may refer to.
fn mountable(account: &Account) -> BTreeSet<&str> {
    let secrets = account.secrets.iter().flatten();
    secrets.filter_map(|s| s.name.as_deref()).collect()
}

/// Refuses variables of a container that come from other secrets, one by one or all of a secret's at once.
fn check_environment(
    name: &str,
    secrets: &BTreeSet<&str>,
    what: &str,
    container: &str,
    env: &Option<Vec<EnvVar>>,
    from: &Option<Vec<EnvFromSource>>,
) -> Result<(), String> {
    for env in env.iter().flatten() {
        let source = env.value_from.as_ref();
        if let Some(key) = source.and_then(|source| source.secret_key_ref.as_ref())
            && !secrets.contains(key.name.as_str())
        {
            return Err(format!(
                "{what} {container} with envVar {} referencing secret.secretName={:?} is not allowed because service account {name} does not reference that secret",
                env.name, key.name
            ));
        }
    }
    for secret in from.iter().flatten().flat_map(|from| &from.secret_ref) {
        if !secrets.contains(secret.name.as_str()) {
            return Err(format!(
                "{what} {container} with envFrom referencing secret.secretName={:?} is not allowed because service account {name} does not reference that secret",
                secret.name
            ));
        }
    }
    Ok(())
}

/// What [`check_secrets`] is for a new pod, for the containers that come later. It is in no pod from the start.
fn check_ephemeral(name: &str, account: &Account, spec: &PodSpec) -> Result<(), String> {
    let secrets = mountable(account);
    for container in spec.ephemeral_containers.iter().flatten() {
        let (env, from) = (&container.env, &container.env_from);
        let what = "ephemeral container";
        check_environment(name, &secrets, what, &container.name, env, from)?;
    }
    Ok(())
}

fn check_secrets(name: &str, account: &Account, spec: &PodSpec) -> Result<(), String> {
    let secrets = mountable(account);
    for volume in spec.volumes.iter().flatten() {
        if let Some(secret) = volume
            .secret
            .as_ref()
            .and_then(|s| s.secret_name.as_deref())
            && !secrets.contains(secret)
        {
            return Err(format!(
                "volume with secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|c| ("init container", c));
    let containers = init.chain(spec.containers.iter().map(|c| ("container", c)));
    for (what, container) in containers {
        let (env, from) = (&container.env, &container.env_from);
        check_environment(name, &secrets, what, &container.name, env, from)?;
    }
    let pull: BTreeSet<&str> = account
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|s| s.name.as_str())
        .collect();
    for (i, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !pull.contains(secret.name.as_str()) {
            return Err(format!(
                "imagePullSecrets[{i}].name={:?} is not allowed because service account {name} does not reference that imagePullSecret",
                secret.name
            ));
        }
    }
    Ok(())
}

fn mount_token(spec: &mut PodSpec, random: &mut fastrand::Rng) {
    let existing = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name.starts_with(VOLUME_PREFIX))
        .map(|volume| volume.name.clone());
    let has_volume = existing.is_some();
    let name =
        existing.unwrap_or_else(|| k8s_model::metadata::generate_name(VOLUME_PREFIX, random));
    let mut needed = false;
    let mut mount = |container: &mut Container| {
        let mounts = container.volume_mounts.get_or_insert_default();
        if mounts.iter().all(|mount| mount.mount_path != MOUNT_PATH) {
            mounts.push(VolumeMount {
                name: name.clone(),
                read_only: Some(true),
                mount_path: MOUNT_PATH.to_owned(),
                ..VolumeMount::default()
            });
            needed = true;
        }
    };
    spec.init_containers
        .iter_mut()
        .flatten()
        .for_each(&mut mount);
    spec.containers.iter_mut().for_each(&mut mount);
    if needed && !has_volume {
        spec.volumes.get_or_insert_default().push(Volume {
            name,
            projected: Some(token_volume()),
            ..Volume::default()
        });
    }
}

fn token_volume() -> ProjectedVolumeSource {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".to_owned(),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".to_owned(),
                path: "ca.crt".to_owned(),
                ..KeyToPath::default()
            }]),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".to_owned(),
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: "metadata.namespace".to_owned(),
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    ProjectedVolumeSource {
        default_mode: Some(0o644),
        sources: Some(vec![token, authority, namespace]),
        ..ProjectedVolumeSource::default()
    }
}

#[async_trait]
impl AdmissionPlugin for ServiceAccount {
    fn name(&self) -> &str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit, Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        // Only new pods are changed.
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let namespace = request.namespace;
        let Some(pod) = request.object_as_mut::<Pod>() else {
            return Ok(());
        };
        if is_mirror(&pod.metadata) {
            // The node compares it with its own and would delete it if anything were changed.
            return self.check(namespace, pod).await;
        }
        let spec = pod.spec.get_or_insert_default();
        let name = spec.service_account_name.get_or_insert_default();
        if name.is_empty() {
            DEFAULT.clone_into(name);
        }
        let name = name.clone();
        // The old name of the field, which clients still read.
        spec.service_account = Some(name.clone());
        let account = self.account(namespace, &name).await?;
        let wanted = spec
            .automount_service_account_token
            .or(account.automount_service_account_token)
            .unwrap_or(true);
        if wanted {
            mount_token(spec, &mut self.random.lock());
        }
        if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty)
            && let Some(secrets) = &account.image_pull_secrets
            && !secrets.is_empty()
        {
            spec.image_pull_secrets = Some(secrets.clone());
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let Some(pod) = request.object_as::<Pod>() else {
            return Ok(());
        };
        match (request.operation, request.subresource) {
            (Operation::Create, "") => self.check(request.namespace, pod).await,
            (Operation::Update, "ephemeralcontainers") => {
                self.check_added(request.namespace, pod).await
            }
            _ => Ok(()),
        }
    }
}
