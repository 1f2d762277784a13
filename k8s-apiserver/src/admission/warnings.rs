//! [`Warnings`]: what a client is told besides the answer.

use std::sync::Arc;

use parking_lot::Mutex;

/// How many characters of warnings one answer carries at most before they are cut; as upstream.
const TOTAL: usize = 4 * 1024;
/// To how many characters each is cut then.
const EACH: usize = 256;

/// What a client is told besides the answer, in `Warning` headers. Clones share their texts.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Texts>>);

#[derive(Debug, Default)]
struct Texts {
    texts: Vec<String>,
    /// The characters of the texts, as they will be told.
    length: usize,
    /// Whether they are cut.
    cut: bool,
}

impl Texts {
    fn add(&mut self, text: String) {
        let full = self.cut && self.length >= TOTAL;
        if text.is_empty() || full || self.texts.contains(&text) {
            return;
        }
        self.length += self.told(&text);
        self.texts.push(text);
        if !self.cut && self.length > TOTAL {
            self.cut = true;
            self.length = self.texts.iter().map(|text| self.told(text)).sum();
        }
    }

    /// How many characters of a text are told.
    fn told(&self, text: &str) -> usize {
        let most = if self.cut { EACH } else { usize::MAX };
        text.chars().take(most).count()
    }
}

impl Warnings {
    /// Adds a text, once. As soon as there are more than 4096 characters of them, each is cut to 256 characters, and what
    /// goes beyond 4096 is dropped.
    pub fn add(&self, text: impl Into<String>) {
        self.0.lock().add(text.into());
    }

    /// Adds several.
    pub fn extend(&self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.add(text));
    }

    /// Takes the texts out, in the order in which they were added.
    pub fn take(&self) -> Vec<String> {
        let Texts { mut texts, cut, .. } = std::mem::take(&mut *self.0.lock());
        if cut {
            for text in &mut texts {
                if let Some((end, _)) = text.char_indices().nth(EACH) {
                    text.truncate(end);
                }
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_once_and_in_order() {
        let warnings = Warnings::default();
        warnings.extend(["b", "a", "", "b"].map(String::from));
        assert_eq!(warnings.take(), ["b", "a"]);
        assert_eq!(warnings.take(), [""; 0]);
    }

    #[test]
    fn where_there_is_too_much_each_text_is_cut() {
        let warnings = Warnings::default();
        let long = |n: usize| format!("{n:03}{}", "ü".repeat(1000));
        for n in 0..4 {
            warnings.add(long(n));
        }
        assert_eq!(warnings.clone().take(), [0, 1, 2, 3].map(long));
        for n in 0..100 {
            warnings.add(long(n));
        }
        let told = warnings.take();
        assert!(told.iter().all(|text| text.chars().count() == 256));
        assert_eq!(told.len(), 4096 / 256);
    }
}
