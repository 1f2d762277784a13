//! What nodes may write.

use super::*;

#[tokio::test]
async fn a_node_writes_only_about_itself_and_its_pods() {
    let (memory, reader) = reader();
    let plugin = NodeRestriction::new(reader);
    let user = Identity::user("system:node:a").group(NODES);
    let node = |name: &str, labels: Value| -> core::Node {
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap()
    };
    let attempt = |name| Try {
        name,
        namespace: "",
        user: user.clone(),
        ..Try::create("", "nodes")
    };
    attempt("a")
        .run(
            &plugin,
            &node("a", json!({ "kubernetes.io/arch": "amd64" })),
        )
        .await
        .unwrap();
    let error = attempt("b")
        .run(&plugin, &node("b", json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" is not allowed to modify node "b""#
    );
    for (label, allowed) in [
        ("node-restriction.kubernetes.io/fips", false),
        ("failure-domain.beta.kubernetes.io/zone", true),
        ("failure-domain.beta.kubernetes.io/region", true),
        ("failure-domain.kubernetes.io/zone", false),
        ("failure-domain.kubernetes.io/region", false),
        ("topology.kubernetes.io/zone", true),
    ] {
        let labelled = node("a", json!({ label: "x" }));
        let outcome = attempt("a").run(&plugin, &labelled).await;
        assert_eq!(outcome.is_ok(), allowed, "{label}");
    }
    // A node that the collector takes away could come back as another.
    let old = node("a", json!({}));
    let mut owned = old.clone();
    let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "1" }]);
    owned.metadata.owner_references = serde_json::from_value(owner).unwrap();
    let update = Try {
        operation: Operation::Update,
        old: Some(&old),
        ..attempt("a")
    };
    let error = update.run(&plugin, &owned).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" is not allowed to modify ownerReferences"#
    );

    let attempt = Try {
        user: user.clone(),
        ..Try::create("", "pods")
    };
    attempt
        .run(&plugin, &pod(json!({ "nodeName": "a" })))
        .await
        .unwrap_err();
    let (mine, other) = (
        pod(json!({ "nodeName": "a" })),
        pod(json!({ "nodeName": "b" })),
    );
    for (old, allowed) in [(&mine, true), (&other, false)] {
        let attempt = Try {
            operation: Operation::Update,
            subresource: "status",
            old: Some(old),
            user: user.clone(),
            ..Try::create("", "pods")
        };
        assert_eq!(attempt.run(&plugin, old).await.is_ok(), allowed);
        let object = json!({
            "metadata": { "namespace": "ns", "name": "x" },
            "spec": old.spec.as_ref().unwrap(),
        });
        memory.put("", "pods", object);
        let attempt = Try {
            operation: Operation::Delete,
            user: user.clone(),
            ..Try::create("", "pods")
        };
        assert_eq!(attempt.run(&plugin, old).await.is_ok(), allowed);
    }
}

#[tokio::test]
async fn a_node_publishes_its_own_devices_alone() {
    let (_, reader) = reader();
    let plugin = NodeRestriction::new(reader);
    let slice = |node: Value| -> ResourceSlice {
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {
            "driver": "d", "nodeName": node, "allNodes": node.is_null(),
            "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 },
        } }))
        .unwrap()
    };
    for (node, allowed) in [
        (json!("a"), true),
        (json!("b"), false),
        (json!(null), false),
    ] {
        let object = slice(node);
        for operation in [Operation::Create, Operation::Update, Operation::Delete] {
            let attempt = Try {
                operation,
                namespace: "",
                user: Identity::user("system:node:a").group(NODES),
                old: (operation != Operation::Create).then_some(&object as &dyn Object),
                ..Try::create("resource.k8s.io", "resourceslices")
            };
            let result = attempt.run(&plugin, &object).await;
            assert_eq!(result.is_ok(), allowed, "{operation:?} {result:?}");
        }
    }
}

