//! The expressions of webhooks and policies: whether they can be compiled, and what they speak of.

use k8s_openapi::api::admissionregistration::v1::{ParamKind, Variable};

use crate::{
    cel::{Program, Scope},
    field::{self, ErrorList, Path},
    kinds::checks::{messages, repeats, text},
    names,
};

/// What an expression may speak of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variables<'a> {
    /// Whether there are parameters.
    pub(super) params: bool,
    /// Whether there is a namespace.
    pub(super) namespace: bool,
    /// The policy's own variables, as far as they are known.
    pub(super) own: Option<&'a [Variable]>,
    /// Whether it may make objects and patches.
    pub(super) objects: bool,
}

impl Variables<'_> {
    fn scope(&self) -> Scope<'static> {
        let mut scope = Scope::new();
        for name in ["object", "oldObject", "request", "authorizer"] {
            scope = scope.with(name, None);
        }
        if self.params {
            scope = scope.with("params", None);
        }
        if self.namespace {
            scope = scope.with("namespaceObject", None);
        }
        if self.own.is_some() {
            scope = scope.with("variables", None);
        }
        if self.objects {
            scope.with_objects()
        } else {
            scope
        }
    }
}

/// What is wrong with an expression that must come out as one of these types.
pub(super) fn compile(
    source: &str,
    results: &[&str],
    variables: &Variables<'_>,
    path: &Path,
) -> ErrorList {
    let invalid = |text: String| vec![field::invalid(path.clone(), source, text)];
    let program = match Program::parse(source) {
        Ok(program) => program,
        Err(error) => return invalid(format!("compilation failed: {error}")),
    };
    let estimate = match program.check(&variables.scope()) {
        Ok(estimate) => estimate,
        Err(text) => return invalid(format!("compilation failed: {text}")),
    };
    if let Some(own) = variables.own {
        for name in program.fields_of("variables") {
            if !own.iter().any(|variable| variable.name == name) {
                return invalid(format!(
                    "compilation failed: ERROR: <input>:1:1: undefined field '{name}'"
                ));
            }
        }
    }
    if estimate.result != "dyn" && !results.contains(&estimate.result) {
        return invalid(match results {
            [one] => format!("must evaluate to {one}"),
            several => format!("must evaluate to one of [{}]", several.join(", ")),
        });
    }
    ErrorList::new()
}

/// The variables of a policy: each may speak of those before it.
pub(super) fn variables(all: &[Variable], known: Variables<'_>, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let repeats = repeats(all.iter().map(|variable| &variable.name));
    for (i, variable) in all.iter().enumerate() {
        let path = path.child("variables").index(i);
        let name = variable.name.as_str();
        if name.is_empty() {
            out.push(field::required(path.child("name"), "name is not specified"));
        } else {
            if !names::c_identifier(name).is_empty() {
                let text = "name is not a valid CEL identifier";
                out.push(field::invalid(path.child("name"), name, text));
            }
            if repeats[i] {
                out.push(field::duplicate(path.child("name"), name));
            }
        }
        if variable.expression.trim().is_empty() {
            let text = "expression is not specified";
            out.push(field::required(path.child("expression"), text));
        } else {
            let known = Variables {
                own: Some(&all[..i]),
                ..known
            };
            let results = [
                "bool",
                "int",
                "uint",
                "double",
                "string",
                "bytes",
                "list",
                "map",
                "null_type",
                "type",
                "optional_type",
                "google.protobuf.Timestamp",
                "google.protobuf.Duration",
            ];
            let path = path.child("expression");
            out.extend(compile(&variable.expression, &results, &known, &path));
        }
    }
    out
}

/// Upstream's `validateParamKind`.
pub(super) fn param_kind(kind: &ParamKind, path: &Path) -> ErrorList {
    let path = path.child("paramKind");
    let mut out = ErrorList::new();
    let api_version = text(&kind.api_version);
    let version_path = path.child("apiVersion");
    match api_version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => out.push(field::required(version_path, "")),
        [_, _, _, ..] => {
            let text = format!("unexpected GroupVersion string: {api_version}");
            out.push(field::invalid(version_path, api_version, text));
        }
        parts => {
            let (group, version) = match parts {
                [group, version] => (*group, *version),
                [version, ..] => ("", *version),
                [] => ("", ""),
            };
            let problems = names::dns_subdomain(group, false);
            if !group.is_empty() && !problems.is_empty() {
                out.push(field::invalid(
                    version_path.clone(),
                    group,
                    problems.join(","),
                ));
            }
            let problems = names::dns1035(version, false);
            if version.is_empty() {
                let text = "version must be specified";
                out.push(field::invalid(version_path, api_version, text));
            } else if !problems.is_empty() {
                out.push(field::invalid(version_path, version, problems.join(",")));
            }
        }
    }
    let name = text(&kind.kind);
    let problems = names::dns1035(&name.to_lowercase(), false);
    if name.is_empty() {
        out.push(field::required(path.child("kind"), ""));
    } else if !problems.is_empty() {
        let text = format!(
            "may have mixed case, but should otherwise match: {}",
            problems.join(",")
        );
        out.extend(messages(&path.child("kind"), name, vec![text]));
    }
    out
}
