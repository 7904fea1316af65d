"""The gates of a promotion: each planted defect is refused by the gate that it is meant for, and by no other."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hymunet.evaluation.statistics import paired_difference
from hymunet.registry import evidence, gates, pair
from hymunet.registry.evidence import Cost, Image
from hymunet.registry.lock import OTHER
from hymunet.registry.seal import Seal
from tests.support.scored_versions import (
    BASE,
    BETTER,
    COMMIT,
    NOISE,
    POLICY,
    SUPERIOR,
    TAGS,
    sha256,
    write_version,
)


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("champion")
    write_version(folder, BASE, weights=b"the champion's")
    return evidence.read("1", TAGS, folder)


def changed(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(folder, name):
    (folder / name).unlink()


def edited(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"1", b"2", 1))


def small_worse(dice):
    return np.where(np.arange(120) < 40, dice - 0.05, dice + 0.05)


def hair_worse(dice):
    return np.where(np.arange(120) % 4 == 1, dice - 0.035, dice + 0.05)


def calibration(error):
    return {"calibration": {"band": {"ece": error}}}


def shifts(**drops):
    return {"shifts": [{"shift": name, "difference": {"mean": -drop}} for name, drop in drops.items()]}


def without_column(folder, name):
    """And the record of it, so that nothing else is amiss."""
    table = folder / "evaluation/per_image.csv"
    table.write_text(table.read_text().replace(name, "other", 1))
    changed(folder, "evaluation/metrics.json", per_image_sha256=sha256(table.read_bytes()))


def with_zeros(dice, count):
    return np.where(np.arange(120) % 40 < count, 0.0, dice)


RECORDS, SAME = "records", "same test images"
# what the challenger scores, how it was written, what happens to its folder, its tags -> the gates that refuse it
DEFECTS = {
    "none: truly better": (BETTER, {}, None, {}, set()),
    "worse": (BASE - 0.02, {}, None, {}, {"Dice"}),
    "worse by less than the margin, for sure": (BASE - 0.005, {}, None, {}, set()),
    "better on average, worse on small lesions": (small_worse(BASE), {}, None, {}, {"small lesions"}),
    "better on average, worse where there is hair": (hair_worse(BASE), {}, None, {}, {"slices"}),
    "slices that cannot be made": (BETTER, {}, lambda f: without_column(f, "hair"), {}, {"slices"}),
    "probabilities that mean nothing": (BETTER, {"record": calibration(0.11)}, None, {}, {"calibration"}),
    "an evaluation without calibration": (BETTER, {"record": {"calibration": None}}, None, {}, {"calibration"}),
    "better on the model's grid, worse at the images' own size": (BETTER, {"native": BASE - 0.02}, None, {}, {"Dice"}),
    "more lesions missed": (with_zeros(BETTER + 0.03, 1), {}, None, {}, {"lesions missed"}),
    "below the floor": (
        np.full(120, 0.4),
        {},
        None,
        {},
        {"Dice floor", "Dice", *(f"{s} lesions" for s in pair.SIZES), "slices"},
    ),
    "a training image among the test images": (
        *(BETTER, {"files": ["image s0003", *(f"image t{n:04}" for n in range(1, 120))]}, None, {}),
        {"leakage", SAME},
    ),
    "a near-duplicate of a training image": (
        *(BETTER, {"groups": ["s0003", *(f"g{n}" for n in range(1, 120))]}, None, {}, {"leakage"}),
    ),
    "a near-duplicate of a validation image": (
        *(BETTER, {"groups": ["s0005", *(f"g{n}" for n in range(1, 120))]}, None, {}, {"leakage"}),
    ),
    "other test images": (BETTER, {"prefix": "u"}, None, {}, {SAME}),
    "changed weights": (BETTER, {}, lambda f: edited_weights(f), {}, {RECORDS}),
    "another model's evaluation": (
        *(BETTER, {}, lambda f: changed(f, "evaluation/metrics.json", weights_sha256="0" * 64), {}, {RECORDS}),
    ),
    "edited scores": (BETTER, {}, lambda f: edited(f, "evaluation/per_image.csv"), {}, {RECORDS}),
    "another split": (
        BETTER,
        {},
        lambda f: changed(f, "artifacts/model/model.json", split_sha256="0"),
        {},
        {RECORDS, "data checks"},
    ),
    "other files behind the test images": (BETTER, {}, lambda f: edited_files(f), {}, {RECORDS}),
    "no weights": (BETTER, {}, lambda f: cut(f, "artifacts/model/model.safetensors"), {}, {RECORDS}),
    "no scores": (
        *(BETTER, {}, lambda f: cut(f, "evaluation/per_image.csv"), {}, {RECORDS, "Dice floor", "missed", SAME}),
    ),
    "no split": (BETTER, {}, lambda f: cut(f, "grounds/split.csv"), {}, {RECORDS, "images left out", "leakage", SAME}),
    "no verdict": (BETTER, {}, lambda f: cut(f, "grounds/verdict.json"), {}, {RECORDS, "data checks"}),
    "damaged scores": (
        *(BETTER, {}, lambda f: (f / "evaluation/per_image.csv").write_text("id,dice\na,x\n"), {}),
        {RECORDS, "Dice floor", "missed", SAME},
    ),
    "unreadable images left out, few": (BETTER, {"left_out": 6}, None, {}, {SAME}),
    "unreadable images left out, many": (BETTER, {"left_out": 7}, None, {}, {SAME, "images left out"}),
    "images left out unsaid": (
        *(BETTER, {"left_out": 1}, lambda f: changed(f, "evaluation/metrics.json", left_out={}), {}, {RECORDS, SAME}),
    ),
    "left out and scored all the same": (
        *(BETTER, {}, lambda f: changed(f, "evaluation/metrics.json", left_out={"t0003": "said so"}), {}, {RECORDS}),
    ),
    "data checks failed": (BETTER, {"passed": False}, None, {}, {"data checks"}),
    "data checks of other data": (
        *(BETTER, {}, lambda f: changed(f, "grounds/verdict.json", data_sha256="0"), {}, {"data checks"}),
    ),
    "uncommitted changes": (BETTER, {}, None, {"hymunet.git_commit": f"{COMMIT}-dirty"}, {"reproducible"}),
    "no commit": (BETTER, {}, None, {"hymunet.git_commit": "unknown"}, {"reproducible"}),
    "no lock": (BETTER, {}, None, {"hymunet.dvc_lock_sha256": "none"}, {"reproducible"}),
    "a lock of another model": (BETTER, {}, None, {"hymunet.dvc_lock_sha256": OTHER}, {"reproducible"}),
    "no tags": (BETTER, {}, None, {"hymunet.git_commit": "", "hymunet.dvc_lock_sha256": ""}, {"reproducible"}),
}


def edited_weights(folder):
    (folder / "artifacts/model/model.safetensors").write_bytes(b"Weights")


def edited_files(folder):
    path = folder / "grounds/files.csv"
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1][:-1] + ("0" if lines[-1][-1] != "0" else "1")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_refused_by_its_gate_and_by_no_other(champion, tmp_path, defect):
    dice, how, happens, tags, expected = DEFECTS[defect]
    write_version(tmp_path, dice, weights=b"the challenger's", **how)
    if happens:
        happens(tmp_path)
    verdict = gates.judge(evidence.read("2", {**TAGS, **tags}, tmp_path), champion, POLICY, 0)
    refused = {gate.name for gate in verdict.failed}
    assert refused == expected
    assert verdict.passed == (not expected)
    assert all(gate.figure and gate.threshold for gate in verdict.gates)
    assert len({gate.name for gate in verdict.gates}) == len(verdict.gates)


def test_the_first_champion_passes_the_gates_that_need_no_other(champion):
    verdict = gates.judge(champion, None, SUPERIOR, 0)
    assert verdict.passed
    assert verdict.difference is None
    assert len(verdict.gates) == 11


def test_two_versions_that_left_out_the_same_images_are_compared_on_the_others(tmp_path):
    for number, dice in (("1", BASE), ("2", BETTER)):
        write_version(tmp_path / number, dice, left_out=2)
    one, two = (evidence.read(number, TAGS, tmp_path / number) for number in ("1", "2"))
    verdict = gates.judge(two, one, POLICY, 0)
    assert verdict.failed == []
    figures = {gate.name: gate.figure for gate in verdict.gates}
    assert (figures["images left out"], figures["same test images"]) == ("2 of 120", "118 images at their own size")


def test_a_champion_whose_scores_were_changed_compares_with_nothing(champion, tmp_path):
    write_version(tmp_path, BETTER)
    broken = replace(champion, hashes={**champion.hashes, "scores": "0"})
    verdict = gates.judge(evidence.read("2", TAGS, tmp_path), broken, POLICY, 0)
    assert [gate.name for gate in verdict.failed] == [SAME]
    assert "version 1's per_image.csv is not that of its metrics.json" in verdict.failed[0].why


@pytest.mark.parametrize(("key", "value", "gate"), [("max_leaked", 1, "leakage"), ("more_missed", 3, "lesions missed")])
def test_a_bound_is_what_the_parameters_say(champion, tmp_path, key, value, gate):
    groups = ["s0003", *(f"g{n}" for n in range(1, 120))]
    write_version(tmp_path, with_zeros(BETTER + 0.03, 1), groups=groups)
    challenger = evidence.read("2", TAGS, tmp_path)
    assert gate in {gate.name for gate in gates.judge(challenger, champion, POLICY, 0).failed}
    loose = POLICY.model_copy(update={key: value})
    assert gate not in {gate.name for gate in gates.judge(challenger, champion, loose, 0).failed}


@pytest.mark.parametrize(
    ("bound", "record", "passed", "figure"),
    [
        (None, {}, True, "not looked at"),
        (0.1, {}, False, "not known"),
        (0.1, shifts(blur=0.09, hair=0.02), True, "-0.0900 (blur)"),
        (0.1, shifts(blur=0.02, hair=0.12), False, "-0.1200 (hair)"),
        (0.1, {"shifts": []}, False, "not known"),
    ],
)
def test_behaviour_is_the_largest_loss_under_a_change(champion, tmp_path, bound, record, passed, figure):
    write_version(tmp_path, BETTER, record=record)
    policy = POLICY.model_copy(update={"max_shift_drop": bound})
    verdict = gates.judge(evidence.read("2", TAGS, tmp_path), champion, policy, 0)
    assert {gate.name for gate in verdict.failed} == (set() if passed else {"behaviour"})
    assert next(gate for gate in verdict.gates if gate.name == "behaviour").figure == figure


@pytest.mark.parametrize(
    ("found", "passed", "figure"),
    [
        ({"broken": ()}, True, "kept, in the environment that it declares"),
        ({"broken": ("one: masks are int64 (1, 64, 64)",)}, False, "one: masks are int64 (1, 64, 64)"),
        ({"untried": "its requirements cannot be installed"}, False, "not known"),
        ({}, False, "not known"),
    ],
)
def test_a_contract_that_is_broken_or_was_not_tried_is_refused(champion, tmp_path, found, passed, figure):
    write_version(tmp_path, BETTER)
    challenger = replace(evidence.read("2", TAGS, tmp_path), **found)
    verdict = gates.judge(challenger, champion, POLICY.model_copy(update={"contract": True}), 0)
    assert {gate.name for gate in verdict.failed} == (set() if passed else {"contract"})
    assert next(gate.figure for gate in verdict.gates if gate.name == "contract") == figure


@pytest.mark.parametrize(
    ("seal", "passed"),
    [(Seal((), "key"), True), (Seal(()), False), (Seal((), "other"), False), (Seal(("a was changed",), "key"), False)],
)
def test_unsigned_or_changed_after_signing_is_refused(champion, tmp_path, seal, passed):
    write_version(tmp_path, BETTER)
    challenger = replace(evidence.read("2", TAGS, tmp_path), seal=seal)
    verdict = gates.judge(challenger, champion, POLICY.model_copy(update={"signed_by": ["key"]}), 0)
    assert {gate.name for gate in verdict.failed} == (set() if passed else {"signature"})


COSTLY = POLICY.model_copy(update={"max_slower": 1.5, "max_larger": 1.5})


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (Cost(0.14, 3e8), set()),
        (Cost(0.16, 3e8), {"latency"}),
        (Cost(0.1, 3.1e8), {"memory"}),
        (Cost(0.1, None), {"memory"}),
        (None, {"latency", "memory"}),
    ],
)
def test_too_slow_too_large_or_not_measured_is_refused(champion, tmp_path, cost, expected):
    write_version(tmp_path, BETTER)
    challenger = replace(evidence.read("2", TAGS, tmp_path), cost=cost, unmeasured="" if cost else "does not load")
    verdict = gates.judge(challenger, replace(champion, cost=Cost(0.1, 2e8)), COSTLY, 0)
    assert {gate.name for gate in verdict.failed} == expected
    figures = {gate.name: gate.figure for gate in verdict.gates}
    assert figures["latency"] == ("not measured" if cost is None else f"{1e3 * cost.p95:.1f} ms, champion 100.0 ms")


PATIENTS = [f"p{row // 12}" for row in range(120)]
EARLY, LATE = (
    [name if row % 12 in known else f"alone{row}" for row, name in enumerate(PATIENTS)]
    for known in (range(7), range(6, 12))
)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    {
        "neither knows patients": (None, None, None),
        "the challenger does": (PATIENTS, None, PATIENTS),
        "the champion does": (None, PATIENTS, PATIENTS),
        "each knows a part": (EARLY, LATE, PATIENTS),
    }.values(),
)
def test_what_either_split_puts_together_is_drawn_together(tmp_path, ours, theirs, expected):
    dice = np.clip(BASE + np.repeat(np.random.default_rng(3).normal(0, 0.02, 10), 12), 0, 1)
    write_version(tmp_path / "1", BASE, groups=theirs)
    write_version(tmp_path / "2", dice, groups=ours)
    one, two = (evidence.read(number, TAGS, tmp_path / number) for number in "12")
    found = pair.Pair.of(two, one, 0).interval
    wanted = paired_difference(dice, BASE, 10_000, 1, expected)
    assert found["high"] - found["low"] == pytest.approx(wanted["high"] - wanted["low"], rel=0.1)


def one_group(of_all):
    return ["ann"] * 120 if of_all else ["ann"] * 60 + ["bob"] * 60


@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("rule", ["superiority", "non_inferiority"])
def test_images_of_one_group_decide_nothing(tmp_path, ours, theirs, rule):
    """An interval over one group has no width: whatever is a little better would be better for certain."""
    write_version(tmp_path / "1", BASE, groups=one_group(theirs))
    write_version(tmp_path / "2", np.clip(BASE + 0.001, 0, 1), groups=one_group(ours))
    one, two = (evidence.read(number, TAGS, tmp_path / number) for number in "12")
    verdict = gates.judge(two, one, POLICY.model_copy(update={"rule": rule}), 0)
    refused = [gate for gate in verdict.failed if "120 test images, all of one group" in gate.why]
    assert [gate.name for gate in refused] == ([SAME] if ours or theirs else [])
    assert not (verdict.passed and (ours or theirs))


def test_images_that_the_champion_was_trained_with_do_not_count(champion, tmp_path):
    """As after scoring it on another split's test images: on them it is at home."""
    write_version(tmp_path, BETTER)
    challenger = evidence.read("2", TAGS, tmp_path)
    ids = challenger.scores.ids

    def trained_on(count):
        seen = {f"old{n}": Image("x", "train", challenger.images[ids[n]].sha256) for n in range(count)}
        return replace(champion, images=seen, rescored=True)

    verdict = gates.judge(challenger, trained_on(90), POLICY, 0)
    assert verdict.passed
    assert next(gate.figure for gate in verdict.gates if gate.name == SAME) == (
        "30 images at their own size (90 more left out: the champion was trained with them or with images that look "
        "like them), the champion scored again"
    )
    refused = gates.judge(challenger, trained_on(101), POLICY, 0).failed
    assert [gate.name for gate in refused] == [SAME]
    assert "was trained with all but 19 of the 120 test images" in refused[0].why
    unknown = gates.judge(challenger, replace(champion, images={}, rescored=True), POLICY, 0).failed
    assert [gate.name for gate in unknown] == [SAME]


