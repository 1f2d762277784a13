//! The parameters of operations.

use serde_json::{Value, json};

use super::operations::Operation;

/// A parameter in the query.
pub(super) fn query(name: &str, schema: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": schema, "uniqueItems": true},
    })
}

impl Operation<'_> {
    /// The parameters of an operation, but for those of its path.
    pub(super) fn parameters(&self) -> Vec<Value> {
        let text = |name, description| query(name, "string", description);
        let selectors = || {
            vec![
                text(
                    "labelSelector",
                    "restricts the list of returned objects to those with these labels",
                ),
                text(
                    "fieldSelector",
                    "restricts the list of returned objects to those with these fields",
                ),
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
                out.push(query(
                    "watch",
                    "boolean",
                    "Watch for changes to the described resources, and not list them alone",
                ));
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
}
