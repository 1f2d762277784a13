//! Where the data of a PersistentVolume is: exactly one of many sources, sound by its own rules.

use k8s_openapi::api::core::v1::{
    AzureFilePersistentVolumeSource, CSIPersistentVolumeSource, GlusterfsPersistentVolumeSource,
    LocalVolumeSource, PersistentVolumeSpec,
};

use super::pod::{
    self,
    in_tree::{self as rules, all_required},
    volumes::{network, no_backsteps},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{csi_driver_name, dns_label, dns_subdomain, text},
};

/// What was found so far.
struct Found {
    path: Path,
    count: usize,
    errors: ErrorList,
}

impl Found {
    /// A source that is checked if it is the first; `name` is how findings call it.
    fn source<S>(
        &mut self,
        source: &Option<S>,
        name: &str,
        check: impl Fn(&S, &Path) -> ErrorList,
    ) {
        let Some(source) = source else { return };
        let path = self.path.child(name);
        if self.count > 0 {
            self.errors.push(field::forbidden(
                path,
                "may not specify more than 1 volume type",
            ));
            return;
        }
        self.count += 1;
        self.errors.extend(check(source, &path));
    }
}

/// Checks the sources of the PersistentVolume of that name, in upstream's order.
pub(super) fn validate(spec: &PersistentVolumeSpec, name: &str, path: &Path) -> ErrorList {
    let mut found = Found {
        path: path.clone(),
        count: 0,
        errors: ErrorList::new(),
    };
    found.source(&spec.host_path, "hostPath", pod::host_path);
    // Findings call it otherwise than the object does.
    let disk = path.child("persistentDisk");
    found.source(
        &spec.gce_persistent_disk,
        "gcePersistentDisk",
        |source, _| rules::gce_disk(source, &disk),
    );
    found.source(
        &spec.aws_elastic_block_store,
        "awsElasticBlockStore",
        rules::aws_disk,
    );
    found.source(&spec.glusterfs, "glusterfs", glusterfs);
    found.source(&spec.flocker, "flocker", rules::flocker);
    found.source(&spec.nfs, "nfs", |source, path| {
        pod::nfs(&source.server, &source.path, path)
    });
    found.source(&spec.rbd, "rbd", |source, path| {
        rules::monitored(&source.monitors, &[("image", &source.image)], path)
    });
    found.source(&spec.quobyte, "quobyte", rules::quobyte);
    let cephfs = path.child("cephfs");
    found.source(&spec.cephfs, "cephFS", |source, _| {
        rules::monitored(&source.monitors, &[], &cephfs)
    });
    found.source(&spec.iscsi, "iscsi", |source, path| {
        network::persistent_iscsi(source, name, path)
    });
    found.source(&spec.cinder, "cinder", |source, path| {
        let mut errors = all_required(&[("volumeID", &source.volume_id)], path);
        if let Some(reference) = &source.secret_ref {
            errors.extend(secret(&reference.name, &reference.namespace, path));
        }
        errors
    });
    found.source(&spec.fc, "fc", network::fibre_channel);
    // One beside another is taken, as upstream does.
    if let Some(source) = &spec.flex_volume {
        found.count += 1;
        let path = path.child("flexVolume");
        let wrong = rules::flex(&source.driver, &source.options, &path);
        found.errors.extend(wrong);
    }
    found.source(&spec.azure_file, "azureFile", azure_file);
    found.source(&spec.vsphere_volume, "vsphereVolume", |source, path| {
        all_required(&[("volumePath", &source.volume_path)], path)
    });
    found.source(
        &spec.photon_persistent_disk,
        "photonPersistentDisk",
        |source, path| all_required(&[("pdID", &source.pd_id)], path),
    );
    found.source(&spec.portworx_volume, "portworxVolume", |source, path| {
        all_required(&[("volumeID", &source.volume_id)], path)
    });
    found.source(&spec.azure_disk, "azureDisk", rules::azure_disk);
    found.source(&spec.scale_io, "scaleIO", |source, path| {
        let fields = [
            ("gateway", &*source.gateway),
            ("system", &source.system),
            ("volumeName", text(&source.volume_name)),
        ];
        all_required(&fields, path)
    });
    let affinity = path.child("nodeAffinity");
    found.source(&spec.local, "local", |source, path| {
        let mut errors = local(source, path);
        if spec.node_affinity.is_none() {
            let text = "Local volume requires node affinity";
            errors.push(field::required(affinity.clone(), text));
        }
        errors
    });
    found.source(&spec.storageos, "storageos", |source, path| {
        let mut errors = rules::storage_os(&source.volume_name, &source.volume_namespace, path);
        if let Some(reference) = &source.secret_ref {
            errors.extend(secret(&reference.name, &reference.namespace, path));
        }
        errors
    });
    found.source(&spec.csi, "csi", csi);
    if found.count == 0 {
        let text = "must specify a volume type";
        found.errors.push(field::required(path.clone(), text));
    }
    found.errors
}

/// A reference to a secret, both parts of which must say something.
fn secret(name: &Option<String>, namespace: &Option<String>, path: &Path) -> ErrorList {
    let parts = [("name", text(name)), ("namespace", text(namespace))];
    rules::secret(&parts, path)
}

