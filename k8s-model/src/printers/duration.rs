//! [`human_duration`]: how long ago, for people.

use jiff::{SignedDuration, Timestamp};

/// A duration in two or three significant figures, as in `5m30s`, `3h` or `2d4h`: what
/// `kubectl get` shows as an age.
///
/// ```
/// # use k8s_model::printers::human_duration;
/// # use k8s_model::k8s_openapi::jiff::SignedDuration;
/// assert_eq!(human_duration(SignedDuration::from_secs(330)), "5m30s");
/// ```
pub fn human_duration(duration: SignedDuration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24;
    const YEAR: i64 = 365 * DAY;
    let seconds = duration.as_secs();
    let two = |a: i64, unit_a: char, b: i64, unit_b: char| {
        if b == 0 {
            format!("{a}{unit_a}")
        } else {
            format!("{a}{unit_a}{b}{unit_b}")
        }
    };
    // Clocks that differ by a second or two are as good as equal.
    match seconds {
        ..-1 => return "<invalid>".to_owned(),
        -1 => return "0s".to_owned(),
        0..120 => return format!("{seconds}s"),
        _ => {}
    }
    let (minutes, hours) = (seconds / MINUTE, seconds / HOUR);
    if minutes < 10 {
        two(minutes, 'm', seconds % MINUTE, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 8 * DAY {
        two(hours / DAY, 'd', hours % DAY, 'h')
    } else if hours < 2 * YEAR {
        format!("{}d", hours / DAY)
    } else if hours < 8 * YEAR {
        two(hours / YEAR, 'y', hours / DAY % 365, 'd')
    } else {
        format!("{}y", hours / YEAR)
    }
}

/// How long ago something was, or `<unknown>`.
pub(super) fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(then) => human_duration(now.duration_since(then)),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstreams() {
        const HOUR: i64 = 3600;
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (10 * 60, "10m"),
            (179 * 60, "179m"),
            (3 * HOUR, "3h"),
            (7 * HOUR + 60, "7h1m"),
            (47 * HOUR, "47h"),
            (48 * HOUR, "2d"),
            (50 * HOUR, "2d2h"),
            (8 * 24 * HOUR, "8d"),
            (729 * 24 * HOUR, "729d"),
            (730 * 24 * HOUR, "2y"),
            (731 * 24 * HOUR, "2y1d"),
            (8 * 365 * 24 * HOUR, "8y"),
        ] {
            assert_eq!(
                human_duration(SignedDuration::from_secs(seconds)),
                text,
                "{seconds}"
            );
        }
    }
}
