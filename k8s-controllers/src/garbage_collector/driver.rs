//! The driver: looks at the live object, decides, makes the request.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::{DynamicObject, PartialObjectMeta},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::debug;

use super::{
    FOREGROUND, ORPHAN,
    graph::{Identity, View, Work},
    monitor::{self, Shared},
};
use crate::{
    Error,
    common::{context::Context, discovery::Served},
    error::{is_conflict, is_gone, is_not_found, unless_gone},
    runtime::{Controller, Reconciler, Requeue, WorkQueue},
};

/// How often a write that lost against another is tried again at once.
const TRIES: usize = 5;

pub(crate) struct GarbageCollector {
    client: Client,
    shared: Arc<Shared>,
}

/// The controller, and the future that feeds it: both are to be run.
pub(crate) fn controller(
    context: &Context,
) -> (
    Controller<GarbageCollector>,
    impl Future<Output = ()> + Send + use<>,
) {
    let queue = WorkQueue::new();
    let shared = Arc::new(Shared::new(queue.clone(), context.events.clone()));
    let (sender, mut synced) = watch::channel(false);
    let feed = monitor::run(context.client.clone(), shared.clone(), sender);
    let reconciler = GarbageCollector {
        client: context.client.clone(),
        shared,
    };
    let controller = Controller::new("garbage-collector-controller", reconciler, queue)
        .with_workers(20)
        .wait_for(async move {
            if synced.wait_for(|done| *done).await.is_err() {
                futures::future::pending::<()>().await;
            }
        });
    (controller, feed)
}

impl Reconciler for GarbageCollector {
    type Key = Work;
    type Error = Error;

    async fn reconcile(&self, work: Work) -> Result<Requeue, Error> {
        match work {
            Work::Delete(uid) => self.attempt_delete(&uid).await?,
            Work::Orphan(uid) => self.orphan(&uid).await?,
        }
        Ok(Requeue::OnChange)
    }

    fn is_expected(&self, error: &Error) -> bool {
        error.is_expected()
    }
}

/// What an object's owners are up to.
#[derive(Debug, Default, PartialEq)]
struct Owners {
    /// They exist and stay.
    solid: Vec<OwnerReference>,
    /// They do not exist.
    dangling: Vec<OwnerReference>,
    /// They are being deleted and wait for this object to go.
    waiting: Vec<OwnerReference>,
}

/// What to do with an object, given its owners.
#[derive(Debug, PartialEq)]
enum Verdict {
    Keep,
    /// Keep it, but drop the references with these UIDs.
    DropReferences(Vec<String>),
    /// Delete it in the foreground; first unblock its owners if it is part of a circle.
    DeleteForeground {
        unblock: bool,
    },
    Delete(PropagationPolicy),
}

