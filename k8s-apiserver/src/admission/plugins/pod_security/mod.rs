//! [`PodSecurity`]: the Pod Security Standards, as a namespace's labels ask for them.
//!
//! See <https://kubernetes.io/docs/concepts/security/pod-security-admission/> and KEP-2579.

mod checks;
mod namespace;
mod policy;
mod template;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use k8s_model::status::{self, GroupResource};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use memchr::memmem::Finder;

use self::checks::Subject;
pub use self::policy::{Level, LevelVersion, Policy};
use crate::{
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
        reader::{ObjectReader, ReadError},
    },
    audit,
};

/// What is to be found in namespaces with labels for this. Made once: to make it takes longer than to look.
static LABELS: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new("\"pod-security.kubernetes.io/"));

/// Whose pods are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemptions {
    /// Users by name. Controllers make most pods: to exempt one exempts all whom it serves.
    pub users: Vec<String>,
    /// Runtime classes by name.
    pub runtime_classes: Vec<String>,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
}

/// Says something in the audit log, if there is one.
fn annotate(key: &str, value: impl FnOnce() -> String) {
    if audit::is_recording() {
        audit::annotate(format!("pod-security.kubernetes.io/{key}"), value());
    }
}

/// Refuses pods that violate the standard that their namespace enforces, and warns of those, and of
/// workloads whose pods would, that violate the one it warns of. A namespace that is to enforce
/// a stricter one is told which of its pods would violate it.
///
/// Without labels nothing is forbidden, unless the [defaults](PodSecurity::with_defaults) say so.
#[derive(Debug)]
pub struct PodSecurity {
    reader: Arc<dyn ObjectReader>,
    defaults: Policy,
    exemptions: Exemptions,
}

