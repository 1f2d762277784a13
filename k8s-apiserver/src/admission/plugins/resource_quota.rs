//! [`ResourceQuota`]: what a namespace may use in all.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use async_trait::async_trait;
use k8s_model::quota::{self, Amounts, Counted, Meter};
use k8s_openapi::{api::core::v1 as core, jiff::Timestamp};
use tokio::sync::Mutex;

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Companion, Companions, Operation, Step,
    reader::{ObjectReader, ReadError},
};

/// How many locks the namespaces share.
const LOCKS: usize = 64;

/// Refuses objects beyond what the quotas of their namespace allow, and charges the quotas for
/// the others: object and charge are stored in one commit.
///
/// Who writes in one namespace with quotas waits for its turn, so that nobody charges in vain. The
/// controller that counts anew may still come between; then the request is tried again.
#[derive(Debug)]
pub struct ResourceQuota {
    reader: Arc<dyn ObjectReader>,
    turns: Vec<Arc<Mutex<()>>>,
}

impl ResourceQuota {
    /// Looks quotas up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        ResourceQuota {
            reader,
            turns: (0..LOCKS).map(|_| Arc::default()).collect(),
        }
    }

    fn turn(&self, namespace: &str) -> Arc<Mutex<()>> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let slot = hasher.hash_one(namespace) % LOCKS as u64;
        self.turns[usize::try_from(slot).unwrap_or(0)].clone()
    }
}

/// How the request's object is counted, if it is.
fn meter(request: &AdmissionRequest<'_>) -> Option<Meter> {
    let resource = request.resource;
    if request.namespace.is_empty() || resource.resource == "namespaces" {
        return None;
    }
    let meter = Meter::of(resource.group, resource.resource)?;
    let counts = match (request.operation, request.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => match (request.old, request.object.as_deref()) {
            (Some(old), Some(new)) => meter.counts_update(old.into(), new.into()),
            _ => false,
        },
        (Operation::Update, "resize") => meter == Meter::Pods,
        _ => false,
    };
    counts.then_some(meter)
}

/// The names of what the quota limits and the object counts for.
fn limited<'a>(quota: &'a core::ResourceQuota, meter: &Meter) -> Vec<&'a str> {
    let hard = quota.status.as_ref().and_then(|s| s.hard.as_ref());
    let names = hard.into_iter().flatten().map(|(name, _)| name.as_str());
    names.filter(|name| meter.measures(name)).collect()
}

/// What the quotas have used up with the request; those that it does not change are left out.
fn charge(
    quotas: Vec<core::ResourceQuota>,
    meter: &Meter,
    request: &AdmissionRequest<'_>,
) -> Result<Vec<core::ResourceQuota>, AdmissionError> {
    let Some(object) = request.object.as_deref() else {
        return Ok(Vec::new());
    };
    let object = Counted::from(object);
    let mut concerned = Vec::new();
    for quota in quotas {
        if !meter.matches(&quota, object) {
            continue;
        }
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        let limited = limited(&quota, meter);
        meter
            .check_constraints(limited.iter().copied(), object)
            .map_err(|text| AdmissionError::forbidden(format!("failed quota: {name}: {text}")))?;
        let used = quota.status.as_ref().and_then(|s| s.used.as_ref());
        let unknown = limited
            .iter()
            .any(|name| used.is_none_or(|used| !used.contains_key(*name)));
        if unknown {
            return Err(AdmissionError::forbidden(format!(
                "status unknown for quota: {name}, resources: {}",
                limited.join(",")
            )));
        }
        concerned.push(quota);
    }
    // Nobody who makes or changes an object can have waited for it to be over.
    let never = Timestamp::MIN;
    let usage = meter.usage(object, never);
    let negative: Vec<&str> = usage
        .iter()
        .filter(|(_, amount)| amount.signum() < 0)
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        return Err(AdmissionError::forbidden(format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        )));
    }
    let whole = quota::increase(&usage, &Amounts::new());
    let change = request.old.map(Counted::from).map(|old| {
        let increase = quota::increase(&usage, &meter.usage(old, never));
        (old, increase)
    });
    let mut charged = Vec::new();
    for mut quota in concerned {
        // What was not in the quota's scopes before is new to it as a whole.
        let more = match &change {
            Some((old, increase)) if meter.matches(&quota, *old) => increase,
            _ => &whole,
        };
        let used = quota::charge(&quota, more).map_err(AdmissionError::forbidden)?;
        let used = quota::quantities(&used);
        let status = quota.status.get_or_insert_default();
        if more.keys().any(|name| {
            let now = status.used.as_ref().and_then(|before| before.get(name));
            now != used.get(name)
        }) {
            status.used = Some(used);
            charged.push(quota);
        }
    }
    Ok(charged)
}

#[async_trait]
impl AdmissionPlugin for ResourceQuota {
    fn name(&self) -> &str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Accompany]
    }

    async fn accompany(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<Companions, AdmissionError> {
        let Some(meter) = meter(request) else {
            return Ok(Companions::default());
        };
        let namespace = request.namespace;
        // Most namespaces have none, and writers there don't wait for each other.
        let there = self.reader.list_raw("", "resourcequotas", namespace);
        match there.await {
            Ok(there) if !there.is_empty() => {}
            Ok(_) | Err(ReadError::NotServed(_)) => return Ok(Companions::default()),
            Err(error) => return Err(error.into()),
        }
        let guard = self.turn(namespace).lock_owned().await;
        let quotas = self.reader.list::<core::ResourceQuota>(namespace).await?;
        let charged = charge(quotas, &meter, request)?;
        if charged.is_empty() || request.dry_run {
            return Ok(Companions::default());
        }
        let companion = |quota: core::ResourceQuota| Companion {
            group: "",
            resource: "resourcequotas",
            object: Box::new(quota),
        };
        Ok(Companions {
            objects: charged.into_iter().map(companion).collect(),
            guard: Some(Box::new(guard)),
        })
    }
}
