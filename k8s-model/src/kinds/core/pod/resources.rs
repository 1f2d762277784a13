//! What containers ask for: validation of requests and limits, the sum over a pod, and the
//! quality-of-service class that follows.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{claims, is_sidecar, pod_level};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::list,
        quantities::{self, ResourceList},
    },
    quantity::Amount,
};

/// Whether nothing is asked for.
pub(super) fn is_empty(resources: &Option<ResourceRequirements>) -> bool {
    resources.as_ref().is_none_or(|resources| {
        resources.limits.as_ref().is_none_or(BTreeMap::is_empty)
            && resources.requests.as_ref().is_none_or(BTreeMap::is_empty)
            && list(&resources.claims).is_empty()
    })
}

/// Whether containers ask for huge pages that do not come whole, or the pod's overhead has such.
pub(super) fn has_broken_pages(spec: &PodSpec) -> bool {
    let containers = spec.containers.iter().chain(list(&spec.init_containers));
    let ephemeral = list(&spec.ephemeral_containers).iter();
    let asked = containers.map(|container| &container.resources);
    let asked = asked.chain(ephemeral.map(|container| &container.resources));
    let lists = asked
        .flatten()
        .flat_map(|asked| [&asked.limits, &asked.requests]);
    let mut all = lists.chain([&spec.overhead]).flatten().flatten();
    all.any(|(name, amount)| !quantities::whole_pages(name, amount, Path::default()).is_empty())
}

/// Checks what a container asks for. Huge pages may be `broken_pages`, which do not come whole.
pub(super) fn of_container(
    resources: &Option<ResourceRequirements>,
    known_claims: &BTreeSet<&str>,
    broken_pages: bool,
    path: &Path,
) -> ErrorList {
    match resources {
        Some(resources) => requirements(
            resources,
            quantities::container_resource_name,
            known_claims,
            broken_pages,
            path,
        ),
        None => ErrorList::new(),
    }
}

/// Checks a resource's name.
type NameCheck = fn(&str, &Path) -> ErrorList;

/// Checks requests, limits and claims.
pub(super) fn requirements(
    resources: &ResourceRequirements,
    check_name: NameCheck,
    known_claims: &BTreeSet<&str>,
    broken_pages: bool,
    path: &Path,
) -> ErrorList {
    let empty = ResourceList::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let mut errors = ErrorList::new();
    for (name, limit) in limits {
        errors.extend(one(name, limit, check_name, broken_pages, &limits_path));
    }
    for (name, request) in requests {
        let path = requests_path.key(name);
        errors.extend(named_amount(name, request, check_name, &path));
        errors.extend(within_limit(
            (name, request),
            limits,
            &requests_path,
            &limits_path,
        ));
        if !broken_pages {
            errors.extend(quantities::whole_pages(name, request, path));
        }
    }
    let names = || limits.keys().chain(requests.keys());
    if names().any(|name| quantities::is_huge_pages(name))
        && !names().any(|name| matches!(name.as_str(), "cpu" | "memory"))
    {
        errors.push(field::forbidden(
            path.clone(),
            "HugePages require cpu or memory",
        ));
    }
    errors.extend(claims::of_container(
        list(&resources.claims),
        known_claims,
        &path.child("claims"),
    ));
    errors
}

/// Checks that no more is asked for than the limit allows, and as much of what cannot be had twice.
fn within_limit(
    (name, request): (&str, &Quantity),
    limits: &ResourceList,
    path: &Path,
    limits_path: &Path,
) -> Option<field::Error> {
    let asked = quantities::parse(request)?;
    let is_shared = quantities::is_overcommit_allowed(name);
    let Some(limit) = limits.get(name) else {
        let text = "Limit must be set for non overcommitable resources";
        return (!is_shared).then(|| field::required(limits_path.clone(), text));
    };
    let limit = quantities::parse(limit)?;
    let relation = if asked != limit && !is_shared {
        "equal to"
    } else if asked > limit {
        "less than or equal to"
    } else {
        return None;
    };
    let limit = limit.to_quantity().0;
    let detail = format!("must be {relation} {name} limit of {limit}");
    Some(field::invalid(path.clone(), request.0.as_str(), detail))
}