impl PodSecurity {
    /// Looks namespaces and pods up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        PodSecurity {
            reader,
            defaults: Policy::default(),
            exemptions: Exemptions::default(),
        }
    }

    /// What holds where a namespace has no labels.
    #[must_use]
    pub fn with_defaults(mut self, defaults: Policy) -> Self {
        self.defaults = defaults;
        self
    }

    /// Whose pods are not looked at.
    #[must_use]
    pub fn with_exemptions(mut self, exemptions: Exemptions) -> Self {
        self.exemptions = exemptions;
        self
    }

    fn is_exempt(&self, request: &AdmissionRequest<'_>) -> bool {
        let exempt = &self.exemptions;
        let reason = if exempt.namespaces.iter().any(|n| n == request.namespace) {
            "namespace"
        } else if exempt.users.contains(&request.user.name) {
            "user"
        } else {
            return false;
        };
        annotate("exempt", || reason.to_owned());
        true
    }

    fn is_runtime_exempt(&self, spec: &PodSpec) -> bool {
        let class = spec.runtime_class_name.as_deref().unwrap_or_default();
        !class.is_empty() && self.exemptions.runtime_classes.iter().any(|c| c == class)
    }

    async fn validate_pod(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        const OTHERS: &[&str] = &[
            "exec",
            "attach",
            "binding",
            "eviction",
            "log",
            "portforward",
            "proxy",
            "status",
        ];
        let Some(pod) = request.object_as::<Pod>() else {
            return Ok(());
        };
        if OTHERS.contains(&request.subresource) || self.is_exempt(request) {
            return Ok(());
        }
        if let Some(old) = request.old_as::<Pod>()
            && !template::is_significant(pod, old)
        {
            return Ok(());
        }
        let Some(policy) = self.policy(request.namespace).await? else {
            return Err(AdmissionError::Status(Box::new(status::internal_error(
                &format!("failed to lookup namespace {:?}", request.namespace),
            ))));
        };
        let Some(spec) = &pod.spec else {
            return Ok(());
        };
        let subject = Subject {
            annotations: pod.metadata.annotations.as_ref(),
            spec,
        };
        self.evaluate(request, policy, &subject, true)
    }

    async fn validate_workload(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<(), AdmissionError> {
        if !request.subresource.is_empty() || self.is_exempt(request) {
            return Ok(());
        }
        let Some((annotations, spec)) = request.object.as_deref().and_then(template::of) else {
            return Ok(());
        };
        match self.policy(request.namespace).await? {
            Some(policy) => self.evaluate(request, policy, &Subject { annotations, spec }, false),
            None => Ok(()),
        }
    }

    /// The policy of a namespace, if it exists.
    async fn policy(&self, namespace: &str) -> Result<Option<Policy>, AdmissionError> {
        let json = self.reader.get_raw("", "namespaces", "", namespace).await?;
        let Some(json) = json else {
            return Ok(None);
        };
        // Most namespaces ask for nothing, and saying so needs no parsing.
        if LABELS.find(&json).is_none() {
            return Ok(Some(self.defaults));
        }
        let found: Namespace =
            serde_json::from_slice(&json).map_err(|source| ReadError::Decode {
                resource: "namespaces".to_owned(),
                namespace: String::new(),
                name: namespace.to_owned(),
                source,
            })?;
        Ok(Some(
            Policy::of(found.metadata.labels.as_ref(), self.defaults).0,
        ))
    }

    fn evaluate(
        &self,
        request: &AdmissionRequest<'_>,
        policy: Policy,
        subject: &Subject<'_>,
        enforce: bool,
    ) -> Result<(), AdmissionError> {
        if policy.is_privileged() {
            if enforce {
                annotate("enforce-policy", || "privileged:latest".to_owned());
            }
            return Ok(());
        }
        if self.is_runtime_exempt(subject.spec) {
            annotate("exempt", || "runtimeClass".to_owned());
            return Ok(());
        }
        let findings = match audit::is_recording() {
            true => checks::run(policy.audit, subject),
            false => Vec::new(),
        };
        if !findings.is_empty() {
            annotate("audit-violations", || {
                format!(
                    "would violate PodSecurity \"{}\": {}",
                    policy.audit,
                    checks::describe(&findings)
                )
            });
        }
        if enforce {
            annotate("enforce-policy", || policy.enforce.to_string());
            let findings = checks::run(policy.enforce, subject);
            if !findings.is_empty() {
                return Err(AdmissionError::forbidden(format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    checks::describe(&findings)
                )));
            }
        }
        if !enforce || policy.warn != policy.enforce {
            let findings = checks::run(policy.warn, subject);
            if !findings.is_empty() {
                request.warnings.add(format!(
                    "would violate PodSecurity \"{}\": {}",
                    policy.warn,
                    checks::describe(&findings)
                ));
            }
        }
        Ok(())
    }

    async fn validate_namespace(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<(), AdmissionError> {
        let Some(namespace) = request.object_as::<Namespace>() else {
            return Ok(());
        };
        if !request.subresource.is_empty() {
            return Ok(());
        }
        let labels = namespace.metadata.labels.as_ref();
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let (policy, errors) = Policy::of(labels, self.defaults);
        let old = request
            .old_as::<Namespace>()
            .map(|old| Policy::of(old.metadata.labels.as_ref(), self.defaults));
        let known = old.as_ref().is_some_and(|(_, old)| *old == errors);
        if !errors.is_empty() && !known {
            let kind = GroupResource::new("", "Namespace");
            let status = status::invalid(kind, name, &errors);
            return Err(AdmissionError::Status(Box::new(status)));
        }
        if let Some((old, _)) = &old {
            let (new, old) = (policy.enforce, old.enforce);
            if new == old
                || new.level == Level::Privileged
                || new.minor == old.minor && new.level <= old.level
            {
                return Ok(());
            }
        }
        if self.exemptions.namespaces.iter().any(|n| n == name) {
            if !policy.is_privileged() && !policy.is_equivalent(&self.defaults) {
                request.warnings.add(format!(
                    "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
                    policy.describe(labels)
                ));
            }
            return Ok(());
        }
        if old.is_some() {
            let mut pods = self.reader.list::<Pod>(name).await?;
            pods.retain(|pod| {
                pod.spec
                    .as_ref()
                    .is_some_and(|spec| !self.is_runtime_exempt(spec))
            });
            for warning in namespace::warnings(name, policy.enforce, pods) {
                request.warnings.add(warning);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl AdmissionPlugin for PodSecurity {
    fn name(&self) -> &str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!(
            (group, resource),
            (
                "",
                "namespaces" | "pods" | "replicationcontrollers" | "podtemplates"
            ) | (
                "apps",
                "replicasets" | "deployments" | "statefulsets" | "daemonsets"
            ) | ("batch", "jobs" | "cronjobs")
        )
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        match (request.resource.group, request.resource.resource) {
            ("", "namespaces") => self.validate_namespace(request).await,
            ("", "pods") => self.validate_pod(request).await,
            ("", "replicationcontrollers" | "podtemplates")
            | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
            | ("batch", "jobs" | "cronjobs") => self.validate_workload(request).await,
            _ => Ok(()),
        }
    }
}