/// The heart of the collector, without I/O.
fn judge(owners: &Owners, view: &View, finalizers: &[String]) -> Verdict {
    let has = |finalizer: &str| finalizers.iter().any(|known| known == finalizer);
    if !owners.solid.is_empty() {
        // A reference to an owner that waits must go, or that owner would wait for ever.
        let uids: Vec<String> = owners
            .dangling
            .iter()
            .chain(&owners.waiting)
            .map(|o| o.uid.clone())
            .collect();
        return if uids.is_empty() {
            Verdict::Keep
        } else {
            Verdict::DropReferences(uids)
        };
    }
    if !owners.waiting.is_empty() && !view.dependents.is_empty() {
        return Verdict::DeleteForeground {
            unblock: view.dependents.iter().any(|d| d.deleting_dependents),
        };
    }
    Verdict::Delete(if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

impl GarbageCollector {
    async fn attempt_delete(&self, uid: &str) -> Result<(), Error> {
        let Some(view) = self.shared.graph.lock().view(uid) else {
            return Ok(());
        };
        if view.being_deleted && !view.deleting_dependents {
            return Ok(());
        }
        let Some(live) = self
            .get(&view.identity)
            .await?
            .filter(|live| live.uid.as_deref() == Some(uid))
        else {
            let reaction = self.shared.graph.lock().absent(&view.identity);
            self.shared.react(reaction);
            return Ok(());
        };
        if view.deleting_dependents {
            return self.finish_foreground(&view).await;
        }
        let references = live.owner_references.clone().unwrap_or_default();
        if !references.is_empty() {
            let Some(owners) = self.classify(&view, references).await? else {
                return Ok(());
            };
            let verdict = judge(
                &owners,
                &view,
                live.finalizers.as_deref().unwrap_or_default(),
            );
            self.carry_out(&view, verdict).await?;
        }
        if view.is_virtual {
            return Err(Error::NotYet(format!(
                "{} has not been observed yet",
                view.identity
            )));
        }
        Ok(())
    }

    async fn carry_out(&self, view: &View, verdict: Verdict) -> Result<(), Error> {
        match verdict {
            Verdict::Keep => Ok(()),
            Verdict::DropReferences(uids) => self.drop_references(&view.identity, &uids).await,
            Verdict::DeleteForeground { unblock } => {
                if unblock {
                    self.unblock(&view.identity).await?;
                }
                self.delete(&view.identity, PropagationPolicy::Foreground)
                    .await
            }
            Verdict::Delete(policy) => self.delete(&view.identity, policy).await,
        }
    }

    /// An owner in foreground deletion goes when nothing blocks it any more.
    async fn finish_foreground(&self, view: &View) -> Result<(), Error> {
        let blocking: Vec<_> = view
            .dependents
            .iter()
            .filter(|dependent| dependent.blocks)
            .collect();
        if blocking.is_empty() {
            return self.remove_finalizer(&view.identity, FOREGROUND).await;
        }
        for dependent in blocking
            .into_iter()
            .filter(|dependent| !dependent.deleting_dependents)
        {
            self.shared
                .queue
                .add(Work::Delete(dependent.identity.uid.clone()));
        }
        Ok(())
    }

    async fn orphan(&self, uid: &str) -> Result<(), Error> {
        let Some(view) = self.shared.graph.lock().view(uid) else {
            return Ok(());
        };
        let uids = [uid.to_owned()];
        let dropped = view
            .dependents
            .iter()
            .map(|dependent| self.drop_references(&dependent.identity, &uids));
        let errors = futures::future::join_all(dropped)
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        Error::all(errors)?;
        self.remove_finalizer(&view.identity, ORPHAN).await
    }

    /// Sorts references by what the server says of the owners. `None` when a reference can never
    /// be followed: an object of the cluster with an owner in a namespace.
    async fn classify(
        &self,
        view: &View,
        references: Vec<OwnerReference>,
    ) -> Result<Option<Owners>, Error> {
        let mut owners = Owners::default();
        for reference in references {
            let mut owner = Identity::of_reference(&reference, &view.identity.namespace);
            let mut of_cluster = owner.clone();
            of_cluster.namespace = String::new();
            {
                let graph = self.shared.graph.lock();
                if graph.is_absent(&of_cluster) || graph.is_absent(&owner) {
                    owners.dangling.push(reference);
                    continue;
                }
            }
            let served = self.served(&owner)?;
            if !served.namespaced {
                owner = of_cluster;
            } else if owner.namespace.is_empty() {
                debug!(object = %view.identity, owner = %owner, "cluster-scoped object refers to a namespaced owner");
                return Ok(None);
            }
            match self
                .get(&owner)
                .await?
                .filter(|live| live.uid.as_ref() == Some(&owner.uid))
            {
                None => {
                    self.shared.graph.lock().remember_absent(owner);
                    owners.dangling.push(reference);
                }
                Some(live) => {
                    let foreground = live
                        .finalizers
                        .iter()
                        .flatten()
                        .any(|finalizer| finalizer == FOREGROUND);
                    if live.deletion_timestamp.is_some() && foreground {
                        owners.waiting.push(reference);
                    } else {
                        owners.solid.push(reference);
                    }
                }
            }
        }
        Ok(Some(owners))
    }

    fn served(&self, identity: &Identity) -> Result<Served, Error> {
        let kind = (identity.api_version.clone(), identity.kind.clone());
        let known = self.shared.discovery.read().kinds.get(&kind).cloned();
        known
            .ok_or_else(|| Error::NotYet(format!("no resource is known for {}/{}", kind.0, kind.1)))
    }

    fn api(&self, identity: &Identity) -> Result<Api<PartialObjectMeta<DynamicObject>>, Error> {
        let served = self.served(identity)?;
        Ok(if served.namespaced {
            Api::namespaced_with(self.client.clone(), &identity.namespace, &served.resource)
        } else {
            Api::all_with(self.client.clone(), &served.resource)
        })
    }

    async fn get(&self, identity: &Identity) -> Result<Option<ObjectMeta>, Error> {
        match self.api(identity)?.get(&identity.name).await {
            Ok(live) => Ok(Some(live.metadata)),
            Err(error) if is_gone(&error, &identity.name) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, identity: &Identity, policy: PropagationPolicy) -> Result<(), Error> {
        let served = self.served(identity)?;
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(identity.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api: Api<DynamicObject> = if served.namespaced {
            Api::namespaced_with(self.client.clone(), &identity.namespace, &served.resource)
        } else {
            Api::all_with(self.client.clone(), &served.resource)
        };
        debug!(object.r#ref = %identity, policy = ?params.propagation_policy, "deleting");
        unless_gone(api.delete(&identity.name, &params).await)
    }

    /// Reads the metadata, lets `change` say what to patch, and patches on condition that nothing
    /// changed in between. Merge patches, because custom resources know no others.
    async fn patch(
        &self,
        identity: &Identity,
        change: impl Fn(&ObjectMeta) -> Option<Value>,
    ) -> Result<(), Error> {
        let api = self.api(identity)?;
        let mut result = Ok(());
        for _ in 0..TRIES {
            let Some(live) = self
                .get(identity)
                .await?
                .filter(|live| live.uid.as_ref() == Some(&identity.uid))
            else {
                return Ok(());
            };
            let Some(mut patch) = change(&live) else {
                return Ok(());
            };
            patch["resourceVersion"] = json!(live.resource_version);
            let patch = Patch::Merge(json!({"metadata": patch}));
            match api
                .patch(&identity.name, &PatchParams::default(), &patch)
                .await
            {
                Err(error) if is_conflict(&error) => result = Err(error.into()),
                Err(error) if !is_not_found(&error) => return Err(error.into()),
                _ => return Ok(()),
            }
        }
        result
    }

    async fn drop_references(&self, identity: &Identity, uids: &[String]) -> Result<(), Error> {
        self.patch(identity, |live| {
            let references = live.owner_references.as_deref().unwrap_or_default();
            let left: Vec<_> = references
                .iter()
                .filter(|reference| !uids.contains(&reference.uid))
                .collect();
            (left.len() != references.len()).then(|| json!({"ownerReferences": left}))
        })
        .await
    }

    async fn unblock(&self, identity: &Identity) -> Result<(), Error> {
        self.patch(identity, |live| {
            let mut references = live.owner_references.clone().unwrap_or_default();
            let blocking = references
                .iter()
                .any(|reference| reference.block_owner_deletion == Some(true));
            references
                .iter_mut()
                .for_each(|reference| reference.block_owner_deletion = Some(false));
            blocking.then(|| json!({"ownerReferences": references}))
        })
        .await
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: &str) -> Result<(), Error> {
        self.patch(identity, |live| {
            let finalizers = live.finalizers.as_deref().unwrap_or_default();
            let left: Vec<_> = finalizers
                .iter()
                .filter(|known| *known != finalizer)
                .collect();
            (left.len() != finalizers.len()).then(|| json!({"finalizers": left}))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garbage_collector::graph::Dependent;

    fn identity(name: &str) -> Identity {
        Identity {
            kind: "Thing".to_owned(),
            api_version: "v1".to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        }
    }

    fn view(dependents: &[bool]) -> View {
        View {
            identity: identity("x"),
            is_virtual: false,
            being_deleted: false,
            deleting_dependents: false,
            dependents: dependents
                .iter()
                .map(|deleting| Dependent {
                    identity: identity("d"),
                    blocks: true,
                    deleting_dependents: *deleting,
                })
                .collect(),
        }
    }

    fn refs(names: &[&str]) -> Vec<OwnerReference> {
        names
            .iter()
            .map(|name| OwnerReference {
                uid: (*name).to_owned(),
                ..Default::default()
            })
            .collect()
    }

    #[test]
    fn an_object_lives_as_long_as_one_owner_stays() {
        let owners = |solid: &[&str], dangling: &[&str], waiting: &[&str]| Owners {
            solid: refs(solid),
            dangling: refs(dangling),
            waiting: refs(waiting),
        };
        let cases = [
            (owners(&["a"], &[], &[]), Verdict::Keep),
            (
                owners(&["a"], &["b"], &["c"]),
                Verdict::DropReferences(vec!["b".to_owned(), "c".to_owned()]),
            ),
            (
                owners(&[], &["b"], &[]),
                Verdict::Delete(PropagationPolicy::Background),
            ),
            (
                owners(&[], &[], &["c"]),
                Verdict::Delete(PropagationPolicy::Background),
            ),
        ];
        for (owners, verdict) in cases {
            assert_eq!(judge(&owners, &view(&[]), &[]), verdict, "{owners:?}");
        }
    }

    #[test]
    fn foreground_deletion_goes_down_the_tree_and_breaks_circles() {
        let owners = Owners {
            waiting: refs(&["a"]),
            ..Owners::default()
        };
        assert_eq!(
            judge(&owners, &view(&[false]), &[]),
            Verdict::DeleteForeground { unblock: false }
        );
        assert_eq!(
            judge(&owners, &view(&[true]), &[]),
            Verdict::DeleteForeground { unblock: true }
        );
    }

    #[test]
    fn the_object_s_own_finalizers_choose_the_policy() {
        let owners = Owners {
            dangling: refs(&["a"]),
            ..Owners::default()
        };
        let delete = |finalizer: &str| judge(&owners, &view(&[]), &[finalizer.to_owned()]);
        assert_eq!(delete(ORPHAN), Verdict::Delete(PropagationPolicy::Orphan));
        assert_eq!(
            delete(FOREGROUND),
            Verdict::Delete(PropagationPolicy::Foreground)
        );
    }
}
