"""infra/kubernetes as a cluster would get it; what its policies promise, each a function from manifests to faults."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.secrets import find

Manifest = dict[str, Any]
KUBERNETES = Path(__file__).resolve().parents[2] / "infra/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
WITH_TOKEN = {"hymunet-runner"}  # Kubeflow's launcher and Argo's executor ask the API server


def rendered(overlay: Path) -> str:
    """By kustomize itself, which kubectl brings; Debian's own kubectl (1.20) knows no components."""
    program = shutil.which("kustomize")
    command = [program, "build"] if program else ["kubectl", "kustomize"]
    if not program and not shutil.which("kubectl"):
        pytest.skip("neither kustomize nor kubectl on this machine")
    done = subprocess.run([*command, str(overlay)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(text: str) -> list[Manifest]:
    return [found for found in YAML(typ="safe").load_all(text) if found]


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(found: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Each pod's specification, by the name of what makes it."""
    for manifest in found:
        specification = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            specification = specification["jobTemplate"]["spec"]
        if manifest["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
            yield name_of(manifest), specification["template"]["spec"]
        elif manifest["kind"] == "InferenceService":
            yield name_of(manifest), specification["predictor"]
        elif manifest["kind"] == "Pod":
            yield name_of(manifest), specification


def containers(found: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    for name, pod in pods(found):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{name}/{container['name']}", pod, container


def root_users(found: list[Manifest]) -> list[str]:
    contexts = [(name, context(pod, container)) for name, pod, container in containers(found)]
    return [name for name, one in contexts if one.get("runAsNonRoot") is not True or one.get("runAsUser") == 0]


def context(pod: Manifest, container: Manifest) -> Manifest:
    """What holds for a container: its own word before its pod's."""
    return pod.get("securityContext", {}) | container.get("securityContext", {})


def below_restricted(found: list[Manifest]) -> list[str]:
    """What the Pod Security level `restricted` asks for beyond the user."""
    faults = [
        f"{name}: seccomp"
        for name, pod, container in containers(found)
        if context(pod, container).get("seccompProfile") != {"type": "RuntimeDefault"}
    ]
    for name, pod, container in containers(found):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            faults.append(f"{name}: privilege escalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            faults.append(f"{name}: capabilities")
        if pod.get("hostNetwork") or pod.get("hostPID") or any("hostPath" in one for one in pod.get("volumes", [])):
            faults.append(f"{name}: the host")
    return faults


def writable_roots(found: list[Manifest]) -> list[str]:
    return [
        name
        for name, _, container in containers(found)
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True
    ]


def tokens(found: list[Manifest]) -> list[str]:
    """Accounts and pods that get a token of the API server and need none."""
    accounts = [one for one in found if one["kind"] == "ServiceAccount"]
    faults = [
        name_of(one)
        for one in accounts
        if one.get("automountServiceAccountToken") is not False and one["metadata"]["name"] not in WITH_TOKEN
    ]
    namespaces = {one["metadata"]["name"] for one in found if one["kind"] == "Namespace"}
    covered = {one["metadata"]["namespace"] for one in accounts if one["metadata"]["name"] == "default"}
    faults += [f"Namespace/{name}: its default account" for name in sorted(namespaces - covered)]
    return faults + [name for name, pod in pods(found) if pod.get("automountServiceAccountToken") is not False]


def broad_roles(found: list[Manifest]) -> list[str]:
    """Wildcards, rights that give others, unnamed secrets; over the whole cluster, all but to read what is named."""
    faults = [
        name_of(one)
        for one in found
        if one["kind"] == "ClusterRole"
        if not all(rule["verbs"] == ["get"] and rule.get("resourceNames") for rule in one["rules"])
    ]
    given = {(one["kind"], one["metadata"]["name"]) for one in found}
    for binding in (one for one in found if one["kind"] in ("RoleBinding", "ClusterRoleBinding")):
        if (binding["roleRef"]["kind"], binding["roleRef"]["name"]) not in given:
            faults.append(f"{name_of(binding)}: a role of others")
    for role in (one for one in found if one["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            words = {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            if "*" in words or words & {"escalate", "bind", "impersonate", "pods/exec"}:
                faults.append(f"{name_of(role)}: {sorted(words)}")
            if "secrets" in rule["resources"] and not rule.get("resourceNames"):
                faults.append(f"{name_of(role)}: every secret")
    return faults


def unbounded(found: list[Manifest]) -> list[str]:
    return [
        f"{name}: {part} of {resource}"
        for name, _, container in containers(found)
        for part in ("requests", "limits")
        for resource in ("cpu", "memory")
        if not container.get("resources", {}).get(part, {}).get(resource)
    ]


def open_doors(found: list[Manifest]) -> list[str]:
    """Policies that let everybody through, and namespaces where what no policy names is not refused."""
    policies = [one for one in found if one["kind"] == "NetworkPolicy"]
    faults = []
    for policy in policies:
        for way, side in (("ingress", "from"), ("egress", "to")):
            for number, rule in enumerate(policy["spec"].get(way, [])):
                place = f"{name_of(policy)}: {way} {number}"
                if not rule.get("ports"):
                    faults.append(f"{place}: every port")
                if not rule.get(side):
                    faults.append(f"{place}: everybody")
                for peer in rule.get(side) or []:
                    selectors = [peer[key] for key in ("podSelector", "namespaceSelector") if key in peer]
                    wide = peer.get("ipBlock", {}).get("cidr", "").endswith("/0")
                    if wide or (selectors and not any(selectors)):
                        faults.append(f"{place}: everybody")
    closed = {
        policy["metadata"]["namespace"]
        for policy in policies
        if policy["spec"]["podSelector"] == {}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    }
    return faults + [
        f"Namespace/{one['metadata']['name']}: open"
        for one in found
        if one["kind"] == "Namespace" and one["metadata"]["name"] not in closed
    ]


def secrets(text: str) -> list[str]:
    """Secrets written down: as an object, as a variable's value, or as what keys look like."""
    found = manifests(text)
    faults = [name_of(one) for one in found if one["kind"] == "Secret"]
    for name, _, container in containers(found):
        for variable in container.get("env", []):
            words = ("PASSWORD", "SECRET", "TOKEN", "KEY")
            if "value" in variable and any(word in variable["name"] for word in words):
                faults.append(f"{name}: {variable['name']}")
    return faults + find(text)
