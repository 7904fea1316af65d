"""What infra/kubernetes promises holds in every overlay; and each check finds a breach that is planted."""

import copy

import pytest

from tests.support import manifests as policy
from tests.support.manifests import KUBERNETES, OVERLAYS, manifests, rendered

CHECKS = [
    policy.root_users,
    policy.below_restricted,
    policy.writable_roots,
    policy.tokens,
    policy.broad_roles,
    policy.unbounded,
    policy.open_doors,
]


@pytest.fixture(scope="module")
def overlays():
    return {name: rendered(KUBERNETES / "overlays" / name) for name in OVERLAYS}


@pytest.fixture(scope="module")
def team(overlays):
    return manifests(overlays["team"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_policies_hold(overlays, name):
    found = manifests(overlays[name])
    assert {check.__name__: check(found) for check in CHECKS} == {check.__name__: [] for check in CHECKS}


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_secret_is_in_a_rendered_file(overlays, name):
    assert policy.secrets(overlays[name]) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_namespaces_say_which_pods_they_take(overlays, name):
    levels = {
        one["metadata"]["name"]: one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for one in manifests(overlays[name])
        if one["kind"] == "Namespace"
    }
    assert levels == {"hymunet": "baseline", "hymunet-registry": "restricted"}


def pod(found):
    return next(specification for name, specification in policy.pods(found) if name == "Deployment/mlflow")


def first(found, kind, name=None):
    return next(one for one in found if one["kind"] == kind and name in (None, one["metadata"]["name"]))


PLANTED = {
    "root": (policy.root_users, lambda all: pod(all)["securityContext"].update(runAsUser=0)),
    "perhaps root": (policy.root_users, lambda all: pod(all)["securityContext"].pop("runAsNonRoot")),
    "a container's root": (
        policy.root_users,
        lambda all: pod(all)["containers"][0]["securityContext"].update(runAsUser=0),
    ),
    "a container without seccomp": (
        policy.below_restricted,
        lambda all: pod(all)["containers"][0]["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    ),
    "capabilities": (
        policy.below_restricted,
        lambda all: pod(all)["containers"][0]["securityContext"].pop("capabilities"),
    ),
    "the host's files": (
        policy.below_restricted,
        lambda all: pod(all)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    ),
    "no seccomp": (policy.below_restricted, lambda all: pod(all)["securityContext"].pop("seccompProfile")),
    "writable root": (
        policy.writable_roots,
        lambda all: pod(all)["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    "an init container's root": (
        policy.writable_roots,
        lambda all: pod(all).update(initContainers=[{"name": "first", "image": "x"}]),
    ),
    "a pod's token": (policy.tokens, lambda all: pod(all).pop("automountServiceAccountToken")),
    "an account's token": (
        policy.tokens,
        lambda all: first(all, "ServiceAccount", "registry").pop("automountServiceAccountToken"),
    ),
    "the default account": (policy.tokens, lambda all: all.remove(first(all, "ServiceAccount", "default"))),
    "every verb": (policy.broad_roles, lambda all: first(all, "Role")["rules"][0].update(verbs=["*"])),
    "every secret": (policy.broad_roles, lambda all: first(all, "Role")["rules"][2].pop("resourceNames")),
    "the whole cluster": (
        policy.broad_roles,
        lambda all: first(all, "ClusterRole")["rules"][0].pop("resourceNames"),
    ),
    "to change the cluster": (
        policy.broad_roles,
        lambda all: first(all, "ClusterRole")["rules"][0].update(verbs=["get", "patch"]),
    ),
    "the cluster's own role": (
        policy.broad_roles,
        lambda all: first(all, "ClusterRoleBinding")["roleRef"].update(name="cluster-admin"),
    ),
    "no limit": (policy.unbounded, lambda all: pod(all)["containers"][0]["resources"]["limits"].pop("memory")),
    "no request": (policy.unbounded, lambda all: pod(all)["containers"][0]["resources"].pop("requests")),
    "from everybody": (
        policy.open_doors,
        lambda all: first(all, "NetworkPolicy", "mlflow")["spec"]["ingress"][0].pop("from"),
    ),
    "from every namespace": (
        policy.open_doors,
        lambda all: first(all, "NetworkPolicy", "mlflow")["spec"]["ingress"][0].update(
            {"from": [{"namespaceSelector": {}}]}
        ),
    ),
    "to the internet": (
        policy.open_doors,
        lambda all: first(all, "NetworkPolicy", "steps")["spec"]["egress"][0].update(
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
        ),
    ),
    "every port": (
        policy.open_doors,
        lambda all: first(all, "NetworkPolicy", "steps")["spec"]["egress"][0].pop("ports"),
    ),
    "no default": (policy.open_doors, lambda all: all.remove(first(all, "NetworkPolicy", "nothing-else"))),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_breach_is_found(team, name):
    check, plant = PLANTED[name]
    found = copy.deepcopy(team)
    plant(found)
    assert check(found)


@pytest.mark.parametrize(
    "planted",
    [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: YQ==}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {id: " + "AKIA" + "IOSFODNN7EXAMPLE}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 'postgresql://mlflow:"
        + "hunter2@postgres/x'}\n",
        "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, env: [{name: PGPASSWORD, value: b}]}]}\n",
    ],
    ids=["object", "key", "address", "variable"],
)
def test_a_planted_secret_is_found(overlays, planted):
    assert policy.secrets(f"{overlays['team']}---\n{planted}")
