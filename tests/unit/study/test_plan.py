"""A study's file, its cells, its folds: what is said is what is computed, and what is wrong is said in one line."""

import csv
import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hymunet import params
from hymunet.study import plan
from hymunet.study.folds import fold_splits
from tests.support import small_study

ROOT = Path(__file__).resolve().parents[3]
NETS = {
    "unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}, "seeds": [0, 1]},
    "other": {"title": "Other", "model": {"name": "resunet", "size": [4, 8]}, "train": {"epochs": 3}},
}


def study(folder: Path, **changes: object) -> plan.Plan:
    plain = {"models": NETS, "seeds": [5], "tables": {}, **changes}
    return plan.load(small_study.write_study(folder / "mini", **plain))


def test_cells_are_models_seeds_sets_and_folds(tmp_path: Path) -> None:
    sets = {
        "a": {"title": "A"},
        "b": {"title": "B", "models": ["other"], "folds": 3, "params": {"train": {"batch_size": 2}}},
    }
    planned = study(tmp_path, sets=sets)
    names = [cell.name for cell in planned.cells]
    assert names == [
        *("a/unet/seed-0", "a/unet/seed-1", "a/other/seed-5"),
        *(f"b/other/seed-5.fold-{fold}" for fold in range(3)),
    ]
    checked = planned.checked(planned.find("b/other/seed-5.fold-1"))
    assert (checked.model.name, checked.train.epochs, checked.train.batch_size, checked.train.seed) == (
        *("resunet", 3),
        *(2, 5),
    )
    assert planned.checked(planned.find("a/unet/seed-1")).train.epochs == small_study.SMALL["epochs"]
    assert [cell.name for cell in planned.chosen(["a/unet"])] == names[:2]
    assert [cell.name for cell in planned.chosen(["*/seed-0", "b/*fold-2"])] == [names[0], names[-1]]


BASES = {  # as `hymunet profile` reads them: what differs from the paper's protocol
    "a profile": ("mine.yaml", "validate: {min_images: 30}\nprepare: {on_bad_pair: drop}", True),
    "a profile with another model": ("mine.yaml", "model: {name: trans_unet}\nvalidate: {min_images: 30}", True),
    "a profile without the protocol beside it": ("elsewhere/mine.yaml", "validate: {min_images: 30}", False),
}


@pytest.mark.parametrize("case", BASES)
def test_a_study_starts_from_a_profile(tmp_path: Path, case: str) -> None:
    name, text, beside = BASES[case]
    folder = small_study.write_study(tmp_path / "mini", models=NETS, tables={}, base=name)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    if not beside:
        with pytest.raises(ValueError, match=r"drawn/unet/seed-0: .*split is missing"):
            plan.load(folder)
        return
    planned = plan.load(folder)
    checked = planned.of_images("drawn")
    assert (checked.validate_.min_images, checked.train.learning_rate) == (30, small_study.SMALL["learning_rate"])
    assert checked.split == study(tmp_path / "paper").of_images("drawn").split


def test_the_study_of_the_paper_is_whole() -> None:
    planned = plan.load(ROOT / "studies/comparison")
    for cell in planned.cells:
        planned.checked(cell)
    shown = {name for table in planned.study.tables.values() for name in table.models}
    assert shown == set(planned.study.models), "a model that no table shows"
    paper = planned.checked(planned.cells[0])
    assert (paper.prepare.image_size, paper.train.epochs, paper.train.batch_size) == (256, 200, 24)


