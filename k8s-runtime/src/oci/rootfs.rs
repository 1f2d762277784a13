//! A container's root file system: the image's layers under a layer of its own.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{Error, error::IoContext};

/// The kernel takes no more options than this.
const MAX_OPTIONS: usize = 4095;

/// Where what a container writes into its root file system lies.
pub(super) fn upper(dir: &Path) -> PathBuf {
    dir.join("upper")
}

/// Mounts `dir/rootfs`. To be called on a thread that is thrown away: it changes the working
/// directory, so that the layers' names can be short.
pub(super) fn mount_overlay(layers: &Path, lower: &[PathBuf], dir: &Path) -> Result<(), Error> {
    for name in ["rootfs", "upper", "work", "empty"] {
        let path = dir.join(name);
        fs::create_dir(&path).context(|| format!("make {path:?}"))?;
    }
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(upper(dir), mode).context(|| "set the root's mode".to_owned())?;
    unshare(CloneFlags::CLONE_FS).context(|| "leave the shared working directory".to_owned())?;
    std::env::set_current_dir(layers).context(|| format!("enter {layers:?}"))?;

    let mut options = OsString::from("lowerdir=");
    if lower.is_empty() {
        options.push(escape(&dir.join("empty")));
    }
    for (i, layer) in lower.iter().enumerate() {
        if i > 0 {
            options.push(":");
        }
        options.push(layer);
    }
    options.push(",upperdir=");
    options.push(escape(&upper(dir)));
    options.push(",workdir=");
    options.push(escape(&dir.join("work")));
    // What a container wrote does not outlive a crash of the machine, so nothing has to be synced.
    for extra in [",volatile", ""] {
        let mut options = options.clone();
        options.push(extra);
        if options.len() > MAX_OPTIONS {
            return Err(Error::Unsupported(format!(
                "an image with {} layers",
                lower.len()
            )));
        }
        match mount(
            Some("overlay"),
            &dir.join("rootfs"),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_os_str()),
        ) {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) if !extra.is_empty() => {}
            Err(e) => return Err(Error::io("mount the container's file system", e)),
        }
    }
    Ok(())
}

/// Commas and colons have a meaning in the options.
fn escape(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = Vec::new();
    for b in path.as_os_str().as_bytes() {
        if matches!(b, b',' | b':' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    OsString::from_vec(out)
}
