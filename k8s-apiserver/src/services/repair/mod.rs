//! Sees to it that each address of a Service has its IPAddress, and each IPAddress of a Service its Service.
//!
//! Upstream's `RepairIPAddress`. Both are written in one commit, so there is something to do only when somebody else has
//! meddled: deleted an IPAddress, labelled it otherwise, or restored a store of other origin. Upstream makes an object anew
//! that names somebody else; here it is changed, so that nobody else can get the address in between.

mod decide;
mod seen;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{core::v1::ObjectReference, core::v1::Service, networking::v1::IPAddress};
use k8s_store::{Entry, Expect, Op, Write};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    decide::{About, Action, Facts, Owner, Verdict, decide},
    seen::{Seen, addresses_of},
};
use super::{
    addresses::{self, is_service},
    default_range,
    events::{self, Happening},
    ranges::{self, Ranges},
};
use crate::{
    Result,
    admission::reader::ObjectReader,
    http::options::DeleteOptions,
    registry::{Internal, Registry},
    retry::Retry,
};

/// As whom it signs its events.
const COMPONENT: &str = "ipallocator-repair-controller";

/// Keeps the addresses of Services and the ServiceCIDR of the server's own range until the server stops. What is given back
/// says when everything has been looked at once.
pub(crate) fn start(
    registry: &Arc<Registry>,
    reader: &Arc<dyn ObjectReader>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> watch::Receiver<bool> {
    let (synced, told) = watch::channel(false);
    let (group, resource) = (ranges::GROUP, ranges::RESOURCE);
    if registry.stored_row(group, resource).is_some() {
        let keeping = default_range::keep(registry.clone(), reader.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(keeping));
    }
    let served = |group, resource| registry.stored_row(group, resource).is_some();
    if served("", "services") && served(addresses::GROUP, addresses::RESOURCE) {
        let running = Repair::new(registry).run(reader.clone(), synced);
        tasks.spawn(stop.clone().run_until_cancelled_owned(running));
    }
    told
}

struct Repair {
    registry: Arc<Registry>,
    seen: Seen,
    /// Whether the ranges have changed since they were read.
    is_outdated: bool,
    /// What was told of each address that is not as it should be.
    told: HashMap<IpAddr, Vec<(About, Happening)>>,
    /// Those that are to be looked at again, and when.
    later: BTreeSet<(Instant, IpAddr)>,
    /// Those that could not be seen to.
    failed: BTreeSet<IpAddr>,
    retry: Retry,
}

/// An address as it is stored, with who has it.
struct Found {
    ip: IpAddr,
    object: Option<(Entry, IPAddress)>,
    /// With what the store has of them.
    owners: Vec<(Owner, Entry, Service)>,
    parent_exists: bool,
}

impl Repair {
    fn new(registry: &Arc<Registry>) -> Self {
        Repair {
            registry: registry.clone(),
            seen: Seen::default(),
            is_outdated: false,
            told: HashMap::new(),
            later: BTreeSet::new(),
            failed: BTreeSet::new(),
            retry: Retry::default(),
        }
    }

    async fn run(mut self, reader: Arc<dyn ObjectReader>, synced: watch::Sender<bool>) {
        let watch = |group, resource| reader.watch_raw(group, resource).fuse();
        let mut services = watch("", "services");
        let mut addresses = watch(addresses::GROUP, addresses::RESOURCE);
        let mut ranges = watch(ranges::GROUP, ranges::RESOURCE);
        // Who has not told what there is yet: until all have, everything looks wrong.
        let mut missing = [true; 3];
        loop {
            let wake = self.later.first().map(|(at, _)| *at);
            let is_due = self.is_outdated || !self.seen.due.is_empty();
            tokio::select! {
                // What is to be seen is seen first: Services and their addresses come on two ways.
                biased;
                Some(event) = services.next() => {
                    self.seen.service(&event);
                    missing[0] = false;
                }
                Some(event) = addresses.next() => {
                    self.seen.address(&event);
                    missing[1] = false;
                }
                Some(_) = ranges.next() => {
                    self.is_outdated = true;
                    missing[2] = false;
                }
                () = std::future::ready(()), if missing == [false; 3] && is_due => {
                    let outcome = self.look().await;
                    if let Err(error) = &outcome {
                        tracing::warn!(%error, "the ranges of addresses cannot be read");
                    }
                    self.retry.after(outcome.is_ok() && self.failed.is_empty());
                    // Once something fails nobody waits for it.
                    synced.send_replace(true);
                }
                () = self.retry.due() => {
                    self.seen.due.append(&mut self.failed);
                    // Nothing else may be due, and then it was the ranges.
                    self.is_outdated = true;
                }
                () = sleep_until(wake) => {
                    if let Some((_, ip)) = self.later.pop_first() {
                        self.seen.due.insert(ip);
                    }
                }
            }
        }
    }

    /// Looks at all that is due.
    async fn look(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_outdated) {
            self.seen.in_ranges(Ranges::read(&self.registry).await?);
        }
        while let Some(ip) = self.seen.due.pop_first() {
            self.later.retain(|(_, later)| *later != ip);
            if self.seen.is_fine(ip) {
                self.told.remove(&ip);
            } else if let Err(error) = self.settle(ip).await {
                tracing::warn!(%error, address = %ip, "the address of a Service could not be seen to");
                self.failed.insert(ip);
            }
        }
        Ok(())
    }

    /// Decides by what is stored, which may be newer than what was seen.
    async fn settle(&mut self, ip: IpAddr) -> Result<()> {
        let found = self.find(ip).await?;
        // A range may be as new as the Service that has an address of it.
        let in_range =
            self.seen.ranges.contain(ip) || Ranges::read(&self.registry).await?.contain(ip);
        let owners: Vec<Owner> = found.owners.iter().map(|(o, ..)| o.clone()).collect();
        let Verdict { action, told } = decide(&Facts {
            ip,
            object: found.object.as_ref().map(|(_, object)| object),
            owners: &owners,
            parent_exists: found.parent_exists,
            in_range,
            now: self.registry.now(),
        });
        let is_done = match action {
            None => true,
            Some(Action::Wait(until)) => {
                let pause = until.duration_since(self.registry.now());
                let pause = Duration::try_from(pause).unwrap_or_default();
                let at = Instant::now() + pause.max(Duration::from_secs(1));
                self.later.insert((at, ip));
                true
            }
            Some(action) => self.act(&found, &action).await?,
        };
        if !is_done {
            // Somebody was faster. That is seen in a moment.
            return Ok(());
        }
        for (about, happening) in &told {
            let known = self.told.get(&ip);
            if !known.is_some_and(|known| known.iter().any(|k| k.0 == *about && k.1 == *happening))
            {
                let about = found.reference(about);
                events::warn(&self.registry, COMPONENT, about, happening.clone()).await;
            }
        }
        match told.is_empty() {
            true => self.told.remove(&ip),
            false => self.told.insert(ip, told),
        };
        Ok(())
    }

    async fn find(&self, ip: IpAddr) -> Result<Found> {
        let registry = &self.registry;
        let entry = registry
            .store
            .get(addresses::key(ip).as_ref(), None)
            .await?;
        let object = match entry {
            Some(entry) => {
                let object = addresses::decode(&entry)?;
                Some((entry, object))
            }
            None => None,
        };
        let parent = object.as_ref().and_then(|(_, o)| addresses::parent(o));
        let parent = parent.filter(|parent| is_service(parent)).map(|p| Owner {
            namespace: p.namespace.clone().unwrap_or_default(),
            name: p.name.clone(),
        });
        let mut asked: BTreeSet<&Owner> = self.seen.owners(ip).collect();
        asked.extend(&parent);
        let mut owners = Vec::new();
        let mut parent_exists = false;
        for owner in asked {
            let Some((entry, service)) = read_service(registry, owner).await? else {
                continue;
            };
            parent_exists |= parent.as_ref() == Some(owner);
            let spec = service.spec.as_ref();
            if spec.is_some_and(|spec| addresses_of(spec).contains(&ip)) {
                owners.push((owner.clone(), entry, service));
            }
        }
        Ok(Found {
            ip,
            object,
            owners,
            parent_exists,
        })
    }

    /// Does it, unless what it was decided by has changed.
    async fn act(&self, found: &Found, action: &Action) -> Result<bool> {
        let registry = &self.registry;
        let mut writes = Vec::new();
        let holder = match action {
            Action::Make(holder) => {
                let Owner { namespace, name } = holder;
                writes.push(addresses::claim(registry, found.ip, namespace, name)?);
                holder
            }
            Action::Mend(holder) => {
                let Some((entry, object)) = &found.object else {
                    return Ok(false);
                };
                let mut object = object.clone();
                addresses::mend(&mut object, found.ip, &holder.namespace, &holder.name);
                writes.push(Write {
                    key: entry.key.clone(),
                    expect: Expect::Modified(entry.modified),
                    op: Op::Put {
                        value: addresses::encode_again(&mut object, entry)?,
                        ttl: None,
                    },
                });
                holder
            }
            Action::Remove => return self.remove(found).await,
            Action::Wait(_) => return Ok(false),
        };
        if let Some((_, entry, _)) = found.owners.iter().find(|(owner, ..)| owner == holder) {
            writes.push(Write {
                key: entry.key.clone(),
                expect: Expect::Modified(entry.modified),
                op: Op::Check,
            });
        }
        match registry.commit(writes).await {
            Ok(_) => Ok(true),
            Err(k8s_store::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove(&self, found: &Found) -> Result<bool> {
        let row = self
            .registry
            .stored_row(addresses::GROUP, addresses::RESOURCE);
        let (Some(row), Some((entry, _))) = (row, &found.object) else {
            return Ok(false);
        };
        let mut options = DeleteOptions::default();
        options.preconditions.resource_version = Some(entry.modified.to_string());
        let (internal, name) = (Internal::new(), found.ip.to_string());
        let target = internal.target(&row, "", &name);
        match self.registry.delete(&target, &options).await {
            Err(error) if matches!(error.code(), 404 | 409) => Ok(false),
            other => other.map(|_| true),
        }
    }
}

impl Found {
    /// What an event is about.
    fn reference(&self, about: &About) -> ObjectReference {
        let (api_version, kind, meta) = match about {
            About::Service(owner) => {
                let service = self.owners.iter().find(|(other, ..)| other == owner);
                (
                    "v1",
                    "Service",
                    service.map(|(.., service)| &service.metadata),
                )
            }
            About::Address => {
                let object = self.object.as_ref().map(|(_, object)| &object.metadata);
                ("networking.k8s.io/v1", "IPAddress", object)
            }
        };
        let meta = meta.cloned().unwrap_or_default();
        ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace: meta.namespace,
            name: meta.name,
            uid: meta.uid,
            resource_version: meta.resource_version,
            field_path: None,
        }
    }
}

async fn read_service(registry: &Registry, owner: &Owner) -> Result<Option<(Entry, Service)>> {
    let Some(row) = registry.stored_row("", "services") else {
        return Ok(None);
    };
    let internal = Internal::new();
    let target = internal.target(&row, &owner.namespace, &owner.name);
    let Some(entry) = registry.read(&target).await? else {
        return Ok(None);
    };
    let object = row.decode_entry(&entry)?;
    let service = object.downcast_ref::<Service>().cloned();
    Ok(service.map(|service| (entry, service)))
}

/// Waits until then; for ever, if there is no such time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
