//! Image references, normalised as Docker's are.

use oci_client::Reference;

use crate::Error;

/// Parses a reference and completes it: `busybox` is `docker.io/library/busybox:latest`.
///
/// # Errors
/// [`Error::InvalidReference`] if it is none.
pub fn normalize(reference: &str) -> Result<String, Error> {
    Ok(parse(reference)?.whole())
}

pub(crate) fn parse(reference: &str) -> Result<Reference, Error> {
    reference.parse().map_err(|e| Error::InvalidReference {
        reference: reference.to_owned(),
        message: format!("{e}"),
    })
}

/// The digest, if this is an image's ID rather than a name.
pub(crate) fn as_id(reference: &str) -> Option<String> {
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    (hex.len() == 64
        && hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
    .then(|| format!("sha256:{hex}"))
}

/// The name without tag and digest, as in `docker.io/library/busybox`.
pub(crate) fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            (
                "index.docker.io/library/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            ("localhost:5000/x:y", "localhost:5000/x:y".to_owned()),
            (
                "registry.k8s.io/pause:3.9",
                "registry.k8s.io/pause:3.9".to_owned(),
            ),
            (
                &format!("busybox@{digest}"),
                format!("docker.io/library/busybox@{digest}"),
            ),
        ] {
            assert_eq!(normalize(short).unwrap(), full);
        }
    }

    #[test]
    fn broken_names_are_refused() {
        for bad in [
            "",
            "Busybox",
            "a b",
            "a:b:c/d",
            "busybox@sha256:12",
            ":x",
            "-/x y",
        ] {
            assert!(
                matches!(normalize(bad), Err(Error::InvalidReference { .. })),
                "{bad}"
            );
        }
    }
}
