//! The parameters of operations.

use serde_json::{Value, json};

use super::operations::{Operation, WATCH_LIST};

/// A parameter in the query.
fn query(name: &str, schema: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": schema, "uniqueItems": true},
    })
}

fn text(name: &str, description: &str) -> Value {
    query(name, "string", description)
}

fn flag(name: &str, description: &str) -> Value {
    query(name, "boolean", description)
}

fn number(name: &str, description: &str) -> Value {
    query(name, "integer", description)
}

/// A parameter in the path.
pub(super) fn in_path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

/// Takes out what all operations have, and gives it.
pub(super) fn hoist(operations: &mut [Vec<Value>]) -> Vec<Value> {
    let Some((first, others)) = operations.split_first_mut() else {
        return Vec::new();
    };
    let common: Vec<Value> = first
        .extract_if(.., |parameter| {
            others.iter().all(|other| other.contains(parameter))
        })
        .collect();
    for other in others {
        other.retain(|parameter| !common.contains(parameter));
    }
    common
}

fn selectors() -> Vec<Value> {
    vec![
        text(
            "labelSelector",
            "restricts the list of returned objects to those with these labels",
        ),
        text(
            "fieldSelector",
            "restricts the list of returned objects to those with these fields",
        ),
        number("limit", "how many objects a page has at most"),
        text(
            "continue",
            "where the next page starts, from the one before",
        ),
        text("resourceVersion", "the version of the data to start from"),
        text("resourceVersionMatch", "how resourceVersion is meant"),
        flag(
            "sendInitialEvents",
            "whether a watch begins with what is there",
        ),
        number("timeoutSeconds", "when to end the call"),
    ]
}

fn list() -> Vec<Value> {
    let mut out = selectors();
    out.push(flag(
        "watch",
        "Watch for changes to the described resources, and not list them alone",
    ));
    out.push(flag(
        "allowWatchBookmarks",
        "whether a watch may have bookmarks",
    ));
    out
}

fn write() -> Vec<Value> {
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
}

fn delete() -> Vec<Value> {
    vec![
        text("dryRun", "`All` to do everything but keep the result"),
        number("gracePeriodSeconds", "how long the object has to end"),
        flag("orphanDependents", "whether dependents stay (deprecated)"),
        text(
            "propagationPolicy",
            "`Orphan`, `Background` or `Foreground`",
        ),
    ]
}

fn log() -> Vec<Value> {
    vec![
        text(
            "container",
            "the container; may be left out if there is one",
        ),
        flag("follow", "whether to go on with what is written"),
        flag(
            "insecureSkipTLSVerifyBackend",
            "whether the kubelet's certificate may be any",
        ),
        flag(
            "previous",
            "whether to read the container before the last restart",
        ),
        number("sinceSeconds", "how far to go back"),
        text("stream", "`All`, `Stdout` or `Stderr`"),
        number("tailLines", "how many lines from the end"),
        number("limitBytes", "how many bytes at most"),
        flag("timestamps", "whether each line begins with its time"),
    ]
}

/// What goes into a connection, by the kind of its options.
fn connection(kind: &str) -> Vec<Value> {
    let streams = || {
        vec![
            text(
                "container",
                "the container; may be left out if there is one",
            ),
            flag("stdin", "whether to send to its standard input"),
            flag("stdout", "whether to have its standard output"),
            flag("stderr", "whether to have its standard error"),
            flag("tty", "whether it has a terminal"),
        ]
    };
    match kind {
        "PodAttachOptions" => streams(),
        "PodExecOptions" => {
            let mut out = streams();
            out.push(text(
                "command",
                "what to run, word by word; no shell reads it",
            ));
            out
        }
        "PodPortForwardOptions" => vec![number("ports", "the ports; needed with WebSockets")],
        _ => vec![text("path", "the path to ask for")],
    }
}

impl Operation<'_> {
    /// The parameters of an operation, but for those of its path.
    pub(super) fn parameters(&self) -> Vec<Value> {
        let mut out = match self.action {
            "list" | "watch" | WATCH_LIST => list(),
            // As upstream has it.
            "deletecollection" if self.is_custom() => list(),
            "deletecollection" => selectors().into_iter().chain(delete()).collect(),
            "delete" => delete(),
            "post" | "put" => write(),
            "patch" => {
                let mut out = write();
                out.push(flag(
                    "force",
                    "whether apply takes fields from other managers",
                ));
                out
            }
            "get" if self.is_log() => log(),
            "get" if self.is_custom() => {
                vec![text(
                    "resourceVersion",
                    "the version of the data to start from",
                )]
            }
            "connect" => return connection(self.subresource.map_or("", |s| s.kind)),
            _ => Vec::new(),
        };
        out.push(text("pretty", "whether to indent the answer"));
        out
    }
}
