use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn pod(spec: Value, annotations: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).unwrap()
}

fn found(level: Level, minor: Option<u32>, spec: Value, annotations: Value) -> String {
    let pod = pod(spec, annotations);
    let subject = Subject {
        annotations: pod.metadata.annotations.as_ref(),
        spec: pod.spec.as_ref().unwrap(),
    };
    describe(&run(LevelVersion { level, minor }, &subject))
}

fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        }}],
    })
}

/// The good pod with other fields in the container, and of the pod.
fn with(container: Value, spec: Value) -> Value {
    fn merge(to: &mut Value, from: Value) {
        match (to, from) {
            (Value::Object(to), Value::Object(from)) => {
                for (key, value) in from {
                    merge(to.entry(key).or_insert(Value::Null), value);
                }
            }
            (to, from) => *to = from,
        }
    }
    let mut out = good();
    merge(&mut out["containers"][0], container);
    merge(&mut out, spec);
    out
}

#[test]
fn a_hardened_pod_passes_and_a_plain_one_is_told_all_that_is_missing() {
    assert_eq!(found(Level::Restricted, None, good(), json!({})), "");
    let plain = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(found(Level::Baseline, None, plain.clone(), json!({})), "");
    assert_eq!(
        found(Level::Restricted, None, plain, json!({})),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities \
         (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must \
         set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[test]
fn users_of_its_own_free_a_pod_from_some_checks() {
    const MOUNT: &str =
        "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")";
    const ROOT: &str = "runAsUser=0 (container \"c\" must not set runAsUser=0)";
    const MAY_BE_ROOT: &str =
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)";
    let unmasked = json!({"securityContext": {"procMount": "Unmasked"}});
    let root = json!({"securityContext": {"runAsUser": 0}});
    let may_be_root = json!({"securityContext": {"runAsNonRoot": false}});
    let none = json!({});
    for (level, container, spec, shared, own) in [
        (Level::Baseline, &unmasked, &none, MOUNT, ""),
        (Level::Restricted, &unmasked, &none, MOUNT, MOUNT),
        (Level::Restricted, &root, &none, ROOT, ""),
        (Level::Restricted, &none, &may_be_root, MAY_BE_ROOT, ""),
    ] {
        let found = |minor: Option<u32>, own: Option<bool>| {
            let mut spec = with(container.clone(), spec.clone());
            spec["hostUsers"] = own.map_or(Value::Null, |own| json!(!own));
            found(level, minor, spec, json!({}))
        };
        for minor in [None, Some(37), Some(35)] {
            assert_eq!(found(minor, None), shared, "{minor:?}");
            assert_eq!(found(minor, Some(false)), shared, "{minor:?}");
            assert_eq!(found(minor, Some(true)), own, "{minor:?}");
        }
        assert_eq!(found(Some(34), None), shared);
        assert_eq!(found(Some(34), Some(true)), shared);
    }
}

#[test]
fn each_check_of_the_baseline_forbids_its_field() {
    let security = |value: Value| json!({"securityContext": value});
    for (container, spec, text) in [
        (
            security(json!({"appArmorProfile": {"type": "Unconfined"}})),
            json!({}),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            security(json!({"capabilities": {"add": ["NET_RAW", "CHOWN"]}})),
            json!({}),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        (
            json!({}),
            json!({"hostPID": true, "hostNetwork": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            json!({}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 8080}, {"containerPort": 2, "hostPort": 80}]}),
            json!({}),
            "hostPort (container \"c\" uses hostPorts 80, 8080)",
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 1, "host": "10.0.0.1"}}}),
            json!({}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            security(json!({"privileged": true})),
            json!({}),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            security(json!({"procMount": "Unmasked"})),
            json!({}),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            security(json!({"seLinuxOptions": {"type": "spc_t", "role": "r"}})),
            json!({"securityContext": {"seLinuxOptions": {"user": "u"}}}),
            "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            security(json!({"seccompProfile": {"type": "Unconfined"}})),
            json!({}),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({}),
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            security(json!({"windowsOptions": {"hostProcess": true}})),
            json!({}),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        assert_eq!(
            found(Level::Baseline, None, with(container, spec), json!({})),
            text
        );
    }
}

#[test]
fn each_check_of_the_restricted_level_forbids_its_field() {
    let security = |value: Value| json!({"securityContext": value});
    for (container, spec, text) in [
        (
            security(json!({"allowPrivilegeEscalation": true})),
            json!({}),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            security(json!({"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}})),
            json!({}),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            json!({}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {"server": "s", "path": "/"}}]}),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            security(json!({"runAsNonRoot": false})),
            json!({}),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            security(json!({"runAsUser": 0})),
            json!({"securityContext": {"runAsUser": 0}}),
            "runAsUser=0 (pod and container \"c\" must not set runAsUser=0)",
        ),
        (
            json!({}),
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(
            found(Level::Restricted, None, with(container, spec), json!({})),
            text
        );
    }
}

#[test]
fn a_policy_is_that_of_its_version() {
    let sysctl = with(
        json!({}),
        json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports", "value": "1"}]}}),
    );
    assert_ne!(
        found(Level::Baseline, Some(26), sysctl.clone(), json!({})),
        ""
    );
    assert_eq!(
        found(Level::Baseline, Some(27), sysctl.clone(), json!({})),
        ""
    );
    assert_eq!(found(Level::Baseline, Some(999), sysctl, json!({})), "");
    let root = with(json!({"securityContext": {"runAsUser": 0}}), json!({}));
    assert_eq!(found(Level::Restricted, Some(22), root, json!({})), "");
    let annotation = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
    assert_eq!(
        found(Level::Baseline, Some(18), good(), annotation.clone()),
        r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#
    );
    assert_eq!(found(Level::Baseline, Some(19), good(), annotation), "");
    // What the stricter level doesn't replace yet, the lower one still checks.
    let unconfined = with(
        json!({"securityContext": {"capabilities": {"add": ["NET_RAW"]}}}),
        json!({}),
    );
    assert!(found(Level::Restricted, Some(21), unconfined, json!({})).contains("non-default"));
}

#[test]
fn windows_pods_need_not_set_what_windows_knows_not() {
    let windows = json!({
        "os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "c"}],
    });
    assert_eq!(
        found(Level::Restricted, Some(25), windows.clone(), json!({})),
        ""
    );
    assert_ne!(found(Level::Restricted, Some(24), windows, json!({})), "");
}
