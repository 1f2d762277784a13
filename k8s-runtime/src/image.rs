//! [`ImageService`]: images on a node.

use std::fmt;

use async_trait::async_trait;

use crate::Error;

/// An image on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, `sha256:…`: what [`crate::ContainerConfig::image`] wants.
    pub id: String,
    /// Its tagged names, in full: `docker.io/library/busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Its names by digest: `docker.io/library/busybox@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Its size on disk in bytes.
    pub size_bytes: u64,
    /// The numeric user that it runs as, if it names one.
    pub uid: Option<i64>,
    /// The name of the user that it runs as, if it names one by name.
    pub username: String,
}

/// Credentials for a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What a node agent needs of an image store.
///
/// References are normalised as Docker's are: `busybox` is `docker.io/library/busybox:latest`.
/// Where a reference is asked for, an image's ID will do, but for pulling. A reference that can't
/// be parsed is [`Error::InvalidReference`].
///
/// An image is there with all it needs or not at all: a pull or an import that fails leaves
/// nothing behind. Pulling what is there asks the registry whether the tag has moved, and
/// fetches only what is missing. Calls may run at the same time; those that want the same content
/// share it.
#[async_trait]
pub trait ImageService: fmt::Debug + Send + Sync + 'static {
    /// All images.
    async fn images(&self) -> Result<Vec<Image>, Error>;

    /// One image, by reference or by ID; `None` if the node does not have it.
    async fn image(&self, reference: &str) -> Result<Option<Image>, Error>;

    /// Brings an image from its registry and unpacks it.
    ///
    /// # Errors
    /// [`Error::PullFailed`] with its kind.
    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<Image, Error>;

    /// Takes images from an archive: an OCI layout or a Docker archive, plain or compressed.
    ///
    /// # Errors
    /// [`Error::BrokenArchive`] says what is wrong with it.
    async fn import(&self, archive: &std::path::Path) -> Result<Vec<Image>, Error>;

    /// Removes an image; one that has further tags only loses the tag that it was removed by.
    /// Removing one that is not there is no error. Containers of it go on.
    async fn remove(&self, reference: &str) -> Result<(), Error>;
}
