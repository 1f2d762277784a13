//! The group `storage.k8s.io`.

pub(crate) mod csi;
pub(crate) mod storage_class;
pub(crate) mod volume_attachment;

k8s_openapi::k8s_if_ge_1_34! {
    pub(crate) mod volume_attributes_class;
}
