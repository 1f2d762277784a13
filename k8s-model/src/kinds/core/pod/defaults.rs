//! The defaults of a pod, and of a pod template in another kind.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, EphemeralContainer, HTTPGetAction, ObjectFieldSelector,
        Pod, PodIP, PodSecurityContext, PodSpec, PodStatus, Probe, ResourceRequirements,
        ServiceAccountTokenProjection, Volume,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use regex::Regex;

use crate::kinds::{
    checks::{blank, fill, text},
    core::{
        persistent_volume_claim,
        pod::{pod_level, volumes::in_tree},
    },
    quantities,
};

/// What `defaultMode` is where it is not given: 0644.
const DEFAULT_MODE: i32 = 0o644;

/// How long a pod is given to end where it says less than nothing, in seconds.
const SHORTEST_GRACE: i64 = 1;

/// Defaults a pod: those of its spec, and those that templates do not get.
pub(crate) fn pod(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    if let Some(seconds @ ..0) = &mut spec.termination_grace_period_seconds {
        *seconds = SHORTEST_GRACE;
    }
    let containers = spec.containers.iter_mut();
    for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = &mut container.resources {
            requests_from_limits(resources);
        }
    }
    pod_level::default(spec);
    spec.enable_service_links.get_or_insert(true);
    if spec.host_network == Some(true) {
        let containers = spec.containers.iter_mut();
        for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
            for port in container.ports.iter_mut().flatten() {
                host_port(port);
            }
        }
    }
    pod_spec(spec);
    if let Some(status) = &mut pod.status {
        addresses(status);
    }
}

/// The first of a pod's addresses stands in two fields, of which the older one counts.
fn addresses(status: &mut PodStatus) {
    let (first, all) = (&mut status.pod_ip, &mut status.pod_ips);
    let known = all.as_ref().and_then(|all| all.first());
    match (first.as_deref().filter(|ip| !ip.is_empty()), known) {
        (None, Some(known)) => *first = Some(known.ip.clone()),
        (Some(ip), known) if known.is_none_or(|known| known.ip != ip) => {
            *all = Some(vec![PodIP { ip: ip.to_owned() }]);
        }
        _ => {}
    }
}

/// Defaults a pod's spec, or that of a template.
pub(crate) fn pod_spec(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context
        .get_or_insert_with(PodSecurityContext::default);
    spec.termination_grace_period_seconds.get_or_insert(30);
    service_account_names(spec);
    for flag in [
        &mut spec.host_network,
        &mut spec.host_pid,
        &mut spec.host_ipc,
    ] {
        if *flag == Some(false) {
            *flag = None;
        }
    }
    quantities::normalize(&mut spec.overhead);
    if let Some(resources) = &mut spec.resources {
        resource_requirements(resources);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
    let containers = spec.containers.iter_mut();
    for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
        self::container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        ephemeral_container(container);
    }
}

