//! MutatingAdmissionPolicies and their bindings.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicySpec, Mutation,
};

use super::{
    REINVOCATION_POLICIES,
    expressions::{self, Variables, compile},
    matching,
    validating::{default_policy, failure_policy, known, validate_binding},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, same, supported, text},
        typed::KindRules,
    },
};

/// Without `DELETE`: there is nothing to change about what goes.
const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];

/// The rules of MutatingAdmissionPolicies.
pub(crate) struct MutatingAdmissionPolicyRules;

/// The rules of MutatingAdmissionPolicyBindings.
pub(crate) struct MutatingAdmissionPolicyBindingRules;

impl KindRules for MutatingAdmissionPolicyRules {
    type Kind = MutatingAdmissionPolicy;

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

    fn validate(&self, policy: &Self::Kind) -> ErrorList {
        validate_spec(&policy.spec.clone().unwrap_or_default(), &Path::new("spec"))
    }

    fn validate_update(&self, new: &Self::Kind, old: &Self::Kind) -> ErrorList {
        // What was valid once stays so.
        if same(&new.spec, &old.spec) {
            return ErrorList::new();
        }
        self.validate(new)
    }
}

impl KindRules for MutatingAdmissionPolicyBindingRules {
    type Kind = MutatingAdmissionPolicyBinding;

    const METADATA: (usize, usize) = (1, 0);
    const QUALIFIED_FINALIZERS: bool = false;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const STATIC_NAMES: bool = false;

    fn default(&self, binding: &mut Self::Kind) {
        let spec = binding.spec.get_or_insert_default();
        if let Some(resources) = spec.match_resources.as_mut() {
            matching::default_match_resources(resources);
        }
    }

    fn spec_changed(&self, new: &Self::Kind, old: &Self::Kind) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn validate(&self, binding: &Self::Kind) -> ErrorList {
        let spec = binding.spec.clone().unwrap_or_default();
        let (path, resources) = (Path::new("spec"), spec.match_resources.as_ref());
        let name = text(&spec.policy_name);
        let mut out = validate_binding(name, spec.param_ref.as_ref(), resources, &path);
        out.extend(mutable(resources, &path.child("matchResources")));
        out
    }
}

fn validate_spec(spec: &MutatingAdmissionPolicySpec, path: &Path) -> ErrorList {
    let mut out = failure_policy(spec.failure_policy.as_deref(), path);
    if let Some(kind) = &spec.param_kind {
        out.extend(expressions::param_kind(kind, path));
    }
    let constraints = spec.match_constraints.as_ref();
    out.extend(matching::constraints(constraints, path));
    out.extend(mutable(constraints, &path.child("matchConstraints")));
    let known = known(spec.param_kind.as_ref());
    out.extend(matching::conditions(list(&spec.match_conditions), &known, path));
    let variables = list(&spec.variables);
    let variables = expressions::variables(variables, known, path, &mut out);
    let known = Variables {
        own: Some(&variables),
        ..known
    };
    let mutations = list(&spec.mutations);
    if mutations.is_empty() {
        let text = "mutations must contain at least one item";
        out.push(field::required(path.child("mutations"), text));
    }
    for (i, mutation) in mutations.iter().enumerate() {
        out.extend(validate_mutation(mutation, &known, &path.child("mutations").index(i)));
    }
    let path = path.child("reinvocationPolicy");
    match spec.reinvocation_policy.as_deref() {
        None | Some("") => out.push(field::required(path, "")),
        Some(policy) => out.extend(supported(policy, &REINVOCATION_POLICIES, path)),
    }
    out
}

/// Refuses operations that change nothing, where a policy is to change something. Upstream tells no index.
fn mutable(resources: Option<&MatchResources>, path: &Path) -> ErrorList {
    let path = path.child("resourceRules").child("operations");
    let rules = resources.map_or(&[][..], |resources| list(&resources.resource_rules));
    let operations = rules.iter().flat_map(|rule| list(&rule.operations));
    operations
        .flat_map(|operation| supported(operation, &OPERATIONS, path.clone()))
        .collect()
}

fn validate_mutation(mutation: &Mutation, known: &Variables<'_>, path: &Path) -> ErrorList {
    let kind = mutation.patch_type.as_str();
    let at = path.child("patchType");
    if kind.is_empty() {
        return vec![field::required(at, "")];
    }
    let mut out = supported(kind, &PATCH_TYPES, at);
    if !out.is_empty() {
        return out;
    }
    let configuration = mutation.apply_configuration.as_ref().map(|c| &c.expression);
    let patch = mutation.json_patch.as_ref().map(|p| &p.expression);
    let configuration = ("applyConfiguration", configuration, "Object");
    let patch = ("jsonPatch", patch, "list(JSONPatch)");
    let (wanted, other) = match kind {
        "JSONPatch" => (patch, configuration),
        _ => (configuration, patch),
    };
    let (name, expression, result) = wanted;
    let at = path.child(name);
    if let Some(expression) = expression {
        let (at, source) = (at.child("expression"), text(expression).trim());
        if source.is_empty() {
            out.push(field::required(at, ""));
        } else {
            let known = Variables {
                objects: true,
                ..*known
            };
            out.extend(compile(source, &[result], &known, &at));
        }
    } else {
        let text = format!("must be specified when patchType is {kind}");
        out.push(field::required(at, text));
    }
    if let (name, Some(_), _) = other {
        let text = format!("must not be specified when patchType is {kind}");
        out.push(field::invalid(path.child(name), format!("{{{name}}}"), text));
    }
    out
}
