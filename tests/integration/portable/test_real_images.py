"""ONNX Runtime and torch on real images at their own sizes: `hymunet export --check` as users run it."""

import zipfile

import cv2
import pytest

from hymunet import cli
from hymunet.data.acquire.synthetic import draw
from hymunet.images import rgb
from hymunet.inference import Segmenter
from hymunet.portable import agreement
from hymunet.prediction.sources import entries
from tests.support.training_data import IMAGES, isic_folder

pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
pytest.importorskip("onnxscript", reason="ONNX is an extra: pip install hymunet[export]")
pytestmark = pytest.mark.integration


def photographs(folder, count):
    """Real ones of ISIC 2018, spread over the set, where they are at hand; drawn ones else."""
    folder.mkdir()
    archives = isic_folder()
    if archives is None:
        for number in range(count):
            height, width = 60 + 37 * number % 200, 90 + 53 * number % 300
            cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(draw(number, 256, 5)[0], (width, height)))
        return
    with zipfile.ZipFile(archives / IMAGES) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for number in range(count):
            name = names[number * len(names) // count]
            (folder / name.rpartition("/")[2]).write_bytes(archive.read(name))


def exported(model, count, tmp_path, capsys):
    """The line that `export --check` prints, and the file."""
    photographs(tmp_path / "photos", count)
    path = tmp_path / "model.onnx"
    assert cli.main(["export", "--model", str(model), "--output", str(path), "--check", str(tmp_path / "photos")]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert f"on {count} images ONNX Runtime agrees with the model" in line
    return line, path


def test_a_dozen_of_a_model_without_scans(unet_project, tmp_path, capsys):
    """This model, hardly trained, is near its threshold everywhere: a level of one value would turn pixels over."""
    exported(unet_project / "artifacts/model", 12, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_260_of_a_model_with_scans(finished_training, tmp_path, capsys):
    """And a file that is not the model's is refused: masks of another threshold differ."""
    if isic_folder() is None:
        pytest.skip("no archives of ISIC 2018: HYMUNET_ISIC_DIR names their folder")
    line, path = exported(finished_training / "artifacts/model", 260, tmp_path, capsys)
    print(line)
    segmenter = Segmenter.load(finished_training / "artifacts/model", threshold=0.55, device="cpu")
    pictures = (rgb(one.read(), one.shown) for one in entries([str(tmp_path / "photos")], tmp_path / "out"))
    found = agreement.compare(agreement.TorchModel(segmenter, ""), path, pictures)
    with pytest.raises(ValueError, match="pixels away from the threshold"):
        found.require("x", strict=True)