#[tokio::test]
async fn a_node_asks_for_tokens_that_its_pods_volumes_have_or_that_it_may_have() {
    let (memory, reader) = reader();
    let volumes = json!([
        { "name": "t", "projected": { "sources": [
            { "serviceAccountToken": { "path": "t", "audience": "vault" } },
        ] } },
        { "name": "d", "persistentVolumeClaim": { "claimName": "data" } },
    ]);
    memory.put(
        "",
        "pods",
        json!({
            "metadata": { "namespace": "ns", "name": "p", "uid": "1" },
            "spec": { "nodeName": "a", "serviceAccountName": "x", "containers": [], "volumes": volumes },
        }),
    );
    let claim = json!({ "metadata": { "namespace": "ns", "name": "data" }, "spec": { "volumeName": "pv" } });
    memory.put("", "persistentvolumeclaims", claim);
    let volume = json!({ "metadata": { "name": "pv" }, "spec": { "csi": { "driver": "d", "volumeHandle": "h" } } });
    memory.put("", "persistentvolumes", volume);
    let driver = json!({ "metadata": { "name": "d" }, "spec": { "tokenRequests": [{ "audience": "cloud" }] } });
    memory.put("storage.k8s.io", "csidrivers", driver);
    let group = "rbac.authorization.k8s.io";
    let role = json!({ "metadata": { "name": "pulls" }, "rules": [{
        "apiGroups": [""], "resources": ["registry"], "verbs": ["request-serviceaccounts-token-audience"],
        "resourceNames": ["x"],
    }] });
    memory.put(group, "clusterroles", role);
    let binding = json!({
        "metadata": { "name": "pulls" },
        "roleRef": { "kind": "ClusterRole", "name": "pulls" },
        "subjects": [{ "kind": "Group", "name": NODES }],
    });
    memory.put(group, "clusterrolebindings", binding);
    let rbac = crate::authz::rbac::Rbac::start(&*reader);
    rbac.synced().await;
    let plugin = NodeRestriction::new(reader).with_authorizer(Arc::new(rbac));
    let ask = async |audiences: Value| {
        let request: k8s_openapi::api::authentication::v1::TokenRequest =
            serde_json::from_value(json!({ "spec": {
                "audiences": audiences,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1" },
            } }))
            .unwrap();
        let attempt = Try {
            subresource: "token",
            user: Identity::user("system:node:a").group(NODES),
            ..Try::create("", "serviceaccounts")
        };
        let done = attempt.run(&plugin, &request).await;
        done.map(|_| ()).map_err(|e| e.to_string())
    };
    for audience in ["vault", "cloud", "registry"] {
        ask(json!([audience])).await.unwrap();
    }
    let refused = ask(json!(["other"])).await.unwrap_err();
    assert_eq!(
        refused,
        r#"audience "other" not found in pod spec volume, system:node:a is not authorized to request tokens for this audience"#
    );
    assert_eq!(
        ask(json!(["vault", "cloud"])).await.unwrap_err(),
        "node may only request 0 or 1 audiences"
    );
    assert!(ask(json!([])).await.is_err(), "no volume has such a token");
}

#[tokio::test]
async fn a_node_asks_for_its_own_certificates() {
    let (_, reader) = reader();
    let plugin = NodeRestriction::new(reader);
    let user = || Identity::user("system:node:a").group(NODES);
    for (subject, allowed) in [("system:node:a", true), ("system:node:b", false)] {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, subject);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        for (signer, allowed) in [
            ("kubernetes.io/kubelet-serving", allowed),
            ("example.com/other", true),
        ] {
            let mut asked =
                k8s_openapi::api::certificates::v1::CertificateSigningRequest::default();
            asked.spec.signer_name = signer.to_owned();
            asked.spec.request.0 = pem.clone().into_bytes();
            let attempt = Try {
                namespace: "",
                user: user(),
                ..Try::create("certificates.k8s.io", "certificatesigningrequests")
            };
            let done = attempt.run(&plugin, &asked).await;
            let refused = done.err().map(|e| e.to_string());
            let said = "can only create a node CSR with CN=system:node:a".to_owned();
            assert_eq!(refused, (!allowed).then_some(said), "{subject} {signer}");
        }
    }
}

