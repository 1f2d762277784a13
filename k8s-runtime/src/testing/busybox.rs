//! An image made on the spot from the busybox of this machine.

use std::{io, path::Path, process::Command};

use sha2::{Digest, Sha256};

use crate::sim::hex;

/// Writes an OCI layout archive that has one image of this name: the machine's static `busybox`
/// (Debian's package busybox-static) with all its commands, users `root` and `nobody`, and a shell
/// as its default command.
///
/// # Errors
/// If there is no `/bin/busybox` or the archive can't be written.
pub fn busybox_archive(name: &str, archive: &Path) -> io::Result<()> {
    let busybox = "/bin/busybox";
    let list = Command::new(busybox).arg("--list").output()?;
    let mut layer = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, size: u64, mode: u32| {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_size(size);
        h.set_mode(mode);
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(0);
        h
    };
    for (dir, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("root/", 0o700),
        ("tmp/", 0o1777),
        ("var/", 0o755),
    ] {
        layer.append_data(
            &mut header(tar::EntryType::Directory, 0, mode),
            dir,
            io::empty(),
        )?;
    }
    let program = std::fs::read(busybox)?;
    let size = program.len() as u64;
    layer.append_data(
        &mut header(tar::EntryType::Regular, size, 0o755),
        "bin/busybox",
        &program[..],
    )?;
    for applet in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|a| *a != "busybox")
    {
        layer.append_link(
            &mut header(tar::EntryType::Symlink, 0, 0o777),
            format!("bin/{applet}"),
            "busybox",
        )?;
    }
    for (path, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        (
            "etc/group",
            "root:x:0:\nnogroup:x:65534:\nextra:x:4000:nobody\n",
        ),
    ] {
        let mut h = header(tar::EntryType::Regular, text.len() as u64, 0o644);
        layer.append_data(&mut h, path, text.as_bytes())?;
    }
    layout_archive(name, &[layer.into_inner()?], archive)
}

/// Writes an OCI layout archive that has one image of this name with these layers (plain tars).
///
/// # Errors
/// If the archive can't be written.
pub fn layout_archive(name: &str, layers: &[Vec<u8>], archive: &Path) -> io::Result<()> {
    let digest = |data: &[u8]| format!("sha256:{}", hex(&Sha256::digest(data)));
    let mut out = tar::Builder::new(std::fs::File::create(archive)?);
    let mut add = |path: &str, data: &[u8]| {
        let mut h = tar::Header::new_gnu();
        h.set_size(data.len() as u64);
        h.set_mode(0o644);
        out.append_data(&mut h, path, data)
    };
    let mut blob = |media_type: &str, data: &[u8]| -> io::Result<serde_json::Value> {
        let digest = digest(data);
        add(
            &format!("blobs/sha256/{}", &digest["sha256:".len()..]),
            data,
        )?;
        Ok(serde_json::json!({"mediaType": media_type, "digest": digest, "size": data.len()}))
    };
    let config = serde_json::json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "FROM_IMAGE=1"], "WorkingDir": "/root"},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| digest(l)).collect::<Vec<_>>()},
    });
    let config = blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let layers = layers
        .iter()
        .map(|l| blob("application/vnd.oci.image.layer.v1.tar", l))
        .collect::<io::Result<Vec<_>>>()?;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    });
    let mut manifest = blob(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    )?;
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", index.to_string().as_bytes())?;
    out.finish()
}
