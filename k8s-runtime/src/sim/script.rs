//! What the annotations say of a simulated container: when it ends by itself, what is in its log, what
//! its commands and ports answer.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ContainerConfig, Error, SandboxConfig};

/// The annotation that says after how long a container ends by itself.
pub const EXIT_AFTER: &str = "sim.k8s-runtime/exit-after";

/// The annotation that says with which code it does.
pub const EXIT_CODE: &str = "sim.k8s-runtime/exit-code";

/// The annotation with what a container writes to its log when it starts, line by line.
pub const LOG: &str = "sim.k8s-runtime/log";

/// The annotation that says what commands do in a container: a JSON object from command lines (the words
/// with one space between) to [`SimExec`]s. `*` stands for all others.
pub const EXEC: &str = "sim.k8s-runtime/exec";

/// The annotation that makes ports of a pod answer HTTP requests with a text; with a port as a
/// suffix, as in `sim.k8s-runtime/http.8080`, that port alone.
pub const HTTP: &str = "sim.k8s-runtime/http";

/// What a command does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SimExec {
    /// What it writes to standard output.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// What it writes to standard error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// How it ends.
    pub exit_code: i32,
}

/// An end that was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimExit {
    /// How long after the start.
    pub after: Duration,
    /// The exit code.
    pub code: i32,
}

/// An annotation of a container: its own, or its sandbox's.
pub(super) fn find<'a>(
    key: &str,
    sandbox: &'a SandboxConfig,
    container: &'a ContainerConfig,
) -> Option<&'a String> {
    let own = format!("{key}.{}", container.name);
    [&container.annotations, &sandbox.annotations]
        .into_iter()
        .find_map(|a| a.get(&own).or_else(|| a.get(key)))
}

/// What the annotations say that a command does.
pub(super) fn scripted(
    sandbox: &SandboxConfig,
    container: &ContainerConfig,
    command: &[String],
) -> Result<Option<SimExec>, Error> {
    let Some(text) = find(EXEC, sandbox, container) else {
        return Ok(None);
    };
    let mut all: BTreeMap<String, SimExec> = serde_json::from_str(text)
        .map_err(|e| Error::InvalidConfig(format!("annotation {EXEC}: {e}")))?;
    let found = all.remove(&command.join(" "));
    Ok(found.or_else(|| all.remove("*")))
}

/// What the annotations say that a port answers.
pub(super) fn http(sandbox: &SandboxConfig, port: u16) -> Option<&String> {
    let own = sandbox.annotations.get(&format!("{HTTP}.{port}"));
    own.or_else(|| sandbox.annotations.get(HTTP))
}

/// What the annotations plan for a container.
pub(super) fn planned(
    sandbox: &SandboxConfig,
    container: &ContainerConfig,
) -> Result<Option<SimExit>, Error> {
    let find = |key: &str| find(key, sandbox, container);
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
    fn commands_are_scripted_by_their_words() {
        let text = r#"{"ls /": {"stdout": "bin\n"}, "*": {"stderr": "no\n", "exitCode": 2}}"#;
        let sandbox = SandboxConfig {
            annotations: [(format!("{EXEC}.web"), text.to_owned())].into(),
            ..Default::default()
        };
        let said = |container: &str, command: &[&str]| {
            let container = ContainerConfig {
                name: container.to_owned(),
                ..Default::default()
            };
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            scripted(&sandbox, &container, &command).unwrap()
        };
        assert_eq!(said("web", &["ls", "/"]).unwrap().stdout, "bin\n");
        assert_eq!(said("web", &["rm"]).unwrap().exit_code, 2);
        assert_eq!(said("db", &["ls", "/"]), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "soon", "-1", "1e400", "NaN"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
