//! Slow start: many requests, but few while they fail.

use futures::future::join_all;

/// Calls `call` up to `count` times in batches of 1, 2, 4, … that each run at once, and stops after
/// the first batch with a failure: a set of 1,000 pods that a quota forbids makes one failing
/// request, not 1,000. Gives the number of successes and the failures, at least one of which is
/// there when fewer than `count` calls were made.
pub(crate) async fn slow_start<F, E>(count: usize, mut call: impl FnMut() -> F) -> (usize, Vec<E>)
where
    F: Future<Output = Result<(), E>>,
{
    let (mut left, mut succeeded, mut size) = (count, 0, 1);
    while left > 0 {
        let batch = size.min(left);
        let results = join_all((0..batch).map(|_| call())).await;
        let errors: Vec<E> = results.into_iter().filter_map(Result::err).collect();
        succeeded += batch - errors.len();
        if !errors.is_empty() {
            return (succeeded, errors);
        }
        left -= batch;
        size *= 2;
    }
    (succeeded, Vec::new())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn batches_double_and_stop_at_the_first_failure() {
        for (count, fail_from, calls, succeeded) in [
            (10, usize::MAX, 10, 10),
            (10, 0, 1, 0),
            (10, 4, 7, 4),
            (0, 0, 0, 0),
        ] {
            let made = Cell::new(0);
            let (ok, errors) = slow_start(count, || {
                made.set(made.get() + 1);
                let result = if made.get() > fail_from {
                    Err(())
                } else {
                    Ok(())
                };
                async move { result }
            })
            .await;
            assert_eq!(
                (made.get(), ok),
                (calls, succeeded),
                "count {count}, failing from {fail_from}"
            );
            assert_eq!(errors.len(), calls - succeeded);
        }
    }
}
