"""`hymunet evaluate`: a trained model on images of one's own, in folders, prepared, and by a registry's address."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.split.__main__ import main as split_step
from components.train.__main__ import main as train_step
from components.validate.__main__ import main as validate_step
from hymunet import cli, params
from hymunet.data.prepare.decode import lesion_view
from hymunet.data.prepare.groups import write_groups
from hymunet.evaluation.evaluate import evaluate
from hymunet.evaluation.measure import image_scores
from hymunet.images import read
from hymunet.inference import Segmenter
from hymunet.registry.register import register
from tests.support import small_project
from tests.support.own_images import COUNT, FOLDERS, command, record_of, rows_of
from tests.support.small_project import train, write_data
from tests.support.training_data import write_params
from tests.support.versions import add


def test_images_and_masks_in_folders_are_scored_as_predict_would_mask_them(files, model, capsys):
    assert command(model, *FOLDERS) == 0
    said = capsys.readouterr().out
    assert f"over {COUNT} images" in said
    segmenter, rows = Segmenter.load(model), rows_of(files / "out")
    assert [row["id"] for row in rows] == [f"photo{index}" for index in range(COUNT)]
    for row in rows:
        image = read(next((files / "images").glob(f"{row['id']}.*")))
        truth = cv2.imread(str(next((files / "masks").glob(f"{row['id']}*"))), cv2.IMREAD_UNCHANGED) > 0
        (mask,) = segmenter.masks([image])
        assert float(row["native_dice"]) == pytest.approx(image_scores(mask, truth)["dice"], abs=1e-9)
        assert (int(row["width"]), int(row["height"])) == truth.shape[::-1]
    record = record_of(files / "out")
    assert record["left_out"] == {}
    assert not {"split_sha256", "data_sha256"} & record.keys(), "no evaluation that a model could be registered with"
    page = (files / "out/report.html").read_text()
    assert "Whether the model was trained on any of these images is not known here" in page
    assert f"folder, {COUNT} images" in page
    assert "near-duplicates were not looked for" in page


def test_one_folder_in_a_known_layout_gives_the_same(files, model):
    assert command(model, *FOLDERS) == 0
    for folder, name in (("images", "Original"), ("masks", "Ground Truth")):
        (files / "set" / name).parent.mkdir(exist_ok=True)
        shutil.copytree(files / folder, files / "set" / name)
    (files / "set/Thumbs.db").write_bytes(b"left by a system")
    assert cli.main(["evaluate", "--model", str(model), "--folder", "set", "--output", "again"]) == 0
    for name in ("per_image.csv", "metrics.json", "report.html"):
        assert (files / "again" / name).read_bytes() == (files / "out" / name).read_bytes(), name


def spoil(files):
    """One pair in every way that a pair is bad; photo0 and photo1 stay good."""
    cv2.imwrite("masks/photo2_Segmentation.png", np.eye(20, dtype=np.uint8))
    (files / "masks/photo3.png").unlink()
    (files / "images/photo4.png").write_bytes((files / "images/photo4.png").read_bytes()[:200])
    cv2.imwrite("masks/photo5_Segmentation.png", np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
    shutil.copy("masks/photo0.png", "masks/nobody.png")


REASONS = {
    "photo2": "image is 82×70, mask 20×20",
    "photo3": "no mask; expected masks/photo3",
    "photo4": "truncated or damaged PNG",
    "photo5": "allowed are two values",
    "nobody": "no image; expected images/nobody",
}


def test_bad_pairs_stop_it_or_are_left_out_on_record_as_told(files, model, capsys):
    spoil(files)
    assert command(model, *FOLDERS) == 1
    head, *lines = capsys.readouterr().err.strip().splitlines()[-6:]
    assert "5 of 7 images cannot be evaluated; mend them, or leave them out (--on-bad-pair drop):" in head
    for (id, reason), line in zip(sorted(REASONS.items()), sorted(lines), strict=True):
        assert line.startswith(f"  {id}: ")
        assert reason in line
    assert not (files / "out").exists()
    assert command(model, *FOLDERS, "--on-bad-pair", "drop") == 0
    said = capsys.readouterr().out
    assert "over 2 images" in said
    left_out, page = record_of(files / "out")["left_out"], (files / "out/report.html").read_text()
    assert left_out.keys() == REASONS.keys()
    for id, reason in REASONS.items():
        assert reason in left_out[id]
        assert f"left out: {id}: " in said
        assert id in page
    assert [row["id"] for row in rows_of(files / "out")] == ["photo0", "photo1"]


def test_a_lesion_that_is_lost_on_the_model_s_grid_makes_no_image_without_one(files, model, capsys):
    mask = np.zeros(cv2.imread("masks/photo0.png", cv2.IMREAD_GRAYSCALE).shape, np.uint8)
    mask[0, 0] = 255
    cv2.imwrite("masks/photo0.png", mask)
    assert command(model, *FOLDERS) == 1
    assert "photo0: lesion of 1 pixels vanishes at " in capsys.readouterr().err
    assert command(model, *FOLDERS, "--on-bad-pair", "drop") == 0
    test = record_of(files / "out")["test"]
    assert (test["images"], test["without_lesion"]) == (5, 0)


def test_one_image_and_no_lesion_anywhere_are_a_test_like_any_other(files, model):
    for path in [*files.glob("images/*"), *files.glob("masks/*")]:
        if "photo1" not in path.name:
            path.unlink()
    assert command(model, *FOLDERS, "--shifts") == 0
    record = record_of(files / "out")
    dice = record["test"]["dice"]
    assert record["test"]["images"] == 1
    assert dice["low"] == dice["mean"] == dice["high"] > 0
    assert len(record["shifts"]) == 16
    assert "1 image is few" in (files / "out/report.html").read_text()
    (mask,) = files.glob("masks/*")
    cv2.imwrite(str(mask), cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) * 0)
    assert command(model, *FOLDERS) == 0
    record, (row,) = record_of(files / "out"), rows_of(files / "out")
    assert record["calibration"]["band"] is None
    assert (float(row["mask_area"]), float(row["sensitivity"])) == (0, 1)
    found = int(row["false_positive"]) > 0
    assert float(row["dice"]) == (0 if found else 1)
    assert (float(row["hd95"]) > 0) == found


def test_a_mask_of_another_place_is_named_as_suspicious(files, model):
    """Of the image that the model masks best, the mask is moved into a corner. It never saw these images."""
    assert command(model, *FOLDERS) == 0
    best = max(rows_of(files / "out"), key=lambda row: float(row["dice"]))
    assert "Which labels should be looked at again?" not in (files / "out/report.html").read_text()
    (path,) = (files / "masks").glob(f"{best['id']}*")
    wrong = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) * 0
    wrong[2:12, 2:12] = 255
    cv2.imwrite(str(path), wrong)
    assert command(model, *FOLDERS) == 0
    first, *others = sorted(rows_of(files / "out"), key=lambda row: -float(row["suspicion"]))
    assert first["id"] == best["id"]
    assert first["confidence"] == best["confidence"], "known without the mask"
    assert float(first["suspicion"]) == pytest.approx(float(first["confidence"]) - float(first["dice"]))
    assert float(others[0]["suspicion"]) < 0.3 < float(first["suspicion"])
    section = (files / "out/report.html").read_text().partition('<section id="labels">')[2].partition("</section>")[0]
    assert "1 of 6 masks contradict a sure model" in section
    assert f'aria-label="Show {best["id"]}"' in section


def remade(files, change):
    """Every mask as `change` makes it of one of 0 and 1."""
    for path in (files / "masks").iterdir():
        cv2.imwrite(str(path), change((cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0).astype(np.uint8)))


WAYS = {  # of writing the same mask
    "0 and 1": lambda mask: mask,
    "0 and 255": lambda mask: 255 * mask,
    "three channels": lambda mask: np.repeat(255 * mask[..., None], 3, axis=2),
    "16 bits": lambda mask: 65535 * mask.astype(np.uint16),
}


def test_however_a_mask_is_written_it_scores_the_same(files, model):
    found = {}
    for way, change in WAYS.items():
        remade(files, change)
        assert command(model, *FOLDERS) == 0
        found[way] = (files / "out/per_image.csv").read_bytes()
    assert set(found.values()) == {found["0 and 255"]}, found


def test_a_set_without_any_lesion_is_scored_by_what_was_found_all_the_same(files, model):
    remade(files, np.zeros_like)
    assert command(model, *FOLDERS) == 0
    record, rows = record_of(files / "out"), rows_of(files / "out")
    assert (record["test"]["images"], record["test"]["missed"], len(rows)) == (COUNT, 0, COUNT)
    for row in rows:
        assert float(row["dice"]) == (int(row["false_positive"]) == 0)
        assert (int(row["missed_lesions"]), float(row["sensitivity"])) == (0, 1)


def test_a_set_prepared_for_another_model_s_size_is_refused(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small_project, "SIZE", 48)
    small_project.write_data(tmp_path / "data")
    assert command(model, "--prepared", "data/prepared") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the model was trained at 32 pixels, data/prepared holds images of 48" in error


WRONG = {
    "nothing named": ([], "name the images in one way"),
    "images alone": (["--images", "images"], "name the images in one way"),
    "two ways": ([*FOLDERS, "--folder", "."], "name the images in one way"),
    "one folder for both": (["--images", "images", "--masks", "images"], "must lie in folders of their own"),
    "no such folder": (["--images", "none", "--masks", "masks"], "none: no such folder"),
    "no pair": (["--images", "images", "--masks", "empty"], "found the image images/photo0.png and no mask"),
    "a split of nothing": ([*FOLDERS, "--split", "split.csv"], "--split belongs to --prepared"),
    "a part of nothing": ([*FOLDERS, "--part", "validation"], "--part validation is of a split: name it by --split"),
    "no set": (["--prepared", "images"], "images/images.npy: no such file"),
    "groups beside a folder": (
        ["--folder", ".", "--groups", "g.csv"],
        "--groups belongs to --images and --masks; a folder's own groups.csv is read as it is",
    ),
    "groups beside a prepared set": (
        ["--prepared", "images", "--groups", "g.csv"],
        "--groups belongs to --images and --masks; a prepared set keeps the groups of the folder that it was made from",
    ),
    "a file of groups that is not there": ([*FOLDERS, "--groups", "none.csv"], "none.csv: no such file"),
    "a folder of groups": ([*FOLDERS, "--groups", "images"], "images: no such file"),
    "groups without groups": ([*FOLDERS, "--groups", "split.csv"], "split.csv: has no column group"),
    "no columns": ([*FOLDERS, "--columns", "none.csv"], "none.csv: no such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_evaluated_is_said_in_one_line(case, files, model, capsys):
    (files / "empty").mkdir()
    (files / "split.csv").write_text("image,split\n" + "".join(f"photo{index},test\n" for index in range(COUNT)))
    options, message = WRONG[case]
    assert command(model, *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hymunet evaluate: ")
    assert message in error
    assert not (files / "out").exists()


def test_own_columns_become_slices(files, model):
    (files / "own.csv").write_text("id,camera\n" + "".join(f"photo{n},{'AB'[n % 2]}\n" for n in range(COUNT)))
    assert command(model, *FOLDERS, "--columns", "own.csv") == 0
    found = {
        entry["value"]: entry["images"] for entry in record_of(files / "out")["slices"] if entry["slice"] == "camera"
    }
    assert found == {"A": 3, "B": 3}


def test_what_is_chosen_on_validation_images_leaves_the_test_closed(
    finished_training, model, tmp_path, monkeypatch, capsys
):
    """Its scores are the validation part's, say so, and are no evidence for a registration."""
    shutil.copytree(finished_training, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    own = ("--prepared", "data/prepared", "--split", "data/split/split.csv", "--part", "validation")
    with open("data/split/split.csv") as file:
        wanted = {row["id"] for row in csv.DictReader(file) if row["split"] == "validation"}
    assert command(model, *own, "--largest-region") == 0
    assert {row["id"] for row in rows_of(tmp_path / "project/out")} == wanted
    assert f"over {len(wanted)} validation images" in capsys.readouterr().out
    assert "This is no test" in Path("out/report.html").read_text()

    with pytest.raises(ValueError, match="scores of validation images, on which the model was chosen, are no test"):
        register("hymunet", Path("artifacts/model"), Path("out"), Path("data/split/split.json"), Path("registration"))


def test_a_split_without_validation_images_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, masks, hashes = write_data(tmp_path / "data")
    train(images, masks, 2, {**hashes, "data_sha256": "e" * 64}, tmp_path / "other")
    (tmp_path / "all.csv").write_text(
        Path("data/split/split.csv").read_text().replace("validation", "test").replace("train", "test")
    )
    assert command(tmp_path / "other", "--prepared", "data/prepared", "--split", "all.csv", "--part", "validation") == 1
    assert "all.csv: no image in its validation part" in capsys.readouterr().err


def test_a_prepared_set_whole_or_its_test_part(finished_training, model, tmp_path, monkeypatch, capsys):
    """The model's own set only with its own split; any other set whole, or the test part of a split of it."""
    monkeypatch.chdir(tmp_path)
    own = ("--prepared", finished_training / "data/prepared")
    assert command(model, *own) == 1
    assert "the model was trained on part of this very set" in capsys.readouterr().err
    split = finished_training / "data/split/split.csv"
    assert command(model, *own, "--split", split) == 0
    section = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=2000, seed=0)
    paths = (model, own[1], split, finished_training / "reports/training")
    expected = evaluate(*paths, tmp_path / "step", section)
    assert record_of(tmp_path / "out") == json.loads(json.dumps(expected))
    assert "test part of the split that the model was trained by" in (tmp_path / "out/report.html").read_text()

    images, masks, hashes = write_data(tmp_path / "data")
    train(images, masks, 2, {**hashes, "data_sha256": "e" * 64}, tmp_path / "other")
    assert command(tmp_path / "other", "--prepared", "data/prepared") == 0
    assert record_of(tmp_path / "out")["test"]["images"] == 40
    assert record_of(tmp_path / "out")["grouped_by"] is None
    write_groups({f"CASE_{index:04}": f"patient {index // 4}" for index in range(40)}, Path("data/prepared/groups.csv"))
    assert command(tmp_path / "other", "--prepared", "data/prepared") == 0
    assert record_of(tmp_path / "out")["grouped_by"] == "groups.csv"
    assert (rows_of(tmp_path / "out")[5]["group"], record_of(tmp_path / "out")["groups"]) == ("patient 1", 10)
    assert command(tmp_path / "other", "--prepared", "data/prepared", "--split", "data/split/split.csv") == 0
    assert [row["id"] for row in rows_of(tmp_path / "out")] == [f"CASE_{index:04}" for index in range(28, 40)]
    assert record_of(tmp_path / "out")["grouped_by"] == "near-duplicates and groups.csv"


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A model that was trained on other images than those that lie in data/."""
    monkeypatch.chdir(tmp_path)
    images, masks, hashes = write_data(tmp_path / "data")
    train(images, masks, 1, {**hashes, "data_sha256": "e" * 64}, tmp_path / "other")
    return tmp_path / "other"


def one_patient(rows):
    """A split.csv in which these positions are one group."""
    file = Path("data/split/split.csv")
    lines = [line.split(",") for line in file.read_text().splitlines()]
    for row in rows:
        lines[1 + row][1] = "ann"
    file.write_text("".join(",".join(line) + "\n" for line in lines))


def test_a_prepared_set_of_one_patient_alone_is_refused_as_a_folder_is(stranger, capsys):
    ids = [f"CASE_{index:04}" for index in range(40)]
    write_groups(dict.fromkeys(ids, "ann"), Path("data/prepared/groups.csv"))
    assert command(stranger, "--prepared", "data/prepared") == 1
    said = capsys.readouterr().err
    assert "data/prepared/groups.csv: all images are of one group, which tells nothing of others; take images" in said
    assert not Path("out/metrics.json").exists()


@pytest.mark.parametrize(
    ("together", "said"),
    [(range(28, 40), True), (range(29, 40), False), (range(28), False)],
    ids=["all that are tested", "all but one", "those that are trained with"],
)
def test_a_test_part_of_one_group_is_said_wherever_the_interval_stands(stranger, tmp_path, capsys, together, said):
    one_patient(together)
    assert command(stranger, "--prepared", "data/prepared", "--split", "data/split/split.csv") == 0
    line = "All 12 images are of one group (near-duplicates): the intervals have no width and say nothing of other"
    record = record_of(tmp_path / "out")
    assert (line in capsys.readouterr().out) == said
    assert (line in (tmp_path / "out/report.html").read_text()) == said
    assert (record["groups"] == 1) == said
    assert (record["test"]["dice"]["low"] == record["test"]["dice"]["high"]) == said


def test_a_set_of_test_images_alone_goes_through_the_steps(finished_training, model, tmp_path, monkeypatch, capsys):
    """split.fractions [0, 0, 1]: split and validate take it, training refuses, evaluation needs a number."""
    monkeypatch.chdir(tmp_path)
    images, masks, _ = write_data(tmp_path / "data")
    np.save("data/prepared/lesions.npy", np.stack([lesion_view(*pair) for pair in zip(images, masks, strict=True)]))
    write_params(tmp_path / "params.yaml", batch_size=4)
    bounds = ("validate.min_images=10", "validate.median_mask_area=[0.0, 1.0]", "validate.mask_area=[0.0, 1.0]")
    changes = [part for text in ("split.fractions=[0, 0, 1]", *bounds) for part in ("--set", text)]
    split_step(changes)
    assert "'train': 0, 'validation': 0, 'test': 40" in capsys.readouterr().out
    validate_step(changes)
    with pytest.raises(ValueError, match="no image in train, validation"):
        train_step(changes)
    section = params.Evaluate(threshold=0.5, temperature="validation", flips=False, shifts=False, bootstrap=100, seed=0)
    paths = (tmp_path / "data/prepared", tmp_path / "data/split/split.csv", tmp_path)
    with pytest.raises(ValueError, match="trained on part of this very set"):
        evaluate(model, *paths, tmp_path / "out", section)
    train(images, masks, 2, {"data_sha256": "e" * 64, "split_sha256": "f" * 64}, tmp_path / "other")
    with pytest.raises(ValueError, match="there are none; give a number"):
        evaluate(tmp_path / "other", *paths, tmp_path / "out", section)
    found = evaluate(tmp_path / "other", *paths, tmp_path / "out", section.model_copy(update={"temperature": 1.0}))
    assert found["test"]["images"] == 40


def test_a_model_of_the_registry_is_tested_without_its_code(files, model, monkeypatch, capsys):
    """What lies beside weights and records in a version's folder is neither run nor fetched."""
    trap = files / "sprung"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{files}/mlflow.db")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    from hymunet.registry.client import registry

    with registry() as client:
        client.create_registered_model("lesions")
        number = add(client, "lesions", model, 0.3, files / "record")
        client.set_registered_model_alias("lesions", "champion", number)
        source = client.get_model_version("lesions", number).source
        run = client.get_model_version("lesions", number).run_id
        bad = f"import pathlib\npathlib.Path({str(trap)!r}).write_text('run')\n"
        for name in ("python_model.pkl", "MLmodel", "code/hymunet/__init__.py", "artifacts/model/serve.py"):
            client.log_text(run, bad, f"model/{name}")
    assert source
    assert command("models:/lesions@champion", *FOLDERS) == 0
    assert "as models:/lesions@champion was tested" in capsys.readouterr().out
    record = record_of(files / "out")
    assert record["threshold"] == 0.3
    assert record["weights_sha256"] == json.loads((model / "model.json").read_text())["weights_sha256"]
    assert not trap.exists()
    assert command("models:/lesions@none", *FOLDERS) == 1
    assert "none" in capsys.readouterr().err
