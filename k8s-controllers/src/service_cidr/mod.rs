//! ServiceCIDRs (KEP-1880): says when they are ready, and holds those that are deleted while addresses of Services are in
//! them and in no other.
//!
//! Mirrors upstream's `pkg/controller/servicecidrs`. A condition that says what it should is not written again.

mod decide;

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    api::networking::v1::{IPAddress, ServiceCIDR},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use self::decide::{Due, FINALIZER, IS_HELD, IS_READY, READY, Said};
use crate::{
    Error,
    common::{context::Context, owner},
    error::unless_outdated,
    runtime::{
        Change, Clock, Controller, EventRecorder, EventType, Informer, ObjectKey, Reconciler,
        Requeue, WorkQueue,
    },
};

/// The controller's name, and that of whom its conditions belong to.
pub(crate) const NAME: &str = "service-cidr-controller";

pub(crate) struct ServiceCidrs {
    client: Client,
    ranges: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
    events: EventRecorder,
    clock: Clock,
}

/// The controller, its handlers in place. Keys are ServiceCIDRs.
pub(crate) fn controller(context: &Context) -> Controller<ServiceCidrs> {
    let ranges = context.informers.informer::<ServiceCIDR>();
    let addresses = context.informers.informer::<IPAddress>();
    let queue = WorkQueue::new();
    let (adds, known) = (queue.clone(), ranges.clone());
    ranges.add_handler(move |change| {
        let range = change.object();
        adds.add(ObjectKey::of(&range.metadata));
        // Those that it covers need not be held for the addresses that it has.
        if let Change::Added(added) = change {
            for other in leaving(&known) {
                let mut cidrs = decide::cidrs(added);
                if cidrs.any(|cidr| decide::cidrs(&other).any(|c| c.overlaps(&cidr))) {
                    adds.add(ObjectKey::of(&other.metadata));
                }
            }
        }
    });
    let (adds, known) = (queue.clone(), ranges.clone());
    addresses.add_handler(move |change| {
        if !matches!(change, Change::Updated { .. })
            && let Some(ip) = decide::address_of(change.object())
        {
            for key in leaving_with(&known, ip) {
                adds.add(key);
            }
        }
    });
    let ready = (ranges.synced(), addresses.synced());
    let reconciler = ServiceCidrs {
        client: context.client.clone(),
        ranges,
        addresses,
        events: context.events.clone(),
        clock: context.clock,
    };
    Controller::new(NAME, reconciler, queue)
        .wait_for(ready.0)
        .wait_for(ready.1)
}

/// Those that are to go: few, and nobody else cares who has which address.
fn leaving(ranges: &Informer<ServiceCIDR>) -> impl Iterator<Item = Arc<ServiceCIDR>> {
    let all = ranges.list().into_iter();
    all.filter(|range| range.metadata.deletion_timestamp.is_some())
}

fn leaving_with(ranges: &Informer<ServiceCIDR>, ip: IpAddr) -> Vec<ObjectKey> {
    let with = leaving(ranges).filter(|range| decide::contains(range, ip));
    with.map(|range| ObjectKey::of(&range.metadata)).collect()
}

impl ServiceCidrs {
    /// Writes which finalizers there are, unless somebody else has done so meanwhile.
    async fn finalizers(&self, meta: &ObjectMeta, all: Vec<&String>) -> Result<(), Error> {
        let patch = json!({"metadata": {"finalizers": all,
            "uid": meta.uid, "resourceVersion": meta.resource_version}});
        let api = Api::<ServiceCIDR>::all(self.client.clone());
        let (name, by) = (owner::name(meta), PatchParams::default());
        unless_outdated(api.patch(name, &by, &Patch::Merge(patch)).await)
    }

    async fn say(&self, range: &ServiceCIDR, said: Said) -> Result<(), Error> {
        let meta = &range.metadata;
        let condition = json!({
            "type": READY,
            "status": said.status,
            "reason": said.reason,
            "message": said.message,
            "lastTransitionTime": self.clock.time(),
        });
        let status = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": meta.name, "uid": meta.uid},
            "status": {"conditions": [condition]},
        });
        let api = Api::<ServiceCIDR>::all(self.client.clone());
        let by = PatchParams::apply(NAME).force();
        let (name, status) = (owner::name(meta), Patch::Apply(status));
        unless_outdated(api.patch_status(name, &by, &status).await)
    }
}

impl Reconciler for ServiceCidrs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(range) = self.ranges.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let meta = &range.metadata;
        let due = {
            let (all, addresses) = (
                self.ranges.list(),
                match meta.deletion_timestamp {
                    Some(_) => self.addresses.list(),
                    None => Vec::new(),
                },
            );
            let all = all.iter().map(|range| &**range);
            let addresses = addresses.iter().map(|address| &**address);
            decide::decide(&range, all, addresses, self.clock.now())
        };
        let before = meta.finalizers.iter().flatten();
        match due {
            Due::Nothing => {}
            Due::Ready {
                finalizer,
                condition,
            } => {
                if finalizer {
                    let own = FINALIZER.to_owned();
                    self.finalizers(meta, before.chain([&own]).collect())
                        .await?;
                }
                if condition && let Err(error) = self.say(&range, IS_READY).await {
                    let text = "The ServiceCIDR Status can not be set to Ready=True";
                    let reason = "KubernetesServiceCIDRError";
                    self.events
                        .record(&*range, EventType::Warning, reason, text);
                    return Err(error);
                }
            }
            Due::Hold => self.say(&range, IS_HELD).await?,
            Due::Wait(rest) => {
                let rest = Duration::try_from(rest).unwrap_or_default();
                return Ok(Requeue::After(rest));
            }
            Due::LetGo => {
                self.finalizers(meta, before.filter(|f| *f != FINALIZER).collect())
                    .await?;
            }
        }
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
