//! ResourceClaims.

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimSpec};

use super::{
    alpha,
    config::{CONFIGS, configuration},
    lists::each,
    requests::{self, Requests},
    status, taints,
};
use crate::{
    field::{ErrorList, Path},
    kinds::{
        checks::{list, same, slot, slot_mut},
        declared::Declared,
        typed::KindRules,
    },
    metadata,
};

/// The rules of ResourceClaims.
pub(crate) struct ResourceClaimRules;

impl KindRules for ResourceClaimRules {
    type Kind = ResourceClaim;

    fn default(&self, claim: &mut ResourceClaim) {
        defaults(slot_mut(&mut claim.spec));
        let allocation = claim.status.as_mut().and_then(|status| status.allocation.as_mut());
        let devices = allocation.and_then(|allocation| allocation.devices.as_mut());
        for result in devices.into_iter().flat_map(|devices| &mut devices.results).flatten() {
            taints::default_tolerations(&mut result.tolerations);
        }
    }

    fn prepare_for_create(&self, claim: &mut ResourceClaim) {
        claim.status = None;
        alpha::drop_of_claim(slot_mut(&mut claim.spec), None);
    }

    fn validate(&self, claim: &ResourceClaim) -> ErrorList {
        spec(slot(&claim.spec), &Path::new("spec"))
    }

    fn prepare_for_update(&self, new: &mut ResourceClaim, old: &ResourceClaim) {
        new.status.clone_from(&old.status);
        alpha::drop_of_claim(slot_mut(&mut new.spec), slot(&old.spec));
    }

    /// What is there was checked before, and nothing of it may change.
    fn validate_update(&self, _new: &ResourceClaim, _old: &ResourceClaim) -> ErrorList {
        ErrorList::new()
    }

    fn declared(&self, new: &ResourceClaim, old: Option<&ResourceClaim>) -> ErrorList {
        let Some(old) = old.filter(|old| !same(&new.spec, &old.spec)) else {
            return ErrorList::new();
        };
        let old = with_defaults(old).spec;
        Declared::of(&new.spec, Some(&old), Path::new("spec")).immutable().found()
    }

    fn prepare_for_status_update(&self, new: &mut ResourceClaim, old: &ResourceClaim) {
        new.spec.clone_from(&old.spec);
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
        status::drop_deallocated(new, old);
        alpha::drop_of_status(new, old);
    }

    fn validate_status_update(&self, new: &ResourceClaim, old: &ResourceClaim) -> ErrorList {
        status::changed(new, &with_defaults(old))
    }
}

/// A claim as it would come today: what is stored may be older than some of its defaults.
fn with_defaults(old: &ResourceClaim) -> ResourceClaim {
    let mut old = old.clone();
    ResourceClaimRules.default(&mut old);
    old
}

/// Fills in what requests leave open.
pub(super) fn defaults(spec: Option<&mut ResourceClaimSpec>) {
    let requests = spec.and_then(|spec| spec.devices.as_mut()?.requests.as_mut());
    requests.into_iter().flatten().for_each(requests::default);
}

