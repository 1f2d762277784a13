//! Authorization: whether a user may do what a request asks.

mod conditions;
mod configuration;
mod configured;
pub mod node;
pub mod rbac;
mod selectors;
mod webhook;

use std::fmt::Debug;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;

pub(crate) use self::selectors::ReviewRequirement;
pub use self::{
    conditions::{MatchConditionError, MatchConditions},
    configuration::{
        AuthorizationConfiguration, AuthorizationConfigurationError, ConfiguredAuthorizer,
    },
    configured::ConfiguredAuthorizers,
    selectors::Selectors,
    webhook::{FailurePolicy, WebhookAuthorizer, WebhookAuthorizerOptions},
};
use crate::{
    Error,
    auth::{Identity, MASTERS},
    http::{RequestInfo, response::sanitized},
};

/// What a request asks to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a Identity,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a verb
    /// that only reviews name; for a path that is no resource, the HTTP method in lower case.
    pub verb: &'a str,
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The plural name of the resource.
    pub resource: &'a str,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty.
    pub namespace: &'a str,
    /// The object's name, or empty.
    pub name: &'a str,
    /// The request's path.
    pub path: &'a str,
    /// Whether the path is one of a resource.
    pub resource_request: bool,
    /// What narrows a `list`, `watch` or `deletecollection`; `None` where nothing does.
    pub selectors: Option<&'a Selectors>,
}

impl<'a> Attributes<'a> {
    /// The texts in the `resourceAttributes` of a review, by their names there.
    fn resource_texts(&self) -> [(&'static str, &'a str); 7] {
        [
            ("namespace", self.namespace),
            ("verb", self.verb),
            ("group", self.group),
            ("version", self.version),
            ("resource", self.resource),
            ("subresource", self.subresource),
            ("name", self.name),
        ]
    }

    /// Those in its `nonResourceAttributes`.
    fn path_texts(&self) -> [(&'static str, &'a str); 2] {
        [("path", self.path), ("verb", self.verb)]
    }

    /// What a request asks to do, on behalf of that user.
    pub(crate) fn of(
        user: &'a Identity,
        info: &'a RequestInfo,
        selectors: Option<&'a Selectors>,
    ) -> Self {
        Attributes {
            user,
            verb: &info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            resource_request: info.is_resource,
            selectors,
        }
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; no other authorizer is asked.
    Allow,
    /// No; no other authorizer is asked.
    Deny {
        /// Why, for the client.
        reason: String,
        /// What went wrong on the way to it.
        error: Option<String>,
    },
    /// Not for this authorizer to say; with nobody to allow it, the request is refused.
    NoOpinion {
        /// Why, for the client; often empty.
        reason: String,
        /// What went wrong. With nobody to allow it, the request then ends with 500 and not with 403.
        error: Option<String>,
    },
}

impl Decision {
    /// No opinion, and no reason for it.
    pub fn no_opinion() -> Self {
        Decision::unsaid("")
    }

    /// No opinion, for that reason.
    pub fn unsaid(reason: impl Into<String>) -> Self {
        Decision::NoOpinion {
            reason: reason.into(),
            error: None,
        }
    }

    /// No, for that reason.
    pub fn deny(reason: impl Into<String>) -> Self {
        Decision::Deny {
            reason: reason.into(),
            error: None,
        }
    }

    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow)
    }

    /// Why the request may not go on; empty when it may.
    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow => "",
            Decision::Deny { reason, .. } | Decision::NoOpinion { reason, .. } => reason,
        }
    }

    /// What went wrong where the request was not allowed.
    pub fn error(&self) -> Option<&str> {
        match self {
            Decision::Allow => None,
            Decision::Deny { error, .. } | Decision::NoOpinion { error, .. } => error.as_deref(),
        }
    }
}

/// What an authorizer can tell beforehand of what a user may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownRules {
    /// What the user may do at least.
    pub rules: Vec<PolicyRule>,
    /// Whether the user may do more than that.
    pub incomplete: bool,
    /// Why something is not known.
    pub errors: Vec<String>,
}

/// Says whether a user may do what a request asks.
///
/// # Purpose
/// The server asks once per request, after authentication and before the body is read; reviews,
/// impersonation and some admission plugins ask too. Write your own to add a source of
/// permissions, and chain it with the others in a [`Chain`].
///
/// # Guarantees
/// An answer depends on the attributes and on state that changes seldom; it never blocks on
/// a client. An authorizer that cannot read its state answers [`Decision::NoOpinion`] with an error: others may still
/// allow the request.
///
/// # Concurrency
/// Calls overlap, and are on the way of every request: answer from memory.
#[async_trait]
pub trait Authorizer: Debug + Send + Sync {
    /// Decides.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// Why a request that it allows is allowed, for the audit log and for reviews; asked seldom. Empty where there
    /// is nothing to say.
    async fn explain(&self, _attributes: &Attributes<'_>) -> String {
        String::new()
    }

