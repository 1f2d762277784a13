//! ValidatingAdmissionPolicies and their bindings.

use k8s_openapi::{
    api::admissionregistration::v1::{
        AuditAnnotation, MatchResources, ParamKind, ParamRef, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
        ValidatingAdmissionPolicySpec, Validation,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::{Value, json};

use super::{
    FAILURE_POLICIES,
    expressions::{self, Variables, compile},
    matching,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{conditions, list, messages, qualified_name, repeats, same, supported, text},
        declared::Declared,
        typed::KindRules,
    },
    labels, metadata, names,
};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
/// How many audit annotations a policy may have.
const MAX_ANNOTATIONS: usize = 20;
/// How long the expression of one may be, in bytes.
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;

/// The rules of ValidatingAdmissionPolicies.
pub(crate) struct ValidatingAdmissionPolicyRules;

/// The rules of ValidatingAdmissionPolicyBindings.
pub(crate) struct ValidatingAdmissionPolicyBindingRules;

impl KindRules for ValidatingAdmissionPolicyRules {
    type Kind = ValidatingAdmissionPolicy;

    const METADATA: (usize, usize) = (1, 0);
    const QUALIFIED_FINALIZERS: bool = false;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const STATIC_NAMES: bool = false;

    fn default(&self, policy: &mut Self::Kind) {
        let spec = policy.spec.get_or_insert_default();
        default_policy(&mut spec.failure_policy, &mut spec.match_constraints);
    }

    fn spec_changed(&self, new: &Self::Kind, old: &Self::Kind) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, policy: &mut Self::Kind) {
        policy.status = None;
    }

    fn validate(&self, policy: &Self::Kind) -> ErrorList {
        let spec = policy.spec.clone().unwrap_or_default();
        validate_spec(&spec, text(&policy.metadata.name), &Path::new("spec"))
    }

    fn prepare_for_update(&self, new: &mut Self::Kind, old: &Self::Kind) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Self::Kind, old: &Self::Kind) -> ErrorList {
        // What was valid once stays so.
        if same(&new.spec, &old.spec) {
            return ErrorList::new();
        }
        self.validate(new)
    }

    fn prepare_for_status_update(&self, new: &mut Self::Kind, old: &Self::Kind) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(&self, new: &Self::Kind, _old: &Self::Kind) -> ErrorList {
        let Some(status) = &new.status else {
            return ErrorList::new();
        };
        let path = Path::new("status");
        let checked = status.type_checking.as_ref();
        let warnings = checked.and_then(|checked| checked.expression_warnings.as_deref());
        let at = path.child("typeChecking").child("expressionWarnings");
        let mut out = ErrorList::new();
        for (i, warning) in warnings.unwrap_or_default().iter().enumerate() {
            let at = at.index(i);
            if warning.warning.is_empty() {
                out.push(field::required(at.child("warning"), ""));
            }
            if warning.field_ref.trim().is_empty() {
                out.push(field::required(at.child("fieldRef"), ""));
            }
        }
        out.extend(conditions(
            list(&status.conditions),
            &path.child("conditions"),
        ));
        out
    }
}

impl KindRules for ValidatingAdmissionPolicyBindingRules {
    type Kind = ValidatingAdmissionPolicyBinding;

    const METADATA: (usize, usize) = (1, 0);
    const QUALIFIED_FINALIZERS: bool = false;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const STATIC_NAMES: bool = false;

    fn default(&self, binding: &mut Self::Kind) {
        if let Some(resources) = spec_mut(&mut binding.spec).match_resources.as_mut() {
            matching::default_match_resources(resources);
        }
    }

    fn spec_changed(&self, new: &Self::Kind, old: &Self::Kind) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn validate(&self, binding: &Self::Kind) -> ErrorList {
        let path = Path::new("spec");
        let spec: ValidatingAdmissionPolicyBindingSpec = given(binding.spec.clone());
        let policy: String = given(spec.policy_name.clone());
        let actions: Vec<String> = given(spec.validation_actions.clone());
        let resources = spec.match_resources.as_ref();
        let mut out = validate_binding(&policy, spec.param_ref.as_ref(), resources, &path);
        out.extend(validate_actions(&actions, &path.child("validationActions")));
        out
    }

