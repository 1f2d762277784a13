//! `kubectl` against a simulated cluster: the output one knows. Nothing here needs root.

mod support;

use support::Cluster;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'example.com/web:1'}
";

struct Fixture {
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Fixture {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

fn cluster() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).expect("a folder");
    let cluster = Cluster::up(
        &data_dir,
        &["--runtime", "sim", "--store", "memory", "--nodes", "3"],
    );
    Fixture {
        cluster,
        _folder: folder,
    }
}

fn rolled_out(cluster: &Cluster) {
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
}

#[test]
#[ignore = "needs kubectl"]
fn objects_are_applied_listed_and_described() {
    let cluster = cluster();
    assert_eq!(cluster.apply(WEB).trim(), "deployment.apps/web created");
    assert_eq!(cluster.apply(WEB).trim(), "deployment.apps/web unchanged");
    rolled_out(&cluster);

    let table = cluster.kubectl(&["get", "deployments"]);
    let mut lines = table
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        lines.next().expect("a header"),
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    );
    assert_eq!(lines.next().expect("a row")[..4], ["web", "2/2", "2", "2"]);

    let pods = cluster.kubectl(&["get", "pods", "-A", "-l", "app=web", "-o", "wide"]);
    assert_eq!(
        pods.lines()
            .next()
            .expect("a header")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    );
    assert_eq!(
        pods.lines()
            .filter(|l| l.contains("1/1") && l.contains("Running"))
            .count(),
        2,
        "{pods}"
    );

    let described = cluster.kubectl(&["describe", "deployment", "web"]);
    assert!(
        described.contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge"),
        "{described}"
    );
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    let described = cluster.kubectl(&["describe", "pods", "-l", "app=web"]);
    assert!(
        described.contains("Successfully assigned default/web-"),
        "{described}"
    );

    let json = cluster.kubectl(&["get", "deployment", "web", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["spec"]["progressDeadlineSeconds"], 600);
    assert!(
        cluster
            .kubectl(&["get", "deployment", "web", "-o", "yaml"])
            .contains("revisionHistoryLimit: 10")
    );
    assert!(
        cluster
            .kubectl(&["get", "nodes"])
            .lines()
            .filter(|l| l.contains(" Ready "))
            .count()
            == 3
    );
    assert!(
        cluster
            .kubectl(&["get", "all"])
            .contains("service/kubernetes")
    );
}

#[test]
#[ignore = "needs kubectl"]
fn deployments_roll_scale_and_go_back() {
    let cluster = cluster();
    cluster.apply(WEB);
    rolled_out(&cluster);
    cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]);
    rolled_out(&cluster);
    assert_eq!(
        cluster
            .kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])
            .lines()
            .count(),
        4
    );
    cluster.kubectl(&["set", "image", "deployment/web", "web=example.com/web:2"]);
    rolled_out(&cluster);
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"]);
    assert_eq!(
        history.lines().filter(|l| l.contains("<none>")).count(),
        2,
        "{history}"
    );
    cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    rolled_out(&cluster);
    let image = [
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ];
    assert_eq!(cluster.kubectl(&image), "example.com/web:1");
    cluster.kubectl(&["rollout", "restart", "deployment/web"]);
    rolled_out(&cluster);
    cluster.kubectl(&["delete", "deployment", "web"]);
    cluster.kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app=web",
        "--timeout=120s",
    ]);
    assert_eq!(cluster.kubectl(&["get", "replicasets", "-o", "name"]), "");
}