    /// What the user may do in the namespace, for `selfsubjectrulesreviews`: clients show it, and nobody is allowed
    /// anything by it. Nothing is known where this is left out.
    fn rules(&self, _user: &Identity, _namespace: &str) -> KnownRules {
        KnownRules {
            incomplete: true,
            ..KnownRules::default()
        }
    }
}

/// The answer to a request that nobody allowed, in upstream's words.
pub(crate) fn denied(a: &Attributes<'_>, reason: &str) -> Error {
    let user = &a.user.name;
    let mut message = if !a.resource_request {
        format!("User {user:?} cannot {} path {:?}", a.verb, a.path)
    } else {
        let resource = match a.subresource {
            "" => a.resource.to_owned(),
            subresource => format!("{}/{subresource}", a.resource),
        };
        let place = match a.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}",
            a.verb, a.group
        )
    };
    message = sanitized(&message);
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    let (group, resource, name) = match a.resource_request {
        true => (a.group, a.resource, a.name),
        false => ("", "", ""),
    };
    Error::forbidden(group, resource, name, &message)
}

/// One text for several errors, as upstream's aggregates have it.
pub(crate) fn aggregate(errors: &[String]) -> Option<String> {
    match errors {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

/// Several authorizers: the first with an opinion decides.
#[derive(Debug, Default)]
pub struct Chain(Vec<std::sync::Arc<dyn Authorizer>>);

impl Chain {
    /// A chain that asks in this order.
    pub fn new(authorizers: Vec<std::sync::Arc<dyn Authorizer>>) -> Self {
        Chain(authorizers)
    }
}

#[async_trait]
impl Authorizer for Chain {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        let mut errors = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion { reason, error } => {
                    reasons.extend(Some(reason).filter(|reason| !reason.is_empty()));
                    errors.extend(error);
                }
                decision => return decision,
            }
        }
        Decision::NoOpinion {
            reason: reasons.join("\n"),
            error: aggregate(&errors),
        }
    }

    async fn explain(&self, attributes: &Attributes<'_>) -> String {
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion { .. } => {}
                Decision::Allow => return authorizer.explain(attributes).await,
                Decision::Deny { .. } => break,
            }
        }
        String::new()
    }

    fn rules(&self, user: &Identity, namespace: &str) -> KnownRules {
        let mut all = KnownRules::default();
        for authorizer in &self.0 {
            let known = authorizer.rules(user, namespace);
            all.rules.extend(known.rules);
            all.incomplete |= known.incomplete;
            all.errors.extend(known.errors);
        }
        all
    }
}

/// Allows everything, for a server that trusts whoever reaches it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow
    }

    fn rules(&self, _user: &Identity, _namespace: &str) -> KnownRules {
        KnownRules {
            rules: rbac::everything().into(),
            ..KnownRules::default()
        }
    }
}

/// Allows everything to [`MASTERS`], and says nothing of others.
///
/// Upstream asks it before all others, whatever is configured: nobody can lock out the server itself, nor those who are
/// to mend what is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowMasters;

#[async_trait]
impl Authorizer for AllowMasters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match attributes.user.in_group(MASTERS) {
            true => Decision::Allow,
            false => Decision::no_opinion(),
        }
    }

    /// Those that masters have by their roles are told; as upstream, this adds none.
    fn rules(&self, _user: &Identity, _namespace: &str) -> KnownRules {
        KnownRules::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Has no opinion, for something went wrong.
    #[derive(Debug)]
    struct Broken(&'static str);

    #[async_trait]
    impl Authorizer for Broken {
        async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
            Decision::NoOpinion {
                reason: String::new(),
                error: Some(self.0.to_owned()),
            }
        }
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_unless_another_allows() {
        let alice = Identity::user("alice");
        let attributes = Attributes {
            user: &alice,
            verb: "get",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "/healthz",
            resource_request: false,
            selectors: None,
        };
        let ask = async |authorizers: Vec<Arc<dyn Authorizer>>| {
            Chain::new(authorizers).authorize(&attributes).await
        };
        let (one, two) = (Arc::new(Broken("one")), Arc::new(Broken("two")));
        let decision = ask(vec![one.clone(), Arc::new(AllowMasters)]).await;
        assert_eq!(decision.error(), Some("one"));
        let decision = ask(vec![one.clone(), two]).await;
        assert_eq!(decision.error(), Some("[one, two]"));
        let decision = ask(vec![one, Arc::new(AlwaysAllow)]).await;
        assert_eq!(decision, Decision::Allow);
    }
}