#[tokio::test]
async fn a_node_makes_no_pods_with_claims_and_gives_none_to_pods() {
    let (memory, reader) = reader();
    memory.put(
        "",
        "nodes",
        json!({ "metadata": { "name": "a", "uid": "n" } }),
    );
    let plugin = NodeRestriction::new(reader);
    let user = || Identity::user("system:node:a").group(NODES);
    let mirror = |spec: Value| {
        let mut pod = pod(spec);
        pod.metadata.annotations = Some([(MIRROR_POD.to_owned(), "x".to_owned())].into());
        pod.metadata.owner_references = Some(vec![
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Node", "name": "a", "uid": "n", "controller": true,
            }))
            .unwrap(),
        ]);
        pod
    };
    let bundle = json!([{ "name": "t", "projected": { "sources": [
        { "clusterTrustBundle": { "name": "b", "path": "p" } },
    ] } }]);
    for (more, refused) in [
        (json!({}), None),
        (
            json!({ "resourceClaims": [{ "name": "r", "resourceClaimName": "c" }] }),
            Some("resourceclaims"),
        ),
        (json!({ "volumes": bundle }), Some("clustertrustbundles")),
    ] {
        let mut spec = more;
        spec["nodeName"] = "a".into();
        let attempt = Try {
            user: user(),
            ..Try::create("", "pods")
        };
        let done = attempt.run(&plugin, &mirror(spec)).await;
        let said = done.err().map(|e| e.to_string());
        let wanted =
            refused.map(|what| format!(r#"node "a" can not create pods that reference {what}"#));
        assert_eq!(said, wanted);
    }
    let old = pod(json!({ "nodeName": "a" }));
    let mut new = old.clone();
    let status = json!({ "resourceClaimStatuses": [{ "name": "r", "resourceClaimName": "c" }] });
    new.status = serde_json::from_value(status).unwrap();
    let attempt = Try {
        operation: Operation::Update,
        subresource: "status",
        old: Some(&old),
        user: user(),
        ..Try::create("", "pods")
    };
    let error = attempt.run(&plugin, &new).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" cannot update resource claim statues"#
    );
    let mut new = old.clone();
    let status = json!({ "extendedResourceClaimStatus": { "resourceClaimName": "c", "requestMappings": [] } });
    new.status = serde_json::from_value(status).unwrap();
    let attempt = Try {
        operation: Operation::Update,
        subresource: "status",
        old: Some(&old),
        user: user(),
        ..Try::create("", "pods")
    };
    let error = attempt.run(&plugin, &new).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" cannot update extended resource claim status"#
    );
}

