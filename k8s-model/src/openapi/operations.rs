//! The paths of a document, and what can be done there.

use serde_json::{Map, Value, json};

use super::{
    META, SCHEMAS,
    components::{gvk, list_name},
    names_of,
    parameters::{hoist, in_path},
    path, subresource_version,
};
use crate::{Resource, Scope, Subresource, schema::Type};

/// As in `apps_v1`, `core_v1`, `rbacAuthorization_v1`.
pub(super) fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", group_tag(group))
}

/// As in `apps`, `core`, `rbacAuthorization`.
pub(super) fn group_tag(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut out = String::new();
    for part in group.split('.') {
        if out.is_empty() {
            out.push_str(part)
        } else {
            out.push_str(&capitalised(part))
        }
    }
    if out.is_empty() {
        out.push_str("core");
    }
    out
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|c| c.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

/// What `/api/` or `/apis/` or the path of a group answers.
pub(super) fn groups(tag: &str, id: &str, description: &str, answer: &str) -> Value {
    let answer = json!({"$ref": format!("{SCHEMAS}{META}.{answer}")});
    read(tag, id, description, answer, &MEDIA_TYPES[..3])
}

/// A path of which there is no more to say than what reading it answers.
pub(super) fn read(tag: &str, id: &str, description: &str, answer: Value, types: &[&str]) -> Value {
    json!({"get": {
        "tags": [tag],
        "description": description,
        "operationId": id,
        "responses": responses(answer, &["200"], types),
    }})
}

pub(super) fn resource_list(tag: &str, group: &str, version: &str) -> Value {
    let id = format!("get{}APIResources", operation_base(tag));
    let description = format!("get the resources of {}", path(group, version));
    groups(tag, &id, &description, "APIResourceList")
}

/// As in `AppsV1`.
pub(super) fn operation_base(tag: &str) -> String {
    tag.split('_').map(capitalised).collect()
}

/// One action on one path.
pub(super) struct Operation<'a> {
    row: &'a Resource,
    tag: &'a str,
    /// As in `list`, `patch`.
    pub(super) action: &'static str,
    method: &'static str,
    /// The name of the subresource, in upper case, and the kind that it takes.
    pub(super) subresource: Option<&'a Subresource>,
    all_namespaces: bool,
    /// Whether the path goes on after the subresource.
    with_path: bool,
}

/// The paths of a row.
pub(super) fn paths(row: &Resource, base: &str, tag: &str) -> Vec<(String, Value)> {
    let namespaced = row.scope == Scope::Namespaced;
    let mut out = Vec::new();
    let operation = |action, method| Operation {
        row,
        tag,
        action,
        method,
        subresource: None,
        all_namespaces: false,
        with_path: false,
    };
    let has = |verb: &str| row.verbs.contains(&verb);
    let collection = if namespaced {
        format!("/{base}/namespaces/{{namespace}}/{}", row.resource)
    } else {
        format!("/{base}/{}", row.resource)
    };
    if namespaced && has("list") {
        let list = Operation {
            all_namespaces: true,
            ..operation("list", "get")
        };
        out.push((format!("/{base}/{}", row.resource), item(&[list], &[])));
    }
    let watched = has("watch") && row.strategy.custom().is_none();
    // Where upstream had watches before they were a kind of lists.
    let before = |path: &str| path.replacen(&format!("/{base}/"), &format!("/{base}/watch/"), 1);
    let watches = |rest: &str, action, all_namespaces, names: &[&str]| {
        let watch = Operation {
            all_namespaces,
            ..operation(action, "get")
        };
        (before(rest), item(&[watch], names))
    };
    let mut operations = Vec::new();
    for (verb, action, method) in [
        ("list", "list", "get"),
        ("create", "post", "post"),
        ("deletecollection", "deletecollection", "delete"),
    ] {
        if has(verb) {
            operations.push(operation(action, method));
        }
    }
    let namespace: &[&str] = if namespaced { &["namespace"] } else { &[] };
    out.push((collection.clone(), item(&operations, namespace)));
    if watched && has("list") {
        if namespaced {
            let all = format!("/{base}/{}", row.resource);
            out.push(watches(&all, WATCH_LIST, true, &[]));
        }
        out.push(watches(&collection, WATCH_LIST, false, namespace));
    }

    let names: &[&str] = if namespaced {
        &["name", "namespace"]
    } else {
        &["name"]
    };
    let mut operations = Vec::new();
    for (verb, action, method) in [
        ("get", "get", "get"),
        ("update", "put", "put"),
        ("delete", "delete", "delete"),
        ("patch", "patch", "patch"),
    ] {
        if has(verb) {
            operations.push(operation(action, method));
        }
    }
    if !operations.is_empty() {
        out.push((format!("{collection}/{{name}}"), item(&operations, names)));
    }
    if watched {
        out.push(watches(
            &format!("{collection}/{{name}}"),
            "watch",
            false,
            names,
        ));
    }
    for subresource in row.subresources {
        let path = format!("{collection}/{{name}}/{}", subresource.name);
        out.push((
            path.clone(),
            item(&of_subresource(row, tag, subresource, false), names),
        ));
        if subresource.name == PROXY {
            let names: Vec<&str> = names.iter().copied().chain(["path"]).collect();
            let operations = of_subresource(row, tag, subresource, true);
            out.push((format!("{path}/{{path}}"), item(&operations, &names)));
        }
    }
    out
}

