//! Who owns which field of a stored object: `metadata.managedFields` on the way of a write.

use std::borrow::Cow;

use bytes::Bytes;
use k8s_model::{
    Object, Subresource,
    apply::{OneVersion, Shape, Tracker, Versions, differ_only_in_time, reset_fields},
    schema::Type,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::{
    Registry, Row, Target,
    subresources::{are_owned, replicas_names},
    value::Stored,
};
use crate::Result;

/// The manager of what the server itself writes.
pub(crate) const SERVER: &str = "kube-apiserver";

/// In whose name a user writes that says no other: upstream's components by the names that they
/// have for themselves; nobody's otherwise.
pub(crate) fn manager_of_user(user: &str) -> &'static str {
    match user {
        "system:kube-scheduler" => "kube-scheduler",
        "system:kube-controller-manager" => "kube-controller-manager",
        _ if user.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        _ if user.starts_with("system:node:") => "kubelet",
        _ => "",
    }
}

impl Registry {
    /// The writer that a request is, if what it writes becomes its own. What it writes is compared in these
    /// versions where others own fields in them.
    pub(crate) fn tracker<'a>(
        &self,
        target: &Target<'a>,
        versions: &'a dyn Versions,
    ) -> Option<Tracker<'a>> {
        self.tracker_of(target, &target.row.shape, &target.row.api_version, versions)
    }

    /// The same, where what is written is of another kind than the resource's.
    fn tracker_of<'a>(
        &self,
        target: &Target<'a>,
        shape: &'a Shape,
        api_version: &'a str,
        versions: &'a dyn Versions,
    ) -> Option<Tracker<'a>> {
        let resource = &target.row.resource;
        Some(Tracker {
            shape,
            api_version,
            subresource: target.subresource,
            manager: target.manager?,
            reset: reset_fields(
                resource.group,
                resource.resource,
                target.subresource,
                resource.subresource("status").is_some(),
            ),
            now: self.now(),
            versions,
        })
    }

    /// The managed fields of an object that a request makes. Takes out those that it was sent with.
    pub(crate) fn own_new(&self, target: &Target<'_>, object: &mut dyn Object) -> Vec<u8> {
        object.metadata_mut().managed_fields = None;
        self.tracker(target, &OneVersion)
            .map_or_else(Vec::new, |tracker| tracker.created(object))
    }

    /// Puts in who owns the fields of an object that is answered and not stored: whoever sends it. `subresource` has its
    /// kind, where that is not the resource's.
    pub(crate) fn own_unstored(
        &self,
        target: &Target<'_>,
        subresource: Option<&Subresource>,
        object: &mut dyn Object,
    ) {
        let managed = match subresource {
            None => self.own_new(target, object),
            Some(sub) => {
                object.metadata_mut().managed_fields = None;
                let ty = Type::of_kind(sub.group, sub.version, sub.kind);
                let shape = ty.map_or_else(Shape::unknown_kind, Shape::Type);
                let api_version = match sub.group {
                    "" => sub.version.to_owned(),
                    group => format!("{group}/{}", sub.version),
                };
                let tracker = self.tracker_of(target, &shape, &api_version, &OneVersion);
                tracker.map_or_else(Vec::new, |tracker| tracker.created(object))
            }
        };
        show(object, &managed);
    }

    /// The managed fields of an object that a request changes, `sent` being those that it was sent
    /// with. None, as upstream has it, if others own fields in a version that the object cannot be had in.
    pub(super) fn own_changed<'s>(
        &self,
        target: &Target<'_>,
        stored: &'s Stored,
        old: &dyn Object,
        new: &dyn Object,
        sent: Option<&[ManagedFieldsEntry]>,
        versions: &dyn Versions,
    ) -> Cow<'s, [u8]> {
        let managed = stored.managed();
        let Some(tracker) = self.tracker(target, versions) else {
            return Cow::Borrowed(managed);
        };
        if managed.is_empty() && sent.is_none() {
            return Cow::Borrowed(managed);
        }
        if target.subresource == "scale" && !are_owned(managed, &replicas_names(target.row)) {
            return Cow::Borrowed(managed);
        }
        let before = if target.row.is_storage_version() {
            stored.bare()
        } else {
            Cow::Owned(json(old))
        };
        tracker
            .updated(&before, &json(new), managed, sent)
            .unwrap_or_else(|error| {
                let (namespace, name) = (target.namespace, target.name);
                tracing::warn!(%error, namespace, name, "nobody owns the fields of an object any more");
                Cow::Borrowed(&[])
            })
    }
}

fn json(object: &dyn Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    object.write_json(&mut out);
    out
}

/// Whether a value differs from what is stored in nothing but when its fields were written.
pub(super) fn changes_nothing(old: &Stored, new: &Stored) -> bool {
    old.bare_parts() == new.bare_parts() && differ_only_in_time(old.managed(), new.managed())
}

/// What of an object that was written at a revision is answered: the bytes in the store, unless those are of another
/// version than was asked for. Then it is the object itself.
pub(super) fn shown(
    row: &Row,
    object: &mut dyn Object,
    managed: &[u8],
    value: &Bytes,
    revision: u64,
) -> Result<Option<(Stored, u64)>> {
    if row.writes_converted() {
        show(object, managed);
        return Ok(None);
    }
    Ok(Some((Stored::parse(value)?, revision)))
}

/// The same of an object as it lies in the store: one that a webhook must convert first is answered as it was
/// converted already.
pub(super) fn shown_as(
    row: &Row,
    object: &mut dyn Object,
    stored: Stored,
    revision: u64,
) -> Option<(Stored, u64)> {
    if row.asks_webhook() && stored.api_version() != row.api_version.as_bytes() {
        show(object, stored.managed());
        return None;
    }
    Some((stored, revision))
}

/// Puts the managed fields into an object that is answered and not stored.
pub(crate) fn show(object: &mut dyn Object, managed: &[u8]) {
    object.metadata_mut().managed_fields = if managed.is_empty() {
        None
    } else {
        serde_json::from_slice(managed).ok()
    };
}
