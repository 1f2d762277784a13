//! A persistent ordered map: a B+tree of shared nodes.
//!
//! Cloning the tree is O(1). A write copies only those nodes on its path that
//! another clone still holds, and changes the others in place.

use std::sync::Arc;

use bytes::Bytes;

use crate::Entry;

/// The most items in a leaf, and the most children of an inner node.
const MAX: usize = 32;
/// A node with fewer is merged with a neighbour, or filled up from it.
const MIN: usize = 8;

/// What the tree holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) entry: Entry,
    /// Milliseconds on the store's clock after which the key is deleted; 0 is never.
    pub(crate) expires: u64,
}

type Item = Arc<Record>;

/// The ordered map. Nodes are never empty, but for the root of an empty tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Arc<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<Item>),
    Inner(Inner),
}

#[derive(Clone, Debug)]
struct Inner {
    /// How many items there are below.
    len: usize,
    /// `bounds[i]` is greater than every key below `children[i]` and at most
    /// every key below `children[i + 1]`.
    bounds: Vec<Bytes>,
    children: Vec<Arc<Node>>,
}

/// The right half of a node that grew too large, and the bound before it.
type Split = Option<(Bytes, Arc<Node>)>;

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Vec::new())),
        }
    }
}

impl Tree {
    /// A tree of items in ascending order; `None` if they are not.
    pub(crate) fn from_sorted(items: impl IntoIterator<Item = Item>) -> Option<Self> {
        let mut nodes: Vec<(Bytes, Arc<Node>)> = Vec::new();
        let mut leaf: Vec<Item> = Vec::with_capacity(MAX);
        let mut items = items.into_iter().peekable();
        while let Some(item) = items.next() {
            let next = items.peek();
            if next.is_some_and(|next| next.entry.key <= item.entry.key) {
                return None;
            }
            leaf.push(item);
            if leaf.len() == MAX || next.is_none() {
                let full = std::mem::replace(&mut leaf, Vec::with_capacity(MAX));
                nodes.push((full[0].entry.key.clone(), Arc::new(Node::Leaf(full))));
            }
        }
        while nodes.len() > 1 {
            let mut level = Vec::with_capacity(nodes.len() / MAX + 1);
            let mut below = nodes.into_iter().peekable();
            while below.peek().is_some() {
                let (keys, children): (Vec<_>, Vec<_>) = below.by_ref().take(MAX).unzip();
                let mut keys = keys.into_iter();
                let first = keys.next()?;
                let node = Inner {
                    len: children.iter().map(|child| child.len()).sum(),
                    bounds: keys.collect(),
                    children,
                };
                level.push((first, Arc::new(Node::Inner(node))));
            }
            nodes = level;
        }
        Some(match nodes.pop() {
            Some((_, root)) => Self { root },
            None => Self::default(),
        })
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.root.len()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Item> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => return find(items, key).ok().map(|at| &items[at]),
                Node::Inner(inner) => node = &inner.children[inner.slot(key)],
            }
        }
    }

    /// Sets a key and returns what it had before.
    pub(crate) fn insert(&mut self, item: Item) -> Option<Item> {
        let (old, split) = insert(&mut self.root, item);
        if let Some((bound, right)) = split {
            let left = std::mem::replace(&mut self.root, Arc::clone(&right));
            self.root = Arc::new(Node::Inner(Inner {
                len: left.len() + right.len(),
                bounds: vec![bound],
                children: vec![left, right],
            }));
        }
        old
    }

    /// Removes a key and returns what it had.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Item> {
        // Without this look an absent key would copy nodes for nothing.
        self.get(key)?;
        let old = remove(&mut self.root, key);
        if let Node::Inner(inner) = &*self.root
            && inner.children.len() == 1
        {
            self.root = Arc::clone(&inner.children[0]);
        }
        old
    }

    /// How many keys are smaller than this one.
    pub(crate) fn rank(&self, key: &[u8]) -> usize {
        let mut before = 0;
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    return before + items.partition_point(|item| item.entry.key < key);
                }
                Node::Inner(inner) => {
                    let slot = inner.slot(key);
                    before += inner.children[..slot]
                        .iter()
                        .map(|c| c.len())
                        .sum::<usize>();
                    node = &inner.children[slot];
                }
            }
        }
    }

    /// How many keys are smaller than every key that sorts after the prefix's
    /// own: the rank of the end of the prefix's range.
    pub(crate) fn rank_of_end(&self, prefix: &[u8]) -> usize {
        match prefix_end(prefix) {
            Some(end) => self.rank(&end),
            None => self.len(),
        }
    }

    /// Iterates in ascending order from the first key that is not smaller.
    pub(crate) fn range_from(&self, key: &[u8]) -> Iter<'_> {
        let mut inner = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    let at = items.partition_point(|item| item.entry.key < key);
                    return Iter {
                        inner,
                        leaf: items[at..].iter(),
                    };
                }
                Node::Inner(next) => {
                    let slot = next.slot(key);
                    inner.push(next.children[slot + 1..].iter());
                    node = &next.children[slot];
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_> {
        self.range_from(&[])
    }
}

