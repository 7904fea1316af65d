"""`hymunet evaluate` and `compare` where images of one's own belong together, as a patient's do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hymunet import cli
from hymunet.evaluation.statistics import bootstrap
from tests.support.own_images import COUNT, FOLDERS, command, record_of, rows_of

LISTED = "groups.csv"


def listed(groups, columns=("image", "group")):
    lines = [",".join(columns), *(",".join((f"photo{index}", *row)) for index, row in enumerate(groups))]
    Path("groups.csv").write_text("\n".join(lines) + "\n")


def test_what_groups_csv_puts_together_is_drawn_together(files, model, capsys):
    patients = ["ann", "bob", "ann", "cy", "bob", "ann"]
    listed([(name, "test") for name in patients], ("image", "group", "split"))
    assert command(model, "--folder", ".") == 0
    rows, record = rows_of(files / "out"), record_of(files / "out")
    assert [row["group"] for row in rows] == patients
    assert record["grouped_by"] == "groups.csv"
    (drawn,) = bootstrap(np.array([[float(row["dice"])] for row in rows]), 2000, 0, patients)
    assert record["test"]["dice"] == pytest.approx(drawn)
    assert "no image or mask" not in capsys.readouterr().err, "it is read, not left out"
    assert "groups of groups.csv drawn together; near-duplicates were not" in (files / "out/report.html").read_text()
    (files / "out").rename("first")
    assert command(model, "--folder", ".") == 0
    assert cli.main(["compare", "first", "out", "--output", "compared"]) == 0
    assert "over 6 images in 3 groups of groups.csv" in capsys.readouterr().out
    assert "groups of groups.csv drawn together" in Path("compared/comparison.html").read_text()


def test_images_that_nobody_grouped_are_not_called_groups(files, model, capsys):
    for output in ("first", "second"):
        assert command(model, *FOLDERS) == 0
        (files / "out").rename(output)
    assert cli.main(["compare", "first", "second", "--output", "compared"]) == 0
    assert "over 6 images (near-duplicates were not looked for)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("groups", "columns", "said"),
    {
        "one patient alone": ([("ann",)] * COUNT, ("image", "group"), "all images are of one group"),
        "an image without a line": ([("ann",), ("bob",)], ("image", "group"), "4 images have no line: photo2"),
        "another column": ([("ann",)] * COUNT, ("image", "patient"), "the first line names the columns image and"),
        "an image that is not there": ([("ann",)] * (COUNT + 1), ("image", "group"), "1 lines name no image that is"),
    }.values(),
)
@pytest.mark.parametrize("named", [("--folder", "."), ("--images", "images", "--masks", "masks", "--groups", LISTED)])
def test_a_groups_csv_that_cannot_be_used_stops_it_before_any_score(files, model, capsys, named, groups, columns, said):
    listed(groups, columns)
    assert command(model, *named) == 1
    error = capsys.readouterr().err
    assert "groups.csv" in error
    assert said in error
    assert not (files / "out/metrics.json").exists()


def test_a_split_alone_groups_nothing(files, model):
    listed([("test",)] * COUNT, ("image", "split"))
    assert command(model, "--folder", ".") == 0
    assert record_of(files / "out")["grouped_by"] is None


def test_a_file_of_groups_is_named_beside_images_and_masks(files, model, capsys):
    """Wherever it lies; it gives what it gives as groups.csv of a folder, and is not counted as a file left out."""
    patients = ["ann", "bob", "ann", "cy", "bob", "ann"]
    listed([(name,) for name in patients])
    assert command(model, "--folder", ".") == 0
    (files / "out").rename("as_folder")
    for place in ("groups.csv", "images/patients.csv", "masks/groups.csv"):
        if place != "groups.csv":
            shutil.copy("groups.csv", place)
        capsys.readouterr()
        assert command(model, *FOLDERS, "--groups", place) == 0
        assert "left out" not in capsys.readouterr().err
        for name in ("per_image.csv", "metrics.json", "report.html"):
            assert (files / "out" / name).read_bytes() == (files / "as_folder" / name).read_bytes(), (place, name)
        shutil.rmtree("out")
        if place != "groups.csv":
            Path(place).unlink()
    shutil.copy("groups.csv", "images/groups.csv")
    assert command(model, *FOLDERS) == 0
    assert "groups.csv" in capsys.readouterr().err, "nobody named it: it is told that it was not read"
    assert record_of(files / "out")["grouped_by"] is None


def test_two_evaluations_that_group_differently_draw_together_what_either_does(files, model, capsys):
    """0, 2, 5 by one and 1, 2 by the other: 0, 1, 2, 5 are one group; nobody's groups add nothing."""
    given = {"one": "anabca", "other": "abbcde", "same": "xyxzwx", "none": "", "all": "abbbbc"}
    for output, groups in given.items():
        listed(list(groups))
        assert command(model, *FOLDERS, *(["--groups", "groups.csv"] if groups else [])) == 0
        (files / "out").rename(output)

    def compared(first, second):
        shutil.rmtree("compared", ignore_errors=True)
        capsys.readouterr()
        assert cli.main(["compare", first, second, "--output", "compared"]) == 0
        said = capsys.readouterr().out
        texts = [said, *(Path(f"compared/comparison.{kind}").read_text() for kind in ("md", "html"))]
        return texts, json.loads(Path("compared/comparison.json").read_text())

    differ = "put other images together"
    for first, second, count in (("one", "other", 3), ("other", "one", 3), ("one", "none", 4), ("none", "one", 4)):
        texts, found = compared(first, second)
        assert (found["groups"], found["grouped_by"], found["grouped_alike"]) == (count, "groups.csv", False)
        assert all(differ in text for text in texts), (first, second)
    for first, second in (("one", "same"), ("same", "one")):
        texts, found = compared(first, second)
        assert (found["groups"], found["grouped_alike"]) == (4, True)
        assert not any(differ in text for text in texts)
    assert cli.main(["compare", "one", "all", "--output", "no"]) == 1
    assert "one and all: all images are of one group" in capsys.readouterr().err
