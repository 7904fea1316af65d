"""What a step hands to Kubeflow: small files and numbers, never data.

Kubeflow tells a program its inputs and outputs as one JSON argument (`{{$}}`, the executor input) and reads back
`executor_output.json`. Without kfp: the training image does not carry it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Where Kubeflow's launcher keeps the local copy of an artifact, by the scheme of its address.
MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}


@dataclass
class Outputs:
    """`path(name)` is where an output belongs; `save` tells Kubeflow what was written."""

    executor_input: dict[str, Any]
    written: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Outputs":
        return cls(json.loads(text))

    def inputs(self, prefix: str) -> list[Path]:
        """Local files of the input artifacts whose names begin with `prefix`."""
        found = self.executor_input.get("inputs", {}).get("artifacts", {})
        return [_local(found[name]["artifacts"][0]["uri"]) for name in sorted(found) if name.startswith(prefix)]

    def names(self) -> set[str]:
        return set(self.executor_input["outputs"].get("artifacts", {}))

    def parameters(self) -> set[str]:
        return set(self.executor_input["outputs"].get("parameters", {}))

    def artifact(self, name: str, content: str | bytes, **metadata: Any) -> None:
        """Writes an output artifact; `metadata` is what Kubeflow shows beside it."""
        artifact = self.executor_input["outputs"]["artifacts"][name]["artifacts"][0]
        path = _local(artifact["uri"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.written[name] = {**artifact, "metadata": {**artifact.get("metadata", {}), **metadata}}

    def parameter(self, name: str, value: str) -> None:
        path = Path(self.executor_input["outputs"]["parameters"][name]["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value, encoding="utf-8")

    def save(self) -> None:
        path = Path(self.executor_input["outputs"]["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"artifacts": {name: {"artifacts": [a]} for name, a in self.written.items()}}), encoding="utf-8"
        )


def _local(uri: str) -> Path:
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme))
    return Path(uri)


def numbers(tree: Any, prefix: str = "") -> dict[str, float]:
    """The numeric leaves of nested dictionaries, as `a.b.c`: Kubeflow's metrics are flat."""
    if isinstance(tree, dict):
        return {key: value for name in tree for key, value in numbers(tree[name], f"{prefix}{name}.").items()}
    if isinstance(tree, bool) or not isinstance(tree, int | float):
        return {}
    return {prefix.rstrip("."): tree}
