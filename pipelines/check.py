"""What a cluster lacks of what the settings name, asked of the Kubernetes API before anything is submitted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from pipelines.settings import Accelerator, Pool, Settings, Toleration

KUEUE = ("kueue.x-k8s.io", "v1beta1")
TRAINER = ("trainer.kubeflow.org", "v1alpha1")
POLICY = "steps"  # of infra/kubernetes/base/network.yaml
RESTRICTED = "pod-security.kubernetes.io/enforce"
OK, LACKING, UNKNOWN = "ok", "lacking", "unknown"
TIMEOUT = 20


@dataclass(frozen=True)
class Finding:
    state: str
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state:8} {self.what}{f': {self.why}' if self.why else ''}"


def connect(context: str | None) -> Any:
    """A client of the Kubernetes API, by the kubeconfig, or by what a pod is given. ValueError where there is none."""
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException
    from yaml import YAMLError

    try:
        return config.new_client_from_config(context=context)
    except YAMLError as error:
        raise ValueError(f"the kubeconfig is not valid YAML: {' '.join(str(error).split())}; set KUBECONFIG") from None
    except (ConfigException, FileNotFoundError) as error:
        if context:
            raise ValueError(f"--context {context}: {error}") from None
    try:
        config.load_incluster_config()
    except ConfigException as error:
        raise ValueError(f"no kubeconfig and no pod's own cluster ({error}); set KUBECONFIG") from None
    return client.ApiClient()


def check_cluster(settings: Settings, api: Any, namespace: str) -> int:
    """Prints a line for each thing asked for. 0: all there; 1: something is lacking; 3: something could not be seen."""
    findings = list(look(settings, api, namespace))
    for finding in findings:
        print(finding, flush=True)
    states = {finding.state for finding in findings}
    return 1 if LACKING in states else 3 if UNKNOWN in states else 0


def look(settings: Settings, api: Any, namespace: str) -> Iterator[Finding]:
    from kubernetes import client

    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
    space, trouble = asked(f"namespace {namespace}", partial(core.read_namespace, namespace))
    yield trouble or _admits(space, namespace)
    if trouble and trouble.state == LACKING:
        return
    for secret in settings.secrets:
        found, trouble = asked(f"secret {secret.name}", partial(core.read_namespaced_secret, secret.name, namespace))
        missing = [key for key in secret.keys if not found or key not in (found.data or {})]
        why = f"has no {', '.join(missing)}" if missing else ""
        yield trouble or Finding(LACKING if missing else OK, f"secret {secret.name}", why)
    for name in settings.pull_secrets:
        found, trouble = asked(f"pull secret {name}", partial(core.read_namespaced_secret, name, namespace))
        right = found and found.type in ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
        why = "" if right or not found else f"is of type {found.type}"
        yield trouble or Finding(OK if right else LACKING, f"pull secret {name}", why)
    if account := settings.service_account:
        yield _there(f"service account {account}", partial(core.read_namespaced_service_account, account, namespace))
    for volume in settings.volumes:
        read = partial(core.read_namespaced_persistent_volume_claim, volume.claim, namespace)
        yield _there(f"volume claim {volume.claim}", read)
    yield from _queued(settings, custom, namespace)
    yield from _reaches_api_server(api, namespace)
    if settings.accelerator and settings.accelerator.nodes > 1:
        name = settings.accelerator.runtime
        read = partial(custom.get_cluster_custom_object, *TRAINER, "clustertrainingruntimes", name)
        yield _there(f"Kubeflow Trainer's runtime {name}", read)
    nodes, trouble = asked("nodes", core.list_node)
    if trouble:
        yield trouble
        return
    yield _room("nodes of the steps", nodes.items, settings.pool)
    if settings.accelerator:
        yield _room("nodes of the training", nodes.items, settings.accelerator)


def _there(what: str, read: Callable[..., Any]) -> Finding:
    return asked(what, read)[1] or Finding(OK, what)


def asked(what: str, read: Callable[..., Any]) -> tuple[Any, Finding | None]:
    """What the cluster answers; or what is wrong with it. ValueError where no cluster answers."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return read(_request_timeout=TIMEOUT), None
    except ApiException as error:
        if error.status == 404:
            return None, Finding(LACKING, what, "is not there")
        if error.status in (401, 403):
            return None, Finding(UNKNOWN, what, f"you may not look ({error.status})")
        return None, Finding(UNKNOWN, what, f"the cluster failed ({error.status} {error.reason})")
    except HTTPError as error:
        raise ValueError(f"the cluster does not answer: {type(error).__name__}; is the kubeconfig right?") from None


