"""infra/kubernetes, rendered: valid by Kubernetes' own definitions; its parts agree with each other and with ours."""

import importlib
import os
import re
import shutil
import subprocess
from ipaddress import ip_network

import pytest

from pipelines.settings import load
from tests.support.manifests import KUBERNETES, OVERLAYS, containers, manifests, name_of, pods, rendered

CUSTOM = ("kueue.x-k8s.io", "serving.kserve.io")
VERSIONS = ["1.32", "1.37"]


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture(scope="module")
def found(overlay):
    return manifests(rendered(KUBERNETES / "overlays" / overlay))


def only(found, kind, name=None):
    chosen = [one for one in found if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    assert len(chosen) == 1, [name_of(one) for one in chosen]
    return chosen[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_one_of_kubernetes(found, version):
    validate = pytest.importorskip("kubernetes_validate").validate
    checked = [one for one in found if not one["apiVersion"].startswith(CUSTOM)]
    assert len(checked) > 20
    for manifest in checked:
        validate(manifest, version, strict=True)


def test_the_check_sees_a_field_that_is_none_of_kubernetes(found):
    validation = pytest.importorskip("kubernetes_validate")
    deployment = only(found, "Deployment")
    deployment = deployment | {"spec": deployment["spec"] | {"replica": 2}}
    with pytest.raises(validation.ValidationError):
        validation.validate(deployment, VERSIONS[-1], strict=True)


def test_the_served_pod_is_one_of_kubernetes(found):
    validate = pytest.importorskip("kubernetes_validate").validate
    for manifest in (one for one in found if one["kind"] == "InferenceService"):
        pod = dict(manifest["spec"]["predictor"])
        kserve = {key: pod.pop(key) for key in ("labels", "minReplicas", "timeout")}
        assert kserve == {"labels": {"app.kubernetes.io/name": "serving"}, "minReplicas": 1, "timeout": 60}
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, VERSIONS[-1], strict=True)


# What Knative's webhook lets through without a feature being switched on: pkg/apis/serving/fieldmask.go.
POD = {"containers", "volumes", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks"}
SECURITY = {"capabilities", "readOnlyRootFilesystem", "runAsUser", "runAsGroup", "runAsNonRoot"}
SECURITY |= {"allowPrivilegeEscalation", "seccompProfile", "privileged"}


def test_knative_as_it_comes_takes_the_served_pod(found):
    for manifest in (one for one in found if one["kind"] == "InferenceService"):
        kserve = {"labels", "minReplicas", "timeout"}
        assert set(manifest["spec"]["predictor"]) - kserve <= POD
        for container in manifest["spec"]["predictor"]["containers"]:
            assert set(container["securityContext"]) <= SECURITY


@pytest.mark.parametrize("port", [8012, 8080, 9090])
def test_knative_reaches_the_served_pod(found, port):
    """Its activator and the gateway by the queue-proxy, its autoscaler by the queue-proxy's metrics."""
    if any(one["kind"] == "InferenceService" for one in found):
        [rule] = only(found, "NetworkPolicy", "serving")["spec"]["ingress"]
        assert {"protocol": "TCP", "port": port} in rule["ports"]


def test_serving_is_what_deploy_prints(found, monkeypatch):
    """Up to image and model, and a read-only root with a place to write."""
    from types import SimpleNamespace

    from hymunet.serving import deploy, follow

    zeros, address = "0" * 64, "http://mlflow.hymunet-registry.svc:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setattr(follow, "load", lambda model: SimpleNamespace(source="models:/hymunet/1", weights=zeros))
    [printed] = manifests(
        deploy.kserve("models:/hymunet/1", f"registry.example/x@sha256:{zeros}", "hymunet", "hymunet-serving")
    )
    [expected] = printed["spec"]["predictor"]["containers"]
    for manifest in (one for one in found if one["kind"] == "InferenceService"):
        [ours] = manifest["spec"]["predictor"]["containers"]
        ours = {key: value for key, value in ours.items() if key not in ("volumeMounts", "image")}
        assert ours["securityContext"].pop("readOnlyRootFilesystem") is True
        for stricter in ("runAsUser", "runAsGroup", "seccompProfile"):
            ours["securityContext"].pop(stricter, None)
        assert ours == {key: value for key, value in expected.items() if key != "image"}


def test_names_lead_to_what_there_is(found):
    """Accounts, claims, config maps, and the pods that services and policies choose."""
    there = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found}
    for name, pod in pods(found):
        where = "hymunet-registry"
        assert ("ServiceAccount", where, pod["serviceAccountName"]) in there, name
        for volume in pod.get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", where, claim["claimName"]) in there, name
            if config := volume.get("configMap"):
                assert ("ConfigMap", where, config["name"]) in there, name
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    assert ("ConfigMap", where, source["configMapRef"]["name"]) in there, name
    labels = []
    for one in found:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        labels.append(spec.get("template", {}).get("metadata", {}).get("labels", {}))
        labels.append(spec.get("predictor", {}).get("labels", {}))
    names = {label["app.kubernetes.io/name"] for label in labels if label}
    for policy in (one for one in found if one["kind"] == "NetworkPolicy"):
        chosen = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
        assert chosen is None or chosen in names, name_of(policy)


def test_an_overlay_has_its_addresses_everywhere(found):
    text = str(found)
    assert "ConfigMap/addresses" not in {name_of(one) for one in found}
    store = only(found, "ConfigMap", "store")["data"]
    [mlflow] = [container for name, _, container in containers(found) if name == "Deployment/mlflow/mlflow"]
    environment = {one["name"]: one.get("value") for one in mlflow["env"]}
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == f"s3://{store['HYMUNET_BUCKET']}/mlflow"
    if "seaweedfs.kubeflow" in store["AWS_ENDPOINT_URL"]:
        assert "192.0.2.10" not in text, "an address that stands for another was left"


# Of services: kubeadm's, kind's and minikube's; k3s's; OpenShift's; EKS's. What a policy is asked about is behind them.
SERVICES = [*map(ip_network, ("10.96.0.0/12", "10.43.0.0/16", "172.30.0.0/16", "10.100.0.0/16", "172.20.0.0/16"))]


def api_server(found):
    """The steps' rule for it: its addresses and ports."""
    [rule] = [
        one
        for one in only(found, "NetworkPolicy", "steps")["spec"]["egress"]
        if {"protocol": "TCP", "port": 6443} in one["ports"]
    ]
    return [ip_network(peer["ipBlock"]["cidr"]) for peer in rule["to"]], {port["port"] for port in rule["ports"]}


def test_the_api_server_is_named_as_a_policy_sees_it(found, overlay):
    """Behind its service: a policy that names the service's address lets nothing through."""
    blocks, ports = api_server(found)
    assert not [block for block in blocks if any(block.overlaps(services) for services in SERVICES)]
    assert ports == {443, 6443} | ({8443} if overlay == "workstation" else set())


def test_a_policy_names_no_address_of_a_service(found):
    for policy in (one for one in found if one["kind"] == "NetworkPolicy"):
        rules = [*policy["spec"].get("egress", []), *policy["spec"].get("ingress", [])]
        peers = [peer for rule in rules for peer in (*rule.get("to", []), *rule.get("from", [])) if "ipBlock" in peer]
        blocks = [ip_network(peer["ipBlock"]["cidr"]) for peer in peers]
        assert not [block for block in blocks if any(block.overlaps(one) for one in SERVICES)], name_of(policy)


def test_the_documentation_s_command_writes_the_api_server_down(tmp_path):
    page = (KUBERNETES.parents[1] / "docs/kubernetes.md").read_text(encoding="utf-8")
    [command] = re.findall(r"```bash\n(api=.*?)```", page, re.DOTALL)
    place = tmp_path / "infra/kubernetes"
    shutil.copytree(KUBERNETES, place)
    answering = 'kubectl() { [ "$3 $4 $5" = "get endpointslices kubernetes" ] && echo 172.18.0.2; }\n'
    subprocess.run(["bash", "-euc", answering + command], cwd=tmp_path, check=True)
    assert api_server(manifests(rendered(place / "overlays/workstation")))[0] == [ip_network("172.18.0.2/32")]


@pytest.mark.parametrize("script", ["kind.sh", "kubeflow.sh"])
def test_the_trials_in_kind_put_the_api_server_there(script):
    text = (KUBERNETES / script).read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("kubectl kustomize")]
    command, applied = line.rsplit(" | ", 1)
    assert applied == "kubectl apply --server-side --force-conflicts -f -"
    substitute = command.partition(" | ")[2]
    done = subprocess.run(
        ["bash", "-euc", substitute],
        input=rendered(KUBERNETES / "overlays/workstation"),
        env={"PATH": os.environ["PATH"], "api": "172.18.0.2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert api_server(manifests(done.stdout))[0] == [ip_network("172.18.0.2/32")]
    assert "192.0.2." not in done.stdout


@pytest.mark.parametrize("host", ["mlflow.hymunet-registry.svc:5000", "mlflow.hymunet-registry.svc.cluster.local:5000"])
def test_mlflow_answers_to_the_name_that_pods_call_it_by(found, host):
    """It refuses other names, against DNS rebinding; its default knows localhost and private addresses alone."""
    utilities = pytest.importorskip("mlflow.server.security_utils")
    [mlflow] = [container for name, _, container in containers(found) if name == "Deployment/mlflow/mlflow"]
    [allowed] = [one["value"] for one in mlflow["env"] if one["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert utilities.is_allowed_host_header(allowed.split(","), host)
    assert not utilities.is_allowed_host_header(allowed.split(","), "elsewhere.example")
    assert mlflow["readinessProbe"]["httpGet"]["path"] in utilities.HEALTH_ENDPOINTS


def test_mlflow_is_reached_from_where_steps_run():
    """Without profiles, as on one machine, Kubeflow runs them in its own namespace."""
    for overlay, expected in (
        ("workstation", {"hymunet", "kubeflow"}),
        ("team", {"hymunet"}),
        ("openshift", {"hymunet"}),
    ):
        policy = only(manifests(rendered(KUBERNETES / "overlays" / overlay)), "NetworkPolicy", "mlflow")
        peers = [peer.get("namespaceSelector") for peer in policy["spec"]["ingress"][0]["from"]]
        named = {peer["matchLabels"]["kubernetes.io/metadata.name"] for peer in peers if peer}
        assert named == expected, overlay


def test_queues_cover_what_the_quota_counts(found):
    kueue = [one for one in found if one["apiVersion"].startswith("kueue")]
    if not kueue:
        return
    queue = only(found, "ClusterQueue")["spec"]
    assert only(found, "LocalQueue")["spec"]["clusterQueue"] == "hymunet"
    assert only(found, "LocalQueue")["metadata"]["namespace"] == "hymunet"
    assert queue["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == "hymunet"
    flavors = {one["metadata"]["name"] for one in kueue if one["kind"] == "ResourceFlavor"}
    [group] = queue["resourceGroups"]
    assert {flavor["name"] for flavor in group["flavors"]} == flavors
    hard = only(found, "ResourceQuota", "runs")["spec"]["hard"]
    gpus = 0
    for flavor in group["flavors"]:
        quotas = {one["name"]: one["nominalQuota"] for one in flavor["resources"]}
        assert list(quotas) == group["coveredResources"]
        gpus += int(quotas["nvidia.com/gpu"])
    assert gpus == int(hard["requests.nvidia.com/gpu"])


STEPS = ("download", "prepare", "split", "validate", "train", "evaluate", "register")
BESIDE = 2  # Kubeflow's and Argo's own containers in a step's pod


def amount(text):
    """Of a resource, in processors or bytes."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * units[unit] if unit else float(number)


def test_every_step_fits_into_the_quota_and_into_its_queue(found):
    """A pod that a quota cannot hold is refused for ever; one that no queue can hold waits for ever."""
    hard = only(found, "ResourceQuota", "runs")["spec"]["hard"]
    [limits] = only(found, "LimitRange", "runs")["spec"]["limits"]
    queues = [one["spec"]["resourceGroups"][0]["flavors"] for one in found if one["kind"] == "ClusterQueue"]
    for step in STEPS:
        needs = importlib.import_module(f"components.{step}.component").NEEDS
        for resource in ("cpu", "memory"):
            asked = amount(getattr(needs, resource))
            assert asked + BESIDE * amount(limits["defaultRequest"][resource]) <= amount(
                hard[f"requests.{resource}"]
            ), step
            assert asked + BESIDE * amount(limits["default"][resource]) <= amount(hard[f"limits.{resource}"]), step
            for flavors in queues:
                [flavor] = [one for one in flavors if one["name"].endswith("gpu" if needs.accelerator else "cpu")]
                nominal = {one["name"]: one["nominalQuota"] for one in flavor["resources"]}
                assert asked <= amount(nominal[resource]), step


@pytest.mark.parametrize("step", STEPS)
def test_a_step_without_gpus_leaves_the_nodes_with_gpus_free(found, step):
    """Kueue takes the first flavor, in the queue's order, in which a workload fits."""
    needs = importlib.import_module(f"components.{step}.component").NEEDS
    asked = {"cpu": needs.cpu, "memory": needs.memory}
    for gpus in (0, 1) if needs.accelerator else (0,):
        wanted = asked | {"nvidia.com/gpu": str(gpus)}
        for queue in (one for one in found if one["kind"] == "ClusterQueue"):
            fitting = [
                flavor["name"]
                for flavor in queue["spec"]["resourceGroups"][0]["flavors"]
                if all(amount(wanted[one["name"]]) <= amount(one["nominalQuota"]) for one in flavor["resources"])
            ]
            assert fitting[0] == ("hymunet-gpu" if gpus else "hymunet-cpu")


# Kubeflow Pipelines 2.17: its pods' ports; minio-service leads from 9000 to SeaweedFS's 8333.
@pytest.mark.parametrize("port", [8080, 8887, 8888, 8333])
def test_a_step_reaches_kubeflows_services_at_their_pods_ports(found, port):
    policy = only(found, "NetworkPolicy", "steps")
    kubeflow = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}}
    [rule] = [one for one in policy["spec"]["egress"] if kubeflow in one["to"]]
    assert {"protocol": "TCP", "port": port} in rule["ports"]


def test_no_default_of_disk_ends_a_step(found):
    """A limit of ephemeral storage counts the workspace, an emptyDir of up to 60 GiB, too."""
    for limits in (one["spec"]["limits"][0] for one in found if one["kind"] == "LimitRange"):
        assert "ephemeral-storage" not in limits["default"] | limits["defaultRequest"]


def test_the_steps_secret_is_the_settings_secret(found):
    settings = load(KUBERNETES.parent / "kubeflow/settings.yaml")
    [mlflow] = [container for name, _, container in containers(found) if name == "Deployment/mlflow/mlflow"]
    named = [source["secretRef"]["name"] for source in mlflow["envFrom"] if "secretRef" in source]
    assert named == [secret.name for secret in settings.secrets]


def test_argo_cd_is_told_of_an_overlay_and_removes_nothing():
    [application] = manifests((KUBERNETES / "argocd.yaml").read_text(encoding="utf-8"))
    assert application["spec"]["source"]["path"] == "infra/kubernetes/overlays/team"
    assert (KUBERNETES / "overlays/team/kustomization.yaml").exists()
    assert application["spec"]["syncPolicy"]["automated"] == {"prune": False, "selfHeal": True}


def test_the_trial_in_kind_names_what_there_is():
    """The script has not run here; what it asks for by name must at least be rendered."""
    script = KUBERNETES / "kind.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    workstation = rendered(KUBERNETES / "overlays/workstation")
    there = {name_of(one).lower() for one in manifests(workstation)}
    text = script.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:statefulset|deployment|cronjob)/\w+", text))
    assert len(named) == 3
    assert named <= there
    made = set(re.findall(r"create secret generic ([\w-]+)", text))
    asked = re.findall(r"secretKeyRef:\n *key: \w+\n *name: ([\w-]+)|secretRef:\n *name: ([\w-]+)", workstation)
    assert made == {one or other for one, other in asked}