/// Ascending iterator over a tree.
#[derive(Debug)]
pub(crate) struct Iter<'a> {
    inner: Vec<std::slice::Iter<'a, Arc<Node>>>,
    leaf: std::slice::Iter<'a, Item>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Item;

    fn next(&mut self) -> Option<&'a Item> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            let mut node = loop {
                match self.inner.last_mut()?.next() {
                    Some(node) => break node,
                    None => self.inner.pop(),
                };
            };
            self.leaf = loop {
                match &**node {
                    Node::Leaf(items) => break items.iter(),
                    Node::Inner(inner) => {
                        let mut children = inner.children.iter();
                        node = children.next().expect("an inner node has children");
                        self.inner.push(children);
                    }
                }
            };
        }
    }
}

/// The smallest key that is greater than every key with this prefix, if there is one.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn find(items: &[Item], key: &[u8]) -> Result<usize, usize> {
    items.binary_search_by(|item| (*item.entry.key).cmp(key))
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(inner) => inner.len,
        }
    }

    /// How full the node is: its items, or its children.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }
}

impl Inner {
    /// The child below which the key belongs.
    fn slot(&self, key: &[u8]) -> usize {
        self.bounds.partition_point(|bound| **bound <= *key)
    }

    /// Merges or evens out the child with a neighbour, if it is too empty.
    fn settle(&mut self, slot: usize) {
        if self.children[slot].width() >= MIN || self.children.len() == 1 {
            return;
        }
        let left = slot.saturating_sub(1);
        let right = self.children.remove(left + 1);
        let bound = self.bounds.remove(left);
        let right = Arc::unwrap_or_clone(right);
        if let Some((bound, right)) = join(Arc::make_mut(&mut self.children[left]), bound, right) {
            self.bounds.insert(left, bound);
            self.children.insert(left + 1, right);
        }
    }
}

fn insert(node: &mut Arc<Node>, item: Item) -> (Option<Item>, Split) {
    match Arc::make_mut(node) {
        Node::Leaf(items) => match find(items, &item.entry.key) {
            Ok(at) => (Some(std::mem::replace(&mut items[at], item)), None),
            Err(at) => {
                if items.len() < MAX {
                    items.insert(at, item);
                    return (None, None);
                }
                // Keys that arrive in order leave full leaves behind.
                let middle = if at == MAX { MAX } else { MAX / 2 };
                let mut right = items.split_off(middle);
                if at <= middle && middle < MAX {
                    items.insert(at, item);
                } else {
                    right.insert(at - middle, item);
                }
                let bound = right[0].entry.key.clone();
                (None, Some((bound, Arc::new(Node::Leaf(right)))))
            }
        },
        Node::Inner(inner) => {
            let slot = inner.slot(&item.entry.key);
            let (old, split) = insert(&mut inner.children[slot], item);
            inner.len += usize::from(old.is_none());
            let Some((bound, right)) = split else {
                return (old, None);
            };
            inner.bounds.insert(slot, bound);
            inner.children.insert(slot + 1, right);
            let width = inner.children.len();
            if width <= MAX {
                return (old, None);
            }
            let middle = if slot + 2 == width {
                width - 1
            } else {
                width / 2
            };
            (old, Some(inner.split(middle)))
        }
    }
}

impl Inner {
    /// Splits off the children from `middle` on.
    fn split(&mut self, middle: usize) -> (Bytes, Arc<Node>) {
        let children = self.children.split_off(middle);
        let bounds = self.bounds.split_off(middle);
        let bound = self.bounds.pop().expect("a bound lies before the middle");
        let len = children.iter().map(|child| child.len()).sum();
        self.len -= len;
        let right = Self {
            len,
            bounds,
            children,
        };
        (bound, Arc::new(Node::Inner(right)))
    }
}

fn remove(node: &mut Arc<Node>, key: &[u8]) -> Option<Item> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => find(items, key).ok().map(|at| items.remove(at)),
        Node::Inner(inner) => {
            let slot = inner.slot(key);
            let old = remove(&mut inner.children[slot], key)?;
            inner.len -= 1;
            inner.settle(slot);
            Some(old)
        }
    }
}

