//! [`Policy`]: how much is recorded of which request.

use k8s_model::names::dns_subdomain;
use serde::{Deserialize, Serialize};

use crate::{auth::Identity, http::RequestInfo};

/// How much is recorded of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when and how it ended.
    Metadata,
    /// Also the body of the request.
    Request,
    /// Also the body of the answer.
    RequestResponse,
}

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// As soon as it is known who asks.
    RequestReceived,
    /// When the head of an answer has been made whose body takes long: a watch, for example.
    ResponseStarted,
    /// When the answer is complete.
    ResponseComplete,
    /// When the server failed in an unforeseen way.
    Panic,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is not YAML (or JSON) of a policy.
    #[error("audit policy cannot be decoded: {0}")]
    Decode(String),
    /// It is of another kind or version.
    #[error("unknown group version field {api_version} of kind {kind} in policy")]
    Kind {
        /// What it says.
        api_version: String,
        /// What it says.
        kind: String,
    },
    /// It has no rules.
    #[error("loaded illegal policy with 0 rules")]
    Empty,
    /// What it says is not allowed.
    #[error("invalid audit policy: {}", .0.join(", "))]
    Invalid(Vec<String>),
}

/// What is recorded: the first rule that fits a request decides; without one, nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The rules, in order.
    pub rules: Vec<PolicyRule>,
    /// At which stages no event is made at all.
    pub omit_stages: Vec<Stage>,
    /// Whether managed fields are left out of bodies.
    pub omit_managed_fields: bool,
}

/// A rule: all that it names must fit. What it does not name fits always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// How much is recorded.
    pub level: Level,
    /// The users.
    pub users: Vec<String>,
    /// Groups, one of which the user is in.
    pub user_groups: Vec<String>,
    /// The verbs.
    pub verbs: Vec<String>,
    /// The resources.
    pub resources: Vec<GroupResources>,
    /// The namespaces; the empty one stands for what is in none.
    pub namespaces: Vec<String>,
    /// Paths that are no resources; a final `*` stands for any rest.
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
    /// At which stages no event is made, besides the policy's own.
    pub omit_stages: Vec<Stage>,
    /// Whether managed fields are left out, whatever the policy says.
    pub omit_managed_fields: Option<bool>,
}

