"""infra/kubernetes before a real API server: what it takes, whom it lets do what, which pods it lets in."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.support import kubernetes_api
from tests.support.manifests import KUBERNETES, OVERLAYS, manifests, rendered

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
CUSTOM = ("kueue.x-k8s.io", "serving.kserve.io")  # their definitions belong to projects of their own
RUNNER = "system:serviceaccount:hymunet:hymunet-runner"
REGISTRY = "system:serviceaccount:hymunet-registry:registry"


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture(scope="module")
def found(overlay):
    return [one for one in manifests(rendered(KUBERNETES / "overlays" / overlay)) if not is_custom(one)]


def is_custom(one):
    return one["apiVersion"].startswith(CUSTOM)


@pytest.fixture(scope="module")
def cluster(found):
    """With everything of the overlay in it but other projects' objects."""
    with kubernetes_api.running() as started:
        started.made("create", "namespace", "kubeflow")  # as an installation of Kubeflow makes it
        applied = started.kubectl(*APPLY, "-f", "-", given=text(found))
        assert applied.returncode == 0, applied.stderr
        started.warned = applied.stderr
        yield started


APPLY = ("apply", "--server-side", "--force-conflicts", "--validate=strict")


def text(found):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found})


def pod(namespace, **changes):
    """One that `restricted` takes, with a piece of it changed; None removes a piece."""
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    container = {"name": "main", "image": "x", "securityContext": closed, "resources": resources}
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    container |= changes.pop("container", {})
    closed |= changes.pop("closed", {})
    spec |= changes
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "try-", "namespace": namespace},
        "spec": spec,
    }


def create(cluster, one):
    return cluster.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(one))


def test_the_server_takes_every_field_and_warns_of_nothing(cluster, found):
    assert cluster.warned == ""
    there = json.loads(cluster.made("get", "deploy,sts,cj,netpol,quota,limits,sa,role,cm,pvc,svc", "-A", "-o", "json"))
    names = {(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in there["items"]}
    wanted = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found}
    of_no_namespace = {("Namespace", None), ("ClusterRole", None), ("ClusterRoleBinding", None), ("RoleBinding", None)}
    missing = {one for one in wanted - names if one[0] not in {kind for kind, _ in of_no_namespace}}
    assert missing == set()


def test_applied_again_nothing_changes(cluster, found):
    def generations():
        there = json.loads(cluster.made("get", "deploy,sts,cj,netpol,role", "-A", "-o", "json"))["items"]
        return {one["metadata"]["uid"]: one["metadata"].get("generation") for one in there}

    before = generations()
    cluster.made(*APPLY, "-f", "-", given=text(found))
    assert generations() == before


def test_a_field_that_is_none_of_kubernetes_is_refused(cluster, found):
    [deployment] = [one for one in found if one["kind"] == "Deployment"]
    broken = deployment | {"spec": deployment["spec"] | {"replica": 2}}
    done = cluster.kubectl(*APPLY, "--dry-run=server", "-f", "-", given=json.dumps(broken))
    assert done.returncode != 0
    assert "replica" in done.stderr


MAY = [
    (RUNNER, "hymunet", "create", "workflowtaskresults.argoproj.io", True),
    (RUNNER, "hymunet", "patch", "workflowtaskresults.argoproj.io", True),
    (RUNNER, "hymunet", "get", "pods", True),
    (RUNNER, "hymunet", "get", "configmaps/kfp-launcher", True),
    (RUNNER, "hymunet", "get", "secrets/mlpipeline-minio-artifact", True),
    (RUNNER, "hymunet", "get", "secrets/hymunet", False),
    (RUNNER, "hymunet", "list", "secrets", False),
    (RUNNER, "hymunet", "get", "configmaps/other", False),
    (RUNNER, "hymunet", "create", "pods", False),
    (RUNNER, "hymunet", "create", "pods/exec", False),
    (RUNNER, "hymunet", "delete", "workflowtaskresults.argoproj.io", False),
    (RUNNER, "hymunet", "create", "rolebindings.rbac.authorization.k8s.io", False),
    (RUNNER, "hymunet-registry", "get", "pods", False),
    (RUNNER, "hymunet-registry", "get", "secrets/mlflow-database", False),
    (RUNNER, "default", "get", "pods", False),
    (REGISTRY, "hymunet-registry", "get", "secrets/mlflow-database", False),
    (REGISTRY, "hymunet-registry", "get", "pods", False),
    ("system:serviceaccount:hymunet:default", "hymunet", "get", "pods", False),
]
NODES = [
    (RUNNER, "hymunet", "create", "trainjobs.trainer.kubeflow.org"),
    (RUNNER, "hymunet", "list", "pods"),
    (RUNNER, "hymunet", "get", "pods/log"),
    (RUNNER, "hymunet", "get", "clustertrainingruntimes.trainer.kubeflow.org/torch-distributed"),
]


def may(cluster, account, namespace, verb, what):
    """what: resource.group/name, or resource/subresource for what pods have."""
    resource, _, group = what.partition("/")[0].partition(".")
    rest = what.partition("/")[2]
    part = "subresource" if resource == "pods" else "name"
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, part: rest}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    review["spec"] = {"user": account, "groups": ["system:serviceaccounts"], "resourceAttributes": asked}
    return json.loads(cluster.made("create", "-o", "json", "-f", "-", given=json.dumps(review)))["status"]["allowed"]


