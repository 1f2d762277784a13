//! What the server serves.

use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use kube::{Client, core::ApiResource};

/// A resource as discovery describes it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Served {
    pub(crate) fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Its plural and group, as upstream writes them: `pods.` for the core group.
    pub(crate) fn group_resource(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

/// All that the server serves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    /// Each resource once, in its group's preferred version if it is there.
    pub(crate) preferred: Vec<Served>,
    /// Each kind in each version.
    pub(crate) kinds: BTreeMap<(String, String), Served>,
    /// The groups and versions that could not be asked, and why.
    pub(crate) failed: Vec<(String, String)>,
}

/// Asks the server what it serves. A group that does not answer (an aggregated one whose server is
/// down) does not hide the others.
pub(crate) async fn discover(client: &Client) -> Result<Discovery, kube::Error> {
    let groups = client.list_api_groups().await?;
    let mut versions: Vec<(String, String)> = vec![(String::new(), "v1".to_owned())];
    for group in groups.groups {
        let preferred = group.preferred_version.map(|version| version.version);
        let (first, others): (Vec<_>, Vec<_>) = group
            .versions
            .into_iter()
            .map(|v| v.version)
            .partition(|version| Some(version) == preferred.as_ref());
        versions.extend(
            first
                .into_iter()
                .chain(others)
                .map(|version| (group.name.clone(), version)),
        );
    }
    let lists = join_all(versions.iter().map(|(group, version)| async move {
        if group.is_empty() {
            client.list_core_api_resources(version).await
        } else {
            client
                .list_api_group_resources(&format!("{group}/{version}"))
                .await
        }
    }))
    .await;
    let mut discovery = Discovery::default();
    let mut seen = HashSet::new();
    for ((group, version), list) in versions.into_iter().zip(lists) {
        let api_version = if group.is_empty() {
            version.clone()
        } else {
            format!("{group}/{version}")
        };
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                discovery
                    .failed
                    .push((api_version, crate::error::server_message(&error)));
                continue;
            }
        };
        for resource in list.resources {
            if resource.name.contains('/') {
                continue;
            }
            let served = Served {
                resource: ApiResource {
                    group: group.clone(),
                    version: version.clone(),
                    api_version: api_version.clone(),
                    kind: resource.kind.clone(),
                    plural: resource.name.clone(),
                },
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            };
            discovery
                .kinds
                .insert((api_version.clone(), resource.kind), served.clone());
            if seen.insert((group.clone(), resource.name)) {
                discovery.preferred.push(served);
            }
        }
    }
    Ok(discovery)
}