/// Checks a list of limits.
pub(crate) fn limit_list(limits: &ResourceList, path: &Path) -> ErrorList {
    overhead(limits, false, path)
}

/// Checks a pod's overhead, which is like a list of limits.
pub(super) fn overhead(limits: &ResourceList, broken_pages: bool, path: &Path) -> ErrorList {
    let name = quantities::container_resource_name;
    let limits = limits.iter();
    limits
        .flat_map(|(resource, quantity)| one(resource, quantity, name, broken_pages, path))
        .collect()
}

fn named_amount(name: &str, quantity: &Quantity, check_name: NameCheck, path: &Path) -> ErrorList {
    let mut errors = check_name(name, path);
    errors.extend(quantities::resource_value(name, quantity, path.clone()));
    errors
}

fn one(
    name: &str,
    quantity: &Quantity,
    check_name: NameCheck,
    broken_pages: bool,
    path: &Path,
) -> ErrorList {
    let path = path.key(name);
    let mut errors = named_amount(name, quantity, check_name, &path);
    if !broken_pages {
        errors.extend(quantities::whole_pages(name, quantity, path));
    }
    errors
}

/// A pod's quality-of-service class: `Guaranteed`, `Burstable` or `BestEffort`.
///
/// See <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.
pub fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else {
        return "BestEffort";
    };
    let (mut requests, mut limits) = ([false; 2], [false; 2]);
    let mut sums = [[Amount::default(); 2]; 2];
    let mut guaranteed = true;
    let containers: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        own @ Some(_) => vec![own.as_ref()],
        None => spec
            .containers
            .iter()
            .chain(list(&spec.init_containers))
            .map(|container| container.resources.as_ref())
            .collect(),
    };
    for resources in containers {
        for (index, name) in ["cpu", "memory"].into_iter().enumerate() {
            let of = |list: Option<&ResourceList>| quantities::amount(list, name);
            let request = of(resources.and_then(|resources| resources.requests.as_ref()));
            let limit = of(resources.and_then(|resources| resources.limits.as_ref()));
            if request.signum() > 0 {
                requests[index] = true;
                sums[0][index] += request;
            }
            if limit.signum() > 0 {
                limits[index] = true;
                sums[1][index] += limit;
            } else {
                guaranteed = false;
            }
        }
    }
    if requests == [false; 2] && limits == [false; 2] {
        return "BestEffort";
    }
    if guaranteed && requests == limits && sums[0] == sums[1] {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// What a pod asks for, in sum: the greater of what its containers and sidecars need together
/// and what the init containers need one after the other, or what it asks for as a whole, plus the pod's overhead.
///
/// See <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>.
pub fn resource_requests(pod: &Pod) -> BTreeMap<String, Amount> {
    let Some(spec) = &pod.spec else {
        return BTreeMap::new();
    };
    let mut total = aggregate(spec, |resources| resources.requests.as_ref());
    if pod_level::has_requests(spec) {
        override_with_own(&mut total, spec, |own| own.requests.as_ref());
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// What a pod may use at most, in sum, in the manner of [`resource_requests`]. A resource that
/// only some containers limit is summed over those; overhead comes on top of what is limited.
pub fn resource_limits(pod: &Pod) -> BTreeMap<String, Amount> {
    let Some(spec) = &pod.spec else {
        return BTreeMap::new();
    };
    let mut total = aggregate(spec, |resources| resources.limits.as_ref());
    if pod_level::is_set(spec) {
        override_with_own(&mut total, spec, |own| own.limits.as_ref());
    }
    for (name, amount) in amounts(spec.overhead.as_ref()) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit += amount;
        }
    }
    total
}

type Pick = fn(&ResourceRequirements) -> Option<&ResourceList>;

/// Takes what the pod says as a whole for what its containers say together.
fn override_with_own(total: &mut BTreeMap<String, Amount>, spec: &PodSpec, pick: Pick) {
    let own = amounts(spec.resources.as_ref().and_then(pick)).into_iter();
    total.extend(own.filter(|(name, _)| pod_level::is_supported(name)));
}

/// What the containers ask for, in sum.
pub(super) fn aggregate(spec: &PodSpec, pick: Pick) -> BTreeMap<String, Amount> {
    let of = |container: &Container| -> BTreeMap<String, Amount> {
        amounts(container.resources.as_ref().and_then(pick))
    };
    let mut total = BTreeMap::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut at_once) = (BTreeMap::new(), BTreeMap::new());
    for container in list(&spec.init_containers) {
        let mut asked = of(container);
        if is_sidecar(container) {
            add(&mut total, &asked);
            add(&mut sidecars, &asked);
            asked.clone_from(&sidecars);
        } else {
            add(&mut asked, &sidecars);
        }
        max(&mut at_once, &asked);
    }
    max(&mut total, &at_once);
    total
}

