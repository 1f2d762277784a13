//! Quotas: what the objects of a namespace count as, and whether that fits a ResourceQuota.
//!
//! Mirrors upstream's `k8s.io/apiserver/pkg/quota/v1` and `pkg/quota/v1/evaluator/core`. Used by
//! admission, which charges a quota before an object is stored, and by the controller that
//! counts anew. See <https://kubernetes.io/docs/concepts/policy/resource-quotas/>.

mod claims;
mod devices;
mod pods;
mod resized;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement, Service,
    },
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};

use crate::{
    Object,
    kinds::{checks::list, quantities},
    quantity::{Amount, Format},
};

/// A claim to devices, in the version that quotas read: the stable one, before 1.34 `v1beta2`.
pub use self::devices::ResourceClaim;

/// Amounts by the name of a quota's resource.
pub type Amounts = BTreeMap<String, Amount>;

/// One.
const ONE: Amount = Amount::ONE;

/// An object as quotas see it.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// A Service.
    Service(&'a Service),
    /// A claim to storage.
    Claim(&'a PersistentVolumeClaim),
    /// A claim to devices.
    DeviceClaim(&'a ResourceClaim),
    /// Anything else: it counts for one.
    Other,
}

impl<'a> From<&'a dyn Object> for Counted<'a> {
    fn from(object: &'a dyn Object) -> Self {
        if let Some(pod) = object.downcast_ref() {
            Counted::Pod(pod)
        } else if let Some(service) = object.downcast_ref() {
            Counted::Service(service)
        } else if let Some(claim) = object.downcast_ref() {
            Counted::Claim(claim)
        } else if let Some(claim) = object.downcast_ref() {
            Counted::DeviceClaim(claim)
        } else {
            Counted::Other
        }
    }
}

/// How the objects of one resource are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Pods: by number, and by what they ask for.
    Pods,
    /// Services: by number, node ports and load balancers.
    Services,
    /// Claims to storage: by number and size, in all and by class.
    Claims,
    /// Claims to devices: by number, and by the devices that they ask for of each class.
    DeviceClaims,
    /// Anything else: by number, under these names.
    Count(Vec<String>),
}

impl Meter {
    /// How objects of that resource are counted; `None` where they never are.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        let meter = match (group, resource) {
            ("", "bindings" | "componentstatuses" | "events") | ("events.k8s.io", "events") => {
                return None;
            }
            ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews") => return None,
            (
                "authorization.k8s.io",
                "subjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectrulesreviews",
            ) => return None,
            ("", "pods") => Meter::Pods,
            ("", "services") => Meter::Services,
            ("", "persistentvolumeclaims") => Meter::Claims,
            (DEVICES, "resourceclaims") => Meter::DeviceClaims,
            ("", name) if SHORT.contains(&name) => {
                Meter::Count(vec![count_name(group, resource), name.to_owned()])
            }
            _ => Meter::Count(vec![count_name(group, resource)]),
        };
        Some(meter)
    }

    /// Whether a change of an object may count, not its making alone. That of a pod does if it moves between the
    /// scopes `Terminating` and `NotTerminating`.
    pub fn counts_update(&self, old: Counted<'_>, new: Counted<'_>) -> bool {
        match (self, old, new) {
            (Meter::Services | Meter::Claims | Meter::DeviceClaims, ..) => true,
            (Meter::Pods, Counted::Pod(old), Counted::Pod(new)) => {
                pods::is_terminating(old) != pods::is_terminating(new)
            }
            _ => false,
        }
    }

    /// Whether objects count for the quota's resource of that name.
    pub fn measures(&self, name: &str) -> bool {
        match self {
            Meter::Pods => pods::measures(name),
            Meter::Services => services::measures(name),
            Meter::Claims => claims::measures(name),
            Meter::DeviceClaims => devices::measures(name),
            Meter::Count(names) => names.iter().any(|known| known == name),
        }
    }

    /// Whether the quota has a say about the object: it limits something that the object counts for, and
    /// the object is in all of its scopes.
    pub fn matches(&self, quota: &ResourceQuota, object: Counted<'_>) -> bool {
        let status = quota.status.as_ref();
        let hard = status.and_then(|status| status.hard.as_ref());
        hard.is_some_and(|hard| hard.keys().any(|name| self.measures(name)))
            && in_scope(&scopes(quota), object)
    }

    /// What the object must say but doesn't, if a quota limits these names: `must specify …`.
    ///
    /// # Errors
    /// Fails with upstream's text.
    pub fn check_constraints<'a>(
        &self,
        limited: impl IntoIterator<Item = &'a str>,
        object: Counted<'_>,
    ) -> Result<(), String> {
        match object {
            Counted::Pod(pod) => pods::check_constraints(limited, pod),
            _ => Ok(()),
        }
    }

    /// What the object counts as at that time.
    pub fn usage(&self, object: Counted<'_>, now: Timestamp) -> Amounts {
        match (self, object) {
            (_, Counted::Pod(pod)) => pods::usage(pod, now),
            (_, Counted::Service(service)) => services::usage(service),
            (_, Counted::Claim(claim)) => claims::usage(claim),
            (_, Counted::DeviceClaim(claim)) => devices::usage(claim),
            (Meter::Count(names), Counted::Other) => {
                names.iter().map(|name| (name.clone(), ONE)).collect()
            }
            (_, Counted::Other) => Amounts::new(),
        }
    }
}

