//! What every backend of this crate has in common: the data at the newest
//! revision, the history behind it, the watchers in front of it, and time.

mod clock;
pub(crate) mod head;
mod heads;
mod history;
mod limits;
mod registry;
mod timer;
mod tree;
mod view;
mod watcher;

pub(crate) use clock::Clock;
pub(crate) use head::{Edit, Head, expires};
pub use history::HistoryLimits;
pub use limits::Limits;
pub(crate) use timer::{Expire, Timer};
pub(crate) use tree::{Record, Tree};
pub(crate) use view::View;
pub use watcher::WatchLimits;
