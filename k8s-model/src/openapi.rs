//! OpenAPI v3 documents of group versions, as `/openapi/v3` serves them.
//!
//! They have what clients go by (KEP-2896): the schemas of all kinds with
//! `x-kubernetes-group-version-kind`, list types and patch strategies, for `kubectl explain` and
//! `kubectl apply`; the paths with their parameters, in which clients look for `fieldValidation`.
//! Upstream's deprecated `watch` paths are left out.
//!
//! A document is written from the generated facts when it is asked for, straight into its bytes.

use std::{
    collections::BTreeSet,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    Resource, ResourceTable, Scope, Subresource,
    schema::{self, Field, Merge, Shape, Type},
};

const META: &str = "apimachinery.pkg.apis.meta.v1";
const SCHEMAS: &str = "#/components/schemas/io.k8s.";

/// The path of a group version below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// A value that changes when the document of a group version does, for the `hash` parameter of its
/// address.
pub fn hash(table: &ResourceTable, group: &str, version: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (
        env!("CARGO_PKG_VERSION"),
        schema::MINOR,
        schema::fingerprint(),
    )
        .hash(&mut hasher);
    for row in table.of_version(group, version) {
        (row.group, row.version, row.resource, row.verbs).hash(&mut hasher);
        if let Some(custom) = row.strategy.custom() {
            (custom.fingerprint(), row.subresources.len()).hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

/// The document of `/openapi/v3`: where the documents of the group versions are.
pub fn index(table: &ResourceTable) -> Bytes {
    let mut paths = Map::new();
    for group in table.groups() {
        for version in group.versions {
            let path = path(group.name, version);
            let hash = hash(table, group.name, version);
            let address = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({ "serverRelativeURL": address }));
        }
    }
    Bytes::from(json!({ "paths": paths }).to_string())
}

/// The document of a group version, or nothing if the table has no such rows.
pub fn v3(table: &ResourceTable, group: &str, version: &str) -> Option<Bytes> {
    let rows: Vec<&Resource> = table.of_version(group, version).map(|row| &**row).collect();
    if rows.is_empty() {
        return None;
    }
    let mut types = BTreeSet::new();
    for name in [
        "Status",
        "DeleteOptions",
        "Patch",
        "ListMeta",
        "APIResourceList",
    ] {
        collect(Type::named(&format!("{META}.{name}")), &mut types);
    }
    for row in &rows {
        if row.strategy.custom().is_some() {
            collect(Type::named(&format!("{META}.ObjectMeta")), &mut types);
        }
        collect(type_of(row), &mut types);
        for subresource in row.subresources {
            let (group, version) = subresource_version(row, subresource);
            if row.strategy.custom().is_none() || !subresource.version.is_empty() {
                collect(Type::of_kind(group, version, subresource.kind), &mut types);
            }
        }
    }

    let mut out = String::with_capacity(256 * 1024);
    out.push_str(r#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"v1."#);
    let _ = write!(out, "{}", schema::MINOR);
    out.push_str(r#".0"},"paths":{"#);
    let base = path(group, version);
    let tag = tag(group, version);
    entry(
        &mut out,
        &format!("/{base}/"),
        &resource_list(&tag, group, version),
    );
    for row in &rows {
        for (path, item) in paths(row, &base, &tag) {
            entry(&mut out, &path, &item);
        }
    }
    end(&mut out);
    out.push_str(r#"},"components":{"schemas":{"#);
    for ty in &types {
        component(&mut out, *ty, table);
    }
    for row in &rows {
        if let Some(custom) = row.strategy.custom() {
            entry(&mut out, &custom.published_name(), custom.published());
        }
    }
    for row in rows.iter().filter(|row| row.verbs.contains(&"list")) {
        list_component(&mut out, row);
    }
    end(&mut out);
    out.push_str(
        r#"},"securitySchemes":{"BearerToken":{"type":"apiKey","description":"Bearer Token authentication","name":"authorization","in":"header"}}}}"#,
    );
    Some(Bytes::from(out))
}

fn subresource_version(row: &Resource, subresource: &Subresource) -> (&'static str, &'static str) {
    if subresource.version.is_empty() {
        (row.group, row.version)
    } else {
        (subresource.group, subresource.version)
    }
}

/// The type of a built-in row's objects.
fn type_of(row: &Resource) -> Option<Type> {
    match row.strategy.custom() {
        Some(_) => None,
        None => Type::of_kind(row.group, row.version, row.kind),
    }
}

/// Where the schema of a row's objects is, and that of their lists.
fn names_of(row: &Resource) -> Option<(String, String)> {
    if let Some(custom) = row.strategy.custom() {
        let name = custom.published_name();
        let package = name.strip_suffix(row.kind).unwrap_or_default();
        return Some((name.clone(), format!("{package}{}", row.list_kind)));
    }
    let ty = type_of(row)?;
    Some((ty.name(), list_name(ty, row)))
}

/// A type and all that it refers to.
fn collect(ty: Option<Type>, out: &mut BTreeSet<Type>) {
    let Some(ty) = ty else { return };
    if !out.insert(ty) {
        return;
    }
    for field in ty.fields() {
        let mut shape = field.shape();
        while let Shape::List(elements) | Shape::Map(elements) = shape {
            shape = elements.shape();
        }
        if let Shape::Type(ty) = shape {
            collect(Some(ty), out);
        }
    }
}

/// Writes `"key":value,`.
fn entry(out: &mut String, key: &str, value: &Value) {
    let _ = write!(out, "{}:{value},", Value::from(key));
}

/// Takes the last comma away.
fn end(out: &mut String) {
    if out.ends_with(',') {
        out.pop();
    }
}

fn component(out: &mut String, ty: Type, table: &ResourceTable) {
    let mut object = Map::new();
    object.insert("description".into(), ty.description().into());
    match ty.special() {
        Some(Shape::IntOrString) => {
            object.insert("format".into(), "int-or-string".into());
            object.insert(
                "oneOf".into(),
                json!([{"type": "integer"}, {"type": "string"}]),
            );
        }
        Some(Shape::Quantity) => {
            object.insert(
                "oneOf".into(),
                json!([{"type": "string"}, {"type": "number"}]),
            );
        }
        Some(shape) => scalar(&mut object, shape),
        None => {
            object.insert("type".into(), "object".into());
            let required: Vec<_> = ty
                .fields()
                .filter(Field::is_required)
                .map(|f| f.name())
                .collect();
            if !required.is_empty() {
                object.insert("required".into(), required.into());
            }
            let properties: Map<_, _> = ty
                .fields()
                .map(|f| (f.name().to_owned(), Value::Object(property(&f))))
                .collect();
            if !properties.is_empty() {
                object.insert("properties".into(), properties.into());
            }
        }
    }
    if ty.is_atomic() {
        object.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let kinds = kinds_of(ty, table);
    if !kinds.is_empty() {
        object.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    entry(out, &ty.name(), &Value::Object(object));
}

fn kinds_of(ty: Type, table: &ResourceTable) -> Vec<Value> {
    if ty.field("apiVersion").is_none() || ty.field("kind").is_none() {
        return Vec::new();
    }
    let kind = ty.base_name();
    let is = |group: &str, version: &str| Type::of_kind(group, version, kind) == Some(ty);
    if ty.short_name().starts_with(META) {
        return match kind {
            "Status" | "APIResourceList" | "APIGroup" | "DeleteOptions" => {
                vec![gvk("", "v1", kind)]
            }
            _ => Vec::new(),
        };
    }
    let mut groups: Vec<(&str, &str)> = table
        .rows()
        .iter()
        .map(|row| (row.group, row.version))
        .collect();
    groups.dedup();
    groups.extend([
        ("policy", "v1"),
        ("authentication.k8s.io", "v1"),
        ("autoscaling", "v1"),
    ]);
    let found = groups
        .into_iter()
        .find(|(group, version)| is(group, version));
    found
        .map(|(group, version)| gvk(group, version, kind))
        .into_iter()
        .collect()
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn property(field: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("description".into(), field.description().into());
    fill(&mut out, field.shape());
    match (field.merge(), field.shape()) {
        (Merge::Map(keys), _) => {
            out.insert("x-kubernetes-list-type".into(), "map".into());
            let keys: Vec<&str> = keys.split(',').collect();
            out.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
        (Merge::Set, _) => {
            out.insert("x-kubernetes-list-type".into(), "set".into());
        }
        (Merge::Atomic, Shape::List(_)) => {
            out.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        (Merge::Atomic, Shape::Map(_)) => {
            out.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        _ => {}
    }
    if let Some(strategy) = field.patch_strategy() {
        out.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
    if let Some(key) = field.patch_merge_key() {
        out.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
    out
}

fn fill(out: &mut Map<String, Value>, shape: Shape) {
    match shape {
        Shape::Type(ty) => {
            out.insert(
                "allOf".into(),
                json!([{"$ref": format!("{SCHEMAS}{}", ty.short_name())}]),
            );
            if ty.special().is_none() {
                out.insert("default".into(), json!({}));
            }
        }
        Shape::List(elements) => {
            let mut items = Map::new();
            fill(&mut items, elements.shape());
            out.insert("type".into(), "array".into());
            out.insert("items".into(), items.into());
        }
        Shape::Map(elements) => {
            let mut values = Map::new();
            fill(&mut values, elements.shape());
            out.insert("type".into(), "object".into());
            out.insert("additionalProperties".into(), values.into());
        }
        shape => scalar(out, shape),
    }
}

fn scalar(out: &mut Map<String, Value>, shape: Shape) {
    let (name, format) = match shape {
        Shape::String(format) => ("string", format),
        Shape::Integer(format) => ("integer", format),
        Shape::Number => ("number", "double"),
        Shape::Boolean => ("boolean", ""),
        Shape::Object => ("object", ""),
        _ => return,
    };
    out.insert("type".into(), name.into());
    if !format.is_empty() {
        out.insert("format".into(), format.into());
    }
}

fn list_component(out: &mut String, row: &Resource) {
    let (Some((item, list)), Some(like)) = (names_of(row), list_like()) else {
        return;
    };
    let text = |name: &str| {
        let field = like.field(name);
        json!({"type": "string", "description": field.map(|f| f.description()).unwrap_or_default()})
    };
    let component = json!({
        "description": format!("{} is a list of {}.", row.list_kind, row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"),
            "kind": text("kind"),
            "metadata": {
                "description": "Standard list metadata.",
                "default": {},
                "allOf": [{"$ref": format!("{SCHEMAS}{META}.ListMeta")}],
            },
            "items": {
                "description": format!("The {}.", row.resource),
                "type": "array",
                "items": {"default": {}, "allOf": [{"$ref": format!("#/components/schemas/{item}")}]},
            },
        },
        "x-kubernetes-group-version-kind": [gvk(row.group, row.version, row.list_kind)],
    });
    entry(out, &list, &component);
}

/// A type with the fields that every kind has.
fn list_like() -> Option<Type> {
    Type::of_kind("", "v1", "ConfigMap")
}

fn list_name(ty: Type, row: &Resource) -> String {
    let name = ty.name();
    let package = name.strip_suffix(ty.base_name()).unwrap_or_default();
    format!("{package}{}", row.list_kind)
}

/// As in `apps_v1`, `core_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
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
    format!("{out}_{version}")
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|c| c.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

fn resource_list(tag: &str, group: &str, version: &str) -> Value {
    json!({"get": {
        "tags": [tag],
        "description": format!("get the resources of {}", path(group, version)),
        "operationId": format!("get{}APIResources", operation_base(tag)),
        "responses": responses(&format!("{SCHEMAS}{META}.APIResourceList"), &["200"]),
    }})
}

/// As in `AppsV1`.
fn operation_base(tag: &str) -> String {
    tag.split('_').map(capitalised).collect()
}

/// One action on one path.
struct Operation<'a> {
    row: &'a Resource,
    tag: &'a str,
    /// As in `list`, `patch`.
    action: &'static str,
    method: &'static str,
    /// The name of the subresource, in upper case, and the kind that it takes.
    subresource: Option<&'a Subresource>,
    all_namespaces: bool,
}

fn paths(row: &Resource, base: &str, tag: &str) -> Vec<(String, Value)> {
    let namespaced = row.scope == Scope::Namespaced;
    let mut out = Vec::new();
    let operation = |action, method| Operation {
        row,
        tag,
        action,
        method,
        subresource: None,
        all_namespaces: false,
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
    for subresource in row.subresources {
        let connects = subresource.kind.ends_with("Options");
        let mut operations = Vec::new();
        for verb in subresource.verbs {
            let (action, method) = match *verb {
                "get" => ("get", "get"),
                "create" => ("post", "post"),
                "update" => ("put", "put"),
                "patch" => ("patch", "patch"),
                "delete" => ("delete", "delete"),
                _ => continue,
            };
            let action = if connects { "connect" } else { action };
            operations.push(Operation {
                subresource: Some(subresource),
                ..operation(action, method)
            });
        }
        out.push((
            format!("{collection}/{{name}}/{}", subresource.name),
            item(&operations, names),
        ));
    }
    out
}

fn item(operations: &[Operation<'_>], names: &[&str]) -> Value {
    let mut out = Map::new();
    for operation in operations {
        out.insert(operation.method.to_owned(), operation.to_value());
    }
    let mut parameters: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
        })
        .collect();
    parameters.push(query("pretty", "string", "whether to indent the answer"));
    out.insert("parameters".to_owned(), parameters.into());
    Value::Object(out)
}

fn query(name: &str, schema: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": schema, "uniqueItems": true},
    })
}

impl Operation<'_> {
    fn to_value(&self) -> Value {
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
        let parameters = self.parameters();
        if !parameters.is_empty() {
            out.insert("parameters".into(), parameters.into());
        }
        if let Some(body) = self.body(schema.as_deref()) {
            out.insert("requestBody".into(), body);
        }
        let answer = match (self.action, list) {
            ("list", Some(list)) => Some(format!("#/components/schemas/{list}")),
            ("delete" | "deletecollection", _) => Some(format!("{SCHEMAS}{META}.Status")),
            _ => schema,
        };
        let codes: &[&str] = match self.method {
            "post" => &["200", "201", "202"],
            "put" | "patch" => &["200", "201"],
            "delete" if self.action == "delete" => &["200", "202"],
            _ => &["200"],
        };
        let answers = match answer {
            Some(answer) if self.action != "connect" => responses(&answer, codes),
            _ => {
                json!({"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}}})
            }
        };
        out.insert("responses".into(), answers);
        out.insert("x-kubernetes-action".into(), self.action.into());
        out.insert(
            "x-kubernetes-group-version-kind".into(),
            gvk(group, version, kind),
        );
        Value::Object(out)
    }

    fn what(&self) -> String {
        self.subresource
            .map(|s| format!("{} of the ", s.name))
            .unwrap_or_default()
    }

    fn description(&self) -> String {
        let (what, kind) = (self.what(), self.row.kind);
        match self.action {
            "list" => format!("list or watch objects of kind {kind}"),
            "post" => format!("create {what}{kind}"),
            "get" => format!("read {what}{kind}"),
            "put" => format!("replace {what}{kind}"),
            "patch" => format!("change parts of {what}{kind}"),
            "delete" => format!("delete {what}{kind}"),
            "deletecollection" => format!("delete a collection of {kind}"),
            _ => format!("connect to {what}{kind}"),
        }
    }

    fn id(&self) -> String {
        let verb = match (self.action, self.method) {
            ("post", _) => "create",
            ("get", _) => "read",
            ("put", _) => "replace",
            ("deletecollection", _) => "deleteCollection",
            ("connect", "get") => "connectGet",
            ("connect", "post") => "connectPost",
            ("connect", "put") => "connectPut",
            ("connect", "patch") => "connectPatch",
            ("connect", _) => "connectDelete",
            (action, _) => action,
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
        format!(
            "{verb}{}{scope}{}{subresource}{all}",
            operation_base(self.tag),
            self.row.kind
        )
    }

    fn parameters(&self) -> Vec<Value> {
        let text = |name, description| query(name, "string", description);
        let selectors = || {
            vec![
                text("labelSelector", "takes objects with these labels only"),
                text("fieldSelector", "takes objects with these fields only"),
                query("limit", "integer", "how many objects a page has at most"),
                text(
                    "continue",
                    "where the next page starts, from the one before",
                ),
                text("resourceVersion", "the version of the data to start from"),
                text("resourceVersionMatch", "how resourceVersion is meant"),
                query(
                    "sendInitialEvents",
                    "boolean",
                    "whether a watch begins with what is there",
                ),
                query("timeoutSeconds", "integer", "when to end the call"),
            ]
        };
        let write = || {
            vec![
                text("dryRun", "`All` to do everything but keep the result"),
                text(
                    "fieldManager",
                    "the name under which the change is recorded",
                ),
                text(
                    "fieldValidation",
                    "what becomes of unknown and duplicate fields: `Ignore` drops them, `Warn` drops them with a warning, `Strict` refuses the request",
                ),
            ]
        };
        let delete = || {
            vec![
                text("dryRun", "`All` to do everything but keep the result"),
                query(
                    "gracePeriodSeconds",
                    "integer",
                    "how long the object has to end",
                ),
                query(
                    "orphanDependents",
                    "boolean",
                    "whether dependents stay (deprecated)",
                ),
                text(
                    "propagationPolicy",
                    "`Orphan`, `Background` or `Foreground`",
                ),
            ]
        };
        match self.action {
            "list" => {
                let mut out = selectors();
                out.push(query("watch", "boolean", "whether to go on with changes"));
                out.push(query(
                    "allowWatchBookmarks",
                    "boolean",
                    "whether a watch may have bookmarks",
                ));
                out
            }
            "deletecollection" => {
                let mut out = selectors();
                out.extend(delete());
                out
            }
            "delete" => delete(),
            "post" | "put" => write(),
            "patch" => {
                let mut out = write();
                out.push(query(
                    "force",
                    "boolean",
                    "whether apply takes fields from other managers",
                ));
                out
            }
            "get" if self.subresource.is_some_and(|s| s.name == "log") => vec![
                text(
                    "container",
                    "the container; may be left out if there is one",
                ),
                query("follow", "boolean", "whether to go on with what is written"),
                query(
                    "previous",
                    "boolean",
                    "whether to read the container before the last restart",
                ),
                query("sinceSeconds", "integer", "how far to go back"),
                query("tailLines", "integer", "how many lines from the end"),
                query("limitBytes", "integer", "how many bytes at most"),
                query(
                    "timestamps",
                    "boolean",
                    "whether each line begins with its time",
                ),
            ],
            "connect" => {
                vec![
                    text("container", "the container"),
                    text("command", "what to run"),
                    text("path", "where to"),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn body(&self, schema: Option<&str>) -> Option<Value> {
        let schema = match self.action {
            "post" | "put" => schema?.to_owned(),
            "patch" => format!("{SCHEMAS}{META}.Patch"),
            "delete" | "deletecollection" => format!("{SCHEMAS}{META}.DeleteOptions"),
            _ => return None,
        };
        let content = json!({"schema": {"$ref": schema}});
        Some(match self.action {
            "patch" => json!({"required": true, "content": {
                "application/apply-patch+yaml": content,
                "application/json-patch+json": content,
                "application/merge-patch+json": content,
                "application/strategic-merge-patch+json": content,
            }}),
            "post" | "put" => json!({"required": true, "content": {"*/*": content}}),
            _ => json!({"content": {"*/*": content}}),
        })
    }
}

fn responses(schema: &str, codes: &[&str]) -> Value {
    let mut out = Map::new();
    for code in codes {
        let description = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        let content = json!({"schema": {"$ref": schema}});
        let answer = json!({
            "description": description,
            "content": {"application/json": content, "application/yaml": content},
        });
        out.insert((*code).to_owned(), answer);
    }
    out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(group: &str, version: &str) -> Value {
        serde_json::from_slice(&v3(ResourceTable::builtin(), group, version).unwrap()).unwrap()
    }

    fn references(value: &Value, out: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    out.insert(
                        reference
                            .trim_start_matches("#/components/schemas/")
                            .to_owned(),
                    );
                }
                map.values().for_each(|value| references(value, out));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, out)),
            _ => {}
        }
    }

    #[test]
    fn every_document_is_json_and_every_reference_leads_somewhere() {
        let table = ResourceTable::builtin();
        for group in table.groups() {
            for version in group.versions {
                let document = document(group.name, version);
                let mut found = BTreeSet::new();
                references(&document, &mut found);
                let schemas = document["components"]["schemas"].as_object().unwrap();
                for reference in found {
                    assert!(
                        schemas.contains_key(&reference),
                        "{}/{version}: {reference}",
                        group.name
                    );
                }
            }
        }
        assert!(v3(table, "nothing", "v1").is_none());
    }

    #[test]
    fn clients_find_field_validation_in_the_patch_operation() {
        let document = document("apps", "v1");
        let patch =
            &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            gvk("apps", "v1", "Deployment")
        );
        assert!(
            patch["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .any(|p| p["name"] == "fieldValidation")
        );
        assert!(
            patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object()
        );
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    }

    #[test]
    fn schemas_carry_what_patches_need() {
        let document = document("", "v1");
        let schemas = &document["components"]["schemas"];
        let pod = &schemas["io.k8s.api.core.v1.Pod"];
        assert_eq!(
            pod["x-kubernetes-group-version-kind"],
            json!([gvk("", "v1", "Pod")])
        );
        assert_eq!(pod["required"], Value::Null);
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(
            containers["items"]["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.api.core.v1.Container"
        );
        assert_eq!(
            schemas["io.k8s.api.core.v1.PodList"]["properties"]["items"]["type"],
            "array"
        );
        let eviction = &schemas["io.k8s.api.policy.v1.Eviction"];
        assert_eq!(
            eviction["x-kubernetes-group-version-kind"],
            json!([gvk("policy", "v1", "Eviction")])
        );
    }

    #[test]
    fn the_index_names_every_group_version() {
        let index: Value = serde_json::from_slice(&index(ResourceTable::builtin())).unwrap();
        let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
            .as_str()
            .unwrap();
        assert!(
            address.starts_with("/openapi/v3/apis/apps/v1?hash="),
            "{address}"
        );
        assert!(index["paths"]["api/v1"].is_object());
    }
}
