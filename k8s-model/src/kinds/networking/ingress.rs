//! The rules of Ingresses.

use k8s_openapi::api::{
    core::v1::TypedLocalObjectReference,
    networking::v1::{
        HTTPIngressPath, Ingress, IngressBackend, IngressLoadBalancerIngress, IngressRule,
        IngressSpec, IngressStatus,
    },
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            blank, dns_label, dns_subdomain, json, list, messages, port_number, same, supported,
            text,
        },
        ip_fields,
        typed::KindRules,
    },
    names,
    schema::MINOR,
};

/// Named the class before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The rules of Ingresses.
pub(crate) struct IngressRules;

/// What is overlooked in an Ingress, as the one before it had the like.
#[derive(Default)]
struct Overlooked {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Overlooked {
    /// Older versions did not look at the names of secrets, nor at rules for all hosts of a domain.
    fn with(old: &Ingress) -> Self {
        let spec = old.spec.as_ref();
        let path = Path::default();
        let mut tls = spec.map(|spec| list(&spec.tls)).unwrap_or_default().iter();
        let mut rules = spec
            .map(|spec| list(&spec.rules))
            .unwrap_or_default()
            .iter();
        Overlooked {
            secret_names: tls.any(|tls| {
                let name = text(&tls.secret_name);
                !name.is_empty() && !names::dns_subdomain(name, false).is_empty()
            }),
            wildcard_rules: rules
                .any(|rule| is_wildcard(rule) && !validate_http(rule, &path).is_empty()),
        }
    }
}

impl IngressRules {
    fn validate_spec(ingress: &Ingress, overlooked: &Overlooked) -> ErrorList {
        let path = Path::new("spec");
        let empty = IngressSpec::default();
        let spec = ingress.spec.as_ref().unwrap_or(&empty);
        let rules = list(&spec.rules);
        let mut errors = ErrorList::new();
        if rules.is_empty() && spec.default_backend.is_none() {
            errors.push(field::invalid(
                path.clone(),
                json(&spec.rules),
                "either `defaultBackend` or `rules` must be specified",
            ));
        }
        if let Some(backend) = &spec.default_backend {
            errors.extend(self::backend(backend, &path.child("defaultBackend")));
        }
        for (index, rule) in rules.iter().enumerate() {
            let path = path.child("rules").index(index);
            let name = text(&rule.host);
            if !name.is_empty() {
                if ip_fields::parse(name).is_some() {
                    errors.push(field::invalid(
                        path.child("host"),
                        name,
                        "must be a DNS name, not an IP address",
                    ));
                }
                errors.extend(host(name, &path.child("host")));
            }
            if !(overlooked.wildcard_rules && is_wildcard(rule)) {
                errors.extend(validate_http(rule, &path));
            }
        }
        for (index, tls) in list(&spec.tls).iter().enumerate() {
            let path = path.child("tls").index(index);
            for (index, name) in list(&tls.hosts).iter().enumerate() {
                errors.extend(host(name, &path.child("hosts").index(index)));
            }
            if !blank(&tls.secret_name) && !overlooked.secret_names {
                errors.extend(dns_subdomain(
                    text(&tls.secret_name),
                    path.child("secretName"),
                ));
            }
        }
        if let Some(class) = &spec.ingress_class_name {
            errors.extend(dns_subdomain(class, path.child("ingressClassName")));
        }
        errors
    }
}

impl KindRules for IngressRules {
    type Kind = Ingress;

    const GENERATION: bool = true;

    fn spec_changed(&self, new: &Ingress, old: &Ingress) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, ingress: &mut Ingress) {
        ingress.status = Some(IngressStatus {
            load_balancer: Some(Default::default()),
        });
    }

