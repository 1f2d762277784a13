//! An image made on the spot: Debian's static busybox, and nothing else.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The image's name, as the manifest has it.
pub(crate) const NAME: &str = "example.com/web:1";

/// The names by which busybox is called in the demo.
const COMMANDS: &[&str] = &[
    "sh", "httpd", "wget", "sleep", "cat", "echo", "ls", "nslookup", "hostname", "ps", "nc",
];

pub(crate) fn busybox_exists() -> bool {
    Path::new("/bin/busybox").exists()
}

/// Writes a Docker archive below `folder`.
pub(crate) fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let layer = layer().context("cannot pack /bin/busybox")?;
    let diff_id = format!("sha256:{}", hex(&layer));
    let config = serde_json::to_vec(&json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "cargo xtask demo"}],
    }))?;
    let config_name = format!("{}.json", hex(&config));
    let manifest = serde_json::to_vec(&json!([
        {"Config": config_name, "RepoTags": [NAME], "Layers": ["layer.tar"]}
    ]))?;
    let path = folder.join("web.tar");
    let mut archive = tar::Builder::new(File::create(&path)?);
    for (name, bytes) in [
        ("layer.tar", &layer),
        (config_name.as_str(), &config),
        ("manifest.json", &manifest),
    ] {
        append(&mut archive, name, 0o644, bytes)?;
    }
    archive.into_inner()?;
    Ok(path)
}

fn layer() -> anyhow::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin/", "etc/", "tmp/", "www/", "proc/", "dev/", "sys/"] {
        let mut header = header();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if folder == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        layer.append_data(&mut header, folder, std::io::empty())?;
    }
    append(
        &mut layer,
        "bin/busybox",
        0o755,
        &std::fs::read("/bin/busybox")?,
    )?;
    append(
        &mut layer,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/:/bin/sh\n",
    )?;
    for command in COMMANDS {
        let mut header = header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{command}"), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = header();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A header of a file that is root's.
fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
