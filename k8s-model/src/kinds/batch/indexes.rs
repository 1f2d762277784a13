//! The text form of a set of completion indexes, such as `1,3-5,7`.

/// An index alone, or the first and last of several in a row.
type Interval = (i64, i64);

/// How many indexes a text has, all of them below `completions` and in order.
pub(super) fn count(text: &str, completions: i32) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut last, mut total) = (None, 0);
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(not_increasing(last, first));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index found in both of two texts. What cannot be read in either is passed over.
pub(super) fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i64> {
    let read = |text: &str| -> Vec<Interval> {
        let parts = text.split(',');
        parts
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut completed, mut failed) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some(one), Some(other)) = (completed.peek(), failed.peek()) {
        if one.0 <= other.1 && other.0 <= one.1 {
            return Some(one.0.max(other.0));
        }
        if one.0 <= other.0 {
            completed.next();
        } else {
            failed.next();
        }
    }
    None
}

fn interval(text: &str, completions: i32) -> Result<Interval, String> {
    match text.split('-').collect::<Vec<_>>()[..] {
        [one] => {
            let index = index(one, completions)?;
            Ok((index, index))
        }
        [first, last] => {
            let (first, last) = (index(first, completions)?, index(last, completions)?);
            if first >= last {
                return Err(not_increasing(first, last));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

fn index(text: &str, completions: i32) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(index) if index >= i64::from(completions) => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
        Err(_) => Err(format!(
            "cannot convert string to integer for index: {text:?}"
        )),
    }
}

fn not_increasing(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_if_they_are_in_order_and_below_the_completions() {
        for (text, number) in [("", 0), ("0", 1), ("1,3-5,7", 5), ("0-9", 10)] {
            assert_eq!(count(text, 10), Ok(number), "{text}");
        }
        for (text, told) in [
            ("a", r#"cannot convert string to integer for index: "a""#),
            ("1,", r#"cannot convert string to integer for index: """#),
            ("-1", r#"cannot convert string to integer for index: """#),
            ("10", r#"too large index: "10""#),
            ("1-10", r#"too large index: "10""#),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("1-3,3", "non-increasing order, previous: 3, current: 3"),
            (
                "1-2-3",
                r#"the fragment "1-2-3" violates the requirement that an index interval can have at most two parts separated by '-'"#,
            ),
        ] {
            assert_eq!(count(text, 10), Err(told.to_owned()), "{text}");
        }
    }

    #[test]
    fn two_sets_overlap_where_an_index_is_in_both() {
        for (completed, failed, found) in [
            ("0-2,5", "3-4,6", None),
            ("0-2,5", "4-7", Some(5)),
            ("x,8", "1,8", Some(8)),
            ("", "1", None),
        ] {
            assert_eq!(
                overlap(completed, failed, 10),
                found,
                "{completed} {failed}"
            );
        }
    }
}