/// Resources of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupResources {
    /// The group; empty for the core group.
    pub group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`; none stands for all.
    pub resources: Vec<String>,
    /// The names of objects; none stands for all.
    pub resource_names: Vec<String>,
}

/// What a policy says about one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

impl Policy {
    /// Reads the text of a policy file, and checks it as upstream does.
    ///
    /// # Errors
    /// If it is no policy, or one with errors: all of them are named.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let value: serde_json::Value =
            serde_saphyr::from_str(text).map_err(|e| PolicyError::Decode(e.to_string()))?;
        let decode = |e: serde_json::Error| PolicyError::Decode(e.to_string());
        let head = Head::deserialize(&value).map_err(decode)?;
        if head.api_version != "audit.k8s.io/v1" || head.kind != "Policy" {
            return Err(PolicyError::Kind {
                api_version: head.api_version,
                kind: head.kind,
            });
        }
        let mut findings = Vec::new();
        for (i, rule) in value["rules"].as_array().into_iter().flatten().enumerate() {
            if rule["level"].as_str().unwrap_or_default().is_empty() {
                findings.push(format!("rules[{i}].level: Required value"));
            }
        }
        let policy = Policy::deserialize(value).map_err(decode)?;
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            rule.check(&format!("rules[{i}]"), &mut findings);
        }
        if findings.is_empty() {
            Ok(policy)
        } else {
            Err(PolicyError::Invalid(findings))
        }
    }

    pub(crate) fn evaluate(&self, user: &Identity, info: &RequestInfo) -> Verdict {
        match self.rules.iter().find(|rule| rule.fits(user, info)) {
            Some(rule) => {
                let mut omit_stages = self.omit_stages.clone();
                omit_stages.extend(&rule.omit_stages);
                Verdict {
                    level: rule.level,
                    omit_stages,
                    omit_managed_fields: rule
                        .omit_managed_fields
                        .unwrap_or(self.omit_managed_fields),
                }
            }
            None => Verdict::default(),
        }
    }
}

fn fits(named: &[String], value: &str) -> bool {
    named.is_empty() || named.iter().any(|n| n == value)
}

impl PolicyRule {
    fn check(&self, path: &str, findings: &mut Vec<String>) {
        let mut invalid = |field: String, value: &dyn std::fmt::Debug, text: &str| {
            findings.push(format!("{path}.{field}: Invalid value: {value:?}: {text}"));
        };
        for (i, url) in self.non_resource_urls.iter().enumerate() {
            let field = format!("nonResourceURLs[{i}]");
            if url == "*" {
                continue;
            }
            if !url.starts_with('/') {
                let text = "non-resource URL rules must begin with a '/' character";
                invalid(field.clone(), url, text);
            }
            if url.chars().rev().skip(1).any(|c| c == '*') {
                let text = "non-resource URL wildcards '*' must be the final character of the rule";
                invalid(field, url, text);
            }
        }
        for group in &self.resources {
            let problems = match group.group.as_str() {
                "" => Vec::new(),
                name => dns_subdomain(name, false),
            };
            if !problems.is_empty() {
                let text = problems.join(",");
                invalid("resources.group".to_owned(), &group.group, &text);
            }
            if !group.resource_names.is_empty() && group.resources.is_empty() {
                let text = "using resourceNames requires at least one resource";
                let field = "resources.resourceNames".to_owned();
                invalid(field, &group.resource_names, text);
            }
        }
        let regular = !self.resources.is_empty() || !self.namespaces.is_empty();
        if regular && !self.non_resource_urls.is_empty() {
            let text = "rules cannot apply to both regular resources and non-resource URLs";
            invalid("nonResourceURLs".to_owned(), &self.non_resource_urls, text);
        }
    }

    fn fits(&self, user: &Identity, info: &RequestInfo) -> bool {
        if !fits(&self.users, &user.name)
            || !(self.user_groups.is_empty() || self.user_groups.iter().any(|g| user.in_group(g)))
            || !fits(&self.verbs, &info.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && fits(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.fits(info)));
        }
        if !self.non_resource_urls.is_empty() {
            return !info.is_resource
                && self.non_resource_urls.iter().any(|spec| {
                    spec == &info.path
                        || spec
                            .strip_suffix('*')
                            .is_some_and(|prefix| info.path.starts_with(prefix))
                });
        }
        true
    }
}

impl GroupResources {
    fn fits(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !fits(&self.resource_names, &info.name) {
            return false;
        }
        self.resources.iter().any(|wanted| {
            if wanted == "*" {
                return true;
            }
            match wanted.split_once('/') {
                None => info.subresource.is_empty() && wanted == &info.resource,
                Some(("*", sub)) => !info.subresource.is_empty() && sub == info.subresource,
                Some((resource, "*")) => resource == info.resource,
                Some((resource, sub)) => resource == info.resource && sub == info.subresource,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
- level: RequestResponse
  resources: [{group: "", resources: [pods]}]
- level: Metadata
  resources: [{group: "", resources: ["pods/log", "*/scale"]}]
  omitManagedFields: false
- level: Request
  namespaces: [kube-system]
  resources: [{group: "", resources: [configmaps], resourceNames: [leader]}]
- level: None
  userGroups: ["system:authenticated"]
  nonResourceURLs: ["/api*", "/version"]
- level: Metadata
  omitStages: [ResponseStarted]
"#;

    fn level(policy: &Policy, user: &str, method: &str, uri: &str) -> Level {
        let user = Identity::user(user).group("system:authenticated");
        let info = RequestInfo::new(&method.parse().unwrap(), &uri.parse().unwrap());
        policy.evaluate(&user, &info).level
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = Policy::parse(POLICY).unwrap();
        let ask = |user, method, uri| level(&policy, user, method, uri);
        let pods = "/api/v1/namespaces/x/pods";
        assert_eq!(ask("bob", "GET", pods), Level::RequestResponse);
        let watch = "/api/v1/namespaces/x/pods?watch=1";
        assert_eq!(ask("system:kube-proxy", "GET", watch), Level::None);
        let log = "/api/v1/namespaces/x/pods/p/log";
        assert_eq!(ask("bob", "GET", log), Level::Metadata);
        let leader = "/api/v1/namespaces/kube-system/configmaps/leader";
        assert_eq!(ask("bob", "PUT", leader), Level::Request);
        let other = "/api/v1/namespaces/kube-system/configmaps/other";
        assert_eq!(ask("bob", "PUT", other), Level::Metadata);
        assert_eq!(ask("bob", "GET", "/apis/apps"), Level::None);
        assert_eq!(ask("bob", "GET", "/metrics"), Level::Metadata);
    }

    #[test]
    fn stages_and_managed_fields_are_the_policys_and_the_rules() {
        let policy = Policy::parse(POLICY).unwrap();
        let ask = |uri: &str| {
            let info = RequestInfo::new(&http::Method::GET, &uri.parse().unwrap());
            policy.evaluate(&Identity::user("bob"), &info)
        };
        let metrics = ask("/metrics");
        assert_eq!(
            metrics.omit_stages,
            [Stage::RequestReceived, Stage::ResponseStarted]
        );
        assert!(metrics.omit_managed_fields);
        assert!(!ask("/api/v1/namespaces/x/pods/p/log").omit_managed_fields);
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said() {
        let text = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata, \
                    nonResourceURLs: [\"metrics\", \"/a*b\"], namespaces: [x]}, {users: [bob]}]}";
        let error = Policy::parse(text).unwrap_err().to_string();
        for wanted in [
            "rules[0].nonResourceURLs[0]: Invalid value: \"metrics\": non-resource URL rules must begin with a '/' character",
            "wildcards '*' must be the final character",
            "rules cannot apply to both regular resources and non-resource URLs",
            "rules[1].level: Required value",
        ] {
            assert!(error.contains(wanted), "{error}");
        }
        assert!(Policy::parse("{apiVersion: v1, kind: Policy}").is_err());
        assert!(Policy::parse("{apiVersion: audit.k8s.io/v1, kind: Policy}").is_err());
        assert!(Policy::parse("rules: [").is_err());
    }
}
