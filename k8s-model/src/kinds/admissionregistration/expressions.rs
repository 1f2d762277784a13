//! The expressions of webhooks and policies: whether they can be compiled, and what they speak of.

use k8s_openapi::api::admissionregistration::v1::{ParamKind, Variable};

use crate::{
    cel::{Fields, Program, Scope, ValueType},
    field::{self, ErrorList, Path},
    kinds::checks::{messages, text},
    names,
};

/// What CEL keeps for itself: no name of a variable.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// What an expression may speak of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variables<'a> {
    /// Whether there are parameters.
    pub(super) params: bool,
    /// The policy's own variables, as far as they are known.
    pub(super) own: Option<&'a Fields>,
    /// Whether nobody can be asked who may do what.
    pub(super) no_authorizer: bool,
    /// Whether it may make objects and patches.
    pub(super) objects: bool,
}

impl Variables<'_> {
    fn scope(&self) -> Scope<'static> {
        let mut scope = Scope::new()
            .with("object", None)
            .with("oldObject", None)
            .with_request(true);
        if !self.no_authorizer {
            scope = scope.with_authorizer(true);
        }
        if self.params {
            scope = scope.with("params", None);
        }
        if let Some(own) = self.own {
            scope = scope.with_fields("variables", own);
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
    let checked = Program::parse(source)
        .map_err(|error| error.to_string())
        .and_then(|program| program.check(&variables.scope()));
    let found = match checked {
        Ok(estimate) => estimate.full_result,
        Err(text) => return invalid(format!("compilation failed: {text}")),
    };
    if results.contains(&found.as_str()) {
        return ErrorList::new();
    }
    invalid(match results {
        [one] => format!("must evaluate to {one} but got {found}"),
        several => format!(
            "must evaluate to one of [{}] but got {found}",
            several.join(" ")
        ),
    })
}

/// The variables of a policy, each of which may speak of those before it: what is wrong with them, and their types.
pub(super) fn variables(
    all: &[Variable],
    known: Variables<'_>,
    path: &Path,
    out: &mut ErrorList,
) -> Fields {
    let mut fields = Fields::new("kubernetes.variables");
    for (i, variable) in all.iter().enumerate() {
        let path = path.child("variables").index(i);
        let name = variable.name.as_str();
        if name.trim().is_empty() {
            out.push(field::required(path.child("name"), "name is not specified"));
        } else if RESERVED.contains(&name) || !names::c_identifier(name).is_empty() {
            let text = "must be a valid CEL identifier";
            out.push(field::invalid(path.child("name"), name, text));
        }
        let path = path.child("expression");
        let source = variable.expression.as_str();
        if source.trim().is_empty() {
            out.push(field::required(path, "expression is not specified"));
            continue;
        }
        let known = Variables {
            own: Some(&fields),
            ..known
        };
        let typed = Program::parse(source)
            .map_err(|error| error.to_string())
            .and_then(|program| program.value_type(&known.scope()));
        // Of one that is wrong nothing is known, and what speaks of it is not wrong for that.
        let of = typed.unwrap_or_else(|text| {
            out.push(field::invalid(
                path,
                source,
                format!("compilation failed: {text}"),
            ));
            ValueType::default()
        });
        fields.insert(name, of);
    }
    fields
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
