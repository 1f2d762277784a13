//! What can be said of the expressions of a `ValidatingAdmissionPolicy` before anybody makes a request: whether they
//! fit the types that the policy is about.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>.

use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, ValidatingAdmissionPolicySpec,
};

use crate::{
    cel::{Program, Scope},
    field::Path,
    structural::Schema,
};

/// How many types a policy is checked for; as upstream.
const MAX_TYPES: usize = 10;

/// The resources that a policy names by group, version and plural name, as far as it names them: those behind a `*`
/// are not checked. Ten at most.
pub fn named_resources(spec: &ValidatingAdmissionPolicySpec) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    let rules = spec.match_constraints.as_ref();
    for rule in rules
        .into_iter()
        .flat_map(|r| r.resource_rules.iter().flatten())
    {
        for group in rule.api_groups.iter().flatten() {
            for version in rule.api_versions.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    let named = (group.clone(), version.clone(), resource.clone());
                    let known = [group, version, resource]
                        .iter()
                        .all(|name| !name.contains(['*', '/']));
                    if known && !out.contains(&named) && out.len() < MAX_TYPES {
                        out.push(named);
                    }
                }
            }
        }
    }
    out
}

/// What does not fit, by expression. `types` are the types that the policy is about, by what they are called in the
/// answer: `apps/v1, Kind=Deployment`.
pub fn type_check(
    spec: &ValidatingAdmissionPolicySpec,
    types: &[(String, Schema)],
) -> Vec<ExpressionWarning> {
    let mut out = Vec::new();
    let validations = spec.validations.iter().flatten().enumerate();
    for (i, validation) in validations {
        let path = Path::new("spec").child("validations").index(i);
        let message = validation.message_expression.as_deref();
        let sources = [
            ("expression", Some(validation.expression.as_str())),
            ("messageExpression", message.filter(|m| !m.is_empty())),
        ];
        for (name, source) in sources {
            let faults: Vec<String> = types
                .iter()
                .filter_map(|(what, schema)| {
                    let fault = fault(source?, schema, spec.param_kind.is_some())?;
                    Some(format!("{what}: {fault}\n"))
                })
                .collect();
            if !faults.is_empty() {
                out.push(ExpressionWarning {
                    field_ref: path.child(name).to_string(),
                    warning: faults.concat(),
                });
            }
        }
    }
    out
}

/// What is wrong with an expression about objects of a type.
fn fault(source: &str, schema: &Schema, params: bool) -> Option<String> {
    let mut scope = Scope::new()
        .with("object", Some(schema))
        .with("oldObject", Some(schema));
    for name in ["request", "authorizer", "namespaceObject", "variables"] {
        scope = scope.with(name, None);
    }
    if params {
        scope = scope.with("params", None);
    }
    let program = match Program::parse(source) {
        Ok(program) => program,
        Err(error) => return Some(error.to_string()),
    };
    program.check(&scope).err()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Type;

    #[test]
    fn what_a_type_does_not_have_is_found_before_anybody_asks() {
        let spec: ValidatingAdmissionPolicySpec = serde_json::from_value(json!({
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "*"], "operations": ["CREATE"]},
            ]},
            "validations": [
                {"expression": "object.spec.replicas < 5"},
                {"expression": "object.spec.replica < 5", "messageExpression": "object.nothing"},
            ],
        }))
        .unwrap();
        let deployments = ("apps".to_owned(), "v1".to_owned(), "deployments".to_owned());
        assert_eq!(named_resources(&spec), [deployments]);
        let schema = Schema::of_type(Type::of_kind("apps", "v1", "Deployment").unwrap());
        let found = type_check(&spec, &[("apps/v1, Kind=Deployment".to_owned(), schema)]);
        let fields: Vec<&str> = found.iter().map(|w| w.field_ref.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.validations[1].expression",
                "spec.validations[1].messageExpression"
            ]
        );
        assert!(
            found[0].warning.starts_with(
                "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'"
            ),
            "{}",
            found[0].warning
        );
    }
}
