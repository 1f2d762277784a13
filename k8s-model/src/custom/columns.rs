//! The columns of a custom resource's table: `additionalPrinterColumns`.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::{Value, json};

use crate::{json_path::JsonPath, printers::human_duration};

/// A column that a definition asks for.
#[derive(Clone, Debug)]
pub struct Column {
    pub(super) name: String,
    type_: String,
    format: String,
    description: String,
    priority: i32,
    source: Source,
}

/// Where its cells come from.
#[derive(Clone)]
enum Source {
    /// From nowhere.
    Nothing,
    /// From the value at this path.
    Path(JsonPath),
    /// From a function of the whole object and the time.
    Function(Arc<Fill>),
}

/// Fills a cell.
pub(super) type Fill = dyn Fn(&Value, Timestamp) -> Value + Send + Sync;

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Nothing => f.write_str("Nothing"),
            Source::Path(path) => path.fmt(f),
            Source::Function(_) => f.write_str("Function"),
        }
    }
}

impl Source {
    fn path(path: &str) -> Source {
        path.parse().map_or(Source::Nothing, Source::Path)
    }
}

const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl Column {
    /// The columns after the name; the age if none are asked for.
    pub(super) fn all(columns: Option<&[CustomResourceColumnDefinition]>) -> Vec<Column> {
        let columns = columns.unwrap_or_default();
        if columns.is_empty() {
            return vec![Column {
                name: "Age".to_owned(),
                type_: "date".to_owned(),
                format: String::new(),
                description: CREATED.to_owned(),
                priority: 0,
                source: Source::path(".metadata.creationTimestamp"),
            }];
        }
        let column = |column: &CustomResourceColumnDefinition| Column {
            name: column.name.clone(),
            type_: column.type_.clone(),
            format: column.format.clone().unwrap_or_default(),
            description: column
                .description
                .clone()
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| {
                    format!(
                        "Custom resource definition column (in JSONPath format): {}",
                        column.json_path
                    )
                }),
            priority: column.priority.unwrap_or(0),
            source: Source::path(&column.json_path),
        };
        columns.iter().map(column).collect()
    }

    /// A column that a function fills.
    pub(super) fn computed(
        (name, type_): (String, String),
        (description, priority): (String, i32),
        fill: Arc<Fill>,
    ) -> Column {
        Column {
            name,
            type_,
            format: String::new(),
            description,
            priority,
            source: Source::Function(fill),
        }
    }

    /// Its `TableColumnDefinition`.
    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.type_,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    /// What stands in it for an object.
    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let path = match &self.source {
            Source::Nothing => return Value::Null,
            Source::Path(path) => path,
            Source::Function(fill) => return fill(object, now),
        };
        let Some(found) = path.first(object) else {
            return Value::Null;
        };
        match (self.type_.as_str(), found) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(text)) => text.as_str().into(),
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(n)) => match n.as_i64() {
                Some(n) => n.into(),
                None => n.as_f64().map_or(Value::Null, |n| {
                    #[expect(clippy::cast_possible_truncation, reason = "as upstream cuts it")]
                    let whole = n as i64;
                    whole.into()
                }),
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found.clone(),
            ("date", Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => human_duration(now.duration_since(time)).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}
