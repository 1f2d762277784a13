//! Reads the types out of the sources of `k8s-openapi`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use syn::{
    Expr, ExprLit, ImplItem, Item, ItemImpl, Lit, LitStr, Token, Type,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    token,
    visit::{self, Visit},
};

/// The minor versions that `k8s-openapi` has, oldest and newest.
pub(super) const OLDEST: u32 = 33;
pub(super) const NEWEST: u32 = 37;

/// What a source file says of one type.
#[derive(Debug)]
pub(super) struct Definition {
    /// As in `io.k8s.api.core.v1.Pod`.
    pub(super) name: String,
    /// As in `api::core::v1::Pod`.
    pub(super) rust_path: String,
    /// What its `Resource` implementation says, if it has one.
    pub(super) resource: Option<ResourceImpl>,
    /// Its JSON schema.
    pub(super) schema: Json,
    /// How its lists and maps are merged, by JSON name.
    pub(super) merges: BTreeMap<String, Merge>,
}

/// An implementation of `k8s_openapi::Resource`.
#[derive(Debug, Default)]
pub(super) struct ResourceImpl {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) scope: String,
    pub(super) list_kind: Option<String>,
    pub(super) has_object_meta: bool,
}

/// How `DeepMerge` merges a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Merge {
    /// A list with keys (their JSON names).
    Map(Vec<String>),
    Set,
    /// A map that is one value.
    AtomicMap,
}

/// A JSON schema as the `json_schema!` macro spells it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Text(String),
    Other,
    Bool(bool),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// Another type, by its Rust path, with a description of its own.
    Reference {
        path: String,
        description: Option<String>,
    },
}

impl Json {
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Json::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn description(&self) -> &str {
        match self {
            Json::Reference { description, .. } => description.as_deref().unwrap_or(""),
            other => other.text("description").unwrap_or(""),
        }
    }
}

/// All types of one minor version, by Rust path.
pub(super) fn read(folder: &Path, minor: u32) -> Result<BTreeMap<String, Definition>> {
    let mut out = BTreeMap::new();
    for (name, module, text) in files(folder, minor)? {
        if let Some(definition) = definition(&name, &module, &text).with_context(|| name.clone())? {
            out.insert(definition.rust_path.clone(), definition);
        }
    }
    if out.is_empty() {
        bail!("no types of Kubernetes 1.{minor} in {}", folder.display());
    }
    Ok(out)
}

/// The minor version in which each field (`io.k8s.api.core.v1.Pod.spec`) and each type appeared,
/// where that is after the oldest one.
pub(super) fn since(folder: &Path) -> Result<BTreeMap<String, u32>> {
    let mut out = BTreeMap::new();
    for minor in OLDEST..=NEWEST {
        for (name, _, text) in files(folder, minor)? {
            for field in json_names(&text).into_values() {
                out.entry(format!("{name}.{field}")).or_insert(minor);
            }
            out.entry(name).or_insert(minor);
        }
    }
    out.retain(|_, minor| *minor > OLDEST);
    Ok(out)
}

/// The files of one minor version: the name of the type in each, its module, its text.
fn files(folder: &Path, minor: u32) -> Result<Vec<(String, String, String)>> {
    let root = folder.join(format!("v1_{minor}"));
    let mut paths = Vec::new();
    list(&root, &mut paths)?;
    let mut out = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let first = text.lines().next().unwrap_or_default();
        let Some(name) = first.strip_prefix("// Generated from definition ") else {
            continue;
        };
        let module = path
            .parent()
            .and_then(|parent| parent.strip_prefix(&root).ok())
            .context("a file outside its folder")?;
        let module: Vec<_> = module.iter().map(|part| part.to_string_lossy()).collect();
        out.push((name.to_owned(), module.join("::"), text.clone()));
    }
    Ok(out)
}

fn list(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            list(&entry.path(), out)?;
        } else {
            out.push(entry.path());
        }
    }
    Ok(())
}

