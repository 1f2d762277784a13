//! [`Groups`]: pods that are alike, counted by node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Interned, PodShape};

/// Pods of one shape, all of them being deleted or none.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) shape: Interned<PodShape>,
    pub(super) is_terminating: bool,
    /// How many of them each node has, by slot.
    pub(super) nodes: HashMap<u32, u32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    free: Vec<u32>,
    index: HashMap<(Interned<PodShape>, bool), u32>,
    /// The topology keys of the required anti-affinity terms of all groups, counted.
    anti_keys: BTreeMap<Arc<str>, usize>,
    /// The topology keys of their other terms.
    other_keys: BTreeMap<Arc<str>, usize>,
}

impl Groups {
    /// Counts a pod in: the group's number, and whether that means something new.
    pub(super) fn enter(
        &mut self,
        shape: &Interned<PodShape>,
        is_terminating: bool,
        slot: u32,
    ) -> (u32, bool) {
        if let Some(number) = self.index.get(&(shape.clone(), is_terminating)) {
            *self.groups[*number as usize].nodes.entry(slot).or_default() += 1;
            return (*number, false);
        }
        let group = Group {
            shape: shape.clone(),
            is_terminating,
            nodes: HashMap::from([(slot, 1)]),
        };
        self.keys(shape, |keys, key| {
            *keys.entry(key.clone()).or_default() += 1
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.groups[number as usize] = group;
                number
            }
            None => {
                self.groups.push(group);
                u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert((shape.clone(), is_terminating), number);
        (number, true)
    }

    /// Counts a pod out.
    pub(super) fn leave(
        &mut self,
        shape: &Interned<PodShape>,
        is_terminating: bool,
        slot: u32,
    ) -> u32 {
        let key = (shape.clone(), is_terminating);
        let Some(number) = self.index.get(&key).copied() else {
            return u32::MAX;
        };
        let group = &mut self.groups[number as usize];
        if let Some(count) = group.nodes.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                group.nodes.remove(&slot);
            }
        }
        if group.nodes.is_empty() {
            self.index.remove(&key);
            self.free.push(number);
            self.keys(shape, |keys, key| {
                if let Some(count) = keys.get_mut(key) {
                    *count -= 1;
                    if *count == 0 {
                        keys.remove(key);
                    }
                }
            });
        }
        number
    }

    fn keys(
        &mut self,
        shape: &PodShape,
        mut change: impl FnMut(&mut BTreeMap<Arc<str>, usize>, &Arc<str>),
    ) {
        for term in shape.anti_affinity.iter().flat_map(|t| t.iter()) {
            change(&mut self.anti_keys, &term.topology_key);
        }
        let preferred = shape.preferred.iter().map(|(_, term)| term);
        for term in shape.affinity.iter().chain(preferred) {
            change(&mut self.other_keys, &term.topology_key);
        }
    }

    /// The shape that a pod shares with those that are known already.
    pub(super) fn known(&self, shape: &Interned<PodShape>) -> Option<&Interned<PodShape>> {
        let number = [false, true]
            .into_iter()
            .find_map(|is_terminating| self.index.get(&(shape.clone(), is_terminating)))?;
        Some(&self.groups[*number as usize].shape)
    }

    pub(super) fn anti_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.anti_keys.keys()
    }

    pub(super) fn other_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.other_keys.keys()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Group> {
        self.groups.get(number as usize)
    }

    /// All groups with at least one pod.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        (0u32..)
            .zip(&self.groups)
            .filter(|(_, g)| !g.nodes.is_empty())
    }
}
