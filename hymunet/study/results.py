"""What is kept of a cell: a small folder that says what it was made from, and is believed only where that holds.

metrics.json, per_image.csv   the test images' scores, as `evaluate` wrote them; not there while tests are closed
history.json                  the training's epochs
cell.json                     settings, hashes, commit, machine, seconds; written last
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hymunet import atomic, evidence
from hymunet.evaluation import record as evaluated
from hymunet.section import explain

RECORD = "cell.json"
TRAINING, TEST = ("history.json",), ("metrics.json", "per_image.csv")
CODE = {"training_code": "training code", "scoring_code": "scoring code"}
AGAIN = "compute the cell again, or copy its folder again"


class _Named(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Cell(_Named):
    name: str


class _Settings(_Named):
    model: dict[str, Any]
    train: dict[str, Any]
    evaluate: dict[str, Any]
    image_size: int


class _MadeFrom(_Named):
    data_sha256: str
    split_sha256: str


class _Inferred(_Named):
    one: float = Field(alias="1")
    many: float = Field(alias="24")


class _Rates(_Named):
    trained: float
    inferred: _Inferred


class _Record(_Named):
    """What the tables, a store and another machine read of cell.json."""

    cell: _Cell
    settings: _Settings
    made_from: _MadeFrom
    files: dict[Literal["history.json", "metrics.json", "per_image.csv"], str]
    weights_sha256: str
    validation_dice: float
    commit: str
    machine: str
    training_seconds: float
    training_joules: float | None = None  # of all that ran on the GPU meanwhile
    parameters: int
    gmacs: float
    images_per_second: _Rates

    @model_validator(mode="after")
    def _files_are_whole(self) -> Self:
        if self.files.keys() not in (set(TRAINING), {*TRAINING, *TEST}):
            allowed = f"{', '.join(TRAINING)}, and of a tested cell {', '.join(TEST)}"
            raise ValueError(f"files names {', '.join(self.files) or 'nothing'}; expected: {allowed}")
        return self


class _Estimate(_Named):
    mean: float


class _Test(_Named):
    dice: _Estimate


class _Metrics(_Named):
    """What is shown of metrics.json."""

    test: _Test


@dataclass(frozen=True)
class Result:
    """A cell's record, and with closed tests nothing else. folder: where it was read."""

    folder: Path
    record: dict[str, Any]

    @property
    def tested(self) -> bool:
        return "metrics.json" in self.record["files"]

    def metrics(self) -> dict[str, Any]:
        return evidence.read(self.folder / "metrics.json", AGAIN)

    def rows(self) -> list[dict[str, Any]]:
        """per_image.csv: `id` and `group` as text, everything else as a number, or None where it is not known."""
        return evaluated.read(self.folder)[1]


def publish(folder: Path, record: Mapping[str, Any], files: Mapping[str, Path]) -> Result:
    """Puts a cell's files into `folder`, its record last: a folder without one, or one that others belong to, counts
    for nothing."""
    content = {name: path.read_bytes() for name, path in files.items()}
    (folder / RECORD).unlink(missing_ok=True)
    for name in (*TRAINING, *TEST):
        if name in content:
            atomic.write(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    hashes = {name: evidence.sha256(folder / name) for name in content}
    atomic.write(folder / RECORD, json.dumps({**record, "files": hashes}, indent=2) + "\n")
    found = read(folder)
    assert found is not None
    return found


def read(folder: Path) -> Result | None:
    """None where there is no record. Raises ValueError unless the files are those that the record was made with."""
    if not (folder / RECORD).is_file():
        return None
    record = evidence.read(folder / RECORD, AGAIN)
    _require(folder / RECORD, _Record, record)
    for name, said in record["files"].items():
        found = evidence.sha256(folder / name) if (folder / name).is_file() else "nothing"
        if said != found:
            raise ValueError(f"{folder / RECORD}: made with a {name} {said[:12]}, beside it lies {found[:12]}; {AGAIN}")
    result = Result(folder, record)
    if result.tested:
        tested, place = result.metrics(), folder / "metrics.json"
        for key in ("weights_sha256", "data_sha256", "split_sha256", "per_image_sha256"):
            said = {**record, **record["made_from"], "per_image_sha256": record["files"]["per_image.csv"]}
            evidence.require(place, tested, key, folder, said[key], AGAIN)
        _require(place, _Metrics, tested)
    return result


def _require(place: Path, kind: type[BaseModel], record: Mapping[str, Any]) -> None:
    try:
        kind.model_validate(record)
    except ValidationError as error:
        raise ValueError(f"{place}: {'; '.join(map(explain, error.errors()))}; {AGAIN}") from None


def contradictions(study: Mapping[str, Any], record: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`train.epochs: 200 in the study, 100 in the result` for every setting that both name and that differs.

    A setting that came into being later, or is no more, is a matter of the code that a result was made with.
    """
    found = []
    for key in sorted(study.keys() & record.keys()):
        ours, theirs = study[key], record[key]
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += contradictions(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            found.append(f"{prefix}{key}: {ours} in the study, {theirs} in the result")
    return found


def held(folder: Path, wanted: Mapping[str, Any]) -> Result | None:
    """The result in a cell's folder, where it is whole and of just these settings, images, split and code."""
    try:
        result = read(folder)
    except ValueError:
        return None
    return result if result and not differences(wanted, result.record) else None


def differences(wanted: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Why a record is of another cell than is wanted, one reason each; `train.epochs: 200 in the study, …`."""
    found = contradictions(wanted["settings"], record["settings"])
    for key, value in wanted["made_from"].items():
        if record["made_from"].get(key) != value:
            found.append(f"other {CODE[key] if key in CODE else evidence.NAMES[key]}")
    return found


def copy(result: Result, folder: Path) -> None:
    """A result that was computed elsewhere, into its place."""
    record = {key: value for key, value in result.record.items() if key != "files"}
    publish(folder, record, {name: result.folder / name for name in result.record["files"]})
