//! `/logs/`: the node's own logs, shown as Go's file server shows a directory.

use std::{
    fmt::Write as _,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};

use futures::TryStreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{
    answer::{Refusal, with_type},
    query,
    service::Body,
};

/// What a path names.
enum Found {
    /// And how long it is now: what is written meanwhile is not sent.
    File(File, u64),
    /// The names in it, those of directories with a `/` at their end.
    Directory(Vec<String>),
}

/// Answers with a file or the list of a directory; `path` is what comes after `/logs/`.
pub(crate) async fn answer(dir: &Path, path: &str) -> Result<Response<Body>, Refusal> {
    // A plus is one in a path.
    let name = query::decode(&path.replace('+', "%2B"));
    let dir = dir.to_owned();
    let found = tokio::task::spawn_blocking(move || find(&dir, Path::new(&name))).await;
    let found = found.map_err(io::Error::other).and_then(|found| found);
    let last = path.trim_end_matches('/').rsplit('/').next();
    let last = last.unwrap_or_default();
    match found {
        Ok(Found::Directory(_)) if !path.is_empty() && !path.ends_with('/') => {
            moved(&format!("{last}/"))
        }
        Ok(Found::Directory(names)) => Ok(list(&names)),
        Ok(Found::File(file, size)) => Ok(content(file, size)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Refusal::not_found("404 page not found")
            }
            io::ErrorKind::PermissionDenied => Refusal::new(StatusCode::FORBIDDEN, "403 Forbidden"),
            _ => Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "500 Internal Server Error",
            ),
        }),
    }
}

/// Opens what lies below a directory; links that lead out of it, which a pod may have made, count as
/// forbidden.
fn find(dir: &Path, name: &Path) -> io::Result<Found> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let root = open(dir, flags | OFlag::O_DIRECTORY, Mode::empty())?;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let name = if name.as_os_str().is_empty() {
        Path::new(".")
    } else {
        name
    };
    let file = match openat2(&root, name, how) {
        Ok(file) => File::from(file),
        Err(Errno::EXDEV) => return Err(io::ErrorKind::PermissionDenied.into()),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(Found::File(file, metadata.size()));
    }
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", file.as_raw_fd()))? {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(Found::Directory(names))
}

fn moved(to: &str) -> Result<Response<Body>, Refusal> {
    let to = HeaderValue::from_str(to).map_err(|e| Refusal::bad_request(e.to_string()))?;
    let mut response = Response::new(super::answer::full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, to);
    Ok(response)
}

fn content(file: File, size: u64) -> Response<Body> {
    let file = tokio::fs::File::from_std(file).take(size);
    let chunks = ReaderStream::new(file).map_ok(Frame::data);
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::CONTENT_LENGTH, size.into());
    response
}

fn list(names: &[String]) -> Response<Body> {
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"
            .to_owned();
    for name in names {
        page.push_str("<a href=\"");
        for byte in name.bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => page.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => page.push(char::from(byte)),
                _ => _ = write!(page, "%{byte:02X}"),
            }
        }
        page.push_str("\">");
        for c in name.chars() {
            match c {
                '&' => page.push_str("&amp;"),
                '<' => page.push_str("&lt;"),
                '>' => page.push_str("&gt;"),
                '"' => page.push_str("&#34;"),
                '\'' => page.push_str("&#39;"),
                c => page.push(c),
            }
        }
        page.push_str("</a>\n");
    }
    page.push_str("</pre>\n");
    with_type(StatusCode::OK, "text/html; charset=utf-8", page)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn get(dir: &Path, path: &str) -> (u16, String) {
        let response = answer(dir, path).await.unwrap_or_else(Into::into);
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = match head.headers.get(header::LOCATION) {
            Some(to) => to.to_str().unwrap().to_owned(),
            None => String::from_utf8(body.to_vec()).unwrap(),
        };
        (head.status.as_u16(), text)
    }

    #[tokio::test]
    async fn files_are_sent_and_directories_listed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("apt")).unwrap();
        fs::write(dir.path().join("apt/a+b <c"), "text").unwrap();
        fs::write(dir.path().join("dmesg"), "line\n").unwrap();
        let page = |links: &str| {
            format!(
                "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{links}</pre>\n"
            )
        };
        let all = page("<a href=\"apt/\">apt/</a>\n<a href=\"dmesg\">dmesg</a>\n");
        let apt = page("<a href=\"a%2Bb%20%3Cc\">a+b &lt;c</a>\n");
        for (path, answer) in [
            ("", (200, all.as_str())),
            ("apt/", (200, &apt)),
            ("apt", (301, "apt/")),
            ("apt/a+b%20%3Cc", (200, "text")),
            ("dmesg", (200, "line\n")),
            ("dmesg/", (404, "404 page not found")),
            ("dmesg/x", (404, "404 page not found")),
            ("none", (404, "404 page not found")),
        ] {
            let answer = (answer.0, answer.1.to_owned());
            assert_eq!(get(dir.path(), path).await, answer, "{path}");
        }
    }

    #[tokio::test]
    async fn nothing_outside_of_the_directory_is_shown() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("log");
        fs::create_dir(&dir).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(dir.join("file"), "file").unwrap();
        for (name, to) in [
            ("out", "../secret"),
            ("root", "/etc/passwd"),
            ("in", "file"),
        ] {
            std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        }
        nix::unistd::mkfifo(&dir.join("pipe"), Mode::S_IRWXU).unwrap();
        for path in [
            "../secret",
            "%2e%2e/secret",
            "x/../../secret",
            "/etc/passwd",
            "out",
            "root",
        ] {
            let (status, text) = get(&dir, path).await;
            assert!(matches!(status, 403 | 404), "{path}: {status} {text}");
        }
        assert_eq!(get(&dir, "pipe").await.0, 404);
        assert_eq!(get(&dir, "in").await, (200, "file".to_owned()));
    }
}
