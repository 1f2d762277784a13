//! What was found, as the claim's status says it.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use super::{
    allocator::{Pick, Run},
    search::Failure,
};
use crate::snapshot::{
    NodeInfo,
    devices::wire::{Allocation, Configuration, Given, GivenDevice, Size},
};

impl Run<'_> {
    /// What each claim gets.
    ///
    /// # Errors
    ///
    /// If a slice has a node selector that no slice can have.
    pub(super) fn allocations(&self, node: &NodeInfo) -> Result<Vec<Allocation>, Failure> {
        let claims = 0..self.search.claims.len();
        let one = |claim: usize| {
            let results = self.picks(claim).map(|pick| self.given(pick));
            Ok(Allocation {
                devices: Given {
                    results: results.collect(),
                    config: self.configuration(claim),
                },
                node_selector: self.node_selector(claim, node)?,
                allocation_timestamp: None,
            })
        };
        claims.map(one).collect()
    }

    fn given(&self, pick: &Pick) -> GivenDevice {
        let pools = &self.search.pools;
        let (id, device) = (pools.id(pick.device), pools.device(pick.device));
        let wanted = self
            .search
            .wanted(pick.claim, pick.request, pick.alternative);
        let used = pick.used.iter().flatten();
        GivenDevice {
            request: self.request_name(pick.claim, pick.request, pick.alternative),
            driver: id.driver.to_string(),
            pool: id.pool.to_string(),
            device: id.device.to_string(),
            admin_access: wanted.admin_access.filter(|is_admin| *is_admin),
            tolerations: wanted.tolerations.clone(),
            binding_conditions: device.binding_conditions.clone(),
            binding_failure_conditions: device.binding_failure_conditions.clone(),
            // Given when the claim is reserved: chance has no say in a search.
            share_id: pick.used.as_ref().map(|_| String::new()),
            consumed_capacity: used
                .map(|(name, amount)| (name.clone(), Size(*amount)))
                .collect(),
        }
    }

    /// `request`, or `request/alternative`.
    fn request_name(&self, claim: usize, request: usize, alternative: usize) -> String {
        let request = &self.search.claims[claim].claim.spec.devices.requests[request];
        match (&request.exactly, request.first_available.get(alternative)) {
            (None, Some(part)) => format!("{}/{}", request.name, part.name),
            _ => request.name.clone(),
        }
    }

    /// The nodes that can use all devices of a claim; `None` for all.
    fn node_selector(
        &self,
        claim: usize,
        node: &NodeInfo,
    ) -> Result<Option<NodeSelector>, Failure> {
        let mut all = NodeSelectorTerm::default();
        for pick in self.picks(claim) {
            let (is_of_node, selector) = self.search.pools.place(pick.device);
            if is_of_node || self.search.pools.device(pick.device).binds_to_node {
                let term = NodeSelectorTerm {
                    match_fields: Some(vec![NodeSelectorRequirement {
                        key: "metadata.name".to_owned(),
                        operator: "In".to_owned(),
                        values: Some(vec![node.name().to_owned()]),
                    }]),
                    ..NodeSelectorTerm::default()
                };
                return Ok(Some(NodeSelector {
                    node_selector_terms: vec![term],
                }));
            }
            match selector.map(|selector| selector.node_selector_terms.as_slice()) {
                None | Some([]) => {}
                Some([term]) => {
                    add(&mut all.match_fields, term.match_fields.as_ref());
                    add(&mut all.match_expressions, term.match_expressions.as_ref());
                }
                Some(terms) => {
                    return Err(Failure::Claim(format!(
                        "create NodeSelector for claim {}: unsupported ResourceSlice.NodeSelector with {} terms",
                        self.search.claims[claim].claim.name(),
                        terms.len()
                    )));
                }
            }
        }
        let is_empty = all.match_fields.is_none() && all.match_expressions.is_none();
        Ok((!is_empty).then(|| NodeSelector {
            node_selector_terms: vec![all],
        }))
    }

    /// What drivers are told: the configuration of classes and of the claim, for the requests that it is about.
    fn configuration(&self, claim: usize) -> Vec<Configuration> {
        let spec = &self.search.claims[claim].claim.spec.devices;
        let choices: Vec<usize> = self.choices(claim).collect();
        let mut all: Vec<Configuration> = Vec::new();
        let mut classes: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
        for (request, chosen) in choices.iter().enumerate() {
            let wanted = self.search.wanted(claim, request, *chosen);
            let name = self.request_name(claim, request, *chosen);
            let class = wanted.device_class_name.as_str();
            if let Some((_, range)) = classes.iter().find(|(known, _)| *known == class) {
                for config in &mut all[range.clone()] {
                    config.requests.push(name.clone());
                }
                continue;
            }
            let start = all.len();
            let configs = self.search.classes.get(class).into_iter();
            let configs = configs.flat_map(|class| &class.spec.config);
            all.extend(configs.map(|config| Configuration {
                source: "FromClass".to_owned(),
                requests: vec![name.clone()],
                opaque: config.opaque.clone(),
            }));
            classes.push((class, start..all.len()));
        }
        // Of the requests of a list, what is said of the chosen alternative.
        let is_for = |requests: &[String], request: usize| {
            let base = &spec.requests[request].name;
            let part = self.request_name(claim, request, choices[request]);
            requests.iter().any(|name| name == base || *name == part)
        };
        for config in &spec.config {
            let is_about = config.requests.is_empty()
                || (0..choices.len()).any(|request| is_for(&config.requests, request));
            if is_about {
                all.push(Configuration {
                    source: "FromClaim".to_owned(),
                    ..config.clone()
                });
            }
        }
        for config in &mut all {
            if (0..choices.len()).all(|request| is_for(&config.requests, request)) {
                // Said of none, it holds for all.
                config.requests.clear();
            }
        }
        all
    }
}

fn add(to: &mut Option<Vec<NodeSelectorRequirement>>, more: Option<&Vec<NodeSelectorRequirement>>) {
    for requirement in more.into_iter().flatten() {
        let known = to.get_or_insert_default();
        if !known.contains(requirement) {
            known.push(requirement.clone());
        }
    }
}