/// Appends the right node to the left one, and splits evenly if that is too much.
fn join(left: &mut Node, bound: Bytes, right: Node) -> Split {
    match (left, right) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            left.extend(right);
            if left.len() <= MAX {
                return None;
            }
            let right = left.split_off(left.len() / 2);
            Some((right[0].entry.key.clone(), Arc::new(Node::Leaf(right))))
        }
        (Node::Inner(left), Node::Inner(right)) => {
            left.len += right.len;
            left.bounds.push(bound);
            left.bounds.extend(right.bounds);
            left.children.extend(right.children);
            let width = left.children.len();
            (width > MAX).then(|| left.split(width / 2))
        }
        _ => unreachable!("neighbours are equally deep"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Revision;

    fn item(key: &[u8], revision: u64) -> Item {
        Arc::new(Record {
            entry: Entry {
                key: Bytes::copy_from_slice(key),
                value: Bytes::new(),
                created: Revision(revision),
                modified: Revision(revision),
            },
            expires: 0,
        })
    }

    fn check(node: &Node, root: bool) -> (usize, usize) {
        if !root {
            assert!(node.width() > 0, "no empty nodes");
        }
        assert!(node.width() <= MAX, "no overfull nodes");
        match node {
            Node::Leaf(items) => (items.len(), 1),
            Node::Inner(inner) => {
                assert_eq!(inner.bounds.len() + 1, inner.children.len());
                let below: Vec<_> = inner.children.iter().map(|c| check(c, false)).collect();
                let len = below.iter().map(|(len, _)| len).sum();
                assert_eq!(len, inner.len, "sizes add up");
                assert!(below.iter().all(|(_, depth)| *depth == below[0].1));
                (len, below[0].1 + 1)
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Vec<u8>),
        Remove(Vec<u8>),
        Snapshot,
    }

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 0xff]), 1..5),
            (0u32..2000).prop_map(|n| format!("k{n:05}").into_bytes()),
        ]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => keys().prop_map(Step::Insert),
            4 => keys().prop_map(Step::Remove),
            1 => Just(Step::Snapshot),
        ];
        prop::collection::vec(step, 0..1500)
    }

    fn same(tree: &Tree, model: &BTreeMap<Vec<u8>, u64>) {
        check(&tree.root, true);
        assert_eq!(tree.len(), model.len());
        let ours: Vec<_> = tree
            .iter()
            .map(|i| (i.entry.key.to_vec(), i.entry.modified.0))
            .collect();
        let theirs: Vec<_> = model.iter().map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(ours, theirs);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn behaves_as_an_ordered_map_and_leaves_snapshots_alone(
            steps in steps(),
            probes in prop::collection::vec(keys(), 10),
        ) {
            let mut tree = Tree::default();
            let mut model = BTreeMap::new();
            let mut snapshots = Vec::new();
            for (n, step) in (1..).zip(steps) {
                match step {
                    Step::Insert(key) => {
                        let old = tree.insert(item(&key, n)).map(|i| i.entry.modified.0);
                        prop_assert_eq!(old, model.insert(key, n));
                    }
                    Step::Remove(key) => {
                        let old = tree.remove(&key).map(|i| i.entry.modified.0);
                        prop_assert_eq!(old, model.remove(&key));
                    }
                    Step::Snapshot => snapshots.push((tree.clone(), model.clone())),
                }
            }
            snapshots.push((tree, model));
            for (tree, model) in &snapshots {
                same(tree, model);
                for probe in &probes {
                    prop_assert_eq!(tree.get(probe).map(|i| i.entry.modified.0), model.get(probe).copied());
                    prop_assert_eq!(tree.rank(probe), model.range(..probe.clone()).count());
                    let with = model.keys().filter(|k| k.starts_with(probe)).count();
                    prop_assert_eq!(tree.rank_of_end(probe) - tree.rank(probe), with);
                    let from: Vec<_> = tree.range_from(probe).map(|i| i.entry.key.to_vec()).collect();
                    let theirs: Vec<_> = model.range(probe.clone()..).map(|(k, _)| k.clone()).collect();
                    prop_assert_eq!(from, theirs);
                }
            }
        }
    }

    #[test]
    fn is_made_of_sorted_items_and_of_no_others() {
        for count in [0, 1, 31, 32, 33, 1024, 1025, 40_000] {
            let items = (0..count).map(|n: u32| item(&n.to_be_bytes(), 1));
            let mut tree = Tree::from_sorted(items).unwrap();
            check(&tree.root, true);
            assert_eq!(
                (tree.len(), tree.iter().count()),
                (count as usize, count as usize)
            );
            for n in 0..count {
                assert!(tree.remove(&n.to_be_bytes()).is_some());
            }
            assert_eq!(tree.len(), 0);
        }
        for keys in [["b", "a"], ["a", "a"]] {
            let items = keys.map(|key| item(key.as_bytes(), 1));
            assert!(Tree::from_sorted(items).is_none());
        }
    }

    #[test]
    fn survives_emptying_a_large_tree() {
        let mut tree = Tree::default();
        for n in 0..20_000u32 {
            tree.insert(item(&n.to_be_bytes(), 1));
        }
        check(&tree.root, true);
        let kept = tree.clone();
        for n in (0..20_000u32).rev() {
            assert!(tree.remove(&n.to_be_bytes()).is_some());
        }
        assert_eq!((tree.len(), kept.len()), (0, 20_000));
        check(&kept.root, true);
    }
}
