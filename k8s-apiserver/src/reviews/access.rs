//! Reviews of what a user may do: subject access reviews of all scopes, and rules reviews.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_model::{Object, field, names};
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CreateOnly, decode, filled, refused};
use crate::{
    Error,
    auth::Identity,
    authz::{Attributes, Authorizer, Decision, ReviewRequirement, Selectors, aggregate},
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
    #[serde(rename = "fieldSelector")]
    field_selector: Option<Selector>,
    #[serde(rename = "labelSelector")]
    label_selector: Option<Selector>,
}

/// A selector as it stands in queries, or its requirements.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    raw_selector: String,
    requirements: Vec<ReviewRequirement>,
}

impl Selector {
    fn check(&self, path: &field::Path, found: &mut field::ErrorList) {
        if !self.raw_selector.is_empty() && !self.requirements.is_empty() {
            found.push(field::invalid(
                path.child("rawSelector"),
                self.raw_selector.as_str(),
                "may not specified at the same time as requirements",
            ));
        }
        let path_of_all = path.child("requirements");
        if self.raw_selector.is_empty() && self.requirements.is_empty() {
            let text = format!("when {path} is specified, requirements or rawSelector is required");
            found.push(field::required(path_of_all.clone(), text));
        }
        for (n, requirement) in self.requirements.iter().enumerate() {
            let path = path_of_all.index(n);
            // Operators that are not known here, a newer client may know.
            match (requirement.operator.as_str(), requirement.values.is_empty()) {
                ("In" | "NotIn", true) => found.push(field::required(
                    path.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                )),
                ("Exists" | "DoesNotExist", false) => found.push(field::forbidden(
                    path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )),
                _ => {}
            }
        }
    }
}

impl ResourceAttributes {
    fn check_selectors(&self, path: &field::Path, found: &mut field::ErrorList) {
        if let Some(selector) = &self.field_selector {
            let path = path.child("fieldSelector");
            selector.check(&path, found);
            for (n, requirement) in selector.requirements.iter().enumerate() {
                if requirement.key.is_empty() {
                    let path = path.child("requirements").index(n);
                    found.push(field::required(path.child("key"), "must be specified"));
                }
            }
        }
        if let Some(selector) = &self.label_selector {
            let path = path.child("labelSelector");
            selector.check(&path, found);
            for (n, requirement) in selector.requirements.iter().enumerate() {
                let path = path.child("requirements").index(n);
                for text in names::qualified_name(&requirement.key) {
                    let key = requirement.key.as_str();
                    found.push(field::invalid(path.child("key"), key, text));
                }
                for (n, value) in requirement.values.iter().enumerate() {
                    for text in names::label_value(value) {
                        let path = path.child("values").index(n);
                        found.push(field::invalid(path, value.as_str(), text));
                    }
                }
            }
        }
    }

    /// The selectors, as far as they make sense.
    fn selectors(&mut self) -> Option<Selectors> {
        let (fields, labels) = (self.field_selector.take(), self.label_selector.take());
        if fields.is_none() && labels.is_none() {
            return None;
        }
        let mut out = Selectors::default();
        if let Some(fields) = fields {
            out.read_fields(&fields.raw_selector);
            if !fields.requirements.is_empty() {
                out.take_fields(fields.requirements);
            }
        }
        if let Some(labels) = labels {
            out.read_labels(&labels.raw_selector);
            if !labels.requirements.is_empty() {
                out.take_labels(labels.requirements);
            }
        }
        Some(out)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

impl NonResourceAttributes {
    /// As upstream's internal type is told.
    fn shown(&self) -> Value {
        json!({"Path": self.path, "Verb": self.verb})
    }
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

    fn check(&self, spec: &Spec, review: &Value, namespace: &str) -> field::ErrorList {
        let mut found = field::ErrorList::new();
        let path = field::Path::new("spec");
        let one = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let both = "cannot be specified in combination with resourceAttributes";
        match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(_), Some(attributes)) => found.push(field::invalid(
                path.child("nonResourceAttributes"),
                attributes.shown(),
                both,
            )),
            (None, None) => found.push(field::invalid(
                path.child("resourceAttributes"),
                Value::Null,
                one,
            )),
            _ => {}
        }
        if let Some(attributes) = &spec.resource_attributes {
            attributes.check_selectors(&path.child("resourceAttributes"), &mut found);
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
            if let Some(attributes) = &spec.non_resource_attributes {
                found.push(field::invalid(
                    path.child("nonResourceAttributes"),
                    attributes.shown(),
                    "disallowed on this kind of request",
                ));
            }
        }
        // A review is not kept: it has no name.
        let given = review["metadata"].as_object();
        let kept = |name: &str| match self.scope {
            Scope::Namespace => matches!(name, "managedFields" | "namespace"),
            _ => name == "managedFields",
        };
        if given.is_some_and(|given| given.keys().any(|name| !kept(name))) {
            let text = match self.scope {
                Scope::Namespace => "must be empty except for namespace",
                _ => "must be empty",
            };
            let mut metadata = review["metadata"].clone();
            if let Some(fields) = metadata.as_object_mut() {
                fields.remove("managedFields");
            }
            found.push(field::invalid(field::Path::new("metadata"), metadata, text));
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
        let found = self.check(&spec, &review, namespace);
        if !found.is_empty() {
            // Upstream does not say which kind of review.
            return refused(Error::invalid_kind(GROUP, "", "", &found));
        }
        let other = Identity {
            name: spec.user,
            uid: spec.uid,
            groups: spec.groups,
            extra: spec.extra,
        };
        let mut resource = spec.resource_attributes.unwrap_or_default();
        let selectors = resource.selectors();
        let path = spec.non_resource_attributes;
        let attributes = Attributes {
            user: if self.scope == Scope::Oneself {
                user
            } else {
                &other
            },
            verb: path.as_ref().map_or(&resource.verb, |path| &path.verb),
            group: &resource.group,
            // No version stands for all.
            version: match resource.version.as_str() {
                "" if path.is_none() => "*",
                version => version,
            },
            resource: &resource.resource,
            subresource: &resource.subresource,
            namespace: &resource.namespace,
            name: &resource.name,
            path: path.as_ref().map_or("", |path| &path.path),
            resource_request: path.is_none(),
            selectors: selectors.as_ref(),
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
        let mut faults: Vec<_> = decision.error().map(str::to_owned).into_iter().collect();
        faults.extend(selectors.iter().flat_map(Selectors::faults));
        if !faults.is_empty() {
            status["evaluationError"] = faults.join("; ").into();
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
    authorizer: Arc<dyn Authorizer>,
}

impl RulesReview {
    /// Answers with what the authorizer can tell.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        RulesReview { authorizer }
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
        let review = object.to_value();
        let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return refused(Error::bad_request("no namespace on request"));
        }
        let known = self.authorizer.rules(user, namespace);
        let mut resources = Vec::new();
        let mut paths = Vec::new();
        for rule in known.rules {
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
        let mut status = json!({
            "resourceRules": resources,
            "nonResourceRules": paths,
            "incomplete": known.incomplete,
        });
        if let Some(errors) = aggregate(&known.errors) {
            status["evaluationError"] = errors.into();
        }
        // Upstream answers with a new object.
        filled::<authorization::SelfSubjectRulesReview>(json!({"spec": {}, "status": status}))
    }
}
