//! [`AuthorizationConfiguration`]: which authorizers are asked, in which order, from a file.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization>.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{FailurePolicy, MatchConditions, WebhookAuthorizerOptions};
use crate::webhook::ReviewVersion;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizationConfigurationError {
    /// It is not YAML (or JSON) of a configuration.
    #[error("authorization configuration cannot be decoded: {0}")]
    Decode(String),
    /// What it says is not allowed, or cannot be done here.
    #[error("{path}: {reason}")]
    Invalid {
        /// Where, such as `authorizers[1].webhook.timeout`.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Which authorizers are asked, in which order: upstream's `AuthorizationConfiguration`, as
/// `--authorization-config` names a file with one.
#[derive(Clone, Debug)]
pub struct AuthorizationConfiguration {
    /// The authorizers, in order.
    pub authorizers: Vec<ConfiguredAuthorizer>,
}

/// An authorizer of a configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConfiguredAuthorizer {
    /// The [node authorizer](super::node::NodeAuthorizer).
    Node,
    /// [Roles](super::rbac::Rbac).
    Rbac,
    /// Everybody may do everything.
    AlwaysAllow,
    /// A [webhook](super::WebhookAuthorizer).
    Webhook {
        /// Its file, in the format of kubeconfigs.
        file: PathBuf,
        /// How it is asked.
        options: WebhookAuthorizerOptions,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    expression: String,
}

/// The longest time that a webhook may be given, as upstream.
const LONGEST: Duration = Duration::from_secs(30);

impl AuthorizationConfiguration {
    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// If it is none, or says what is not allowed.
    pub fn parse(text: &str) -> Result<Self, AuthorizationConfigurationError> {
        let file: File = serde_saphyr::from_str(text)
            .map_err(|e| AuthorizationConfigurationError::Decode(e.to_string()))?;
        let invalid = |path: &str, reason: String| AuthorizationConfigurationError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let group = file.api_version.strip_prefix("apiserver.config.k8s.io/");
        if !matches!(group, Some("v1" | "v1beta1" | "v1alpha1"))
            || file.kind != "AuthorizationConfiguration"
        {
            let reason = format!("{:?} in {:?} is not known", file.kind, file.api_version);
            return Err(invalid("kind", reason));
        }
        if file.authorizers.is_empty() {
            return Err(invalid(
                "authorizers",
                "at least one is required".to_owned(),
            ));
        }
        let mut authorizers = Vec::new();
        let mut names = Vec::new();
        for (n, entry) in file.authorizers.into_iter().enumerate() {
            let path = format!("authorizers[{n}]");
            if entry.name.is_empty() {
                return Err(invalid(
                    &format!("{path}.name"),
                    "it is required".to_owned(),
                ));
            }
            if names.contains(&entry.name) {
                let reason = format!("{:?} is there already", entry.name);
                return Err(invalid(&format!("{path}.name"), reason));
            }
            authorizers.push(match (entry.kind.as_str(), entry.webhook) {
                ("Node", None) => ConfiguredAuthorizer::Node,
                ("RBAC", None) => ConfiguredAuthorizer::Rbac,
                ("AlwaysAllow", None) => ConfiguredAuthorizer::AlwaysAllow,
                ("Webhook", Some(hook)) => webhook(hook).map_err(|(field, reason)| {
                    invalid(&format!("{path}.webhook.{field}"), reason)
                })?,
                ("Webhook", None) => {
                    let reason = "it is required when type is Webhook".to_owned();
                    return Err(invalid(&format!("{path}.webhook"), reason));
                }
                ("Node" | "RBAC" | "AlwaysAllow", Some(_)) => {
                    let reason = "it is allowed when type is Webhook alone".to_owned();
                    return Err(invalid(&format!("{path}.webhook"), reason));
                }
                (other, _) => {
                    let reason = format!(
                        "{other:?} is not supported: there are AlwaysAllow, Node, RBAC and Webhook"
                    );
                    return Err(invalid(&format!("{path}.type"), reason));
                }
            });
            names.push(entry.name);
        }
        Ok(AuthorizationConfiguration { authorizers })
    }
}

fn webhook(hook: Webhook) -> Result<ConfiguredAuthorizer, (String, String)> {
    let wrong = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
    let duration = |field: &str, text: Option<&String>, default: Duration| match text {
        None => Ok(default),
        Some(text) => {
            match k8s_model::duration::parse(text).and_then(|nanos| u64::try_from(nanos).ok()) {
                // As if it were not there.
                Some(0) => Ok(default),
                Some(nanos) => Ok(Duration::from_nanos(nanos)),
                None => Err((
                    field.to_owned(),
                    format!("{text:?} is not a duration above 0"),
                )),
            }
        }
    };
    let kept = |keep: Option<bool>, time: Duration| match keep {
        Some(false) => Duration::ZERO,
        _ => time,
    };
    let default = WebhookAuthorizerOptions::default();
    let timeout = duration("timeout", hook.timeout.as_ref(), Duration::ZERO)?;
    if timeout.is_zero() {
        return wrong("timeout", "it is required");
    }
    if timeout > LONGEST {
        return wrong("timeout", "it must be 30s at most");
    }
    let allowed_ttl = duration(
        "authorizedTTL",
        hook.authorized_ttl.as_ref(),
        default.allowed_ttl,
    )?;
    let denied_ttl = duration(
        "unauthorizedTTL",
        hook.unauthorized_ttl.as_ref(),
        default.denied_ttl,
    )?;
    let version = hook.subject_access_review_version.parse::<ReviewVersion>();
    let version = version.map_err(|e| ("subjectAccessReviewVersion".to_owned(), e))?;
    if !hook.match_conditions.is_empty()
        && hook.match_condition_subject_access_review_version != "v1"
    {
        return wrong(
            "matchConditionSubjectAccessReviewVersion",
            "it must be v1 where there are matchConditions",
        );
    }
    let failure_policy = match hook.failure_policy.as_str() {
        "NoOpinion" => FailurePolicy::NoOpinion,
        "Deny" => FailurePolicy::Deny,
        _ => return wrong("failurePolicy", "it must be Deny or NoOpinion"),
    };
    let file = match (
        hook.connection_info.kind.as_str(),
        hook.connection_info.kube_config_file,
    ) {
        ("KubeConfigFile", Some(file)) => file,
        ("KubeConfigFile", None) => {
            return wrong("connectionInfo.kubeConfigFile", "it is required");
        }
        _ => return wrong("connectionInfo.type", "it must be KubeConfigFile"),
    };
    let sources = hook.match_conditions.iter().map(|c| &c.expression);
    let match_conditions = MatchConditions::parse(sources).map_err(|e| {
        let text = e.to_string();
        let (field, reason) = text.split_once(": ").unwrap_or(("matchConditions", &text));
        (field.to_owned(), reason.to_owned())
    })?;
    Ok(ConfiguredAuthorizer::Webhook {
        file,
        options: WebhookAuthorizerOptions {
            version,
            allowed_ttl: kept(hook.cache_authorized_requests, allowed_ttl),
            denied_ttl: kept(hook.cache_unauthorized_requests, denied_ttl),
            timeout,
            failure_policy,
            match_conditions,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: hook
  webhook:
    authorizedTTL: 10s
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /hook.yaml}
    matchConditions:
    - expression: has(request.resourceAttributes)
- {type: Node, name: node}
- {type: RBAC, name: rbac}
";

    #[test]
    fn a_configuration_says_who_is_asked_in_which_order() {
        let read = AuthorizationConfiguration::parse(GOOD).unwrap();
        let [
            ConfiguredAuthorizer::Webhook { file, options },
            ConfiguredAuthorizer::Node,
            ConfiguredAuthorizer::Rbac,
        ] = &read.authorizers[..]
        else {
            panic!("{read:?}")
        };
        assert_eq!(file.to_str(), Some("/hook.yaml"));
        assert_eq!(options.version, ReviewVersion::V1);
        assert_eq!(options.allowed_ttl, Duration::from_secs(10));
        assert_eq!(options.denied_ttl, Duration::from_secs(30));
        assert_eq!(options.timeout, Duration::from_secs(3));
        assert_eq!(options.failure_policy, FailurePolicy::Deny);
    }

    #[test]
    fn what_is_kept_for_no_time_is_kept_for_the_usual_time_and_what_is_not_to_be_kept_is_not() {
        let ttls = |change: &str| {
            let text = GOOD.replace("authorizedTTL: 10s", change);
            let read = AuthorizationConfiguration::parse(&text).unwrap();
            let ConfiguredAuthorizer::Webhook { options, .. } = &read.authorizers[0] else {
                panic!("{read:?}")
            };
            (options.allowed_ttl.as_secs(), options.denied_ttl.as_secs())
        };
        assert_eq!(ttls("authorizedTTL: 0s"), (300, 30));
        assert_eq!(ttls("unauthorizedTTL: 0s"), (300, 30));
        assert_eq!(ttls("cacheAuthorizedRequests: true"), (300, 30));
        assert_eq!(ttls("cacheAuthorizedRequests: false"), (0, 30));
        assert_eq!(ttls("cacheUnauthorizedRequests: false"), (300, 0));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (change, to, said) in [
            ("kind: Auth", "kind: Other", "kind: "),
            (
                "name: node",
                "name: hook",
                "authorizers[1].name: \"hook\" is there already",
            ),
            (
                "type: Node",
                "type: ABAC",
                "authorizers[1].type: \"ABAC\" is not supported",
            ),
            (
                "timeout: 3s",
                "timeout: 31s",
                "authorizers[0].webhook.timeout: ",
            ),
            (
                "timeout: 3s",
                "timeout: 0s",
                "authorizers[0].webhook.timeout: it is required",
            ),
            (
                "authorizedTTL: 10s",
                "authorizedTTL: -1s",
                "authorizers[0].webhook.authorizedTTL: ",
            ),
            (
                "    timeout: 3s\n",
                "",
                "authorizers[0].webhook.timeout: it is required",
            ),
            (
                "Policy: Deny",
                "Policy: Maybe",
                "authorizers[0].webhook.failurePolicy: ",
            ),
            (
                "Version: v1\n    match",
                "Version: v3\n    match",
                "authorizers[0].webhook.subjectAccessReviewVersion: ",
            ),
            (
                "has(request.resourceAttributes)",
                "has(",
                "authorizers[0].webhook.matchConditions[0].expression: ",
            ),
            (
                "type: KubeConfigFile",
                "type: InClusterConfig",
                "authorizers[0].webhook.connectionInfo.type: ",
            ),
            (
                "failurePolicy",
                "failurPolicy",
                "authorization configuration cannot be decoded: ",
            ),
        ] {
            assert!(GOOD.contains(change), "{change}");
            let error = AuthorizationConfiguration::parse(&GOOD.replacen(change, to, 1));
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