#[test]
#[ignore = "needs kubectl"]
fn objects_are_changed_in_every_way() {
    let cluster = cluster();
    cluster.kubectl(&["create", "configmap", "settings", "--from-literal=a=1"]);
    let patches = [
        ("merge", r#"{"data":{"b":"2"}}"#),
        ("json", r#"[{"op":"add","path":"/data/c","value":"3"}]"#),
        ("strategic", r#"{"data":{"a":null}}"#),
    ];
    for (kind, patch) in patches {
        cluster.kubectl(&[
            "patch",
            "configmap",
            "settings",
            "--type",
            kind,
            "-p",
            patch,
        ]);
    }
    let data = cluster.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data}"]);
    assert_eq!(data, r#"{"b":"2","c":"3"}"#);
    assert!(
        cluster
            .kubectl(&["label", "configmap", "settings", "tier=web"])
            .contains("labeled")
    );
    assert!(
        cluster
            .kubectl(&["annotate", "configmap", "settings", "note=x"])
            .contains("annotated")
    );
    assert_eq!(
        cluster
            .kubectl(&["get", "configmap", "-l", "tier=web", "-o", "name"])
            .trim(),
        "configmap/settings"
    );
    cluster.kubectl(&["run", "one", "--image=example.com/web:1", "--port=80"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/one", "--timeout=120s"]);
    assert_eq!(cluster.kubectl(&["logs", "one"]), "", "it says nothing");
    cluster.kubectl(&["expose", "pod", "one", "--port=80"]);
    assert!(
        cluster
            .kubectl(&["get", "service", "one"])
            .contains("ClusterIP")
    );
    cluster.kubectl(&[
        "create",
        "secret",
        "generic",
        "password",
        "--from-literal=p=x",
    ]);
    assert!(
        cluster
            .kubectl(&["get", "secret", "password"])
            .contains("Opaque")
    );
    cluster.kubectl(&[
        "delete",
        "pod,service,configmap,secret",
        "one",
        "settings",
        "password",
        "--ignore-not-found",
    ]);
}

#[test]
#[ignore = "needs kubectl"]
fn the_api_explains_itself() {
    let cluster = cluster();
    let explained = cluster.kubectl(&["explain", "pod.spec.containers.livenessProbe"]);
    assert!(explained.contains("failureThreshold"), "{explained}");
    let resources = cluster.kubectl(&["api-resources"]);
    for line in [
        "deployments",
        "deploy",
        "ClusterRoleBinding",
        "storageclasses",
    ] {
        assert!(resources.contains(line), "{line} is missing:\n{resources}");
    }
    assert!(
        cluster
            .kubectl(&["version"])
            .contains("Server Version: v1.37")
    );
    assert_eq!(
        cluster
            .kubectl(&["auth", "can-i", "delete", "nodes"])
            .trim(),
        "yes"
    );
    let no = cluster.try_kubectl(&["auth", "can-i", "get", "secrets", "--as", "somebody"], "");
    assert_eq!(String::from_utf8_lossy(&no.stdout).trim(), "no");
    let denied = cluster.kubectl_fails(&["get", "pods", "--as", "somebody"], "");
    assert_eq!(
        denied.trim(),
        r#"Error from server (Forbidden): pods is forbidden: User "somebody" cannot list resource "pods" in API group "" in the namespace "default""#
    );
}

#[test]
#[ignore = "needs kubectl"]
fn namespaces_end_with_all_that_is_in_them() {
    let cluster = cluster();
    cluster.kubectl(&["create", "namespace", "shop"]);
    cluster.kubectl(&[
        "create",
        "deployment",
        "web",
        "--image=example.com/web:1",
        "-n",
        "shop",
    ]);
    cluster.kubectl(&[
        "rollout",
        "status",
        "deployment/web",
        "-n",
        "shop",
        "--timeout=120s",
    ]);
    cluster.kubectl(&["delete", "namespace", "shop", "--timeout=120s"]);
    assert!(
        cluster
            .kubectl_fails(&["get", "namespace", "shop"], "")
            .contains(r#"namespaces "shop" not found"#)
    );
}

#[test]
#[ignore = "needs kubectl"]
fn bad_input_gets_upstream_s_errors_and_changes_nothing() {
    let cluster = cluster();
    let before = cluster.kubectl(&["get", "deployments,configmaps,pods", "-o", "name"]);
    for (manifest, error) in [
        (
            "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}",
            r#"no matches for kind "Nonsense" in version "v1""#,
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}",
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nfoo: 1",
            r#"unknown field "foo""#,
        ),
        (
            &WEB.replace("replicas: 2", "replicas: -1"),
            "must be greater than or equal to 0",
        ),
        (
            &WEB.replace("labels: {app: web}", "labels: {app: other}"),
            "`selector` does not match template `labels`",
        ),
        (
            &WEB.replace(
                "'example.com/web:1'",
                "x, resources: {limits: {memory: 1Zi}}",
            ),
            "quantities must match the regular expression",
        ),
    ] {
        let said = cluster.kubectl_fails(&["create", "-f", "-"], manifest);
        assert!(said.contains(error), "{manifest}\n→ {said}");
    }
    let long = "x".repeat(300);
    let said = cluster.kubectl_fails(&["create", "configmap", &long], "");
    assert!(said.contains("must be no more than 253"), "{said}");
    let said = cluster.kubectl_fails(&["get", "pods", "-l", "a in (b"], "");
    assert!(said.contains("unable to parse requirement"), "{said}");
    assert_eq!(
        cluster.kubectl(&["get", "deployments,configmaps,pods", "-o", "name"]),
        before
    );
}
