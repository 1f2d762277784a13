//! [`Selection`]: which of the built-in controllers run.

use std::str::FromStr;

/// The names of the built-in controllers, and those they had before Kubernetes 1.28.
const NAMES: &[(&str, Option<&str>)] = &[
    (
        "certificatesigningrequest-approving-controller",
        Some("csrapproving"),
    ),
    (
        "certificatesigningrequest-cleaner-controller",
        Some("csrcleaner"),
    ),
    (
        "certificatesigningrequest-signing-controller",
        Some("csrsigning"),
    ),
    (
        "clusterrole-aggregation-controller",
        Some("clusterrole-aggregation"),
    ),
    ("deployment-controller", Some("deployment")),
    ("disruption-controller", Some("disruption")),
    ("endpoints-controller", Some("endpoint")),
    ("endpointslice-controller", Some("endpointslice")),
    (
        "endpointslice-mirroring-controller",
        Some("endpointslicemirroring"),
    ),
    ("ephemeral-volume-controller", Some("ephemeral-volume")),
    ("garbage-collector-controller", Some("garbagecollector")),
    (
        "legacy-serviceaccount-token-cleaner-controller",
        Some("legacy-service-account-token-cleaner"),
    ),
    ("namespace-controller", Some("namespace")),
    ("node-ipam-controller", Some("nodeipam")),
    ("node-lifecycle-controller", Some("nodelifecycle")),
    (
        "persistentvolume-protection-controller",
        Some("pv-protection"),
    ),
    (
        "persistentvolumeclaim-protection-controller",
        Some("pvc-protection"),
    ),
    ("pod-garbage-collector-controller", Some("podgc")),
    ("replicaset-controller", Some("replicaset")),
    (
        "replicationcontroller-controller",
        Some("replicationcontroller"),
    ),
    (
        "resourceclaim-controller",
        Some("resource-claim-controller"),
    ),
    ("resourcequota-controller", Some("resourcequota")),
    (
        "root-ca-certificate-publisher-controller",
        Some("root-ca-cert-publisher"),
    ),
    ("service-cidr-controller", None),
    ("serviceaccount-controller", Some("serviceaccount")),
    (
        "serviceaccount-token-controller",
        Some("serviceaccount-token"),
    ),
    ("storage-version-migrator-controller", None),
    ("taint-eviction-controller", None),
    ("token-cleaner-controller", Some("tokencleaner")),
    ("ttl-after-finished-controller", Some("ttl-after-finished")),
    ("ttl-controller", Some("ttl")),
    ("validatingadmissionpolicy-status-controller", None),
    ("volumeattributesclass-protection-controller", None),
];

/// Which of the built-in controllers run, written as upstream's `--controllers`: a list with commas in which `NAME` is
/// one that runs, `-NAME` one that does not, and `*` stands for all others. `*` is the default; a lone `-` is none.
///
/// The names are those of upstream's kube-controller-manager; those from before Kubernetes 1.28 are understood too. See
/// [`names`](Self::names).
///
/// ```
/// use k8s_controllers::Selection;
///
/// let most: Selection = "*,-namespace-controller".parse()?;
/// assert!(most.runs("deployment-controller") && !most.runs("namespace-controller"));
/// let one: Selection = "garbagecollector".parse()?;
/// assert!(one.runs("garbage-collector-controller") && !one.runs("deployment-controller"));
/// # Ok::<(), k8s_controllers::UnknownController>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Those that are named, and whether they run; the first counts.
    named: Vec<(&'static str, bool)>,
    /// Whether those run that are not named.
    others: bool,
}

/// A name in a [`Selection`] that is no controller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not in the list of known controllers")]
pub struct UnknownController(pub String);

impl Selection {
    /// All controllers.
    pub fn all() -> Self {
        Self {
            named: Vec::new(),
            others: true,
        }
    }

    /// No controller.
    pub fn none() -> Self {
        Self {
            named: Vec::new(),
            others: false,
        }
    }

    /// The names of all there are, in alphabetical order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Whether the controller of that name runs. Names from before Kubernetes 1.28 are not understood here.
    pub fn runs(&self, name: &str) -> bool {
        let named = self.named.iter().find(|(known, _)| *known == name);
        named.map_or(self.others, |(_, runs)| *runs)
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::all()
    }
}

impl FromStr for Selection {
    type Err = UnknownController;

    fn from_str(text: &str) -> Result<Self, UnknownController> {
        let mut selection = Self::none();
        for entry in text.split(',').map(str::trim) {
            match entry {
                "" | "-" => {}
                "*" => selection.others = true,
                _ => {
                    let (name, runs) = match entry.strip_prefix('-') {
                        Some(name) => (name, false),
                        None => (entry, true),
                    };
                    let known = known(name).ok_or_else(|| UnknownController(name.to_owned()))?;
                    selection.named.push((known, runs));
                }
            }
        }
        Ok(selection)
    }
}

/// Today's name of a controller.
fn known(given: &str) -> Option<&'static str> {
    let row = NAMES
        .iter()
        .find(|(name, old)| *name == given || *old == Some(given));
    row.map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(text: &str) -> Vec<&'static str> {
        let selection: Selection = text.parse().expect("a selection");
        Selection::names()
            .filter(|name| selection.runs(name))
            .collect()
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_star_stands_for_all_that_are_not_named() {
        assert_eq!(running("*").len(), NAMES.len());
        let most = running("-podgc,*");
        assert_eq!(most.len(), NAMES.len() - 1);
        assert!(!most.contains(&"pod-garbage-collector-controller"));
    }

    #[test]
    fn without_a_star_those_run_that_are_named() {
        let two = running("namespace, garbage-collector-controller,-deployment");
        assert_eq!(
            two,
            ["garbage-collector-controller", "namespace-controller"]
        );
        assert_eq!(running("-"), <[&str; 0]>::default());
        assert_eq!(running("-deployment"), <[&str; 0]>::default());
    }

    #[test]
    fn of_a_name_given_twice_the_first_counts() {
        assert_eq!(
            running("deployment,-deployment-controller"),
            ["deployment-controller"]
        );
    }

    #[test]
    fn unknown_names_are_refused() {
        let refused = "*,-nonesuch".parse::<Selection>().expect_err("unknown");
        assert_eq!(
            refused.to_string(),
            "\"nonesuch\" is not in the list of known controllers"
        );
    }
}
