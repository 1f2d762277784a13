//! Unpacking one layer: a tar stream becomes a directory that overlayfs can stack.
//!
//! A layer is input from a stranger. Names are resolved as if the layer's directory were the root
//! of the file system (`openat2` with `RESOLVE_IN_ROOT`), so that neither `..` nor a symbolic link
//! leads out of it; a name with `..` is refused altogether.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, BufReader, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::{
        stat::{
            FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat,
            mknodat, utimensat,
        },
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid, linkat, mkfifoat, symlinkat, unlinkat},
};
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::{Error, sim::hex, sys};

/// No layer may unpack to more than this.
const MAX_UNPACKED: u64 = 64 << 30;

/// Reads through to somebody else while it takes the digest.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    read: u64,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            read: 0,
        }
    }

    /// Reads what is left, then gives the digest and the length of all.
    pub(crate) fn finish(mut self) -> io::Result<(String, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((
            format!("sha256:{}", hex(&self.hasher.finalize())),
            self.read,
        ))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.read += n as u64;
        Ok(n)
    }
}

/// Undoes gzip or zstd, told apart from plain data by the first bytes.
pub(crate) enum Decompress<R: Read> {
    Plain(Whole<R>),
    Gzip(Box<flate2::read::MultiGzDecoder<Whole<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Whole<R>>>>),
}

/// The first bytes, which were looked at, and the rest.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

impl<R: Read> Decompress<R> {
    pub(crate) fn new(mut reader: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut head)?;
        let kind = [
            head.starts_with(&[0x1f, 0x8b]),
            head == [0x28, 0xb5, 0x2f, 0xfd],
        ];
        let all = io::Cursor::new(head).chain(reader);
        Ok(match kind {
            [true, _] => Self::Gzip(Box::new(flate2::read::MultiGzDecoder::new(all))),
            [_, true] => Self::Zstd(Box::new(zstd::Decoder::new(all)?)),
            _ => Self::Plain(all),
        })
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    pub(crate) fn into_source(self) -> R {
        match self {
            Self::Plain(chain) => chain.into_inner().1,
            Self::Gzip(decoder) => decoder.into_inner().into_inner().1,
            Self::Zstd(decoder) => decoder.finish().into_inner().into_inner().1,
        }
    }
}

impl<R: Read> Read for Decompress<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buf),
            Self::Gzip(r) => r.read(buf),
            Self::Zstd(r) => r.read(buf),
        }
    }
}

/// What was read of a layer.
pub(crate) struct Unpacked {
    /// The digest of the stream as it came.
    pub(crate) digest: String,
    /// The length of the stream as it came.
    pub(crate) size: u64,
    /// The digest of the tar stream inside.
    pub(crate) diff_id: String,
    /// The bytes of all files.
    pub(crate) unpacked: u64,
}

/// Unpacks a layer, compressed or not, into an empty directory.
pub(crate) fn unpack(layer: impl Read, into: &Path) -> Result<Unpacked, Error> {
    let broken = |e: io::Error| broken(&format!("layer: {e}"));
    let compressed = Hashing::new(BufReader::with_capacity(256 << 10, layer));
    let mut tar = Hashing::new(Decompress::new(compressed).map_err(broken)?);
    let mut target = Target::open(into)?;
    let mut archive = tar::Archive::new(&mut tar);
    for entry in archive.entries().map_err(broken)? {
        target.add(entry.map_err(broken)?)?;
    }
    let unpacked = target.finish()?;
    io::copy(&mut tar, &mut io::sink()).map_err(broken)?;
    let Hashing { inner, hasher, .. } = tar;
    let diff_id = format!("sha256:{}", hex(&hasher.finalize()));
    let (digest, size) = inner.into_source().finish().map_err(broken)?;
    Ok(Unpacked {
        digest,
        size,
        diff_id,
        unpacked,
    })
}

fn broken(message: &str) -> Error {
    Error::BrokenArchive(message.to_owned())
}

/// Cleans an entry's name. `None` for the root itself.
fn clean(path: &Path) -> Result<Option<PathBuf>, Error> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(p) => out.push(p),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(broken(&format!("entry {path:?} leads out of the image")));
            }
        }
    }
    Ok((!out.as_os_str().is_empty()).then_some(out))
}

struct Times {
    parent: PathBuf,
    name: OsString,
    mtime: i64,
}

/// The directory that a layer goes into.
struct Target {
    root: OwnedFd,
    /// The directory that was written to last: entries come sorted, so it is mostly the next one.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories' times, set at the end: adding entries changes them.
    times: Vec<Times>,
    bytes: u64,
    privileged: bool,
}

