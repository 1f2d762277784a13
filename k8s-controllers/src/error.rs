//! [`Error`]: why a built-in controller could not finish a reconcile.

/// Why a built-in controller could not finish a reconcile. The driver retries all of them with
/// the key's own back-off; none is a reason to stop the controller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server refused a request, or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// An object's selector cannot be evaluated. It stays so until somebody edits the object.
    #[error("invalid label selector: {0}")]
    Selector(#[from] kube::core::ParseExpressionError),
    /// The world is not yet as this step needs it; the text says what is missing.
    #[error("{0}")]
    NotYet(String),
    /// Several requests of one reconcile failed; the first is named.
    #[error("{count} requests failed, the first with: {first}")]
    Several {
        /// How many failed.
        count: usize,
        /// The first failure.
        #[source]
        first: Box<Error>,
    },
}

impl Error {
    /// Whether this is part of normal operation: a lost race against another writer, or an object
    /// that is gone. The driver logs these for debugging only.
    pub fn is_expected(&self) -> bool {
        match self {
            Error::Api(error) => {
                is_conflict(error) || is_not_found(error) || is_already_exists(error)
            }
            Error::NotYet(_) => true,
            Error::Several { first, .. } => first.is_expected(),
            Error::Selector(_) => false,
        }
    }

    /// One error for a list of them; `Ok` when there is none.
    pub(crate) fn all(errors: Vec<Error>) -> Result<(), Error> {
        let count = errors.len();
        let mut errors = errors.into_iter();
        match (errors.next(), count) {
            (None, _) => Ok(()),
            (Some(error), 1) => Err(error),
            (Some(error), count) => Err(Error::Several {
                count,
                first: Box::new(error),
            }),
        }
    }
}

fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Whether the server answered that the object does not exist.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    status(error).is_some_and(|s| s.is_not_found())
}

/// Whether it is the object of that name that is not found, and not the path that is not served.
pub(crate) fn is_gone(error: &kube::Error, name: &str) -> bool {
    let details = status(error).and_then(|s| s.details.as_ref());
    is_not_found(error) && details.is_some_and(|details| details.name == name)
}

/// Whether nothing is found at the path: of a collection, that it is not served. Servers may say so in mere text.
pub(crate) fn is_nowhere(error: &kube::Error) -> bool {
    status(error).is_some_and(|s| s.code == 404)
}

/// Whether the server answered that the object changed since it was read, or that a precondition
/// did not hold.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    status(error).is_some_and(|s| s.is_conflict())
}

/// The answer about an object of which nothing is wanted any more once it is gone.
pub(crate) fn unless_gone<T>(answer: Result<T, kube::Error>) -> Result<(), Error> {
    match answer {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The same, for what is looked at again where the object has changed: whoever changed it wakes the controller.
pub(crate) fn unless_outdated<T>(answer: Result<T, kube::Error>) -> Result<(), Error> {
    match answer {
        Err(error) if is_conflict(&error) => Ok(()),
        answer => unless_gone(answer),
    }
}

/// Whether the server answered that the name is taken.
pub(crate) fn is_already_exists(error: &kube::Error) -> bool {
    status(error).is_some_and(|s| s.is_already_exists())
}

/// Whether the server refused because the object's namespace is being deleted: nothing that a
/// controller creates there can succeed any more.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    status(error).is_some_and(|s| {
        s.details
            .as_ref()
            .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
    })
}

/// The server's own words, without this client's decoration.
pub(crate) fn server_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
