//! The logs of simulated containers.

use std::{fmt::Write as _, fs::File, io::Write as _, path::Path};

use jiff::Timestamp;

use crate::Error;

/// Appends the lines of a text to a log, in the CRI's format, as written to the stream of that name. Without a path
/// there is no log.
pub(super) fn append(path: &Path, stream: &str, text: &str, now: Timestamp) -> Result<(), Error> {
    let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut lines = String::new();
    for line in text.lines() {
        let _ = writeln!(lines, "{now:.9} {stream} F {line}");
    }
    std::fs::create_dir_all(folder)
        .and_then(|()| File::options().create(true).append(true).open(path))
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(|e| Error::io(format!("write {path:?}"), e))
}
