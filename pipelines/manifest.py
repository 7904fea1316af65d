"""A compiled pipeline as Kubernetes objects, for Kubeflow Pipelines' Kubernetes-native API and GitOps.

Kinds Pipeline and PipelineVersion of pipelines.kubeflow.org/v2beta1. A version never changes: its name ends with the
hash of its content, so that what has changed is another version beside the old one, and the same is the same object.
"""

import hashlib
import io
from pathlib import Path

from ruamel.yaml import YAML

from hymunet import atomic

API = "pipelines.kubeflow.org/v2beta1"
DIGITS = 12  # of the hash in a version's name


def write(package: Path, namespace: str, commit: str = "") -> str:
    """Replaces a compiled YAML by its two objects; returns the version's name. commit: of the sources, for display."""
    content = package.read_bytes()
    spec, *platform = YAML(typ="safe", pure=True).load_all(content)
    name = spec["pipelineInfo"]["name"]
    version = f"{name}-{hashlib.sha256(content).hexdigest()[:DIGITS]}"
    description = spec["pipelineInfo"].get("description", "")
    pipeline = {
        "apiVersion": API,
        "kind": "Pipeline",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"displayName": name, "description": description},
    }
    specification = {
        "displayName": f"{version} ({commit[:12]})" if commit else version,
        "description": description,
        "pipelineName": name,
        "pipelineSpec": spec,
        **({"platformSpec": platform[0]} if platform else {}),
    }
    made = {
        "apiVersion": API,
        "kind": "PipelineVersion",
        "metadata": {"name": version, "namespace": namespace},
        "spec": specification,
    }
    text, yaml = io.StringIO(), YAML()
    yaml.width = 4096
    yaml.dump_all([pipeline, made], text)
    atomic.write(package, text.getvalue())
    return version
