//! The spec of a custom resource definition: group, names, versions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
};

use super::{conversion, expressions::Known, schema, subresources};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks,
    metadata::is_print,
    names as rules,
};

/// What is wrong with a spec. One is `new` before its resources are served: what its webhook is to be trusted for is
/// not judged until then.
pub(super) fn validate(
    spec: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinitionSpec>,
    is_new: bool,
) -> ErrorList {
    let path = Path::new("spec");
    let mut out = group(&spec.group, &path.child("group"));
    match spec.scope.as_str() {
        "" => out.push(field::required(path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => {
            let scopes = &["Cluster", "Namespaced"];
            out.push(field::not_supported(path.child("scope"), other, scopes));
        }
    }
    let shared = Shared::of(spec);
    let before = old.into_iter().flat_map(|old| &old.versions);
    let schemas = before.filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let mut known = Known::of(schemas);
    let place = path.child("versions");
    out.extend(versions(spec, old, &mut known, &shared, &place));
    if let Some(first) = spec.versions.first().filter(|v| !v.name.is_empty()) {
        let texts = rules::dns1035(&first.name, false);
        if !texts.is_empty() {
            let name = first.name.as_str();
            out.push(field::invalid(path.child("version"), name, texts.join(",")));
        }
    }

    let names_path = path.child("names");
    for (name, value) in [
        ("plural", spec.names.plural.as_str()),
        ("singular", checks::text(&spec.names.singular)),
        ("kind", &spec.names.kind),
        ("listKind", checks::text(&spec.names.list_kind)),
    ] {
        if value.is_empty() {
            out.push(field::required(names_path.child(name), ""));
        }
    }
    out.extend(names(&spec.names, &names_path));
    if let Some(first) = spec.versions.first() {
        let has_status = spec.versions.iter().any(has_status);
        let of_all = Place {
            path: path.clone(),
            schema: "validation",
        };
        out.extend(parts(first, old, &mut known, has_status, shared, &of_all));
    }
    if let Some(found) = &spec.conversion {
        let before = old.and_then(|old| old.conversion.as_ref());
        let path = path.child("conversion");
        if found.strategy == "Webhook" && spec.preserve_unknown_fields == Some(true) {
            let text = "must be None if spec.preserveUnknownFields is true";
            out.push(field::invalid(
                path.child("strategy"),
                found.strategy.as_str(),
                text,
            ));
        }
        out.extend(conversion::validate(found, before, is_new, &path));
    }
    let preserved = old.is_some_and(|old| old.preserve_unknown_fields == Some(true));
    if spec.preserve_unknown_fields == Some(true) && !preserved {
        let text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.push(field::invalid(
            path.child("preserveUnknownFields"),
            true,
            text,
        ));
    }
    out
}

fn group(group: &str, path: &Path) -> ErrorList {
    if group.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let texts = rules::dns_subdomain(group, false);
    if !texts.is_empty() {
        return vec![field::invalid(path.clone(), group, texts.join(","))];
    }
    if !group.contains('.') {
        let text = "should be a domain with at least one dot";
        return vec![field::invalid(path.clone(), group, text)];
    }
    ErrorList::new()
}

/// What all versions have alike. Upstream has it once then, at the spec itself, and findings name it there.
#[derive(Clone, Copy, Debug)]
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Shared {
    fn of(spec: &CustomResourceDefinitionSpec) -> Self {
        let alike = |same: fn(
            &CustomResourceDefinitionVersion,
            &CustomResourceDefinitionVersion,
        ) -> bool| {
            spec.versions
                .windows(2)
                .all(|pair| same(&pair[0], &pair[1]))
        };
        Shared {
            schema: alike(|a, b| a.schema == b.schema),
            subresources: alike(|a, b| a.subresources == b.subresources),
            columns: alike(|a, b| a.additional_printer_columns == b.additional_printer_columns),
            selectable: alike(|a, b| a.selectable_fields == b.selectable_fields),
        }
    }

    /// What versions have of their own.
    fn others(self) -> Self {
        Shared {
            schema: !self.schema,
            subresources: !self.subresources,
            columns: !self.columns,
            selectable: !self.selectable,
        }
    }
}

/// Where findings say that the parts of a version are.
struct Place {
    path: Path,
    schema: &'static str,
}

fn has_status(version: &CustomResourceDefinitionVersion) -> bool {
    let subresources = version.subresources.as_ref();
    subresources.is_some_and(|found| found.status.is_some())
}

/// The chosen parts of a version.
fn parts<'d>(
    version: &'d CustomResourceDefinitionVersion,
    old: Option<&'d CustomResourceDefinitionSpec>,
    known: &mut Known<'d>,
    has_status: bool,
    chosen: Shared,
    Place { path, schema }: &Place,
) -> ErrorList {
    let mut out = ErrorList::new();
    if let Some(found) = version.schema.as_ref().filter(|_| chosen.schema) {
        let before = old
            .and_then(|old| old.versions.iter().find(|v| v.name == version.name))
            .and_then(|version| version.schema.as_ref());
        out.extend(schema::validate(
            found,
            before,
            known,
            has_status,
            &path.child(schema),
        ));
    }
    if let Some(found) = version
        .subresources
        .as_ref()
        .filter(|_| chosen.subresources)
    {
        out.extend(subresources::scale(found, &path.child("subresources")));
    }
    if chosen.columns {
        let path = path.child("additionalPrinterColumns");
        let columns = checks::list(&version.additional_printer_columns).iter();
        for (at, column) in columns.enumerate() {
            out.extend(subresources::column(column, &path.index(at)));
        }
    }
    if chosen.selectable {
        let path = path.child("selectableFields");
        let before = old.and_then(|old| old.versions.iter().find(|v| v.name == version.name));
        out.extend(subresources::selectable(version, before, &path));
    }
    out
}

fn versions<'d>(
    spec: &'d CustomResourceDefinitionSpec,
    old: Option<&'d CustomResourceDefinitionSpec>,
    known: &mut Known<'d>,
    shared: &Shared,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    let has_schema = |version: &CustomResourceDefinitionVersion| {
        let schema = version.schema.as_ref();
        schema.is_some_and(|s| s.open_api_v3_schema.is_some())
    };
    let required = old.is_none_or(|old| old.versions.iter().all(has_schema));
    for (at, version) in spec.versions.iter().enumerate() {
        let text = match spec.preserve_unknown_fields {
            _ if has_schema(version) => continue,
            _ if required => "",
            Some(true) => continue,
            _ if !version.served => continue,
            _ => "because otherwise all fields are pruned",
        };
        let path = path.index(at).child("schema").child("openAPIV3Schema");
        out.push(field::required(path, text));
    }
    for (at, version) in spec.versions.iter().enumerate() {
        let path = path.index(at);
        let texts = rules::dns1035(&version.name, false);
        if !texts.is_empty() {
            let name = version.name.as_str();
            out.push(field::invalid(path.child("name"), name, texts.join(",")));
        }
        out.extend(deprecation(version, &path.child("deprecationWarning")));
        let place = Place {
            path,
            schema: "schema",
        };
        let own = shared.others();
        out.extend(parts(version, old, known, has_status(version), own, &place));
    }
    let mut seen: Vec<&str> = spec
        .versions
        .iter()
        .map(|version| version.name.as_str())
        .collect();
    seen.sort_unstable();
    let all = || checks::json(&spec.versions);
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        out.push(field::invalid(
            path.clone(),
            all(),
            "must contain unique version names",
        ));
    }
    if spec
        .versions
        .iter()
        .filter(|version| version.storage)
        .count()
        != 1
    {
        let text = "must have exactly one version marked as storage version";
        out.push(field::invalid(path.clone(), all(), text));
    }
    out
}

