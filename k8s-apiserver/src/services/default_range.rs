//! The ServiceCIDR `kubernetes`: the server's own range. Upstream's `defaultservicecidr` controller.

use std::{borrow::Cow, sync::Arc};

use futures::StreamExt;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        networking::v1::{ServiceCIDR, ServiceCIDRSpec, ServiceCIDRStatus},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use serde::Deserialize;

use super::{
    events::{self, Happening},
    ranges::{DEFAULT, GROUP, READY, RESOURCE, condition, readiness},
};
use crate::{
    Result,
    admission::reader::{ObjectReader, RawEvent},
    bootstrap,
    registry::{Internal, Registry, update::Rules},
    retry::Retry,
};

/// As whom it signs its events.
const COMPONENT: &str = "kubernetes-service-cidr-controller";

/// What was told already, so that it is told once.
#[derive(Debug, Default)]
struct Told {
    mismatch: bool,
    not_ready: bool,
}

/// Makes the ServiceCIDR of the server's own range if there is none.
pub(crate) async fn make(registry: &Registry) -> Result<()> {
    if registry.stored_row(GROUP, RESOURCE).is_none() {
        return Ok(());
    }
    let range = ServiceCIDR {
        metadata: ObjectMeta {
            name: Some(DEFAULT.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceCIDRSpec {
            cidrs: Some(own(registry)),
        }),
        status: Some(ServiceCIDRStatus {
            conditions: Some(vec![ready(registry)]),
        }),
    };
    bootstrap::fresh(registry, GROUP, vec![(RESOURCE, Box::new(range))])
        .await
        .map(drop)
}

/// The server's own ranges, as a ServiceCIDR has them.
fn own(registry: &Registry) -> Vec<String> {
    let cidrs = registry.services.cidrs();
    cidrs.map(|cidr| cidr.to_string()).collect()
}

fn ready(registry: &Registry) -> Condition {
    Condition {
        type_: READY.to_owned(),
        status: "True".to_owned(),
        reason: String::new(),
        message: "Kubernetes default Service CIDR is ready".to_owned(),
        last_transition_time: k8s_model::metadata::to_second(registry.now()),
        observed_generation: None,
    }
}

/// Keeps it: makes it again when it is gone, says that it is ready where nobody has said anything, and tells when it is not
/// what the server was started with.
pub(super) async fn keep(registry: Arc<Registry>, reader: Arc<dyn ObjectReader>) {
    #[derive(Deserialize)]
    struct Head {
        metadata: Name,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    let mut events = reader.watch_raw(GROUP, RESOURCE);
    let mut retry = Retry::default();
    let mut told = Told::default();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(RawEvent::Snapshot(_)) => {}
                Some(RawEvent::Applied(json) | RawEvent::Deleted(json)) => {
                    let head: Result<Head, _> = serde_json::from_slice(&json);
                    if head.is_ok_and(|head| head.metadata.name != DEFAULT) {
                        continue;
                    }
                }
                None => return,
            },
            () = retry.due() => {}
        }
        let outcome = sync(&registry, &mut told).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "the default ServiceCIDR could not be seen to");
        }
        retry.after(outcome.is_ok());
    }
}

async fn sync(registry: &Registry, told: &mut Told) -> Result<()> {
    let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
        return Ok(());
    };
    let internal = Internal::new();
    let target = internal.target(&row, "", DEFAULT);
    let Some(entry) = registry.read(&target).await? else {
        return make(registry).await;
    };
    let object = row.decode_entry(&entry)?;
    let Some(range) = object.downcast_ref::<ServiceCIDR>() else {
        return Ok(());
    };
    if range.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let own = own(registry);
    let spec = range.spec.as_ref();
    let found = spec.and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
    if own.len() == 2 && found == own[..1] {
        return widen(registry, &internal, own).await;
    }
    if found != own {
        if !std::mem::replace(&mut told.mismatch, true) {
            let note = format!(
                "The default ServiceCIDR [{}] does not match the controller flag configurations [{}]",
                found.join(" "),
                own.join(" ")
            );
            let reason = "KubernetesDefaultServiceCIDRInconsistent".into();
            tell(registry, range, reason, note).await;
        }
        return Ok(());
    }
    match readiness(range) {
        Some("True") => Ok(()),
        Some("False") => {
            if !std::mem::replace(&mut told.not_ready, true) {
                let said = condition(range);
                let reason = said.map(|c| c.reason.clone()).unwrap_or_default();
                let message = said.map(|c| c.message.as_str()).unwrap_or_default();
                let note = format!("Configuration matches, but {message}");
                tell(registry, range, reason.into(), note).await;
            }
            Ok(())
        }
        _ => {
            let mut target = internal.status(&row, DEFAULT);
            target.manager = Some(COMPONENT);
            let done = registry.update(&target, Rules::Status, |live| {
                let mut changed = live.boxed_clone();
                if let Some(range) = changed.downcast_mut::<ServiceCIDR>()
                    && readiness(range).is_none_or(|status| status == "Unknown")
                {
                    let status = range.status.get_or_insert_default();
                    let conditions = status.conditions.get_or_insert_default();
                    conditions.retain(|condition| condition.type_ != READY);
                    conditions.push(ready(registry));
                }
                Ok(changed)
            });
            match done.await {
                Err(error) if error.code() != 404 => Err(error),
                _ => Ok(()),
            }
        }
    }
}

/// Adds the second family, which the server was started with this time.
async fn widen(registry: &Registry, internal: &Internal, own: Vec<String>) -> Result<()> {
    let Some(row) = registry.stored_row(GROUP, RESOURCE) else {
        return Ok(());
    };
    let target = internal.target(&row, "", DEFAULT);
    let done = registry.update(&target, Rules::Object, |live| {
        let mut changed = live.boxed_clone();
        if let Some(range) = changed.downcast_mut::<ServiceCIDR>() {
            range.spec.get_or_insert_default().cidrs = Some(own.clone());
        }
        Ok(changed)
    });
    match done.await {
        Err(error) if error.code() != 404 => Err(error),
        _ => Ok(()),
    }
}

async fn tell(registry: &Registry, range: &ServiceCIDR, reason: Cow<'static, str>, note: String) {
    let about = ObjectReference {
        api_version: Some(format!("{GROUP}/v1")),
        kind: Some("ServiceCIDR".to_owned()),
        name: range.metadata.name.clone(),
        uid: range.metadata.uid.clone(),
        resource_version: range.metadata.resource_version.clone(),
        ..ObjectReference::default()
    };
    let happening = Happening {
        reason,
        action: "",
        note,
    };
    events::warn(registry, COMPONENT, about, happening).await;
}
