//! [`LogFile`]: one event a line, in a file that is rotated.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::{AuditSink, Event};

/// When a log file is put aside, and what becomes of those that were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would grow beyond is put aside first; upstream's `--audit-log-maxsize`, in bytes.
    pub max_bytes: u64,
    /// How many files put aside are kept, 0 for all; upstream's `--audit-log-maxbackup`.
    pub max_backups: usize,
    /// How long a file put aside is kept, for ever if not said; upstream's `--audit-log-maxage`.
    pub max_age: Option<Duration>,
}

impl Default for Rotation {
    /// At 100 MiB; all are kept for ever. As upstream.
    fn default() -> Self {
        Rotation {
            max_bytes: 100 << 20,
            max_backups: 0,
            max_age: None,
        }
    }
}

/// Writes events as JSON, one a line, to a file that nobody but its owner may read. Files put aside have the time
/// in their names: `audit.log` becomes `audit-2006-01-02T15-04-05.000.log`.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
    buffer: Vec<u8>,
}

/// The time in the name of a file put aside.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S.%3f";

impl LogFile {
    /// Opens the file, or makes it and its directory; what is in it stays.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn open(path: impl Into<PathBuf>, rotation: Rotation) -> io::Result<Self> {
        let path = path.into();
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let file = append(&path)?;
        let size = file.metadata()?.len();
        let this = LogFile {
            path,
            rotation,
            file,
            size,
            buffer: Vec::new(),
        };
        this.clean(Timestamp::now())?;
        Ok(this)
    }

    /// What the names of files put aside begin and end with.
    fn names(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|p| p.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let extension = text(self.path.extension());
        let suffix = match extension.as_str() {
            "" => String::new(),
            extension => format!(".{extension}"),
        };
        (format!("{}-", text(self.path.file_stem())), suffix)
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let now = Timestamp::now();
        let (prefix, suffix) = self.names();
        let mut at = now;
        let aside = loop {
            let name = format!("{prefix}{}{suffix}", at.strftime(STAMP));
            let aside = self.directory().join(name);
            if !aside.try_exists()? {
                break aside;
            }
            at += SignedDuration::from_millis(1);
        };
        match fs::rename(&self.path, aside) {
            // Somebody took it away; or it was put aside, and there was no room for the next one then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.file = append(&self.path)?;
        self.size = 0;
        self.clean(now)
    }

    /// Removes what is too old, and too many.
    fn clean(&self, now: Timestamp) -> io::Result<()> {
        if self.rotation.max_backups == 0 && self.rotation.max_age.is_none() {
            return Ok(());
        }
        let (prefix, suffix) = self.names();
        let mut aside: Vec<(Timestamp, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.directory())? {
            let path = entry?.path();
            let stamp = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(prefix.as_str()))
                .and_then(|name| name.strip_suffix(suffix.as_str()))
                .and_then(|stamp| DateTime::strptime(STAMP, stamp).ok())
                .and_then(|stamp| stamp.to_zoned(TimeZone::UTC).ok());
            if let Some(stamp) = stamp {
                aside.push((stamp.timestamp(), path));
            }
        }
        aside.sort_by_key(|(stamp, _)| std::cmp::Reverse(*stamp));
        let oldest = self
            .rotation
            .max_age
            .and_then(|age| SignedDuration::try_from(age).ok())
            .and_then(|age| now.checked_sub(age).ok());
        for (i, (stamp, path)) in aside.iter().enumerate() {
            let too_many = self.rotation.max_backups != 0 && i >= self.rotation.max_backups;
            if too_many || oldest.is_some_and(|oldest| *stamp < oldest) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = append_whole(&mut self.file, &self.buffer);
        if written.is_ok() {
            self.size += self.buffer.len() as u64;
        }
        self.buffer.clear();
        written
    }
}

