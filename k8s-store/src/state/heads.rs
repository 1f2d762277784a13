//! The keys of a node in short, to be searched without looking at the keys
//! themselves, each of which is a cache miss or two in a large tree.

use bytes::Bytes;

use super::tree::MAX;

/// For some keys in ascending order, what all of them begin with, and of each
/// the eight bytes behind that.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    common: Bytes,
    len: usize,
    /// Big-endian numbers, filled up with zeros. A node has one key too many for
    /// a moment, before it is split.
    heads: [u64; MAX + 1],
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            common: Bytes::new(),
            len: 0,
            heads: [0; MAX + 1],
        }
    }
}

/// The first eight bytes as a number. Numbers that differ are in the order of
/// what they were made of; equal ones say nothing.
fn head(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(whole) => u64::from_be_bytes(*whole),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

impl Heads {
    /// The heads of keys in ascending order.
    pub(crate) fn of<'a>(keys: impl DoubleEndedIterator<Item = &'a Bytes> + Clone) -> Self {
        let mut new = Self::default();
        let mut ends = keys.clone();
        if let Some(first) = ends.next() {
            let last = ends.next_back().unwrap_or(first);
            let same = first.iter().zip(last).take_while(|(a, b)| a == b).count();
            new.common = first.slice(..same);
            for key in keys {
                new.heads[new.len] = head(&key[same..]);
                new.len += 1;
            }
        }
        new
    }

    /// Where a key is, or where it belongs. `key_at` has the keys.
    pub(crate) fn find<'a>(
        &self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'a [u8],
    ) -> Result<usize, usize> {
        let Some(rest) = key.strip_prefix(&*self.common) else {
            // All keys lie on the same side of it.
            return Err(if *key < *self.common { 0 } else { self.len });
        };
        let head = head(rest);
        let heads = &self.heads[..self.len];
        let from = heads.partition_point(|other| *other < head);
        let mut same = from..from + heads[from..].partition_point(|other| *other == head);
        while !same.is_empty() {
            let middle = same.start + same.len() / 2;
            match key_at(middle).cmp(key) {
                std::cmp::Ordering::Less => same.start = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => same.end = middle,
            }
        }
        Err(same.start)
    }

    /// Takes note of a key that was put at a place. Returns `false` if the heads
    /// have to be made anew.
    #[must_use]
    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(&*self.common) else {
            return false;
        };
        self.heads.copy_within(at..self.len, at + 1);
        self.heads[at] = head(rest);
        self.len += 1;
        true
    }

    /// Takes note of a key that was removed.
    pub(crate) fn remove(&mut self, at: usize) {
        self.heads.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Vec<Bytes>> {
        let byte = prop::sample::select(vec![0, 1, b'a', b'b', 0xff]);
        let tail = prop::collection::vec(byte.clone(), 0..12);
        let keys = prop::collection::btree_set(tail, 0..MAX);
        (prop::collection::vec(byte, 0..3), keys).prop_map(|(start, keys)| {
            let whole = keys.into_iter().map(|key| [start.clone(), key].concat());
            whole.map(Bytes::from).collect()
        })
    }

    fn same(heads: &Heads, keys: &[Bytes], probe: &[u8]) {
        let found = heads.find(probe, |at| &keys[at]);
        assert_eq!(found, keys.binary_search_by(|key| (**key).cmp(probe)));
    }

    proptest! {
        #[test]
        fn keys_are_found_where_they_are(keys in keys(), others in keys()) {
            let heads = Heads::of(keys.iter());
            for probe in keys.iter().chain(&others) {
                same(&heads, &keys, probe);
            }
        }

        #[test]
        fn keys_come_and_go(keys in keys(), others in keys()) {
            let mut now = keys;
            let mut heads = Heads::of(now.iter());
            for key in &others {
                match heads.find(key, |at| &now[at]) {
                    Ok(at) => {
                        now.remove(at);
                        heads.remove(at);
                    }
                    Err(at) if now.len() <= MAX => {
                        now.insert(at, key.clone());
                        if !heads.insert(at, key) {
                            heads = Heads::of(now.iter());
                        }
                    }
                    Err(_) => {}
                }
                for probe in now.iter().chain(&others) {
                    same(&heads, &now, probe);
                }
            }
        }
    }
}
