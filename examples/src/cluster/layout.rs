//! What lies where below the data directory.

use std::path::{Path, PathBuf};

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

    /// The embedded store.
    pub(super) fn store(&self) -> PathBuf {
        self.root.join("store")
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
