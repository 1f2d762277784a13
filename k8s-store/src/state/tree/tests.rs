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
        Node::Leaf(leaf) => {
            for (at, item) in leaf.items.iter().enumerate() {
                assert_eq!(leaf.find(&item.entry.key), Ok(at));
            }
            (leaf.items.len(), 1)
        }
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
                prop_assert_eq!((tree.count(probe), tree.has(probe)), (with, with > 0));
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
