//! Options in the queries of pods' streams: read from the client, written for the kubelet.

use k8s_model::field;
use k8s_streaming::channel::{ERROR, RESIZE, STDERR, STDIN, STDOUT};

use crate::{
    Error,
    http::{options, uri},
};

/// A query, being written.
#[derive(Debug, Default)]
pub(super) struct Query(String);

impl Query {
    pub(super) fn add(&mut self, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(key);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    self.0.push(char::from(byte));
                }
                _ => self.0.push_str(&format!("%{byte:02X}")),
            }
        }
    }

    /// The path with this query.
    pub(super) fn after(&self, path: String) -> String {
        if self.0.is_empty() {
            path
        } else {
            format!("{path}?{}", self.0)
        }
    }
}

fn value(query: Option<&str>, key: &str) -> Option<String> {
    uri::query_value(query, key)
        .map(|value| value.into_owned())
        .filter(|value| !value.is_empty())
}

/// Whether a flag is set.
fn flag(query: Option<&str>, key: &str) -> bool {
    uri::query_value(query, key).is_some_and(|value| options::flag(&value))
}

/// The container that was asked for.
pub(super) fn container(query: Option<&str>) -> String {
    value(query, "container").unwrap_or_default()
}

/// The options of a pod's `log`.
pub(super) fn log(pod: &str, query: Option<&str>) -> Result<Query, Error> {
    let mut out = Query::default();
    let mut found = field::ErrorList::new();
    for key in ["follow", "previous", "timestamps"] {
        if flag(query, key) {
            out.add(key, "true");
        }
    }
    let mut number = |key: &str, least: i64, text: &str| -> Result<Option<String>, Error> {
        let Some(given) = uri::query_value(query, key) else {
            return Ok(None);
        };
        let given = given.into_owned();
        let parsed: i64 = given.parse().map_err(|_| {
            Error::bad_request(format!(
                "strconv.ParseInt: parsing {given:?}: invalid syntax"
            ))
        })?;
        if parsed < least {
            found.push(field::invalid(field::Path::new(key), parsed, text));
        }
        Ok(Some(given))
    };
    let positive = "must be greater than 0";
    let seconds = number("sinceSeconds", 1, positive)?;
    let tail = number("tailLines", 0, "must be greater than or equal to 0")?;
    let limit = number("limitBytes", 1, positive)?;
    let since = value(query, "sinceTime");
    if since.is_some() && seconds.is_some() {
        found.push(field::forbidden(
            field::Path::default(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if !found.is_empty() {
        return Err(Error::invalid_kind("", "PodLogOptions", pod, &found));
    }
    let given = [
        ("sinceSeconds", seconds),
        ("sinceTime", since),
        ("tailLines", tail),
        ("limitBytes", limit),
        ("stream", value(query, "stream")),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            out.add(key, &value);
        }
    }
    Ok(out)
}

/// The streams that `exec` and `attach` are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Streams {
    pub(super) fn of(query: Option<&str>) -> Self {
        let flag = |key| flag(query, key);
        Streams {
            stdin: flag("stdin"),
            stdout: flag("stdout"),
            stderr: flag("stderr"),
            tty: flag("tty"),
        }
    }

    /// The channels that a kubelet expects. A terminal mixes output and errors.
    pub(super) fn channels(self) -> Vec<u8> {
        let wanted = [
            (true, ERROR),
            (self.stdin, STDIN),
            (self.stdout, STDOUT),
            (self.stderr && !self.tty, STDERR),
            (self.tty, RESIZE),
        ];
        (wanted.into_iter())
            .filter_map(|(wanted, channel)| wanted.then_some(channel))
            .collect()
    }
}

/// The options of `exec` and `attach`, under the names that kubelets have for them.
pub(super) fn streams(query: Option<&str>) -> Query {
    let mut out = Query::default();
    let asked = Streams::of(query);
    for (wanted, name) in [
        (asked.stdin, "input"),
        (asked.stdout, "output"),
        (asked.stderr, "error"),
        (asked.tty, "tty"),
    ] {
        if wanted {
            out.add(name, "1");
        }
    }
    for (key, value) in uri::query_pairs(query) {
        if key == "command" {
            out.add("command", &value);
        }
    }
    out
}

/// The options of `portforward`.
pub(super) fn ports(query: Option<&str>) -> Query {
    let mut out = Query::default();
    for (key, value) in uri::query_pairs(query) {
        if key == "ports" {
            for port in value.split(',').filter(|port| !port.is_empty()) {
                out.add("port", port);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_options_get_the_kubelets_names() {
        let query = streams(Some(
            "command=sh&command=-c&command=echo%20a%26b&stdin=true&stdout=true&stderr=false&tty=true",
        ));
        assert_eq!(
            query.after("/exec".to_owned()),
            "/exec?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20a%26b"
        );
    }

    #[test]
    fn log_options_are_checked() {
        let log = |query| log("web", Some(query));
        let query = log("follow&tailLines=5&timestamps=false&previous=").unwrap();
        assert_eq!(
            query.after(String::new()),
            "?follow=true&previous=true&tailLines=5"
        );
        let error = log("tailLines=-1").unwrap_err();
        assert_eq!(error.code(), 422);
        assert_eq!(
            error.to_string(),
            "PodLogOptions \"web\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"
        );
        for wrong in ["tailLines=x", "tailLines="] {
            assert_eq!(log(wrong).unwrap_err().code(), 400, "{wrong}");
        }
        let both = log("sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z").unwrap_err();
        assert_eq!(both.code(), 422);
    }
}
