//! `hostPath`: a file or directory of the node.

use std::{fs, os::unix::fs::FileTypeExt, path::Path};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{MountedVolume, VolumeContext, VolumeError, VolumePlugin};

#[derive(Debug)]
pub(crate) struct HostPath;

#[async_trait]
impl VolumePlugin for HostPath {
    fn name(&self) -> &str {
        "kubernetes.io/host-path"
    }

    fn supports(&self, volume: &Volume) -> bool {
        volume.host_path.is_some()
    }

    async fn set_up(&self, cx: VolumeContext<'_>) -> Result<MountedVolume, VolumeError> {
        let source = cx.volume.host_path.clone().unwrap_or_default();
        let path = Path::new(&source.path);
        check(path, source.type_.as_deref().unwrap_or_default()).map_err(VolumeError)?;
        Ok(MountedVolume {
            path: path.to_owned(),
            read_only: false,
            refresh_after: None,
        })
    }
}

fn check(path: &Path, kind: &str) -> Result<(), String> {
    let found = fs::metadata(path).map(|m| m.file_type());
    let is = |what: &str, test: fn(&fs::FileType) -> bool| match &found {
        Ok(t) if test(t) => Ok(()),
        _ => Err(format!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        )),
    };
    let make = |make: fn(&Path) -> std::io::Result<()>| {
        make(path).map_err(|e| format!("{}: {e}", path.display()))
    };
    match kind {
        // As container runtimes do for a bind mount's missing source.
        "" if found.is_err() => make(|p| fs::create_dir_all(p)),
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_err() => make(|p| fs::create_dir_all(p)),
        "DirectoryOrCreate" | "Directory" => is("directory", fs::FileType::is_dir),
        "FileOrCreate" if found.is_err() => make(|p| fs::File::create_new(p).map(drop)),
        "FileOrCreate" | "File" => is("file", fs::FileType::is_file),
        "Socket" => is("socket file", FileTypeExt::is_socket),
        "CharDevice" => is("character device", FileTypeExt::is_char_device),
        "BlockDevice" => is("block device", FileTypeExt::is_block_device),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        assert_eq!(
            check(&new, "Directory").unwrap_err(),
            format!(
                "hostPath type check failed: {} is not a directory",
                new.display()
            )
        );
        check(&new, "DirectoryOrCreate").unwrap();
        assert!(check(&new, "File").is_err());
        check(&dir.path().join("f"), "FileOrCreate").unwrap();
        check(Path::new("/dev/null"), "CharDevice").unwrap();
    }
}
