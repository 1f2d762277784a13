//! Who owns whom: the pure core.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN};

/// How many absent owners are remembered; upstream's `absentOwnerCache` size.
const ABSENT: usize = 500;

/// An object as an owner reference describes it, with its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) kind: String,
    pub(crate) api_version: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Identity {
    /// What a reference from an object in `namespace` points to. Whether the owner is namespaced is
    /// not known here.
    pub(crate) fn of_reference(reference: &OwnerReference, namespace: &str) -> Self {
        Identity {
            kind: reference.kind.clone(),
            api_version: reference.api_version.clone(),
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        }
    }

    fn matches(&self, reference: &OwnerReference) -> bool {
        self.uid == reference.uid
            && self.name == reference.name
            && self.kind == reference.kind
            && self.api_version == reference.api_version
    }
}

impl fmt::Display for Identity {
    /// As upstream prints an object reference in its events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            kind,
            api_version,
            namespace,
            name,
            uid,
        } = self;
        write!(
            f,
            "[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]"
        )
    }
}

/// What has to be looked at, by UID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Whether the object must be deleted, or its foreground deletion can end.
    Delete(String),
    /// The object's dependents must be orphaned.
    Orphan(String),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Delete(uid) | Work::Orphan(uid) => f.write_str(uid),
        }
    }
}

/// What a change of the graph calls for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reaction {
    pub(crate) work: BTreeSet<Work>,
    /// Objects with a reference to an owner in another namespace, and that reference.
    pub(crate) invalid: Vec<(Identity, Identity)>,
}

impl Reaction {
    fn delete(&mut self, uid: &str) {
        self.work.insert(Work::Delete(uid.to_owned()));
    }
}

#[derive(Clone, Debug)]
struct Node {
    identity: Identity,
    owners: Vec<OwnerReference>,
    dependents: HashSet<String>,
    /// Known only from references to it; no watch has shown it.
    is_virtual: bool,
    being_deleted: bool,
    deleting_dependents: bool,
    orphaning: bool,
}

/// A node and its dependents, as they are now.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) identity: Identity,
    pub(crate) is_virtual: bool,
    pub(crate) being_deleted: bool,
    pub(crate) deleting_dependents: bool,
    pub(crate) dependents: Vec<Dependent>,
}

/// A dependent of a node.
#[derive(Clone, Debug)]
pub(crate) struct Dependent {
    pub(crate) identity: Identity,
    /// Whether its reference blocks the owner's foreground deletion.
    pub(crate) blocks: bool,
    pub(crate) deleting_dependents: bool,
}

/// Who owns whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<String, Node>,
    absent: HashSet<Identity>,
    absent_order: VecDeque<Identity>,
}

impl Graph {
    /// Whether an object is known to be gone for good: a UID never comes back.
    pub(crate) fn is_absent(&self, identity: &Identity) -> bool {
        self.absent.contains(identity)
    }

    /// Remembers that an object is gone for good.
    pub(crate) fn remember_absent(&mut self, identity: Identity) {
        if self.absent.insert(identity.clone()) {
            self.absent_order.push_back(identity);
            if self.absent_order.len() > ABSENT
                && let Some(oldest) = self.absent_order.pop_front()
            {
                self.absent.remove(&oldest);
            }
        }
    }

