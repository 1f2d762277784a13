//! [`disk_usage`]: how much of a disk a tree takes.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The bytes that a file or a tree takes on its disk, counted as `du -x` counts: by blocks, a file
/// with several names once, nothing of other file systems mounted below, links not followed. What
/// vanishes meanwhile is not counted.
///
/// Blocks its thread: it looks at each file.
///
/// # Errors
///
/// If `path` itself is not there, or something below cannot be read.
pub fn disk_usage(path: &Path) -> io::Result<u64> {
    let root = fs::symlink_metadata(path)?;
    let mut bytes = root.blocks() * 512;
    let mut several = HashSet::new();
    let mut directories: Vec<PathBuf> = if root.is_dir() {
        vec![path.to_owned()]
    } else {
        Vec::new()
    };
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            // Does not follow a link.
            let (path, metadata) = match entry.and_then(|e| Ok((e.path(), e.metadata()?))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.dev() != root.dev() {
                continue;
            }
            if metadata.is_dir() {
                directories.push(path);
            } else if metadata.nlink() > 1 && !several.insert(metadata.ino()) {
                continue;
            }
            bytes += metadata.blocks() * 512;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_takes_its_blocks_and_a_file_of_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_usage(dir.path()).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a"), vec![1; 1 << 20]).unwrap();
        let one = disk_usage(dir.path()).unwrap();
        assert!(one >= empty + (1 << 20), "{empty} {one}");
        fs::hard_link(dir.path().join("sub/a"), dir.path().join("b")).unwrap();
        assert!(disk_usage(dir.path()).unwrap() < one + (1 << 19));
        assert!(disk_usage(&dir.path().join("sub/a")).unwrap() >= 1 << 20);
    }

    #[test]
    fn links_are_not_followed_and_holes_take_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        assert!(disk_usage(dir.path()).unwrap() < 1 << 20);
        assert!(disk_usage(&dir.path().join("none")).is_err());
    }
}
