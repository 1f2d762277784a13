//! Reviews of what a user may do: subject access reviews of all scopes, and rules reviews.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_model::{Object, field};
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CreateOnly, decode, filled, refused};
use crate::{
    Error,
    auth::Identity,
    authz::{Attributes, Authorizer, Decision, rbac::Rbac},
};

const GROUP: &str = "authorization.k8s.io";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

/// Whose access is reviewed, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// `subjectaccessreviews`: anybody's.
    Anybody,
    /// `localsubjectaccessreviews`: anybody's, in one namespace.
    Namespace,
    /// `selfsubjectaccessreviews`: the asker's own.
    Oneself,
}

/// Answers `subjectaccessreviews`, `localsubjectaccessreviews` and `selfsubjectaccessreviews`: asks
/// the authorizer.
#[derive(Debug)]
pub struct AccessReview {
    authorizer: Arc<dyn Authorizer>,
    scope: Scope,
}

impl AccessReview {
    /// For `subjectaccessreviews`.
    pub fn of_anybody(authorizer: Arc<dyn Authorizer>) -> Self {
        AccessReview {
            authorizer,
            scope: Scope::Anybody,
        }
    }

    /// For `localsubjectaccessreviews`.
    pub fn in_namespace(authorizer: Arc<dyn Authorizer>) -> Self {
        AccessReview {
            authorizer,
            scope: Scope::Namespace,
        }
    }

    /// For `selfsubjectaccessreviews`.
    pub fn of_oneself(authorizer: Arc<dyn Authorizer>) -> Self {
        AccessReview {
            authorizer,
            scope: Scope::Oneself,
        }
    }

    fn kind(&self) -> &'static str {
        match self.scope {
            Scope::Anybody => "SubjectAccessReview",
            Scope::Namespace => "LocalSubjectAccessReview",
            Scope::Oneself => "SelfSubjectAccessReview",
        }
    }

    fn check(&self, spec: &Spec, raw: &Value, namespace: &str) -> field::ErrorList {
        let mut found = field::ErrorList::new();
        let path = field::Path::new("spec");
        let one = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let both = "cannot be specified in combination with resourceAttributes";
        match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(_), Some(_)) => found.push(field::invalid(
                path.child("nonResourceAttributes"),
                raw["nonResourceAttributes"].clone(),
                both,
            )),
            (None, None) => found.push(field::invalid(
                path.child("resourceAttributes"),
                Value::Null,
                one,
            )),
            _ => {}
        }
        if self.scope != Scope::Oneself && spec.user.is_empty() && spec.groups.is_empty() {
            found.push(field::invalid(
                path.child("user"),
                "",
                "at least one of user or group must be specified",
            ));
        }
        if self.scope == Scope::Namespace {
            if let Some(attributes) = &spec.resource_attributes
                && attributes.namespace != namespace
            {
                found.push(field::invalid(
                    path.child("resourceAttributes").child("namespace"),
                    attributes.namespace.clone(),
                    "must match metadata.namespace",
                ));
            }
            if spec.non_resource_attributes.is_some() {
                found.push(field::invalid(
                    path.child("nonResourceAttributes"),
                    raw["nonResourceAttributes"].clone(),
                    "disallowed on this kind of request",
                ));
            }
        }
        found
    }
}

#[async_trait]
impl CreateOnly for AccessReview {
    async fn create(
        &self,
        user: &Identity,
        namespace: &str,
        _name: &str,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>> {
        let mut review = object.to_value();
        let spec: Spec = decode(review["spec"].clone())?;
        let found = self.check(&spec, &review["spec"], namespace);
        if !found.is_empty() {
            return refused(Error::invalid_kind(GROUP, self.kind(), "", &found));
        }
        let other = Identity {
            name: spec.user,
            uid: spec.uid,
            groups: spec.groups,
            extra: spec.extra,
        };
        let resource = spec.resource_attributes.unwrap_or_default();
        let path = spec.non_resource_attributes;
        let attributes = Attributes {
            user: if self.scope == Scope::Oneself {
                user
            } else {
                &other
            },
            verb: path.as_ref().map_or(&resource.verb, |path| &path.verb),
            group: &resource.group,
            version: &resource.version,
            resource: &resource.resource,
            subresource: &resource.subresource,
            namespace: &resource.namespace,
            name: &resource.name,
            path: path.as_ref().map_or("", |path| &path.path),
            resource_request: path.is_none(),
        };
        let decision = self.authorizer.authorize(&attributes).await;
        let mut status = json!({ "allowed": decision.is_allowed() });
        if matches!(decision, Decision::Deny { .. }) {
            status["denied"] = true.into();
        }
        let reason = match decision.is_allowed() {
            true => self.authorizer.explain(&attributes).await,
            false => decision.reason().to_owned(),
        };
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        review["status"] = status;
        match self.scope {
            Scope::Anybody => filled::<authorization::SubjectAccessReview>(review),
            Scope::Namespace => filled::<authorization::LocalSubjectAccessReview>(review),
            Scope::Oneself => filled::<authorization::SelfSubjectAccessReview>(review),
        }
    }
}

/// Answers `selfsubjectrulesreviews`: all that the asker may do in a namespace.
#[derive(Debug)]
pub struct RulesReview {
    rbac: Option<Arc<Rbac>>,
}

impl RulesReview {
    /// Answers from the roles that are bound to the asker; without any roles in use, that nothing is
    /// known.
    pub fn new(rbac: Option<Arc<Rbac>>) -> Self {
        RulesReview { rbac }
    }
}

#[async_trait]
impl CreateOnly for RulesReview {
    async fn create(
        &self,
        user: &Identity,
        _namespace: &str,
        _name: &str,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>> {
        let mut review = object.to_value();
        let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return refused(Error::bad_request("no namespace on request"));
        }
        let (rules, mut errors) = match &self.rbac {
            Some(rbac) => rbac.rules_for(user, namespace),
            None => Default::default(),
        };
        let mut resources = Vec::new();
        let mut paths = Vec::new();
        for rule in rules {
            if rule.resources.as_ref().is_some_and(|r| !r.is_empty()) {
                let mut out = json!({
                    "verbs": rule.verbs,
                    "apiGroups": rule.api_groups.unwrap_or_default(),
                    "resources": rule.resources,
                });
                if let Some(names) = rule.resource_names.filter(|names| !names.is_empty()) {
                    out["resourceNames"] = json!(names);
                }
                resources.push(out);
            }
            if let Some(urls) = rule.non_resource_urls.filter(|urls| !urls.is_empty()) {
                paths.push(json!({ "verbs": rule.verbs, "nonResourceURLs": urls }));
            }
        }
        if user.as_node().is_some() {
            errors.push("node authorizer does not support user rule resolution".to_owned());
        }
        let mut status = json!({
            "resourceRules": resources,
            "nonResourceRules": paths,
            "incomplete": user.as_node().is_some() || self.rbac.is_none(),
        });
        match errors.as_slice() {
            [] => {}
            [one] => status["evaluationError"] = one.as_str().into(),
            several => status["evaluationError"] = format!("[{}]", several.join(", ")).into(),
        }
        review["status"] = status;
        filled::<authorization::SelfSubjectRulesReview>(review)
    }
}
