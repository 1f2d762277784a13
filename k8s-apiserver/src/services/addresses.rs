//! The addresses of Services: each that is taken is an IPAddress (KEP-1880).
//!
//! The object's own key is the claim. It is written and removed in the commit of its Service, so that there is no moment
//! at which one is there without the other.

use std::{collections::BTreeSet, net::IpAddr, ops::Range};

use bytes::Bytes;
use k8s_model::metadata;
use k8s_openapi::{
    api::networking::v1::{IPAddress, IPAddressSpec, ParentReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use k8s_store::{Entry, Expect, List, Op, Write};
use tokio::time::Instant;

use super::{Claimant, Family, Services, metrics::Scope, ranges::Ranges};
use crate::{
    Result, compat,
    registry::{
        Internal, Registry, delete,
        value::{self, Stored},
    },
};

pub(super) const GROUP: &str = "networking.k8s.io";
pub(super) const RESOURCE: &str = "ipaddresses";
/// Where they lie, also where the resource is not served.
const PREFIX: &str = "/registry/ipaddresses/";
/// `IPv4` or `IPv6`.
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
/// How many addresses are tried one by one before those that are taken are listed.
const PROBES: usize = 8;

/// The key of an address, by which it can be had once.
pub(super) fn key(address: IpAddr) -> Bytes {
    Bytes::from(format!("{PREFIX}{address}"))
}

/// The labels of an address of a Service.
pub(super) fn labels(address: IpAddr) -> [(&'static str, &'static str); 2] {
    [(FAMILY, Family::of(address).name()), (MANAGED_BY, MANAGER)]
}

/// Whether the address was handed out to a Service, as its labels say.
pub(super) fn is_managed(meta: &ObjectMeta) -> bool {
    let by = meta.labels.as_ref().and_then(|all| all.get(MANAGED_BY));
    by.is_some_and(|by| by == MANAGER)
}

/// What uses the address.
pub(super) fn parent(address: &IPAddress) -> Option<&ParentReference> {
    compat::get(&address.spec).map(|spec: &IPAddressSpec| &spec.parent_ref)
}

/// A reference to a Service.
pub(super) fn service_ref(namespace: &str, name: &str) -> ParentReference {
    ParentReference {
        group: None,
        resource: "services".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// Whether a reference is to that Service.
pub(super) fn is_of(parent: &ParentReference, namespace: &str, name: &str) -> bool {
    is_service(parent)
        && parent.namespace.as_deref().unwrap_or_default() == namespace
        && parent.name == name
}

/// Whether a reference is to a Service.
pub(super) fn is_service(parent: &ParentReference) -> bool {
    parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services"
}

/// What takes the address for a Service, if nobody has it.
pub(super) fn claim(
    registry: &Registry,
    address: IpAddr,
    namespace: &str,
    name: &str,
) -> Result<Write> {
    let mut object = IPAddress {
        metadata: ObjectMeta {
            name: Some(address.to_string()),
            labels: Some(
                labels(address)
                    .map(|(label, value)| (label.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: compat::field(IPAddressSpec {
            parent_ref: service_ref(namespace, name),
        }),
    };
    let mut random = registry.fork_random();
    metadata::prepare_for_create(&mut object.metadata, registry.now(), &mut random);
    let managed = match registry.stored_row(GROUP, RESOURCE) {
        Some(row) => {
            let (internal, name) = (Internal::new(), address.to_string());
            registry.own_new(&internal.target(&row, "", &name), &mut object)
        }
        None => Vec::new(),
    };
    Ok(Write {
        key: key(address),
        expect: Expect::Absent,
        op: Op::Put {
            value: value::encode(&mut object, &managed)?,
            ttl: None,
        },
    })
}

/// What gives up an address that a Service has: nothing, if it is somebody else's by now.
pub(super) async fn release(
    registry: &Registry,
    address: IpAddr,
    namespace: &str,
    name: &str,
) -> Result<Option<Write>> {
    let Some(entry) = registry.store.get(key(address).as_ref(), None).await? else {
        return Ok(None);
    };
    let mut object = match decode(&entry) {
        Ok(object) => object,
        Err(error) => {
            // That is no reason to keep the Service.
            tracing::warn!(%error, %address, "an address cannot be given up");
            return Ok(None);
        }
    };
    if !parent(&object).is_some_and(|parent| is_of(parent, namespace, name)) {
        return Ok(None);
    }
    let finalizers = object.metadata.finalizers.as_ref();
    let op = if finalizers.is_none_or(Vec::is_empty) {
        Op::Delete
    } else {
        // Whoever holds it decides when the address is free.
        delete::mark_as_deleting(&mut object.metadata, registry.now());
        Op::Put {
            value: encode_again(&mut object, &entry)?,
            ttl: None,
        }
    };
    Ok(Some(Write {
        key: entry.key,
        expect: Expect::Modified(entry.modified),
        op,
    }))
}

/// The object in an entry, without its managed fields.
pub(super) fn decode(entry: &Entry) -> Result<IPAddress> {
    let stored = Stored::of(entry)?;
    serde_json::from_slice(&stored.bare()).map_err(|error| {
        let text = format_args!("a stored IPAddress cannot be decoded: {error}");
        crate::Error::internal(text)
    })
}

/// The bytes of an object that was in that entry and has been changed.
pub(super) fn encode_again(object: &mut IPAddress, entry: &Entry) -> Result<Bytes> {
    let before = Stored::of(entry)?;
    Ok(value::encode(object, before.managed())?)
}

/// Makes the object of an address that of a Service.
pub(super) fn mend(object: &mut IPAddress, address: IpAddr, namespace: &str, name: &str) {
    let all = object.metadata.labels.get_or_insert_default();
    for (label, value) in labels(address) {
        all.insert(label.to_owned(), value.to_owned());
    }
    if !parent(object).is_some_and(|parent| is_of(parent, namespace, name)) {
        object.spec = compat::field(IPAddressSpec {
            parent_ref: service_ref(namespace, name),
        });
    }
}

/// Why nobody can have the address that they chose, if so.
pub(super) async fn refusal(
    registry: &Registry,
    services: &Services,
    of: &Claimant<'_>,
    address: IpAddr,
) -> Result<Option<&'static str>> {
    let ranges = Ranges::read(registry).await?;
    let Some(cidr) = ranges.offer(address) else {
        return Ok(Some(
            "the provided network does not match the current range",
        ));
    };
    let started = Instant::now();
    let taken = is_taken(registry, address).await?;
    if let Some(counted) = services.counted(of) {
        counted.address(cidr, Scope::Static, (!taken).then(|| started.elapsed()));
    }
    Ok(taken.then_some("provided IP is already allocated"))
}

async fn is_taken(registry: &Registry, address: IpAddr) -> Result<bool> {
    let key = key(address);
    Ok(registry.store.get(&key, None).await?.is_some())
}

/// A free address of any range of a family: a random one from the part of it that is to be handed out, or from the other.
pub(super) async fn free(
    registry: &Registry,
    services: &Services,
    of: &Claimant<'_>,
    family: Family,
) -> Result<Option<IpAddr>> {
    let mut random = registry.fork_random();
    let mut ranges = Ranges::read(registry).await?.ready(family);
    random.shuffle(&mut ranges);
    for cidr in ranges {
        let started = Instant::now();
        let mut found = None;
        for part in cidr.parts() {
            if found.is_none() {
                found = free_in(registry, family, part, &mut random).await?;
            }
        }
        if let Some(counted) = services.counted(of) {
            counted.address(cidr, Scope::Dynamic, found.map(|_| started.elapsed()));
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The addresses that are taken.
pub(super) async fn taken(registry: &Registry) -> Result<Vec<IpAddr>> {
    let list = List {
        prefix: Bytes::from_static(PREFIX.as_bytes()),
        ..List::default()
    };
    let page = registry.store.list(list).await?;
    let name = |entry: &Entry| {
        std::str::from_utf8(&entry.key[PREFIX.len()..])
            .ok()?
            .parse()
            .ok()
    };
    Ok(page.entries.iter().filter_map(name).collect())
}

async fn free_in(
    registry: &Registry,
    family: Family,
    part: Range<u128>,
    random: &mut fastrand::Rng,
) -> Result<Option<IpAddr>> {
    if part.is_empty() {
        return Ok(None);
    }
    for _ in 0..PROBES {
        let address = family.address(random.u128(part.clone()));
        if !is_taken(registry, address).await? {
            return Ok(Some(address));
        }
    }
    // It is rather full. Keys are texts: of IPv4, those of 256 addresses in a row are listed at a time.
    let start = random.u128(part.clone());
    if family == Family::V6 {
        let taken: BTreeSet<IpAddr> = taken(registry).await?.into_iter().collect();
        let mut hosts = (start..part.end).chain(part.start..start);
        return Ok(hosts.find_map(|host| {
            let address = family.address(host);
            (!taken.contains(&address)).then_some(address)
        }));
    }
    for run in runs(start..part.end).chain(runs(part.start..start)) {
        let first = family.address(run.start).to_string();
        let (row, _) = first.rsplit_once('.').unwrap_or_default();
        let list = List {
            prefix: Bytes::from(format!("{PREFIX}{row}.")),
            ..List::default()
        };
        let page = registry.store.list(list).await?;
        let taken: BTreeSet<Bytes> = page.entries.into_iter().map(|entry| entry.key).collect();
        let mut hosts = run.map(|host| family.address(host));
        let free = hosts.find(|address| !taken.contains(&key(*address)));
        if free.is_some() {
            return Ok(free);
        }
    }
    Ok(None)
}

/// The same numbers, in runs that differ in the last byte alone.
fn runs(numbers: Range<u128>) -> impl Iterator<Item = Range<u128>> {
    let blocks = (numbers.start >> 8)..numbers.end.div_ceil(256);
    blocks
        .map(move |block| numbers.start.max(block << 8)..numbers.end.min((block + 1) << 8))
        .filter(|run| !run.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_all_numbers_once_and_in_order() {
        for numbers in [0..0, 5..5, 1..255, 0..256, 250..260, 256..512, 3..1027] {
            let all: Vec<u128> = runs(numbers.clone()).flatten().collect();
            assert_eq!(all, numbers.clone().collect::<Vec<_>>());
            for run in runs(numbers) {
                assert_eq!(run.start >> 8, (run.end - 1) >> 8);
            }
        }
    }
}
