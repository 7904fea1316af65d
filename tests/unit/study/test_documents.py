"""Tables in a study's folder and in documents: what is written agrees, and what others wrote stays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet import cli
from hymunet.study import documents, plan
from tests.support import small_study

ROOT = Path(__file__).resolve().parents[3]


def test_what_is_written_agrees_and_what_changes_is_seen(study: Path, tmp_path: Path) -> None:
    document = tmp_path / "results.md"
    block = "# Results\n<!-- study mini drawn/table_1 -->\nold\n<!-- end of study -->\nend\n"
    other = "<!-- study another x/y -->\nkept\n<!-- end of study -->\n"
    document.write_text(block + other)
    planned = plan.load(study)
    changed = documents.write(planned, [document])
    assert str(document) in changed
    assert documents.stale(planned, [document]) == {}
    text = document.read_text()
    assert (study / "tables/drawn/table_1.md").read_text() in text
    assert "old" not in text
    assert text.endswith("end\n" + other)
    small_study.publish(study, "attention", 1, small_study.drawn_rows("attention", 1))
    changed = documents.stale(planned, [document])
    assert {path.name for path in changed} >= {"table_1.md", "table_1.csv", "forest.svg", "ranks.svg", "results.md"}
    document.write_text(block.replace("table_1", "table_9"))
    with pytest.raises(ValueError, match=r"block drawn/table_9 of study mini: no such table; there are: drawn/diff"):
        documents.stale(planned, [document])


OWN = {
    "a note beside the sets": "notes.txt",
    "a hidden file": ".gitkeep",
    "a draft beside the tables": "drawn/draft.md",
    "a spreadsheet of one's own": "drawn/costs.csv",
    "a picture of one's own": "drawn/figure.svg",
    "a deeper folder": "drawn/poster/table_1.md",
    "a set that the study does not have": "elsewhere/readme.md",
}


def test_tables_that_no_result_makes_go_and_what_others_laid_there_stays(study: Path) -> None:
    documents.write(plan.load(study), [])
    (study / "tables/drawn").rename(study / "tables/gone")
    ours = set((study / "tables/gone").iterdir())
    for name in OWN.values():
        (study / "tables" / name).parent.mkdir(parents=True, exist_ok=True)
        (study / "tables" / name).write_bytes(b"\xff of somebody's own")
    changed = set(documents.write(plan.load(study), []))
    assert {str(path) for path in ours} < changed
    assert not any(path.exists() for path in ours)
    for case, name in OWN.items():
        assert (study / "tables" / name).read_bytes() == b"\xff of somebody's own", case
    assert documents.stale(plan.load(study), []) == {}


def test_a_document_that_is_a_device_stays_one(study: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=rf"{place}: no file; name a document"):
            documents.write(plan.load(study), [place])
    assert not (study / "tables").exists()
    assert (tmp_path / "pipe").is_fifo()


def test_a_document_that_is_no_text_is_named(study: Path, tmp_path: Path) -> None:
    document = tmp_path / "results.md"
    document.write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ValueError, match=r"results.md: not UTF-8 text; save it as UTF-8"):
        documents.write(plan.load(study), [document])


@pytest.mark.parametrize(
    "lines",
    [
        ["BEGIN", "old", "prose", "BEGIN", "old", "END"],
        ["BEGIN", "old", "END", "prose", "BEGIN", "old", "prose"],
        ["BEGIN", "prose"],
    ],
)
def test_a_block_without_its_end_swallows_nothing(study: Path, tmp_path: Path, lines: list[str]) -> None:
    marks = {"BEGIN": "<!-- study mini drawn/table_1 -->", "END": "<!-- end of study -->"}
    document = tmp_path / "results.md"
    document.write_text("\n".join(marks.get(line, line) for line in lines) + "\n")
    before = document.read_text()
    with pytest.raises(ValueError, match=r"results.md: line \d: <!-- study mini drawn/table_1 --> has no <!-- end"):
        documents.write(plan.load(study), [document])
    assert document.read_text() == before


NOT_OF_IT = {
    "no block": "# Results\n",
    "another study's": "<!-- study another drawn/table_1 -->\nkept\n<!-- end of study -->\n",
    "a longer name": "<!-- study mini2 drawn/table_1 -->\nkept\n<!-- end of study -->\n",
    "a mention in prose": "The study mini, `study mini drawn/table_1`.\n",
}


@pytest.mark.parametrize("option", [(), ("--check",)])
@pytest.mark.parametrize("case", NOT_OF_IT)
def test_a_document_without_a_block_of_the_study_is_said_and_nothing_written(study, tmp_path, capsys, case, option):
    document = tmp_path / "results.md"
    document.write_text(NOT_OF_IT[case])
    assert cli.main(["study", "tables", str(study), "--into", str(document), *option]) == 1
    said = capsys.readouterr().err
    assert f"{document}: has no block of study mini; where a table shall stand, write the lines <!-- study mini" in said
    assert "drawn/table_1" in said
    assert document.read_text() == NOT_OF_IT[case]
    assert not (study / "tables").exists()


def test_what_was_written_is_said_and_that_nothing_was(study, tmp_path, capsys):
    document = tmp_path / "results.md"
    document.write_text("<!-- study mini drawn/table_1 -->\n<!-- end of study -->\n")
    command = ["study", "tables", str(study), "--into", str(document)]
    assert cli.main(command) == 0
    assert {str(document), str(study / "tables/drawn/table_1.md")} <= set(capsys.readouterr().out.splitlines())
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{study}: nothing to change, all agrees with the results\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_results_leaves_studies_that_the_document_does_not_mention(tmp_path):
    """Whatever their state: one of them is no study at all."""
    published = small_study.write_study(tmp_path / "studies/mini", models=small_study.NETS)
    private = small_study.write_study(tmp_path / "studies/my own", models=small_study.NETS)
    for folder in (published, private):
        small_study.publish(folder, "unet", 0, small_study.drawn_rows("unet", 0))
    (tmp_path / "studies/notes").mkdir()
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs/results.md"
    document.write_text("<!-- study mini drawn/table_1 -->\n<!-- end of study -->\n")
    shutil.copyfile(ROOT / "docs/scale.md", tmp_path / "docs/scale.md")
    for name in ("Makefile", "benchmarks", "profiles", "studies/comparison"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["make", "results", "VENV=none", "-o", "none/.dev"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "U-Net" in document.read_text()
    assert not (private / "tables").exists()
    for name in ("my own", "notes", "comparison"):
        assert f"studies/{name}/: left as it is, docs/results.md has no block of it" in done.stdout
    assert "docs/results.md\n" in done.stdout


def test_a_picture_is_compared_by_what_it_was_drawn_from(study: Path) -> None:
    planned = plan.load(study)
    documents.write(planned, [])
    picture = study / "tables/drawn/forest.svg"
    picture.write_text(picture.read_text().replace("<svg", "<svg "))
    assert documents.stale(planned, []) == {}
    picture.write_text(picture.read_text().replace("drawn from ", "drawn from 0"))
    assert list(documents.stale(planned, [])) == [picture]


RESULTS = (ROOT / "docs/results.md").read_text(encoding="utf-8")
PUBLISHED = [file for file in sorted(ROOT.glob("studies/*/study.yaml")) if f"<!-- study {file.parent.name} " in RESULTS]


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda path: path.parent.name)
def test_committed_tables_and_documents_agree_with_committed_scores(study: Path) -> None:
    planned = plan.load(study)
    assert list(documents.stale(planned, [ROOT / "docs/results.md"])) == [], "make results"