#[tokio::test]
async fn a_node_asks_for_certificates_of_its_running_pods_alone() {
    let (memory, reader) = reader();
    let object =
        |name: &str, uid: &str| json!({"metadata": {"namespace": "ns", "name": name, "uid": uid}});
    memory.put(
        "",
        "nodes",
        json!({"metadata": {"name": "a", "uid": "n-1"}}),
    );
    memory.put("", "serviceaccounts", object("sa", "sa-1"));
    for (name, node, mirror) in [("p", "a", false), ("q", "b", false), ("m", "a", true)] {
        let mut pod = object(name, &format!("{name}-1"));
        pod["spec"] = json!({"nodeName": node, "serviceAccountName": "sa", "containers": []});
        if mirror {
            pod["metadata"]["annotations"] = json!({MIRROR_POD: "x"});
        }
        memory.put("", "pods", pod);
    }
    let plugin = NodeRestriction::new(reader);
    for (change, refused) in [
        (json!({}), None),
        (
            json!({"nodeName": "b"}),
            Some("which is not the requesting node \"a\""),
        ),
        (
            json!({"podName": "none"}),
            Some("pod \"ns/none\", which does not exist"),
        ),
        (
            json!({"podUID": "p-0"}),
            Some("contains a pod UID (\"p-0\")"),
        ),
        (
            json!({"podName": "q", "podUID": "q-1"}),
            Some("is bound to node \"b\""),
        ),
        (
            json!({"podName": "m", "podUID": "m-1"}),
            Some("is a mirror pod"),
        ),
        (
            json!({"serviceAccountName": "root"}),
            Some("a service account name (\"root\")"),
        ),
        (
            json!({"serviceAccountUID": "sa-0"}),
            Some("a service account UID (\"sa-0\")"),
        ),
        (json!({"nodeUID": "n-0"}), Some("a node UID (\"n-0\")")),
    ] {
        let mut spec = json!({
            "signerName": "example.com/s", "podName": "p", "podUID": "p-1", "nodeName": "a", "nodeUID": "n-1",
            "serviceAccountName": "sa", "serviceAccountUID": "sa-1", "stubPKCS10Request": "",
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let asked: k8s_openapi::api::certificates::v1::PodCertificateRequest =
            serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap();
        let attempt = Try {
            user: Identity::user("system:node:a").group(NODES),
            ..Try::create("certificates.k8s.io", "podcertificaterequests")
        };
        let done = attempt.run(&plugin, &asked).await;
        let said = done.err().map(|e| e.to_string());
        match (said, refused) {
            (None, None) => {}
            (Some(said), Some(text)) if said.contains(text) => {}
            (said, refused) => panic!("{said:?} instead of {refused:?}"),
        }
    }
}

#[tokio::test]
async fn pods_know_where_their_nodes_are() {
    let (memory, reader) = reader();
    let plugin = PodTopologyLabels::new(reader);
    let place = json!({ "topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r" });
    let mut labels = place.clone();
    labels["kubernetes.io/hostname"] = json!("n");
    memory.put(
        "",
        "nodes",
        json!({ "metadata": { "name": "n", "labels": labels } }),
    );
    let bind = Try {
        subresource: "binding",
        ..Try::create("", "pods")
    };
    for (kind, node, found) in [
        ("Node", "n", place.clone()),
        ("Node", "m", Value::Null),
        ("", "n", Value::Null),
    ] {
        let binding: core::Binding = serde_json::from_value(json!({
            "metadata": { "name": "x" }, "target": { "kind": kind, "name": node },
        }))
        .unwrap();
        let bound = bind.run(&plugin, &binding).await.unwrap();
        assert_eq!(json!(bound.metadata.labels), found);
    }
    let create = Try::create("", "pods");
    for (node, found) in [("n", place), ("", Value::Null)] {
        let made = create
            .run(&plugin, &pod(json!({ "nodeName": node })))
            .await
            .unwrap();
        assert_eq!(json!(made.metadata.labels), found);
    }
}

#[tokio::test]
async fn a_pod_is_changed_only_as_its_node_can_follow() {
    let (memory, reader) = reader();
    let plugin = NodeDeclaredFeatureValidator::new(reader);
    let whole = "InPlacePodLevelResourcesVerticalScaling";
    let init = "InPlacePodVerticalScalingInitContainers";
    for (name, features) in [("new", json!([whole, init])), ("old", json!([]))] {
        let node =
            json!({ "metadata": { "name": name }, "status": { "declaredFeatures": features } });
        memory.put("", "nodes", node);
    }
    let asks = |cpu: &str| json!({ "requests": { "cpu": cpu } });
    let sized = |node: &str, pod_cpu: &str, init_cpu: &str, sidecar_cpu: &str, cpu: &str| {
        pod(json!({
            "nodeName": node,
            "resources": asks(pod_cpu),
            "initContainers": [
                { "name": "i", "resources": asks(init_cpu) },
                { "name": "s", "restartPolicy": "Always", "resources": asks(sidecar_cpu) },
            ],
            "containers": [{ "name": "c", "resources": asks(cpu) }],
        }))
    };
    let missing = |features: &str| {
        format!("pod update requires features {features} which are not available on node \"old\"")
    };
    for (node, cpus, refused) in [
        ("old", ["1", "1", "1", "1"], String::new()),
        ("old", ["1000m", "1", "2", "2"], String::new()),
        ("old", ["2", "1", "1", "1"], missing(whole)),
        ("old", ["1", "2", "1", "1"], missing(init)),
        (
            "old",
            ["2", "2", "1", "1"],
            missing(&format!("{whole}, {init}")),
        ),
        ("new", ["2", "2", "2", "2"], String::new()),
        ("", ["2", "2", "2", "2"], String::new()),
        (
            "gone",
            ["2", "1", "1", "1"],
            r#"node "gone" not found"#.to_owned(),
        ),
    ] {
        let [pod_cpu, init_cpu, sidecar_cpu, cpu] = cpus;
        let old = sized(node, "1", "1", "1", "1");
        let new = sized(node, pod_cpu, init_cpu, sidecar_cpu, cpu);
        for (subresource, looked_at) in [("resize", true), ("", true), ("status", false)] {
            let update = Try {
                operation: Operation::Update,
                subresource,
                old: Some(&old),
                ..Try::create("", "pods")
            };
            let outcome = update.run(&plugin, &new).await;
            let told = outcome.err().map(|e| e.to_string()).unwrap_or_default();
            let expected = if looked_at { &refused } else { "" };
            assert_eq!(told, expected, "{node} {cpus:?} {subresource}");
        }
    }
}