fn amounts(list: Option<&ResourceList>) -> BTreeMap<String, Amount> {
    list.into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), quantities::parse(quantity)?)))
        .collect()
}

fn add(to: &mut BTreeMap<String, Amount>, from: &BTreeMap<String, Amount>) {
    for (name, amount) in from {
        to.entry(name.clone())
            .and_modify(|sum| *sum += *amount)
            .or_insert(*amount);
    }
}

fn max(to: &mut BTreeMap<String, Amount>, from: &BTreeMap<String, Amount>) {
    for (name, amount) in from {
        to.entry(name.clone())
            .and_modify(|most| *most = (*most).max(*amount))
            .or_insert(*amount);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {},
            "spec": spec}))
        .unwrap()
    }

    fn container(resources: serde_json::Value) -> serde_json::Value {
        json!({"name": "c", "resources": resources})
    }

    #[test]
    fn the_qos_class_follows_requests_and_limits() {
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"},
            "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let some = json!({"requests": {"cpu": "1"}});
        for (containers, class) in [
            (vec![container(json!({}))], "BestEffort"),
            (vec![container(full.clone())], "Guaranteed"),
            (vec![container(some.clone())], "Burstable"),
            (vec![container(full), container(some)], "Burstable"),
        ] {
            assert_eq!(qos_class(&pod(json!({"containers": containers}))), class);
        }
        // What a pod says as a whole counts, though it says nothing.
        let containers = [container(json!({"requests": {"cpu": "1"}}))];
        let silent = pod(json!({"containers": containers, "resources": {}}));
        assert_eq!(qos_class(&silent), "BestEffort");
    }

    #[test]
    fn requests_count_init_containers_sidecars_and_overhead() {
        let cpu = |name: &str, cpu: &str, extra: serde_json::Value| {
            let mut out = json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
            out.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            out
        };
        let requests = resource_requests(&pod(json!({
            "initContainers": [
                cpu("before", "1", json!({})),
                cpu("sidecar", "2", json!({"restartPolicy": "Always"})),
                cpu("after", "4", json!({})),
            ],
            "containers": [cpu("a", "1", json!({})), cpu("b", "2", json!({}))],
            "overhead": {"cpu": "100m"},
        })));
        assert_eq!(requests["cpu"].to_quantity().0, "6100m");
    }

    #[test]
    fn a_pod_counts_as_it_says_as_a_whole() {
        let pod = pod(json!({
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"},
                "limits": {"ephemeral-storage": "1Gi", "cpu": "5"}}}],
            "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}},
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }));
        let told = |amounts: BTreeMap<String, Amount>| {
            let amounts = amounts.into_iter();
            amounts
                .map(|(name, amount)| format!("{name}={amount}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            told(resource_requests(&pod)),
            ["cpu=2100m", "memory=1025Mi"]
        );
        let limits = told(resource_limits(&pod));
        assert_eq!(limits, ["cpu=3100m", "ephemeral-storage=1Gi"]);
        assert_eq!(qos_class(&pod), "Burstable");
    }

    #[test]
    fn a_request_above_its_limit_is_refused() {
        let resources =
            serde_json::from_value(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}))
                .unwrap();
        let errors = of_container(
            &Some(resources),
            &BTreeSet::new(),
            false,
            &Path::new("resources"),
        );
        assert_eq!(
            errors[0].to_string(),
            r#"resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#
        );
    }
}
