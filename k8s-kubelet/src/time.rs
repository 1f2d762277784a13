//! Times in the API's precision.

use jiff::Timestamp;

/// Times on the API have no fractions of a second.
pub(crate) fn whole_second(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}
