"""The study compiled: the data once, a bounded loop over just the cells asked for, and on each pod what it needs."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from pipelines import __main__ as command
from pipelines.study_text import packed, unpacked
from tests.unit.pipelines.test_compile import DIGEST, GPU, cluster

ROOT = Path(__file__).resolve().parents[3]
STUDY = ROOT / "studies/comparison"


def compiled(folder: Path, *options: str, **settings: Any) -> tuple[dict, dict]:
    with (folder / "settings.yaml").open("w") as file:
        YAML().dump(cluster(**settings).model_dump(), file)
    where = ["--settings", str(folder / "settings.yaml"), "--output", str(folder / "p.yaml")]
    assert command.main(["compile", "--pipeline", "study", "--study", str(STUDY), *where, *options]) == 0
    pipeline, platform = YAML(typ="safe", pure=True).load_all(folder / "p.yaml")
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    only = ["--only", "kvasir/unet", "--only", "*/hymunet/seed-1"]
    return compiled(tmp_path_factory.mktemp("study"), *only, "--parallel", "3", accelerator=GPU)


def test_the_loop_is_over_the_cells_asked_for_so_many_at_a_time(documents: tuple[dict, dict]) -> None:
    tasks = documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    [loop] = [task for task in tasks.values() if "parameterIterator" in task]
    cells = json.loads(loop["parameterIterator"]["items"]["raw"])
    wanted = ["isic2018/hymunet/seed-1", "isic2018_random/hymunet/seed-1", "kvasir/hymunet/seed-1"]
    assert sorted(cells) == sorted([*wanted, *(f"kvasir/unet/seed-{seed}" for seed in range(3))])
    assert loop["iteratorPolicy"] == {"parallelismLimit": 3}
    assert loop["dependentTasks"] == ["study-data"]
    assert "cells" in [tasks[name]["taskInfo"]["name"] for name in tasks["study-tables"]["dependentTasks"]]
    assert tasks["conclude"]["dependentTasks"] == ["study-tables"]
    assert tasks["conclude"].get("retryPolicy", {}).get("maxRetryCount", 0) == 0


def test_whatever_happens_the_run_ends_with_what_became_of_every_cell(documents: tuple[dict, dict]) -> None:
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert sorted(tasks) == ["exit-handler-1", "finish"], "no step is outside of what the exit handler watches"
    assert tasks["finish"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    given = {
        name: json.loads(one["runtimeValue"]["constant"])
        for name, one in tasks["finish"]["inputs"]["parameters"].items()
    }
    assert given["sets"] == ["isic2018", "isic2018_random", "kvasir"]
    assert given["parts"][-1] == "tables"
    assert sorted(given["parts"][:-1]) == sorted(looped(documents))
    for label in ("exec-study-data", "exec-study-cell", "exec-study-tables", "exec-finish"):
        args = documents[0]["deploymentSpec"]["executors"][label]["container"]["args"]
        assert args[args.index("--run") + 1] == "{{$.pipeline_job_uuid}}", label


def looped(documents: tuple[dict, dict]) -> list[str]:
    tasks = documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    [loop] = [task for task in tasks.values() if "parameterIterator" in task]
    return json.loads(loop["parameterIterator"]["items"]["raw"])


def test_the_data_are_made_once_and_checked_in_their_own_image(documents: tuple[dict, dict]) -> None:
    executors = {label: one["container"] for label, one in documents[0]["deploymentSpec"]["executors"].items()}
    assert executors["exec-study-data"]["image"] == f"hub/data@{DIGEST}"
    assert "accelerator" not in executors["exec-study-data"]["resources"]
    assert list(executors).count("exec-study-data") == 1


def test_a_cell_gets_one_gpu_though_a_training_would_get_two(documents: tuple[dict, dict]) -> None:
    cell = documents[0]["deploymentSpec"]["executors"]["exec-study-cell"]["container"]
    assert cell["image"] == f"hub/cuda@{DIGEST}"
    assert cell["resources"]["accelerator"]["resourceCount"] == "1"
    assert {"name": "HYMUNET_GPUS", "value": "1"} in cell["env"]
    assert documents[1]["exec-study-cell"]["nodeSelector"]["labels"] == {"pool": "spot-gpu"}
    for label, pod in documents[1].items():
        assert pod["securityContext"]["runAsNonRoot"], label


def test_the_pods_read_the_same_study_as_the_workstation(tmp_path: Path) -> None:
    from hymunet.study import plan, state

    there = unpacked(packed(STUDY, ["data.isic2018.mirror=s3://images/isic"]), tmp_path / "pod")
    here = plan.load(STUDY)
    assert there.cells == here.cells
    for cell in here.cells:
        assert state.settings(there, cell) == state.settings(here, cell), cell.name
    assert there.content("isic2018")["data"]["isic2018"]["mirror"] == "s3://images/isic"


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        (["--parallel", "0"], {}, "--parallel 0 must be at least 1"),
        (["--only", "isic2018/vnet"], {}, "--only isic2018/vnet: fits no cell"),
        (["--profile", "demo"], {}, "--profile demo does not go with --pipeline study"),
        (["-S", "train.epochs=1"], {}, "a study's parameters are those of its file"),
        ([], {"dvc_remote": "gs://bucket/dvc"}, "dvc_remote = 'gs://bucket/dvc': a study's cells are shared in s3"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: list[str], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        compiled(tmp_path, *options, **settings)
    assert not (tmp_path / "p.yaml").exists()
