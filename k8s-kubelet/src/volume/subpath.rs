//! `subPath`: part of a volume, and never anything outside of it.
//!
//! A container may have put links into the volume that lead out of it. So the path is opened
//! component by component without following links, and what was opened, not its name, is
//! what gets mounted (CVE-2017-1002101).

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, fchmod, fstat, mkdirat},
};

use super::mounts;

/// Makes `volume/sub_path` available at a path that can't be led astray any more; creates it as a
/// directory where it does not exist. `target` is where it gets mounted.
pub(crate) fn prepare(
    volume: &Path,
    sub_path: &str,
    target: &Path,
    may_mount: bool,
) -> io::Result<PathBuf> {
    let fd = open_beneath(volume, sub_path)?;
    let proc_path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    if !may_mount {
        return fs::read_link(proc_path);
    }
    if mounts::is_mounted(target) {
        mounts::unmount_all(target)?;
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let is_dir = fs::metadata(&proc_path)?.is_dir();
    if is_dir {
        fs::create_dir_all(target)?;
    } else if !target.exists() {
        fs::File::create(target)?;
    }
    mounts::bind(&proc_path, target)?;
    Ok(target.to_owned())
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.to_owned())
}

/// Opens a path below a directory. Links are followed as long as they stay inside.
fn open_beneath(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = fs::canonicalize(volume)?;
    let wanted = Path::new(sub_path);
    if !wanted
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return Err(invalid("must not be absolute or contain '..'"));
    }
    // Resolve links in what exists; the rest is made as directories.
    let mut existing = root.join(wanted);
    let mut missing = Vec::new();
    let resolved = loop {
        match fs::canonicalize(&existing) {
            Ok(path) => break path,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(&existing).is_err() =>
            {
                let name = existing
                    .file_name()
                    .ok_or_else(|| invalid("no name"))?
                    .to_owned();
                missing.push(name);
                existing.pop();
            }
            Err(error) => return Err(error),
        }
    };
    let inside = resolved
        .strip_prefix(&root)
        .map_err(|_| invalid("leads out of the volume"))?;
    let dir = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut fd = open(&root, dir | OFlag::O_DIRECTORY, Mode::empty())?;
    let mode = fstat(&fd)?.st_mode & 0o7777;
    let names = inside
        .iter()
        .map(|n| (n.to_owned(), false))
        .chain(missing.into_iter().rev().map(|n| (n, true)));
    for (name, make) in names {
        if make {
            let mode = Mode::from_bits_truncate(mode);
            match mkdirat(&fd, name.as_os_str(), mode) {
                Ok(()) => {
                    // The mask for new files concerns this process, not the volume.
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
                    let made = openat(
                        &fd,
                        name.as_os_str(),
                        flags | OFlag::O_CLOEXEC,
                        Mode::empty(),
                    )?;
                    fchmod(&made, mode)?;
                }
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        fd = openat(&fd, name.as_os_str(), dir, Mode::empty())?;
        let kind = fstat(&fd)?.st_mode & nix::libc::S_IFMT;
        if kind == nix::libc::S_IFLNK {
            return Err(invalid("leads through a link"));
        }
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_made_has_the_mode_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).unwrap();
        let made = prepare(&volume, "new/deep", &dir.path().join("target"), false).unwrap();
        for path in [made.parent().unwrap(), &made] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o2777, "{path:?}");
        }
    }

    #[test]
    fn links_out_of_the_volume_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("../secret", volume.join("out")).unwrap();
        symlink("a", volume.join("in")).unwrap();
        symlink("nowhere", volume.join("dangling")).unwrap();
        let target = dir.path().join("target");
        let get = |sub: &str| prepare(&volume, sub, &target, false);
        assert!(get("out").is_err());
        assert!(get("../secret").is_err());
        assert!(get("dangling").is_err());
        let volume = fs::canonicalize(&volume).unwrap();
        assert_eq!(get("in").unwrap(), volume.join("a"));
        assert_eq!(get("new/deep").unwrap(), volume.join("new/deep"));
        assert!(volume.join("new/deep").is_dir());
    }
}
