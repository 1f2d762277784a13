//! Validation of the status of Services.

use k8s_openapi::api::core::v1::{LoadBalancerStatus, ServiceSpec};

use super::kind;
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, list, supported, text},
        ip_fields,
    },
};

/// Where a load balancer is reached, if the service has one. Addresses of the old status stay good.
pub(super) fn validate(
    status: &LoadBalancerStatus,
    old: &LoadBalancerStatus,
    spec: &ServiceSpec,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let before = list(&old.ingress).iter().map(|point| text(&point.ip));
    let before: Vec<&str> = before.collect();
    let (all, path) = (list(&status.ingress), path.child("ingress"));
    if !all.is_empty() && kind(spec) != "LoadBalancer" {
        let text = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![field::forbidden(path, text)];
    }
    for (index, ingress) in all.iter().enumerate() {
        let path = path.index(index);
        if !blank(&ingress.ip) {
            let ip = text(&ingress.ip);
            errors.extend(ip_fields::legacy_ip(ip, &before, path.child("ip")));
        }
        let at = path.child("ipMode");
        match (&ingress.ip_mode, blank(&ingress.ip)) {
            (None, true) => {}
            (None, false) => {
                let text = "must be specified when `ip` is set";
                errors.push(field::required(at, text));
            }
            (Some(_), true) => {
                let text = "may not be specified when `ip` is not set";
                errors.push(field::forbidden(at, text));
            }
            (Some(mode), false) => errors.extend(supported(mode, &["Proxy", "VIP"], at)),
        }
        let host = text(&ingress.hostname);
        errors.extend(ip_fields::no_ip(host, &path.child("hostname")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::{core::service::ServiceRules, typed::KindRules};

    fn balanced(sort: &str, ingress: Value) -> Service {
        let mut service = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"type": sort, "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": ingress}},
        }))
        .unwrap();
        ServiceRules.default(&mut service);
        service
    }

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_a_load_balancer_is_reached_from_outside() {
        let found = |sort: &str, ingress: Value| {
            let service = balanced(sort, ingress);
            told(ServiceRules.validate_status_update(&service, &service))
        };
        let ip = json!([{"ip": "1.2.3.4"}]);
        assert_eq!(found("LoadBalancer", ip.clone()), [""; 0]);
        assert_eq!(found("ClusterIP", json!([])), [""; 0]);
        for sort in ["ClusterIP", "NodePort", "ExternalName"] {
            assert_eq!(
                found(sort, ip.clone()),
                [
                    "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
                ]
            );
        }
        for (ingress, told) in [
            (
                json!({"hostname": "a", "ipMode": "VIP"}),
                "ipMode: Forbidden: may not be specified when `ip` is not set",
            ),
            (
                json!({"hostname": "a", "ipMode": "X"}),
                "ipMode: Forbidden: may not be specified when `ip` is not set",
            ),
            (
                json!({"ip": "1.2.3.4", "ipMode": "X"}),
                r#"ipMode: Unsupported value: "X": supported values: "Proxy", "VIP""#,
            ),
        ] {
            let told = format!("status.loadBalancer.ingress[0].{told}");
            assert_eq!(found("LoadBalancer", json!([ingress])), [told]);
        }
    }

    #[test]
    fn an_address_of_a_load_balancer_is_its_own_unless_said_otherwise() {
        let modes = |sort: &str| {
            let ingress =
                json!([{"ip": "1.2.3.4"}, {"ip": "1.2.3.5", "ipMode": "Proxy"}, {"hostname": "a"}]);
            let status = balanced(sort, ingress).status.unwrap();
            let all = status.load_balancer.unwrap().ingress.unwrap();
            all.into_iter().map(|one| one.ip_mode).collect::<Vec<_>>()
        };
        let said = |mode: &str| Some(mode.to_owned());
        assert_eq!(modes("LoadBalancer"), [said("VIP"), said("Proxy"), None]);
        assert_eq!(modes("ClusterIP"), [None, said("Proxy"), None]);
    }
}
