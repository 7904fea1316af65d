"""What Kubernetes takes for a name, a label and an annotation, so that a wrong one is found before it is submitted."""

import re
from typing import Annotated

from pydantic import AfterValidator

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
# Of a variable in a container and of a key in a secret, whichever takes less.
VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
# Set by Kubeflow, Argo and Kueue themselves, or by a key of the settings.
TAKEN = ("pipelines.kubeflow.org", "workflows.argoproj.io", "kueue.x-k8s.io", "kubernetes.io", "k8s.io")
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


def name(text: str) -> str:
    if len(text) > 253 or not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no Kubernetes name: small letters, digits, '-' and '.', at most 253")
    return text


def key(text: str) -> str:
    """Of a label or an annotation: `team` or `example.org/team`."""
    prefix, slash, last = text.rpartition("/")
    if (slash and not NAME.fullmatch(prefix)) or len(prefix) > 253 or len(last) > 63 or not PART.fullmatch(last):
        raise ValueError(f"key {text!r}: expected name or domain/name, the name of at most 63 letters, digits, '-_.'")
    return text


def labels(texts: dict[str, str]) -> dict[str, str]:
    for one, value in texts.items():
        key(one)
        if value and (len(value) > 63 or not PART.fullmatch(value)):
            raise ValueError(f"{one}: {value!r} is no label's value: at most 63 letters, digits and '-_.'")
    return texts


def own_labels(texts: dict[str, str]) -> dict[str, str]:
    for one in texts:
        domain = one.rpartition("/")[0]
        if any(domain == taken or domain.endswith(f".{taken}") for taken in TAKEN):
            hint = "; set `queue` or `priority`" if domain == TAKEN[2] else ""
            raise ValueError(f"key {one!r} belongs to {domain}, which sets it itself{hint}")
    return labels(texts)


def own_annotations(texts: dict[str, str]) -> dict[str, str]:
    own_labels(dict.fromkeys(texts, ""))
    return texts


def label_name(text: str) -> str:
    """A name that pods carry as a label's value: of a queue, of a priority."""
    if len(name(text)) > 63:
        raise ValueError(f"{text!r} is written into a label, which holds at most 63 letters; choose a shorter name")
    return text


def variable(text: str) -> str:
    if not VARIABLE.fullmatch(text):
        raise ValueError(f"{text!r} is no variable's name: letters, digits, '_', '-' and '.', no digit first")
    return text


def resource(text: str) -> str:
    """Of a device that nodes have, as their plugin names it."""
    if "/" not in text:
        raise ValueError(f"{text!r} is no device of a node: expected domain/name, as nvidia.com/gpu")
    return key(text)


def image(text: str) -> str:
    if not text or any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} is no image's name; name it by its digest, registry.example/name@sha256:…")
    if "://" in text or re.search(r"@(?!sha\d+:)", text):  # not repeated: it may hold a password
        raise ValueError("with :// or a user it is no image's name; write it without, nodes log in by pull_secrets")
    return text


Name = Annotated[str, AfterValidator(name)]
LabelName = Annotated[str, AfterValidator(label_name)]
Variable = Annotated[str, AfterValidator(variable)]
Resource = Annotated[str, AfterValidator(resource)]
Image = Annotated[str, AfterValidator(image)]
Labels = Annotated[dict[str, str], AfterValidator(labels)]
OwnLabels = Annotated[dict[str, str], AfterValidator(own_labels)]
OwnAnnotations = Annotated[dict[str, str], AfterValidator(own_annotations)]
