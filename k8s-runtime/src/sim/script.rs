//! When a simulated container ends by itself.

use std::time::Duration;

use crate::{ContainerConfig, Error, SandboxConfig};

/// The annotation that says after how long a container ends by itself.
pub const EXIT_AFTER: &str = "sim.k8s-runtime/exit-after";

/// The annotation that says with which code it does.
pub const EXIT_CODE: &str = "sim.k8s-runtime/exit-code";

/// An end that was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimExit {
    /// How long after the start.
    pub after: Duration,
    /// The exit code.
    pub code: i32,
}

/// What the annotations plan for a container.
pub(super) fn planned(
    sandbox: &SandboxConfig,
    container: &ContainerConfig,
) -> Result<Option<SimExit>, Error> {
    let find = |key: &str| {
        let own = format!("{key}.{}", container.name);
        [&container.annotations, &sandbox.annotations]
            .into_iter()
            .find_map(|a| a.get(&own).or_else(|| a.get(key)))
    };
    let after = find(EXIT_AFTER);
    let code = find(EXIT_CODE);
    if after.is_none() && code.is_none() {
        return Ok(None);
    }
    let after = match after {
        Some(text) => duration(text).ok_or_else(|| invalid(EXIT_AFTER, text))?,
        None => Duration::ZERO,
    };
    let code = match code {
        Some(text) => text.parse().map_err(|_| invalid(EXIT_CODE, text))?,
        None => 0,
    };
    Ok(Some(SimExit { after, code }))
}

fn invalid(key: &str, text: &str) -> Error {
    Error::InvalidConfig(format!("annotation {key}: {text:?}"))
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_annotation_wins() {
        let sandbox = SandboxConfig {
            annotations: [
                (EXIT_AFTER.to_owned(), "3".to_owned()),
                (format!("{EXIT_AFTER}.web"), "250ms".to_owned()),
                (format!("{EXIT_CODE}.web"), "7".to_owned()),
            ]
            .into(),
            ..Default::default()
        };
        let container = |name: &str| ContainerConfig {
            name: name.to_owned(),
            ..Default::default()
        };
        let exit = |ms, code| {
            Some(SimExit {
                after: Duration::from_millis(ms),
                code,
            })
        };
        assert_eq!(planned(&sandbox, &container("web")).unwrap(), exit(250, 7));
        assert_eq!(planned(&sandbox, &container("db")).unwrap(), exit(3000, 0));
        assert_eq!(
            planned(&SandboxConfig::default(), &container("db")).unwrap(),
            None
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "soon", "-1", "1e400", "NaN"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
