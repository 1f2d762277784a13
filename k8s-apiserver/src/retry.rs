//! [`Retry`]: when to try again what failed.

use std::time::Duration;

use tokio::time::Instant;

/// How long is waited at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// When to try again what failed: soon at first, and ever later until it goes well.
#[derive(Debug)]
pub(crate) struct Retry {
    pause: Duration,
    at: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            pause: PAUSES.0,
            at: None,
        }
    }
}

impl Retry {
    /// Takes note of how it went. A time that is set stays: tries in between bring it no nearer and put it off no further.
    pub(crate) fn after(&mut self, fine: bool) {
        let now = Instant::now();
        if fine {
            *self = Retry::default();
        } else if self.at.is_none_or(|at| at <= now) {
            self.at = Some(now + self.pause);
            self.pause = PAUSES.1.min(self.pause * 2);
        }
    }

    /// Waits until it is time; for ever, if all is well.
    ///
    /// # Cancel safety
    /// Dropped halfway, it can be asked for again: the time stays the same.
    pub(crate) async fn due(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_ever_later_until_it_goes_well() {
        let mut retry = Retry::default();
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(tokio::time::timeout(day, retry.due()).await.is_err());
        let mut waited = Vec::new();
        for _ in 0..12 {
            let begun = Instant::now();
            retry.after(false);
            // What fails in the meantime changes nothing.
            retry.after(false);
            retry.due().await;
            waited.push(begun.elapsed().as_millis());
        }
        assert_eq!(waited[..3], [100, 200, 400]);
        assert_eq!(waited[11], 30_000);
        retry.after(true);
        assert!(tokio::time::timeout(day, retry.due()).await.is_err());
    }
}
