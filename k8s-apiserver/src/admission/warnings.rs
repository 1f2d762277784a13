//! [`Warnings`]: what a client is told besides the answer.

use std::sync::Arc;

use parking_lot::Mutex;

/// How many bytes of warnings one answer carries at most, as upstream.
const LIMIT: usize = 4 * 1024;

/// What a client is told besides the answer, in `Warning` headers. Clones share their texts.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds a text, once. What goes beyond 4 KiB is dropped.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut texts = self.0.lock();
        let size: usize = texts.iter().map(String::len).sum();
        if !text.is_empty() && size + text.len() <= LIMIT && !texts.contains(&text) {
            texts.push(text);
        }
    }

    /// Takes the texts out.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}
