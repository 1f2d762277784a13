//! A persistent ordered map: a B+tree of shared nodes.
//!
//! Cloning the tree is O(1). A write copies only those nodes on its path that
//! another clone still holds, and changes the others in place.

use std::sync::Arc;

use bytes::Bytes;

use super::heads::Heads;
use crate::Entry;

/// The most items in a leaf, and the most children of an inner node.
pub(crate) const MAX: usize = 32;
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
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Clone, Debug, Default)]
struct Leaf {
    /// Of the items' keys.
    heads: Heads,
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
struct Inner {
    /// How many items there are below.
    len: usize,
    /// Of the bounds.
    heads: Heads,
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
            root: Arc::new(Node::Leaf(Leaf::default())),
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
                nodes.push((full[0].entry.key.clone(), Leaf::of(full)));
            }
        }
        while nodes.len() > 1 {
            let mut level = Vec::with_capacity(nodes.len() / MAX + 1);
            let mut below = nodes.into_iter().peekable();
            while below.peek().is_some() {
                let (keys, children): (Vec<_>, Vec<_>) = below.by_ref().take(MAX).unzip();
                let mut keys = keys.into_iter();
                let first = keys.next()?;
                level.push((first, Inner::of(keys.collect(), children)));
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
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.items[at]),
                Node::Inner(inner) => node = &inner.children[inner.slot(key)],
            }
        }
    }

    /// Sets a key and returns what it had before.
    pub(crate) fn insert(&mut self, item: Item) -> Option<Item> {
        let (old, split) = insert(&mut self.root, item);
        if let Some((bound, right)) = split {
            let left = std::mem::replace(&mut self.root, Arc::clone(&right));
            self.root = Inner::of(vec![bound], vec![left, right]);
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
                Node::Leaf(leaf) => return before + leaf.not_less(key),
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

    /// Whether a key has the prefix.
    pub(crate) fn has(&self, prefix: &[u8]) -> bool {
        let (mut node, mut right) = (&*self.root, None);
        let leaf = loop {
            match node {
                Node::Leaf(leaf) => break leaf,
                Node::Inner(inner) => {
                    let slot = inner.slot(prefix);
                    right = inner.children.get(slot + 1).or(right);
                    node = &inner.children[slot];
                }
            }
        };
        // The first key that is not smaller: in this leaf, or the next.
        let next = leaf.items.get(leaf.not_less(prefix));
        let next = next.or_else(|| right.and_then(|node: &Arc<Node>| node.first()));
        next.is_some_and(|item| item.entry.key.starts_with(prefix))
    }

    /// How many keys have the prefix.
    pub(crate) fn count(&self, prefix: &[u8]) -> usize {
        self.rank_of_end(prefix).saturating_sub(self.rank(prefix))
    }

    /// Iterates in ascending order from the first key that is not smaller.
    pub(crate) fn range_from(&self, key: &[u8]) -> Iter<'_> {
        let mut inner = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    return Iter {
                        inner,
                        leaf: leaf.items[leaf.not_less(key)..].iter(),
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
                    Node::Leaf(leaf) => break leaf.items.iter(),
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

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.items.len(),
            Self::Inner(inner) => inner.len,
        }
    }

    /// The item with the smallest key.
    fn first(&self) -> Option<&Item> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf.items.first(),
                Self::Inner(inner) => node = inner.children.first()?,
            }
        }
    }

    /// How full the node is: its items, or its children.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.items.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }
}

impl Leaf {
    fn of(items: Vec<Item>) -> Arc<Node> {
        let mut leaf = Self {
            heads: Heads::default(),
            items,
        };
        leaf.index();
        Arc::new(Node::Leaf(leaf))
    }

    /// Makes the heads anew.
    fn index(&mut self) {
        self.heads = Heads::of(self.items.iter().map(|item| &item.entry.key));
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.find(key, |at| &self.items[at].entry.key)
    }

    /// The place of the first item that is not less than a key.
    fn not_less(&self, key: &[u8]) -> usize {
        self.find(key).unwrap_or_else(|at| at)
    }

