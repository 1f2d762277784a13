//! Where the store's keys lie among etcd's.

use bytes::Bytes;

use crate::Error;

/// The store's part of the key space ends here: behind it lies only the tick.
const END: [u8; 32] = [0xff; 32];

/// The keys of the store: each is the root, then the key.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    root: Bytes,
}

impl Keys {
    pub(super) fn below(root: Bytes) -> Self {
        Self { root }
    }

    /// A key that no store key is: writing it takes a revision and changes
    /// nothing that anybody sees.
    pub(super) fn tick(&self) -> Vec<u8> {
        self.own(&END)
    }

    /// etcd's name of a key.
    pub(super) fn own(&self, key: &[u8]) -> Vec<u8> {
        [&self.root[..], key].concat()
    }

    /// The store's name of one of etcd's keys; `None` for others' and the tick.
    pub(super) fn strip(&self, mut key: Vec<u8>) -> Option<Bytes> {
        if !key.starts_with(&self.root) || key[self.root.len()..] >= END[..] {
            return None;
        }
        if self.root.is_empty() {
            return Some(key.into());
        }
        key.drain(..self.root.len());
        Some(key.into())
    }

    /// Rejects keys that lie behind the end.
    pub(super) fn check(key: &[u8]) -> Result<(), Error> {
        if key >= &END[..] {
            return Err(Error::ReservedKey { key: key.into() });
        }
        Ok(())
    }

    /// etcd's range of the keys below a prefix that come after a key.
    pub(super) fn range(&self, prefix: &[u8], after: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let start = match after {
            // The smallest key greater than `after` is `after` and a zero byte.
            Some(after) if after >= prefix => [&self.root[..], after, &[0]].concat(),
            _ => self.own(prefix),
        };
        // etcd takes the empty key for a mistake.
        let start = if start.is_empty() { vec![0] } else { start };
        let end = match prefix.iter().rposition(|byte| *byte != 0xff) {
            Some(last) => {
                let mut end = self.own(&prefix[..=last]);
                if let Some(byte) = end.last_mut() {
                    *byte += 1;
                }
                end
            }
            None => self.tick(),
        };
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_lies_below_its_prefix_and_never_the_tick() {
        for root in [&b""[..], b"/root/", b"\xff"] {
            let keys = Keys::below(Bytes::from_static(root));
            let all = [
                &b"\0"[..],
                b"a",
                b"a/1",
                b"a/\xff",
                b"b",
                b"\xff",
                b"\xff\xff",
            ];
            for prefix in [&b""[..], b"a", b"a/", b"\xff", b"\xff\xff", b"c"] {
                let (start, end) = keys.range(prefix, None);
                for key in all {
                    let own = keys.own(key);
                    let inside = start <= own && own < end;
                    assert_eq!(inside, key.starts_with(prefix), "{key:?} below {prefix:?}");
                    assert_eq!(keys.strip(own).as_deref(), Some(key));
                }
                assert!(keys.tick() >= end);
            }
            assert_eq!(keys.strip(keys.tick()), None);
            let (start, _) = keys.range(b"a", Some(b"a/1"));
            assert!(keys.own(b"a/1") < start && start <= keys.own(b"a/1\0"));
        }
    }

    #[test]
    fn keys_of_others_are_none_of_ours() {
        let keys = Keys::below(Bytes::from_static(b"/root/"));
        assert_eq!(keys.strip(b"/other/a".to_vec()), None);
        assert!(Keys::check(&[0xff; 33]).is_err());
        assert!(Keys::check(&[0xff; 31]).is_ok());
    }
}
