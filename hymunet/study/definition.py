"""A study as its file says it: models × seeds × sets of images, what is compared, which tables are made of it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from hymunet import params, profiles
from hymunet.data.splits import Scored
from hymunet.section import Count, Section, Seed, explain

FILE = "study.yaml"
OWN_TABLE = "differences"  # made of every set


def _once(values: list[Any]) -> list[Any]:
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{values} names {', '.join(map(str, repeated))} twice; once is enough")
    return values


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]  # of a folder
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_once)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(_once)]
ScoreName = Literal["iou", "dice", "hd95", "hd95_fraction", "precision", "sensitivity", "specificity"]  # of tables
Changes = dict[str, dict[str, Any]]  # sections of params.yaml with the keys that differ


class Model(Section):
    """model: its section of params.yaml. train: what it does otherwise. seeds: in place of the study's, for all sets.

    published: the publication's own figures, in per cent and pixels, by score. note: a sentence under its tables.
    """

    title: str
    model: dict[str, Any]
    train: dict[str, Any] = Field(default_factory=dict)
    seeds: Seeds | None = None
    published: dict[ScoreName, float] = Field(default_factory=dict)
    note: str | None = None


class ImageSet(Section):
    """params: the sections data, prepare, split and what else differs. models, seeds: None takes all of the study.

    folds: a grouped cross-validation in place of the split's one test part; every image is tested once a seed.
    published: whether the publications' figures, and the tables' notes on them, are of images of this kind.
    """

    title: str
    params: Changes = Field(default_factory=dict)
    models: Names | None = None
    seeds: Seeds | None = None
    folds: Annotated[int, Field(ge=3, le=100)] | None = None
    published: bool = True


class Table(Section):
    """models: the rows, in this order. notes: what a reader must know, a sentence each. published_notes: the same of
    the publications' figures, shown where those are."""

    title: str
    models: Names
    notes: list[str] = Field(default_factory=list)
    published_notes: list[str] = Field(default_factory=list)


class Study(Section):
    """base: the params file or profile that everything starts from, beside the study's file. reference: whom the
    others are compared with. scored: validation leaves the test images alone for good, as choosing a recipe must.
    tables: by default one of all models, `scores`. resamples: draws behind the ranks' stability."""

    title: str
    base: str
    params: Changes = Field(default_factory=dict)
    reference: Name
    scored: Scored = "test"
    seeds: Seeds
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    sets: Annotated[dict[Name, ImageSet], Field(min_length=1)]
    tables: dict[Name, Table] = Field(default_factory=dict)
    resamples: Count = 2000

    @model_validator(mode="before")
    @classmethod
    def _one_table_of_all(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "tables" in content or not isinstance(content.get("models"), dict):
            return content
        return content | {"tables": {"scores": {"title": "All models", "models": list(content["models"])}}}

    @model_validator(mode="after")
    def _nothing_is_said_in_vain(self) -> Self:
        """A cell has its model's section and its own seed, whatever the parameters say."""
        sections = {"params": self.params} | {f"sets.{name}.params": one.params for name, one in self.sets.items()}
        for place, section in sections.items():
            if "model" in section:
                raise ValueError(f"{place} has a section model; models name it")
        trains = {f"{place}.train": section.get("train", {}) for place, section in sections.items()}
        trains |= {f"models.{name}.train": model.train for name, model in self.models.items()}
        for place, train in trains.items():
            if "seed" in train:
                raise ValueError(f"{place}.seed = {train['seed']!r}: seeds name it")
        return self

    @model_validator(mode="after")
    def _names_are_of_models(self) -> Self:
        named = {"reference": [self.reference]}
        named |= {f"sets.{name}.models": images.models or [] for name, images in self.sets.items()}
        named |= {f"tables.{name}.models": table.models for name, table in self.tables.items()}
        for place, names in named.items():
            if unknown := [name for name in names if name not in self.models]:
                raise ValueError(f"{place} names {', '.join(unknown)}; the study's models: {', '.join(self.models)}")
        if OWN_TABLE in self.tables:
            raise ValueError(f"tables.{OWN_TABLE}: every set has a table of this name already; choose another")
        return self


def read(path: Path) -> tuple[Study, dict[str, Any]]:
    """A study's file, or its folder -> the study and the content of its base.

    Raises ValueError, in one line that names file, key, value and what is allowed.
    """
    file = file_of(path)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name a study's folder, such as studies/comparison")
    if file.name != FILE:
        raise ValueError(
            f"{file}: a study's file is called {FILE}, in a folder of its own, where its results lie; rename it"
        )
    content = params.read_yaml(file)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        problems = [explain(problem) for problem in error.errors()]
        raise ValueError(f"{file}: {'; '.join(problems)}") from None
    base = file.parent / study.base
    if not base.is_file():
        raise ValueError(f"{file}: base = {study.base!r}: no such file beside it; name a profile, or a params.yaml")
    try:
        return study, profiles.whole(base)
    except ValueError as error:
        raise ValueError(f"{file}: base = {study.base!r}: {error}") from None


def file_of(path: Path) -> Path:
    return path / FILE if path.is_dir() else path
