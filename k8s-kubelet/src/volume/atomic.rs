//! Files that change all at once, as seen by whoever has them open or looks them up.
//!
//! The layout is upstream's: visible names are links into `..data`, itself a link to a directory
//! named after the time it was written. Replacing `..data` by a rename is the change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

/// One file of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    /// Its owner, if not the kubelet's user.
    pub(crate) uid: Option<u32>,
}

/// Files by path, relative to the volume.
pub(crate) type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// Makes `directory` show exactly this payload. Returns whether anything changed.
pub(crate) fn write(
    directory: &Path,
    payload: &Payload,
    fs_group: Option<u32>,
) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    fs::create_dir_all(directory)?;
    let data = directory.join(DATA);
    let old = fs::read_link(&data).ok();
    let unchanged = old
        .as_ref()
        .is_some_and(|old| shows(&directory.join(old), payload));
    if unchanged {
        link_names(directory, payload)?;
        return Ok(false);
    }
    let now = jiff::Timestamp::now()
        .strftime("..%Y_%m_%d_%H_%M_%S")
        .to_string();
    let name = format!("{now}.{:010}", fastrand::u32(..));
    let fresh = directory.join(&name);
    if let Err(error) = write_files(&fresh, payload, fs_group) {
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    let tmp = directory.join(DATA_TMP);
    let _ = fs::remove_file(&tmp);
    symlink(&name, &tmp)?;
    fs::rename(&tmp, &data)?;
    link_names(directory, payload)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(directory.join(old));
    }
    Ok(true)
}

fn check_path(path: &str) -> io::Result<()> {
    let plain = Path::new(path)
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid path {path:?}"),
        ));
    }
    Ok(())
}

fn write_files(root: &Path, payload: &Payload, fs_group: Option<u32>) -> io::Result<()> {
    fs::create_dir(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = root.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.data)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
        if let Some(uid) = file.uid {
            std::os::unix::fs::chown(&target, Some(uid), None)?;
        }
    }
    match fs_group {
        Some(gid) => super::ownership::give_to_group(root, gid, true),
        None => Ok(()),
    }
}

/// Whether a directory already holds this payload.
fn shows(directory: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if list_files(directory, Path::new(""), &mut found).is_err() {
        return false;
    }
    found.len() == payload.len()
        && payload.iter().all(|(path, file)| {
            found.contains(Path::new(path))
                && fs::read(directory.join(path)).is_ok_and(|data| data == file.data)
        })
}

fn list_files(root: &Path, below: &Path, out: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list_files(root, &path, out)?;
        } else {
            out.insert(path);
        }
    }
    Ok(())
}

/// Links each name at the top to its place in `..data`, and removes links to nothing.
fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or(path).to_owned();
    let wanted: BTreeSet<String> = payload.keys().map(|p| first(p)).collect();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(directory.join(name))?;
        }
    }
    for name in wanted {
        let link = directory.join(&name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(&name), link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File {
            data: data.as_bytes().to_vec(),
            mode: 0o644,
            uid: None,
        };
        files
            .iter()
            .map(|(path, data)| ((*path).to_owned(), file(data)))
            .collect()
    }

    #[test]
    fn updates_swap_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        let before = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(write(dir.path(), &payload(&[("a", "3")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists());
        assert!(!dir.path().join(before).exists());
    }

    #[test]
    fn paths_out_of_the_volume_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/passwd", "a/../../b", "..data", ""] {
            assert!(
                write(dir.path(), &payload(&[(path, "")]), None).is_err(),
                "{path}"
            );
        }
    }
}
