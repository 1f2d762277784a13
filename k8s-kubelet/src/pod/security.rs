//! Pod and container security contexts, merged.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, SeccompProfile};
use k8s_runtime::{Image, SecurityContext, SecurityProfile};

use super::PodView;

/// The user an image runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

impl From<&Image> for ImageUser {
    fn from(image: &Image) -> Self {
        let uid = image.uid.or((image.username.is_empty()).then_some(0));
        Self {
            uid,
            name: image.username.clone(),
        }
    }
}

/// The effective security context of a container.
///
/// # Errors
///
/// A message in upstream's words if `runAsNonRoot` can't be kept.
pub(crate) fn security_context(
    pod: &PodView,
    container: &Container,
    user: &ImageUser,
    seccomp_root: &Path,
) -> Result<SecurityContext, String> {
    let pod_sc = pod.spec().security_context.clone().unwrap_or_default();
    let sc = container.security_context.clone().unwrap_or_default();
    let run_as_user = sc.run_as_user.or(pod_sc.run_as_user);
    if sc
        .run_as_non_root
        .or(pod_sc.run_as_non_root)
        .unwrap_or_default()
    {
        verify_non_root(pod, container, run_as_user, user)?;
    }
    let mut supplemental_groups: Vec<i64> = pod_sc.fs_group.into_iter().collect();
    supplemental_groups.extend(pod_sc.supplemental_groups.iter().flatten());
    let capabilities = sc.capabilities.unwrap_or_default();
    let privileged = sc.privileged.unwrap_or_default();
    let profile = sc
        .seccomp_profile
        .as_ref()
        .or(pod_sc.seccomp_profile.as_ref());
    Ok(SecurityContext {
        privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        run_as_user: run_as_user.or(user
            .uid
            .filter(|_| user.name.is_empty() && user.uid != Some(0))),
        run_as_group: sc.run_as_group.or(pod_sc.run_as_group),
        run_as_username: (run_as_user.is_none() && !user.name.is_empty())
            .then(|| user.name.clone()),
        supplemental_groups,
        readonly_rootfs: sc.read_only_root_filesystem.unwrap_or_default(),
        no_new_privs: sc.allow_privilege_escalation == Some(false),
        seccomp: if privileged {
            SecurityProfile::Unconfined
        } else {
            seccomp(profile, seccomp_root)
        },
    })
}

fn verify_non_root(
    pod: &PodView,
    container: &Container,
    uid: Option<i64>,
    image: &ImageUser,
) -> Result<(), String> {
    let place = || format!("(pod: {:?}, container: {})", pod.describe(), container.name);
    match (uid, image.uid) {
        (Some(0), _) => Err(format!(
            "container's runAsUser breaks non-root policy {}",
            place()
        )),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!(
            "container has runAsNonRoot and image will run as root {}",
            place()
        )),
        (None, Some(_)) => Ok(()),
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {}",
            image.name,
            place()
        )),
    }
}

/// The runtime's default unless the pod says otherwise: what upstream does with `seccompDefault`.
fn seccomp(profile: Option<&SeccompProfile>, root: &Path) -> SecurityProfile {
    match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("Unconfined", _)) => SecurityProfile::Unconfined,
        Some(("Localhost", Some(file))) => SecurityProfile::Localhost(root.join(file)),
        _ => SecurityProfile::RuntimeDefault,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSecurityContext, PodSpec, SecurityContext as Sc};

    use super::*;

    fn pod(sc: PodSecurityContext) -> PodView {
        PodView::new(Pod {
            spec: Some(PodSpec {
                security_context: Some(sc),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let pod = pod(PodSecurityContext {
            run_as_user: Some(1000),
            run_as_group: Some(3000),
            fs_group: Some(2000),
            ..Default::default()
        });
        let container = Container {
            security_context: Some(Sc {
                run_as_user: Some(7),
                ..Default::default()
            }),
            ..Default::default()
        };
        let sc = security_context(&pod, &container, &ImageUser::default(), Path::new("/")).unwrap();
        assert_eq!((sc.run_as_user, sc.run_as_group), (Some(7), Some(3000)));
        assert_eq!(sc.supplemental_groups, [2000]);
        assert_eq!(sc.seccomp, SecurityProfile::RuntimeDefault);
    }

    #[test]
    fn root_images_are_refused_when_root_is() {
        let pod = pod(PodSecurityContext {
            run_as_non_root: Some(true),
            ..Default::default()
        });
        let container = Container {
            name: "c".to_owned(),
            ..Default::default()
        };
        let root = ImageUser {
            uid: Some(0),
            name: String::new(),
        };
        let error = security_context(&pod, &container, &root, Path::new("/")).unwrap_err();
        assert!(
            error.starts_with("container has runAsNonRoot and image will run as root"),
            "{error}"
        );
    }
}