    fn declared(&self, new: &Self::Kind, old: Option<&Self::Kind>) -> ErrorList {
        let said = |binding: &Self::Kind| -> (String, Vec<String>) {
            let spec: ValidatingAdmissionPolicyBindingSpec = given(binding.spec.clone());
            (given(spec.policy_name), given(spec.validation_actions))
        };
        let (new, old, path) = (said(new), old.map(said), Path::new("spec"));
        let before = old.as_ref().map(|(policy, _)| policy);
        let policy = Declared::of(&new.0, before, path.child("policyName"));
        let mut out = policy.required(String::is_empty).found();
        let before = old.as_ref().map(|(_, actions)| actions);
        let actions = Declared::of(&new.1, before, path.child("validationActions"));
        out.extend(actions.required(Vec::is_empty).found());
        out
    }
}

/// A field that is optional in one API level and required in another.
fn given<T: Default>(field: impl Into<Option<T>>) -> T {
    field.into().unwrap_or_default()
}

/// The spec, whichever it is, to change.
fn spec_mut<'a, S>(spec: &'a mut S) -> &'a mut ValidatingAdmissionPolicyBindingSpec
where
    &'a mut S: Into<SpecMut<'a>>,
{
    let SpecMut(spec) = spec.into();
    spec
}

struct SpecMut<'a>(&'a mut ValidatingAdmissionPolicyBindingSpec);

impl<'a> From<&'a mut ValidatingAdmissionPolicyBindingSpec> for SpecMut<'a> {
    fn from(spec: &'a mut ValidatingAdmissionPolicyBindingSpec) -> Self {
        SpecMut(spec)
    }
}

impl<'a> From<&'a mut Option<ValidatingAdmissionPolicyBindingSpec>> for SpecMut<'a> {
    fn from(spec: &'a mut Option<ValidatingAdmissionPolicyBindingSpec>) -> Self {
        SpecMut(spec.get_or_insert_default())
    }
}

pub(super) fn default_policy(
    failure_policy: &mut Option<String>,
    constraints: &mut Option<MatchResources>,
) {
    failure_policy.get_or_insert_with(|| "Fail".to_owned());
    if let Some(constraints) = constraints {
        matching::default_match_resources(constraints);
    }
}

pub(super) fn failure_policy(policy: Option<&str>, path: &Path) -> ErrorList {
    let path = path.child("failurePolicy");
    match policy {
        None => vec![field::required(path, "")],
        Some(policy) => supported(policy, &FAILURE_POLICIES, path),
    }
}

/// What an expression of a policy may speak of.
pub(super) fn known(params: Option<&ParamKind>) -> Variables<'static> {
    Variables {
        params: params.is_some(),
        ..Variables::default()
    }
}

fn validate_spec(spec: &ValidatingAdmissionPolicySpec, name: &str, path: &Path) -> ErrorList {
    let mut out = failure_policy(spec.failure_policy.as_deref(), path);
    if let Some(kind) = &spec.param_kind {
        out.extend(expressions::param_kind(kind, path));
    }
    out.extend(matching::constraints(spec.match_constraints.as_ref(), path));
    let known = known(spec.param_kind.as_ref());
    out.extend(matching::conditions(
        list(&spec.match_conditions),
        &known,
        path,
    ));
    let variables = list(&spec.variables);
    let variables = expressions::variables(variables, known, path, &mut out);
    let known = Variables {
        own: Some(&variables),
        ..known
    };
    let (validations, annotations) = (list(&spec.validations), list(&spec.audit_annotations));
    if validations.is_empty() && annotations.is_empty() {
        let text = "validations or auditAnnotations must contain at least one item";
        out.push(field::required(path.child("validations"), text));
        out.push(field::required(path.child("auditAnnotations"), text));
    }
    for (i, validation) in validations.iter().enumerate() {
        let path = path.child("validations").index(i);
        out.extend(validate_validation(validation, &known, &path));
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > MAX_ANNOTATIONS {
        let text = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        out.push(field::invalid(path.clone(), shown(annotations), text));
    }
    let repeats = repeats(annotations.iter().map(|annotation| &annotation.key));
    for (i, annotation) in annotations.iter().enumerate() {
        let at = path.index(i);
        out.extend(validate_annotation(annotation, name, &known, &at));
        if repeats[i] {
            out.push(field::duplicate(at.child("key"), annotation.key.as_str()));
        }
    }
    out
}

fn validate_validation(validation: &Validation, known: &Variables<'_>, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if validation.expression.trim().is_empty() {
        let text = "expression is not specified";
        out.push(field::required(path.child("expression"), text));
    } else {
        let path = path.child("expression");
        out.extend(compile(&validation.expression, &["bool"], known, &path));
    }
    if let Some(source) = validation
        .message_expression
        .as_deref()
        .filter(|s| !s.is_empty())
    {
        let path = path.child("messageExpression");
        if source.trim().is_empty() {
            out.push(field::invalid(
                path,
                source,
                "must be non-empty if specified",
            ));
        } else {
            let known = Variables {
                no_authorizer: true,
                ..*known
            };
            out.extend(compile(source, &["string"], &known, &path));
        }
    }
    if let Some(message) = validation.message.as_deref().filter(|s| !s.is_empty()) {
        let path = path.child("message");
        if message.trim().is_empty() {
            let text = "must be non-empty if specified";
            out.push(field::invalid(path, message, text));
        } else if message.trim().contains(['\n', '\r']) {
            let text = "must not contain line breaks";
            out.push(field::invalid(path, message, text));
        }
    }
    if let Some(reason) = &validation.reason {
        out.extend(supported(reason, &REASONS, path.child("reason")));
    }
    out
}

