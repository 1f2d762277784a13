//! [`ImageStore`]: the images of a node, on its disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Mirror, archive,
    config::{ConfigFile, RunConfig, check_digest, our_architecture},
    layer, pull,
    reference::{as_id, parse},
};
use crate::{Error, Image, ImageService, RegistryAuth, error::IoContext, sim::hex};

/// Where and how images are kept.
#[derive(Clone, Debug)]
pub struct ImageStoreOptions {
    root: PathBuf,
    mirrors: Vec<Mirror>,
}

impl ImageStoreOptions {
    /// Keeps images below this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            mirrors: Vec::new(),
        }
    }

    /// Asks this mirror before its registry itself. Mirrors of one registry are asked in order.
    #[must_use]
    pub fn mirror(mut self, mirror: Mirror) -> Self {
        self.mirrors.push(mirror);
        self
    }
}

/// An [`ImageService`] on a directory.
///
/// Blobs are named by their digest and checked against it. Each layer is unpacked once, however
/// many images share it, and an image appears only when all of it is there: a pull or an import
/// that fails leaves nothing behind. Several processes may use one directory.
///
/// ```text
/// index.json          which images there are
/// blobs/sha256/…      configurations and manifests
/// layers/…            unpacked layers, by diff ID
/// leases/…            the layers that a container uses, by container
/// ```
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) client: pull::Clients,
    locks: Mutex<HashMap<String, Weak<Mutex<()>>>>,
    pulling: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageStore")
            .field("root", &self.inner.root)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Record>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    manifest: Option<String>,
    diff_ids: Vec<String>,
    repo_tags: BTreeSet<String>,
    repo_digests: BTreeSet<String>,
    size: u64,
    user: String,
}

/// The names that an image gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
}

/// An image as a container needs it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) config: RunConfig,
    /// Layer directories relative to [`ImageStore::layers_dir`], the topmost first.
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) image_ref: String,
}

/// Keeps collection away while something is being added.
#[derive(Debug)]
pub(crate) struct Busy {
    _lock: File,
}

