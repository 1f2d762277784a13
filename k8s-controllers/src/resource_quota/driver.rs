//! The driver: lists what a quota counts, and writes its status.

use std::time::Duration;

use k8s_model::quota::{Amounts, Counted, Meter, ResourceClaim};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
    core::{ApiResource, DynamicObject},
};
use serde::de::DeserializeOwned;

use super::{count, triggers::Triggers};
use crate::{
    Error,
    common::{context::Context, owner},
    error::{is_not_found, is_nowhere},
    runtime::{Change, Clock, Controller, Informer, ObjectKey, Reconciler, Requeue, WorkQueue},
};

/// How often everything is counted anew; upstream's `--resource-quota-sync-period`.
const RESYNC: Duration = Duration::from_secs(300);
/// How long after its limits were first written a quota is counted again: until then nothing was
/// charged.
const SETTLE: Duration = Duration::from_secs(1);
/// What is gone often is not alone.
const GATHER: Duration = Duration::from_millis(50);
/// When a resource that is not served is looked for again.
const REDISCOVER: Duration = Duration::from_secs(30);

pub(crate) struct ResourceQuotas {
    client: Client,
    quotas: Informer<ResourceQuota>,
    triggers: Triggers,
    clock: Clock,
}

/// The controller, its handlers in place.
pub(crate) fn controller(context: &Context) -> Controller<ResourceQuotas> {
    let quotas = context.informers.informer::<ResourceQuota>();
    let queue = WorkQueue::new();
    let adds = queue.clone();
    quotas.add_handler(move |change| {
        let due = match &change {
            Change::Added(_) => true,
            Change::Updated { old, new } => count::hard(old) != count::hard(new),
            Change::Deleted(_) => false,
        };
        if due {
            adds.add(ObjectKey::of(&change.object().metadata));
        }
    });
    let (adds, all) = (queue.clone(), quotas.clone());
    let replenish = move |meter: &Meter, namespace: &str| {
        for quota in all.list_namespace(namespace) {
            if count::hard(&quota).keys().any(|name| meter.measures(name)) {
                adds.add_after(ObjectKey::of(&quota.metadata), GATHER);
            }
        }
    };
    let pods = context.informers.informer::<Pod>();
    let tell = replenish.clone();
    let clock = context.clock;
    pods.add_handler(move |change| {
        if is_less(&change, |pod| {
            Meter::Pods.usage(Counted::Pod(pod), clock.now())
        }) {
            tell(&Meter::Pods, owner::namespace(&change.object().metadata));
        }
    });
    let services = context.informers.informer::<Service>();
    let tell = replenish.clone();
    services.add_handler(move |change| {
        if is_less(&change, |service| {
            Meter::Services.usage(Counted::Service(service), Timestamp::MIN)
        }) {
            tell(
                &Meter::Services,
                owner::namespace(&change.object().metadata),
            );
        }
    });
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let tell = replenish.clone();
    claims.add_handler(move |change| {
        if is_less(&change, |claim| {
            Meter::Claims.usage(Counted::Claim(claim), Timestamp::MIN)
        }) {
            tell(&Meter::Claims, owner::namespace(&change.object().metadata));
        }
    });
    let triggers = Triggers::new(
        context.client.clone(),
        move |(group, resource), namespace| {
            if let Some(meter) = Meter::of(group, resource) {
                replenish(&meter, namespace);
            }
        },
    );
    let ready = quotas.synced();
    let reconciler = ResourceQuotas {
        client: context.client.clone(),
        quotas,
        triggers,
        clock,
    };
    Controller::new("resourcequota-controller", reconciler, queue).wait_for(ready)
}

/// Whether less is used than before, or differently: more is charged by admission.
fn is_less<K>(change: &Change<'_, K>, usage: impl Fn(&K) -> Amounts) -> bool {
    match change {
        Change::Added(_) => false,
        Change::Updated { old, new } => usage(old) != usage(new),
        Change::Deleted(_) => true,
    }
}

