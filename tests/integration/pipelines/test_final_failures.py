"""A run's parameters can be changed on Kubeflow's page: what another try does not mend is tried once, in each pipeline.

The compiled YAML is walked with its containers as processes, and the tries of each step are counted.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kfp", reason="needs the extra `pipelines`")
pytest.importorskip("fsspec", reason="needs the extra `dvc`")

from hymunet.registry import client
from hymunet.study import plan
from pipelines import graph, parameters
from pipelines.predict import compile_predict
from pipelines.study import compile_study
from pipelines.study_text import packed
from pipelines.training import compile_pipeline
from tests.support import demo_study
from tests.support.pod_processes import ROOT, Processes
from tests.unit.pipelines.test_compile import cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a registry with a model that has no version yet."""
    folder = tmp_path_factory.mktemp("registry")
    address = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", address)
        with client.registry() as opened:
            opened.create_registered_model("lesions")
    return address


def predict(folder: Path, remote: Path, registry: str) -> None:
    settings = cluster(
        dvc_remote=str(remote),
        secrets=[],
        environment={"MLFLOW_TRACKING_URI": registry},
        volumes=[{"claim": "scans", "path": "/mnt/scans"}],
    )
    asked = {"model": "models:/lesions/1", "source": "/mnt/scans/in", "target": "/mnt/scans/out"}
    compile_predict(settings, asked | {"save": "mask", "reference": ""}, folder / "p.yaml")


def study(folder: Path, remote: Path, _: str) -> None:
    written = demo_study.write(folder / "demo")
    settings = cluster(dvc_remote=str(remote), environment={"HYMUNET_TRACKING": "off"}, secrets=[])
    cells = plan.load(written).cells[:2]
    compile_study(settings, packed(written, []), cells, 1, folder / "p.yaml")


def training(folder: Path, remote: Path, registry: str) -> None:
    settings = cluster(dvc_remote=str(remote), environment={"MLFLOW_TRACKING_URI": registry}, secrets=[])
    compile_pipeline(settings, parameters.content(ROOT / "params.yaml", None, []), folder / "p.yaml")


def wrong_study(changed: dict[str, Any]) -> Callable[[Path], str]:
    def text(folder: Path) -> str:
        content = json.loads(packed(folder / "demo", []))
        return json.dumps(content | {"study": content["study"] | changed})

    return text


CASES: dict[str, tuple[Callable[[Path, Path, str], None], str, Callable[[Path], str], str]] = {
    # a pipeline, a parameter of it, what somebody wrote there, what the run says at its end
    "an alias that nobody set": (predict, "model", lambda _: "models:/lesions@champion", "champion"),
    "no address of a version": (predict, "model", lambda _: "lesions", "expected models:/NAME@ALIAS"),
    "a study's unknown model": (
        study,
        "study",
        wrong_study({"models": demo_study.MODELS | {"unet": {"title": "U-Net", "model": {"name": "u-net"}}}}),
        "u-net",
    ),
    "a study's text that is no JSON": (
        study,
        "study",
        lambda _: "title: Two models",
        "study = 'title: Two models'",
    ),
    "parameters that are no YAML": (training, "params", lambda _: "data: [", "params"),
    "parameters without sections": (training, "params", lambda _: "{}", "params"),
}


QUICK = {"an alias that nobody set", "a study's text that is no JSON", "parameters that are no YAML"}  # one a pipeline


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_what_would_fail_again_is_tried_once_and_is_what_the_run_says(
    case: str, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, parameter, written, said = CASES[case]
    monkeypatch.setattr(graph, "SECOND", 0.0)
    (tmp_path / "remote").mkdir()
    compiled(tmp_path, tmp_path / "remote", registry)
    pods = Processes(tmp_path / "pods")
    tries: Counter[str] = Counter()

    def counted(label: str, image: str, line: list[str], environment: dict[str, str]) -> int:
        tries[line[line.index("--cell") + 1] if "--cell" in line else label] += 1
        return pods(label, image, line, environment)

    given = {parameter: written(tmp_path)}
    walked = graph.Graph(tmp_path / "p.yaml")
    assert not walked.run(given, tmp_path / "kubeflow", "wrong", counted), "the run succeeded"
    logs = "\n".join(pods.logs)
    assert set(tries.values()) == {1}, f"{tries}\n{logs[-5000:]}"
    [concluded] = [log for log in pods.logs if log.startswith("conclude:")]
    assert said in concluded, concluded
    assert "Traceback" not in logs


@pytest.mark.slow
def test_a_registry_that_fails_for_now_is_asked_again(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "SECOND", 0.0)
    (tmp_path / "remote").mkdir()
    predict(tmp_path, tmp_path / "remote", registry)
    pods = Processes(tmp_path / "pods")
    with closing(sqlite3.connect(registry.removeprefix("sqlite:///"))) as held:
        held.execute("BEGIN EXCLUSIVE")

        def then_free(label: str, image: str, line: list[str], environment: dict[str, str]) -> int:
            code = pods(label, image, line, environment)
            held.rollback()
            return code

        graph.Graph(tmp_path / "p.yaml").run({}, tmp_path / "kubeflow", "held", then_free)
    assert [("locked" in log) for log in pods.logs[:2]] == [True, False], pods.logs[:2]