def _admits(space: Any, namespace: str) -> Finding:
    level = (space.metadata.labels or {}).get(RESTRICTED)
    if level == "restricted":
        why = f"{RESTRICTED}=restricted refuses the pods: kfp cannot set what it asks for; enforce baseline"
        return Finding(LACKING, f"namespace {namespace}", why)
    return Finding(OK, f"namespace {namespace}")


def _queued(settings: Settings, custom: Any, namespace: str) -> Iterator[Finding]:
    if not settings.queue:
        return
    what = f"queue {settings.queue}"
    read = partial(custom.get_namespaced_custom_object, *KUEUE, namespace, "localqueues", settings.queue)
    found, trouble = asked(what, read)
    if trouble:
        yield trouble
    else:
        conditions = {one["type"]: one for one in found.get("status", {}).get("conditions", [])}
        active = conditions.get("Active", {"status": "True"})
        why = f"is not active: {active.get('message', '')}"
        yield Finding(OK, what) if active["status"] == "True" else Finding(LACKING, what, why)
    if settings.priority:
        read = partial(custom.get_cluster_custom_object, *KUEUE, "workloadpriorityclasses", settings.priority)
        yield _there(f"priority {settings.priority}", read)


def _reaches_api_server(api: Any, namespace: str) -> Iterator[Finding]:
    """Whether the policy of infra/kubernetes, where the namespace has it, names the server behind its service: that is
    what a network plugin asks it about. Nothing where one may not look at policies, which the settings do not name."""
    from kubernetes import client

    what = f"the API server in network policy {POLICY}"
    read = partial(client.NetworkingV1Api(api).read_namespaced_network_policy, POLICY, namespace)
    policy, _ = asked(what, read)
    if not policy:
        return
    read = partial(client.DiscoveryV1Api(api).read_namespaced_endpoint_slice, "kubernetes", "default")
    found, trouble = asked("the API server's own addresses", read)
    if trouble:
        yield replace(trouble, state=UNKNOWN)
        return
    there = [(ip_address(text), port.port) for one in found.endpoints for text in one.addresses for port in found.ports]
    if named := [f"{address} port {port}" for address, port in there if not _let_through(policy, address, port)]:
        yield Finding(LACKING, what, f"does not let {', '.join(named)} through; docs/kubernetes.md, Addresses")
    else:
        yield Finding(OK, what)


def _let_through(policy: Any, address: IPv4Address | IPv6Address, port: int) -> bool:
    """By an address; a rule without peers or ports is for all."""
    for rule in policy.spec.egress or []:
        blocks = [ip_network(peer.ip_block.cidr) for peer in rule.to or [] if peer.ip_block]
        reached = not rule.to or any(address in block for block in blocks)
        if reached and (not rule.ports or any(one.port in (None, port) for one in rule.ports)):
            return True
    return False


def _room(what: str, nodes: list[Any], pool: Pool) -> Finding:
    """Whether there is a node now that would take a pod; a pool that grows on demand may have none."""
    fitting = [node for node in nodes if _selected(node, pool)]
    if not fitting:
        return Finding(
            LACKING, what, f"none has the labels {pool.node_selector}; a pool that grows from none has none yet"
        )
    open_to_us = [node for node in fitting if not _kept_out(node, pool.tolerations)]
    if not open_to_us:
        return Finding(LACKING, what, f"all are tainted: {_kept_out(fitting[0], pool.tolerations)}; name a toleration")
    if isinstance(pool, Accelerator):
        most = max(int((node.status.allocatable or {}).get(pool.type, 0)) for node in open_to_us)
        if most < pool.count:
            return Finding(LACKING, what, f"none has {pool.count} × {pool.type}, the most is {most}")
    return Finding(OK, what, f"{len(open_to_us)} fit")


def _selected(node: Any, pool: Pool) -> bool:
    labels = node.metadata.labels or {}
    return all(labels.get(key) == value for key, value in pool.node_selector.items())


def _kept_out(node: Any, tolerations: list[Toleration]) -> str:
    """The first taint that keeps our pods away."""
    for taint in node.spec.taints or []:
        if taint.effect == "PreferNoSchedule":
            continue
        if not any(_tolerates(one, taint) for one in tolerations):
            return f"{taint.key}={taint.value or ''}:{taint.effect}"
    return ""


def _tolerates(toleration: Toleration, taint: Any) -> bool:
    if toleration.effect not in (None, taint.effect) or toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == (taint.value or "")
