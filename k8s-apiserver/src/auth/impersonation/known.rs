//! [`Known`]: what was decided of late, by a digest of what it depends on.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Identity, Mode};
use crate::{authz::Attributes, webhook::Memory};

/// How long what was allowed stays so, though a role is gone; as upstream.
pub(super) const KEPT: Duration = Duration::from_secs(10);

/// Answers by digest: however much a user asks for, what is kept of it is small.
#[derive(Debug)]
pub(super) struct Known<V>(Memory<[u8; 32], V>);

impl<V: Clone> Default for Known<V> {
    fn default() -> Self {
        Known(Memory::new())
    }
}

impl<V: Clone> Known<V> {
    pub(super) fn get(&self, key: &[u8; 32]) -> Option<V> {
        self.0.get(key)
    }

    pub(super) fn put(&self, key: [u8; 32], value: V, time: Duration) {
        self.0.put(key, value, time);
    }
}

/// Makes digests. Each part goes in with its length, so that two different things are never written alike.
#[derive(Default)]
pub(super) struct Key(Sha256);

impl Key {
    pub(super) fn of_text(text: &str) -> [u8; 32] {
        Sha256::digest(text).into()
    }

    /// Of who wants to be whom, in which mode.
    pub(super) fn of_users(mode: Mode, wanted: &Identity, user: &Identity) -> [u8; 32] {
        Key::default()
            .text(mode.name())
            .identity(wanted)
            .identity(user)
            .finish()
    }

    /// Of who wants to do what as whom; `None` if that is not fully understood, which is not to be remembered.
    pub(super) fn of_request(
        mode: Mode,
        wanted: &Identity,
        request: &Attributes<'_>,
    ) -> Option<[u8; 32]> {
        let Attributes {
            user,
            verb,
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
            path,
            resource_request,
            selectors,
        } = *request;
        let mut key = Key::default()
            .text(mode.name())
            .identity(wanted)
            .identity(user)
            .texts(&[
                verb,
                group,
                version,
                resource,
                subresource,
                namespace,
                name,
                path,
            ])
            .number(usize::from(resource_request));
        let (fields, labels) = match selectors {
            None => (&[][..], &[][..]),
            Some(selectors) if selectors.is_whole() => (selectors.fields(), selectors.labels()),
            Some(_) => return None,
        };
        key = key.number(fields.len());
        for requirement in fields {
            key = key
                .number(usize::from(requirement.equals))
                .text(&requirement.field)
                .text(&requirement.value);
        }
        key = key.number(labels.len());
        for requirement in labels {
            key = key.text(&requirement.to_string());
        }
        Some(key.finish())
    }

    fn number(mut self, number: usize) -> Self {
        self.0.update((number as u64).to_be_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut key = self.number(text.len());
        key.0.update(text);
        key
    }

    fn texts(self, texts: &[impl AsRef<str>]) -> Self {
        let key = self.number(texts.len());
        texts.iter().fold(key, |key, text| key.text(text.as_ref()))
    }

    fn identity(self, user: &Identity) -> Self {
        let key = self
            .text(&user.name)
            .text(&user.uid)
            .texts(&user.groups)
            .number(user.extra.len());
        let extra = user.extra.iter();
        extra.fold(key, |key, (name, values)| key.text(name).texts(values))
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
