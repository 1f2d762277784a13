//! What etcd's errors, and those on the way to it, mean.

use std::{error::Error as _, fmt, io, sync::Arc};

use tonic::{Code, ConnectError, Status};

use crate::Error;

/// What an answer that is none means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It did not happen, and may well succeed if asked again, elsewhere perhaps.
    NotDone,
    /// It may have happened.
    Unknown,
    /// The token is out of date: authenticate again. It did not happen.
    Token,
    /// The revision is compacted.
    Compacted,
    /// The revision has not happened.
    Future,
    /// The lease is gone. It did not happen.
    Lease,
    /// It will not happen, however often it is asked.
    Final,
}

/// Judges by etcd's texts: it gives many errors the same code.
pub(super) fn fault(status: &Status) -> Fault {
    let text = status.message();
    let has = |part: &str| text.contains(part);
    if not_sent(status) || has("no leader") || has("too many requests") || has("not leader") {
        return Fault::NotDone;
    }
    if has("has been compacted") {
        return Fault::Compacted;
    }
    if has("future revision") {
        return Fault::Future;
    }
    if has("requested lease not found") {
        return Fault::Lease;
    }
    if has("invalid auth token")
        || has("revision of auth store is old")
        || has("user name is empty")
    {
        return Fault::Token;
    }
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::NotFound => Fault::Final,
        _ => Fault::Unknown,
    }
}

/// Whether there never was a connection.
fn not_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The error that the caller gets when all tries are used up.
pub(super) fn error(status: Status) -> Error {
    let text = status.message();
    if text.contains("database space exceeded") {
        let source = io::Error::new(io::ErrorKind::StorageFull, status);
        return Error::ReadOnly {
            source: Arc::new(source),
        };
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => Error::Denied {
            detail: text.to_owned(),
        },
        Code::InvalidArgument
            if text.contains("authentication failed") || text.contains("user name is empty") =>
        {
            Error::Denied {
                detail: text.to_owned(),
            }
        }
        _ => Error::Unavailable {
            source: Arc::new(Answer(status)),
        },
    }
}

/// What was heard last, in etcd's own words where they are its own.
#[derive(Debug)]
struct Answer(Status);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        if status.message().starts_with("etcdserver: ") {
            return f.write_str(status.message());
        }
        write!(
            f,
            "rpc error: code = {:?} desc = {}",
            status.code(),
            status.message()
        )
    }
}

impl std::error::Error for Answer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_decides_whether_a_commit_may_be_sent_again() {
        for (status, means) in [
            (Status::unavailable("etcdserver: no leader"), Fault::NotDone),
            (
                Status::unavailable("etcdserver: leader changed"),
                Fault::Unknown,
            ),
            (
                Status::unavailable("etcdserver: request timed out"),
                Fault::Unknown,
            ),
            (Status::unavailable("transport error"), Fault::Unknown),
            (
                Status::unauthenticated("etcdserver: invalid auth token"),
                Fault::Token,
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
                Fault::Compacted,
            ),
            (
                Status::permission_denied("etcdserver: permission denied"),
                Fault::Final,
            ),
            (
                Status::not_found("etcdserver: requested lease not found"),
                Fault::Lease,
            ),
        ] {
            assert_eq!(fault(&status), means, "{status}");
        }
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        assert!(matches!(error(full), Error::ReadOnly { .. }));
        for (status, text) in [
            (
                Status::unavailable("etcdserver: request timed out"),
                "etcdserver: request timed out",
            ),
            (
                Status::unavailable("transport error"),
                "rpc error: code = Unavailable desc = transport error",
            ),
        ] {
            match error(status) {
                Error::Unavailable { source } => assert_eq!(source.to_string(), text),
                other => panic!("{other}"),
            }
        }
        let denied = Status::permission_denied("etcdserver: permission denied");
        assert!(matches!(error(denied), Error::Denied { .. }));
    }
}
