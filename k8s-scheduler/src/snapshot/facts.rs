//! [`Facts`]: what a node says of itself.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Taint};

/// What is asked of a node over and over, ready to be asked, and the rest of it packed.
#[derive(Debug)]
pub(super) struct Facts {
    /// By key, in order.
    pub(super) labels: Box<[(Arc<str>, Arc<str>)]>,
    pub(super) taints: Box<[Taint]>,
    /// Every name of every image with its size in bytes, in order.
    pub(super) images: Box<[(Arc<str>, i64)]>,
    pub(super) unschedulable: bool,
    /// The node in JSON: a third of what it takes as a value.
    packed: Box<[u8]>,
}

impl Facts {
    pub(super) fn new(node: Arc<Node>, strings: &mut Strings) -> Self {
        let mut node = Arc::unwrap_or_clone(node);
        // The largest parts of a node, which nothing here asks for again.
        node.metadata.managed_fields = None;
        let images = node.status.as_mut().and_then(|s| s.images.take());
        let mut images: Vec<(Arc<str>, i64)> = images
            .iter()
            .flatten()
            .flat_map(|i| {
                let names = i.names.iter().flatten();
                names.map(|name| (name, i.size_bytes.unwrap_or(0)))
            })
            .map(|(name, size)| (strings.get(name), size))
            .collect();
        // Of a name that is there twice, the last one counts.
        images.reverse();
        images.sort_by(|a, b| a.0.cmp(&b.0));
        images.dedup_by(|a, b| a.0 == b.0);
        let labels = node.metadata.labels.iter().flatten();
        let labels = labels.map(|(key, value)| (strings.get(key), strings.get(value)));
        let spec = node.spec.as_ref();
        Self {
            labels: labels.collect(),
            taints: spec
                .and_then(|s| s.taints.clone())
                .unwrap_or_default()
                .into(),
            images: images.into(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            packed: serde_json::to_vec(&node)
                .expect("nodes can be written as JSON")
                .into(),
        }
    }

    /// The node as it was, but for images and managed fields.
    pub(super) fn unpack(&self) -> Option<Node> {
        serde_json::from_slice(&self.packed).ok()
    }

    /// The same in JSON.
    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }
}

/// What a key has, in pairs that are in the order of their keys.
pub(super) fn find<'a, T>(pairs: &'a [(Arc<str>, T)], key: &str) -> Option<&'a T> {
    let at = pairs.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
    Some(&pairs[at].1)
}

/// Strings, each of which is in memory once, however many nodes have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Strings {
    /// Fewer than that are not worth a search for those that nobody has any more.
    const FEW: usize = 1024;

    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(Self::FEW) {
            self.known.retain(|s| Arc::strong_count(s) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        let new: Arc<str> = text.into();
        self.known.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_nobody_has_any_more_are_forgotten() {
        let mut strings = Strings::default();
        let kept = strings.get("kept");
        for n in 0..10 * Strings::FEW {
            strings.get(&n.to_string());
        }
        assert!(
            strings.known.len() <= 2 * Strings::FEW,
            "{}",
            strings.known.len()
        );
        assert!(Arc::ptr_eq(&kept, &strings.get("kept")));
    }

    #[test]
    fn a_node_is_unpacked_as_it_was() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "labels": {"zone": "z", "arch": "amd64"}, "managedFields": [{"manager": "m"}]},
            "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {
                "allocatable": {"cpu": "4"},
                "images": [{"names": ["b:1", "a:1"], "sizeBytes": 5}, {"names": ["b:1"], "sizeBytes": 7}]},
        }))
        .unwrap();
        let facts = Facts::new(Arc::new(node.clone()), &mut Strings::default());
        assert_eq!(find(&facts.labels, "zone").map(|v| &**v), Some("z"));
        assert_eq!(find(&facts.labels, "none"), None);
        assert_eq!(find(&facts.images, "b:1"), Some(&7));
        assert_eq!(facts.images.len(), 2);
        assert!(facts.unschedulable);
        assert_eq!(facts.taints[0].key, "k");
        let mut expected = node;
        expected.metadata.managed_fields = None;
        expected.status.as_mut().unwrap().images = None;
        assert_eq!(facts.unpack(), Some(expected));
    }
}