impl Target {
    fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|e| Error::io(format!("open {path:?}"), e))?;
        Ok(Self {
            root,
            parent: None,
            times: Vec::new(),
            bytes: 0,
            privileged: geteuid().is_root(),
        })
    }

    /// Opens a directory below the root, without ever leaving it.
    fn resolve(&self, dir: &Path) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(
            &self.root,
            if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            },
            how,
        )
    }

    /// Opens an entry's directory; makes it if the layer did not mention it.
    fn directory(&mut self, dir: &Path) -> Result<&OwnedFd, Error> {
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            let fd = match self.resolve(dir) {
                Ok(fd) => fd,
                Err(Errno::ENOENT) => {
                    let (up, name) = split(dir);
                    let name = name.to_owned();
                    let above = self.directory(&up)?;
                    match mkdirat(above, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(e) => return Err(Error::io(format!("make directory {dir:?}"), e)),
                    }
                    self.resolve(dir)
                        .map_err(|e| broken(&format!("entry below {dir:?}: {e}")))?
                }
                Err(e) => return Err(broken(&format!("entry below {dir:?}: {e}"))),
            };
            self.parent = Some((dir.to_owned(), fd));
        }
        match &self.parent {
            Some((_, fd)) => Ok(fd),
            None => Err(broken("no directory")),
        }
    }

    fn add(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let path = entry
            .path()
            .map_err(|e| broken(&format!("layer: {e}")))?
            .into_owned();
        let Some(path) = clean(&path)? else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        let name = name.to_owned();
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > MAX_UNPACKED {
            return Err(broken("a layer unpacks to more than 64 GiB"));
        }
        let privileged = self.privileged;
        let parent = self.directory(&dir)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(parent, hidden, privileged)
                .map_err(|e| Error::io(format!("whiteout {path:?}"), e));
        }
        let fail = |e: Errno| Error::io(format!("unpack {path:?}"), e);
        let was_whiteout = clear(parent, &name, kind == EntryType::Directory).map_err(fail)?;
        let name = name.as_os_str();
        let header = entry.header();
        let mode = Mode::from_bits_truncate(
            header
                .mode()
                .map_err(|e| broken(&format!("{path:?}: {e}")))?
                & 0o7777,
        );
        // Some writers leave the owner out, which means root.
        let number = |field: &[u8], n: io::Result<u64>| -> Result<u32, Error> {
            if field.iter().all(|&b| b == 0 || b == b' ') {
                return Ok(0);
            }
            n.ok()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| broken(&format!("{path:?}: bad owner")))
        };
        let fields = header.as_old();
        let owner = (
            number(&fields.uid, header.uid())?,
            number(&fields.gid, header.gid())?,
        );
        let mtime = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        match kind {
            EntryType::Directory => {
                match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(fail(e)),
                }
                if was_whiteout {
                    make_opaque(&fd_path(parent, name), privileged)
                        .map_err(|e| Error::io(format!("unpack {path:?}"), e))?;
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_WRONLY
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let fd =
                    openat(parent, name, flags, Mode::from_bits_truncate(0o600)).map_err(fail)?;
                let size = entry.size();
                let written = io::copy(&mut entry, &mut File::from(fd))
                    .map_err(|e| broken(&format!("{path:?}: {e}")))?;
                if written != size {
                    return Err(broken(&format!(
                        "{path:?} has {written} bytes instead of {size}"
                    )));
                }
            }
            EntryType::Symlink => {
                let target = link_name(&entry, &path)?;
                symlinkat(target.as_os_str(), parent, name).map_err(fail)?;
            }
            EntryType::Link => {
                let target = link_name(&entry, &path)?;
                let target = clean(&target)?
                    .ok_or_else(|| broken(&format!("{path:?} links to the root")))?;
                let (target_dir, target_name) = split(&target);
                let missing = |e: Errno| broken(&format!("{path:?} links to {target:?}: {e}"));
                let from = self.resolve(&target_dir).map_err(missing)?;
                let parent = self.directory(&dir)?;
                linkat(&from, target_name, parent, name, AtFlags::empty()).map_err(missing)?;
                return Ok(());
            }
            EntryType::Fifo => {
                mkfifoat(parent, name, Mode::from_bits_truncate(0o600)).map_err(fail)?
            }
            EntryType::Char | EntryType::Block => {
                let number = |n: io::Result<Option<u32>>| u64::from(n.ok().flatten().unwrap_or(0));
                let dev = makedev(number(header.device_major()), number(header.device_minor()));
                let kind = if kind == EntryType::Char {
                    SFlag::S_IFCHR
                } else {
                    SFlag::S_IFBLK
                };
                match mknodat(parent, name, kind, Mode::from_bits_truncate(0o600), dev) {
                    Err(Errno::EPERM) if !privileged => return Ok(()),
                    r => r.map_err(fail)?,
                }
            }
            other => return Err(broken(&format!("{path:?} has the unknown type {other:?}"))),
        }
        let parent = self.directory(&dir)?;
        if privileged {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            fchownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .map_err(fail)?;
        }
        if kind != EntryType::Symlink {
            // Nothing but what was just made has this name, so there is no link to follow.
            fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink).map_err(fail)?;
        }
        let attributes = attributes(&mut entry, &path)?;
        for (key, value) in attributes {
            match sys::lsetxattr(&fd_path(parent, name), &key, &value) {
                Err(e) if !privileged || e.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
                    tracing::debug!(error = %e, "extended attribute left out");
                }
                r => r.map_err(|e| Error::io(format!("attribute of {path:?}"), e))?,
            }
        }
        if kind == EntryType::Directory {
            self.times.push(Times {
                parent: dir,
                name: name.to_owned(),
                mtime,
            });
        } else {
            set_time(parent, name, mtime).map_err(fail)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, Error> {
        for Times {
            parent,
            name,
            mtime,
        } in std::mem::take(&mut self.times).into_iter().rev()
        {
            let dir = self.directory(&parent)?;
            match set_time(dir, &name, mtime) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => return Err(Error::io(format!("time of {name:?}"), e)),
            }
        }
        Ok(self.bytes)
    }
}