fn glusterfs(source: &GlusterfsPersistentVolumeSource, path: &Path) -> ErrorList {
    let fields = [("endpoints", &*source.endpoints), ("path", &source.path)];
    let mut errors = all_required(&fields, path);
    let at = path.child("endpointsNamespace");
    match source.endpoints_namespace.as_deref() {
        Some("") => errors.push(field::invalid(
            at,
            "",
            "if the endpointnamespace is set, it must be a valid namespace name",
        )),
        Some(namespace) => errors.extend(dns_label(namespace, at)),
        None => {}
    }
    errors
}

fn azure_file(source: &AzureFilePersistentVolumeSource, path: &Path) -> ErrorList {
    let mut fields = vec![
        ("secretName", &*source.secret_name),
        ("shareName", &source.share_name),
    ];
    let namespace = source.secret_namespace.as_deref();
    fields.extend(namespace.map(|namespace| ("secretNamespace", namespace)));
    all_required(&fields, path)
}

fn local(source: &LocalVolumeSource, path: &Path) -> ErrorList {
    let path = path.child("path");
    match source.path.as_str() {
        "" => vec![field::required(path, "")],
        at => no_backsteps(at, path),
    }
}

fn csi(source: &CSIPersistentVolumeSource, path: &Path) -> ErrorList {
    let mut errors = csi_driver_name(&source.driver, path.child("driver"));
    if source.volume_handle.is_empty() {
        errors.push(field::required(path.child("volumeHandle"), ""));
    }
    for (secret, name) in [
        (
            &source.controller_publish_secret_ref,
            "controllerPublishSecretRef",
        ),
        (
            &source.controller_expand_secret_ref,
            "controllerExpandSecretRef",
        ),
        (&source.node_publish_secret_ref, "nodePublishSecretRef"),
        (&source.node_expand_secret_ref, "nodeExpandSecretRef"),
    ] {
        let Some(secret) = secret else { continue };
        let path = path.child(name);
        match text(&secret.name) {
            "" => errors.push(field::required(path.child("name"), "")),
            name => errors.extend(dns_subdomain(name, path.child("name"))),
        }
        match text(&secret.namespace) {
            "" => errors.push(field::required(path.child("namespace"), "")),
            name => errors.extend(dns_label(name, path.child("namespace"))),
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn texts(sources: Value) -> Vec<String> {
        let spec: PersistentVolumeSpec = serde_json::from_value(sources).unwrap();
        let errors = validate(&spec, "v", &Path::new("spec"));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_source_is_checked_and_others_are_too_many() {
        let nfs = json!({"server": "s", "path": "relative"});
        assert_eq!(
            texts(
                json!({"nfs": nfs, "awsElasticBlockStore": {"volumeID": ""}, "cephfs": {"monitors": []}})
            ),
            [
                "spec.awsElasticBlockStore.volumeID: Required value",
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
                "spec.cephFS: Forbidden: may not specify more than 1 volume type",
            ]
        );
        assert_eq!(
            texts(json!({"nfs": nfs})),
            [r#"spec.nfs.path: Invalid value: "relative": must be an absolute path"#]
        );
        assert_eq!(
            texts(json!({})),
            ["spec: Required value: must specify a volume type"]
        );
        // Only this one may be there beside another.
        let beside = json!({"flexVolume": {"driver": "d"}, "hostPath": {"path": "/p"}});
        assert_eq!(texts(beside), [""; 0]);
    }

    #[test]
    fn disks_behind_iscsi_and_fibre_channel_say_where_they_are() {
        let iscsi = |more: Value| {
            let mut source =
                json!({"targetPortal": "1.2.3.4:5", "iqn": "iqn.2001-04.com.example:x", "lun": 0});
            json_patch::merge(&mut source, &more);
            texts(json!({"iscsi": source}))
        };
        assert_eq!(iscsi(json!({})), [""; 0]);
        assert_eq!(
            iscsi(json!({"targetPortal": "", "iqn": "x", "lun": 256, "chapAuthSession": true})),
            [
                "spec.iscsi.targetPortal: Required value",
                r#"spec.iscsi.iqn: Invalid value: "x": must be valid format"#,
                "spec.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "spec.iscsi.secretRef: Required value",
            ]
        );
        assert_eq!(
            iscsi(json!({"secretRef": {}, "initiatorName": ""})),
            [
                "spec.iscsi.secretRef.name: Required value",
                r#"spec.iscsi.initiatorname: Invalid value: "": must be valid format"#,
            ]
        );
        let long = "1".repeat(63);
        assert_eq!(
            iscsi(json!({"targetPortal": long, "initiatorName": "iqn.2001-04.com.example:x"}))
                .len(),
            1
        );
        assert_eq!(
            texts(json!({"fc": {"targetWWNs": ["a"], "wwids": ["b"]}})),
            [
                r#"spec.fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously"#,
                "spec.fc.lun: Required value: lun is required if targetWWNs is specified",
            ]
        );
    }
}
