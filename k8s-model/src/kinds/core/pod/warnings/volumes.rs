//! Advice on volumes of sorts that are no more.

use k8s_openapi::api::core::v1::Volume;

use crate::{field::Path, kinds::core::persistent_volume_claim::spec_warnings};

pub(super) fn volume(volume: &Volume, path: &Path, out: &mut Vec<String>) {
    const CEPH: &str = "deprecated in v1.28, non-functional in v1.31+";
    let gone = |gone: &[(bool, &str, &str)], out: &mut Vec<String>| {
        for (_, name, advice) in gone.iter().filter(|(is_there, ..)| *is_there) {
            out.push(format!("{}: {advice}", path.child(name)));
        }
    };
    let first = [
        (
            volume.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            volume.git_repo.is_some(),
            "gitRepo",
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            volume.scale_io.is_some(),
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            volume.flocker.is_some(),
            "flocker",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.storageos.is_some(),
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.quobyte.is_some(),
            "quobyte",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.glusterfs.is_some(),
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
    ];
    gone(&first, out);
    let template = volume.ephemeral.as_ref();
    if let Some(template) = template.and_then(|volume| volume.volume_claim_template.as_ref()) {
        let path = path.child("ephemeral").child("volumeClaimTemplate");
        out.extend(spec_warnings(&template.spec, &path.child("spec")));
    }
    let last = [
        (volume.cephfs.is_some(), "cephfs", CEPH),
        (volume.rbd.is_some(), "rbd", CEPH),
    ];
    gone(&last, out);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::told;

    #[test]
    fn volumes_of_sorts_that_are_no_more_are_told() {
        let rbd = json!({"name": "v", "rbd": {"image": "i", "monitors": []}});
        let both = json!({"name": "w", "flocker": {}, "cephfs": {"monitors": []}});
        assert_eq!(
            told(json!({"volumes": [rbd, both]}), Value::Null),
            [
                "t.spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
                "t.spec.volumes[1].flocker: deprecated in v1.22, non-functional in v1.25+",
                "t.spec.volumes[1].cephfs: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
    }
}
