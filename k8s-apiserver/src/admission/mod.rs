//! Admission: the last word on a write before it is stored.

mod companions;
mod error;
mod expressions;
pub(crate) mod follow;
mod matching;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod more;
pub mod plugins;
pub mod policies;
pub mod reader;
pub(crate) mod references;
mod views;
mod warnings;
pub mod webhooks;

#[cfg(feature = "__fuzz")]
pub(crate) use self::webhooks::fuzz_answer;

use std::fmt::Debug;

use async_trait::async_trait;
use k8s_model::{Object, Resource};

pub use self::{
    companions::{Companion, Companions},
    error::AdmissionError,
    plugins::default_plugins,
    warnings::Warnings,
};
use crate::auth::Identity;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Makes it.
    Create,
    /// Changes it: update, patch and apply.
    Update,
    /// Removes it.
    Delete,
    /// Opens a connection to it: exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// As upstream writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// What a plugin is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// To fill in or change the object.
    Admit,
    /// To refuse it, or not.
    Validate,
    /// To say what is to be stored together with it.
    Accompany,
}

/// A write on its way to the store.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// What is done.
    pub operation: Operation,
    /// To which resource.
    pub resource: &'a Resource,
    /// To which of its subresources, or empty.
    pub subresource: &'a str,
    /// In which namespace, or empty.
    pub namespace: &'a str,
    /// Under which name; empty while a generated name is not yet made.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a Identity,
    /// The object as it is to be; `None` on delete and connect. A subresource with a kind of its own
    /// (`binding`, `scale`) has that kind here.
    pub object: Option<Box<dyn Object>>,
    /// The object as it is; `None` on create and connect.
    pub old: Option<&'a dyn Object>,
    /// Whether nothing will be stored. A plugin with side effects leaves them out.
    pub dry_run: bool,
    /// What the client is told besides the answer, whatever that will be.
    pub warnings: &'a Warnings,
    /// What only the server's own plugins look at.
    pub(crate) more: more::More<'a>,
}

impl<'a> AdmissionRequest<'a> {
    /// A request about that resource, for tests of plugins: without a namespace, a name, objects. Set what it
    /// has.
    pub fn new(
        operation: Operation,
        resource: &'a Resource,
        user: &'a Identity,
        warnings: &'a Warnings,
    ) -> Self {
        AdmissionRequest {
            operation,
            resource,
            subresource: "",
            namespace: "",
            name: "",
            user,
            object: None,
            old: None,
            dry_run: false,
            warnings,
            more: more::More::default(),
        }
    }
}

impl AdmissionRequest<'_> {
    /// Whether this is about the resource itself, of that group and plural name, and not about
    /// one of its subresources.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty()
            && self.resource.resource == resource
            && self.resource.group == group
    }

    /// The object as a `K`, if it is one.
    pub fn object_as<K: 'static>(&self) -> Option<&K> {
        self.object.as_deref()?.downcast_ref()
    }

    /// The object as a `K`, to change, if it is one.
    pub fn object_as_mut<K: 'static>(&mut self) -> Option<&mut K> {
        self.object.as_deref_mut()?.downcast_mut()
    }

    /// The old object as a `K`, if it is one.
    pub fn old_as<K: 'static>(&self) -> Option<&K> {
        self.old?.downcast_ref()
    }
}

/// Changes or refuses writes.
///
/// # Purpose
/// The server calls every plugin that [handles](AdmissionPlugin::handles) the operation, in
/// order: first [`admit`](AdmissionPlugin::admit) of all, then, after the object was
/// validated, [`validate`](AdmissionPlugin::validate) of all, and last
/// [`accompany`](AdmissionPlugin::accompany). Write your own for a rule that the kind
/// itself doesn't have.
///
/// # Guarantees
/// `admit` is idempotent: it may be called again with its own result, and an update that is tried
/// again after a conflict runs it again. `validate` changes nothing.
///
/// # Errors
/// The first error ends the request, and the client sees it.
///
/// # Concurrency
/// Calls overlap. Dropping the future must leave nothing behind.
#[async_trait]
pub trait AdmissionPlugin: Debug + Send + Sync {
    /// The plugin's name, as upstream's flags spell it.
    fn name(&self) -> &str;

    /// Whether the plugin has a say in the operation.
    fn handles(&self, operation: Operation) -> bool;

    /// For what the plugin is to be called. By default for everything, though it may have nothing to do there;
    /// one that says which steps it has costs nothing in the others.
    fn steps(&self) -> &[Step] {
        &[Step::Admit, Step::Validate, Step::Accompany]
    }

    /// Whether the plugin may have a say in writes of that resource and its subresources. By default it may; one
    /// that says of which costs other writes nothing.
    fn concerns(&self, _group: &str, _resource: &str) -> bool {
        true
    }

    /// Fills in or changes the object.
    async fn admit(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        Ok(())
    }

    /// Refuses the request, or doesn't.
    async fn validate(&self, _request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        Ok(())
    }

    /// Says what is to be stored together with the object, or refuses the request. Called for
    /// create and update, after [`validate`](AdmissionPlugin::validate) of all.
    async fn accompany(
        &self,
        _request: &AdmissionRequest<'_>,
    ) -> Result<Companions, AdmissionError> {
        Ok(Companions::default())
    }
}
