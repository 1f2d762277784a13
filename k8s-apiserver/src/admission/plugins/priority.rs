//! [`Priority`]: the number behind the name of a pod's priority class.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step,
    reader::{ObjectReader, ReadError},
};

const GROUP: &str = "scheduling.k8s.io";
const RESOURCE: &str = "priorityclasses";

/// Fills in a pod's priority and preemption policy from its class, and allows one default class
/// only.
#[derive(Debug)]
pub struct Priority {
    reader: Arc<dyn ObjectReader>,
    /// All classes as they were when they were last read, and which of them is the default: they hardly
    /// ever change, and every pod asks.
    known: Mutex<(Vec<Bytes>, Option<Class>)>,
}

/// A priority class, as stored.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    metadata: Meta,
    #[serde(default)]
    value: i32,
    #[serde(default)]
    global_default: bool,
    preemption_policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Meta {
    name: String,
}

fn decode(json: &Bytes) -> Result<Class, ReadError> {
    serde_json::from_slice(json).map_err(|source| ReadError::Decode {
        resource: RESOURCE.to_owned(),
        namespace: String::new(),
        name: String::new(),
        source,
    })
}

impl Priority {
    /// Looks classes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Priority {
            reader,
            known: Mutex::default(),
        }
    }

    async fn class(&self, name: &str) -> Result<Option<Class>, ReadError> {
        let json = self.reader.get_raw(GROUP, RESOURCE, "", name).await?;
        json.as_ref().map(decode).transpose()
    }

    /// The class of pods that name none: the lowest of those that claim to be, should there be
    /// several.
    async fn default_class(&self) -> Result<Option<Class>, ReadError> {
        let all = self.reader.list_raw(GROUP, RESOURCE, "").await?;
        {
            let known = self.known.lock();
            if known.0 == all {
                return Ok(known.1.clone());
            }
        }
        let mut found: Option<Class> = None;
        for json in &all {
            let class = decode(json)?;
            if class.global_default && found.as_ref().is_none_or(|f| f.value > class.value) {
                found = Some(class);
            }
        }
        *self.known.lock() = (all, found.clone());
        Ok(found)
    }

    async fn fill_in(&self, pod: &mut Pod) -> Result<(), AdmissionError> {
        let spec = pod.spec.get_or_insert_default();
        let name = spec.priority_class_name.as_deref().unwrap_or_default();
        let (value, policy) = if name.is_empty() {
            match self.default_class().await? {
                Some(class) => {
                    spec.priority_class_name = Some(class.metadata.name);
                    (class.value, class.preemption_policy)
                }
                None => (0, Some("PreemptLowerPriority".to_owned())),
            }
        } else {
            let class = self.class(name).await?.ok_or_else(|| {
                AdmissionError::forbidden(format!("no PriorityClass with name {name} was found"))
            })?;
            (class.value, class.preemption_policy)
        };
        if let Some(given) = spec.priority.filter(|given| *given != value) {
            return Err(AdmissionError::forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            )));
        }
        spec.priority = Some(value);
        if let Some(policy) = policy {
            if let Some(given) = spec.preemption_policy.as_ref().filter(|p| **p != policy) {
                return Err(AdmissionError::forbidden(format!(
                    "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
                )));
            }
            spec.preemption_policy = Some(policy);
        }
        Ok(())
    }
}

#[async_trait]
impl AdmissionPlugin for Priority {
    fn name(&self) -> &str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit, Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods") | (GROUP, RESOURCE))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "pods") {
            return Ok(());
        }
        let before = request
            .old_as::<Pod>()
            .and_then(|pod| pod.spec.as_ref())
            .map(|spec| (spec.priority, spec.preemption_policy.clone()));
        let operation = request.operation;
        let Some(pod) = request.object_as_mut::<Pod>() else {
            return Ok(());
        };
        if operation == Operation::Create {
            return self.fill_in(pod).await;
        }
        if let Some((priority, policy)) = before {
            let spec = pod.spec.get_or_insert_default();
            spec.priority = spec.priority.or(priority);
            spec.preemption_policy = spec.preemption_policy.take().or(policy);
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is(GROUP, RESOURCE) {
            return Ok(());
        }
        let Some(object) = &request.object else {
            return Ok(());
        };
        if object.to_value()["globalDefault"] != true {
            return Ok(());
        }
        let name = object.metadata().name.as_deref().unwrap_or_default();
        match self.default_class().await? {
            Some(class)
                if request.operation == Operation::Create || class.metadata.name != name =>
            {
                Err(AdmissionError::forbidden(format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    class.metadata.name
                )))
            }
            _ => Ok(()),
        }
    }
}