fn split(path: &Path) -> (PathBuf, &OsStr) {
    (
        path.parent().unwrap_or(Path::new("")).to_owned(),
        path.file_name().unwrap_or(OsStr::new(".")),
    )
}

fn link_name(entry: &tar::Entry<'_, impl Read>, path: &Path) -> Result<PathBuf, Error> {
    let name = entry
        .link_name()
        .map_err(|e| broken(&format!("{path:?}: {e}")))?;
    let name = name.ok_or_else(|| broken(&format!("{path:?} links to nothing")))?;
    if name.as_os_str().is_empty() {
        return Err(broken(&format!("{path:?} links to nothing")));
    }
    Ok(name.into_owned())
}

/// A path to an entry by its directory's descriptor, for calls that take no descriptor.
fn fd_path(dir: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name)
}

fn set_time(dir: &OwnedFd, name: &OsStr, mtime: i64) -> Result<(), Errno> {
    let time = TimeSpec::new(mtime, 0);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

/// Makes room for an entry. Tells whether there was a whiteout.
fn clear(dir: &OwnedFd, name: &OsStr, for_directory: bool) -> Result<bool, Errno> {
    let there = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(false),
        Err(e) => return Err(e),
    };
    let format = SFlag::from_bits_truncate(there.st_mode & SFlag::S_IFMT.bits());
    if format == SFlag::S_IFDIR {
        if !for_directory {
            std::fs::remove_dir_all(fd_path(dir, name))
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)))?;
        }
        return Ok(false);
    }
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
    Ok(format == SFlag::S_IFCHR && there.st_rdev == 0)
}

/// Hides what lower layers have, in overlayfs's way.
fn whiteout(dir: &OwnedFd, hidden: &[u8], privileged: bool) -> io::Result<()> {
    if hidden == b".wh..opq" {
        return make_opaque(&fd_path(dir, OsStr::new(".")), privileged);
    }
    if hidden.is_empty() || hidden == b"." || hidden == b".." || hidden.starts_with(b".wh.") {
        // Other names of that kind are aufs's own business.
        return Ok(());
    }
    let name = OsStr::from_bytes(hidden);
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0)?),
        Err(e) => Err(e.into()),
        Ok(stat) if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() => {
            make_opaque(&fd_path(dir, name), privileged)
        }
        Ok(_) => Ok(()),
    }
}

fn make_opaque(dir: &Path, privileged: bool) -> io::Result<()> {
    sys::lsetxattr(
        dir,
        if privileged {
            c"trusted.overlay.opaque"
        } else {
            c"user.overlay.opaque"
        },
        b"y",
    )
}

