//! [`PodVolume`]: the volumes that bear on where a pod can run.

use k8s_openapi::api::core::v1::Volume;

/// A volume that some nodes can't give, or not to several pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PodVolume {
    /// A claim, by its name.
    Claim(String),
    /// A claim made for this pod, by the volume's name.
    Ephemeral(String),
    /// A disk that is attached to one node, or to many as read-only.
    Disk {
        /// The kind and the identity of the disk.
        id: String,
        /// Whether it is attached as read-only.
        read_only: bool,
        /// Whether several pods may have it if all have it read-only.
        shares_read_only: bool,
    },
    /// A volume that a CSI driver makes in place.
    Csi(String),
}

impl PodVolume {
    pub(super) fn of(volume: &Volume) -> Option<Self> {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Self::Claim(claim.claim_name.clone()));
        }
        if volume.ephemeral.is_some() {
            return Some(Self::Ephemeral(volume.name.clone()));
        }
        if let Some(csi) = &volume.csi {
            return Some(Self::Csi(csi.driver.clone()));
        }
        let disk = |id: String, read_only: Option<bool>, shares_read_only: bool| {
            Some(Self::Disk {
                id,
                read_only: read_only.unwrap_or(false),
                shares_read_only,
            })
        };
        if let Some(pd) = &volume.gce_persistent_disk {
            return disk(format!("gce/{}", pd.pd_name), pd.read_only, true);
        }
        if let Some(ebs) = &volume.aws_elastic_block_store {
            return disk(format!("aws/{}", ebs.volume_id), ebs.read_only, false);
        }
        if let Some(iscsi) = &volume.iscsi {
            return disk(format!("iscsi/{}", iscsi.iqn), iscsi.read_only, true);
        }
        if let Some(rbd) = &volume.rbd {
            let pool = rbd.pool.as_deref().unwrap_or("rbd");
            let mut monitors = rbd.monitors.clone();
            monitors.sort();
            let id = format!("rbd/{}/{pool}/{}", monitors.join(","), rbd.image);
            return disk(id, rbd.read_only, true);
        }
        None
    }
}