/// What lines are appended to.
trait Medium: Write {
    fn length(&self) -> io::Result<u64>;
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|data| data.len())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Appends all of the lines or none: half a line on a full disk would spoil the first one that there is room for.
fn append_whole(medium: &mut impl Medium, lines: &[u8]) -> io::Result<()> {
    let before = medium.length()?;
    let written = medium.write_all(lines);
    if written.is_err() && medium.length()? > before {
        medium.cut(before)?;
    }
    written
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

impl AuditSink for LogFile {
    fn write(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            let before = self.buffer.len();
            serde_json::to_writer(&mut self.buffer, event)?;
            self.buffer.push(b'\n');
            let so_far = self.size + before as u64;
            if so_far > 0 && self.size + self.buffer.len() as u64 > self.rotation.max_bytes {
                let line = self.buffer.split_off(before);
                self.flush()?;
                self.rotate()?;
                self.buffer = line;
            }
        }
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Level, Stage, UserInfo};
    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("audit-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn files(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn event(uri: &str) -> Event {
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: Level::Metadata,
            audit_id: "id".into(),
            stage: Stage::ResponseComplete,
            request_uri: uri.into(),
            verb: "get".into(),
            user: UserInfo::default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: None,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: String::new(),
            stage_timestamp: String::new(),
            annotations: Default::default(),
        }
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_ones_go() {
        let scratch = Scratch::new();
        let old = scratch.0.join("audit-2001-01-01T00-00-00.000.log");
        fs::write(&old, "old").unwrap();
        fs::write(scratch.0.join("audit-notes.log"), "not ours").unwrap();
        let rotation = Rotation {
            max_bytes: 500,
            max_backups: 2,
            max_age: None,
        };
        let mut log = LogFile::open(scratch.0.join("audit.log"), rotation).unwrap();
        for i in 0..20 {
            log.write(&[event(&format!("/{i}")), event("/more")])
                .unwrap();
        }
        let files = scratch.files();
        assert_eq!(files.len(), 4, "{files:?}");
        assert!(!old.exists());
        for name in files
            .iter()
            .filter(|name| name.as_str() != "audit-notes.log")
        {
            let text = fs::read_to_string(scratch.0.join(name)).unwrap();
            assert!(text.len() <= 500 && text.ends_with('\n'));
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
        let newest = fs::read_to_string(scratch.0.join("audit.log")).unwrap();
        assert!(newest.contains("\"requestURI\":\"/more\""));
    }

    #[test]
    fn a_file_that_was_taken_away_is_made_anew_when_it_would_be_put_aside() {
        let scratch = Scratch::new();
        let path = scratch.0.join("audit.log");
        let rotation = Rotation {
            max_bytes: 500,
            ..Rotation::default()
        };
        let mut log = LogFile::open(&path, rotation).unwrap();
        log.write(&[event("/first")]).unwrap();
        fs::remove_file(&path).unwrap();
        for i in 0..3 {
            log.write(&[event(&format!("/{i}"))]).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"requestURI\":\"/2\""), "{text}");
    }

    /// Has room for so many bytes, and takes as many of a write.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let some = bytes.len().min(self.room - self.bytes.len());
            if some == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Medium for Disk {
        fn length(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            self.bytes.truncate(usize::try_from(length).unwrap());
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_keeps_no_half_line() {
        let mut disk = Disk {
            bytes: Vec::new(),
            room: 10,
        };
        append_whole(&mut disk, b"first\n").unwrap();
        let error = append_whole(&mut disk, b"second\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        append_whole(&mut disk, b"3rd\n").unwrap();
        assert_eq!(disk.bytes, b"first\n3rd\n");
    }

    #[test]
    fn a_file_is_carried_on_and_files_beyond_their_age_go() {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("audit-2001-01-01T00-00-00.000.log"), "old").unwrap();
        fs::write(scratch.0.join("audit.log"), "first\n").unwrap();
        let rotation = Rotation {
            max_age: Some(Duration::from_secs(3600)),
            ..Rotation::default()
        };
        let mut log = LogFile::open(scratch.0.join("audit.log"), rotation).unwrap();
        log.write(&[event("/x")]).unwrap();
        assert_eq!(scratch.files(), ["audit.log"]);
        let text = fs::read_to_string(scratch.0.join("audit.log")).unwrap();
        assert!(text.starts_with("first\n{\"kind\":\"Event\""));
    }
}
