//! [`Identity`]: who a request comes from.

use std::collections::BTreeMap;

use k8s_model::names;

/// The user that [`Identity::anonymous`] is.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of requests with credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group that may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";
/// What the user name of every service account begins with.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// What the user name of every node begins with.
pub const NODE_PREFIX: &str = "system:node:";

/// Who a request comes from: upstream's `user.Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub name: String,
    /// What tells apart two users who had the same name at different times; often empty.
    pub uid: String,
    /// The groups, in the order in which they were found.
    pub groups: Vec<String>,
    /// What else the authenticator found out.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user without groups.
    pub fn user(name: impl Into<String>) -> Self {
        Identity {
            name: name.into(),
            ..Identity::default()
        }
    }

    /// The same user, in one more group.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        let group = group.into();
        if !self.in_group(&group) {
            self.groups.push(group);
        }
        self
    }

    /// The user of a program that embeds the server and trusts itself: `system:apiserver`, in
    /// `system:masters`.
    pub fn system_masters() -> Self {
        Identity::user("system:apiserver")
            .group(MASTERS)
            .group(AUTHENTICATED)
    }

    /// A request without credentials.
    pub fn anonymous() -> Self {
        Identity::user(ANONYMOUS).group(UNAUTHENTICATED)
    }

    /// A service account, with the groups that come with it. The UID, that of the ServiceAccount, is for who writes down
    /// who did what; roles do not look at it, and it may be empty.
    pub fn service_account(namespace: &str, name: &str, uid: impl Into<String>) -> Self {
        Identity {
            name: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
            uid: uid.into(),
            groups: vec![
                SERVICE_ACCOUNTS.to_owned(),
                format!("{SERVICE_ACCOUNTS}:{namespace}"),
                AUTHENTICATED.to_owned(),
            ],
            extra: BTreeMap::new(),
        }
    }

    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the request came without credentials.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// The namespace and name of the service account that this is, if it is one: both are well-formed names.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = (self.name)
            .strip_prefix(SERVICE_ACCOUNT_PREFIX)?
            .split_once(':')?;
        let is_one = names::dns_label(namespace, false).is_empty()
            && names::dns_subdomain(name, false).is_empty();
        is_one.then_some((namespace, name))
    }

    /// The name of the node that this is, if it is one.
    pub fn as_node(&self) -> Option<&str> {
        if !self.in_group(NODES) {
            return None;
        }
        self.name
            .strip_prefix(NODE_PREFIX)
            .filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_known_by_its_name() {
        let identity = Identity::service_account("ns", "builder", "uid");
        assert_eq!(identity.name, "system:serviceaccount:ns:builder");
        assert_eq!(identity.as_service_account(), Some(("ns", "builder")));
        for name in [
            "alice",
            "system:serviceaccount:ns",
            "system:serviceaccount:ns:",
            "system:serviceaccount::a",
            "system:serviceaccount:ns:a:b",
            "system:serviceaccount:ns:A",
            "system:serviceaccount:n.s:a",
            "system:serviceaccount:ns:a\n",
        ] {
            assert_eq!(Identity::user(name).as_service_account(), None, "{name}");
        }
    }

    #[test]
    fn a_node_needs_the_group_and_the_name() {
        assert_eq!(Identity::user("system:node:a").as_node(), None);
        assert_eq!(
            Identity::user("system:node:a").group(NODES).as_node(),
            Some("a")
        );
        assert_eq!(Identity::user("a").group(NODES).as_node(), None);
    }
}
