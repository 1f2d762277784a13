//! [`Policy`]: what a namespace's labels ask for.

use std::{collections::BTreeMap, fmt};

use k8s_model::field::{self, ErrorList, Path};

/// How much a policy forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    #[default]
    Privileged,
    /// What is known to lead to privileges on the node.
    Baseline,
    /// All that hardening says.
    Restricted,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

/// A level, as it was in a version of Kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LevelVersion {
    /// How much is forbidden.
    pub level: Level,
    /// As of which minor version 1.x; `None` is the latest.
    pub minor: Option<u32>,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}:v1.{minor}", self.level),
            None => write!(f, "{}:latest", self.level),
        }
    }
}

/// What is enforced, and what is noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate this are refused.
    pub enforce: LevelVersion,
    /// Violations of this go into the audit log.
    pub audit: LevelVersion,
    /// Of violations of this the client is warned.
    pub warn: LevelVersion,
}

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const AUDIT: &str = "pod-security.kubernetes.io/audit";
const WARN: &str = "pod-security.kubernetes.io/warn";

fn level(text: &str) -> Result<Level, &'static str> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted"),
    }
}

fn minor(text: &str) -> Result<Option<u32>, &'static str> {
    if text == "latest" {
        return Ok(None);
    }
    text.strip_prefix("v1.")
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        .filter(|digits| *digits == "0" || !digits.starts_with('0'))
        .and_then(|digits| digits.parse().ok())
        .map(Some)
        .ok_or(r#"must be "latest" or "v1.x""#)
}

impl Policy {
    /// What the labels ask for, by default what the policy says, and what is wrong with them. Where
    /// they cannot be read, enforcement falls back to the strictest, noting to nothing.
    pub(super) fn of(
        labels: Option<&BTreeMap<String, String>>,
        defaults: Policy,
    ) -> (Self, ErrorList) {
        let mut policy = defaults;
        let mut errors = ErrorList::new();
        let Some(labels) = labels else {
            return (policy, errors);
        };
        let mut finding = |label: &str, value: &str, detail: &str| {
            let path = Path::new("metadata").child("labels").key(label);
            errors.push(field::invalid(path, value, detail));
        };
        let mut enforced = false;
        for (label, mode, fallback) in [
            (ENFORCE, &mut policy.enforce, Level::Restricted),
            (AUDIT, &mut policy.audit, Level::Privileged),
            (WARN, &mut policy.warn, Level::Privileged),
        ] {
            if let Some(value) = labels.get(label) {
                match level(value) {
                    Ok(level) => {
                        mode.level = level;
                        enforced |= label == ENFORCE;
                    }
                    Err(detail) => {
                        finding(label, value, detail);
                        mode.level = fallback;
                    }
                }
            }
            let label = format!("{label}-version");
            if let Some(value) = labels.get(&label) {
                mode.minor = minor(value).unwrap_or_else(|detail| {
                    finding(&label, value, detail);
                    None
                });
            }
        }
        // What is enforced is warned of too: controllers make most pods, and they see no refusal.
        if enforced && !labels.contains_key(WARN) && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !labels.contains_key(&format!("{WARN}-version")) {
                policy.warn.minor = policy.enforce.minor;
            }
        }
        (policy, errors)
    }

    /// Whether nothing is forbidden in any mode.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged)
    }

    /// The modes that the labels set to more than nothing, as in `enforce=baseline:latest`.
    pub(super) fn describe(&self, labels: Option<&BTreeMap<String, String>>) -> String {
        let set = |label: &str| {
            labels.is_some_and(|labels| {
                labels.contains_key(label) || labels.contains_key(&format!("{label}-version"))
            })
        };
        let parts: Vec<String> = [
            ("enforce", ENFORCE, self.enforce),
            ("audit", AUDIT, self.audit),
            ("warn", WARN, self.warn),
        ]
        .into_iter()
        .filter(|(_, label, mode)| mode.level != Level::Privileged && set(label))
        .map(|(name, _, mode)| format!("{name}={mode}"))
        .collect();
        parts.join(", ")
    }

    /// Whether both mean the same.
    pub(super) fn is_equivalent(&self, other: &Policy) -> bool {
        let same = |a: LevelVersion, b: LevelVersion| {
            a == b || a.level == Level::Privileged && b.level == Level::Privileged
        };
        same(self.enforce, other.enforce)
            && same(self.audit, other.audit)
            && same(self.warn, other.warn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> (Policy, ErrorList) {
        let labels = labels
            .iter()
            .map(|(mode, value)| {
                let name = format!("pod-security.kubernetes.io/{mode}");
                (name, (*value).to_owned())
            })
            .collect();
        Policy::of(Some(&labels), Policy::default())
    }

    #[test]
    fn labels_choose_level_and_version_of_each_mode() {
        let (policy, errors) = of(&[
            ("enforce", "baseline"),
            ("enforce-version", "v1.22"),
            ("audit", "restricted"),
        ]);
        assert!(errors.is_empty());
        assert_eq!(policy.enforce.to_string(), "baseline:v1.22");
        assert_eq!(policy.audit.to_string(), "restricted:latest");
        // What is enforced is warned of.
        assert_eq!(policy.warn.to_string(), "baseline:v1.22");
        let (policy, _) = of(&[("enforce", "baseline"), ("warn", "privileged")]);
        assert_eq!(policy.warn.to_string(), "privileged:latest");
    }

    #[test]
    fn labels_that_cannot_be_read_enforce_the_strictest() {
        let (policy, errors) = of(&[
            ("enforce", "strict"),
            ("enforce-version", "v1.01"),
            ("warn", "x"),
        ]);
        assert_eq!(policy.enforce.to_string(), "restricted:latest");
        assert_eq!(policy.warn.to_string(), "privileged:latest");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted"#
        );
        assert_eq!(
            texts[1],
            r#"metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "v1.01": must be "latest" or "v1.x""#
        );
        assert_eq!(texts.len(), 3);
    }
}
