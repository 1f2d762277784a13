//! [`More`]: what of a request only the server's own plugins look at.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::{Map, Value, json};

use super::Operation;
use crate::{
    http::options::{DeleteOptions, FieldValidation, Propagation, WriteOptions},
    registry::{Registry, Row},
};

/// What of a request only the server's own plugins look at.
#[derive(Debug, Default)]
pub(crate) struct More<'a> {
    /// In what other versions the resource is served.
    pub(crate) row: Option<&'a Row>,
    /// Where the parameters of policies are read.
    pub(crate) registry: Option<&'a Registry>,
    /// The options that came with the request.
    pub(crate) options: SentOptions<'a>,
    /// The managed fields of the object as it is to be: JSON of a list, or nothing.
    pub(crate) managed: Cow<'a, [u8]>,
    /// Those of the object as it is.
    pub(crate) old_managed: &'a [u8],
    /// The options of a connection, if a plugin has changed them.
    pub(crate) connection: Option<Value>,
    /// What plugins that change the object make others do.
    pub(crate) reinvocation: Reinvocation,
}

impl More<'_> {
    /// The options of a connection as they are to be.
    pub(crate) fn connection(&self) -> Option<&Value> {
        let sent = match self.options {
            SentOptions::Connect(sent) => Some(sent),
            _ => None,
        };
        self.connection.as_ref().or(sent)
    }

    /// The verb of a request that changes an object.
    pub(crate) fn verb_of_update(&self) -> &'static str {
        match self.options {
            SentOptions::Write(options) if options.patches => "patch",
            _ => "update",
        }
    }
}

/// Plugins that change an object may make those before them look at it once more.
#[derive(Debug, Default)]
pub(crate) struct Reinvocation {
    /// Whether this is that second time.
    pub(crate) again: bool,
    /// Whether there has to be one.
    pub(crate) wanted: bool,
    /// The webhooks' part.
    pub(crate) webhooks: Invoked,
    /// The policies' part.
    pub(crate) policies: Invoked,
}

/// Which webhooks or policies have been asked, and are to be asked again if the object changes after that.
#[derive(Debug, Default)]
pub(crate) struct Invoked {
    /// The object as the last of them left it.
    last: Option<Value>,
    asked: BTreeSet<String>,
    due: BTreeSet<String>,
}

impl Invoked {
    /// The second time begins, with this object.
    pub(crate) fn begin_again(&mut self, object: Option<&Value>) {
        if self.last.as_ref() != object {
            self.changed();
        }
    }

    /// Somebody has changed the object: those asked so far are to be asked again.
    pub(crate) fn changed(&mut self) {
        self.due.append(&mut self.asked);
    }

    /// One that wants to be asked again has been asked.
    pub(crate) fn asked(&mut self, id: &str) {
        self.asked.insert(id.to_owned());
    }

    /// Whether that one is to be asked again.
    pub(crate) fn is_due(&self, id: &str) -> bool {
        self.due.contains(id)
    }

    /// The last has been asked, and this is what the object is now.
    pub(crate) fn end(&mut self, object: Option<Value>) {
        self.last = object;
    }
}

/// The options that came with a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum SentOptions<'a> {
    /// None that matter.
    #[default]
    None,
    /// Those of a create, an update or a patch.
    Write(&'a WriteOptions),
    /// Those of a delete.
    Delete(&'a DeleteOptions),
    /// Those of a connection: `PodExecOptions` and the like.
    Connect(&'a Value),
}

impl SentOptions<'_> {
    /// `CreateOptions`, `UpdateOptions` or `DeleteOptions`, as upstream tells webhooks.
    pub(crate) fn to_value(self, operation: Operation, dry_run: bool) -> Value {
        let mut out = Map::new();
        let mut set = |name: &str, value: Value| {
            out.insert(name.to_owned(), value);
        };
        let kind = match operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        set("kind", kind.into());
        set("apiVersion", "meta.k8s.io/v1".into());
        if dry_run {
            set("dryRun", json!(["All"]));
        }
        match self {
            SentOptions::Write(options) => {
                if !options.field_manager.is_empty() {
                    set("fieldManager", options.field_manager.as_str().into());
                }
                match options.field_validation {
                    FieldValidation::Strict => set("fieldValidation", "Strict".into()),
                    FieldValidation::Ignore => set("fieldValidation", "Ignore".into()),
                    FieldValidation::Warn => {}
                }
            }
            SentOptions::Delete(options) => {
                if let Some(seconds) = options.grace_period_seconds {
                    set("gracePeriodSeconds", seconds.into());
                }
                if let Some(orphan) = options.orphan_dependents {
                    set("orphanDependents", orphan.into());
                }
                if let Some(propagation) = options.propagation {
                    let text = match propagation {
                        Propagation::Orphan => "Orphan",
                        Propagation::Background => "Background",
                        Propagation::Foreground => "Foreground",
                    };
                    set("propagationPolicy", text.into());
                }
                let mut preconditions = Map::new();
                let wanted = &options.preconditions;
                for (name, value) in [
                    ("uid", &wanted.uid),
                    ("resourceVersion", &wanted.resource_version),
                ] {
                    if let Some(value) = value {
                        preconditions.insert(name.to_owned(), value.as_str().into());
                    }
                }
                if !preconditions.is_empty() {
                    set("preconditions", preconditions.into());
                }
            }
            SentOptions::None | SentOptions::Connect(_) => {}
        }
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_were_asked_before_a_change_are_asked_again() {
        let mut invoked = Invoked::default();
        invoked.asked("a");
        invoked.changed();
        invoked.asked("b");
        invoked.end(Some(json!(1)));
        invoked.begin_again(Some(&json!(1)));
        assert!(invoked.is_due("a") && !invoked.is_due("b"));
        invoked.begin_again(Some(&json!(2)));
        assert!(invoked.is_due("b"));
    }
}
