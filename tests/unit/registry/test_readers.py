"""Evaluations with images without a lesion, with patients, with both, with neither, and of before these were told: each
goes through all that reads evaluations, and says there what it holds.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from hymunet import cli, params
from hymunet.data.acquire import synthetic
from hymunet.data.check.verdict import write_verdict
from hymunet.data.prepare.groups import write_groups
from hymunet.evaluation import record
from hymunet.evaluation.evaluate import evaluate
from hymunet.registry import evidence, gates, grounds, register
from hymunet.registry.card import card
from hymunet.registry.register import Candidate
from tests.support import small_project
from tests.support.scored_versions import POLICY, TAGS

EMPTY = {index for index in range(small_project.IMAGES) if index % 4 == 3}
PLAIN = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=100, seed=0)
CASES = {  # images without a lesion, patients, as it was before both were told
    "neither": (False, False, False),
    "images without a lesion": (True, False, False),
    "patients": (False, True, False),
    "both": (True, True, False),
    "of an earlier version": (False, False, True),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two projects: all images show a lesion, and every fourth one shows none."""
    drawn, folders = synthetic.draw, []
    for empty in (frozenset(), EMPTY):
        with pytest.MonkeyPatch.context() as patched:

            def draw(index, size, seed, empty=empty):
                image, mask = drawn(index, size, seed=seed)
                return image, mask * (index not in empty)

            patched.setattr(synthetic, "draw", draw)
            folders.append(small_project.build(tmp_path_factory.mktemp("trained") / "project", 10))
    return folders


def grouped(root: Path) -> None:
    """Patients of two images each, as the split step would have written it."""
    split, model = root / "data/split/split.csv", root / "artifacts/model/model.json"
    lines = [line.split(",") for line in split.read_text().splitlines()[1:]]
    write_groups(
        {id: f"patient {place // 2}" for place, (id, *_) in enumerate(lines)}, root / "data/prepared/groups.csv"
    )
    rows = [f"{id},{lines[place // 2 * 2][0]},{part}" for place, (id, _, part) in enumerate(lines)]
    split.write_text("\n".join(["id,group,split", *rows]) + "\n")
    digest = hashlib.sha256(split.read_bytes()).hexdigest()
    for file, key in ((model, "split_sha256"), (root / "data/split/split.json", "sha256")):
        file.write_text(json.dumps({**json.loads(file.read_text()), key: digest}))
    write_verdict(root / "reports/validation/verdict.json", True, root / "data/prepared", split)


def earlier(folder: Path) -> None:
    """As an evaluation was written before it counted false alarms and named its groups."""
    file = folder / "metrics.json"
    content = json.loads(file.read_text())
    del content["grouped_by"]
    for table in ("test", "native"):
        for name in record.EMPTY:
            del content[table][name]
    file.write_text(record.to_json(content))


@pytest.fixture(scope="module", params=CASES)
def case(request, trained, tmp_path_factory):
    """The project, with two evaluations of it that decide differently, and what they hold."""
    empty, patients, before = CASES[request.param]
    root = Path(shutil.copytree(trained[empty], tmp_path_factory.mktemp("case") / "project"))
    if patients:
        grouped(root)
    for name, threshold in (("evaluation", 0.5), ("other", 0.05)):
        paths = ("artifacts/model", "data/prepared", "data/split/split.csv", "reports/training", f"reports/{name}")
        evaluate(*(root / path for path in paths), PLAIN.model_copy(update={"threshold": threshold}))
        if before:
            earlier(root / "reports" / name)
    return root, empty, patients


def metrics_of(root: Path, name: str = "evaluation") -> dict:
    return json.loads((root / f"reports/{name}/metrics.json").read_text())


def candidate(root: Path, name: str) -> Candidate:
    read = [json.loads((root / path).read_text()) for path in ("artifacts/model/model.json", "data/split/split.json")]
    rests_on = grounds.collect(
        root / "data/split/split.csv", root / "data/prepared", root / "reports/validation/verdict.json"
    )
    folder = root / "reports" / name
    return Candidate(root / "artifacts/model", folder, read[0], metrics_of(root, name), read[1], rests_on)