def test_a_study_that_names_no_tables_has_one_of_all_models(tmp_path: Path) -> None:
    folder = small_study.write_study(tmp_path / "mini", models=NETS)
    content = params.read_yaml(folder / "study.yaml")
    del content["tables"]
    (folder / "study.yaml").write_text(json.dumps(content))
    tables = plan.load(folder).study.tables
    assert {name: table.models for name, table in tables.items()} == {"scores": list(NETS)}
    assert plan.load(small_study.write_study(tmp_path / "none", models=NETS, tables={})).study.tables == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "vnet"}, "reference names vnet; the study's models: unet, other"),
        ({"sets": {"a": {"title": "A", "models": ["vnet"]}}}, "sets.a.models names vnet"),
        ({"tables": {"t": {"title": "T", "models": ["vnet"]}}}, "tables.t.models names vnet"),
        ({"sets": {"a": {"title": "A", "folds": 2}}}, "sets.a.folds = 2: input should be greater than or equal to 3"),
        ({"sets": {"../a": {"title": "A"}}}, "string should match pattern"),
        ({"seed": 3}, "seed: unknown key"),
        ({"base": "other.yaml"}, "base = 'other.yaml': no such file beside it"),
        ({"params": {"train": {"epoch": 3}}}, "unknown key train.epoch = 3; did you mean epochs?"),
        ({"params": {"prepare": {"image_size": 33}}}, "image_size = 33: model"),
        ({"models": {"unet": {"title": "U", "model": {"name": "unte"}}}}, "no such model; did you mean unet?"),
        ({"models": {"unet": {"title": "U"}}}, "models.unet.model: is missing"),
        ({"seeds": [5, 5]}, "seeds = [5, 5] names 5 twice; once is enough"),
        ({"sets": {"a": {"title": "A", "seeds": [4, 3, 4]}}}, "sets.a.seeds = [4, 3, 4] names 4 twice"),
        (
            {"sets": {"a": {"title": "A", "models": ["unet", "unet"]}}},
            "sets.a.models = ['unet', 'unet'] names unet twice",
        ),
        ({"sets": {"a": {"title": "A", "models": []}}}, "sets.a.models = []: list should have at least 1 item"),
        (
            {"tables": {"t": {"title": "T", "models": ["unet", "unet"]}}},
            "tables.t.models = ['unet', 'unet'] names unet",
        ),
        ({"tables": {"differences": {"title": "T", "models": ["unet"]}}}, "tables.differences: every set has a table"),
        ({"models": {"unet": {**NETS["unet"], "published": {"dise": 87.0}}}}, "published.dise.[key] = 'dise': input"),
        ({"params": {"train": {"seed": 7}}}, "params.train.seed = 7: seeds name it"),
        ({"params": {"model": {"name": "unet"}}}, "params has a section model; models name it"),
        ({"sets": {"a": {"title": "A", "params": {"train": {"seed": 7}}}}}, "sets.a.params.train.seed = 7: seeds"),
        ({"sets": {"a": {"title": "A", "params": {"model": {}}}}}, "sets.a.params has a section model; models name it"),
        ({"models": {"unet": {**NETS["unet"], "train": {"seed": 7}}}}, "models.unet.train.seed = 7: seeds name it"),
        ({"title": []}, "title = []: input should be a valid string"),
        ({"models": {"unet": "unet"}}, "models.unet = 'unet': input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match="study.yaml") as raised:
        study(tmp_path, **changes)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("study.yaml", "", "study.yaml: expected keys with values, found None"),
        ("study.yaml", "- unet", "study.yaml: expected keys with values, found ['unet']"),
        ("paper.yaml", "", "paper.yaml: expected sections of params.yaml with the keys that differ, found None"),
        ("paper.yaml", "a word", "paper.yaml: expected sections of params.yaml with the keys that differ, found 'a w"),
    ],
)
def test_a_file_of_another_kind_is_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = small_study.write_study(tmp_path / "mini")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match="study.yaml") as raised:
        plan.load(folder)
    assert message in str(raised.value)


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    """Cells and results are found by the folder: they would be those of the study.yaml in it."""
    folder = small_study.write_study(tmp_path / "mini", models=NETS, tables={})
    other = (folder / "study.yaml").rename(folder / "other.yaml")
    with pytest.raises(ValueError, match=r"other.yaml: a study's file is called study.yaml, in a folder of its own"):
        plan.load(other)
    other.rename(folder / "study.yaml")
    assert plan.load(folder / "study.yaml").cells