fn validate_annotation(
    annotation: &AuditAnnotation,
    policy: &str,
    known: &Variables<'_>,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    let key = path.child("key");
    if policy.is_empty() {
        let text = "requires metadata.name be non-empty";
        out.push(field::invalid(key, annotation.key.as_str(), text));
    } else {
        out.extend(qualified_name(&format!("{policy}/{}", annotation.key), key));
    }
    let path = path.child("valueExpression");
    let source = annotation.value_expression.as_str();
    let trimmed = source.trim();
    if trimmed.is_empty() {
        out.push(field::required(path, "valueExpression is not specified"));
    } else if trimmed.len() > MAX_VALUE_EXPRESSION {
        let text = format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length");
        out.push(field::required(path, text));
    } else {
        let mut found = compile(trimmed, &["string", "null_type"], known, &path);
        for error in &mut found {
            error.value = Some(source.into());
        }
        out.extend(found);
    }
    out
}

/// Annotations as upstream shows them: under the names that the fields have in Go.
fn shown(annotations: &[AuditAnnotation]) -> Value {
    let one = |annotation: &AuditAnnotation| json!({"Key": annotation.key, "ValueExpression": annotation.value_expression});
    annotations.iter().map(one).collect()
}

/// What the bindings of both sorts of policies have in common.
pub(super) fn validate_binding(
    policy: &str,
    params: Option<&ParamRef>,
    resources: Option<&MatchResources>,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    if policy.is_empty() {
        out.push(field::required(path.child("policyName"), ""));
    } else {
        let texts = names::dns_subdomain(policy, false);
        out.extend(messages(&path.child("policyName"), policy, texts));
    }
    if let Some(params) = params {
        out.extend(param_ref(params, &path.child("paramRef")));
    }
    if let Some(resources) = resources {
        out.extend(matching::match_resources(
            resources,
            &path.child("matchResources"),
        ));
    }
    out
}

fn param_ref(params: &ParamRef, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let (name, selector): (&str, Option<&LabelSelector>) =
        (text(&params.name), params.selector.as_ref());
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        let texts = names::path_segment(name, false);
        out.extend(messages(&path.child("name"), name, texts));
        if selector.is_some() {
            out.push(field::forbidden(path.child("name"), exclusive));
        }
    }
    if let Some(selector) = selector {
        out.extend(labels::validate(selector, &path.child("selector")));
        if !name.is_empty() {
            out.push(field::forbidden(path.child("selector"), exclusive));
        }
    } else if name.is_empty() {
        let text = "one of name or selector must be specified";
        out.push(field::required(path.clone(), text));
    }
    let path = path.child("parameterNotFoundAction");
    match text(&params.parameter_not_found_action) {
        "" => out.push(field::required(path, "")),
        action => out.extend(supported(action, &["Deny", "Allow"], path)),
    }
    out
}

fn validate_actions(actions: &[String], path: &Path) -> ErrorList {
    if actions.is_empty() {
        let text = "at least one validation action is required";
        return vec![field::required(path.clone(), text)];
    }
    let mut out = ErrorList::new();
    let repeats = repeats(actions);
    for (i, action) in actions.iter().enumerate() {
        let path = path.index(i);
        out.extend(supported(action, &ACTIONS, path.clone()));
        if repeats[i] {
            out.push(field::duplicate(path, action.as_str()));
        }
    }
    let has = |action: &str| actions.iter().any(|a| a == action);
    if has("Deny") && has("Warn") {
        let text = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        out.push(field::invalid(path.clone(), actions.to_vec(), text));
    }
    out
}
