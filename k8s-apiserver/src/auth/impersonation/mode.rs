//! [`Mode`]: in which way one user acts as another.

use std::collections::BTreeMap;

use k8s_model::names;

use crate::{
    auth::{Identity, NODE_PREFIX, NODES, SERVICE_ACCOUNTS},
    authz::Attributes,
};

/// Where a service account's token says on which node its pod is.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Where an authorizer finds what else was known of a service account that acts as its node.
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";

/// A way of impersonation, with verbs of its own (KEP-5284).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// A pod's service account acts as the node that the pod is on.
    AssociatedNode,
    /// Somebody acts as a node.
    ArbitraryNode,
    /// Somebody acts as a service account.
    ServiceAccount,
    /// Somebody acts as a user who is neither.
    UserInfo,
    /// Somebody acts as anybody, in all that they may do.
    Legacy,
}

impl Mode {
    /// All, in the order in which they are tried.
    pub(super) const ALL: [Mode; 5] = [
        Mode::AssociatedNode,
        Mode::ArbitraryNode,
        Mode::ServiceAccount,
        Mode::UserInfo,
        Mode::Legacy,
    ];

    /// What it is called in verbs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "legacy",
        }
    }

    /// What who acts as another must be allowed to do to that one.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "impersonate:associated-node",
            Mode::ArbitraryNode => "impersonate:arbitrary-node",
            Mode::ServiceAccount => "impersonate:serviceaccount",
            Mode::UserInfo => "impersonate:user-info",
            Mode::Legacy => "impersonate",
        }
    }

    /// Whether what is done as another must be allowed, too.
    pub(super) fn is_constrained(self) -> bool {
        self != Mode::Legacy
    }

    /// Whether the mode is for a user who wants to be that. Of nodes and service accounts the name alone can be asked for:
    /// the server knows the rest.
    pub(super) fn fits(self, wanted: &Identity, user: &Identity) -> bool {
        let only_named = || {
            let Identity {
                uid, groups, extra, ..
            } = wanted;
            uid.is_empty() && groups.is_empty() && extra.is_empty()
        };
        let node = || node_name(&wanted.name);
        match self {
            Mode::AssociatedNode => {
                let own = || user.extra.get(NODE_NAME).map(Vec::as_slice);
                only_named()
                    && user.as_service_account().is_some()
                    && node().is_some_and(|node| matches!(own(), Some([own]) if own == node))
            }
            Mode::ArbitraryNode => only_named() && node().is_some(),
            Mode::ServiceAccount => only_named() && wanted.as_service_account().is_some(),
            Mode::UserInfo => node().is_none() && wanted.as_service_account().is_none(),
            Mode::Legacy => true,
        }
    }

    /// How it is asked whether somebody may have the name; `base` asks about a user.
    pub(super) fn name_of<'a>(self, wanted: &'a Identity, base: Attributes<'a>) -> Attributes<'a> {
        if let Some((namespace, name)) = wanted.as_service_account() {
            return Attributes {
                resource: "serviceaccounts",
                namespace,
                name,
                ..base
            };
        }
        let name = match self {
            Mode::AssociatedNode => Some("*"),
            Mode::ArbitraryNode => node_name(&wanted.name),
            _ => None,
        };
        name.map_or(base, |name| Attributes {
            resource: "nodes",
            name,
            ..base
        })
    }

    /// Who somebody is who is allowed to be that: with the groups that are known of the name, where none are asked for.
    pub(super) fn become_of(self, wanted: &Identity) -> Identity {
        let mut user = wanted.clone();
        if user.groups.is_empty() {
            let account = wanted.as_service_account();
            user.groups = match (self, account) {
                (Mode::AssociatedNode | Mode::ArbitraryNode, _) => vec![NODES.to_owned()],
                (_, Some((namespace, _))) => vec![
                    SERVICE_ACCOUNTS.to_owned(),
                    format!("{SERVICE_ACCOUNTS}:{namespace}"),
                ],
                (_, None) => Vec::new(),
            };
        }
        user.groups = super::with_standing(&user.name, user.groups);
        user
    }
}

/// The service account without what differs from one node to the next: of its extra values the keys are left. It is known by
/// now that it is on the node that it wants to be.
pub(super) fn on_any_node(user: &Identity) -> Identity {
    let keys = user.extra.keys().cloned().collect();
    Identity {
        extra: BTreeMap::from([(NODE_KEYS.to_owned(), keys)]),
        ..user.clone()
    }
}

/// The node that a user of that name is.
fn node_name(user: &str) -> Option<&str> {
    let name = user.strip_prefix(NODE_PREFIX)?;
    names::dns_subdomain(name, false).is_empty().then_some(name)
}
