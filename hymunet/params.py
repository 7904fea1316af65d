"""params.yaml as typed, validated sections.

A program asks for the sections it reads and gets no others, so that the parameters listed for its stage in dvc.yaml are
the whole truth. The file is always checked as a whole: a typo anywhere stops every program before it starts work.
"""

import difflib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, create_model, model_validator

from hymunet import yaml_text
from hymunet.addresses import holds_secrets, without_secrets
from hymunet.data.acquire.sections import Data
from hymunet.models import catalogue
from hymunet.models.spec import ModelSection
from hymunet.overrides import overridden
from hymunet.section import UNION_PARTS, Count, Fraction, NonNegative, Positive, Range, Rate, Section, Seed

# Keys of earlier versions, and where their values belong now.
MOVED = {
    "data.mirror": "data.isic2018.mirror or data.kvasir_seg.mirror",
    "data.official_test": "data.isic2018.official_test",
    "data.folder": "data.folder.path",
    "data.synthetic_images": "data.synthetic.images",
    "data.synthetic_size": "data.synthetic.size",
    "data.synthetic_seed": "data.synthetic.seed",
}


class Prepare(Section):
    image_size: Annotated[int, Field(ge=32, le=2048)]
    on_bad_pair: Literal["stop", "drop"]
    max_dropped: Fraction
    max_without_lesion: Fraction = 0.0
    masks_on: Literal["auto", "shown", "stored"]


class Split(Section):
    protocol: Literal["grouped", "random"]
    fractions: Annotated[list[Fraction], Field(min_length=3, max_length=3)]
    seed: Seed

    @model_validator(mode="after")
    def _fractions_make_a_whole(self) -> Self:
        whole = abs(sum(self.fractions) - 1) <= 1e-9 and min(self.fractions) > 0
        if not whole and self.fractions != [0, 0, 1]:
            raise ValueError(
                "split.fractions must be three positive numbers with sum 1, or [0, 0, 1] for test images alone, "
                f"not {self.fractions}"
            )
        return self


class Validate(Section):
    min_images: Count
    mask_area: Range
    median_mask_area: Range
    max_aspect_ratio: Annotated[float, Field(ge=1)]
    max_components: Count


Model = ModelSection  # of the model that is named; see hymunet/models/specs


class Train(Section):
    epochs: Count
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    learning_rate: Positive
    min_learning_rate: NonNegative
    weight_decay: NonNegative
    betas: Annotated[list[Rate], Field(min_length=2, max_length=2)]
    loss_weights: Annotated[list[NonNegative], Field(min_length=3, max_length=3)]
    dice_smoothing: Positive
    boundary_radius: Annotated[int, Field(ge=1, le=64)]
    warmup_epochs: NonNegative
    clip_norm: NonNegative
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, le=1)]
    aspect: Annotated[float, Field(ge=0, le=1)]
    shift: Annotated[float, Field(ge=0, le=0.5)]
    brightness: Annotated[float, Field(ge=0, lt=1)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    saturation: Annotated[float, Field(ge=0, le=1)]
    tint: Annotated[float, Field(ge=0, lt=1)]
    gamma: Annotated[float, Field(ge=0, le=1)]
    blur: Annotated[float, Field(ge=0, le=4)]
    noise: Annotated[float, Field(ge=0, le=0.5)]
    holes: Annotated[int, Field(ge=0, le=16)]
    augment: Literal["auto", "workers", "device"]
    workers: Annotated[int, Field(ge=0, le=256)]
    precision: Literal["auto", "float32", "bf16"]
    compile: Literal["auto", "off", "required"]
    accumulate: Count
    sync_batch_norm: bool
    ema_decay: Rate
    checkpoint_minutes: Positive
    example_every: Annotated[int, Field(ge=0)]
    seed: Seed

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"train.min_learning_rate {self.min_learning_rate} must not exceed "
                f"train.learning_rate {self.learning_rate}"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs {self.warmup_epochs:g} must be fewer than train.epochs {self.epochs}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(f"train.accumulate {self.accumulate} must divide train.batch_size {self.batch_size}")
        if sum(self.loss_weights) == 0:
            raise ValueError("train.loss_weights must not all be 0")
        return self


class Evaluate(Section):
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["validation"]
    temperature: Annotated[float, Field(ge=0.05, le=20)] | Literal["validation"]
    flips: bool
    largest_region: bool = False
    shifts: bool
    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)]
    seed: Seed


MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"  # MLflow takes others, which its searches and addresses misread


class Register(Section):
    model_name: Annotated[str, Field(pattern=rf"^{MODEL_NAME}$")]


PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]  # Ed25519, base64 of its 32 bytes


class Promote(Section):
    step: Literal["off", "manual", "auto"]
    rule: Literal["non_inferiority", "superiority"]
    margin: Fraction
    slice_margin: Fraction
    min_dice: Fraction
    max_missed: Fraction
    more_missed: Annotated[int, Field(ge=0)]
    max_ece: Fraction
    max_shift_drop: Fraction | None
    max_slower: Annotated[float, Field(ge=1)] | None
    max_larger: Annotated[float, Field(ge=1)] | None
    approval: bool
    signed_by: Annotated[list[PublicKey], Field(max_length=16)]
    max_leaked: Annotated[int, Field(ge=0)]
    max_decisions: Count
    reproducible: bool
    contract: bool


