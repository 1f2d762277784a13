//! The group `storage.k8s.io`.

pub(crate) mod csi;
pub(crate) mod storage_class;
pub(crate) mod volume_attachment;
