"""The gates where some test images show no lesion: what is missed, how large lesions are, and false alarms."""

from dataclasses import replace

import numpy as np
import pytest

from hymunet.registry import evidence, gates
from tests.support.scored_versions import BASE, BETTER, POLICY, TAGS, write_version


def two_versions(folder, challenger, champion):
    """Versions with these Dice scores; the challenger, 2, first."""
    for number, dice in (("2", challenger), ("1", champion)):
        write_version(folder / number, dice)
        yield evidence.read(number, TAGS, folder / number)


def without_lesion(version, rows):
    """The same, its test images in these rows without a lesion; the rest grow with the row."""
    scores = version.scores
    empty = np.isin(np.arange(len(scores.ids)), rows)
    truth, found = (np.where(empty, 0, array) for array in (scores.truth, scores.found))
    return replace(version, scores=replace(scores, truth=truth, found=found))


@pytest.mark.parametrize(
    ("rows", "missed", "figure"),
    [
        (range(60, 120), 7, "7 of 60"),  # more than a tenth of the images with a lesion, less of all
        (range(60, 120), 6, "6 of 60"),
        ([], 12, "12 of 120"),
        (range(120), 0, "not known"),
    ],
)
def test_missed_are_lesions_where_there_is_one(tmp_path, rows, missed, figure):
    write_version(tmp_path, BETTER * (np.arange(120) >= missed))
    version = without_lesion(evidence.read("2", TAGS, tmp_path), rows)
    (gate,) = (gate for gate in gates.judge(version, None, POLICY, 0).gates if gate.name == "missed")
    assert (gate.figure, gate.passed) == (figure, figure in ("6 of 60", "12 of 120"))


def test_sizes_are_of_images_with_a_lesion(tmp_path):
    """Worse on the small lesions alone, with as many images that have none and are better."""
    dice = np.where(np.arange(120) < 60, BASE + 0.03, np.where(np.arange(120) < 80, BASE - 0.05, BASE + 0.05))
    challenger, known = (without_lesion(one, range(60)) for one in two_versions(tmp_path, dice, BASE))
    refused = {gate.name for gate in gates.judge(challenger, known, POLICY, 0).failed}
    assert "small lesions" in refused


@pytest.mark.parametrize(("theirs", "counted"), [(0.0, 1), (0.4, 0)])
def test_a_lesion_that_the_champion_s_grid_loses_is_missed_or_found_at_the_image_s_own_size(tmp_path, theirs, counted):
    """As of a champion of a coarser grid that is scored again on the challenger's images, which misses it as well."""
    native = [np.where(np.arange(120) == 3, missed, dice) for missed, dice in ((0.0, BETTER), (theirs, BASE))]
    write_version(tmp_path / "2", native[0])
    write_version(tmp_path / "1", np.where(np.arange(120) == 3, 1.0, BASE), native=native[1])
    challenger, champion = (evidence.read(number, TAGS, tmp_path / number) for number in "21")
    found = gates.judge(challenger, without_lesion(champion, [3]), POLICY, 0).gates
    (gate,) = (gate for gate in found if gate.name == "lesions missed")
    assert (gate.figure, gate.passed) == (f"1, champion {counted}", counted == 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "refused"),
    {
        "as many": (6, 6, False),
        "one more, as chance has it": (7, 6, False),
        "clearly more": (20, 6, True),
        "fewer": (2, 6, False),
        "none of either": (0, 0, False),
    }.values(),
)
def test_a_challenger_with_clearly_more_false_alarms_is_refused(tmp_path, ours, theirs, refused):
    """Forty of 120 images are without a lesion; better lesions make up for the alarms in the mean."""
    dice = [
        np.where(np.arange(120) < 40, np.arange(120) >= alarms, np.clip(BASE + gain, 0, 1))
        for alarms, gain in ((ours, 0.1), (theirs, -0.2))
    ]
    versions = (without_lesion(version, range(40)) for version in two_versions(tmp_path, *dice))
    gates_of = {gate.name: gate for gate in gates.judge(*versions, POLICY, 0).gates}
    assert gates_of["false alarms"].passed == (not refused)
    assert gates_of["false alarms"].figure.startswith(f"{ours} of 40, champion {theirs}; ")
    assert gates_of["lesions missed"].passed


@pytest.mark.parametrize(
    ("empty", "alarms", "groups", "passed"),
    [
        (1, 1, 1, True),  # an interval over one image has no width: it was refused for certain
        (2, 2, 2, True),
        (5, 5, 5, True),
        (6, 6, 6, False),  # 1 in 64
        (12, 12, 3, True),  # four images each of three patients
        (24, 24, 6, False),
    ],
)
def test_of_a_few_images_without_a_lesion_none_is_certain(tmp_path, empty, alarms, groups, passed):
    rows = np.arange(120)
    own = [f"patient-{row % groups}" if row < empty else f"alone-{row}" for row in rows]
    for number, found in (("2", alarms), ("1", 0)):
        dice = np.where(rows < empty, rows >= found, BASE if number == "1" else np.clip(BASE + 0.1, 0, 1))
        write_version(tmp_path / number, dice, groups=own)
    versions = (without_lesion(evidence.read(n, TAGS, tmp_path / n), range(empty)) for n in "21")
    (gate,) = (gate for gate in gates.judge(*versions, POLICY, 0).gates if gate.name == "false alarms")
    assert gate.passed == passed
    assert gate.figure.startswith(f"{alarms} of {empty}, champion 0; ")
    assert gate.figure.endswith("too few to be certain") == passed


def test_where_every_image_shows_a_lesion_no_gate_speaks_of_false_alarms(tmp_path):
    verdict = gates.judge(*two_versions(tmp_path, BETTER, BASE), POLICY, 0)
    assert "false alarms" not in {gate.name for gate in verdict.gates}
