//! What a container left to say when it ended.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use k8s_runtime::ContainerStatus;

use crate::{logs::format::message_of, pod::labels::Annotated};

const FILE_LIMIT: u64 = 4096;
const LOG_LIMIT: u64 = 2048;
const LOG_LINES: usize = 80;

/// Reads the termination message of a container that has ended.
pub(crate) fn read(container: &ContainerStatus) -> String {
    let file = container
        .config
        .message_file()
        .map(|path| head(Path::new(path)))
        .unwrap_or_default();
    let failed = container.exit_code != Some(0) && container.reason != "ContainerCannotRun";
    if file.is_empty() && failed && container.config.falls_back_to_logs() {
        return tail_of_log(&container.log_path);
    }
    file
}

fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|f| f.take(FILE_LIMIT).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn tail_of_log(path: &Path) -> String {
    // Each line carries a time and a stream name besides its text.
    const READ: u64 = LOG_LIMIT + 64 * LOG_LINES as u64;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut f| {
        let length = f.metadata()?.len();
        f.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
        f.take(READ).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return String::new();
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    let mut text: Vec<u8> = Vec::new();
    for line in &lines[from..] {
        text.extend_from_slice(&message_of(line));
    }
    let from = text.len().saturating_sub(LOG_LIMIT as usize);
    String::from_utf8_lossy(&text[from..]).into_owned()
}