/// The group of claims to devices.
const DEVICES: &str = "resource.k8s.io";

/// Counted under a name of their own too.
const SHORT: &[&str] = &[
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// The name under which objects of a resource are counted, such as `count/deployments.apps`.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() {
        format!("count/{resource}")
    } else {
        format!("count/{resource}.{group}")
    }
}

/// The group and plural name of the resource whose objects are to be counted for a quota's resource. The
/// other names are those of pods, Services and claims to storage, which every cluster has.
pub fn counted_resource(name: &str) -> Option<(&str, &str)> {
    if SHORT.contains(&name) {
        return Some(("", name));
    }
    if devices::is_of_class(name) {
        return Some((DEVICES, "resourceclaims"));
    }
    let counted = name.strip_prefix("count/")?;
    let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
    match Meter::of(group, resource) {
        Some(Meter::Count(_) | Meter::DeviceClaims) => Some((group, resource)),
        _ => None,
    }
}

/// The scopes of a quota, in either spelling.
pub fn scopes(quota: &ResourceQuota) -> Vec<ScopedResourceSelectorRequirement> {
    let Some(spec) = &quota.spec else {
        return Vec::new();
    };
    let plain = list(&spec.scopes)
        .iter()
        .map(|scope| ScopedResourceSelectorRequirement {
            scope_name: scope.clone(),
            operator: "Exists".to_owned(),
            ..Default::default()
        });
    let selector = spec.scope_selector.as_ref();
    let selected = selector.and_then(|selector| selector.match_expressions.clone());
    plain.chain(selected.into_iter().flatten()).collect()
}

/// Whether an object is in all of the scopes. Only pods and claims are in any.
pub fn in_scope(scopes: &[ScopedResourceSelectorRequirement], object: Counted<'_>) -> bool {
    scopes.iter().all(|scope| match object {
        Counted::Pod(pod) => pods::in_scope(pod, scope),
        Counted::Claim(claim) => claims::in_scope(claim, scope),
        _ => false,
    })
}

/// Whether the operator of a scope's selector selects a value.
fn selects(scope: &ScopedResourceSelectorRequirement, value: Option<&str>) -> bool {
    let listed = value.is_some_and(|value| list(&scope.values).iter().any(|v| v == value));
    match scope.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// A list of quantities as amounts. What is malformed is left out.
pub fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    quantities
        .into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), quantities::parse(quantity)?)))
        .collect()
}

/// Amounts as a list of quantities.
pub fn quantities(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_quantity()))
        .collect()
}

/// Adds one to the other.
pub fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        to.entry(name.clone())
            .and_modify(|sum| *sum += *amount)
            .or_insert(*amount);
    }
}

/// What is more in `new` than in `old`; what is not more is left out.
pub fn increase(new: &Amounts, old: &Amounts) -> Amounts {
    new.iter()
        .map(|(name, amount)| {
            let before = old.get(name).copied().unwrap_or_default();
            (name.clone(), *amount - before)
        })
        .filter(|(_, amount)| amount.signum() > 0)
        .collect()
}

/// What a quota has used up once it is charged with so much more.
///
/// # Errors
/// Fails with upstream's text, `exceeded quota: …`, if that is more than it allows.
pub fn charge(quota: &ResourceQuota, more: &Amounts) -> Result<Amounts, String> {
    let status = quota.status.as_ref();
    let hard = amounts(status.and_then(|status| status.hard.as_ref()));
    let used = amounts(status.and_then(|status| status.used.as_ref()));
    let mut requested = more.clone();
    requested.retain(|name, _| hard.contains_key(name));
    let mut sum = used.clone();
    add(&mut sum, &requested);
    let exceeded: BTreeSet<&str> = requested
        .keys()
        .filter(|name| sum[*name] > hard[*name])
        .map(String::as_str)
        .collect();
    if exceeded.is_empty() {
        return Ok(sum);
    }
    let shown = |amounts: &Amounts| -> String {
        let parts: Vec<String> = amounts
            .iter()
            .filter(|(name, _)| exceeded.contains(name.as_str()))
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        parts.join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.metadata.name.as_deref().unwrap_or_default(),
        shown(&requested),
        shown(&used),
        shown(&hard),
    ))
}

/// So many.
fn number(count: usize) -> Amount {
    Amount::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

#[cfg(test)]
mod tests;