    fn validate(&self, ingress: &Ingress) -> ErrorList {
        let mut errors = Self::validate_spec(ingress, &Overlooked::default());
        let annotations = ingress.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|map| map.get(CLASS_ANNOTATION));
        let class = ingress
            .spec
            .as_ref()
            .and_then(|spec| spec.ingress_class_name.as_ref());
        if let (Some(annotation), Some(class)) = (annotation, class)
            && annotation != class
        {
            errors.push(field::invalid(
                Path::new("annotations").child(CLASS_ANNOTATION),
                annotation.as_str(),
                "must match `ingressClassName` when both are specified",
            ));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut Ingress, old: &Ingress) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &Ingress, old: &Ingress) -> ErrorList {
        Self::validate_spec(new, &Overlooked::with(old))
    }

    fn prepare_for_status_update(&self, new: &mut Ingress, old: &Ingress) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &Ingress, old: &Ingress) -> ErrorList {
        let path = Path::new("status").child("loadBalancer").child("ingress");
        let before: Vec<&str> = points(old).iter().map(|point| text(&point.ip)).collect();
        let mut errors = ErrorList::new();
        for (index, point) in points(new).iter().enumerate() {
            let path = path.index(index);
            let ip = text(&point.ip);
            if !ip.is_empty() {
                errors.extend(ip_fields::legacy_ip(ip, &before, path.child("ip")));
            }
            let hostname = text(&point.hostname);
            errors.extend(ip_fields::no_ip(hostname, &path.child("hostname")));
        }
        errors
    }

    fn warnings(&self, ingress: &Ingress) -> Vec<String> {
        let annotations = ingress.metadata.annotations.as_ref();
        let annotated = annotations.is_some_and(|map| map.contains_key(CLASS_ANNOTATION));
        let spec = ingress.spec.as_ref();
        if annotated && spec.is_none_or(|spec| spec.ingress_class_name.is_none()) {
            return vec![format!(
                "annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    /// Only new ones are advised on.
    fn update_warnings(&self, _new: &Ingress, _old: &Ingress) -> Vec<String> {
        Vec::new()
    }
}

/// Where an Ingress is reached.
fn points(ingress: &Ingress) -> &[IngressLoadBalancerIngress] {
    let status = ingress.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    balancer.map_or(&[], |balancer| list(&balancer.ingress))
}

fn host(name: &str, path: &Path) -> ErrorList {
    if name.contains('*') {
        messages(path, name, names::wildcard_dns_subdomain(name))
    } else {
        dns_subdomain(name, path.clone())
    }
}

/// Whether a rule is for all hosts of a domain.
fn is_wildcard(rule: &IngressRule) -> bool {
    text(&rule.host).contains('*')
}

/// The paths of a rule.
fn validate_http(rule: &IngressRule, path: &Path) -> ErrorList {
    let Some(http) = &rule.http else {
        return ErrorList::new();
    };
    let path = path.child("http").child("paths");
    let mut errors = ErrorList::new();
    if http.paths.is_empty() {
        errors.push(field::required(path.clone(), ""));
    }
    for (index, http_path) in http.paths.iter().enumerate() {
        errors.extend(validate_path(http_path, &path.index(index)));
    }
    errors
}

fn validate_path(http: &HTTPIngressPath, path: &Path) -> ErrorList {
    let value = text(&http.path);
    let at = path.child("path");
    let mut errors = ErrorList::new();
    let mut invalid = |detail: String| {
        errors.push(field::invalid(at.clone(), value, detail));
    };
    match http.path_type.as_str() {
        "" => {
            return vec![field::required(
                path.child("pathType"),
                "pathType must be specified",
            )];
        }
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                invalid("must be an absolute path".to_owned());
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(sequence) {
                    invalid(format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if value.ends_with(suffix) {
                    invalid(format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                invalid("must be an absolute path".to_owned());
            }
        }
        other => errors.extend(supported(
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
            path.child("pathType"),
        )),
    }
    errors.extend(backend(&http.backend, &path.child("backend")));
    errors
}

fn backend(backend: &IngressBackend, path: &Path) -> ErrorList {
    let wrong = |detail: &str| vec![field::invalid(path.clone(), "", detail)];
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => wrong("cannot set both resource and service backends"),
        (None, None) => wrong("resource or service backend is required"),
        (Some(resource), None) => local_reference(resource, &path.child("resource")),
        (None, Some(service)) => {
            let at = path.child("service");
            let mut errors = service_name(&service.name, at.child("name"));
            let port = service.port.clone().unwrap_or_default();
            let (name, number) = (text(&port.name), port.number.unwrap_or_default());
            let at = at.child("port");
            errors.extend(match (name.is_empty(), number) {
                (true, 0) => vec![field::required(
                    path.clone(),
                    "port name or number is required",
                )],
                (true, number) => port_number(number, at.child("number")),
                (false, 0) => messages(&at.child("name"), name, names::port_name(name)),
                (false, _) => wrong("cannot set both port name & port number"),
            });
            errors
        }
    }
}

/// The name of a Service, which may begin with a digit since 1.36 (`RelaxedServiceNameValidation`).
fn service_name(name: &str, path: Path) -> ErrorList {
    if name.is_empty() {
        vec![field::required(path, "")]
    } else if MINOR >= 36 {
        dns_label(name, path)
    } else {
        messages(&path, name, names::dns1035(name, false))
    }
}

/// A reference to an object of any kind.
pub(super) fn local_reference(reference: &TypedLocalObjectReference, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(group) = &reference.api_group {
        errors.extend(dns_subdomain(group, path.child("apiGroup")));
    }
    for (value, name) in [(&reference.kind, "kind"), (&reference.name, "name")] {
        let at = path.child(name);
        if value.is_empty() {
            errors.push(field::required(at, ""));
        } else {
            errors.extend(messages(
                &at,
                value.as_str(),
                names::path_segment(value, false),
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_has_a_type_and_a_backend() {
        let ingress: Ingress = serde_json::from_value(json!({"metadata": {}, "spec": {"rules":
            [{"http": {"paths": [{"path": "a", "pathType": "Prefix", "backend": {}}]}}]}}))
        .unwrap();
        let errors: Vec<_> = IngressRules
            .validate(&ingress)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                r#"spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path"#,
                r#"spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required"#,
            ]
        );
    }

    #[test]
    fn a_new_class_is_told_in_its_field() {
        let ingress = |annotations: serde_json::Value, spec: serde_json::Value| -> Ingress {
            let metadata = json!({"annotations": annotations});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let annotated = json!({CLASS_ANNOTATION: "c"});
        let old = ingress(annotated.clone(), json!({}));
        assert_eq!(
            IngressRules.warnings(&old),
            [
                r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#
            ]
        );
        assert_eq!(IngressRules.update_warnings(&old, &old), [""; 0]);
        let both = ingress(annotated, json!({"ingressClassName": "c"}));
        assert_eq!(IngressRules.warnings(&both), [""; 0]);
        let none = ingress(json!({}), json!({}));
        assert_eq!(IngressRules.warnings(&none), [""; 0]);
    }

    #[test]
    fn a_service_may_begin_with_a_digit() {
        let backend = |name: &str| {
            let service = json!({"service": {"name": name, "port": {"number": 80}}});
            let backend = serde_json::from_value(service).unwrap();
            super::backend(&backend, &Path::new("backend")).len()
        };
        assert_eq!(backend("1web"), 0);
        assert_eq!(backend("web"), 0);
        assert_eq!(backend("web.default"), 1);
        assert_eq!(backend(""), 1);
    }

    #[test]
    fn a_reference_names_a_kind_and_an_object() {
        let reference = serde_json::from_value(json!({"kind": "", "name": ""})).unwrap();
        let found = local_reference(&reference, &Path::new("r"));
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["r.kind: Required value", "r.name: Required value"]);
    }

    #[test]
    fn addresses_that_were_there_stay_good() {
        let ingress = |ips: &[&str]| -> Ingress {
            let points: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            let status = json!({"loadBalancer": {"ingress": points}});
            serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
        };
        const MAPPED: &str = "::ffff:1.2.3.4";
        let (none, mapped) = (ingress(&[]), ingress(&["10.0.0.1", MAPPED]));
        let found = IngressRules.validate_status_update(&mapped, &none);
        assert_eq!(
            found[0].to_string(),
            r#"status.loadBalancer.ingress[1].ip: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address"#
        );
        assert_eq!(found.len(), 1);
        let again = ingress(&[MAPPED]);
        assert_eq!(IngressRules.validate_status_update(&again, &mapped), []);
    }

    fn ingress(spec: serde_json::Value) -> Ingress {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_that_are_not_there_are_shown_so() {
        for (spec, shown) in [(json!({}), "null"), (json!({"rules": []}), "[]")] {
            let told = format!(
                "spec: Invalid value: {shown}: either `defaultBackend` or `rules` must be specified"
            );
            assert_eq!(texts(IngressRules.validate(&ingress(spec))), [told]);
        }
    }

    #[test]
    fn what_older_versions_did_not_look_at_may_stay() {
        let secret = |name: &str| {
            let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
            ingress(json!({"defaultBackend": backend, "tls": [{"secretName": name}]}))
        };
        let update =
            |new: &Ingress, old: &Ingress| texts(IngressRules.validate_update(new, old)).len();
        assert_eq!(update(&secret("a_b"), &secret("A")), 0);
        assert_eq!(update(&secret("a_b"), &secret("a")), 1);
        assert_eq!(update(&secret("a_b"), &secret("")), 1);
        assert_eq!(IngressRules.validate(&secret("a_b")).len(), 1);

        let rule = |host: &str, path: &str| {
            let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
            let path = json!({"path": path, "pathType": "Prefix", "backend": backend});
            ingress(json!({"rules": [{"host": host, "http": {"paths": [path]}}]}))
        };
        let bad = rule("*.a.b", "x");
        assert_eq!(IngressRules.validate(&bad).len(), 1);
        assert_eq!(update(&bad, &bad), 0);
        assert_eq!(update(&bad, &rule("*.a.b", "/")), 1);
        // What is wrong with a host, or with other rules, is told all the same.
        assert_eq!(update(&rule("*.*", "x"), &bad), 1);
        assert_eq!(update(&rule("a.b", "x"), &bad), 1);
        assert_eq!(update(&bad, &rule("a.b", "x")), 1);
    }
}
