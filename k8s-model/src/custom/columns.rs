//! The columns of a custom resource's table: `additionalPrinterColumns`.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::{Value, json};

use crate::{
    cel::double_text, decode, json::go_text, json_path::JsonPath, printers::human_duration,
};

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
            Source::Path(path) => path.fmt(f),
            Source::Function(_) => f.write_str("Function"),
        }
    }
}

const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl Column {
    /// The columns after the name; the age if none are asked for. As upstream, those end before the first whose path is
    /// none.
    pub(super) fn all(columns: Option<&[CustomResourceColumnDefinition]>) -> Vec<Column> {
        let age = || CustomResourceColumnDefinition {
            name: "Age".to_owned(),
            type_: "date".to_owned(),
            description: Some(CREATED.to_owned()),
            json_path: ".metadata.creationTimestamp".to_owned(),
            ..CustomResourceColumnDefinition::default()
        };
        let column = |column: &CustomResourceColumnDefinition| {
            Some(Column {
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
                source: Source::Path(column.json_path.parse().ok()?),
            })
        };
        match columns.unwrap_or_default() {
            [] => column(&age()).into_iter().collect(),
            columns => columns.iter().map_while(column).collect(),
        }
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
            Source::Path(path) => path,
            Source::Function(fill) => return fill(object, now),
        };
        let Some(found) = path.first(object) else {
            return Value::Null;
        };
        match (self.type_.as_str(), found) {
            // So does Go print what is there and is nothing.
            ("string", Value::Null) => "<no value>".into(),
            (_, Value::Null) => Value::Null,
            ("string", Value::String(text)) => text.as_str().into(),
            ("string", Value::Number(n)) if n.is_f64() => {
                double_text(n.as_f64().unwrap_or(0.0)).into()
            }
            ("string", other) => go_text(other).into(),
            ("integer", Value::Number(n)) => match n.as_i64() {
                Some(n) => n.into(),
                None => n.as_f64().map_or(Value::Null, |n| {
                    #[expect(clippy::cast_possible_truncation, reason = "as upstream cuts it")]
                    let whole = n as i64;
                    // What is too large for it comes out so in Go.
                    match n.abs() < 9_223_372_036_854_775_808.0 {
                        true => whole.into(),
                        false => i64::MIN.into(),
                    }
                }),
            },
            ("number", Value::Number(n)) => match n.as_i64() {
                // As precise as a number with a point is.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "as upstream does"
                )]
                Some(n) => (n as f64 as i64).into(),
                None => found.clone(),
            },
            ("boolean", Value::Bool(_)) => found.clone(),
            ("date", Value::String(text)) if matches!(text.as_str(), "" | "null") => {
                "<unknown>".into()
            }
            ("date", Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) if decode::is_time(text) => {
                    human_duration(now.duration_since(time)).into()
                }
                _ => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(type_: &str, value: Value) -> Value {
        let column = CustomResourceColumnDefinition {
            type_: type_.to_owned(),
            json_path: ".v".to_owned(),
            ..CustomResourceColumnDefinition::default()
        };
        let columns = Column::all(Some(&[column]));
        columns[0].cell(&json!({"v": value}), Timestamp::UNIX_EPOCH)
    }

    /// What kube-apiserver 1.26 prints.
    #[test]
    fn cells_are_printed_as_go_prints() {
        for (type_, value, expected) in [
            ("string", json!("<a>"), json!("<a>")),
            ("string", json!(["q<"]), json!("[\"q\\u003c\"]")),
            (
                "string",
                json!({"a": "x&y"}),
                json!("{\"a\":\"x\\u0026y\"}"),
            ),
            ("string", json!(true), json!("true")),
            ("string", json!(7), json!("7")),
            ("string", json!(3.5), json!("3.5")),
            ("string", json!(1_234_567.5), json!("1.2345675e+06")),
            ("string", json!(null), json!("<no value>")),
            ("integer", json!(3.9), json!(3)),
            ("integer", json!(1e21), json!(i64::MIN)),
            ("integer", json!("7"), json!(null)),
            ("number", json!(7), json!(7)),
            (
                "number",
                json!(9_007_199_254_740_993_i64),
                json!(9_007_199_254_740_992_i64),
            ),
            ("number", json!("7"), json!(null)),
            ("boolean", json!("true"), json!(null)),
            ("date", json!("1970-01-01T00:00:00Z"), json!("0s")),
            ("date", json!("1970-01-01 00:00:00Z"), json!("<invalid>")),
            ("date", json!(""), json!("<unknown>")),
            ("date", json!(5), json!(null)),
        ] {
            assert_eq!(cell(type_, value.clone()), expected, "{type_} {value}");
        }
    }

    #[test]
    fn columns_end_before_a_path_that_is_none() {
        let column = |name: &str, path: &str| CustomResourceColumnDefinition {
            name: name.to_owned(),
            json_path: path.to_owned(),
            ..CustomResourceColumnDefinition::default()
        };
        let all = [column("A", ".a"), column("B", ".b[c]"), column("C", ".c")];
        let names = |columns: &[_]| -> Vec<String> {
            let columns = Column::all(Some(columns));
            columns.into_iter().map(|column| column.name).collect()
        };
        assert_eq!(names(&all), ["A"]);
        assert_eq!(names(&all[1..]), [""; 0]);
        assert_eq!(names(&[]), ["Age"]);
    }
}
