//! The level `restricted`.

use k8s_openapi::api::core::v1::Volume;

use super::{
    Check, Finding, Subject, Values,
    baseline::{bad, proc_mount},
    containers::all,
    finding, named, plural, quoted, seccomp, setters, unless_own_users,
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "allowPrivilegeEscalation",
        versions: &[
            (8, privilege_escalation),
            (25, |subject| unless_windows(subject, privilege_escalation)),
        ],
        replaces: "",
    },
    Check {
        id: "capabilities_restricted",
        versions: &[
            (22, capabilities),
            (25, |subject| unless_windows(subject, capabilities)),
        ],
        replaces: "capabilities_baseline",
    },
    Check {
        id: "procMount_restricted",
        versions: &[(35, proc_mount)],
        replaces: "procMount",
    },
    Check {
        id: "restrictedVolumes",
        versions: &[(0, volumes)],
        replaces: "hostPathVolumes",
    },
    Check {
        id: "runAsNonRoot",
        versions: &[
            (0, non_root),
            (35, |subject| unless_own_users(subject, non_root)),
        ],
        replaces: "",
    },
    Check {
        id: "runAsUser",
        versions: &[
            (23, root_user),
            (35, |subject| unless_own_users(subject, root_user)),
        ],
        replaces: "",
    },
    Check {
        id: "seccompProfile_restricted",
        versions: &[
            (19, seccomp::restricted),
            (25, |subject| unless_windows(subject, seccomp::restricted)),
        ],
        replaces: "seccompProfile_baseline",
    },
];

/// What Windows knows not, its pods need not set.
fn unless_windows(subject: &Subject<'_>, check: super::CheckFn) -> Option<Finding> {
    if subject.is_for_windows() {
        None
    } else {
        check(subject)
    }
}

fn privilege_escalation(subject: &Subject<'_>) -> Option<Finding> {
    let containers = bad(subject, |container| {
        let security = container.security;
        security.and_then(|s| s.allow_privilege_escalation) != Some(false)
    });
    if containers.is_empty() {
        return None;
    }
    let who = named(&containers);
    finding(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

fn capabilities(subject: &Subject<'_>) -> Option<Finding> {
    let mut keeping = Vec::new();
    let mut adding = Vec::new();
    let mut added = Values::new();
    for container in all(subject.spec) {
        let capabilities = container.security.and_then(|s| s.capabilities.as_ref());
        let dropped = capabilities.and_then(|c| c.drop.as_deref());
        if !dropped.unwrap_or_default().iter().any(|c| c == "ALL") {
            keeping.push(container.name);
        }
        let add = capabilities.and_then(|c| c.add.as_deref());
        let add = add.unwrap_or_default().iter().map(String::as_str);
        let mut extra = add.filter(|c| *c != "NET_BIND_SERVICE").peekable();
        if extra.peek().is_some() {
            adding.push(container.name);
            added.extend(extra);
        }
    }
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = named(&keeping);
        details.push(format!(
            r#"{who} must set securityContext.capabilities.drop=["ALL"]"#
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adding),
            quoted(added)
        ));
    }
    if details.is_empty() {
        return None;
    }
    finding("unrestricted capabilities", details.join("; "))
}

/// What sort of source a volume has, if it is one that is restricted.
fn restricted_source(volume: &Volume) -> Option<&'static str> {
    let allowed = volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some();
    if allowed {
        return None;
    }
    let sources = [
        (volume.host_path.is_some(), "hostPath"),
        (volume.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (
            volume.aws_elastic_block_store.is_some(),
            "awsElasticBlockStore",
        ),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.glusterfs.is_some(), "glusterfs"),
        (volume.rbd.is_some(), "rbd"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.cinder.is_some(), "cinder"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.flocker.is_some(), "flocker"),
        (volume.fc.is_some(), "fc"),
        (volume.azure_file.is_some(), "azureFile"),
        (volume.vsphere_volume.is_some(), "vsphereVolume"),
        (volume.quobyte.is_some(), "quobyte"),
        (volume.azure_disk.is_some(), "azureDisk"),
        (
            volume.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
        ),
        (volume.portworx_volume.is_some(), "portworxVolume"),
        (volume.scale_io.is_some(), "scaleIO"),
        (volume.storageos.is_some(), "storageos"),
    ];
    let found = sources.iter().find(|(there, _)| *there);
    Some(found.map_or("unknown", |(_, name)| name))
}

fn volumes(subject: &Subject<'_>) -> Option<Finding> {
    let mut names = Vec::new();
    let mut sources = Values::new();
    for volume in subject.spec.volumes.iter().flatten() {
        if let Some(source) = restricted_source(volume) {
            names.push(volume.name.as_str());
            sources.insert(source);
        }
    }
    if names.is_empty() {
        return None;
    }
    finding(
        "restricted volume types",
        format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quoted(names.iter().copied()),
            plural("uses", "use", names.len()),
            plural(
                "restricted volume type",
                "restricted volume types",
                sources.len()
            ),
            quoted(sources)
        ),
    )
}

fn non_root(subject: &Subject<'_>) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let pod = subject.spec.security_context.as_ref();
    let pod = pod.and_then(|security| security.run_as_non_root);
    let of = |container: &super::containers::Container<'_>| {
        container.security.and_then(|s| s.run_as_non_root)
    };
    let explicit = bad(subject, |container| of(container) == Some(false));
    if let Some(who) = setters(pod == Some(false), &explicit) {
        return finding(
            REASON,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let implicit = bad(subject, |container| {
        pod != Some(true) && of(container).is_none()
    });
    if implicit.is_empty() {
        return None;
    }
    let who = named(&implicit);
    finding(
        REASON,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

fn root_user(subject: &Subject<'_>) -> Option<Finding> {
    let pod = subject.spec.security_context.as_ref();
    let pod = pod.and_then(|security| security.run_as_user) == Some(0);
    let containers = bad(subject, |container| {
        container.security.and_then(|s| s.run_as_user) == Some(0)
    });
    let who = setters(pod, &containers)?;
    finding("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