def test_accounts_may_do_what_they_need_and_no_more(cluster, overlay):
    wanted = {row[:4]: row[4] for row in MAY} | dict.fromkeys(NODES, overlay != "workstation")
    assert {row: may(cluster, *row) for row in wanted} == wanted


PODS = {
    "as ours are": ({}, True, True),
    "a step's, of which Kubeflow can say less": (
        {"closed": {"allowPrivilegeEscalation": None, "capabilities": None, "readOnlyRootFilesystem": None}},
        False,
        True,
    ),
    "with a right": ({"closed": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}, False, False),
    "privileged": ({"closed": {"privileged": True, "allowPrivilegeEscalation": True}}, False, False),
    "on the host's network": ({"hostNetwork": True}, False, False),
    "with the host's files": ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, False, False),
    "as root": ({"securityContext": {"runAsUser": 0}}, False, True),
}


@pytest.mark.parametrize("name", PODS)
def test_pods_are_let_in_by_their_rights(cluster, name):
    changes, to_registry, to_steps = PODS[name]
    for namespace, allowed in (("hymunet-registry", to_registry), ("hymunet", to_steps)):
        done = create(cluster, pod(namespace, **json.loads(json.dumps(changes))))
        assert (done.returncode == 0) is allowed, (namespace, done.stderr)
        assert allowed or "violates PodSecurity" in done.stderr
    assert ("would violate PodSecurity" in done.stderr) is (to_steps and not to_registry), "the steps' namespace warns"


def test_what_names_no_limits_gets_them(cluster):
    cluster.made("create", "-f", "-", given=json.dumps(pod("hymunet", container={"resources": {}})))
    [made] = json.loads(cluster.made("get", "pods", "-n", "hymunet", "-o", "json"))["items"]
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "512Mi"},
        "requests": {"cpu": "50m", "memory": "128Mi"},
    }
    cluster.made("delete", "pod", "-n", "hymunet", made["metadata"]["name"], "--force", "--grace-period=0")


def until(cluster, seconds, look):
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, cluster.made("get", "events,pods", "-A")
        time.sleep(0.5)
    return seen


@pytest.fixture
def controlled(cluster):
    if not cluster.controlled:
        pytest.skip("no kube-controller-manager on this machine: nothing makes pods of deployments")


def test_the_controllers_pods_are_let_in(cluster, controlled):
    """Quotas, Pod Security, accounts, limits: each may refuse a pod that its deployment's manifest does not show."""
    for name in ("backup", "lifecycle"):
        cluster.made("create", "job", f"try-{name}", "--from", f"cronjob/{name}", "-n", "hymunet-registry")

    def made():
        pods = json.loads(cluster.made("get", "pods", "-n", "hymunet-registry", "-o", "json"))["items"]
        return {one["metadata"]["labels"]["app.kubernetes.io/name"] for one in pods}

    until(cluster, 90, lambda: made() == {"mlflow", "postgres", "backup", "lifecycle"})
    events = json.loads(cluster.made("get", "events", "-A", "-o", "json"))["items"]
    assert [one["message"] for one in events if one["reason"] == "FailedCreate"] == []


def test_beyond_the_quota_a_pod_is_refused(cluster, controlled):
    def known():
        return json.loads(cluster.made("get", "quota/runs", "-n", "hymunet", "-o", "json"))["status"]

    quota = until(cluster, 60, known)
    assert quota["hard"]["pods"] == "60"
    large = {"requests": {"cpu": "1000", "memory": "1Gi"}, "limits": {"cpu": "1000", "memory": "1Gi"}}
    done = create(cluster, pod("hymunet", container={"resources": large}))
    assert done.returncode != 0
    assert "exceeded quota: runs" in done.stderr


def test_check_tells_what_this_cluster_lacks(cluster, tmp_path):
    """`python -m pipelines check` before a real server: without its secret, with a part of it, with it."""
    pytest.importorskip("kfp", reason="needs the extra `pipelines`")
    digest = "sha256:" + "0" * 64
    settings = {
        "images": {"cpu": f"hub/hymunet@{digest}", "data": f"hub/data@{digest}"},
        "dvc_remote": "s3://bucket/dvc",
        "secrets": [{"name": "hymunet", "keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}],
        "service_account": "hymunet-runner",
    }
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))  # JSON is YAML

    def told():
        command = [sys.executable, "-m", "pipelines", "check", "--namespace", "hymunet"]
        environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
        done = subprocess.run(
            [*command, "--settings", str(tmp_path / "settings.yaml")], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 1, f"it has no node\n{done.stderr}"
        return done.stdout.splitlines()

    assert "lacking  secret hymunet" in [line.partition(":")[0] for line in told()]
    make = ["create", "secret", "generic", "hymunet", "-n", "hymunet", "--from-literal=AWS_ACCESS_KEY_ID=a"]
    cluster.made(*make)
    assert "lacking  secret hymunet: has no AWS_SECRET_ACCESS_KEY" in told()
    cluster.made("delete", "secret", "hymunet", "-n", "hymunet")
    cluster.made(*make, "--from-literal=AWS_SECRET_ACCESS_KEY=b")
    lines = [line.partition(":")[0] for line in told()]
    for name in ("namespace hymunet", "secret hymunet", "service account hymunet-runner"):
        assert f"ok       {name}" in lines