/// What is wrong with what a claim asks for.
pub(super) fn spec(spec: Option<&ResourceClaimSpec>, path: &Path) -> ErrorList {
    let Some(devices) = spec.and_then(|spec| spec.devices.as_ref()) else {
        return ErrorList::new();
    };
    let path = path.child("devices");
    let known = Requests::of(spec);
    let mut out = requests::requests(list(&devices.requests), &path.child("requests"));
    let constraints = list(&devices.constraints);
    out.extend(requests::constraints(constraints, &known, &path.child("constraints")));
    out.extend(each(list(&devices.config), CONFIGS, &path.child("config"), |config, path| {
        let mut out = known.references(list(&config.requests), &path.child("requests"));
        out.extend(configuration(config.opaque.as_ref(), false, path));
        out
    }));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Strategy, kinds::typed::Typed};

    fn found(devices: Value) -> Vec<String> {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": devices}});
        let mut claim: ResourceClaim = serde_json::from_value(claim).unwrap();
        ResourceClaimRules.default(&mut claim);
        let found = ResourceClaimRules.validate(&claim);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_claim_asks_for_stays() {
        let claim = |name: &str, request: Value| -> ResourceClaim {
            let mut request = request;
            request["name"] = name.into();
            let spec = json!({"devices": {"requests": [request]}});
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": spec})).unwrap()
        };
        let short = json!({"exactly": {"deviceClassName": "a"}});
        let full = json!({"exactly": {"deviceClassName": "a", "allocationMode": "ExactCount", "count": 1}});
        let rules = Typed(ResourceClaimRules);
        let found = |new: &ResourceClaim, old: &ResourceClaim| -> Vec<String> {
            rules.validate_update(new, old).iter().map(ToString::to_string).collect()
        };
        assert_eq!(found(&claim("r", full.clone()), &claim("r", short.clone())), [""; 0]);
        assert_eq!(
            found(&claim("s", full.clone()), &claim("r", full)),
            ["spec: Invalid value: null: field is immutable"]
        );
        let old = claim("r", short);
        assert_eq!(rules.validate_subresource_update("status", &old, &old), []);
    }

    fn request(request: Value) -> Vec<String> {
        found(json!({"requests": [request]}))
    }

    #[test]
    fn a_claim_says_which_devices_it_wants_and_how_many() {
        let at = "spec.devices.requests[0]";
        let exactly = |fields: Value| {
            let mut exactly = json!({"deviceClassName": "a"});
            exactly.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            request(json!({"name": "r", "exactly": exactly}))
        };
        assert_eq!(exactly(json!({})), [""; 0]);
        for (fields, text) in [
            (json!({"allocationMode": "All", "count": 2}), ".count: Invalid value: 2: must not be specified when allocationMode is 'All'"),
            (json!({"count": -1}), ".count: Invalid value: -1: must be greater than zero"),
            (json!({"allocationMode": "Some"}), r#".allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount""#),
            (json!({"deviceClassName": ""}), ".deviceClassName: Required value"),
            (json!({"tolerations": [{"operator": "Exists", "value": "a"}]}), r#".tolerations[0].value: Invalid value: "a": must be empty for operator `Exists`"#),
            (json!({"selectors": vec![json!({}); 33]}), ".selectors: Too many: 33: must have at most 32 items"),
            (json!({"selectors": [{}]}), ".selectors[0].cel: Required value"),
        ] {
            assert_eq!(exactly(fields), [format!("{at}.exactly{text}")]);
        }
        assert_eq!(
            request(json!({"name": "gpu"})),
            [format!("{at}: Required value: exactly one of `exactly` or `firstAvailable` is required")]
        );
        let both = json!({"name": "a", "exactly": {"deviceClassName": ""}, "firstAvailable": [{"name": "", "deviceClassName": ""}]});
        let text = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
        assert_eq!(request(both), [format!(r#"{at}: Invalid value: null: {text}"#)]);
        let unnamed = request(json!({"exactly": {"deviceClassName": "a"}}));
        assert!(unnamed.len() == 1 && unnamed[0].starts_with(&format!(r#"{at}.name: Invalid value: "": a lowercase"#)), "{unnamed:?}");
    }

    #[test]
    fn requests_are_few_and_each_is_called_otherwise() {
        let one = |name: &str| json!({"name": name, "exactly": {"deviceClassName": "a"}});
        let shown = r#"{"exactly":{"allocationMode":"ExactCount","count":1,"deviceClassName":"a"},"name":"r"}"#;
        assert_eq!(
            found(json!({"requests": [one("r"), one("r")]})),
            [format!("spec.devices.requests[1]: Duplicate value: {shown}")]
        );
        let many: Vec<Value> = (0..33).map(|i| one(&format!("-{i}"))).collect();
        assert_eq!(
            found(json!({"requests": many})),
            ["spec.devices.requests: Too many: 33: must have at most 32 items"]
        );
        let part = |name: &str| json!({"name": name, "deviceClassName": "a"});
        let parts = |parts: Vec<Value>| request(json!({"name": "r", "firstAvailable": parts}));
        assert_eq!(parts(vec![part("a"), part("b")]), [""; 0]);
        assert_eq!(parts(vec![part("a"), part("a")]).len(), 1);
        let many = (0..9).map(|i| part(&format!("p{i}"))).collect();
        assert_eq!(
            parts(many),
            ["spec.devices.requests[0].firstAvailable: Too many: 9: must have at most 8 items"]
        );
    }

    #[test]
    fn constraints_and_configurations_speak_of_requests() {
        let requests = json!([{"name": "a", "exactly": {"deviceClassName": "c"}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}]);
        let with = |constraint: Value| found(json!({"requests": requests, "constraints": [constraint]}));
        let matching = |names: Value| with(json!({"requests": names, "matchAttribute": "d/e"}));
        assert_eq!(matching(json!(["a", "b", "b/x"])), [""; 0]);
        let at = "spec.devices.constraints[0]";
        let text = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        for unknown in ["c", "a/x", "b/y", "b/x/z"] {
            assert_eq!(
                matching(json!([unknown])),
                [format!("{at}.requests[0]: Invalid value: {unknown:?}: {text}")]
            );
        }
        assert_eq!(
            matching(json!(["a", "a"])),
            [format!(r#"{at}.requests[1]: Duplicate value: "a""#)]
        );
        assert_eq!(
            with(json!({})),
            [format!(
                r#"{at}: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#
            )]
        );
        for (name, text) in [
            ("a/b/c", r#"Invalid value: "a/b/c": must not contain more than one slash"#.to_owned()),
            ("/b", r#"Invalid value: "": prefix must not be empty"#.to_owned()),
            ("a/", r#"Invalid value: "": name must not be empty"#.to_owned()),
            ("b", r#"Invalid value: "b": a fully qualified name must be a domain and a name separated by a slash"#.to_owned()),
            (&format!("a/{}", "b".repeat(33)), "Too long: may not be more than 32 bytes".to_owned()),
        ] {
            for field in ["matchAttribute", "distinctAttribute"] {
                assert_eq!(with(json!({field: name})), [format!("{at}.{field}: {text}")]);
            }
        }
        assert_eq!(with(json!({"matchAttribute": "A/b"})).len(), 1);
        let config = json!({"requests": ["c"], "opaque": {"driver": "d", "parameters": {}}});
        let several = vec![json!({"opaque": {"driver": "d", "parameters": {}}}); 33];
        assert_eq!(
            found(json!({"requests": requests, "config": [config]})),
            [format!(r#"spec.devices.config[0].requests[0]: Invalid value: "c": {text}"#)]
        );
        assert_eq!(
            found(json!({"requests": requests, "config": several})),
            ["spec.devices.config: Too many: 33: must have at most 32 items"]
        );
    }

    #[test]
    fn what_a_claim_leaves_open_is_filled_in() {
        let tolerations = json!([{"key": "a"}]);
        let part = json!({"name": "p", "deviceClassName": "c", "tolerations": tolerations,
            "capacity": {"requests": {"memory": "1024Mi"}}});
        let claim = json!({"metadata": {"name": "c"},
            "spec": {"devices": {"requests": [{"name": "r", "firstAvailable": [part]}]}},
            "status": {"allocation": {"devices": {"results": [
                {"request": "r/p", "driver": "d", "pool": "p", "device": "e", "tolerations": tolerations}]}}}});
        let old: ResourceClaim = serde_json::from_value(claim).unwrap();
        let mut claim = old.clone();
        ResourceClaimRules.default(&mut claim);
        // Nothing has changed in one that is older than the defaults.
        assert_eq!(ResourceClaimRules.validate_update(&claim, &old), []);
        assert_eq!(ResourceClaimRules.validate_status_update(&claim, &old), []);
        let claim = serde_json::to_value(&claim).unwrap();
        let tolerated = json!([{"key": "a", "operator": "Equal"}]);
        let part = &claim["spec"]["devices"]["requests"][0]["firstAvailable"][0];
        assert_eq!(
            *part,
            json!({"name": "p", "deviceClassName": "c", "allocationMode": "ExactCount", "count": 1,
                "tolerations": tolerated, "capacity": {"requests": {"memory": "1Gi"}}})
        );
        assert_eq!(claim["status"]["allocation"]["devices"]["results"][0]["tolerations"], tolerated);
    }
}
