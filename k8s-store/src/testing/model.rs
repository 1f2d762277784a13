//! The store against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Random, Subject, delete, put, value, watch, write};
use crate::{Error, Expect, List, Op, Revision};

type Data = BTreeMap<Bytes, (Bytes, Revision, Revision)>;

/// The data at every revision, the first one being 1.
struct Model(Vec<Data>);

impl Model {
    fn commit(&mut self, batch: &[crate::Write]) -> Option<Revision> {
        let mut data = self.0.last().cloned().unwrap_or_default();
        let at = Revision(self.0.len() as u64 + 1);
        let holds = batch.iter().all(|write| {
            let found = data.get(&write.key);
            match write.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::Modified(at) => found.is_some_and(|(.., modified)| *modified == at),
            }
        });
        if !holds {
            return None;
        }
        for write in batch {
            match &write.op {
                Op::Put { value, .. } => {
                    let created = data.get(&write.key).map_or(at, |found| found.1);
                    data.insert(write.key.clone(), (value.clone(), created, at));
                }
                Op::Delete => {
                    data.remove(&write.key);
                }
                Op::Check => {}
            }
        }
        self.0.push(data);
        Some(at)
    }
}

fn batch(random: &mut Random, revision: Revision) -> Vec<crate::Write> {
    let mut batch: BTreeMap<String, crate::Write> = BTreeMap::new();
    for _ in 0..random.below(4) {
        let key = format!("{}/{}", ["a", "b", "ab"][random.below(3)], random.below(12));
        let expect = match random.below(8) {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 => Expect::Modified(Revision(revision.0 - random.below(10).min(1) as u64)),
            _ => Expect::Any,
        };
        let write = match random.below(6) {
            0 => write(key.clone(), expect, Op::Check),
            1 | 2 => crate::Write {
                expect,
                ..delete(key.clone())
            },
            3 => put(key.clone(), ""),
            _ => write(key.clone(), expect, value(revision.to_string())),
        };
        batch.insert(key, write);
    }
    batch.into_values().collect()
}

/// Random batches have the outcome, random reads the answer, and watches the
/// changes that a list of ordered maps has.
pub async fn random_commits_match_a_simple_model(store: Subject) {
    let mut random = Random::new(0x5eed);
    let mut model = Model(vec![Data::default()]);
    for _ in 0..1500 {
        let writes = batch(&mut random, Revision(model.0.len() as u64));
        let expected = model.commit(&writes);
        match store.commit(writes).await {
            Ok(done) => assert_eq!(Some(done.revision), expected),
            Err(Error::Conflict { .. }) => assert_eq!(expected, None),
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..500 {
        let at = random.below(model.0.len());
        let list = List {
            prefix: ["", "a", "a/", "ab/1", "b/", "c"][random.below(6)].into(),
            after: (random.below(2) == 0).then(|| format!("a/{}", random.below(12)).into()),
            at: Some(Revision(at as u64 + 1)),
            limit: (random.below(2) == 0).then(|| random.below(10)),
        };
        let mut expected: Vec<_> = model.0[at]
            .iter()
            .filter(|(key, _)| key.starts_with(&list.prefix))
            .filter(|(key, _)| list.after.as_ref().is_none_or(|after| *key > after))
            .collect();
        let count = expected.len().min(list.limit.unwrap_or(usize::MAX));
        let remaining = expected.split_off(count).len();
        let page = store.list(list).await.expect("the revision is kept");
        assert_eq!((page.entries.len(), page.remaining), (count, remaining));
        for (entry, (key, (value, created, modified))) in page.entries.iter().zip(expected) {
            assert_eq!((&entry.key, &entry.value), (key, value));
            assert_eq!((entry.created, entry.modified), (*created, *modified));
        }
    }
    // Applying what a watch yields to the data it began with leads to the end.
    for from in [0, model.0.len() / 2] {
        let mut data = model.0[from].clone();
        let mut seen = watch(&store, "", Revision(from as u64 + 1)).await;
        for (index, next) in model.0.iter().enumerate().skip(from + 1) {
            if *next == data {
                continue;
            }
            let (revision, changes) = seen.next().await;
            assert_eq!(revision, Revision(index as u64 + 1));
            for change in changes.iter() {
                let before = data.get(&change.key).map(|found| found.2);
                assert_eq!(change.previous.as_ref().map(|e| e.modified), before);
                match &change.current {
                    Some(entry) => {
                        let found = (entry.value.clone(), entry.created, entry.modified);
                        data.insert(change.key.clone(), found);
                    }
                    None => {
                        data.remove(&change.key);
                    }
                }
            }
            assert_eq!(data, *next);
        }
    }
}
