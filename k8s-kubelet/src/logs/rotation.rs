//! Log rotation: no container fills the disk with its output.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_runtime::ContainerState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::context::Context;

pub(crate) const MAX_BYTES: u64 = 10 << 20;
/// The current file and the rotated ones.
pub(crate) const MAX_FILES: usize = 5;
const PERIOD: Duration = Duration::from_secs(10);

/// Rotates logs for as long as it is polled.
pub(crate) async fn run(cx: Arc<Context>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let containers = match cx.runtime.containers().await {
            Ok(containers) => containers,
            Err(error) => {
                warn!(%error, "containers not listed");
                continue;
            }
        };
        for container in containers
            .iter()
            .filter(|c| c.state == ContainerState::Running)
        {
            let path = &container.log_path;
            if !fs::metadata(path).is_ok_and(|m| m.len() > MAX_BYTES) {
                continue;
            }
            let result = match move_away(path, Timestamp::now()) {
                Ok(moved) => match cx.runtime.reopen_log(&container.id).await {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        // The runtime still writes to it: it must keep its name.
                        let _ = fs::rename(&moved, path);
                        Err(error.to_string())
                    }
                },
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = result {
                warn!(%error, log = %path.display(), "log not rotated");
            }
        }
    }
}

/// The files that a log was rotated into, oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut out: Vec<PathBuf> = entries
        .filter(|e| {
            e.file_name()
                .to_str()
                .is_some_and(|n| n.starts_with(&prefix))
        })
        .map(|e| e.path())
        .collect();
    out.sort();
    out
}

fn move_away(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let old = rotated(path);
    for file in old.iter().take((old.len() + 2).saturating_sub(MAX_FILES)) {
        fs::remove_file(file)?;
    }
    let target = PathBuf::from(format!(
        "{}.{}",
        path.display(),
        now.strftime("%Y%m%d-%H%M%S%.6f")
    ));
    fs::rename(path, &target)?;
    Ok(target)
}

/// Removes a log and what it was rotated into.
pub(crate) fn remove(path: &Path) {
    for file in rotated(path).iter().map(PathBuf::as_path).chain([path]) {
        if let Err(error) = fs::remove_file(file)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, log = %file.display(), "log not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for second in 0..8 {
            fs::write(&path, second.to_string()).unwrap();
            move_away(&path, Timestamp::from_second(second).unwrap()).unwrap();
        }
        let kept = rotated(&path);
        assert_eq!(kept.len(), MAX_FILES - 1);
        assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "4");
        remove(&path);
        assert!(rotated(&path).is_empty());
    }
}
