//! [`LimitRanger`]: the limits that a namespace sets to its pods and claims.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use k8s_model::{
    pods::{resource_limits, resource_requests},
    quantity::Amount,
};
use k8s_openapi::{
    api::core::v1::{Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Resources = BTreeMap<String, Quantity>;

/// Fills in the requests and limits that a namespace's limit ranges give to containers without any,
/// and refuses pods and claims that are out of range.
#[derive(Debug)]
pub struct LimitRanger(Arc<dyn ObjectReader>);

impl LimitRanger {
    /// Looks limit ranges up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        LimitRanger(reader)
    }

    /// The limit ranges that have a say in the request.
    async fn ranges(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<Vec<LimitRange>, AdmissionError> {
        let concerned = match request.resource.resource {
            "pods" => matches!(
                (request.operation, request.subresource),
                (Operation::Create, "") | (Operation::Update, "resize")
            ),
            // Claims.
            _ => request.subresource.is_empty(),
        };
        let terminating = request
            .old
            .is_some_and(|old| old.metadata().deletion_timestamp.is_some());
        let resource = request.resource;
        if !concerned || terminating || !self.concerns(resource.group, resource.resource) {
            return Ok(Vec::new());
        }
        Ok(self.0.list::<LimitRange>(request.namespace).await?)
    }
}

fn items(range: &LimitRange) -> &[LimitRangeItem] {
    range.spec.as_ref().map_or(&[], |spec| &spec.limits)
}

fn set_defaults(range: &LimitRange, pod: &mut Pod) {
    let mut requests = Resources::new();
    let mut limits = Resources::new();
    for item in items(range).iter().filter(|i| i.type_ == "Container") {
        requests.extend(item.default_request.clone().unwrap_or_default());
        limits.extend(item.default.clone().unwrap_or_default());
    }
    let mut notes = Vec::new();
    let mut fill = |what: &str, container: &mut Container| {
        let resources = container.resources.get_or_insert_default();
        for (kind, defaults, have) in [
            ("request", &requests, &mut resources.requests),
            ("limit", &limits, &mut resources.limits),
        ] {
            let mut set = Vec::new();
            for (name, quantity) in defaults {
                let have = have.get_or_insert_default();
                if !have.contains_key(name) {
                    have.insert(name.clone(), quantity.clone());
                    set.push(name.as_str());
                }
            }
            if !set.is_empty() {
                let set = set.join(", ");
                notes.push(format!("{set} {kind} for {what} {}", container.name));
            }
        }
    };
    if let Some(spec) = &mut pod.spec {
        spec.containers
            .iter_mut()
            .for_each(|c| fill("container", c));
        spec.init_containers
            .iter_mut()
            .flatten()
            .for_each(|c| fill("init container", c));
    }
    if !notes.is_empty() {
        pod.metadata.annotations.get_or_insert_default().insert(
            ANNOTATION.to_owned(),
            format!("LimitRanger plugin set: {}", notes.join("; ")),
        );
    }
}

/// A quantity of a list. What cannot be read counts as absent: validation reports it.
fn amount(list: &Resources, name: &str) -> Option<(Amount, String)> {
    let quantity = list.get(name)?;
    Some((Amount::try_from(quantity).ok()?, quantity.0.clone()))
}

/// What breaks the item's bounds.
fn findings(item: &LimitRangeItem, requests: &Resources, limits: &Resources) -> Vec<String> {
    let kind = &item.type_;
    let is_claim = kind == "PersistentVolumeClaim";
    let mut out = Vec::new();
    let bounds = |list: &Option<Resources>| -> Vec<(String, Amount, String)> {
        list.iter()
            .flatten()
            .filter_map(|(name, quantity)| {
                Some((
                    name.clone(),
                    Amount::try_from(quantity).ok()?,
                    quantity.0.clone(),
                ))
            })
            .collect()
    };
    for (name, bound, text) in bounds(&item.min) {
        let head = format!("minimum {name} usage per {kind} is {text}");
        match amount(requests, &name) {
            None => out.push(format!("{head}.  No request is specified")),
            Some((request, shown)) if request < bound => {
                out.push(format!("{head}, but request is {shown}"));
            }
            Some(_) => {
                if let Some((limit, shown)) = amount(limits, &name)
                    && limit < bound
                {
                    out.push(format!("{head}, but limit is {shown}"));
                }
            }
        }
    }
    for (name, bound, text) in bounds(&item.max) {
        let head = format!("maximum {name} usage per {kind} is {text}");
        let request = amount(requests, &name).filter(|(request, _)| *request > bound);
        if is_claim {
            match (amount(requests, &name), request) {
                (None, _) => out.push(format!("{head}.  No request is specified")),
                (_, Some((_, shown))) => out.push(format!("{head}, but request is {shown}")),
                _ => {}
            }
            continue;
        }
        match amount(limits, &name) {
            None => out.push(format!("{head}.  No limit is specified")),
            Some((limit, shown)) if limit > bound => {
                out.push(format!("{head}, but limit is {shown}"));
            }
            Some(_) => {
                if let Some((_, shown)) = request {
                    out.push(format!("{head}, but request is {shown}"));
                }
            }
        }
    }
    if is_claim {
        return out;
    }
    for (name, bound, text) in bounds(&item.max_limit_request_ratio) {
        let head = format!("{name} max limit to request ratio per {kind} is {text}");
        let nonzero = |list| amount(list, &name).filter(|(amount, _)| !amount.is_zero());
        match (nonzero(requests), nonzero(limits)) {
            (None, _) => out.push(format!(
                "{head}, but no request is specified or request is 0"
            )),
            (_, None) => out.push(format!("{head}, but no limit is specified or limit is 0")),
            (Some((request, _)), Some((limit, _))) => {
                let ratio = limit.to_f64() / request.to_f64();
                if ratio > bound.to_f64() {
                    out.push(format!("{head}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
    out
}

/// What the pod as a whole asks for, and may use: of its containers, or as it says itself. What it costs besides, nobody has
/// asked for.
fn pod_total(pod: &Pod) -> (Resources, Resources) {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        spec.overhead = None;
    }
    let quantities = |amounts: BTreeMap<String, Amount>| {
        let amounts = amounts.into_iter();
        amounts
            .map(|(name, amount)| (name, amount.to_quantity()))
            .collect()
    };
    (
        quantities(resource_requests(&pod)),
        quantities(resource_limits(&pod)),
    )
}

fn requests(container: &Container) -> Option<&Resources> {
    container.resources.as_ref()?.requests.as_ref()
}

fn limits(container: &Container) -> Option<&Resources> {
    container.resources.as_ref()?.limits.as_ref()
}

fn check_pod(range: &LimitRange, pod: &Pod) -> Vec<String> {
    let mut out = Vec::new();
    let none = Resources::new();
    let Some(spec) = &pod.spec else {
        return out;
    };
    for item in items(range) {
        match item.type_.as_str() {
            "Container" => {
                let init = spec.init_containers.iter().flatten();
                for container in spec.containers.iter().chain(init) {
                    let requests = requests(container).unwrap_or(&none);
                    out.extend(findings(item, requests, limits(container).unwrap_or(&none)));
                }
            }
            "Pod" => {
                let (requests, limits) = pod_total(pod);
                out.extend(findings(item, &requests, &limits));
            }
            _ => {}
        }
    }
    out
}

fn check_claim(range: &LimitRange, claim: &PersistentVolumeClaim) -> Vec<String> {
    let none = Resources::new();
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref())
        .unwrap_or(&none);
    items(range)
        .iter()
        .filter(|item| item.type_ == "PersistentVolumeClaim")
        .flat_map(|item| findings(item, requests, &none))
        .collect()
}

#[async_trait]
impl AdmissionPlugin for LimitRanger {
    fn name(&self) -> &str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit, Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods" | "persistentvolumeclaims"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let ranges = self.ranges(request).await?;
        if let Some(pod) = request.object_as_mut::<Pod>() {
            for range in &ranges {
                set_defaults(range, pod);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        for range in &self.ranges(request).await? {
            let mut found = match (
                request.object_as::<Pod>(),
                request.object_as::<PersistentVolumeClaim>(),
            ) {
                (Some(pod), _) => check_pod(range, pod),
                (_, Some(claim)) => check_claim(range, claim),
                _ => Vec::new(),
            };
            // As upstream's aggregates: the same is told once, however many containers it is true of.
            let mut told = BTreeSet::new();
            found.retain(|text| told.insert(text.clone()));
            match found.as_slice() {
                [] => {}
                [one] => return Err(AdmissionError::forbidden(one)),
                several => {
                    let text = format!("[{}]", several.join(", "));
                    return Err(AdmissionError::forbidden(text));
                }
            }
        }
        Ok(())
    }
}
