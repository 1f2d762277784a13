//! What lies where below the data directory.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// The folders and files of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Takes the directory for this process, for as long as the file is open.
    pub(super) fn claim(&self) -> anyhow::Result<File> {
        let path = self.root.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&file).take(20).read_to_string(&mut pid);
                bail!(
                    "the data directory {} is in use by another cluster (pid {}): stop it, or give --data-dir another",
                    self.root.display(),
                    pid.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // Only a courtesy to whoever finds it locked: a full disk is no reason to stop.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(file)
    }

    /// The embedded store.
    pub(super) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The embedded store that was replaced by a restored one.
    pub(super) fn store_before_restore(&self) -> PathBuf {
        self.root.join("store.before-restore")
    }

    /// An embedded store that is being restored.
    pub(super) fn store_restored(&self) -> PathBuf {
        self.root.join("store.restored")
    }

    /// Certificates and keys.
    pub(super) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// The images of all nodes.
    pub(super) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The administrator's kubeconfig.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    /// The credentials of a node that has joined.
    pub(super) fn node_kubeconfig(&self) -> PathBuf {
        self.root.join("node.kubeconfig")
    }

    /// What a node keeps that has joined.
    pub(super) fn joined_node(&self, name: &str) -> PathBuf {
        self.root.join("nodes").join(name)
    }

    /// What one node keeps.
    pub(super) fn node(&self, index: usize) -> PathBuf {
        self.root.join("nodes").join(super::node::name(index))
    }
}

/// Where the OCI runtime of a node keeps its state: what `runc --root` wants.
pub fn runc_root(data_dir: &Path, node: usize) -> PathBuf {
    Layout::new(data_dir)
        .node(node)
        .join("runtime")
        .join("runtime")
}