fn deprecation(version: &CustomResourceDefinitionVersion, path: &Path) -> ErrorList {
    let Some(text) = &version.deprecation_warning else {
        return ErrorList::new();
    };
    let mut texts = Vec::new();
    if version.deprecated != Some(true) {
        texts.push("can only be set for deprecated versions".to_owned());
    } else {
        if text.len() > 256 {
            texts.push("must be <= 256 characters long".to_owned());
        }
        if text.is_empty() {
            texts.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| !is_print(*c)) {
            texts.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    checks::messages(path, text.as_str(), texts)
}

/// The rules of names, asked for or accepted.
pub(super) fn names(names: &CustomResourceDefinitionNames, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let singular = checks::text(&names.singular);
    for (name, value) in [("plural", names.plural.as_str()), ("singular", singular)] {
        let texts = rules::dns1035(value, false);
        if !value.is_empty() && !texts.is_empty() {
            out.push(field::invalid(path.child(name), value, texts.join(",")));
        }
    }
    let list_kind = checks::text(&names.list_kind);
    for (name, value) in [("kind", names.kind.as_str()), ("listKind", list_kind)] {
        let texts = rules::dns1035(&value.to_lowercase(), false);
        if !value.is_empty() && !texts.is_empty() {
            let text = format!(
                "may have mixed case, but should otherwise match: {}",
                texts.join(",")
            );
            out.push(field::invalid(path.child(name), value, text));
        }
    }
    for (name, values) in [
        ("shortNames", &names.short_names),
        ("categories", &names.categories),
    ] {
        for (at, value) in checks::list(values).iter().enumerate() {
            let texts = rules::dns1035(value, false);
            if !texts.is_empty() {
                let path = path.child(name).index(at);
                out.push(field::invalid(path, value.as_str(), texts.join(",")));
            }
        }
    }
    if !names.kind.is_empty() && names.kind == list_kind {
        let text = "kind and listKind may not be the same";
        out.push(field::invalid(path.child("listKind"), list_kind, text));
    }
    out
}