const PROXY: &str = "proxy";

/// A watch of a collection, by its own path.
pub(super) const WATCH_LIST: &str = "watchlist";

fn of_subresource<'a>(
    row: &'a Resource,
    tag: &'a str,
    subresource: &'a Subresource,
    with_path: bool,
) -> Vec<Operation<'a>> {
    let connects = subresource.kind.ends_with("Options");
    let verbs = subresource.verbs.iter().map(|verb| match *verb {
        "create" => "post",
        "update" => "put",
        verb => verb,
    });
    // What is passed on is so with any method.
    let more: &[&str] = match subresource.name {
        PROXY => &["head", "options"],
        _ => &[],
    };
    let operation = |method| Operation {
        row,
        tag,
        action: if connects { "connect" } else { method },
        method,
        subresource: Some(subresource),
        all_namespaces: false,
        with_path,
    };
    verbs.chain(more.iter().copied()).map(operation).collect()
}

/// What can be done on a path. What all operations take is told once.
fn item(operations: &[Operation<'_>], names: &[&str]) -> Value {
    let mut taken: Vec<Vec<Value>> = operations.iter().map(Operation::parameters).collect();
    let mut common = hoist(&mut taken);
    common.extend(names.iter().map(|name| in_path(name)));
    // That in the path comes before its namesake in the query.
    let place = |parameter: &Value| {
        let text = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("in"))
    };
    common.sort_by_cached_key(place);
    let mut out = Map::new();
    for (operation, mut parameters) in operations.iter().zip(taken) {
        parameters.sort_by_cached_key(place);
        out.insert(operation.method.to_owned(), operation.to_value(parameters));
    }
    if !common.is_empty() {
        out.insert("parameters".to_owned(), common.into());
    }
    Value::Object(out)
}