def test_a_study_that_is_not_there_says_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study.yaml: no such file; name a study's folder"):
        plan.load(tmp_path)


@given(
    st.lists(st.integers(0, 12), min_size=12, max_size=60),
    st.integers(3, 6),
    st.integers(0, 2**32 - 1),
    st.sets(st.integers(0, 59)),
)
@settings(max_examples=60, deadline=None)
def test_folds_test_every_image_once_and_tear_no_group(
    codes: list[int], folds: int, seed: int, places: set[int]
) -> None:
    rows = [(f'image {row:02}, "it\'s"', f"group {code}") for row, code in enumerate(codes)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "group", "split"), *((*row, "train") for row in rows)])
    empty = {rows[place][0] for place in places if place < len(rows)}
    if len(set(codes)) < folds:
        with pytest.raises(ValueError, match="do not make"):
            fold_splits(text.getvalue(), folds, seed, empty)
        return
    splits = [list(csv.DictReader(io.StringIO(found))) for found in fold_splits(text.getvalue(), folds, seed, empty)]
    for split in splits:
        assert [(row["id"], row["group"]) for row in split] == rows
        sides = {(row["group"], row["split"]) for row in split}
        assert len(sides) == len(set(codes)), "a group in two parts"
        assert {row["split"] for row in split} == {"train", "validation", "test"}
    tested = Counter(row["id"] for split in splits for row in split if row["split"] == "test")
    assert tested == Counter(id for id, _ in rows)
    validated = Counter(row["id"] for split in splits for row in split if row["split"] == "validation")
    assert validated == tested
    sizes = [sum(row["split"] == "test" for row in split) for split in splits]
    assert max(sizes) - min(sizes) <= max(Counter(codes).values())
    assert len({tuple(fold_splits(text.getvalue(), folds, seed, empty)) for _ in range(2)}) == 1


def patients(count: int, largest: int) -> list[str]:
    """Groups of 1 to `largest` images, in turn."""
    return [f"patient {number}" for number in range(count) for _ in range(1 + number % largest)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("groups", "every", "apart"),
    {
        "single images": ([f"image {number}" for number in range(100)], 4, 1),
        "single images, few without a lesion": ([f"image {number}" for number in range(100)], 20, 1),
        "pairs and single images": (patients(60, 2), 5, 2),
        "patients of up to six images": (patients(60, 6), 3, 6),
    }.values(),
)
def test_each_fold_tests_its_share_of_images_without_a_lesion(
    groups: list[str], every: int, apart: int, seed: int
) -> None:
    """Whole groups are without a lesion: every so many of them. apart: how far two folds may be from each other."""
    names = sorted(set(groups))
    without = set(names[::every])
    text = "id,group,split\n" + "".join(f"{place},{group},train\n" for place, group in enumerate(groups))
    empty = {str(place) for place, group in enumerate(groups) if group in without}
    tested = [
        {row["id"] for row in csv.DictReader(io.StringIO(fold)) if row["split"] == "test"}
        for fold in fold_splits(text, 5, seed, empty)
    ]
    for part in (empty, {str(place) for place in range(len(groups))}):
        counts = [len(ids & part) for ids in tested]
        assert max(counts) - min(counts) <= apart, counts


def test_folds_of_images_that_all_show_a_lesion_stay_what_they_were() -> None:
    """Results that are kept name their split by its hash."""
    text = "id,group,split\n" + "".join(f"{place},{group},train\n" for place, group in enumerate(patients(30, 4)))
    whole = "".join(fold_splits(text, 4, 7, set()))
    assert (
        hashlib.sha256(whole.encode()).hexdigest() == "c0633f58ea0314f805d272449665288fada5f30d3c361bef2cbb959c55ba02e2"
    )
