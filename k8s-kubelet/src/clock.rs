//! The time of day, real or simulated.

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time. A simulated clock follows tokio's, which tests may pause.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    System,
    Simulated { epoch: Timestamp, start: Instant },
}

impl Clock {
    pub(crate) fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Simulated { epoch, start } => {
                epoch.saturating_add(start.elapsed()).unwrap_or(epoch)
            }
        }
    }

    /// When tokio's clock will show this time.
    pub(crate) fn instant(self, at: Timestamp) -> Instant {
        let left = std::time::Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        Instant::now() + left
    }
}