def test_the_record_and_its_page(case):
    root, empty, patients = case
    test, page = metrics_of(root)["test"], (root / "reports/evaluation/report.html").read_text()
    assert test.get("without_lesion", 0) == (3 if empty else 0)
    assert ("Images without a lesion: 3 of 12" in page) == empty
    assert ("near-duplicates and groups of groups.csv drawn together" in page) == patients


def test_a_comparison(case, tmp_path, capsys):
    root, empty, patients = case
    reports = root / "reports"
    assert cli.main(["compare", *map(str, (reports / "evaluation", reports / "other")), "--output", str(tmp_path)]) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "comparison.json").read_text())
    for text in (said, *((tmp_path / f"comparison.{kind}").read_text() for kind in ("md", "html"))):
        assert ("False alarms in images without a lesion: evaluation " in text) == empty
    assert found["grouped_by"] == ("near-duplicates and groups.csv" if patients else "near-duplicates")
    assert (found["groups"], found["grouped_alike"]) == (6 if patients else 12, True)
    alarms = metrics_of(root, "other")["test"].get("false_alarms", 0)
    assert found["second"]["false_alarms"] == alarms


def test_a_summary(case, capsys):
    root, empty, _ = case
    (root / "reports/registration").mkdir(exist_ok=True)
    (root / "reports/registration/registration.json").write_text("{}")
    assert cli.main(["summary", "--reports", str(root / "reports")]) == 0
    assert ("Images without a lesion: 3 of 12" in capsys.readouterr().out) == empty


def test_what_a_version_says_of_itself(case):
    root, empty, _ = case
    one = candidate(root, "evaluation")
    tags, text = register.tags(one, root), card("lesions", one.info, one.metrics, one.split, {})
    assert ("test.without_lesion" in tags, "test.false_alarms" in tags) == (empty, empty)
    assert ("Images without a lesion: 3 of 12, of them with a false alarm: " in text) == empty


def test_the_gates_of_a_promotion(case, tmp_path):
    """The second one decides for more; the first is the champion."""
    root, empty, patients = case
    versions = []
    for number, name in (("1", "evaluation"), ("2", "other")):
        folder = tmp_path / number
        shutil.copytree(root / "artifacts/model", folder / "artifacts/model")
        shutil.copytree(root / "reports" / name, folder / "evaluation")
        (folder / "grounds").mkdir()
        for file, content in candidate(root, name).grounds.items():
            (folder / "grounds" / file).write_bytes(content)
        versions.append(evidence.read(number, TAGS, folder))
    found = {gate.name: gate for gate in gates.judge(versions[1], versions[0], POLICY, 0).gates}
    assert found["records"].passed, found["records"]
    assert found["same test images"].passed, found["same test images"]
    assert ("false alarms" in found) == empty
    if empty:
        ours, theirs = (metrics_of(root, name)["test"]["false_alarms"] for name in ("other", "evaluation"))
        assert found["false alarms"].figure.startswith(f"{ours} of 3, champion {theirs}; ")
    assert len({image.group for image in versions[0].images.values()}) == (20 if patients else 40)


def test_the_run_and_the_version_in_mlflow(case, registry, name):
    root, empty, patients = case
    if not (empty and patients):
        pytest.skip("a registration takes ten seconds; tests/unit/registry/test_register.py has one with neither")
    done = register.register(
        name,
        root / "artifacts/model",
        root / "reports/evaluation",
        root / "data/split/split.json",
        root / "reports/registration",
        root,
    )
    version, test = registry.get_model_version(name, str(done.statement.version)), metrics_of(root)["test"]
    figures = registry.get_run(version.run_id).data.metrics
    for key in record.EMPTY:
        assert (version.tags[f"test.{key}"], figures[f"test/{key}"]) == (str(test[key]), test[key])
    assert "Images without a lesion: 3 of 12" in version.description
