//! [`SimImages`]: images that are names only.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{Error, Image, ImageService, PullErrorKind, RegistryAuth, images::reference};

/// An image store without images: every pull succeeds at once, unless told otherwise.
///
/// An image's ID is the SHA-256 of its full name, so equal names are equal images everywhere.
#[derive(Debug, Default)]
pub struct SimImages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_id: BTreeMap<String, Image>,
    failing: BTreeMap<String, PullErrorKind>,
}

impl SimImages {
    /// A store that has nothing and can pull everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets every pull of this image fail from now on.
    ///
    /// # Errors
    /// If the reference is none.
    pub fn fail_pulls(&self, reference: &str, kind: PullErrorKind) -> Result<(), Error> {
        let name = reference::normalize(reference)?;
        self.state.lock().failing.insert(name, kind);
        Ok(())
    }

    /// Lets pulls of this image succeed again.
    ///
    /// # Errors
    /// If the reference is none.
    pub fn allow_pulls(&self, reference: &str) -> Result<(), Error> {
        let name = reference::normalize(reference)?;
        self.state.lock().failing.remove(&name);
        Ok(())
    }

    pub(crate) fn reference_of(&self, id: &str) -> Option<String> {
        self.state
            .lock()
            .by_id
            .get(id)
            .and_then(|i| i.repo_digests.first().cloned())
    }
}

fn digest(text: &str) -> String {
    format!("sha256:{}", super::hex(&Sha256::digest(text)))
}

#[async_trait]
impl ImageService for SimImages {
    async fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.state.lock().by_id.values().cloned().collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        if let Some(id) = reference::as_id(reference) {
            return Ok(self.state.lock().by_id.get(&id).cloned());
        }
        let name = reference::normalize(reference)?;
        let state = self.state.lock();
        Ok(state
            .by_id
            .values()
            .find(|i| i.repo_tags.contains(&name) || i.repo_digests.contains(&name))
            .cloned())
    }

    async fn pull(&self, reference: &str, _auth: Option<&RegistryAuth>) -> Result<Image, Error> {
        let parsed = reference::parse(reference)?;
        let name = parsed.whole();
        let mut state = self.state.lock();
        if let Some(kind) = state.failing.get(&name) {
            return Err(Error::PullFailed {
                reference: name,
                kind: *kind,
                message: "told to fail by the simulation".to_owned(),
            });
        }
        let id = digest(&name);
        let repository = reference::repository(&parsed);
        let image = state.by_id.entry(id.clone()).or_insert_with(|| Image {
            id,
            repo_tags: parsed
                .tag()
                .map(|t| format!("{repository}:{t}"))
                .into_iter()
                .collect(),
            repo_digests: vec![match parsed.digest() {
                Some(d) => format!("{repository}@{d}"),
                None => format!("{repository}@{}", digest(&format!("manifest of {name}"))),
            }],
            size_bytes: 0,
            uid: None,
            username: String::new(),
        });
        Ok(image.clone())
    }

    async fn import(&self, _archive: &std::path::Path) -> Result<Vec<Image>, Error> {
        Err(Error::Unsupported(
            "the simulated image store has no content".to_owned(),
        ))
    }

    async fn remove(&self, reference: &str) -> Result<(), Error> {
        let image = self.image(reference).await?;
        if let Some(image) = image {
            self.state.lock().by_id.remove(&image.id);
        }
        Ok(())
    }
}