def test_near_duplicates_count_as_one_draw(champion, tmp_path):
    """Sixty copies of one image are one observation: an interval over images alone would be too narrow."""
    dice = BASE + np.where(np.arange(120) < 60, 0.01, 0.0) + NOISE / 10
    results = []
    for name, groups in (("apart", None), ("together", ["one"] * 60 + [f"g{n}" for n in range(60, 120)])):
        write_version(tmp_path / name, dice, groups=groups)
        difference = gates.judge(evidence.read("2", TAGS, tmp_path / name), champion, SUPERIOR, 0).difference
        results.append(difference["high"] - difference["low"])
    assert results[1] > 2 * results[0]


def test_scores_are_paired_by_image_and_not_by_row(champion, tmp_path):
    write_version(tmp_path, BASE)
    challenger = evidence.read("2", TAGS, tmp_path)
    turned = champion.scores.of(champion.scores.ids[::-1])
    difference = gates.judge(challenger, replace(champion, scores=turned), POLICY, 0).difference
    assert difference == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_a_set_that_has_decided_asks_for_more_each_time_and_then_no_more(champion, tmp_path):
    write_version(tmp_path, BASE + NOISE - NOISE.mean() - 0.002)
    challenger = evidence.read("2", TAGS, tmp_path)
    verdicts = {decided: gates.judge(challenger, champion, POLICY, decided) for decided in (0, 1, 19, 20)}
    assert [verdicts[decided].passed for decided in (0, 1)] == [True, False]
    lows = [verdict.difference["low"] for verdict in verdicts.values()]
    assert lows[0] > lows[1] > lows[2]
    assert "use of the test images" in {gate.name for gate in verdicts[20].failed}
    assert "use of the test images" not in {gate.name for gate in verdicts[19].failed}
    shares = np.array([pair.share(decided) for decided in range(10_000)])
    assert shares[0] == 1
    assert 1.999 < shares.sum() < 2, "all errors and all margins together are those of two first decisions"


def test_thirds_by_the_size_of_the_lesion():
    found = pair.thirds(np.array([5, 1, 9, 1, 7, 3]))
    assert [rows.tolist() for rows in found] == [[1, 3], [5, 0], [4, 2]]