fn definition(name: &str, module: &str, text: &str) -> Result<Option<Definition>> {
    let file = syn::parse_file(text)?;
    let mut resource: Option<ResourceImpl> = None;
    let mut list_kind = None;
    let mut has_object_meta = false;
    let mut schema = None;
    let mut merges = BTreeMap::new();
    let mut ident = None;
    let names = json_names(text);
    for item in &file.items {
        let Item::Impl(item) = item else { continue };
        let Some((path, _)) = &item.trait_ else {
            continue;
        };
        let Some(segment) = path.segments.last() else {
            continue;
        };
        match segment.ident.to_string().as_str() {
            "Resource" => resource = Some(resource_impl(item)),
            "ListableResource" => list_kind = constant(item, "LIST_KIND"),
            "Metadata" => {
                has_object_meta =
                    associated(item, "Ty").is_some_and(|path| path.ends_with("::ObjectMeta"));
            }
            "JsonSchema" => {
                ident = type_path(&item.self_ty);
                schema = Some(json_schema(item)?);
            }
            "DeepMerge" => merges = deep_merge(item, &names),
            _ => {}
        }
    }
    let (Some(schema), Some(ident)) = (schema, ident) else {
        return Ok(None);
    };
    if let Some(resource) = &mut resource {
        resource.list_kind = list_kind;
        resource.has_object_meta = has_object_meta;
    }
    let name = name.to_owned();
    Ok(Some(Definition {
        name,
        rust_path: format!("{module}::{ident}"),
        resource,
        schema,
        merges,
    }))
}

/// The Rust names of fields (`host_ipc`) to their JSON names, from the arms of the deserializer.
fn json_names(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for line in text.lines() {
        let Some((json, rust)) = line.trim().split_once(" => Field::Key_") else {
            continue;
        };
        out.insert(
            rust.trim_end_matches(',').to_owned(),
            json.trim_matches('"').to_owned(),
        );
    }
    out
}

fn resource_impl(item: &ItemImpl) -> ResourceImpl {
    let text = |name| constant(item, name).unwrap_or_default();
    ResourceImpl {
        group: text("GROUP"),
        version: text("VERSION"),
        kind: text("KIND"),
        plural: text("URL_PATH_SEGMENT"),
        scope: associated(item, "Scope").unwrap_or_default(),
        ..Default::default()
    }
}

fn constant(item: &ItemImpl, name: &str) -> Option<String> {
    item.items.iter().find_map(|item| match item {
        ImplItem::Const(item) if item.ident == name => match &item.expr {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn associated(item: &ItemImpl, name: &str) -> Option<String> {
    item.items.iter().find_map(|item| match item {
        ImplItem::Type(item) if item.ident == name => type_path(&item.ty),
        _ => None,
    })
}

/// The path of a type, without `crate::`.
fn type_path(ty: &Type) -> Option<String> {
    let Type::Path(path) = ty else { return None };
    let segments: Vec<_> = path
        .path
        .segments
        .iter()
        .map(|s| s.ident.to_string())
        .collect();
    let path = segments.join("::");
    Some(path.strip_prefix("crate::").unwrap_or(&path).to_owned())
}

fn json_schema(item: &ItemImpl) -> Result<Json> {
    struct Finder(Option<Result<Json, syn::Error>>);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_macro(&mut self, mac: &'ast syn::Macro) {
            if mac
                .path
                .segments
                .last()
                .is_some_and(|segment| segment.ident == "json_schema")
            {
                self.0 = Some(mac.parse_body());
            }
        }
    }
    let mut finder = Finder(None);
    finder.visit_item_impl(item);
    Ok(finder
        .0
        .context("no json_schema! in the JsonSchema implementation")??)
}

struct Entry(String, Json);

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key: LitStr = input.parse()?;
        input.parse::<Token![:]>()?;
        Ok(Entry(key.value(), input.parse()?))
    }
}

impl Parse for Json {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let content;
        if input.peek(token::Brace) {
            syn::braced!(content in input);
            let entries = Punctuated::<Entry, Token![,]>::parse_terminated(&content)?;
            return Ok(Json::Object(
                entries
                    .into_iter()
                    .map(|Entry(key, value)| (key, value))
                    .collect(),
            ));
        }
        if input.peek(token::Bracket) {
            syn::bracketed!(content in input);
            let entries = Punctuated::<Json, Token![,]>::parse_terminated(&content)?;
            return Ok(Json::List(entries.into_iter().collect()));
        }
        if !input.peek(Lit) {
            let expression: Expr = input.parse()?;
            let mut finder = Reference::default();
            finder.visit_expr(&expression);
            let path = finder.path.ok_or_else(|| input.error("no subschema_for"))?;
            return Ok(Json::Reference {
                path,
                description: finder.description,
            });
        }
        Ok(match input.parse::<Lit>()? {
            Lit::Str(text) => Json::Text(text.value()),
            Lit::Bool(value) => Json::Bool(value.value),
            _ => Json::Other,
        })
    }
}

