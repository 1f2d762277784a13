//! Which requests webhooks and policies have a say in: rules and selectors.

use std::collections::BTreeMap;

use k8s_model::{Object, Resource, labels::Selector};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::Deserialize;

use super::{
    AdmissionError, AdmissionRequest, Operation,
    reader::{ObjectReader, ReadError},
};

const GROUP: &str = "admissionregistration.k8s.io";

/// What one rule of a configuration covers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    scope: Option<String>,
    /// None means all; only policies have them.
    resource_names: Vec<String>,
}

/// `matchConstraints` and `matchResources` of policies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MatchResources {
    pub(super) resource_rules: Vec<Rule>,
    pub(super) exclude_resource_rules: Vec<Rule>,
    pub(super) match_policy: Option<String>,
    pub(super) namespace_selector: Option<LabelSelector>,
    pub(super) object_selector: Option<LabelSelector>,
}

/// What policies have no say in, as upstream's `pkg/kubeapiserver/admission/exclusion` has it: policies and bindings, and
/// what is only asked and never stored.
const BEYOND_POLICIES: [(&str, &str); 10] = [
    (GROUP, "validatingadmissionpolicies"),
    (GROUP, "validatingadmissionpolicybindings"),
    (GROUP, "mutatingadmissionpolicies"),
    (GROUP, "mutatingadmissionpolicybindings"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// Whether webhooks have no say in a request: one for their own configurations or for policies, so that nobody locks
/// everybody out.
pub(super) fn is_beyond_webhooks(request: &AdmissionRequest<'_>) -> bool {
    request.resource.group == GROUP
}

/// Whether policies have no say in a request. They have in one for a webhook's configuration.
pub(super) fn is_beyond_policies(request: &AdmissionRequest<'_>) -> bool {
    BEYOND_POLICIES.contains(&(request.resource.group, request.resource.resource))
}

/// The namespace of a request as upstream counts it: a namespace is in itself.
pub(super) fn namespace_of<'r>(request: &'r AdmissionRequest<'_>) -> &'r str {
    match is_namespace(request) {
        true => request.name,
        false => request.namespace,
    }
}

pub(super) fn is_namespace(request: &AdmissionRequest<'_>) -> bool {
    request.resource.group.is_empty() && request.resource.resource == "namespaces"
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == "*" || v == value)
}

impl Rule {
    fn covers(&self, request: &AdmissionRequest<'_>, resource: &Resource) -> bool {
        has(&self.operations, request.operation.as_str())
            && has(&self.api_groups, resource.group)
            && has(&self.api_versions, resource.version)
            && self.covers_resource(resource.resource, request.subresource)
            && self.covers_scope(request)
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == request.name))
    }

    fn covers_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|rule| {
            let (name, sub) = rule.split_once('/').unwrap_or((rule, ""));
            (name == "*" || name == resource) && (sub == "*" || sub == subresource)
        })
    }

    fn covers_scope(&self, request: &AdmissionRequest<'_>) -> bool {
        let namespaced = !is_namespace(request) && !request.namespace.is_empty();
        match self.scope.as_deref() {
            Some("Namespaced") => namespaced,
            Some("Cluster") => !namespaced,
            _ => true,
        }
    }
}

/// The version of the request's resource that the rules cover: the request's own, or else another in which the
/// same objects are served.
pub(super) fn find<'r>(
    rules: &[Rule],
    equivalent: bool,
    request: &AdmissionRequest<'r>,
) -> Option<&'r Resource> {
    if rules
        .iter()
        .any(|rule| rule.covers(request, request.resource))
    {
        return Some(request.resource);
    }
    let row = request.more.row.filter(|_| equivalent)?;
    rules.iter().find_map(|rule| {
        let mut others = row.versions().iter();
        others
            .find(|other| rule.covers(request, other))
            .map(|other| &**other)
    })
}

/// A selector that selects everything where there is none. One that makes no sense selects nothing.
pub(super) fn selector(selector: Option<&LabelSelector>) -> Selector {
    match selector {
        Some(selector) => Selector::try_from(selector).unwrap_or_else(|_| Selector::nothing()),
        None => Selector::everything(),
    }
}

/// Whether an object before or after the request is selected.
pub(super) fn selects_object(selector: &Selector, request: &AdmissionRequest<'_>) -> bool {
    if selector.is_everything() {
        return true;
    }
    let selected = |object: &dyn Object| match &object.metadata().labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    };
    request.object.as_deref().is_some_and(selected) || request.old.is_some_and(selected)
}

/// The labels of a request's namespace, looked up at most once. Those of a namespace that is written are as they are
/// now: what changes it while it is admitted counts for who is asked next.
#[derive(Debug, Default)]
pub(super) struct NamespaceLabels(Option<BTreeMap<String, String>>);

impl NamespaceLabels {
    /// Whether the namespace of a request is selected. What is in no namespace always is.
    pub(super) async fn selected(
        &mut self,
        selector: &Selector,
        request: &AdmissionRequest<'_>,
        reader: &dyn ObjectReader,
    ) -> Result<bool, AdmissionError> {
        if selector.is_everything() {
            return Ok(true);
        }
        if let Some(labels) = labels_to_be(request) {
            return Ok(selector.matches(&labels));
        }
        let name = namespace_of(request);
        if name.is_empty() && !is_namespace(request) {
            return Ok(true);
        }
        if self.0.is_none() {
            let labels = labels_of(name, reader).await?;
            self.0 = Some(labels);
        }
        Ok(self
            .0
            .as_ref()
            .is_some_and(|labels| selector.matches(labels)))
    }
}

/// The labels of a namespace as it is to be, where the request writes it: it may not be there yet.
fn labels_to_be(request: &AdmissionRequest<'_>) -> Option<BTreeMap<String, String>> {
    let written = request.subresource.is_empty()
        && is_namespace(request)
        && matches!(request.operation, Operation::Create | Operation::Update);
    let object = request.object.as_ref().filter(|_| written)?;
    Some(object.metadata().labels.clone().unwrap_or_default())
}

async fn labels_of(
    name: &str,
    reader: &dyn ObjectReader,
) -> Result<BTreeMap<String, String>, AdmissionError> {
    match reader.get::<Namespace>("", name).await {
        // A server without namespaces has namespaces without labels.
        Err(ReadError::NotServed(_)) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
        Ok(Some(namespace)) => Ok(namespace.metadata.labels.unwrap_or_default()),
        Ok(None) => Err(AdmissionError::NotFound {
            group: String::new(),
            resource: "namespaces".to_owned(),
            name: name.to_owned(),
        }),
    }
}
