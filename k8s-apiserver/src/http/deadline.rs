//! How long a request may take: upstream's `--request-timeout`, or less if the client says so.

use std::time::Duration;

use super::uri;
use crate::{Error, Result};

/// How long a request may take that is no watch and no connection; upstream's `--request-timeout`.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// What the query's `timeout` asks for, within bounds.
pub(crate) fn deadline(query: Option<&str>) -> Result<Duration> {
    let Some(text) = uri::query_value(query, "timeout").filter(|v| !v.is_empty()) else {
        return Ok(LONGEST);
    };
    let nanos = k8s_model::duration::parse(&text).ok_or_else(|| {
        Error::bad_request(format!(
            "invalid timeout specified in the request URL - {}",
            what_is_wrong(&text)
        ))
    })?;
    Ok(match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos).min(LONGEST),
        _ => LONGEST,
    })
}

/// In the words of Go's `time.ParseDuration`.
fn what_is_wrong(text: &str) -> String {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.trim_start_matches(['+', '-']);
    while rest.starts_with(number) {
        let tail = rest.trim_start_matches(number);
        let end = tail.find(number).unwrap_or(tail.len());
        match &tail[..end] {
            "" => return format!("time: missing unit in duration {text:?}"),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = &tail[end..],
            unit => return format!("time: unknown unit {unit:?} in duration {text:?}"),
        }
    }
    format!("time: invalid duration {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_ask_for_less_and_never_for_more() {
        let of = |query| deadline(Some(query)).unwrap();
        assert_eq!(deadline(None).unwrap(), LONGEST);
        assert_eq!(of("timeout="), LONGEST);
        assert_eq!(of("limit=1&timeout=1m0s500ms"), LONGEST);
        assert_eq!(of("timeout=0s"), LONGEST);
        assert_eq!(of("timeout=-3s"), LONGEST);
        assert_eq!(of("timeout=1.5s"), Duration::from_millis(1500));
        assert_eq!(of("timeout=34s"), Duration::from_secs(34));
    }

    #[test]
    fn what_is_no_duration_is_refused_in_go_s_words() {
        for (text, said) in [
            ("10", "time: missing unit in duration \"10\""),
            ("abc", "time: invalid duration \"abc\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
        ] {
            let error = deadline(Some(&format!("timeout={text}"))).unwrap_err();
            assert_eq!(error.code(), 400);
            assert_eq!(
                error.to_string(),
                format!("invalid timeout specified in the request URL - {said}")
            );
        }
    }
}
