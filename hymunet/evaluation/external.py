"""A trained model on images that are no test split of its own: files in folders, or a prepared set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hymunet import params
from hymunet.data.feed.dataset import Prepared
from hymunet.data.prepare.groups import GROUPS, read_groups
from hymunet.data.prepare.manifest import read_manifest
from hymunet.evaluation.cases import Cases, PreparedCases, require_several
from hymunet.evaluation.evaluate import Origin, data_and_split, examine, of_size, prepared_cases, weights_and_code
from hymunet.evaluation.folders import FolderCases
from hymunet.evaluation.place import Place
from hymunet.inference import Segmenter

RESAMPLES, SEED = 2000, 0
OWN = "The images are the test part of the split that the model was trained by."
CHOSEN_ON = (
    "The images are the validation part of a split: here a threshold, flips and regions may be chosen. This is no "
    "test; a model that was trained by this split was chosen on them."
)
UNKNOWN = "Whether the model was trained on any of these images is not known here."


@dataclass(frozen=True)
class Options:
    """columns: a CSV of own slices by `id`. on_bad: stop or drop. by: by whose authority the model decides."""

    columns: Path | None = None
    on_bad: str = "stop"
    shifts: bool = False
    by: str = "as it is"


@dataclass(frozen=True)
class Found:
    cases: Cases
    made_from: dict[str, str] = field(default_factory=dict)
    trained_on: dict[str, Any] | None = None


def evaluate(segmenter: Segmenter, place: Place, output: Path, options: Options) -> dict[str, Any]:
    """Writes the same files as the pipeline's step into `output`; returns the metrics. The segmenter decides as it is.

    Raises ValueError naming what is missing or unfit; with on_bad `stop`, also for any image that cannot be used.
    """
    found = _found(segmenter, place)
    own = _is_own(segmenter, found.made_from)
    kind = CHOSEN_ON if place.part == "validation" else OWN if own else UNKNOWN
    note = f"{kind} Threshold and flips: {options.by}."
    description = {"source": found.cases.source, "images": len(found.cases.ids), "note": note}
    origin = Origin(
        {**weights_and_code(segmenter), **found.made_from},
        description,
        columns=options.columns,
        on_bad=options.on_bad,
        trained_on=found.trained_on,
    )
    section = params.Evaluate(
        threshold=segmenter.threshold,
        temperature=segmenter.temperature,
        flips=segmenter.flips,
        largest_region=segmenter.largest_region,
        shifts=options.shifts,
        bootstrap=RESAMPLES,
        seed=SEED,
    )
    return examine(segmenter, found.cases, origin, output, section)


def _is_own(segmenter: Segmenter, made_from: Mapping[str, Any]) -> bool:
    """Whether the model was trained on part of this set."""
    return made_from.get("data_sha256") == segmenter.info.get("data_sha256", "")


def _found(segmenter: Segmenter, place: Place) -> Found:
    if place.images and place.masks:
        return Found(FolderCases.of_two(place.images, place.masks, segmenter.image_size, place.masks_on, place.groups))
    if place.folder:
        return Found(FolderCases.of_one(place.folder, segmenter.image_size, place.masks_on))
    assert place.prepared is not None
    prepared = Prepared(place.prepared)
    of_size(segmenter, prepared, "the model")
    made_from = data_and_split(segmenter, prepared, place.split)
    if place.split:
        parts = prepared_cases(prepared, place.split)
        trained_on = parts["train"].familiar() if _is_own(segmenter, made_from) else None
        cases = parts[place.part or "test"]
        if not cases.ids:
            raise ValueError(f"{place.split}: no image in its {place.part} part")
        if place.part == "validation":
            made_from["part"] = place.part
        return Found(cases, made_from, trained_on)
    manifest = read_manifest(prepared.folder / "manifest.parquet")
    if len(manifest) != len(prepared):
        raise ValueError(
            f"{prepared.folder}: manifest of {len(manifest)} images, arrays of {len(prepared)}; "
            "run the prepare step again"
        )
    listed = read_groups(prepared.folder / GROUPS, [row["id"] for row in manifest])
    groups = list(listed.values()) if listed else None
    require_several(groups or [], prepared.folder / GROUPS)
    whole = PreparedCases(prepared, range(len(prepared)), manifest, groups, "groups.csv" if groups else None)
    return Found(whole, made_from)
