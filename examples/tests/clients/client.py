"""What programs do with the Python client, against the cluster that KUBECONFIG names.

Run by `clients.rs`; each step fails by raising. The pod `web` in `default` runs a shell.
"""

import threading
import time

import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

NAMESPACE = "python"


def until(what, condition):
    """Waits until a condition holds; what it gave then."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(what)


def config_map(name, **data):
    meta = client.V1ObjectMeta(name=name, labels={"app": "python"})
    return client.V1ConfigMap(metadata=meta, data=data)


def creates_lists_and_pages(core):
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    for index in range(5):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"map-{index}", n=str(index)))
    found = core.list_namespaced_config_map(NAMESPACE, label_selector="app=python")
    assert [item.data["n"] for item in found.items] == ["0", "1", "2", "3", "4"]
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            NAMESPACE, label_selector="app=python", limit=2, _continue=token
        )
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"map-{index}" for index in range(5)], names
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=map-3")
    assert len(one.items) == 1


def errors_say_what_is_wrong(core):
    for call, status, reason in [
        (lambda: core.read_namespaced_config_map("no", NAMESPACE), 404, "NotFound"),
        (lambda: core.create_namespaced_config_map(NAMESPACE, config_map("map-0")), 409, "AlreadyExists"),
        (lambda: core.create_namespaced_config_map(NAMESPACE, config_map("BAD")), 422, "Invalid"),
    ]:
        try:
            call()
        except ApiException as error:
            assert (error.status, f'"reason":"{reason}"' in error.body) == (status, True), error
        else:
            raise AssertionError(f"{status} was expected")


def watches(core):
    revision = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    seen, started = [], watch.Watch()

    def follow():
        events = started.stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=revision, timeout_seconds=60
        )
        for event in events:
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                started.stop()

    follower = threading.Thread(target=follow)
    follower.start()
    core.create_namespaced_config_map(NAMESPACE, config_map("watched", a="1"))
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("watched", NAMESPACE)
    follower.join(60)
    assert seen == [(kind, "watched") for kind in ("ADDED", "MODIFIED", "DELETED")], seen


def patches(core, api):
    core.create_namespaced_config_map(NAMESPACE, config_map("patched", a="1", b="2"))
    # The client takes a list for a JSON patch, and anything else for a strategic one.
    core.patch_namespaced_config_map(
        "patched", NAMESPACE, [{"op": "replace", "path": "/data/a", "value": "json"}]
    )
    core.patch_namespaced_config_map("patched", NAMESPACE, {"data": {"b": None, "c": "strategic"}})
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    maps.patch(
        name="patched", namespace=NAMESPACE, body={"data": {"d": "merge"}},
        content_type="application/merge-patch+json",
    )
    applied = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "patched", "namespace": NAMESPACE}, "data": {"e": "apply"},
    }
    maps.server_side_apply(
        body=applied, name="patched", namespace=NAMESPACE, field_manager="python"
    )
    found = core.read_namespaced_config_map("patched", NAMESPACE)
    assert found.data == {"a": "json", "c": "strategic", "d": "merge", "e": "apply"}, found.data
    managers = {field.manager: field.operation for field in found.metadata.managed_fields}
    assert managers["python"] == "Apply", managers
    found.data = {"a": "update"}
    core.replace_namespaced_config_map("patched", NAMESPACE, found)
    try:
        core.replace_namespaced_config_map("patched", NAMESPACE, found)
    except ApiException as error:
        assert error.status == 409, error
    else:
        raise AssertionError("the old version was taken")


def deployments_roll_out(api):
    apps, manifest = client.AppsV1Api(api), yaml.safe_load("""
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: 'example.com/busybox:test', command: [sleep, '1000']}]
""")
    utils.create_from_dict(api, manifest, namespace=NAMESPACE)

    def ready():
        status = apps.read_namespaced_deployment_status("web", NAMESPACE).status
        return status.ready_replicas == 2

    until("the deployment is ready", ready)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 1}})
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert scale.spec.replicas == 1
    until("it is scaled", lambda: apps.read_namespaced_deployment("web", NAMESPACE).status.replicas == 1)


def custom_objects_live(api):
    definitions, objects = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    schema = client.V1JSONSchemaProps(type="object", x_kubernetes_preserve_unknown_fields=True)
    definitions.create_custom_resource_definition(client.V1CustomResourceDefinition(
        metadata=client.V1ObjectMeta(name="lamps.python.example.com"),
        spec=client.V1CustomResourceDefinitionSpec(
            group="python.example.com", scope="Namespaced",
            names=client.V1CustomResourceDefinitionNames(plural="lamps", kind="Lamp"),
            versions=[client.V1CustomResourceDefinitionVersion(
                name="v1", served=True, storage=True,
                schema=client.V1CustomResourceValidation(open_apiv3_schema=schema),
            )],
        ),
    ))

    def established():
        found = definitions.read_custom_resource_definition("lamps.python.example.com")
        conditions = found.status.conditions if found.status else None
        return any(c.type == "Established" and c.status == "True" for c in conditions or [])

    until("the definition is established", established)
    lamp = {"apiVersion": "python.example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}, "colour": "red"}
    which = ("python.example.com", "v1", NAMESPACE, "lamps")
    objects.create_namespaced_custom_object(*which, lamp)
    objects.patch_namespaced_custom_object(*which, "a", {"colour": "blue"})
    assert objects.get_namespaced_custom_object(*which, "a")["colour"] == "blue"
    objects.delete_namespaced_custom_object(*which, "a")
    assert objects.list_namespaced_custom_object(*which)["items"] == []


def logs_and_exec(core):
    log = until("the pod's log", lambda: core.read_namespaced_pod_log("web", "default"))
    assert log == "hello\n", log
    followed = watch.Watch().stream(core.read_namespaced_pod_log, "web", "default", tail_lines=1)
    assert next(iter(followed)) == "hello"
    said = stream(
        core.connect_get_namespaced_pod_exec, "web", "default",
        command=["sh", "-c", "echo out; echo err >&2"],
        stderr=True, stdin=False, stdout=True, tty=False,
    )
    assert sorted(said.split()) == ["err", "out"], said
    shell = stream(
        core.connect_get_namespaced_pod_exec, "web", "default", command=["sh"],
        stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False,
    )
    shell.write_stdin("echo from the shell\n")
    assert shell.readline_stdout(timeout=60) == "from the shell"
    shell.write_stdin("exit 3\n")
    shell.run_forever(timeout=60)
    assert shell.returncode == 3, shell.returncode


def main():
    config.load_kube_config()
    api = client.ApiClient()
    core = client.CoreV1Api(api)
    assert client.VersionApi(api).get_code().major == "1"
    creates_lists_and_pages(core)
    errors_say_what_is_wrong(core)
    watches(core)
    patches(core, api)
    deployments_roll_out(api)
    custom_objects_live(api)
    logs_and_exec(core)
    core.delete_namespace(NAMESPACE)
    until("the namespace is gone", lambda: NAMESPACE not in [n.metadata.name for n in core.list_namespace().items])


main()
