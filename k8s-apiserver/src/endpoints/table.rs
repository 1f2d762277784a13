//! Objects as a `Table`: what `kubectl get` prints.

use http::{Response, StatusCode};
use k8s_model::{Object, printers};
use k8s_openapi::{api::autoscaling::v1::Scale, jiff::Timestamp};
use serde_json::{Value, json, value::RawValue};

use super::{Call, render};
use crate::{
    Error, Result,
    http::{Body, negotiate::MetaVersion, response, uri},
    registry::Row,
};

/// How much of each object a table carries along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// `TableOptions`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    include: Include,
    version: MetaVersion,
}

impl Options {
    pub(crate) fn new(call: &Call) -> Self {
        let query = call.parts.uri.query();
        let include = match uri::query_value(query, "includeObject").as_deref() {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        Options {
            include,
            version: call.wanted.meta,
        }
    }
}

/// A table's `ListMeta`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    pub(crate) fn of(revision: u64) -> Self {
        ListMeta {
            resource_version: revision.to_string(),
            ..ListMeta::default()
        }
    }
}

/// Refuses what nobody knows how to carry along.
fn check_include(include: Option<&str>) -> Result<()> {
    match include {
        None | Some("" | "None" | "Metadata" | "Object") => Ok(()),
        Some(other) => Err(Error::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
        ))),
    }
}

pub(crate) fn of_objects(
    call: &Call,
    row: &Row,
    code: StatusCode,
    objects: &[Box<dyn Object>],
    meta: &ListMeta,
) -> Result<Response<Body>> {
    let query = call.parts.uri.query();
    check_include(uri::query_value(query, "includeObject").as_deref())?;
    let options = Options::new(call);
    let mut out = json(
        row,
        objects,
        meta,
        options,
        true,
        call.server.registry.now(),
    )?;
    out.push(b'\n');
    response::json(code, &call.wanted, Body::from(out))
}

/// What an object's `scale` shows, which has columns of its own.
pub(crate) fn of_scale(call: &Call, scale: &Scale) -> Result<Response<Body>> {
    let options = Options::new(call);
    let cells = printers::scale_cells(scale, call.server.registry.now());
    let rows = vec![table_row(scale, cells, options)?];
    let version = scale.metadata.resource_version.clone();
    let meta = ListMeta {
        resource_version: version.unwrap_or_default(),
        ..ListMeta::default()
    };
    let mut out = table(
        described(printers::scale_columns()),
        Some(rows),
        &meta,
        options,
    )?;
    out.push(b'\n');
    response::json(StatusCode::OK, &call.wanted, Body::from(out))
}

pub(crate) fn json(
    row: &Row,
    objects: &[Box<dyn Object>],
    meta: &ListMeta,
    options: Options,
    with_columns: bool,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let columns: Value = if with_columns {
        columns(row)
    } else {
        Value::Null
    };
    let mut rows = Vec::with_capacity(objects.len());
    for object in objects {
        let cells = match row.custom() {
            Some(custom) => custom.cells(&**object, now),
            None => printers::cells(&row.resource, &**object, now),
        };
        rows.push(table_row(&**object, cells, options)?);
    }
    if row.is("flowcontrol.apiserver.k8s.io", "flowschemas") {
        // In the order in which requests try them, as upstream shows them.
        rows.sort_by_key(|row| row.cells.get(2).and_then(Value::as_i64));
    }
    // Upstream's converter for what has no columns of its own has no list where there is nothing.
    let none = rows.is_empty() && row.custom().is_none() && !printers::has_own(&row.resource);
    table(columns, (!none).then_some(rows), meta, options)
}

/// An object's row, with as much of the object as is wanted.
fn table_row(object: &dyn Object, cells: Vec<Value>, options: Options) -> Result<TableRow> {
    let mut full = Vec::new();
    object.write_json(&mut full);
    let carried = match options.include {
        Include::None => b"null".to_vec(),
        Include::Object => full,
        Include::Metadata => render::partial(&full, options.version)?,
    };
    let carried = String::from_utf8(carried).map_err(Error::internal)?;
    Ok(TableRow {
        cells,
        object: RawValue::from_string(carried).map_err(Error::internal)?,
    })
}

fn table(
    columns: Value,
    rows: Option<Vec<TableRow>>,
    meta: &ListMeta,
    options: Options,
) -> Result<Vec<u8>> {
    let mut list_meta = serde_json::Map::new();
    if !meta.resource_version.is_empty() {
        list_meta.insert(
            "resourceVersion".into(),
            meta.resource_version.as_str().into(),
        );
    }
    if let Some(token) = &meta.continue_token {
        list_meta.insert("continue".into(), token.as_str().into());
    }
    if let Some(remaining) = meta.remaining {
        list_meta.insert("remainingItemCount".into(), remaining.into());
    }
    let table = Table {
        kind: "Table",
        api_version: options.version.api_version(),
        metadata: list_meta,
        column_definitions: columns,
        rows,
    };
    serde_json::to_vec(&table).map_err(Error::internal)
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    kind: &'static str,
    api_version: &'static str,
    metadata: serde_json::Map<String, Value>,
    column_definitions: Value,
    rows: Option<Vec<TableRow>>,
}

#[derive(serde::Serialize)]
struct TableRow {
    cells: Vec<Value>,
    object: Box<RawValue>,
}

fn columns(row: &Row) -> Value {
    if let Some(custom) = row.custom() {
        return custom.column_definitions().into();
    }
    described(printers::columns(&row.resource))
}

fn described(columns: &[printers::Column]) -> Value {
    columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name,
                "type": c.type_,
                "format": c.format,
                "description": c.description,
                "priority": c.priority,
            })
        })
        .collect()
}