/// Finds the type and the description in
/// `{ let mut schema_obj = __gen.subschema_for::<T>(); … .insert("description".into(), "…".into()); … }`.
#[derive(Default)]
struct Reference {
    path: Option<String>,
    description: Option<String>,
}

impl<'ast> Visit<'ast> for Reference {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "subschema_for"
            && let Some(generics) = &call.turbofish
            && let Some(syn::GenericArgument::Type(ty)) = generics.args.first()
        {
            self.path = type_path(ty);
        }
        if call.method == "insert" {
            let texts: Vec<_> = call.args.iter().filter_map(into_text).collect();
            if let [key, value] = texts.as_slice()
                && key == "description"
            {
                self.description = Some(value.clone());
            }
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// The text in `"text".into()`.
fn into_text(expression: &Expr) -> Option<String> {
    let Expr::MethodCall(call) = expression else {
        return None;
    };
    match &*call.receiver {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Some(text.value()),
        _ => None,
    }
}

fn deep_merge(item: &ItemImpl, names: &BTreeMap<String, String>) -> BTreeMap<String, Merge> {
    struct Finder<'a> {
        names: &'a BTreeMap<String, String>,
        out: BTreeMap<String, Merge>,
    }
    impl<'ast> Visit<'ast> for Finder<'_> {
        fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
            let Expr::Path(function) = &*call.func else {
                return;
            };
            let function: Vec<_> = function
                .path
                .segments
                .iter()
                .map(|s| s.ident.to_string())
                .collect();
            let [.., strategies, collection, merge] = function.as_slice() else {
                return;
            };
            if strategies != "merge_strategies" {
                return;
            }
            let Some(field) = call
                .args
                .first()
                .and_then(member)
                .and_then(|rust| self.names.get(&rust))
            else {
                return;
            };
            let merge = match (collection.as_str(), merge.as_str()) {
                ("list", "map") => match call.args.get(2).map(comparators) {
                    Some(keys) if !keys.is_empty() => Merge::Map(keys),
                    _ => return,
                },
                ("list", "set") => Merge::Set,
                ("map", "atomic") => Merge::AtomicMap,
                _ => return,
            };
            self.out.insert(field.clone(), merge);
        }
    }
    let mut finder = Finder {
        names,
        out: BTreeMap::new(),
    };
    finder.visit_item_impl(item);
    finder.out
}

/// The field in `&mut self.field` or `lhs.field`.
fn member(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Reference(reference) => member(&reference.expr),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.to_string()),
            syn::Member::Unnamed(_) => None,
        },
        _ => None,
    }
}

/// The fields in `&[|lhs, rhs| lhs.a == rhs.a, |lhs, rhs| lhs.b == rhs.b]`.
fn comparators(expression: &Expr) -> Vec<String> {
    struct Finder(Vec<String>);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
            // `lhs.metadata.name` is a key that upstream does not have.
            if let Expr::Field(field) = &*binary.left
                && matches!(&*field.base, Expr::Path(_))
            {
                self.0
                    .extend(member(&binary.left).map(|rust| json_key(&rust)));
            }
        }
    }
    let mut finder = Finder(Vec::new());
    finder.visit_expr(expression);
    finder.0
}

/// The JSON name of a field of another type; these are all regular but two.
fn json_key(rust: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in rust.trim_end_matches('_').chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    match out.as_str() {
        "shareId" => "shareID".to_owned(),
        "resourceId" => "resourceID".to_owned(),
        "apiServerId" => "apiServerID".to_owned(),
        _ => out,
    }
}