/// The extended attributes that an image may set: file capabilities and the users' own. Others,
/// overlayfs's above all, are not an image's to set.
fn attributes(
    entry: &mut tar::Entry<'_, impl Read>,
    path: &Path,
) -> Result<Vec<(CString, Vec<u8>)>, Error> {
    let bad = |e: io::Error| broken(&format!("{path:?}: {e}"));
    let mut out = Vec::new();
    for record in entry.pax_extensions().map_err(bad)?.into_iter().flatten() {
        let record = record.map_err(bad)?;
        let Some(name) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        if name == b"security.capability"
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        {
            let key =
                CString::new(name).map_err(|_| broken(&format!("{path:?}: bad attribute")))?;
            out.push((key, record.value_bytes().to_owned()));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;

    fn entry(kind: EntryType, size: u64) -> tar::Header {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_size(size);
        h.set_mode(0o644);
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(0);
        h
    }

    /// Puts a name into a header that the tar crate would refuse to write.
    fn raw_name(h: &mut tar::Header, name: &str) {
        h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        h.set_cksum();
    }

    fn build(f: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut b = tar::Builder::new(Vec::new());
        f(&mut b);
        b.into_inner().unwrap()
    }

    fn file(b: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
        let mut h = entry(EntryType::Regular, data.len() as u64);
        raw_name(&mut h, name);
        b.append(&h, data).unwrap();
    }

    fn symlink(b: &mut tar::Builder<Vec<u8>>, name: &str, target: &str) {
        let mut h = entry(EntryType::Symlink, 0);
        h.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        raw_name(&mut h, name);
        b.append(&h, &[][..]).unwrap();
    }

    #[test]
    fn a_name_with_dots_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        let tar = build(|b| file(b, "a/../../out", b"x"));
        assert!(matches!(
            unpack(&tar[..], &inside),
            Err(Error::BrokenArchive(_))
        ));
        assert!(!dir.path().join("out").exists());
    }

    #[test]
    fn links_never_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let tar = build(|b| {
            symlink(b, "abs", outside.to_str().unwrap());
            symlink(b, "rel", "../out");
            file(b, "rel/evil", b"x");
        });
        let _ = unpack(&tar[..], &inside);
        let tar = build(|b| {
            symlink(b, "abs", outside.to_str().unwrap());
            file(b, "abs/evil", b"x");
        });
        let _ = unpack(&tar[..], &inside);
        let tar = build(|b| {
            symlink(b, "file", outside.join("evil").to_str().unwrap());
            file(b, "file", b"x");
        });
        unpack(&tar[..], &inside).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn an_owner_left_out_is_root_and_a_senseless_one_is_refused() {
        let with_owner = |owner: [u8; 8]| {
            build(|b| {
                let mut h = entry(EntryType::Regular, 1);
                h.as_old_mut().uid = owner;
                h.as_old_mut().gid = owner;
                raw_name(&mut h, "a");
                b.append(&h, &b"x"[..]).unwrap();
            })
        };
        let dir = tempfile::tempdir().unwrap();
        unpack(&with_owner([0; 8])[..], dir.path()).unwrap();
        assert!(dir.path().join("a").exists());
        assert!(matches!(
            unpack(&with_owner(*b"zzzzzzz\0")[..], dir.path()),
            Err(Error::BrokenArchive(_))
        ));
    }

    #[test]
    fn a_truncated_layer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = build(|b| file(b, "a", &[7; 4096]));
        tar.truncate(1024);
        assert!(matches!(
            unpack(&tar[..], dir.path()),
            Err(Error::BrokenArchive(_))
        ));
    }

    #[test]
    fn whiteouts_become_overlayfs_ones() {
        let dir = tempfile::tempdir().unwrap();
        let tar = build(|b| {
            file(b, "d/.wh.gone", b"");
            file(b, "d/kept", b"x");
            file(b, "d/.wh..wh..plnk", b"");
        });
        match unpack(&tar[..], dir.path()) {
            Err(Error::Io { .. }) if !geteuid().is_root() => return,
            r => r.map(drop).unwrap(),
        }
        let gone = std::fs::symlink_metadata(dir.path().join("d/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        assert_eq!(std::fs::read_dir(dir.path().join("d")).unwrap().count(), 2);
    }

    #[test]
    fn digests_are_of_the_stream_and_of_the_tar_inside() {
        use std::io::Write;
        let tar = build(|b| file(b, "a", b"hello"));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tar).unwrap();
        let gz = gz.finish().unwrap();
        let zst = zstd::encode_all(&tar[..], 1).unwrap();
        let sha = |data: &[u8]| format!("sha256:{}", hex(&Sha256::digest(data)));
        for packed in [&tar, &gz, &zst] {
            let dir = tempfile::tempdir().unwrap();
            let u = unpack(&packed[..], dir.path()).unwrap();
            assert_eq!((u.digest, u.size), (sha(packed), packed.len() as u64));
            assert_eq!((u.diff_id, u.unpacked), (sha(&tar), 5));
            assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"hello");
        }
    }
}
