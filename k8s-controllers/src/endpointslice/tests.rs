use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Pod, Service, ServicePort, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};
use proptest::prelude::*;

use super::slices::{Changes, Observed, reconcile};
use crate::common::{compat, fixture, owner};

fn service() -> Service {
    let mut service = Service {
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.0.0.1".to_owned()),
            ip_families: Some(vec!["IPv4".to_owned()]),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: 80,
                ..Default::default()
            }]),
            selector: Some([("app".to_owned(), "web".to_owned())].into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    service.metadata.name = Some("web".to_owned());
    service.metadata.namespace = Some("default".to_owned());
    service.metadata.uid = Some("svc".to_owned());
    service
}

fn pod(number: usize) -> Arc<Pod> {
    let ip = format!("10.1.{}.{}", number / 250, number % 250);
    Arc::new(
        fixture::pod("default", &format!("p{number}"))
            .on("n")
            .ip(&ip)
            .ready("2026-01-01T00:00:00Z")
            .build(),
    )
}

fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    compat::get(&slice.endpoints)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The slices of one Service, with changes applied.
#[derive(Default)]
struct World {
    slices: Vec<EndpointSlice>,
    made: usize,
}

impl World {
    fn decide(&self, service: &Service, pods: &[Arc<Pod>]) -> Changes {
        reconcile(Observed {
            service,
            pods,
            slices: self.slices.iter().cloned().map(Arc::new).collect(),
            zone: &|_| Some(Some("z".to_owned())),
        })
    }

    fn step(&mut self, service: &Service, pods: &[Arc<Pod>]) -> usize {
        let changes = self.decide(service, pods);
        let writes = changes.create.len() + changes.update.len() + changes.delete.len();
        for slice in changes.delete {
            self.slices
                .retain(|known| known.metadata.name != slice.metadata.name);
        }
        for slice in changes.update {
            let known = self
                .slices
                .iter_mut()
                .find(|known| known.metadata.name == slice.metadata.name)
                .unwrap();
            *known = slice;
        }
        for mut slice in changes.create {
            self.made += 1;
            slice.metadata.name = Some(format!("web-{}", self.made));
            self.slices.push(slice);
        }
        writes
    }
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let mut world = World::default();
    assert_eq!(world.step(&service(), &[]), 1);
    assert!(endpoints(&world.slices[0]).is_empty());
    assert_eq!(world.step(&service(), &[]), 0);
    // The first pod moves into it.
    assert_eq!(world.step(&service(), &[pod(1)]), 1);
    assert_eq!(world.slices.len(), 1);
    assert_eq!(endpoints(&world.slices[0]).len(), 1);
}

#[test]
fn a_slice_says_whose_it_is_and_what_state_each_pod_is_in() {
    let mut headless = service();
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
    headless.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
    let dying = fixture::pod("default", "dying")
        .on("n")
        .ip("10.1.0.9")
        .ready("2026-01-01T00:00:00Z")
        .deleting();
    let starting = fixture::pod("default", "starting").on("n").ip("10.1.0.8");
    let mut world = World::default();
    world.step(
        &headless,
        &[pod(1), Arc::new(dying.build()), Arc::new(starting.build())],
    );
    let slice = &world.slices[0];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(labels["service.kubernetes.io/headless"], "");
    assert_eq!(labels["team"], "a");
    let state = |name: &str| {
        let endpoint = endpoints(slice)
            .iter()
            .find(|e| e.target_ref.as_ref().unwrap().name.as_deref() == Some(name))
            .unwrap();
        assert_eq!(
            (endpoint.node_name.as_deref(), endpoint.zone.as_deref()),
            (Some("n"), Some("z"))
        );
        let conditions = endpoint.conditions.clone().unwrap();
        (
            conditions.ready.unwrap(),
            conditions.serving.unwrap(),
            conditions.terminating.unwrap(),
        )
    };
    assert_eq!(state("p1"), (true, true, false));
    assert_eq!(state("dying"), (false, true, true));
    assert_eq!(state("starting"), (false, false, false));
}

#[test]
fn a_pod_on_an_unknown_node_is_left_out_unless_not_ready_pods_are_published() {
    let mut published = service();
    published.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    for (service, endpoint_count, skipped) in [(service(), 0, 1), (published, 1, 0)] {
        let pods = [pod(1)];
        let changes = reconcile(Observed {
            service: &service,
            pods: &pods,
            slices: Vec::new(),
            zone: &|_| None,
        });
        assert_eq!(endpoints(&changes.create[0]).len(), endpoint_count);
        assert_eq!(changes.skipped.len(), skipped);
    }
}

#[test]
fn one_pod_of_250_costs_one_write() {
    let mut world = World::default();
    let pods: Vec<_> = (0..250).map(pod).collect();
    assert_eq!(world.step(&service(), &pods), 3);
    assert_eq!(world.step(&service(), &pods[1..]), 1);
    assert_eq!(world.step(&service(), &pods), 1);
}

proptest! {
    /// Whichever pods come and go: every pod is in exactly one slice, no slice is overfull, and a
    /// second look writes nothing.
    #[test]
    fn slices_hold_exactly_the_pods(rounds in proptest::collection::vec(
        proptest::collection::btree_set(0usize..400, 0..330), 1..5)) {
        let mut world = World::default();
        for round in rounds {
            let pods: Vec<_> = round.iter().map(|number| pod(*number)).collect();
            world.step(&service(), &pods);
            let mut names: Vec<_> = world.slices.iter().flat_map(endpoints)
                .map(|endpoint| endpoint.target_ref.as_ref().unwrap().name.clone().unwrap()).collect();
            names.sort();
            let mut expected: Vec<_> = pods.iter().map(|pod| owner::name(&pod.metadata).to_owned()).collect();
            expected.sort();
            prop_assert_eq!(names, expected);
            prop_assert!(world.slices.iter().all(|slice| endpoints(slice).len() <= 100));
            prop_assert!(!world.slices.is_empty());
            prop_assert_eq!(world.step(&service(), &pods), 0, "a second look writes nothing");
        }
    }
}
