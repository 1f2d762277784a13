//! Importing images from files: OCI layouts (directory or tar) and Docker archives.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    ImageStore,
    config::{ConfigFile, Descriptor, Manifest, check_digest},
    layer::Decompress,
    reference,
    store::Names,
};
use crate::{Error, Image, error::IoContext, sim::hex};

/// No manifest or configuration is larger than this.
const MAX_JSON: u64 = 8 << 20;

/// How deep lists of manifests may nest.
const MAX_DEPTH: u32 = 4;

fn broken(message: impl Into<String>) -> Error {
    Error::BrokenArchive(message.into())
}

/// What may be shown on a terminal: the tar reader quotes the archive's bytes as they are.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        char::REPLACEMENT_CHARACTER => '?',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().take(200).map(shown).collect()
}

/// One image of an archive, checked and read but for its layers.
struct Found {
    config: Vec<u8>,
    manifest: Option<Vec<u8>>,
    /// Each layer's name in the archive and, where a manifest tells, its digest and size.
    layers: Vec<(String, Option<(String, u64)>)>,
    names: Names,
}

pub(super) fn import(store: &ImageStore, path: &Path) -> Result<Vec<Image>, Error> {
    let _busy = store.busy()?;
    let mut source = Source::open(path, &store.tmp_dir())?;
    let found = match source.read("manifest.json")? {
        Some(json) => docker(&mut source, &json)?,
        None => oci(&mut source)?,
    };
    if found.is_empty() {
        return Err(broken("there is no image for this machine in it"));
    }
    // All layers of all images first: an image must not appear when another one is broken.
    for image in &found {
        let config = ConfigFile::parse(&image.config)?;
        if config.diff_ids().len() != image.layers.len() {
            let (named, there) = (config.diff_ids().len(), image.layers.len());
            return Err(broken(format!(
                "the configuration names {named} layers, the archive has {there}"
            )));
        }
        for (diff_id, (name, blob)) in config.diff_ids().iter().zip(&image.layers) {
            let blob = blob.as_ref().map(|(d, s)| (d.as_str(), *s));
            store.add_layer(diff_id, blob, || source.open_file(name))?;
        }
    }
    found
        .into_iter()
        .map(|i| store.commit(&i.config, i.manifest.as_deref(), i.names))
        .collect()
}

/// The images of a Docker archive.
fn docker(source: &mut Source, json: &[u8]) -> Result<Vec<Found>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Option<Vec<String>>,
    }
    let entries: Vec<Entry> =
        serde_json::from_slice(json).map_err(|e| broken(format!("manifest.json: {e}")))?;
    let mut out = Vec::new();
    for entry in entries {
        let config = source.need(&entry.config)?;
        let tags = entry.repo_tags.unwrap_or_default();
        let tags = tags
            .iter()
            .map(|t| reference::normalize(t))
            .collect::<Result<_, _>>()?;
        out.push(Found {
            config,
            manifest: None,
            layers: entry
                .layers
                .unwrap_or_default()
                .into_iter()
                .map(|l| (l, None))
                .collect(),
            names: Names {
                tags,
                digests: Vec::new(),
            },
        });
    }
    Ok(out)
}

/// The images of an OCI layout.
fn oci(source: &mut Source) -> Result<Vec<Found>, Error> {
    let index = source
        .read("index.json")?
        .ok_or_else(|| broken("it has neither manifest.json nor index.json"))?;
    let index = Manifest::parse(&index)?;
    let mut out = Vec::new();
    for entry in index.manifests.iter().flatten() {
        let note = |key: &str| entry.annotations.as_ref().and_then(|a| a.get(key));
        let tags = match note("io.containerd.image.name")
            .or_else(|| note("org.opencontainers.image.ref.name"))
        {
            Some(name) => vec![reference::normalize(name)?],
            None => Vec::new(),
        };
        let digests = match tags.first() {
            Some(tag) => vec![format!(
                "{}@{}",
                reference::repository(&reference::parse(tag)?),
                entry.digest
            )],
            None => Vec::new(),
        };
        if let Some(found) = oci_image(source, entry, 0)? {
            out.push(Found {
                names: Names { tags, digests },
                ..found
            });
        }
    }
    Ok(out)
}

fn oci_image(source: &mut Source, entry: &Descriptor, depth: u32) -> Result<Option<Found>, Error> {
    if depth > MAX_DEPTH {
        return Err(broken("lists of manifests nest too deep"));
    }
    let raw = source.blob(entry)?;
    let manifest = Manifest::parse(&raw)?;
    if manifest.manifests.is_some() {
        return match manifest.choose() {
            Some(chosen) => oci_image(source, chosen, depth + 1),
            None => Ok(None),
        };
    }
    let config = manifest
        .config
        .ok_or_else(|| broken("a manifest names no configuration"))?;
    let config = source.blob(&config)?;
    let mut layers = Vec::new();
    for layer in manifest.layers.unwrap_or_default() {
        layers.push((blob_name(&layer.digest)?, Some((layer.digest, layer.size))));
    }
    Ok(Some(Found {
        config,
        manifest: Some(raw),
        layers,
        names: Names::default(),
    }))
}

