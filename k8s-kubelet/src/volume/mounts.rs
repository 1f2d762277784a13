//! tmpfs and bind mounts, and their removal.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Whether something is mounted at this very path.
pub(crate) fn is_mounted(path: &Path) -> bool {
    below(path).iter().any(|p| p == path)
}

/// Mounts a tmpfs, unless one is there.
pub(crate) fn tmpfs(path: &Path, size_bytes: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mounted(path) {
        return Ok(());
    }
    let data = size_bytes.filter(|s| *s > 0).map(|s| format!("size={s}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, data.as_deref()).map_err(io::Error::from)
}

/// Shows `source` at `target` too.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(io::Error::from)
}

/// Every mount at or below a path, deepest first.
pub(crate) fn below(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(unescape);
    let mut out: Vec<PathBuf> = points
        .map(PathBuf::from)
        .filter(|p| p.starts_with(path))
        .collect();
    out.sort();
    out.reverse();
    out
}

fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Unmounts everything at or below a path.
pub(crate) fn unmount_all(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for point in below(&path) {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
