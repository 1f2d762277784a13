//! Reading a container's log, and following it while the container runs.

use std::{io, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use k8s_runtime::{ContainerId, ContainerRuntime, ContainerState};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader, SeekFrom},
    sync::mpsc,
};

use super::format::parse;

/// What is wanted of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) tail_lines: Option<usize>,
    pub(crate) limit_bytes: Option<u64>,
    /// `stdout` or `stderr` alone.
    pub(crate) stream: Option<String>,
}

/// Where a log goes.
pub(crate) type Sink = mpsc::Sender<Result<Bytes, io::Error>>;

/// How often a followed log is looked at; less often the longer nothing comes.
const POLL_FIRST: Duration = Duration::from_millis(10);
const POLL_LAST: Duration = Duration::from_millis(200);

/// Sends what is wanted of a log until its end, the limit, or until nobody listens.
pub(crate) async fn stream(
    runtime: Arc<dyn ContainerRuntime>,
    id: ContainerId,
    path: std::path::PathBuf,
    options: LogOptions,
    sink: Sink,
) -> io::Result<()> {
    let mut file = File::open(&path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut inode = file.metadata().await?.ino();
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut left = options.limit_bytes.unwrap_or(u64::MAX);
    let mut line = Vec::new();
    let mut out = Vec::new();
    let mut pause = POLL_FIRST;
    let mut ended = false;
    loop {
        let read = reader.read_until(b'\n', &mut line).await?;
        if read > 0 && line.ends_with(b"\n") {
            format_line(&line, &options, &mut out);
            line.clear();
            pause = POLL_FIRST;
            // Lines that are there already go out together.
            if out.len() < 32 << 10 && reader.buffer().contains(&b'\n') {
                continue;
            }
        }
        if !out.is_empty() {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
            let chunk = Bytes::copy_from_slice(&out[..take]);
            out.clear();
            left -= take as u64;
            if sink.send(Ok(chunk)).await.is_err() || left == 0 {
                return Ok(());
            }
            continue;
        }
        if read > 0 {
            continue;
        }
        // The end of the file as it is now.
        if !options.follow || ended {
            return Ok(());
        }
        match reopened(&path, inode).await {
            Some((file, number)) => {
                // What was written before the file was moved away has been read by now.
                line.clear();
                inode = number;
                reader = BufReader::with_capacity(64 << 10, file);
                continue;
            }
            None => ended = !is_running(&*runtime, &id).await,
        }
        if ended {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sink.closed() => return Ok(()),
        }
        pause = (pause * 2).min(POLL_LAST);
    }
}

async fn is_running(runtime: &dyn ContainerRuntime, id: &ContainerId) -> bool {
    runtime
        .container(id)
        .await
        .is_ok_and(|c| matches!(c.state, ContainerState::Running | ContainerState::Created))
}

/// The file that has taken the place of the one with this inode.
async fn reopened(path: &Path, inode: u64) -> Option<(File, u64)> {
    let now = tokio::fs::metadata(path).await.ok()?.ino();
    if now == inode {
        return None;
    }
    Some((File::open(path).await.ok()?, now))
}

fn format_line(line: &[u8], options: &LogOptions, out: &mut Vec<u8>) {
    let Some(entry) = parse(line) else { return };
    if options.stream.as_deref().is_some_and(|s| s != entry.stream) {
        return;
    }
    if let Some(since) = options.since
        && entry.timestamp().is_some_and(|t| t < since)
    {
        return;
    }
    if options.timestamps {
        out.extend_from_slice(entry.time.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(entry.text);
    if !entry.partial {
        out.push(b'\n');
    }
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 32 << 10;
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - begin).unwrap_or(0)];
        file.seek(SeekFrom::Start(begin)).await?;
        file.read_exact(&mut block).await?;
        for (i, byte) in block.iter().enumerate().rev() {
            let at = begin + i as u64;
            // The newline that ends the last line begins none.
            if *byte == b'\n' && at + 1 < length {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n2026-01-01T00:00:02.000000000Z stderr F two\n2026-01-01T00:00:03.000000000Z stdout P th\n2026-01-01T00:00:03.100000000Z stdout F ree\n";

    fn formatted(options: &LogOptions) -> String {
        let mut out = Vec::new();
        for line in LOG.as_bytes().split_inclusive(|b| *b == b'\n') {
            format_line(line, options, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_joined_and_filtered() {
        assert_eq!(formatted(&LogOptions::default()), "one\ntwo\nthree\n");
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(
            formatted(&LogOptions {
                since,
                ..Default::default()
            }),
            "two\nthree\n"
        );
        let stream = Some("stderr".to_owned());
        let with_time = formatted(&LogOptions {
            stream,
            timestamps: true,
            ..Default::default()
        });
        assert_eq!(with_time, "2026-01-01T00:00:02.000000000Z two\n");
    }

    #[tokio::test]
    async fn the_tail_begins_at_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut file = File::open(&path).await.unwrap();
        let mut from = async |n: usize| tail_start(&mut file, n).await.unwrap() as usize;
        assert!(
            LOG[from(1).await..].ends_with("F ree\n")
                && LOG[from(1).await..].starts_with("2026-01-01T00:00:03.1")
        );
        assert!(LOG[from(3).await..].starts_with("2026-01-01T00:00:02"));
        assert_eq!(from(99).await, 0);
        assert_eq!(from(0).await, LOG.len());
    }
}