impl ImageStore {
    /// Opens a store, making its directory if needed.
    ///
    /// # Errors
    /// If the directory can't be used.
    pub fn open(options: ImageStoreOptions) -> Result<Self, Error> {
        let ImageStoreOptions { root, mirrors } = options;
        for dir in ["blobs/sha256", "layers", "leases", "tmp"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).context(|| format!("make {dir:?}"))?;
        }
        let root = root.canonicalize().context(|| format!("open {root:?}"))?;
        let client = pull::Clients::new(&mirrors);
        let store = Self {
            inner: Arc::new(Inner {
                root,
                mirrors,
                client,
                locks: Mutex::default(),
                pulling: Mutex::default(),
            }),
        };
        store.collect()?;
        Ok(store)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Where the unpacked layers are.
    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.inner.root.join("layers")
    }

    /// A place for unfinished files, on the same file system.
    pub(crate) fn tmp_dir(&self) -> PathBuf {
        self.inner.root.join("tmp")
    }

    fn blob_path(&self, digest: &str) -> Result<PathBuf, Error> {
        Ok(self
            .inner
            .root
            .join("blobs/sha256")
            .join(check_digest(digest)?))
    }

    fn layer_path(&self, diff_id: &str) -> Result<PathBuf, Error> {
        Ok(self.layers_dir().join(layer_name(diff_id)?))
    }

    pub(crate) fn busy(&self) -> Result<Busy, Error> {
        let lock = self.lock_file("busy.lock")?;
        lock.lock_shared()
            .context(|| "lock the image store".to_owned())?;
        Ok(Busy { _lock: lock })
    }

    fn lock_file(&self, name: &str) -> Result<File, Error> {
        let path = self.inner.root.join(name);
        let mut options = OpenOptions::new();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .context(|| format!("open {path:?}"))
    }

    fn read_index(&self) -> Result<Index, Error> {
        let path = self.inner.root.join("index.json");
        match fs::read(&path) {
            Ok(json) => {
                serde_json::from_slice(&json).map_err(|e| Error::io(format!("read {path:?}"), e))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(Error::io(format!("read {path:?}"), e)),
        }
    }

    fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, Error> {
        let lock = self.lock_file("index.lock")?;
        lock.lock().context(|| "lock the image index".to_owned())?;
        let mut index = self.read_index()?;
        let result = change(&mut index);
        let path = self.inner.root.join("index.json");
        let json = serde_json::to_vec(&index).map_err(|e| Error::io("write the image index", e))?;
        write_atomic(&self.tmp_dir(), &path, &json).context(|| format!("write {path:?}"))?;
        Ok(result)
    }

    /// Stores a small blob under its digest.
    pub(crate) fn put_blob(&self, data: &[u8]) -> Result<String, Error> {
        let digest = format!("sha256:{}", hex(&Sha256::digest(data)));
        let path = self.blob_path(&digest)?;
        if !path.exists() {
            write_atomic(&self.tmp_dir(), &path, data).context(|| format!("write {path:?}"))?;
        }
        Ok(digest)
    }

    pub(crate) fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_path(diff_id).is_ok_and(|p| p.exists())
    }

    /// Unpacks a layer unless it is there. What was read is checked against the diff ID and,
    /// where given, the blob's digest and size.
    pub(crate) fn add_layer(
        &self,
        diff_id: &str,
        blob: Option<(&str, u64)>,
        open: impl FnOnce() -> Result<Box<dyn Read>, Error>,
    ) -> Result<(), Error> {
        let path = self.layer_path(diff_id)?;
        let lock = {
            let mut locks = self.inner.locks.lock();
            locks.retain(|_, l| l.strong_count() > 0);
            let lock = locks
                .get(diff_id)
                .and_then(Weak::upgrade)
                .unwrap_or_default();
            locks.insert(diff_id.to_owned(), Arc::downgrade(&lock));
            lock
        };
        let _guard = lock.lock();
        if path.exists() {
            return Ok(());
        }
        let tmp = tempfile::Builder::new()
            .prefix("layer-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(self.tmp_dir())
            .context(|| "make a directory for a layer".to_owned())?;
        let unpacked = layer::unpack(open()?, tmp.path())?;
        if let Some((digest, size)) = blob
            && (unpacked.digest != digest || unpacked.size != size)
        {
            return Err(Error::BrokenArchive(format!(
                "layer {digest} of {size} bytes turned out to be {} of {} bytes",
                unpacked.digest, unpacked.size
            )));
        }
        if unpacked.diff_id != diff_id {
            return Err(Error::BrokenArchive(format!(
                "the configuration names layer {diff_id}, the archive has {}",
                unpacked.diff_id
            )));
        }
        let size = path.with_extension("size");
        write_atomic(
            &self.tmp_dir(),
            &size,
            unpacked.unpacked.to_string().as_bytes(),
        )
        .context(|| format!("write {size:?}"))?;
        match fs::rename(tmp.path(), &path) {
            Ok(()) => drop(tmp.keep()),
            // Another process was faster.
            Err(_) if path.exists() => {}
            Err(e) => return Err(Error::io(format!("store layer {diff_id}"), e)),
        }
        Ok(())
    }

    /// Makes an image visible. Its layers must be there.
    pub(crate) fn commit(
        &self,
        config: &[u8],
        manifest: Option<&[u8]>,
        names: Names,
    ) -> Result<Image, Error> {
        let parsed = ConfigFile::parse(config)?;
        let ours = our_architecture();
        if !matches!(parsed.os.as_str(), "" | "linux")
            || !["", ours].contains(&parsed.architecture.as_str())
        {
            return Err(Error::InvalidImage {
                reference: names.tags.first().cloned().unwrap_or_default(),
                message: format!(
                    "it is for {}/{}, this node is linux/{ours}",
                    parsed.os, parsed.architecture
                ),
            });
        }
        let mut size = config.len() as u64;
        for diff_id in parsed.diff_ids() {
            let text = fs::read_to_string(self.layer_path(diff_id)?.with_extension("size"));
            size += text.ok().and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
        }
        let id = self.put_blob(config)?;
        let manifest = manifest.map(|m| self.put_blob(m)).transpose()?;
        let root = File::open(&self.inner.root).context(|| "open the image store".to_owned())?;
        nix::unistd::syncfs(&root).context(|| "sync the image store".to_owned())?;
        self.change_index(|index| {
            for tag in &names.tags {
                for record in index.images.values_mut() {
                    record.repo_tags.remove(tag);
                }
            }
            let record = index.images.entry(id.clone()).or_default();
            record.manifest = manifest.or(record.manifest.take());
            record.diff_ids = parsed.diff_ids().to_vec();
            record.repo_tags.extend(names.tags);
            record.repo_digests.extend(names.digests);
            record.size = size;
            record.user = parsed.config.and_then(|c| c.user).unwrap_or_default();
            image(&id, record)
        })
    }

    /// What a container of this image needs. The layers stay until [`release`](Self::release).
    pub(crate) fn prepare(&self, id: &str, container: &str) -> Result<Prepared, Error> {
        let _busy = self.busy()?;
        let index = self.read_index()?;
        let id = as_id(id).unwrap_or_else(|| id.to_owned());
        let record = index
            .images
            .get(&id)
            .ok_or_else(|| Error::not_found("image", &id))?;
        let path = self.blob_path(&id)?;
        let json = fs::read(&path).context(|| format!("read {path:?}"))?;
        let config = ConfigFile::parse(&json)?;
        let mut lower = Vec::with_capacity(record.diff_ids.len());
        for diff_id in record.diff_ids.iter().rev() {
            lower.push(PathBuf::from(layer_name(diff_id)?));
        }
        let lease = self.inner.root.join("leases").join(container);
        fs::write(&lease, record.diff_ids.join("\n")).context(|| format!("write {lease:?}"))?;
        Ok(Prepared {
            config: config.config.unwrap_or_default(),
            lower,
            image_ref: record.repo_digests.first().cloned().unwrap_or(id),
        })
    }

    /// Tells that a container is gone.
    pub(crate) fn release(&self, container: &str) {
        let _ = fs::remove_file(self.inner.root.join("leases").join(container));
    }

    /// The containers that hold layers.
    pub(crate) fn leases(&self) -> Vec<String> {
        let entries = fs::read_dir(self.inner.root.join("leases"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|e| e.file_name().into_string().ok())
            .collect()
    }

    /// Removes what no image and no container uses, unless something is being added right now.
    pub(crate) fn collect(&self) -> Result<(), Error> {
        let lock = self.lock_file("busy.lock")?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let index = self.read_index()?;
        let mut layers: BTreeSet<String> = BTreeSet::new();
        let mut blobs: BTreeSet<&str> = BTreeSet::new();
        for (id, record) in &index.images {
            layers.extend(record.diff_ids.iter().filter_map(|d| layer_name(d).ok()));
            blobs.extend(
                [Some(id), record.manifest.as_ref()]
                    .into_iter()
                    .flatten()
                    .filter_map(|d| check_digest(d).ok()),
            );
        }
        for lease in self.leases() {
            let text =
                fs::read_to_string(self.inner.root.join("leases").join(lease)).unwrap_or_default();
            layers.extend(text.lines().filter_map(|d| layer_name(d).ok()));
        }
        let sweep = |dir: &str, keep: &dyn Fn(&str) -> bool| {
            for entry in fs::read_dir(self.inner.root.join(dir))
                .into_iter()
                .flatten()
                .flatten()
            {
                if entry.file_name().to_str().is_none_or(|n| !keep(n)) {
                    let path = entry.path();
                    let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
                    let removed = if is_dir {
                        fs::remove_dir_all(&path)
                    } else {
                        fs::remove_file(&path)
                    };
                    if let Err(error) = removed {
                        tracing::warn!(?path, %error, "unused image content stays");
                    }
                }
            }
        };
        sweep("layers", &|name| {
            layers.contains(name.trim_end_matches(".size"))
        });
        sweep("blobs/sha256", &|name| blobs.contains(name));
        sweep("tmp", &|_| false);
        Ok(())
    }

    fn find(&self, reference: &str) -> Result<Option<Image>, Error> {
        let index = self.read_index()?;
        Ok(lookup(&index, reference)?
            .and_then(|(id, _)| index.images.get(&id).map(|r| image(&id, r))))
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Result<T, Error> + Send + 'static,
    {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(store))
            .await
            .map_err(|e| Error::io("image store", io::Error::other(e)))?
    }
}

/// Finds an image's ID, and the full name if it was asked for by a tag.
fn lookup(index: &Index, reference: &str) -> Result<Option<(String, Option<String>)>, Error> {
    if let Some(id) = as_id(reference) {
        return Ok(index.images.contains_key(&id).then_some((id, None)));
    }
    let parsed = parse(reference)?;
    let name = match parsed.digest() {
        // A digest says it all; a tag beside it is for people.
        Some(digest) => format!("{}@{digest}", super::reference::repository(&parsed)),
        None => parsed.whole(),
    };
    let found = index
        .images
        .iter()
        .find(|(_, r)| r.repo_tags.contains(&name) || r.repo_digests.contains(&name));
    Ok(found.map(|(id, _)| (id.clone(), parsed.digest().is_none().then_some(name))))
}

fn image(id: &str, record: &Record) -> Image {
    let user = record.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok();
    Image {
        id: id.to_owned(),
        repo_tags: record.repo_tags.iter().cloned().collect(),
        repo_digests: record.repo_digests.iter().cloned().collect(),
        size_bytes: record.size,
        uid,
        username: if uid.is_some() {
            String::new()
        } else {
            user.to_owned()
        },
    }
}

/// A layer's directory. It is short because the list of an image's layers must fit into one page
/// when they are mounted.
fn layer_name(diff_id: &str) -> Result<String, Error> {
    Ok(check_digest(diff_id)?[..32].to_owned())
}

fn write_atomic(tmp: &Path, path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(tmp)?;
    file.write_all(data)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

#[async_trait]
impl ImageService for ImageStore {
    async fn images(&self) -> Result<Vec<Image>, Error> {
        self.blocking(|s| {
            Ok(s.read_index()?
                .images
                .iter()
                .map(|(id, r)| image(id, r))
                .collect())
        })
        .await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let reference = reference.to_owned();
        self.blocking(move |s| s.find(&reference)).await
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<Image, Error> {
        let parsed = parse(reference)?;
        let turn = {
            let mut pulling = self.inner.pulling.lock();
            pulling.retain(|_, l| l.strong_count() > 0);
            let lock = pulling
                .get(&parsed.whole())
                .and_then(Weak::upgrade)
                .unwrap_or_default();
            pulling.insert(parsed.whole(), Arc::downgrade(&lock));
            lock
        };
        // A second pull of the same image finds what the first one brought.
        let _turn = turn.lock().await;
        let result = pull::pull(self, &parsed, auth).await;
        if result.is_err() {
            self.blocking(|s| s.collect()).await?;
        }
        result
    }

    async fn import(&self, archive: &Path) -> Result<Vec<Image>, Error> {
        let archive = archive.to_owned();
        self.blocking(move |s| {
            let result = archive::import(&s, &archive);
            if result.is_err() {
                s.collect()?;
            }
            result
        })
        .await
    }

    async fn remove(&self, reference: &str) -> Result<(), Error> {
        let reference = reference.to_owned();
        self.blocking(move |s| {
            s.change_index(|index| {
                let Some((id, tag)) = lookup(index, &reference)? else {
                    return Ok(());
                };
                if let (Some(record), Some(tag)) = (index.images.get_mut(&id), tag) {
                    record.repo_tags.remove(&tag);
                    if !record.repo_tags.is_empty() {
                        return Ok(());
                    }
                }
                index.images.remove(&id);
                Ok(())
            })??;
            s.collect()
        })
        .await
    }
}