fn blob_name(digest: &str) -> Result<String, Error> {
    Ok(format!("blobs/sha256/{}", check_digest(digest)?))
}

/// Where an archive's files are.
enum Source {
    Directory(PathBuf),
    Tar {
        file: File,
        entries: HashMap<String, Entry>,
    },
}

enum Entry {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Source {
    fn open(path: &Path, tmp: &Path) -> Result<Self, Error> {
        let meta = std::fs::metadata(path).context(|| format!("open {path:?}"))?;
        if meta.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut file = File::open(path).context(|| format!("open {path:?}"))?;
        let bad = |e: io::Error| broken(printable(&e.to_string()));
        let mut decompress =
            Decompress::new(file.try_clone().context(|| format!("open {path:?}"))?).map_err(bad)?;
        if !decompress.is_plain() {
            let mut plain =
                tempfile::tempfile_in(tmp).context(|| "make a temporary file".to_owned())?;
            io::copy(&mut decompress, &mut plain).map_err(bad)?;
            file = plain;
        }
        file.seek(SeekFrom::Start(0))
            .context(|| format!("read {path:?}"))?;
        let length = file.metadata().context(|| format!("read {path:?}"))?.len();
        let mut entries = HashMap::new();
        let mut archive = tar::Archive::new(file.try_clone().context(|| format!("open {path:?}"))?);
        let mut first = true;
        for entry in archive.entries_with_seek().map_err(bad)? {
            // Its first bytes are no header: whatever else they say is noise.
            let entry = entry.map_err(|e| match first {
                true => broken("it is neither a tar archive nor a compressed one"),
                false => bad(e),
            })?;
            first = false;
            let Some(name) = clean(&entry.path().map_err(bad)?) else {
                return Err(broken(format!(
                    "entry {:?} leads out of the archive",
                    entry.path().map_err(bad)?
                )));
            };
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(broken(format!("{name} ends behind the archive's end")));
                }
                entries.insert(name, Entry::File { offset, size });
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = entry
                    .link_name()
                    .map_err(bad)?
                    .unwrap_or_default()
                    .into_owned();
                let base = if kind.is_symlink() {
                    Path::new(&name).parent().unwrap_or(Path::new(""))
                } else {
                    Path::new("")
                };
                if let Some(target) = clean(&base.join(target)) {
                    entries.insert(name, Entry::Link(target));
                }
            }
        }
        Ok(Self::Tar { file, entries })
    }

    fn locate(&self, name: &str) -> Option<(u64, u64)> {
        let Self::Tar { entries, .. } = self else {
            return None;
        };
        let mut name = clean(Path::new(name))?;
        for _ in 0..8 {
            match entries.get(&name)? {
                Entry::File { offset, size } => return Some((*offset, *size)),
                Entry::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// Opens a file of the archive.
    fn open_file(&self, name: &str) -> Result<Box<dyn Read>, Error> {
        let missing = || broken(format!("{name} is missing"));
        match self {
            Self::Directory(dir) => {
                let path = dir.join(clean(Path::new(name)).ok_or_else(missing)?);
                match File::open(&path) {
                    Ok(f) => Ok(Box::new(f)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Err(missing()),
                    Err(e) => Err(Error::io(format!("open {path:?}"), e)),
                }
            }
            Self::Tar { file, .. } => {
                let (offset, size) = self.locate(name).ok_or_else(missing)?;
                let file = file.try_clone().context(|| "read the archive".to_owned())?;
                Ok(Box::new(Section {
                    file,
                    offset,
                    end: offset + size,
                }))
            }
        }
    }

    /// A small file's content; `None` if it is not there.
    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let there = match self {
            Self::Directory(dir) => clean(Path::new(name)).is_some_and(|n| dir.join(n).exists()),
            Self::Tar { .. } => self.locate(name).is_some(),
        };
        if !there {
            return Ok(None);
        }
        let mut out = Vec::new();
        self.open_file(name)?
            .take(MAX_JSON + 1)
            .read_to_end(&mut out)
            .map_err(|e| broken(format!("{name}: {e}")))?;
        if out.len() as u64 > MAX_JSON {
            return Err(broken(format!("{name} is larger than 8 MiB")));
        }
        Ok(Some(out))
    }

    fn need(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        self.read(name)?
            .ok_or_else(|| broken(format!("{name} is missing")))
    }

    /// A small blob, checked against its descriptor.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let data = self.need(&blob_name(&descriptor.digest)?)?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&data)));
        if digest != descriptor.digest || data.len() as u64 != descriptor.size {
            return Err(broken(format!(
                "blob {} does not match its digest and size",
                descriptor.digest
            )));
        }
        Ok(data)
    }
}

/// A name without `.` and `/` at its front; `None` if it leads out.
fn clean(path: &Path) -> Option<String> {
    let mut out: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(p) => out.push(p.to_str()?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir => {
                out.pop()?;
            }
            Component::Prefix(_) => return None,
        }
    }
    Some(out.join("/"))
}

/// A part of a file, read independently of the file's own position.
struct Section {
    file: File,
    offset: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let left = usize::try_from(self.end - self.offset)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let n = self.file.read_at(&mut buf[..left], self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}