impl Operation<'_> {
    fn to_value(&self, parameters: Vec<Value>) -> Value {
        let row = self.row;
        let (group, version, kind) = match self.subresource {
            Some(subresource) => {
                let (group, version) = subresource_version(row, subresource);
                (group, version, subresource.kind)
            }
            None => (row.group, row.version, row.kind),
        };
        let own = self.subresource.is_none_or(|s| s.version.is_empty());
        let (schema, list) = match (own, row.strategy.custom()) {
            (true, Some(_)) => names_of(row).unzip(),
            _ => {
                let ty = Type::of_kind(group, version, kind);
                (ty.map(Type::name), ty.map(|ty| list_name(ty, row)))
            }
        };
        let schema = schema.map(|name| format!("#/components/schemas/{name}"));
        let mut out = Map::new();
        out.insert("tags".into(), json!([self.tag]));
        out.insert("description".into(), self.description().into());
        out.insert("operationId".into(), self.id().into());
        if !parameters.is_empty() {
            out.insert("parameters".into(), parameters.into());
        }
        if let Some(body) = self.body(schema.as_deref()) {
            out.insert("requestBody".into(), body);
        }
        let answer = match (self.action, list) {
            ("list", Some(list)) => Some(format!("#/components/schemas/{list}")),
            ("delete", _) if row.delete_gives_object() && row.resource != NAMESPACES => schema,
            ("delete" | "deletecollection", _) => Some(format!("{SCHEMAS}{META}.Status")),
            ("watch" | WATCH_LIST, _) => Some(format!("{SCHEMAS}{META}.WatchEvent")),
            _ => schema,
        };
        let codes: &[&str] = match self.method {
            _ if self.action == "connect" => &["200"],
            "post" => &["200", "201", "202"],
            "patch" if self.is_custom() => &["200"],
            "put" | "patch" => &["200", "201"],
            "delete" if self.action == "delete" => &["200", "202"],
            _ => &["200"],
        };
        let text = || json!({"type": "string"});
        let answers = match (self.action, answer) {
            ("connect", _) => responses(text(), codes, &["*/*"]),
            _ if self.is_log() => responses(text(), codes, &LOG_TYPES),
            (_, Some(answer)) => responses(json!({"$ref": answer}), codes, self.produces()),
            (_, None) => responses(text(), codes, &["*/*"]),
        };
        out.insert("responses".into(), answers);
        out.insert("x-kubernetes-action".into(), self.action.into());
        out.insert(
            "x-kubernetes-group-version-kind".into(),
            // The scale of a custom resource is told as a part of it.
            match self.is_custom() {
                true => gvk(row.group, row.version, row.kind),
                false => gvk(group, version, kind),
            },
        );
        Value::Object(out)
    }

    /// What it does, in upstream's words.
    fn description(&self) -> String {
        let kind = self.row.kind;
        let what = self
            .subresource
            .map(|s| format!("{} of ", s.name))
            .unwrap_or_default();
        let article = match kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
            true => "an",
            false => "a",
        };
        match self.action {
            "list" if self.is_custom() => format!("list objects of kind {kind}"),
            "list" => format!("list or watch objects of kind {kind}"),
            "post" => format!("create {what}{article} {kind}"),
            "get" => format!("read {what}the specified {kind}"),
            "put" => format!("replace {what}the specified {kind}"),
            "patch" => format!("partially update {what}the specified {kind}"),
            "delete" => format!("delete {what}{article} {kind}"),
            "deletecollection" => format!("delete collection of {kind}"),
            "watch" => format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with \
                 a list operation instead, filtered to a single item with the 'fieldSelector' \
                 parameter."
            ),
            WATCH_LIST => format!(
                "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter \
                 with a list operation instead."
            ),
            _ => {
                let method = self.method.to_uppercase();
                let what = self.subresource.map_or("", |s| s.name);
                format!("connect {method} requests to {what} of {kind}")
            }
        }
    }

    fn id(&self) -> String {
        let verb = match self.action {
            "post" => "create",
            "get" => "read",
            "put" => "replace",
            "deletecollection" => "delete",
            WATCH_LIST => "watch",
            action => action,
        };
        let method = match self.action {
            "connect" => capitalised(self.method),
            _ => String::new(),
        };
        let scope = if self.row.scope == Scope::Namespaced && !self.all_namespaces {
            "Namespaced"
        } else {
            ""
        };
        let subresource = self
            .subresource
            .map(|s| capitalised(s.name))
            .unwrap_or_default();
        let all = if self.all_namespaces {
            "ForAllNamespaces"
        } else {
            ""
        };
        let many = match self.action {
            "deletecollection" => "Collection",
            _ => "",
        };
        let list = match self.action {
            WATCH_LIST => "List",
            _ => "",
        };
        let with_path = if self.with_path { "WithPath" } else { "" };
        format!(
            "{verb}{}{method}{many}{scope}{}{subresource}{list}{all}{with_path}",
            operation_base(self.tag),
            self.row.kind
        )
    }

    pub(super) fn is_log(&self) -> bool {
        self.subresource.is_some_and(|s| s.name == "log")
    }

    pub(super) fn is_custom(&self) -> bool {
        self.row.strategy.custom().is_some()
    }

    /// In which forms answers come.
    fn produces(&self) -> &'static [&'static str] {
        match (self.is_custom(), self.action) {
            (true, _) => &MEDIA_TYPES[..2],
            (false, "list" | "watch" | WATCH_LIST) => &MEDIA_TYPES,
            (false, _) => &MEDIA_TYPES[..3],
        }
    }

    fn body(&self, schema: Option<&str>) -> Option<Value> {
        let schema = match self.action {
            // As upstream has it.
            "deletecollection" if self.is_custom() => return None,
            "post" | "put" => schema?.to_owned(),
            "patch" => format!("{SCHEMAS}{META}.Patch"),
            "delete" | "deletecollection" => format!("{SCHEMAS}{META}.DeleteOptions"),
            _ => return None,
        };
        let content = json!({"schema": {"$ref": schema}});
        Some(match self.action {
            "patch" => {
                let mut kinds = json!({
                    "application/apply-patch+yaml": content,
                    "application/json-patch+json": content,
                    "application/merge-patch+json": content,
                });
                if !self.is_custom() {
                    kinds["application/strategic-merge-patch+json"] = content;
                }
                json!({"required": true, "content": kinds})
            }
            _ if self.is_custom() => {
                json!({"content": {"application/json": content, "application/yaml": content}})
            }
            "post" | "put" => json!({"required": true, "content": {"*/*": content}}),
            _ => json!({"content": {"*/*": content}}),
        })
    }
}

/// What answers come in: the first two for custom resources, the last two for watches of built-in ones.
const MEDIA_TYPES: [&str; 5] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// What logs come in.
const LOG_TYPES: [&str; 4] = [
    "text/plain",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// Upstream's document says that deleting one gives a `Status`, though it gives the namespace.
const NAMESPACES: &str = "namespaces";

fn responses(schema: Value, codes: &[&str], media_types: &[&str]) -> Value {
    let content: Map<String, Value> = media_types
        .iter()
        .map(|name| ((*name).to_owned(), json!({"schema": schema})))
        .collect();
    let mut out = Map::new();
    for code in codes {
        let description = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        let answer = json!({"description": description, "content": content});
        out.insert((*code).to_owned(), answer);
    }
    out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(out)
}