class Params(Section):
    data: Data
    prepare: Prepare
    split: Split
    validate_: Annotated[Validate, Field(alias="validate")]
    model: Model
    train: Train
    evaluate: Evaluate
    register_: Annotated[Register, Field(alias="register")]
    promote: Promote

    @model_validator(mode="after")
    def _model_takes_the_images(self) -> Self:
        try:
            catalogue.find(self.model.name).check(self.model, self.prepare.image_size)
        except ValueError as error:
            raise ValueError(f"prepare.{error}") from None
        return self


class Sections:
    """The sections a program asked for, as attributes; asking for another is a programming error."""

    data: Data
    prepare: Prepare
    split: Split
    validate: Validate
    model: Model
    train: Train
    evaluate: Evaluate
    register: Register
    promote: Promote

    def __init__(self, params: Params, names: tuple[str, ...]) -> None:
        for name in names:
            setattr(self, name, getattr(params, f"{name}_" if name in ("validate", "register") else name))


def load(path: str | Path, *sections: str, changes: Sequence[str] = ()) -> Sections:
    """Reads and checks the whole file, with `changes` (`section.key=value`) made; returns only the sections named.

    Raises ValueError, in one line that names the key, the value and what is allowed.
    """
    content = overridden(read_yaml(path), changes)
    origin = f"{path} with {without_secrets(' '.join(changes))}" if changes else str(path)
    return Sections(check(content, origin), sections)


def own_folder(path: str | Path, changes: Sequence[str] = ()) -> Path | None:
    """The folder that `data` names, for messages alone; None for another source. Errors as of `load`."""
    return load(path, "data", changes=changes).data.own_folder


def read_yaml(path: str | Path) -> Any:
    """The file's content. ValueError names the file."""
    try:
        return yaml_text.read(Path(path), f"{path}: ")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run from the project's root or name the file with --params") from None


def check(content: Any, origin: str = "params.yaml") -> Params:
    """Content of a params file -> Params; ValueError names every bad key, its value and the remedy in one line."""
    if not isinstance(content, dict):
        raise ValueError(f"{origin}: expected the sections {', '.join(_keys(Params))}, found {content!r}")
    if moved := [f"{old} is now {new}" for old, new in MOVED.items() if _is_old(content, old)]:
        raise ValueError(f"{origin}: {'; '.join(moved)}. `hymunet profile NAME` writes a file of this version")
    if secret := next(_secrets(content), None):
        raise ValueError(
            f"{origin}: {secret} holds a user, a password or a query, and parameters are kept in dvc.lock and shown "
            "to everyone; leave them out of the address: for http(s) they belong into ~/.netrc (or the file that "
            "NETRC names), for S3 into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        schema = with_model(_named_model(content))
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = [_explain(problem, schema) for problem in error.errors()]
        raise ValueError(f"{origin}: " + "; ".join(problems)) from None


def _is_old(content: dict[str, Any], key: str) -> bool:
    section, name = key.split(".")
    found = content.get(section)
    return isinstance(found, dict) and name in found and not (key == "data.folder" and isinstance(found[name], dict))


def _secrets(content: Any, key: str = "") -> Iterator[str]:
    """The keys whose addresses name a user, a password or a query."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _secrets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, str) and holds_secrets(content):
        yield key


@cache
def with_model(section: type[ModelSection]) -> type[Params]:
    """Params whose section `model` is that of one model."""
    return create_model("Params", __base__=Params, model=(section, ...))


def _named_model(content: dict[str, Any]) -> type[ModelSection]:
    model = content.get("model")
    if not isinstance(model, dict):
        return ModelSection  # pydantic says what is wrong
    if "name" not in model:
        raise ValueError(f"model.name is missing; it is one of {', '.join(catalogue.names())}")
    return catalogue.find(model["name"]).section


def _explain(problem: Any, schema: type[Params]) -> str:
    location = [str(part) for part in problem["loc"] if not str(part).startswith(UNION_PARTS)]
    key, value = ".".join(location), problem["input"]
    if problem["type"] == "extra_forbidden":
        siblings = _siblings(schema, location)
        close = difflib.get_close_matches(location[-1], siblings, 1)
        allowed = f"allowed{_for_model(schema, location)}: {', '.join(siblings)}"
        return f"unknown key {key} = {value!r}; " + (f"did you mean {close[0]}?" if close else allowed)
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{key} = {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _siblings(schema: Any, location: list[str]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    for name in location[:-1]:
        schema = schema.model_fields[_field(name)].annotation
    return _keys(schema)


def _for_model(schema: type[Params], location: list[str]) -> str:
    """Which keys a model's section has depends on the model."""
    name = schema.model_fields["model"].annotation.model_fields["name"].annotation  # type: ignore[union-attr]
    return f" with name {get_args(name)[0]}" if location[0] == "model" and get_args(name) else ""


def _field(section: str) -> str:
    return f"{section}_" if section in ("validate", "register") else section


def _keys(model: Any) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
