//! What asks for rights of its own.

use super::*;

#[tokio::test]
async fn devices_of_others_are_for_labelled_namespaces() {
    let (memory, reader) = reader();
    let plugin = DeviceAdminAccess::new(reader);
    let claim = |admin: bool| -> ResourceClaim {
        let request =
            json!({ "name": "r", "exactly": { "deviceClassName": "c", "adminAccess": admin } });
        let spec = json!({ "devices": { "requests": [request] } });
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": spec })).unwrap()
    };
    let attempt = Try::create("resource.k8s.io", "resourceclaims");
    memory.put("", "namespaces", json!({ "metadata": { "name": "ns" } }));
    attempt.run(&plugin, &claim(false)).await.unwrap();
    let error = attempt.run(&plugin, &claim(true)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ResourceClaim.resource.k8s.io \"x\" is invalid: spec.devices.requests[0].exactly.adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
    );
    let labels = json!({ "resource.kubernetes.io/admin-access": "true" });
    memory.put(
        "",
        "namespaces",
        json!({ "metadata": { "name": "ns", "labels": labels } }),
    );
    attempt.run(&plugin, &claim(true)).await.unwrap();
}

/// Allows what is named so: `verb resource/subresource namespace name`.
#[derive(Debug)]
struct Grants(&'static [&'static str]);

#[async_trait::async_trait]
impl Authorizer for Grants {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let (resource, sub) = (a.resource, a.subresource);
        let asked = format!("{} {resource}/{sub} {} {}", a.verb, a.namespace, a.name);
        match self.0.contains(&asked.trim_end()) {
            true => Decision::Allow,
            false => Decision::no_opinion(),
        }
    }
}

#[tokio::test]
async fn what_a_claim_has_is_for_those_to_say_who_may_bind_or_drive() {
    let claim = |status: Value| -> ResourceClaim {
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {}, "status": status }))
            .unwrap()
    };
    let allocation = |nodes: Value| {
        json!({ "nodeSelector": { "nodeSelectorTerms": [{ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": nodes },
        ] }] } })
    };
    let device = |driver: &str, data: &str| json!({ "driver": driver, "pool": "p", "device": "d", "data": { "a": data } });
    let one = allocation(json!(["n"]));
    let reserved = json!([{ "resource": "pods", "name": "p", "uid": "1" }]);
    let account = |node: &str| {
        let mut account = Identity::service_account("ns", "driver", "u");
        let key = "authentication.kubernetes.io/node-name".to_owned();
        account.extra.insert(key, vec![node.to_owned()]);
        account
    };
    let user = Identity::user("someone");
    let bind = "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"update\" permission: resourceclaims.resource.k8s.io is forbidden: User \"someone\" cannot update resource \"resourceclaims/binding\" in API group \"resource.k8s.io\" at the cluster scope";
    let drive = "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[arbitrary-node:update]\" permission: resourceclaims.resource.k8s.io \"a\" is forbidden: User \"someone\" cannot arbitrary-node:update resource \"resourceclaims/driver\" in API group \"resource.k8s.io\" in the namespace \"ns\"";
    let here = json!({ "allocation": one, "devices": [device("a", "1")] });
    let told = json!({ "allocation": one, "devices": [device("a", "2")] });
    let gone = json!({ "allocation": one, "devices": [] });
    let both = json!({ "allocation": one, "devices": [device("a", "2"), device("b", "1")] });
    let wide =
        json!({ "allocation": allocation(json!(["n", "m"])), "devices": [device("a", "1")] });
    let wider =
        json!({ "allocation": allocation(json!(["n", "m"])), "devices": [device("a", "2")] });
    let binding = &["update resourceclaims/binding"][..];
    let anywhere = &["arbitrary-node:update resourceclaims/driver ns a"][..];
    let associated = &["associated-node:update resourceclaims/driver ns a"][..];
    for (user, grants, old, new, refused) in [
        (
            &user,
            &[][..],
            json!({}),
            json!({ "reservedFor": [] }),
            None,
        ),
        (
            &user,
            &[],
            json!({}),
            json!({ "allocation": one }),
            Some(bind),
        ),
        (
            &user,
            &[],
            json!({}),
            json!({ "reservedFor": reserved }),
            Some(bind),
        ),
        (
            &user,
            anywhere,
            here.clone(),
            json!({ "devices": [device("a", "1")] }),
            Some(bind),
        ),
        (
            &user,
            binding,
            json!({}),
            json!({ "allocation": one, "reservedFor": reserved }),
            None,
        ),
        (&user, binding, here.clone(), told.clone(), Some(drive)),
        (&user, associated, here.clone(), told.clone(), Some(drive)),
        (&user, anywhere, here.clone(), told.clone(), None),
        (&user, anywhere, here.clone(), gone.clone(), None),
        (&user, binding, here.clone(), gone, Some(drive)),
        (&account("n"), associated, here.clone(), told.clone(), None),
        (&account("n"), anywhere, here.clone(), told.clone(), None),
        (
            &account("m"),
            associated,
            here.clone(),
            told,
            Some("verb=\"[arbitrary-node:update]\""),
        ),
        (
            &account("n"),
            associated,
            here,
            both,
            Some(
                "verb=\"[associated-node:update arbitrary-node:update]\" permission: resourceclaims.resource.k8s.io \"b\"",
            ),
        ),
        (
            &account("n"),
            associated,
            wide,
            wider,
            Some("verb=\"[arbitrary-node:update]\""),
        ),
    ] {
        let (old, new) = (claim(old), claim(new));
        let plugin = DeviceStatus::new(Arc::new(Grants(grants)));
        let attempt = Try {
            operation: Operation::Update,
            subresource: "status",
            user: user.clone(),
            old: Some(&old),
            ..Try::create("resource.k8s.io", "resourceclaims")
        };
        let result = attempt.run(&plugin, &new).await;
        match (result, refused) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => {
                assert!(error.to_string().contains(text), "{error}");
                let AdmissionError::Status(status) = error else {
                    panic!("{error:?}");
                };
                assert_eq!(status.code, Some(422));
            }
            (result, _) => panic!("{grants:?} {new:?} {result:?}"),
        }
    }
}

