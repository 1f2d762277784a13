//! The objects of one kind and the indexes over them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use kube::Resource;

use crate::runtime::ObjectKey;

pub(super) type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

pub(super) struct Cache<K> {
    /// Ordered by key, so that a namespace is a range.
    pub(super) objects: BTreeMap<ObjectKey, Arc<K>>,
    owners: HashMap<String, BTreeSet<ObjectKey>>,
    indexes: Vec<Index<K>>,
}

struct Index<K> {
    name: &'static str,
    values: IndexFn<K>,
    entries: HashMap<String, BTreeSet<ObjectKey>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache {
            objects: BTreeMap::new(),
            owners: HashMap::new(),
            indexes: Vec::new(),
        }
    }
}

impl<K> Cache<K> {
    pub(super) fn namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Arc<K>> + use<'a, K> {
        // '0' is the character after '/'.
        let (from, to) = (format!("{namespace}/"), format!("{namespace}0"));
        self.objects
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Excluded(to.as_str())))
            .map(|(_, object)| object)
    }

    pub(super) fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.pick(self.owners.get(uid))
    }

    pub(super) fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.pick(
            self.indexes
                .iter()
                .find(|index| index.name == name)
                .and_then(|index| index.entries.get(value)),
        )
    }

    fn pick(&self, keys: Option<&BTreeSet<ObjectKey>>) -> Vec<Arc<K>> {
        keys.into_iter()
            .flatten()
            .filter_map(|key| self.objects.get(key))
            .cloned()
            .collect()
    }
}

impl<K: Resource> Cache<K> {
    pub(super) fn add_index(&mut self, name: &'static str, values: IndexFn<K>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut entries = HashMap::new();
        for (key, object) in &self.objects {
            file(&mut entries, values(object), key);
        }
        self.indexes.push(Index {
            name,
            values,
            entries,
        });
    }

    pub(super) fn insert(&mut self, key: ObjectKey, object: Arc<K>) -> Option<Arc<K>> {
        if let Some(old) = self.objects.get(&key).cloned() {
            self.unindex(&key, &old);
        }
        file(&mut self.owners, owner_uids(&*object), &key);
        for index in &mut self.indexes {
            file(&mut index.entries, (index.values)(&object), &key);
        }
        self.objects.insert(key, object)
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        self.unindex(key, &old);
        Some(old)
    }

    /// Drops all objects that are not in `keep` and gives them back.
    pub(super) fn retain(&mut self, keep: &BTreeSet<ObjectKey>) -> Vec<Arc<K>> {
        let gone: Vec<ObjectKey> = self
            .objects
            .keys()
            .filter(|key| !keep.contains(*key))
            .cloned()
            .collect();
        gone.iter().filter_map(|key| self.remove(key)).collect()
    }

    fn unindex(&mut self, key: &ObjectKey, object: &K) {
        unfile(&mut self.owners, owner_uids(object), key);
        for index in &mut self.indexes {
            unfile(&mut index.entries, (index.values)(object), key);
        }
    }
}

fn owner_uids<K: Resource>(object: &K) -> Vec<String> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .map(|owner| owner.uid.clone())
        .collect()
}

fn file(entries: &mut HashMap<String, BTreeSet<ObjectKey>>, values: Vec<String>, key: &ObjectKey) {
    for value in values {
        entries.entry(value).or_default().insert(key.clone());
    }
}

fn unfile(
    entries: &mut HashMap<String, BTreeSet<ObjectKey>>,
    values: Vec<String>,
    key: &ObjectKey,
) {
    for value in values {
        if let Some(keys) = entries.get_mut(&value) {
            keys.remove(key);
            if keys.is_empty() {
                entries.remove(&value);
            }
        }
    }
}