    /// A node and its dependents.
    pub(crate) fn view(&self, uid: &str) -> Option<View> {
        let node = self.nodes.get(uid)?;
        let mut dependents: Vec<Dependent> = node
            .dependents
            .iter()
            .filter_map(|dependent| self.nodes.get(dependent))
            .map(|dependent| Dependent {
                identity: dependent.identity.clone(),
                blocks: dependent
                    .owners
                    .iter()
                    .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true)),
                deleting_dependents: dependent.deleting_dependents,
            })
            .collect();
        dependents.sort_by(|a, b| a.identity.cmp(&b.identity));
        Some(View {
            identity: node.identity.clone(),
            is_virtual: node.is_virtual,
            being_deleted: node.being_deleted,
            deleting_dependents: node.deleting_dependents,
            dependents,
        })
    }

    /// A watch has shown an object, new or changed.
    pub(crate) fn observe(&mut self, api_version: &str, kind: &str, meta: &ObjectMeta) -> Reaction {
        let mut reaction = Reaction::default();
        let identity = Identity {
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        };
        let uid = identity.uid.clone();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let known = self.nodes.contains_key(&uid);
        if known {
            self.make_observed(&uid, identity, &mut reaction);
            self.change_owners(&uid, owners, &mut reaction);
        } else {
            let node = Node {
                identity,
                owners: owners.clone(),
                dependents: HashSet::new(),
                is_virtual: false,
                being_deleted: false,
                deleting_dependents: false,
                orphaning: false,
            };
            self.nodes.insert(uid.clone(), node);
            self.add_to_owners(&uid, &owners, &mut reaction);
        }
        self.transitions(&uid, meta, &mut reaction);
        reaction
    }

    fn transitions(&mut self, uid: &str, meta: &ObjectMeta, reaction: &mut Reaction) {
        let Some(node) = self.nodes.get_mut(uid) else {
            return;
        };
        if meta.deletion_timestamp.is_none() {
            return;
        }
        node.being_deleted = true;
        let has = |finalizer: &str| {
            meta.finalizers
                .iter()
                .flatten()
                .any(|known| known == finalizer)
        };
        if has(ORPHAN) {
            if !std::mem::replace(&mut node.orphaning, true) {
                reaction.work.insert(Work::Orphan(uid.to_owned()));
            }
            return;
        }
        node.orphaning = false;
        if has(FOREGROUND) && !std::mem::replace(&mut node.deleting_dependents, true) {
            for dependent in node.dependents.clone() {
                reaction.delete(&dependent);
            }
            reaction.delete(uid);
        }
    }

    /// A node that was known from references only turns out to be real. References that describe
    /// it wrongly must be looked at.
    fn make_observed(&mut self, uid: &str, identity: Identity, reaction: &mut Reaction) {
        let Some(node) = self.nodes.get(uid) else {
            return;
        };
        if !node.is_virtual {
            return;
        }
        if node.identity != identity {
            for dependent in node.dependents.clone() {
                let Some(dependent) = self.nodes.get(&dependent) else {
                    continue;
                };
                let (_, mismatch) = compare(dependent, &identity);
                if mismatch {
                    if !identity.namespace.is_empty()
                        && identity.namespace != dependent.identity.namespace
                    {
                        self.report(dependent, uid, reaction);
                    }
                    reaction.delete(&dependent.identity.uid);
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(uid) {
            node.identity = identity;
            node.is_virtual = false;
        }
    }

    fn report(&self, dependent: &Node, owner: &str, reaction: &mut Reaction) {
        if let Some(reference) = dependent
            .owners
            .iter()
            .find(|reference| reference.uid == owner)
        {
            let named = Identity::of_reference(reference, &dependent.identity.namespace);
            reaction.invalid.push((dependent.identity.clone(), named));
        }
    }

    fn change_owners(&mut self, uid: &str, owners: Vec<OwnerReference>, reaction: &mut Reaction) {
        let Some(node) = self.nodes.get_mut(uid) else {
            return;
        };
        if node.owners == owners {
            return;
        }
        let before = std::mem::replace(&mut node.owners, owners.clone());
        // An owner in foreground deletion may go on when a blocking reference to it is gone.
        for old in before
            .iter()
            .filter(|old| old.block_owner_deletion == Some(true))
        {
            let still = owners
                .iter()
                .any(|new| new.uid == old.uid && new.block_owner_deletion == Some(true));
            if !still && self.nodes.contains_key(&old.uid) {
                reaction.delete(&old.uid);
            }
        }
        let added: Vec<OwnerReference> = owners
            .iter()
            .filter(|new| before.iter().all(|old| old.uid != new.uid))
            .cloned()
            .collect();
        for old in before
            .iter()
            .filter(|old| owners.iter().all(|new| new.uid != old.uid))
        {
            if let Some(owner) = self.nodes.get_mut(&old.uid) {
                owner.dependents.remove(uid);
            }
        }
        self.add_to_owners(uid, &added, reaction);
    }

    fn add_to_owners(&mut self, uid: &str, owners: &[OwnerReference], reaction: &mut Reaction) {
        let Some(identity) = self.nodes.get(uid).map(|node| node.identity.clone()) else {
            return;
        };
        for reference in owners {
            match self.nodes.get_mut(&reference.uid) {
                None => {
                    let owner = Node {
                        identity: Identity::of_reference(reference, &identity.namespace),
                        owners: Vec::new(),
                        dependents: HashSet::from([uid.to_owned()]),
                        is_virtual: true,
                        being_deleted: false,
                        deleting_dependents: false,
                        orphaning: false,
                    };
                    self.nodes.insert(reference.uid.clone(), owner);
                    reaction.delete(&reference.uid);
                }
                Some(owner) => {
                    owner.dependents.insert(uid.to_owned());
                    let namespaced = !owner.identity.namespace.is_empty();
                    let elsewhere = owner.identity.namespace != identity.namespace;
                    if namespaced && elsewhere {
                        if !owner.is_virtual {
                            let named = Identity::of_reference(reference, &identity.namespace);
                            reaction.invalid.push((identity.clone(), named));
                        }
                        reaction.delete(uid);
                    } else if !owner.identity.matches(reference) || (owner.is_virtual && elsewhere)
                    {
                        reaction.delete(uid);
                    }
                }
            }
        }
    }

    /// A watch has shown that an object is gone.
    pub(crate) fn remove(&mut self, uid: &str) -> Reaction {
        let mut reaction = Reaction::default();
        let Some(node) = self.nodes.remove(uid) else {
            return reaction;
        };
        if !node.dependents.is_empty() {
            self.remember_absent(node.identity);
        }
        for dependent in &node.dependents {
            reaction.delete(dependent);
        }
        self.leave(uid, &node.owners, &mut reaction);
        reaction
    }

    /// The resource of an object is not served any more. That does not say that the object is gone, so what it owns
    /// stays, until it can be asked for again: it is as an owner that was never seen.
    pub(crate) fn forget(&mut self, uid: &str) -> Reaction {
        let mut reaction = Reaction::default();
        let Some(node) = self.nodes.get_mut(uid) else {
            return reaction;
        };
        let owners = std::mem::take(&mut node.owners);
        if node.dependents.is_empty() {
            self.nodes.remove(uid);
        } else {
            node.is_virtual = true;
            node.being_deleted = false;
            node.deleting_dependents = false;
            node.orphaning = false;
            // If it is deleted before it is seen again, nobody tells.
            reaction.delete(uid);
        }
        self.leave(uid, &owners, &mut reaction);
        reaction
    }

    /// An object is none of its owners' dependents any more.
    fn leave(&mut self, uid: &str, owners: &[OwnerReference], reaction: &mut Reaction) {
        for owner in owners {
            if let Some(owner) = self.nodes.get_mut(&owner.uid) {
                owner.dependents.remove(uid);
                if owner.deleting_dependents {
                    reaction.delete(&owner.identity.uid);
                }
            }
        }
    }

    /// A request has shown that there is no object with this identity.
    ///
    /// References may disagree about the identity behind a UID. Then only those that named this
    /// one are known to dangle, and a node known from references only is looked for under the
    /// next name.
    pub(crate) fn absent(&mut self, identity: &Identity) -> Reaction {
        let mut reaction = Reaction::default();
        let Some(node) = self.nodes.get(&identity.uid) else {
            return reaction;
        };
        let is_virtual = node.is_virtual;
        let same = node.identity == *identity;
        let dependents: Vec<&Node> = node
            .dependents
            .iter()
            .filter_map(|uid| self.nodes.get(uid))
            .collect();
        let mut matching = Vec::new();
        let mut alternatives = BTreeSet::new();
        for dependent in dependents {
            let (matches, mismatch) = compare(dependent, identity);
            if matches {
                matching.push(dependent.identity.uid.clone());
            }
            if mismatch {
                let references = dependent
                    .owners
                    .iter()
                    .filter(|reference| reference.uid == identity.uid);
                alternatives.extend(references.map(|reference| {
                    Identity::of_reference(reference, &dependent.identity.namespace)
                }));
            }
        }
        self.remember_absent(identity.clone());
        if (is_virtual && alternatives.is_empty()) || (!is_virtual && same) {
            return self.remove(&identity.uid);
        }
        for dependent in matching {
            reaction.delete(&dependent);
        }
        if is_virtual && same {
            match alternatives
                .into_iter()
                .find(|alternative| !self.absent.contains(alternative))
            {
                Some(alternative) => {
                    if let Some(node) = self.nodes.get_mut(&identity.uid) {
                        node.identity = alternative;
                    }
                    reaction.delete(&identity.uid);
                }
                None => return self.remove(&identity.uid),
            }
        }
        reaction
    }
}

/// Whether a dependent refers to the object as `identity` describes it, and whether it refers to
/// it otherwise.
fn compare(dependent: &Node, identity: &Identity) -> (bool, bool) {
    if !identity.namespace.is_empty() && identity.namespace != dependent.identity.namespace {
        return (false, true);
    }
    let references = dependent
        .owners
        .iter()
        .filter(|reference| reference.uid == identity.uid);
    references.fold((false, false), |(matches, mismatch), reference| {
        let same = identity.matches(reference);
        (matches || same, mismatch || !same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::fixture::time;

    fn meta(name: &str, owners: &[&str]) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("default".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            owner_references: Some(
                owners
                    .iter()
                    .map(|owner| OwnerReference {
                        api_version: "v1".to_owned(),
                        kind: "Thing".to_owned(),
                        name: (*owner).to_owned(),
                        uid: format!("uid-{owner}"),
                        block_owner_deletion: Some(true),
                        controller: None,
                    })
                    .collect(),
            ),
            ..Default::default()
        }
    }

    fn observe(graph: &mut Graph, meta: &ObjectMeta) -> Vec<String> {
        graph
            .observe("v1", "Thing", meta)
            .work
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn work(reaction: &Reaction) -> Vec<String> {
        reaction.work.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_owner_that_goes_brings_its_dependents_up() {
        let mut graph = Graph::default();
        assert!(observe(&mut graph, &meta("a", &[])).is_empty());
        assert!(observe(&mut graph, &meta("b", &["a"])).is_empty());
        assert!(observe(&mut graph, &meta("c", &["a"])).is_empty());
        let reaction = graph.remove("uid-a");
        assert_eq!(work(&reaction), ["uid-b", "uid-c"]);
        assert_eq!(graph.nodes.len(), 2);
    }

    #[test]
    fn an_owner_that_is_not_served_any_more_keeps_its_dependents_and_leaves_its_owners() {
        let mut graph = Graph::default();
        observe(&mut graph, &meta("a", &[]));
        observe(&mut graph, &meta("b", &["a"]));
        observe(&mut graph, &meta("c", &["b"]));
        let b = graph.view("uid-b").unwrap().identity;
        assert_eq!(work(&graph.forget("uid-b")), ["uid-b"]);
        assert!(!graph.is_absent(&b));
        assert!(graph.view("uid-a").unwrap().dependents.is_empty());
        let view = graph.view("uid-b").unwrap();
        assert!(view.is_virtual);
        assert_eq!(view.dependents.len(), 1);
        // One that nothing depends on is let go.
        assert!(work(&graph.forget("uid-c")).is_empty());
        assert!(graph.view("uid-c").is_none());
        // It comes back as it was.
        observe(&mut graph, &meta("b", &["a"]));
        assert!(!graph.view("uid-b").unwrap().is_virtual);
        assert_eq!(graph.view("uid-a").unwrap().dependents.len(), 1);
    }

    #[test]
    fn an_unknown_owner_is_looked_for_and_its_dependents_follow_if_it_is_absent() {
        let mut graph = Graph::default();
        assert_eq!(observe(&mut graph, &meta("b", &["a"])), ["uid-a"]);
        let view = graph.view("uid-a").unwrap();
        assert!(view.is_virtual);
        let reaction = graph.absent(&view.identity);
        assert_eq!(work(&reaction), ["uid-b"]);
        assert!(graph.is_absent(&view.identity));
        assert!(graph.view("uid-a").is_none());
    }

    #[test]
    fn an_unknown_owner_that_is_observed_becomes_real() {
        let mut graph = Graph::default();
        observe(&mut graph, &meta("b", &["a"]));
        assert!(observe(&mut graph, &meta("a", &[])).is_empty());
        let view = graph.view("uid-a").unwrap();
        assert!(!view.is_virtual);
        assert_eq!(view.dependents.len(), 1);
    }

    #[test]
    fn foreground_deletion_looks_at_all_dependents_and_ends_with_the_last() {
        let mut graph = Graph::default();
        observe(&mut graph, &meta("a", &[]));
        observe(&mut graph, &meta("b", &["a"]));
        let mut deleting = meta("a", &[]);
        deleting.deletion_timestamp = Some(time("2026-01-01T00:00:00Z"));
        deleting.finalizers = Some(vec![FOREGROUND.to_owned()]);
        assert_eq!(observe(&mut graph, &deleting), ["uid-a", "uid-b"]);
        assert!(observe(&mut graph, &deleting).is_empty(), "it starts once");
        assert!(graph.view("uid-a").unwrap().dependents[0].blocks);
        assert_eq!(work(&graph.remove("uid-b")), ["uid-a"]);
        assert!(graph.view("uid-a").unwrap().dependents.is_empty());
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        observe(&mut graph, &meta("a", &[]));
        let mut deleting = meta("a", &[]);
        deleting.deletion_timestamp = Some(time("2026-01-01T00:00:00Z"));
        deleting.finalizers = Some(vec![ORPHAN.to_owned()]);
        let reaction = graph.observe("v1", "Thing", &deleting);
        assert_eq!(
            reaction.work,
            BTreeSet::from([Work::Orphan("uid-a".to_owned())])
        );
        assert!(graph.observe("v1", "Thing", &deleting).work.is_empty());
    }

    #[test]
    fn a_reference_across_namespaces_is_invalid_and_looked_at() {
        let mut graph = Graph::default();
        observe(&mut graph, &meta("a", &[]));
        let mut elsewhere = meta("b", &["a"]);
        elsewhere.namespace = Some("other".to_owned());
        let reaction = graph.observe("v1", "Thing", &elsewhere);
        assert_eq!(work(&reaction), ["uid-b"]);
        assert_eq!(reaction.invalid.len(), 1);
    }

    #[test]
    fn dependents_that_disagree_about_an_owner_do_not_pull_each_other_down() {
        let mut graph = Graph::default();
        let mut wrong = meta("wrong", &["a"]);
        wrong.owner_references.as_mut().unwrap()[0].kind = "Other".to_owned();
        observe(&mut graph, &wrong);
        let named = graph.view("uid-a").unwrap().identity;
        observe(&mut graph, &meta("right", &["a"]));
        let reaction = graph.absent(&named);
        assert_eq!(work(&reaction), ["uid-a", "uid-wrong"]);
        assert_eq!(graph.view("uid-a").unwrap().identity.kind, "Thing");
    }

    #[test]
    fn removing_a_blocking_reference_lets_the_owner_go_on() {
        let mut graph = Graph::default();
        observe(&mut graph, &meta("a", &[]));
        observe(&mut graph, &meta("b", &["a"]));
        assert_eq!(observe(&mut graph, &meta("b", &[])), ["uid-a"]);
        assert!(graph.view("uid-a").unwrap().dependents.is_empty());
    }
}
