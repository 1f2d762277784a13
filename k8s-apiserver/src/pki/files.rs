//! Files that are there in full or not at all.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::PkiError;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError + '_ {
    move |source| PkiError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Makes the folder, readable by its owner alone, unless it is there.
pub(super) fn folder(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io(path))
}

/// The text of the file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(path)(e)),
    }
}

/// Writes the file beside its place, syncs it, and moves it there.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    put(path, text, mode, true)
}

/// Writes a file that can be made again: it need not survive the machine's end, and is there
/// in full for everybody who reads it before.
pub(super) fn write_replaceable(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    put(path, text, mode, false)
}

fn put(path: &Path, text: &str, mode: u32, durable: bool) -> Result<(), PkiError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(io(&beside))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| if durable { file.sync_all() } else { Ok(()) })
        .and_then(|()| fs::rename(&beside, path));
    if let Err(e) = written {
        let _ = fs::remove_file(&beside);
        return Err(io(path)(e));
    }
    if durable && let Some(parent) = path.parent() {
        let _ = fs::File::open(parent).and_then(|folder| folder.sync_all());
    }
    Ok(())
}
