"""`hymunet deploy --kserve`: a KServe InferenceService of one image, by its digest, and one model, by its hash."""

from __future__ import annotations

import io
import re
from typing import Any

from hymunet.addresses import holds_secrets, without_secrets
from hymunet.mlflow_store.address import registry_uri, tracking_uri
from hymunet.registry.load import require_there
from hymunet.serving.contract import KEY

IMAGE = re.compile(r"[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
PORT = 8080


def kserve(model: str, image: str, name: str, key_secret: str = "") -> str:
    """The manifest, YAML. The model is opened here: an alias becomes the version that it names now, and the server is
    told to answer with no other weights than these.

    model: models:/NAME@ALIAS or models:/NAME/VERSION. key_secret: the Kubernetes Secret whose entry `key` clients must
    send. Raises ValueError for what is not pinned or cannot be opened.
    """
    if not IMAGE.fullmatch(image):
        raise ValueError(f"--image {image}: not pinned; name it by its digest, REPOSITORY@sha256:64 hexadecimal digits")
    if not NAME.fullmatch(name):
        raise ValueError(f"--name {name}: expected small letters, digits and hyphens, at most 63, a letter first")
    if not model.startswith("models:"):
        raise ValueError(f"--model {model}: a cluster cannot read it; register it and name models:/NAME/VERSION")
    require_there(model)
    environment = _environment(key_secret)

    from hymunet.serving.follow import load

    loaded = load(model)
    container: dict[str, Any] = {
        "name": "kserve-container",
        "image": image,
        "command": ["python", "-m", "hymunet.cli", "serve"],
        "args": [
            *("--model", loaded.source, "--weights-sha256", loaded.weights),
            *("--host", "0.0.0.0", "--port", str(PORT)),
        ],
        "env": environment,
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 10},
        "startupProbe": {"httpGet": {"path": "/health", "port": PORT}, "failureThreshold": 60, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
    }
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "annotations": {
                "hymunet/model": loaded.source,
                "hymunet/weights-sha256": loaded.weights,
                "hymunet/use": "research use only; not a medical device",
            },
        },
        "spec": {"predictor": {"minReplicas": 1, "timeout": 60, "containers": [container]}},
    }
    return _yaml(manifest)


def _environment(key_secret: str) -> list[dict[str, Any]]:
    addresses = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_REGISTRY_URI": registry_uri()}
    for name, address in addresses.items():
        if not address.startswith(("http://", "https://")) or holds_secrets(address):
            shown = without_secrets(address)
            raise ValueError(f"{name} is {shown}: a manifest takes an http(s) server's address without user or query")
    if addresses["MLFLOW_REGISTRY_URI"] == addresses["MLFLOW_TRACKING_URI"]:
        del addresses["MLFLOW_REGISTRY_URI"]
    found: list[dict[str, Any]] = [{"name": name, "value": address} for name, address in addresses.items()]
    if key_secret:
        found.append({"name": KEY, "valueFrom": {"secretKeyRef": {"name": key_secret, "key": "key"}}})
    return found


def _yaml(content: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.dump(content, text)
    return text.getvalue()
