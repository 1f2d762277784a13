//! The group `apiregistration.k8s.io`: APIServices.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, dns_subdomain, messages, one_of, port_number, text},
        typed::KindRules,
    },
    metadata, names,
};

/// The rules of APIServices.
pub(crate) struct ApiServiceRules;

impl KindRules for ApiServiceRules {
    type Kind = APIService;

    const QUALIFIED_FINALIZERS: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, service: &mut APIService) {
        let spec = service.spec.as_mut();
        if let Some(reference) = spec.and_then(|spec| spec.service.as_mut()) {
            reference.port.get_or_insert(443);
        }
    }

    fn prepare_for_create(&self, service: &mut APIService) {
        service.status = None;
    }

    fn validate(&self, service: &APIService) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = service.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        let (group, version) = (text(&spec.group), text(&spec.version));
        if group.is_empty() && version != "v1" {
            let problem = "only v1 may have an empty group and it better be legacy kube";
            errors.push(field::required(path.child("group"), problem));
        }
        if !group.is_empty() {
            errors.extend(dns_subdomain(group, path.child("group")));
        }
        let problems = names::dns1035(version, false);
        errors.extend(messages(&path.child("version"), version, problems));
        for (key, value, most) in [
            ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
            ("versionPriority", spec.version_priority, 1000),
        ] {
            if value <= 0 || value > most {
                let problem = format!("must be positive and less than {most}");
                errors.push(field::invalid(path.child(key), value, problem));
            }
        }
        let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
        let insecure = spec.insecure_skip_tls_verify == Some(true);
        let insecure_path = path.child("insecureSkipTLSVerify");
        let Some(reference) = &spec.service else {
            if bundle > 0 {
                let problem = "local APIServices may not have a caBundle";
                let bundle = format!("{bundle} bytes");
                errors.push(field::invalid(path.child("caBundle"), bundle, problem));
            }
            if insecure {
                let problem = "local APIServices may not have insecureSkipTLSVerify";
                errors.push(field::invalid(insecure_path, true, problem));
            }
            return errors;
        };
        let path = path.child("service");
        for (key, value) in [
            ("namespace", &reference.namespace),
            ("name", &reference.name),
        ] {
            if blank(value) {
                errors.push(field::required(path.child(key), ""));
            }
        }
        if !port_number(reference.port.unwrap_or_default(), path.child("port")).is_empty() {
            let problem = "port is not valid: must be between 1 and 65535, inclusive";
            let port = reference.port.unwrap_or_default();
            errors.push(field::invalid(path.child("port"), port, problem));
        }
        if insecure && bundle > 0 {
            let problem = "may not be true if caBundle is present";
            errors.push(field::invalid(insecure_path, true, problem));
        }
        errors
    }

    fn validate_update(&self, new: &APIService, _old: &APIService) -> ErrorList {
        let name = text(&new.metadata.name);
        let path = Path::new("metadata").child("name");
        let mut errors = messages(&path, name, self.validate_new_name(new, name, false));
        errors.extend(self.validate(new));
        errors
    }

    fn prepare_for_update(&self, new: &mut APIService, old: &APIService) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut APIService, old: &APIService) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(&self, new: &APIService, _old: &APIService) -> ErrorList {
        let conditions = new.status.as_ref().and_then(|s| s.conditions.as_ref());
        let path = Path::new("status").child("conditions");
        conditions
            .into_iter()
            .flatten()
            .enumerate()
            .flat_map(|(i, condition)| {
                let path = path.index(i).child("status");
                one_of(&condition.status, &["True", "False", "Unknown"], path)
            })
            .collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }

    fn validate_new_name(&self, service: &APIService, name: &str, prefix: bool) -> Vec<String> {
        let problems = self.validate_name(name, prefix);
        if !problems.is_empty() {
            return problems;
        }
        let spec = service.spec.as_ref();
        let part = |of: fn(&APIServiceSpec) -> &Option<String>| spec.map_or("", |s| text(of(s)));
        let wanted = format!("{}.{}", part(|s| &s.version), part(|s| &s.group));
        match name == wanted {
            true => Vec::new(),
            false => vec![format!(
                "must be `spec.version+\".\"+spec.group`: {wanted:?}"
            )],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn errors(name: &str, spec: Value) -> Vec<String> {
        let service = json!({"metadata": {"name": name}, "spec": spec});
        let mut service: APIService = serde_json::from_value(service).unwrap();
        ApiServiceRules.default(&mut service);
        ApiServiceRules
            .validate_update(&service, &service)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_service_is_named_after_what_it_serves() {
        let spec = json!({
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000,
            "versionPriority": 200, "service": {"namespace": "ns", "name": "api"}, "caBundle": "eA==",
        });
        assert_eq!(errors("v1alpha1.wardle.example.com", spec.clone()), [""; 0]);
        let found = errors("wardle", spec.clone());
        assert!(
            found[0].contains("must be `spec.version+\".\"+spec.group`"),
            "{found:?}"
        );
        let mut both = spec;
        both["insecureSkipTLSVerify"] = true.into();
        let found = errors("v1alpha1.wardle.example.com", both);
        assert!(
            found[0].contains("may not be true if caBundle is present"),
            "{found:?}"
        );
    }

    #[test]
    fn a_local_one_has_nothing_to_trust_and_priorities_are_bounded() {
        let found = errors(
            "v1.a.b",
            json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 1001,
                "insecureSkipTLSVerify": true}),
        );
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
