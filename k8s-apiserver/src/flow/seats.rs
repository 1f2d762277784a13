//! How many seats a request takes, and how long it keeps them.

use std::time::Duration;

use crate::http::{RequestInfo, uri};

/// The most seats that a request takes, of any level.
pub(super) const MOST: u32 = 10;
/// Upstream takes a seat to read so many objects.
const OBJECTS_PER_SEAT: usize = 100;
/// What telling one watcher of a change costs. Upstream reckons with half a millisecond; here a change is encoded once
/// for all of them.
const PER_WATCHER: Duration = Duration::from_micros(5);
/// What is shorter is not worth a timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// How many seats a request takes that is for a resource of which `stored` objects are there. A level
/// may give it fewer: see `QueueSet::bound`.
pub(super) fn seats(info: &RequestInfo, query: Option<&str>, stored: Option<usize>) -> u32 {
    let lists = match info.verb.as_str() {
        "list" => true,
        "watch" => query.is_some_and(|q| q.contains("sendInitialEvents=true")),
        _ => false,
    };
    let Some(stored) = stored.filter(|_| lists && info.name.is_empty()) else {
        return 1;
    };
    let given = |name| uri::query_value(query, name).filter(|v| !v.is_empty());
    let revision = given("resourceVersion");
    let limit = given("limit")
        .and_then(|v| v.parse::<usize>().ok())
        .filter(|limit| *limit > 0);
    let from_store = revision.is_none()
        || given("continue").is_some()
        || (limit.is_some() && revision.as_deref() != Some("0"))
        || given("resourceVersionMatch").as_deref() == Some("Exact");
    let limit = limit.map_or(stored, |limit| limit.min(stored));
    let objects = if !from_store {
        stored
    } else if given("fieldSelector").is_some() || given("labelSelector").is_some() {
        stored + limit
    } else {
        2 * limit
    };
    let seats = u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(MOST);
    seats.clamp(1, MOST)
}

/// How long a write keeps its seat after it has been answered: there are watchers to be told.
pub(super) fn linger(info: &RequestInfo, watchers: u32) -> Duration {
    let writes = matches!(
        info.verb.as_str(),
        "create" | "update" | "patch" | "delete" | "deletecollection"
    );
    // A token is no change of its service account.
    if !writes || info.subresource == "token" {
        return Duration::ZERO;
    }
    match PER_WATCHER.saturating_mul(watchers) {
        short if short < SHORTEST => Duration::ZERO,
        linger => linger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str, stored: usize) -> u32 {
        let uri: http::Uri = uri.parse().unwrap();
        let info = RequestInfo::new(&method.parse().unwrap(), &uri);
        seats(&info, uri.query(), Some(stored))
    }

    #[test]
    fn long_lists_take_more_seats_and_never_more_than_ten() {
        assert_eq!(of("GET", "/api/v1/pods/x", 5000), 1);
        assert_eq!(of("GET", "/api/v1/pods", 40), 1);
        assert_eq!(of("GET", "/api/v1/pods", 220), 5);
        assert_eq!(of("GET", "/api/v1/pods", 90_000), 10);
        assert_eq!(of("GET", "/api/v1/pods?limit=100", 90_000), 2);
        assert_eq!(of("GET", "/api/v1/pods?resourceVersion=0", 220), 3);
        assert_eq!(of("GET", "/api/v1/pods?limit=50&labelSelector=a", 150), 2);
        assert_eq!(
            of("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", 9000),
            1
        );
        assert_eq!(of("GET", "/api/v1/pods?watch=1", 9000), 1);
        let streaming = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersion=0";
        assert_eq!(of("GET", streaming, 9000), 10);
        assert_eq!(of("POST", "/api/v1/namespaces/x/pods", 9000), 1);
    }

    #[test]
    fn a_write_lingers_with_its_watchers() {
        let of = |method: &str, uri: &str, watchers| {
            let info = RequestInfo::new(&method.parse().unwrap(), &uri.parse().unwrap());
            linger(&info, watchers)
        };
        let pods = "/api/v1/namespaces/x/pods";
        assert_eq!(of("POST", pods, 100), Duration::ZERO);
        assert_eq!(of("POST", pods, 1000), Duration::from_millis(5));
        assert_eq!(of("GET", pods, 1000), Duration::ZERO);
        let token = "/api/v1/namespaces/x/serviceaccounts/y/token";
        assert_eq!(of("POST", token, 1000), Duration::ZERO);
    }
}
