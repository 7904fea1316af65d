"""Pipelines as Kubernetes objects: as kfp itself writes them, and a version's name says its content."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from hymunet.params import read_yaml
from pipelines import __main__ as command
from pipelines import manifest, training
from tests.unit.pipelines.test_compile import GPU, cluster

ROOT = Path(__file__).resolve().parents[3]
# The fields that the PipelineVersion's CRD of kubeflow/pipelines has; pipelineSpec is required.
FIELDS = {"codeSourceURL", "description", "displayName", "pipelineName", "pipelineSpec", "pipelineSpecURI"}
FIELDS |= {"platformSpec"}


def compiled(folder: Path, name: str, *options: str, form: str = "pipelineversion", **settings: Any) -> list[Any]:
    with (folder / "settings.yaml").open("w") as file:
        YAML().dump(cluster(accelerator=GPU, **settings).model_dump(), file)
    where = ["--settings", str(folder / "settings.yaml"), "--output", str(folder / name), "--namespace", "imaging"]
    where += ["--params", str(ROOT / "params.yaml")]
    assert command.main(["compile", "--as", form, *where, *options]) == 0
    return list(YAML(typ="safe", pure=True).load_all(folder / name))


def test_the_objects_are_those_that_kfp_itself_writes_but_for_the_versions_name(tmp_path: Path) -> None:
    from kfp import compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    pipeline, version = compiled(tmp_path, "ours.yaml")
    options = KubernetesManifestOptions(namespace="imaging", include_pipeline_manifest=True)
    define = training.define(cluster(accelerator=GPU), read_yaml(ROOT / "params.yaml"))
    compiler.Compiler().compile(
        define,  # type: ignore[arg-type]
        str(tmp_path / "theirs.yaml"),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=options,
    )
    their_pipeline, their_version = YAML(typ="safe", pure=True).load_all(tmp_path / "theirs.yaml")
    assert pipeline == their_pipeline
    assert {key: value for key, value in version.items() if key not in ("metadata", "spec")} == {
        key: value for key, value in their_version.items() if key not in ("metadata", "spec")
    }
    for field in ("pipelineSpec", "platformSpec", "pipelineName", "description"):
        assert version["spec"][field] == their_version["spec"][field], field
    assert set(version["spec"]) <= FIELDS
    assert version["metadata"]["namespace"] == "imaging"
    assert version["metadata"]["name"].startswith("hymunet-training-")


def test_the_same_is_the_same_object_and_a_change_another(tmp_path: Path) -> None:
    first, again, other = (
        compiled(tmp_path, f"{number}.yaml", *options)[1]["metadata"]["name"]
        for number, options in enumerate([[], [], ["-S", "train.epochs=3"]])
    )
    assert first == again != other
    assert len(first) <= 63


def test_a_package_is_as_it_was(tmp_path: Path) -> None:
    assert compiled(tmp_path, "p.yaml", form="package")[0]["pipelineInfo"]["name"] == "hymunet-training"


def test_no_address_of_this_machine_goes_into_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dvc_remote = '/srv/dvc': a folder of this machine"):
        compiled(tmp_path, "p.yaml", dvc_remote="/srv/dvc")


def test_the_example_of_argo_cd_prunes_no_version() -> None:
    application = read_yaml(ROOT / "infra/kubeflow/argocd.yaml")
    assert (application["apiVersion"], application["kind"]) == ("argoproj.io/v1alpha1", "Application")
    policy = application["spec"]["syncPolicy"]
    assert policy["automated"]["prune"] is False
    assert "ServerSideApply=true" in policy["syncOptions"]
    assert manifest.API == "pipelines.kubeflow.org/v2beta1"
