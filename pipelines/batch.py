"""What a batch prediction may be asked for: looked at before it is submitted, and once more by its pods, since a run's
parameters can be changed on Kubeflow's page.
"""

import re
from pathlib import PurePosixPath

from hymunet.addresses import holds_secrets, without_secrets
from hymunet.prediction import results
from hymunet.registry.load import ADDRESS
from pipelines.settings import Settings


def kinds(save: str) -> tuple[str, ...]:
    """Of files to write, each of which is one an image; ValueError for another."""
    wanted = results.kinds(save)
    if results.COCO in wanted:
        raise ValueError(f"--save {save}: {results.COCO} is one file over all images; write contours")
    return wanted


def require_version(model: str) -> re.Match[str]:
    """ValueError for what is no address of the registry's."""
    found = ADDRESS.fullmatch(model)
    if not found:
        raise ValueError(f"--model {model}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    return found


def require_apart(source: str, target: str) -> None:
    """ValueError where masks would lie among the images, and be taken for images by the next run."""
    if source.rstrip("/") == target.rstrip("/"):
        raise ValueError(f"--target {target} is --source, too: name another place, as {target.rstrip('/')}/masks")


def require_place(name: str, address: str, settings: Settings) -> None:
    """ValueError for what no pod reaches, and for a pod's own disk, which ends with the pod."""
    if not address:
        raise ValueError(f"--{name}: name it for --pipeline predict, s3://bucket/prefix")
    if holds_secrets(address):
        raise ValueError(
            f"--{name} {without_secrets(address)}: an address with a user, a password or a query, and everybody can "
            "read the pipeline; write it without, and name the Kubernetes secret that has them in the settings"
        )
    if re.match(r"s3://[^/]", address):
        return
    path, volumes = PurePosixPath(address), [PurePosixPath(volume.path) for volume in settings.volumes]
    if ".." in path.parts or not any(volume == path or volume in path.parents for volume in volumes):
        known = ", ".join(map(str, volumes)) or "there are none"
        raise ValueError(
            f"--{name} {address}: no place that pods share; name s3://bucket/prefix, or an absolute path below one of "
            f"the settings' volumes ({known})"
        )