    fn insert(&mut self, at: usize, item: Item) {
        let fits = self.heads.insert(at, &item.entry.key);
        self.items.insert(at, item);
        if !fits {
            self.index();
        }
    }

    /// Sets a key; the right half if there was no room for it.
    fn set(&mut self, item: Item) -> (Option<Item>, Split) {
        let at = match self.find(&item.entry.key) {
            Ok(at) => return (Some(std::mem::replace(&mut self.items[at], item)), None),
            Err(at) => at,
        };
        if self.items.len() < MAX {
            self.insert(at, item);
            return (None, None);
        }
        // Keys that arrive in order leave full leaves behind.
        let middle = if at == MAX { MAX } else { MAX / 2 };
        let mut right = self.items.split_off(middle);
        if at <= middle && middle < MAX {
            self.items.insert(at, item);
        } else {
            right.insert(at - middle, item);
        }
        if middle < MAX {
            self.index();
        }
        let bound = right[0].entry.key.clone();
        (None, Some((bound, Self::of(right))))
    }
}

impl Inner {
    fn of(bounds: Vec<Bytes>, children: Vec<Arc<Node>>) -> Arc<Node> {
        Arc::new(Node::Inner(Self {
            len: children.iter().map(|child| child.len()).sum(),
            heads: Heads::of(bounds.iter()),
            bounds,
            children,
        }))
    }

    /// The child below which the key belongs.
    fn slot(&self, key: &[u8]) -> usize {
        let found = self.heads.find(key, |at| &self.bounds[at]);
        found.map_or_else(|at| at, |at| at + 1)
    }

    /// Puts a child, and the bound before it, behind the child at a place.
    fn insert(&mut self, slot: usize, (bound, right): (Bytes, Arc<Node>)) {
        let fits = self.heads.insert(slot, &bound);
        self.bounds.insert(slot, bound);
        self.children.insert(slot + 1, right);
        if !fits {
            self.index();
        }
    }

    /// Makes the heads anew.
    fn index(&mut self) {
        self.heads = Heads::of(self.bounds.iter());
    }

    /// Merges or evens out the child with a neighbour, if it is too empty.
    fn settle(&mut self, slot: usize) {
        if self.children[slot].width() >= MIN || self.children.len() == 1 {
            return;
        }
        let left = slot.saturating_sub(1);
        let right = self.children.remove(left + 1);
        let bound = self.bounds.remove(left);
        self.heads.remove(left);
        let right = Arc::unwrap_or_clone(right);
        if let Some(split) = join(Arc::make_mut(&mut self.children[left]), bound, right) {
            self.insert(left, split);
        }
    }
}

fn insert(node: &mut Arc<Node>, item: Item) -> (Option<Item>, Split) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => leaf.set(item),
        Node::Inner(inner) => {
            let slot = inner.slot(&item.entry.key);
            let (old, split) = insert(&mut inner.children[slot], item);
            inner.len += usize::from(old.is_none());
            let Some(split) = split else {
                return (old, None);
            };
            inner.insert(slot, split);
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
        let right = Self::of(bounds, children);
        self.len -= right.len();
        self.index();
        (bound, right)
    }
}

fn remove(node: &mut Arc<Node>, key: &[u8]) -> Option<Item> {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let at = leaf.find(key).ok()?;
            leaf.heads.remove(at);
            Some(leaf.items.remove(at))
        }
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
            left.items.extend(right.items);
            let right = (left.items.len() > MAX).then(|| {
                let right = left.items.split_off(left.items.len() / 2);
                (right[0].entry.key.clone(), Leaf::of(right))
            });
            left.index();
            right
        }
        (Node::Inner(left), Node::Inner(right)) => {
            left.len += right.len;
            left.bounds.push(bound);
            left.bounds.extend(right.bounds);
            left.children.extend(right.children);
            let width = left.children.len();
            if width > MAX {
                return Some(left.split(width / 2));
            }
            left.index();
            None
        }
        _ => unreachable!("neighbours are equally deep"),
    }
}

#[cfg(test)]
mod tests;
