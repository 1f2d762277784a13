//! [`Audiences`]: for whom credentials must be good.

use super::Identity;

/// For whom a credential must be good: one of those who are wanted. A credential that says nothing of audiences is for
/// the API server.
#[derive(Clone, Copy, Debug)]
pub struct Audiences<'a> {
    wanted: &'a [String],
    api: &'a [String],
}

impl<'a> Audiences<'a> {
    /// These are wanted; the API server is those.
    pub fn new(wanted: &'a [String], api: &'a [String]) -> Self {
        Audiences { wanted, api }
    }

    /// Who is wanted.
    pub fn wanted(&self) -> &'a [String] {
        self.wanted
    }

    /// Who the API server is.
    pub fn api(&self) -> &'a [String] {
        self.api
    }

    /// Who of the wanted a credential is good for that names these.
    pub fn among(&self, named: &[String]) -> Vec<String> {
        let both = self.wanted.iter().filter(|a| named.contains(a));
        both.cloned().collect()
    }

    /// Who of the wanted a credential is good for that names nobody.
    pub fn implied(&self) -> Vec<String> {
        let both = self.api.iter().filter(|a| self.wanted.contains(a));
        both.cloned().collect()
    }
}

/// Who has shown a credential, and for whom of the wanted it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// Who it is.
    pub identity: Identity,
    /// For whom of the [`Audiences`] that were asked for.
    pub audiences: Vec<String>,
}
