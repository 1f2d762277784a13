//! What can be said of the expressions of a `ValidatingAdmissionPolicy` before anybody makes a request: whether they
//! fit the types that the policy is about.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>.

use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, ValidatingAdmissionPolicySpec,
};

use crate::{
    cel::{Fields, Program, Scope},
    field::Path,
    structural::Schema,
};

/// How many types a policy is checked for at most; as upstream.
pub const MAX_TYPES: usize = 10;

/// The resources that a policy names by group, version and plural name, as far as it names them, in the order in which
/// upstream looks them up, rule by rule: rules with a `*` for a group or a version are passed over, and so are `*` and
/// subresources among the resources.
pub fn named_resources(spec: &ValidatingAdmissionPolicySpec) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    let rules = spec.match_constraints.as_ref();
    for rule in rules
        .into_iter()
        .flat_map(|r| r.resource_rules.iter().flatten())
    {
        let sorted = |names: &Option<Vec<String>>| {
            let mut names: Vec<String> = names.iter().flatten().cloned().collect();
            names.sort_unstable();
            names
        };
        let (groups, versions) = (sorted(&rule.api_groups), sorted(&rule.api_versions));
        if groups
            .iter()
            .chain(&versions)
            .any(|name| name.contains('*'))
        {
            continue;
        }
        let mut resources = sorted(&rule.resources);
        resources.retain(|name| !name.contains(['*', '/']));
        for group in &groups {
            for version in &versions {
                for resource in &resources {
                    out.push((group.clone(), version.clone(), resource.clone()));
                }
            }
        }
    }
    out
}

/// A type that a policy is about.
#[derive(Clone, Debug)]
pub struct CheckedType {
    /// Its group; empty for the core group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// What its objects look like.
    pub schema: Schema,
}

/// What does not fit, by expression. `params` is what the parameters look like, if that is known.
pub fn type_check(
    spec: &ValidatingAdmissionPolicySpec,
    types: &[CheckedType],
    params: Option<&Schema>,
) -> Vec<ExpressionWarning> {
    let scopes: Vec<(String, Scope<'_>)> = types
        .iter()
        .map(|ty| {
            let what = format!("{}/{}, Kind={}", ty.group, ty.version, ty.kind);
            let scope = || {
                let scope = Scope::new()
                    .with_request(true)
                    .with("object", Some(&ty.schema))
                    .with("oldObject", Some(&ty.schema))
                    .with_authorizer(false)
                    .stored(true);
                match spec.param_kind {
                    Some(_) => scope.with("params", params),
                    None => scope,
                }
            };
            let mut fields = Fields::new("kubernetes.variables");
            for variable in spec.variables.iter().flatten() {
                let scope = scope().with_fields("variables", &fields);
                let program = Program::parse(&variable.expression).ok();
                let of = program.and_then(|program| program.value_type(&scope).ok());
                fields.insert(&variable.name, of.unwrap_or_default());
            }
            (what, scope().with_fields("variables", &fields))
        })
        .collect();
    let fault = |source: &str, scope: &Scope<'_>| match Program::parse(source) {
        Ok(program) => program.check(scope).err(),
        Err(error) => Some(error.to_string()),
    };
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
            let faults: Vec<String> = scopes
                .iter()
                .filter_map(|(what, scope)| Some(format!("{what}: {}\n", fault(source?, scope)?)))
                .collect();
            if !faults.is_empty() {
                out.push(ExpressionWarning {
                    field_ref: path.child(name).to_string(),
                    warning: faults.join("\n"),
                });
            }
        }
    }
    out
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
                {"apiGroups": ["*", "apps"], "apiVersions": ["v1"], "resources": ["replicasets"], "operations": ["CREATE"]},
            ]},
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "names", "expression": "object.spec.template.spec.containers.map(c, c.name)"},
                {"name": "wrong", "expression": "object.nothing"},
                {"name": "template", "expression": "object.spec.template"},
            ],
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [
                {"expression": "object.spec.replicas < 5"},
                {"expression": "object.spec.replica < 5", "messageExpression": "object.nothing"},
                {"expression": "variables.replicas == 'a'"},
                {"expression": "variables.names.exists(n, n == 1)"},
                {"expression": "variables.wrong.of.anything && variables.template.of.anything"},
                {"expression": "variables.other"},
                {"expression": "request.operation == 'CREATE' && request.kinds == ''"},
                {"expression": "namespaceObject.metadata.labels['a'] == 'b' && namespaceObject.metadata.uid == ''"},
                {"expression": "params.data.max == '1' && params.datum == ''"},
                {"expression": "authorizer.path('/').check('get').allowed() && authorizer.requestResource.check('get').allowed()"},
            ],
        }))
        .unwrap();
        let deployments = ("apps".to_owned(), "v1".to_owned(), "deployments".to_owned());
        assert_eq!(named_resources(&spec), [deployments]);
        let schema =
            |group: &str, kind: &str| Schema::of_type(Type::of_kind(group, "v1", kind).unwrap());
        let checked = |group: &str, kind: &str| CheckedType {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            schema: schema(group, kind),
        };
        let types = [checked("", "Pod"), checked("apps", "Deployment")];
        let found = type_check(&spec, &types[1..], Some(&schema("", "ConfigMap")));
        let told: Vec<(&str, &str)> = found
            .iter()
            .map(|w| {
                let place = w.field_ref.strip_prefix("spec.validations").unwrap();
                let text = w
                    .warning
                    .strip_prefix("apps/v1, Kind=Deployment: ERROR: <input>:1:");
                (place, text.unwrap().lines().next().unwrap())
            })
            .collect();
        let overload = "found no matching overload for '_==_' applied to";
        assert_eq!(
            told,
            [
                ("[1].expression", "12: undefined field 'replica'"),
                ("[1].messageExpression", "7: undefined field 'nothing'"),
                ("[2].expression", &format!("20: {overload} '(int, string)'")),
                ("[3].expression", &format!("29: {overload} '(string, int)'")),
                ("[5].expression", "10: undefined field 'other'"),
                ("[6].expression", "41: undefined field 'kinds'"),
                ("[7].expression", "72: undefined field 'uid'"),
                ("[8].expression", "33: undefined field 'datum'"),
                (
                    "[9].expression",
                    "58: type 'kubernetes.authorization.Authorizer' does not support field selection"
                ),
            ]
        );
        let found = type_check(&spec, &types, None);
        assert_eq!(found[0].field_ref, "spec.validations[0].expression");
        assert!(
            found[0]
                .warning
                .starts_with("/v1, Kind=Pod: ERROR: <input>:1:12: undefined field 'replicas'"),
            "{}",
            found[0].warning
        );
        // A line between the types.
        assert!(
            found[1]
                .warning
                .contains("^\n\napps/v1, Kind=Deployment: ERROR"),
            "{}",
            found[1].warning
        );
    }
}
