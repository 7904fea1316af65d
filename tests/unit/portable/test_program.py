"""`hymunet export --format torch-export`: loaded by torch alone, for any batch, it gives the model's probabilities."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from hymunet import cli, models
from hymunet.inference import Segmenter
from hymunet.portable import export, program
from hymunet.portable.target import is_program_of_ours
from tests.support.versions import untrained

ALONE = """
import sys, numpy, torch
images = torch.from_numpy(numpy.load("images.npy"))
module = torch.export.load("model.pt2").module()
numpy.save("found.npy", torch.cat([module(images[:1]), module(images[1:])]).detach().numpy())
sys.exit(any(name.partition(".")[0] == "hymunet" for name in sys.modules))
"""


def hymunet(folder):
    torch.manual_seed(0)
    section = {"name": "hymunet", "size": "small", "drop_path": 0.0}
    models.save(
        models.build(models.section(section), 32), {"model": section, "image_size": 32, "threshold": 0.45}, folder
    )
    return folder


@pytest.mark.parametrize(
    "make", [pytest.param(hymunet, marks=pytest.mark.slow), lambda folder: untrained(folder, 32, seed=0)]
)
def test_torch_alone_loads_it(tmp_path, capsys, make):
    folder, path = make(tmp_path / "model"), tmp_path / "model.pt2"
    command = ["export", "--model", str(folder), "--format", "torch-export", "--output", str(path)]
    assert cli.main(command) == 0
    assert "read back, it agrees with the model to" in capsys.readouterr().out
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [sys.executable, "-P", "-c", ALONE], cwd=tmp_path, check=True, env={"PATH": "", "HOME": str(tmp_path)}
    )
    expected = Segmenter.load(folder, device="cpu").probabilities(images)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)

    assert b".py" not in path.read_bytes(), "no line of anybody's machine"
    with zipfile.ZipFile(path) as package:
        told = json.loads(package.read(next(name for name in package.namelist() if name.endswith(program.FACTS))))
    assert told["weights_sha256"] == json.loads((folder / "model.json").read_text())["weights_sha256"]
    assert told["image_size"] == "32"
    assert cli.main(command) == 0, "its own file may be replaced"


def packed(facts):
    """A package of torch.export's form with these facts."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        package.writestr(f"model/extra/{program.FACTS}", facts)
    return content.getvalue()


FOREIGN = ["7", "null", "true", "[]", '["weights_sha256"]', '"weights_sha256"', "{}", "{", "", b"\xff\xfe{}"]


@pytest.mark.parametrize("facts", FOREIGN)
def test_a_package_whose_facts_are_not_ours_is_another_program_s(tmp_path, capsys, facts):
    (tmp_path / "model.pt2").write_bytes(packed(facts))
    assert not is_program_of_ours(tmp_path / "model.pt2")
    command = ["export", "--model", str(tmp_path / "none"), "--format", "torch-export"]
    assert cli.main([*command, "--output", str(tmp_path / "model.pt2")]) == 1
    assert "model.pt2: exists, and was not written by this command; name another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("model.onnx", None, [], "end in .pt2; name it"),
        ("model.pt2", b"PK not ours", [], "was not written by this command"),
        ("model.pt2", None, ["--check", "x"], "--check compares ONNX files"),
    ],
)
def test_what_can_be_checked_first_is_checked_first(tmp_path, capsys, name, content, options, message):
    if content:
        (tmp_path / name).write_bytes(content)
    command = ["export", "--model", str(tmp_path / "none"), "--format", "torch-export", *options]
    assert cli.main([*command, "--output", str(tmp_path / name)]) == 1
    assert message in capsys.readouterr().err


def test_a_package_that_disagrees_is_not_written(tmp_path, capsys, monkeypatch):
    folder = untrained(tmp_path / "model", 32, seed=0)

    class Other(export.Portable):
        def forward(self, images):
            return (super().forward(images) + 0.01).clamp(0, 1)

    monkeypatch.setattr(export, "Portable", Other)
    path = tmp_path / "out" / "model.pt2"
    assert cli.main(["export", "--model", str(folder), "--format", "torch-export", "--output", str(path)]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(path.parent.iterdir()) == []
