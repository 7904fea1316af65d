"""The cells of a study: one training, with its parameters, its place and what its result depends on."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hymunet import params, profiles
from hymunet.overrides import overridden
from hymunet.study.definition import Study, file_of, read


@dataclass(frozen=True)
class Cell:
    """One model on one set of images with one seed; fold: from 0, in a cross-validation."""

    images: str
    model: str
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """Also the place of its files: `isic2018/unet/seed-0`, `kvasir/unet/seed-0.fold-2`."""
        return f"{self.images}/{self.model}/seed-{self.seed}" + ("" if self.fold is None else f".fold-{self.fold}")

    @property
    def described(self) -> dict[str, Any]:
        """As the record of its result names it."""
        return {"name": self.name, "images": self.images, "model": self.model, "seed": self.seed, "fold": self.fold}


@dataclass(frozen=True)
class Plan:
    """A study with its cells. folder: of its file; results lie in it, under `results/`."""

    study: Study
    base: dict[str, Any]
    folder: Path
    changes: Sequence[str] = ()

    @property
    def cells(self) -> list[Cell]:
        """Seed by seed, so that a study that is stopped has compared all models on the first seeds."""
        found = []
        for name, images in self.study.sets.items():
            for model in images.models or self.study.models:
                for seed in images.seeds or self.study.models[model].seeds or self.study.seeds:
                    found += [
                        Cell(name, model, seed, fold) for fold in (range(images.folds) if images.folds else [None])
                    ]
        rank = {name: position for position, name in enumerate(self.study.sets)}
        return sorted(found, key=lambda cell: (rank[cell.images], cell.seed))

    def find(self, name: str) -> Cell:
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise ValueError(f"{name}: no cell of {file_of(self.folder)}; `hymunet study status` lists them")

    def chosen(self, patterns: Sequence[str]) -> list[Cell]:
        """The cells whose names fit any pattern (`isic2018/unet*`, `*/seed-0`); all, without patterns.

        ValueError for a pattern that fits none.
        """
        cells = self.cells
        for pattern in patterns:
            if not any(fits(cell, pattern) for cell in cells):
                raise ValueError(f"--only {pattern}: fits no cell; they are named as {cells[0].name}")
        return [cell for cell in cells if not patterns or any(fits(cell, pattern) for pattern in patterns)]

    def results(self, cell: Cell) -> Path:
        return self.folder / "results" / cell.name

    def withholds(self, closed: bool) -> bool:
        """Whether scores wait until the tests are open; those on the validation images have none to wait for."""
        return closed and self.study.scored == "test"

    def checked(self, cell: Cell) -> params.Params:
        """Raises ValueError for values that are not allowed."""
        model = self.study.models[cell.model]
        content = self.content(cell.images)
        profiles.lay_over(content, {"train": {**model.train, "seed": cell.seed}})
        content["model"] = dict(model.model)
        where = f"{file_of(self.folder)}, {cell.name}"
        return params.check(content, where)

    def of_images(self, images: str) -> params.Params:
        """The sections that make a set's data; those of the model and of the training are the base's."""
        return params.check(self.content(images), f"{file_of(self.folder)}, {images}")

    def content(self, images: str) -> dict[str, Any]:
        """A whole params.yaml by which the pipeline's steps make this set's data."""
        content = copy.deepcopy(self.base)
        for changes in (self.study.params, self.study.sets[images].params):
            profiles.lay_over(content, copy.deepcopy(changes))
        return overridden(content, self.changes)


def fits(cell: Cell, pattern: str) -> bool:
    return fnmatchcase(cell.name, pattern) or cell.name.startswith(f"{pattern.rstrip('/')}/")


def load(path: Path, changes: Sequence[str] = ()) -> Plan:
    """path: a study's folder or file. changes: `data.isic2018.mirror=DIR`, where images are; nothing else.

    Raises ValueError for a file that is wrong anywhere, before anything is computed.
    """
    for change in changes:
        if not change.startswith("data."):
            raise ValueError(f"-S {change}: a study's parameters are those of its file; only `data.` may be set here")
    study, base = read(path)
    plan = Plan(study, base, file_of(path).parent, tuple(changes))
    checked = set()
    for cell in plan.cells:
        if (cell.images, cell.model) not in checked:
            checked.add((cell.images, cell.model))
            plan.checked(cell)
    return plan