impl ResourceQuotas {
    async fn list<K>(&self, namespace: &str) -> Result<Vec<K>, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// What the resource's objects count as.
    async fn count(
        &self,
        quota: &ResourceQuota,
        meter: &Meter,
        resource: &ApiResource,
        namespace: &str,
        now: Timestamp,
    ) -> Result<Amounts, kube::Error> {
        if *meter == Meter::DeviceClaims {
            let claims = self.list::<ResourceClaim>(namespace).await?;
            let claims = claims.iter().map(Counted::DeviceClaim);
            return Ok(count::measured(quota, meter, claims, now));
        }
        let number = self.number(resource, namespace).await?;
        let objects = std::iter::repeat_n(Counted::Other, number);
        Ok(count::measured(quota, meter, objects, now))
    }

    /// How many objects of the resource there are.
    async fn number(&self, resource: &ApiResource, namespace: &str) -> Result<usize, kube::Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource);
        let first = api.list_metadata(&ListParams::default().limit(1)).await?;
        let more = first.metadata.remaining_item_count.unwrap_or(0);
        if more == 0
            && first
                .metadata
                .continue_
                .is_some_and(|token| !token.is_empty())
        {
            // The server doesn't say how many.
            return Ok(api.list_metadata(&ListParams::default()).await?.items.len());
        }
        Ok(first.items.len() + usize::try_from(more).unwrap_or(0))
    }
}

impl Reconciler for ResourceQuotas {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, Error> {
        let Some(quota) = self.quotas.get(&key) else {
            return Ok(Requeue::OnChange);
        };
        let namespace = key.namespace();
        let hard = count::hard(&quota);
        let measures = |meter: &Meter| hard.keys().any(|name| meter.measures(name));
        let now = self.clock.now();
        let mut used = Amounts::new();
        let mut requeue = RESYNC;
        // Triggers first: what goes after the count below must be noticed.
        let mut resources = Vec::new();
        for counted in count::counted(&quota) {
            match self.triggers.watch(&counted).await? {
                Some(resource) => resources.push((counted, resource)),
                None => requeue = REDISCOVER,
            }
        }
        if measures(&Meter::Pods) {
            let pods = self.list::<Pod>(namespace).await?;
            let pods = pods.iter().map(Counted::Pod);
            used.extend(count::measured(&quota, &Meter::Pods, pods, now));
        }
        if measures(&Meter::Services) {
            let services = self.list::<Service>(namespace).await?;
            let services = services.iter().map(Counted::Service);
            used.extend(count::measured(&quota, &Meter::Services, services, now));
        }
        if measures(&Meter::Claims) {
            let claims = self.list::<PersistentVolumeClaim>(namespace).await?;
            let claims = claims.iter().map(Counted::Claim);
            used.extend(count::measured(&quota, &Meter::Claims, claims, now));
        }
        for ((group, plural), resource) in resources {
            if let Some(meter) = Meter::of(&group, &plural) {
                let counted = self.count(&quota, &meter, &resource, namespace, now);
                match counted.await {
                    // Not served any more, or in another version: how many there are is not known, and the other
                    // resources are counted all the same.
                    Err(error) if is_nowhere(&error) => {
                        self.triggers.forget(&(group, plural)).await;
                        requeue = REDISCOVER;
                    }
                    counted => used.extend(counted?),
                }
            }
        }
        if let Some(updated) = count::updated(&quota, used) {
            let first = quota
                .status
                .as_ref()
                .is_none_or(|s| s.hard != updated.spec.as_ref().and_then(|s| s.hard.clone()));
            let api = Api::<ResourceQuota>::namespaced(self.client.clone(), namespace);
            match api
                .replace_status(key.name(), &PostParams::default(), &updated)
                .await
            {
                Err(error) if !is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
            if first {
                requeue = SETTLE;
            }
        }
        Ok(Requeue::After(requeue))
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}