#[tokio::test]
async fn signers_are_for_those_to_speak_for_who_may() {
    let bundle =
        |labels: Value, owned: bool| -> k8s_openapi::api::certificates::v1::ClusterTrustBundle {
            let mut bundle = json!({ "metadata": { "name": "x", "labels": labels },
            "spec": { "signerName": "a.b/c", "trustBundle": "" } });
            if owned {
                bundle["metadata"]["ownerReferences"] =
                    json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1" }]);
            }
            serde_json::from_value(bundle).unwrap()
        };
    let (plain, labelled, owned) = (
        bundle(json!({}), false),
        bundle(json!({ "a": "b" }), false),
        bundle(json!({}), true),
    );
    let mut nobodys = plain.clone();
    nobodys.spec.signer_name = None;
    let refusal = "user not permitted to attest for signerName \"a.b/c\"";
    for (grants, old, new, allowed) in [
        (&[][..], None, &plain, false),
        (&[], None, &nobodys, true),
        (&[], Some(&plain), &labelled, false),
        (&[], Some(&plain), &owned, true),
        (&["sign signers/  a.b/c"], None, &plain, false),
        (&["attest signers/  a.b/d"], None, &plain, false),
        (&["attest signers/  a.b/c"], None, &plain, true),
        (&["attest signers/  a.b/*"], Some(&plain), &labelled, true),
    ] {
        let attempt = Try {
            operation: match old {
                Some(_) => Operation::Update,
                None => Operation::Create,
            },
            namespace: "",
            old: old.map(|old| old as &dyn Object),
            ..Try::create("certificates.k8s.io", "clustertrustbundles")
        };
        let plugin = ClusterTrustBundleAttest::new(Arc::new(Grants(grants)));
        match attempt.run(&plugin, new).await {
            Ok(_) => assert!(allowed, "{grants:?}"),
            Err(error) => assert_eq!((allowed, &*error.to_string()), (false, refusal)),
        }
    }
    let request = |chain: &str| -> k8s_openapi::api::certificates::v1::PodCertificateRequest {
        let spec = json!({ "signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "" });
        let status = json!({ "certificateChain": chain });
        serde_json::from_value(
            json!({ "metadata": { "name": "x" }, "spec": spec, "status": status }),
        )
        .unwrap()
    };
    let old = request("");
    for (grants, chain, allowed) in [
        (&[][..], "pem", false),
        (&[], "", true),
        (&["attest signers/  a.b/c"], "pem", false),
        (&["sign signers/  a.b/c"], "pem", true),
        (&["sign signers/  a.b/*"], "pem", true),
    ] {
        let attempt = Try {
            operation: Operation::Update,
            subresource: "status",
            old: Some(&old),
            ..Try::create("certificates.k8s.io", "podcertificaterequests")
        };
        let plugin = PodCertificateSigning::new(Arc::new(Grants(grants)));
        match attempt.run(&plugin, &request(chain)).await {
            Ok(_) => assert!(allowed, "{grants:?}"),
            Err(error) => {
                let text = "spec.signerName: Forbidden: User \"someone\" is not permitted to \"sign\" for signer \"a.b/c\"";
                assert!(!allowed && error.to_string().contains(text), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn policies_read_nothing_for_those_who_may_not() {
    use k8s_openapi::api::admissionregistration::v1::{
        ValidatingAdmissionPolicy as Policy, ValidatingAdmissionPolicyBinding as Binding,
    };
    const GROUP: &str = "admissionregistration.k8s.io";
    let (memory, reader) = reader();
    let policy = |version: &str, kind: &str| json!({ "metadata": { "name": "x" }, "spec": { "paramKind": { "apiVersion": version, "kind": kind } } });
    let plain = json!({ "metadata": { "name": "x" }, "spec": {} });
    let secrets = policy("v1", "Secret");
    memory.put(GROUP, "validatingadmissionpolicies", secrets.clone());
    let all = &["get secrets/ * *"][..];
    let one = &["get secrets/ kube-system s"][..];
    let every = &["get */ * *"][..];
    for (grants, old, new, allowed) in [
        (&[][..], None, &plain, true),
        (&[], None, &secrets, false),
        (one, None, &secrets, false),
        (all, None, &secrets, true),
        (&[], Some(&secrets), &secrets, true),
        (&[], Some(&plain), &secrets, false),
        (all, Some(&secrets), &policy("v1", "ConfigMap"), false),
        (all, None, &policy("a.b/v1", "Unknown"), false),
        (every, None, &policy("a.b/v1", "Unknown"), true),
    ] {
        let new: Policy = serde_json::from_value(new.clone()).unwrap();
        let old: Option<Policy> = old.map(|old| serde_json::from_value(old.clone()).unwrap());
        let attempt = Try {
            operation: match old {
                Some(_) => Operation::Update,
                None => Operation::Create,
            },
            namespace: "",
            old: old.as_ref().map(|old| old as &dyn Object),
            ..Try::create(GROUP, "validatingadmissionpolicies")
        };
        let plugin = PolicyParams::new(reader.clone(), Arc::new(Grants(grants)));
        match attempt.run(&plugin, &new).await {
            Ok(_) => assert!(allowed, "{grants:?} {new:?}"),
            Err(error) => {
                let text = "spec.paramKind: Forbidden: user &{someone  [] map[]} must have \"get\" permission on all objects of the referenced paramKind (kind=";
                assert!(!allowed && error.to_string().contains(text), "{error}");
            }
        }
    }
    let binding = |policy: &str, name: &str| {
        json!({ "metadata": { "name": "x" }, "spec": { "policyName": policy,
        "paramRef": { "name": name, "namespace": "kube-system" } } })
    };
    let bound = json!({ "metadata": { "name": "x" }, "spec": { "policyName": "x" } });
    for (grants, old, new, allowed) in [
        (&[][..], None, &bound, true),
        (&[], None, &binding("x", "s"), false),
        (one, None, &binding("x", "s"), true),
        (one, None, &binding("x", "t"), false),
        (one, None, &binding("other", "s"), false),
        (
            &["get */ kube-system s"],
            None,
            &binding("other", "s"),
            true,
        ),
        (&[], Some(&binding("x", "s")), &binding("x", "s"), true),
        (&[], Some(&binding("x", "s")), &binding("x", "t"), false),
        (&[], Some(&binding("other", "s")), &binding("x", "s"), false),
    ] {
        let new: Binding = serde_json::from_value(new.clone()).unwrap();
        let old: Option<Binding> = old.map(|old| serde_json::from_value(old.clone()).unwrap());
        let attempt = Try {
            operation: match old {
                Some(_) => Operation::Update,
                None => Operation::Create,
            },
            namespace: "",
            old: old.as_ref().map(|old| old as &dyn Object),
            ..Try::create(GROUP, "validatingadmissionpolicybindings")
        };
        let plugin = PolicyParams::new(reader.clone(), Arc::new(Grants(grants)));
        match attempt.run(&plugin, &new).await {
            Ok(_) => assert!(allowed, "{grants:?} {new:?}"),
            Err(error) => {
                let text = "spec.paramRef: Forbidden: user &{someone  [] map[]} does not have \"get\" permission on the object referenced by paramRef";
                assert!(!allowed && error.to_string().contains(text), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn devices_of_others_are_given_to_labelled_namespaces_alone() {
    let (memory, reader) = reader();
    let plugin = DeviceAdminAccess::new(reader);
    let claim = |admin: Value| -> ResourceClaim {
        let result = json!({ "request": "r", "driver": "d", "pool": "p", "device": "d", "adminAccess": admin });
        let status = json!({ "allocation": { "devices": { "results": [result] } } });
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {}, "status": status }))
            .unwrap()
    };
    let (plain, admin) = (claim(json!(null)), claim(json!(true)));
    let label = |labels: Value| {
        let namespace = json!({ "metadata": { "name": "ns", "labels": labels } });
        memory.put("", "namespaces", namespace);
    };
    label(json!({}));
    let attempt = |old| Try {
        operation: Operation::Update,
        subresource: "status",
        old: Some(old),
        ..Try::create("resource.k8s.io", "resourceclaims")
    };
    let error = attempt(&plain).run(&plugin, &admin).await.unwrap_err();
    let text = "status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices requires";
    assert!(error.to_string().contains(text), "{error}");
    attempt(&plain).run(&plugin, &plain).await.unwrap();
    attempt(&admin).run(&plugin, &admin).await.unwrap();
    label(json!({ "resource.kubernetes.io/admin-access": "true" }));
    attempt(&plain).run(&plugin, &admin).await.unwrap();
}
