"""Where the pipeline runs: images, stores, secrets, queue, nodes. One YAML file, infra/kubeflow/settings.yaml.

What kfp-kubernetes 2.17 has no field for, and so a settings file neither: a container's read-only root, capabilities
and privileges; a pod's PriorityClass (`priority` is Kueue's, which orders the queue); host and network settings. A
cluster that wants these sets them by an admission policy. A service account is the run's, not a step's.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hymunet.addresses import holds_secrets
from hymunet.params import read_yaml
from hymunet.section import explain
from pipelines.kubernetes_names import (
    PRIORITY,
    QUEUE,
    Image,
    LabelName,
    Labels,
    Name,
    OwnAnnotations,
    OwnLabels,
    Resource,
    Variable,
)
from pipelines.most import Most

# A registry's digest, or the id of an image on this machine: both name content, a tag names whatever is there today.
BY_CONTENT = re.compile(r"([^\s@]+@)?sha256:[0-9a-f]{64}")
# With a password, before a host; with no scheme, too.
USER = re.compile(r"(^|[\s,;=/])[^\s,;=/@:]+:[^\s,;/@]+@(?!sha256:)[^\s@]")
LOCAL = re.compile(r"//([^/@]*@)?(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[::1?\])(?=[:/]|$)", re.IGNORECASE)
SECRET_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSWORD", re.IGNORECASE)

OWN_PLACES = ("/work", "/tmp", "/dev", "/app", "/proc", "/sys", "/etc", "/usr", "/var/run/secrets")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(Strict):
    cpu: Image
    data: Image
    accelerator: Image | None = None  # the training image where there is an accelerator; else cpu


class Secret(Strict):
    """A Kubernetes secret and its keys, each of which becomes the environment variable of that name."""

    name: Name
    keys: list[Variable] = Field(min_length=1)


class Volume(Strict):
    """A persistent volume claim, and where every step sees it."""

    claim: Name
    path: str

    @model_validator(mode="after")
    def _leaves_our_own_places_alone(self) -> Self:
        path = PurePosixPath(self.path)
        own = [PurePosixPath(place) for place in OWN_PLACES]
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
            raise ValueError(f"{self.path!r}: expected an absolute path, as /mnt/scans")
        if ":" in self.path:
            raise ValueError(f"{self.path!r}: Kubernetes takes no place with a colon; name another, as /mnt/scans")
        if taken := [str(place) for place in own if path == place or place in path.parents or path in place.parents]:
            raise ValueError(f"{self.path!r}: steps need {taken[0]} for themselves; name another place, as /mnt/scans")
        return self


class Toleration(Strict):
    key: str
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None

    @model_validator(mode="after")
    def _asks_for_no_value_where_any_will_do(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(f"value {self.value!r} with operator Exists, which takes any; leave one of them out")
        return self


class Pool(Strict):
    """Nodes by their labels, and taints of theirs that are tolerated."""

    node_selector: Labels = {}
    tolerations: list[Toleration] = []


class Accelerator(Pool):
    """nodes: machines of one training, `count` GPUs each; more than one by Kubeflow Trainer, with its `runtime`."""

    type: Resource = "nvidia.com/gpu"
    count: int = Field(ge=1)
    nodes: int = Field(default=1, ge=1)
    runtime: Name = "torch-distributed"


class Settings(Strict):
    images: Images
    dvc_remote: str
    environment: dict[Variable, str] = {}
    secrets: list[Secret] = []
    accelerator: Accelerator | None = None
    pool: Pool = Pool()  # of the steps without an accelerator
    most: Most = Most()
    labels: OwnLabels = {}
    annotations: OwnAnnotations = {}
    queue: LabelName | None = None  # Kueue's LocalQueue
    priority: LabelName | None = None  # Kueue's WorkloadPriorityClass
    service_account: Name | None = None
    pull_secrets: list[Name] = []
    volumes: list[Volume] = []

    @model_validator(mode="after")
    def _secrets_are_not_written_down(self) -> Self:
        for name in self.environment:
            if SECRET_NAMES.search(name):
                raise ValueError(f"environment.{name} looks like a secret: name its Kubernetes secret under `secrets`")
            if holds_secrets(self.environment[name]) or USER.search(self.environment[name]):
                raise ValueError(
                    f"environment.{name} is an address with a user, a password or a query, and everybody can read the "
                    f"pipeline: write it without, or keep all of it in a Kubernetes secret under the key {name}"
                )
        for name, value in self.annotations.items():
            if SECRET_NAMES.search(name.rpartition("/")[2]) or USER.search(value):
                raise ValueError(
                    f"annotations.{name} looks like a secret, and everybody can read the pipeline: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _the_remote_is_an_address(self) -> Self:
        if holds_secrets(self.dvc_remote):
            raise ValueError(
                "dvc_remote is an address with a user, a password or a query, and everybody can read the pipeline: "
                "write it without, and name the Kubernetes secret that has them under `secrets`"
            )
        if not self.dvc_remote or re.fullmatch(r"s3:/*", self.dvc_remote):
            raise ValueError(f"dvc_remote = {self.dvc_remote!r}: names no place; expected s3://bucket/prefix")
        named = {*self.environment, *(key for secret in self.secrets for key in secret.keys)}
        if taken := sorted({"HYMUNET_DVC_REMOTE", "HYMUNET_WORKSPACE"} & named):
            where = "environment" if taken[0] in self.environment else "secrets"
            raise ValueError(f"{where}.{taken[0]} is set by the pipeline; remove it, and set dvc_remote")
        return self

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if self.priority and not self.queue:
            raise ValueError(f"priority {self.priority!r} orders a queue of Kueue's, and queue is not set; name one")
        for what, values in {
            "secrets": [secret.name for secret in self.secrets],
            "volumes, claim": [volume.claim for volume in self.volumes],
            "volumes, path": [str(PurePosixPath(volume.path)) for volume in self.volumes],
            "keys of secrets": [key for secret in self.secrets for key in secret.keys],
        }.items():
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"{what}: {twice!r} is there twice; each may be there once")
        place, key = self.environment.get("HYMUNET_COMPILE_CACHE", ""), "HYMUNET_COMPILE_CACHE_KEY"
        if place.startswith("s3://") and not any(key in secret.keys for secret in self.secrets):
            raise ValueError(
                f"environment.HYMUNET_COMPILE_CACHE = {place!r}: what lies there runs as code and is signed; name a "
                f"secret with the key {key} under `secrets`"
            )
        if both := sorted({key for secret in self.secrets for key in secret.keys} & set(self.environment)):
            raise ValueError(f"{both[0]} is in environment and in a secret; leave it in one of them")
        return self

    @property
    def pod_labels(self) -> dict[str, str]:
        queued = {QUEUE: self.queue, PRIORITY: self.priority}
        return {**self.labels, **{key: value for key, value in queued.items() if value}}

    def image(self, which: str, accelerated: bool = False) -> str:
        if accelerated and self.accelerator:
            assert self.images.accelerator is not None, "check() comes first"
            return self.images.accelerator
        return getattr(self.images, which)

    def check(self) -> None:
        """ValueError for settings that need each other and do not fit, before any pod is paid for."""
        if self.accelerator is None:
            return
        if not self.images.accelerator:
            raise ValueError(
                "accelerator asks for GPUs and images.accelerator is null: training would run on their CPUs; "
                "name an image of the target cuda, or remove accelerator"
            )
        checkpoints = self.environment.get("HYMUNET_CHECKPOINTS", "")
        if not checkpoints.startswith("s3://"):
            raise ValueError(
                f"accelerator, and environment.HYMUNET_CHECKPOINTS = {checkpoints!r}: a pod's disk ends with the pod, "
                "and a training of days would begin again; name a place in an object store, s3://bucket/prefix"
            )
        if self.accelerator.nodes > 1 and not self.service_account:
            raise ValueError(
                f"accelerator.nodes = {self.accelerator.nodes}, and service_account is not set: the step train makes a "
                "TrainJob; name an account that may get, create and delete trainjobs and read pods and their logs"
            )

    def require_reachable_from_a_cluster(self) -> None:
        """ValueError for an address that means the pod itself once a pod reads it."""
        for name, value in {"dvc_remote": self.dvc_remote, **self.environment}.items():
            if LOCAL.search(value) or value.startswith("sqlite:"):
                raise ValueError(f"{name} = {value!r}: to a pod this is the pod itself; name an address of the cluster")
        if "://" not in self.dvc_remote or self.dvc_remote.startswith("file://"):
            raise ValueError(f"dvc_remote = {self.dvc_remote!r}: a folder of this machine; pods need a store, s3://…")

    def with_images(self, images: dict[str, str]) -> "Settings":
        if unknown := next((which for which in images if which not in Images.model_fields), None):
            raise ValueError(f"--image {unknown}={images[unknown]}: expected one of {', '.join(Images.model_fields)}")
        try:
            return self.model_copy(update={"images": Images.model_validate(self.images.model_dump() | images)})
        except ValidationError as error:
            raise ValueError("; ".join(f"--image {explain(problem)}" for problem in error.errors())) from None

    def require_content_addresses(self) -> None:
        """ValueError for an image named by a tag: what runs must be what was named, today and in a year."""
        for which, image in self.images.model_dump().items():
            if image and not BY_CONTENT.fullmatch(image):
                raise ValueError(
                    f"images.{which} = {image!r} is a tag, which may move: name it by digest (…@sha256:…), "
                    "or pass --allow-tags"
                )


def load(path: Path) -> Settings:
    """ValueError, in one line, for whatever is wrong in the file."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; name with --settings a copy of infra/kubeflow/settings.yaml")
    try:
        return Settings.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {'; '.join(map(_explained, error.errors()))}") from None


def _explained(problem: Any) -> str:
    """A problem of the file's; what YAML takes for a number, a date or a yes says how it is a text."""
    written = type(problem["input"]).__name__
    quoted = problem["type"] == "string_type" and written in ("int", "float", "bool", "date", "datetime")
    own = dict(problem, loc=[part for part in problem["loc"] if part != "[key]"])  # pydantic's mark of a wrong key
    return explain(own) + ("; write it in quotes" if quoted else "")