/// Keeps the old name of `serviceAccountName` in step with it.
pub(crate) fn service_account_names(spec: &mut PodSpec) {
    if blank(&spec.service_account_name) {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else {
        return;
    };
    if limits.is_empty() && resources.requests.is_none() {
        return;
    }
    let requests = resources.requests.get_or_insert_with(BTreeMap::new);
    for (name, limit) in limits {
        requests
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
}

fn host_port(port: &mut ContainerPort) {
    if port.host_port.unwrap_or_default() == 0 {
        port.host_port = Some(port.container_port);
    }
}

/// Containers and ephemeral containers have these fields in common, but no type.
macro_rules! container_fields {
    ($container:expr) => {{
        let container = $container;
        if blank(&container.image_pull_policy) {
            container.image_pull_policy = Some(pull_policy(text(&container.image)).to_owned());
        }
        fill(
            &mut container.termination_message_path,
            "/dev/termination-log",
        );
        fill(&mut container.termination_message_policy, "File");
        for port in container.ports.iter_mut().flatten() {
            fill(&mut port.protocol, "TCP");
            if port.host_port == Some(0) {
                port.host_port = None;
            }
        }
        for variable in container.env.iter_mut().flatten() {
            env(variable);
        }
        resource_requirements(container.resources.get_or_insert_default());
        for probe in [
            &mut container.liveness_probe,
            &mut container.readiness_probe,
            &mut container.startup_probe,
        ] {
            if let Some(probe) = probe {
                self::probe(probe);
            }
        }
        if let Some(lifecycle) = &mut container.lifecycle {
            for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop] {
                if let Some(get) = handler
                    .as_mut()
                    .and_then(|handler| handler.http_get.as_mut())
                {
                    http_get(get);
                }
            }
        }
    }};
}

fn container(container: &mut Container) {
    container_fields!(container);
}

fn ephemeral_container(container: &mut EphemeralContainer) {
    container_fields!(container);
}

fn resource_requirements(resources: &mut ResourceRequirements) {
    quantities::normalize(&mut resources.limits);
    quantities::normalize(&mut resources.requests);
}

fn env(variable: &mut EnvVar) {
    let Some(source) = &mut variable.value_from else {
        return;
    };
    if let Some(field) = &mut source.field_ref {
        field_ref(field);
    }
    if let Some(divisor) = source
        .resource_field_ref
        .as_mut()
        .map(|reference| &mut reference.divisor)
    {
        default_divisor(divisor);
    }
}

fn field_ref(field: &mut ObjectFieldSelector) {
    fill(&mut field.api_version, "v1");
}

/// A divisor that is not given shows as zero, as upstream serialises it.
fn default_divisor(divisor: &mut Option<Quantity>) {
    let divisor = divisor.get_or_insert_with(|| Quantity("0".to_owned()));
    quantities::normalize_one(divisor);
}

/// Defaults a probe.
fn probe(probe: &mut Probe) {
    let number = |value: &mut Option<i32>, default: i32| {
        if value.unwrap_or_default() == 0 {
            *value = Some(default);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(get: &mut HTTPGetAction) {
    fill(&mut get.path, "/");
    fill(&mut get.scheme, "HTTP");
}

/// How long a name of an image is at most, with where it is from.
const LONGEST_NAME: usize = 255;

/// A name of an image, as [distribution](https://pkg.go.dev/github.com/distribution/reference) has it.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    const LABEL: &str = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
    const PART: &str = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let domain = format!(r"{LABEL}(?:\.{LABEL})*(?::[0-9]+)?");
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    let tag = "[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}";
    Regex::new(&format!(
        "^((?:{domain}/)?{PART}(?:/{PART})*)(?::{tag})?(?:@{digest})?$"
    ))
    .expect("the pattern is well formed")
});

fn is_reference(image: &str) -> bool {
    let Some(name) = REFERENCE.captures(image).and_then(|found| found.get(1)) else {
        return false;
    };
    let name = name.as_str();
    let is_digest = image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit());
    let implied = match name.split_once('/') {
        None => "docker.io/library/",
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => "",
        Some(_) => "docker.io/",
    };
    !is_digest && implied.len() + name.len() <= LONGEST_NAME
}

/// When an image is pulled if nothing is said: always for `latest`, else if not present, also of what is no name of one.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    let latest = match name.rsplit_once('@') {
        Some((name, _digest)) => name.ends_with(":latest"),
        None => name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest"),
    };
    if latest && is_reference(image) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn volume(volume: &mut Volume) {
    if has_no_source(volume) {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(empty_dir) = &mut volume.empty_dir
        && let Some(limit) = &mut empty_dir.size_limit
    {
        quantities::normalize_one(limit);
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(DEFAULT_MODE);
        for file in downward.items.iter_mut().flatten() {
            downward_file(&mut file.field_ref, &mut file.resource_field_ref);
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(DEFAULT_MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                service_account_token(token);
            }
            for file in source
                .downward_api
                .iter_mut()
                .flat_map(|downward| downward.items.iter_mut().flatten())
            {
                downward_file(&mut file.field_ref, &mut file.resource_field_ref);
            }
        }
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image
        && blank(&image.pull_policy)
    {
        image.pull_policy = Some(pull_policy(text(&image.reference)).to_owned());
    }
    if let Some(iscsi) = &mut volume.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        in_tree::default_rbd(&mut rbd.pool, &mut rbd.user, &mut rbd.keyring);
    }
    if let Some(disk) = &mut volume.azure_disk {
        in_tree::default_azure_disk(disk);
    }
    if let Some(source) = &mut volume.scale_io {
        in_tree::default_scale_io(&mut source.storage_mode, &mut source.fs_type);
    }
    if let Some(ephemeral) = &mut volume.ephemeral
        && let Some(template) = &mut ephemeral.volume_claim_template
    {
        // It is there in upstream's type, and so is the same whether it was told or not.
        template.metadata.get_or_insert_default();
        persistent_volume_claim::default_spec(&mut template.spec);
    }
}

fn downward_file(
    field: &mut Option<ObjectFieldSelector>,
    resource: &mut Option<k8s_openapi::api::core::v1::ResourceFieldSelector>,
) {
    if let Some(field) = field {
        field_ref(field);
    }
    if let Some(resource) = resource {
        default_divisor(&mut resource.divisor);
    }
}

fn service_account_token(token: &mut ServiceAccountTokenProjection) {
    token.expiration_seconds.get_or_insert(3600);
}

/// Whether a volume says nothing about what it is.
fn has_no_source(volume: &Volume) -> bool {
    *volume
        == Volume {
            name: volume.name.clone(),
            ..Volume::default()
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn defaulted(value: serde_json::Value) -> serde_json::Value {
        let mut object: Pod = serde_json::from_value(value).unwrap();
        pod(&mut object);
        let once = serde_json::to_value(&object).unwrap();
        pod(&mut object);
        assert_eq!(once, serde_json::to_value(&object).unwrap(), "idempotent");
        once
    }

    #[test]
    fn the_latest_image_is_always_pulled() {
        let digest = format!("i@sha256:{}", "0".repeat(64));
        for image in ["i", "i:latest", "a.b:5000/c/i", "docker.io/i:latest"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        let (long, hexadecimal) = ("x".repeat(240), "0".repeat(64));
        for image in [
            "i:1",
            "a.b:5000/c/i:1",
            &digest,
            "",
            "A_b!",
            "I",
            "a//b",
            "i:",
            "a..b",
            &long,
            &hexadecimal,
        ] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }

    #[test]
    fn a_pod_is_given_no_less_than_a_second_to_end() {
        for (given, kept) in [(-1, 1), (i64::MIN, 1), (0, 0), (5, 5)] {
            let spec = json!({"containers": [], "terminationGracePeriodSeconds": given});
            let pod = defaulted(json!({"metadata": {}, "spec": spec}));
            assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], kept);
        }
        // Templates keep what they say.
        let mut template: PodSpec =
            serde_json::from_value(json!({"containers": [], "terminationGracePeriodSeconds": -1}))
                .unwrap();
        pod_spec(&mut template);
        assert_eq!(template.termination_grace_period_seconds, Some(-1));
    }

    #[test]
    fn an_ordinary_pod_gets_upstreams_defaults() {
        let pod = defaulted(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {
                "containers": [{
                    "name": "c", "image": "nginx:1.25", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
                    "livenessProbe": {"httpGet": {"port": 80}},
                }],
                "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}},
                    {"name": "h", "hostPath": {"path": "/x"}}],
            },
        }));
        assert_eq!(
            pod["spec"],
            json!({
                "containers": [{
                    "name": "c", "image": "nginx:1.25", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {
                        "limits": {"cpu": "500m", "memory": "1Gi"},
                        "requests": {"cpu": "500m", "memory": "1Gi"},
                    },
                    "livenessProbe": {
                        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                        "failureThreshold": 3,
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true,
                "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
                "volumes": [
                    {"name": "v", "emptyDir": {}},
                    {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
                    {"name": "h", "hostPath": {"path": "/x", "type": ""}},
                ],
            })
        );
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        let digest = "0123".repeat(16);
        let [plain, latest] = ["", ":latest"].map(|tag| format!("nginx{tag}@sha256:{digest}"));
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1", "IfNotPresent"),
            (plain.as_str(), "IfNotPresent"),
            (latest.as_str(), "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn host_network_pods_use_their_ports_on_the_host() {
        let pod = defaulted(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"hostNetwork": true,
                "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]},
        }));
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
    }
}
