//! A commit as one of etcd's transactions.

use bytes::Bytes;

use super::{
    keys::Keys,
    proto::{
        Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, Request, RequestOp,
        Response, Target, TxnRequest, TxnResponse,
    },
};
use crate::{Committed, Entry, Error, Expect, Op, Revision, Write};

const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const VERSION: i32 = 0;
const MODIFIED: i32 = 2;

/// The transaction that does what the writes say; `leases` has one for each put
/// with a time to live, in order.
pub(super) fn encode(keys: &Keys, writes: &[Write], leases: &[i64]) -> TxnRequest {
    let mut txn = TxnRequest::default();
    let mut leases = leases.iter().copied();
    // Whether the writes take a revision by themselves.
    let mut counts = false;
    for write in writes {
        let key = keys.own(&write.key);
        guard(&mut txn, &key, write.expect);
        let request = match &write.op {
            Op::Put { value, ttl } => {
                counts = true;
                Request::Put(PutRequest {
                    key,
                    value: value.to_vec(),
                    lease: ttl.and_then(|_| leases.next()).unwrap_or_default(),
                    prev_kv: true,
                })
            }
            Op::Delete => {
                counts |= matches!(write.expect, Expect::Present | Expect::Modified(_));
                Request::Delete(DeleteRangeRequest { key, prev_kv: true })
            }
            Op::Check => get(key),
        };
        txn.success.push(op(request));
    }
    if !counts {
        txn.success.push(op(Request::Put(PutRequest {
            key: keys.tick(),
            ..PutRequest::default()
        })));
    }
    txn
}

fn guard(txn: &mut TxnRequest, key: &[u8], expect: Expect) {
    let mut compare = |result, target, with| {
        txn.compare.push(Compare {
            result,
            target,
            key: key.to_vec(),
            with: Some(with),
        });
    };
    match expect {
        Expect::Any => return,
        Expect::Absent => compare(EQUAL, VERSION, Target::Version(0)),
        Expect::Present => compare(GREATER, VERSION, Target::Version(0)),
        // An absent key has the revision 0.
        Expect::Modified(Revision(0)) => compare(EQUAL, MODIFIED, Target::Modified(-1)),
        Expect::Modified(revision) => {
            compare(EQUAL, MODIFIED, Target::Modified(number(revision)));
        }
    }
    txn.failure.push(op(get(key.to_vec())));
}

fn get(key: Vec<u8>) -> Request {
    Request::Range(RangeRequest {
        key,
        ..RangeRequest::default()
    })
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// What etcd's answer says of the writes.
pub(super) fn decode(
    keys: &Keys,
    writes: &[Write],
    answer: TxnResponse,
) -> Result<Committed, Error> {
    let revision = answer.header.unwrap_or_default().revision;
    let mut found = answer.responses.into_iter().map(|answer| {
        let kv = match answer.response {
            Some(Response::Range(range)) => range.kvs.into_iter().next(),
            Some(Response::Put(put)) => put.prev_kv,
            Some(Response::Delete(delete)) => delete.prev_kvs.into_iter().next(),
            None => None,
        };
        kv.and_then(|kv| entry(keys, kv))
    });
    if answer.succeeded {
        let mut previous: Vec<_> = found.by_ref().take(writes.len()).collect();
        previous.resize(writes.len(), None);
        return Ok(Committed {
            revision: unsigned(revision),
            previous,
        });
    }
    for write in writes.iter().filter(|write| write.expect != Expect::Any) {
        let actual = found.next().flatten();
        let holds = match write.expect {
            Expect::Any => true,
            Expect::Absent => actual.is_none(),
            Expect::Present => actual.is_some(),
            Expect::Modified(at) => actual.as_ref().is_some_and(|entry| entry.modified == at),
        };
        if !holds {
            return Err(Error::Conflict {
                key: write.key[..].into(),
                expected: write.expect,
                actual,
            });
        }
    }
    Err(super::fault::error(tonic::Status::internal(
        "etcd refused a transaction all of whose guards hold",
    )))
}

/// One of etcd's entries as the store's.
pub(super) fn entry(keys: &Keys, kv: KeyValue) -> Option<Entry> {
    Some(Entry {
        key: keys.strip(kv.key)?,
        value: Bytes::from(kv.value),
        created: unsigned(kv.create_revision),
        modified: unsigned(kv.mod_revision),
    })
}

/// etcd's numbers are signed.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}
