"""The run key: it changes with whatever decides the result, and with nothing else."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from hymunet import closure, params
from hymunet.data.feed.dataset import TrainingData
from hymunet.models import catalogue
from hymunet.ops import cpu
from hymunet.training import identity, trainer
from hymunet.training.distributed import Ranks
from hymunet.training.learner import Learner
from tests.support.training_data import Inputs, drawn, sections, write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(30, 32), validation=6, test=4)


def key(inputs: Inputs, ranks: int = 1, **changes) -> str:
    learner = Learner(*sections(**{"name": "unet", **changes}), TrainingData(inputs.prepared, inputs.split), Ranks())
    learner.ranks = Ranks(count=ranks)
    return identity.run_key(identity.configuration(learner, "data", "split"))


def test_the_code_of_a_training_is_its_arithmetic_and_its_model():
    files = {model: set(identity.code_files(model)) for model in ("unet", "hymunet")}
    training = {"average", "capture", "device", "distributed", "learner", "loading", "state", "step", "validation"}
    for model, own in files.items():
        assert {f"hymunet/training/{name}.py" for name in training} <= own
        assert {"hymunet/data/feed/augment.py", "hymunet/losses.py", "hymunet/metrics.py"} <= own
        assert {f"hymunet/models/{model}.py", f"hymunet/models/specs/{model}.py"} <= own
        assert own & {"hymunet/models/catalogue.py", "hymunet/params.py", "hymunet/training/trainer.py"} == set()
        assert [file for file in own if "tracking" in file or "checkpoint" in file] == []
    assert {"hymunet/ops/csrc/kernels.cpp", "hymunet/ops/triton_forward.py"} <= files["hymunet"]
    assert not any(file.startswith("hymunet/ops") for file in files["unet"])
    assert files["hymunet"] & {"hymunet/models/unet.py", "hymunet/models/specs/unet.py"} == set()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(closure.ROOT / "hymunet", root / "hymunet", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return root


NEW_CODE, COMMENT, DOCSTRING = "\nADDED = 1\n", "\n# Said.\n", None
BOTH, NONE = {"unet", "hymunet"}, set[str]()


@pytest.mark.parametrize(
    ("file", "edit", "changed"),
    [
        ("models/new.py", NEW_CODE, NONE),
        ("models/specs/new.py", NEW_CODE, NONE),
        ("models/unet.py", NEW_CODE, {"unet"}),
        ("models/specs/unet.py", NEW_CODE, {"unet"}),
        ("models/hymunet.py", NEW_CODE, {"hymunet"}),
        ("models/layers/fusion.py", NEW_CODE, {"hymunet"}),
        ("models/layers/convolution.py", NEW_CODE, BOTH),
        ("models/catalogue.py", NEW_CODE, NONE),
        ("ops/csrc/kernels.cpp", NEW_CODE, {"hymunet"}),
        ("ops/csrc/kernels.cpp", "\n// Said.\n", NONE),
        ("ops/triton_forward.py", NEW_CODE, {"hymunet"}),
        ("ops/triton_forward.py", COMMENT, NONE),
        *((f"training/{name}.py", NEW_CODE, BOTH) for name in ("learner", "distributed", "device", "average")),
        *((f"training/{name}.py", COMMENT, NONE) for name in ("learner", "distributed", "device", "average")),
        *((f"training/{name}.py", NEW_CODE, NONE) for name in ("checkpoint", "checkpoint_store", "identity")),
        *((f"training/tracking/{name}.py", NEW_CODE, NONE) for name in ("journal", "reports", "worker")),
        ("losses.py", NEW_CODE, BOTH),
        ("losses.py", DOCSTRING, NONE),
        ("data/feed/augment.py", NEW_CODE, BOTH),
        ("data/prepare/prepare.py", NEW_CODE, NONE),
        ("evaluation/evaluate.py", NEW_CODE, NONE),
        ("params.py", NEW_CODE, NONE),
    ],
)
def test_code_changes_the_key_of_those_who_compute_with_it(project, file, edit, changed):
    before = {model: identity.code_sha256(model, project) for model in sorted(BOTH)}
    path = project / "hymunet" / file
    text = path.read_text() if path.exists() else ""
    path.write_text(f'"""Another docstring."""{text[text.index(chr(10)) :]}' if edit is None else text + edit)
    try:
        after = {model: identity.code_sha256(model, project) for model in sorted(BOTH)}
    finally:
        path.write_text(text) if text else path.unlink()
    assert {model for model in BOTH if before[model] != after[model]} == changed


def other(field: str, value: Any) -> Any:
    """Another allowed value."""
    if isinstance(value, str):
        return next(choice for choice in get_args(params.Train.model_fields[field].annotation) if choice != value)
    if isinstance(value, list):
        return [value[0] / 2, *value[1:]]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 if value else 0.1


@pytest.mark.parametrize("field", sorted(params.Train.model_fields.keys() - {"precision", "accumulate", "compile"}))
def test_a_parameter_changes_the_key_unless_it_decides_nothing(inputs, field):
    value = getattr(sections(batch_size=4)[1], field)
    same = key(inputs, **{field: other(field, value)}) == key(inputs, **{field: value})
    assert same is (field in identity.IMMATERIAL)


HARDWARE = [
    ("auto", True, "bf16"),
    ("auto", False, "float32"),
    ("bf16", True, "bf16"),
    ("float32", True, "float32"),
    ("float32", False, "float32"),
]


def test_precision_counts_as_what_it_came_to(inputs, monkeypatch):
    keys: dict[str, set[str]] = {"bf16": set(), "float32": set()}
    for precision, native, came_to in HARDWARE:
        monkeypatch.setattr("hymunet.precision.computes_in_bfloat16", lambda _, native=native: native)
        keys[came_to].add(key(inputs, precision=precision))
    assert len(keys["bf16"]) == len(keys["float32"]) == 1
    assert keys["bf16"] != keys["float32"]


def test_ranks_count_where_each_normalises_its_own_part(inputs):
    assert len({key(inputs, ranks=ranks, sync_batch_norm=False) for ranks in (1, 2, 4)}) == 3
    assert len({key(inputs, ranks=ranks, sync_batch_norm=True) for ranks in (1, 2, 4)}) == 1


@pytest.mark.parametrize(("name", "counts"), [("hymunet", True), ("unet", False)])
def test_a_missing_scan_kernel_is_another_run(inputs, monkeypatch, name, counts):
    """The slow form gives other bits."""
    before = key(inputs, name=name)
    cpu._library.cache_clear()
    monkeypatch.setattr(cpu, "LIBRARY", cpu.LIBRARY.with_name("_not_built.so"))
    try:
        with pytest.warns(RuntimeWarning, match="slow export backend") if counts else pytest.MonkeyPatch.context():
            assert (key(inputs, name=name) != before) is counts
    finally:
        cpu._library.cache_clear()


@pytest.mark.parametrize("place", ["torch.__version__", "cv2.__version__"])
def test_another_version_of_what_computes_is_another_run(inputs, monkeypatch, place):
    before = key(inputs, augment="workers")
    monkeypatch.setattr(place, "9.9.9")
    assert key(inputs, augment="workers") != before


def test_a_library_that_takes_no_part_does_not_count(inputs, monkeypatch):
    before = key(inputs, augment="device")
    monkeypatch.setattr("cv2.__version__", "9.9.9")
    assert key(inputs, augment="device") == before


def test_another_device_is_another_run(inputs):
    learner = Learner(*sections(name="unet"), TrainingData(inputs.prepared, inputs.split), Ranks())
    here = identity.facts(learner)
    learner.device = torch.device("meta")
    assert identity.facts(learner) != here


def test_a_stretch_in_bfloat16_is_never_continued_in_float32(inputs, tmp_path, monkeypatch):
    """`precision: auto`, and the pod comes back on a node that computes in float32 alone."""
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    starts: list[int] = []
    learn = Learner.learn

    def stopped_after_three(self, batch):
        starts.append(self.progress.step) if not starts or self is not seen[-1] else None
        seen.append(self)
        learn(self, batch)
        if self.progress.step == stop:
            raise InterruptedError

    seen: list[Learner] = []
    monkeypatch.setattr(Learner, "learn", stopped_after_three)

    def run(folder: str, native: bool) -> Path:
        monkeypatch.setattr("hymunet.precision.computes_in_bfloat16", lambda _: native)
        place = tmp_path / folder
        paths = trainer.Paths(inputs.prepared, inputs.split, place / "m", place / "r", str(tmp_path / "checkpoints"))
        changes = {"name": "unet", "epochs": 1, "precision": "auto", "checkpoint_minutes": 1e-6}
        trainer.train(*sections(**changes), paths)
        return place

    stop = 4
    with pytest.raises(InterruptedError):
        run("bf16", native=True)
    [of_bf16] = (tmp_path / "checkpoints").iterdir()
    assert list(of_bf16.glob("*.json"))
    stop = -1
    run("float32", native=False)
    assert starts == [0, 0], "each began anew"
    folders = set((tmp_path / "checkpoints").iterdir())
    assert len(folders) == 2
    [of_float32] = folders - {of_bf16}
    shutil.rmtree(of_float32)
    shutil.copytree(of_bf16, of_float32)
    with pytest.raises(ValueError, match=r"facts\.precision: float32 here, bf16 there"):
        run("float32", native=False)


@pytest.fixture
def foreign(tmp_path, monkeypatch) -> Callable[[str], None]:
    (tmp_path / "ward_models-1.0.dist-info").mkdir()
    (tmp_path / "ward_models-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: ward-models\nVersion: 1.0\n"
    )
    (tmp_path / "ward_models-1.0.dist-info/entry_points.txt").write_text(
        "[hymunet.models]\nward = ward_models.net:SPEC\n"
    )
    (tmp_path / "ward_models").mkdir()
    (tmp_path / "ward_models/__init__.py").write_text("")
    (tmp_path / "ward_models/net.py").write_text("from ward_models.layers import X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ward_models", raising=False)  # of the test before, in its folder
    catalogue._find.cache_clear()
    return lambda text: (tmp_path / "ward_models/layers.py").write_text(text) and None


def test_a_model_of_another_package_counts_with_that_packages_code(foreign):
    hashes = []
    for text in ("X = 1\n", "X = 1  # one\n", "X = 2\n"):
        foreign(text)
        hashes.append(identity.code_sha256("ward"))
    assert hashes[0] == hashes[1] != hashes[2]


OURS = {  # how the other package names what is ours -> the file of ours that counts with it
    "import hymunet.models.unet": "models/unet.py",
    "import hymunet.models.unet as ours": "models/unet.py",
    "from hymunet.models.unet import build": "models/unet.py",
    "from hymunet.models import unet": "models/unet.py",
    "def build():\n    from hymunet.models import swin_unet": "models/swin_unet.py",
    "from hymunet.models.unet import build ": "models/layers/convolution.py",
    "from typing import Any": "models/layers/attention.py",
}


@pytest.mark.parametrize("written", OURS)
def test_what_a_model_of_another_package_takes_of_ours_counts_with_it(foreign, project, written):
    foreign(f"{written}\nX = 1\n")
    hashes = []
    for file in (OURS[written], "models/unetpp.py"):
        path = project / "hymunet" / file
        text = path.read_text()
        try:
            for content in (text, text + COMMENT, text + NEW_CODE):
                path.write_text(content)
                hashes.append(identity.code_sha256("ward", project))
        finally:
            path.write_text(text)
    taken, other = hashes[:3], hashes[3:]
    assert taken[0] == taken[1] != taken[2]
    assert len(set(other)) == 1, "what it does not take has no say"
