"""`hymunet deploy --kserve`: a manifest of one image and one model, both by hash; and a server that keeps to it."""

import json
import re

import pytest
from ruamel.yaml import YAML

from hymunet import cli
from hymunet.registry.client import registry
from tests.support.versions import add, untrained

NAME, IMAGE = "deployed", f"registry.example/team/hymunet@sha256:{'0a' * 32}"
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def weights(mlflow_server, tmp_path_factory):
    """Of version 1, the champion, in a real server."""
    folder = tmp_path_factory.mktemp("deployed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
        with registry() as client:
            client.create_registered_model(NAME)
            model = untrained(folder / "model", 32, seed=0)
            number = add(client, NAME, model, 0.5, folder / "evaluation")
            client.set_registered_model_alias(NAME, "champion", number)
    return json.loads((model / "model.json").read_text())["weights_sha256"]


@pytest.fixture(autouse=True)
def _served_by(mlflow_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)


def deploy(*options):
    return cli.main(["deploy", "--kserve", "--model", f"models:/{NAME}@champion", "--image", IMAGE, *options])


def check(content, kind, place="spec"):
    """Every field of `content` is one that Kubernetes knows of that kind, of its type."""
    from kubernetes.client import models

    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        assert isinstance(content, list), place
        for number, one in enumerate(content):
            check(one, listed[1], f"{place}[{number}]")
    elif kind.startswith("V1"):
        known = getattr(models, kind)
        fields = {key: known.openapi_types[name] for name, key in known.attribute_map.items()}
        assert content.keys() <= fields.keys(), f"{place} is a {kind}"
        for key, value in content.items():
            check(value, fields[key], f"{place}.{key}")
    else:
        types = {"str": str, "int": int, "bool": bool, "object": (int, str)}
        assert isinstance(content, types.get(kind, dict)), f"{place} is {content!r}, not {kind}"


def test_the_manifest_pins_image_and_weights(weights, mlflow_server, capsys):
    assert deploy("--key-secret", "keys") == 0
    manifest = YAML(typ="safe").load(capsys.readouterr().out)
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert manifest["metadata"]["annotations"]["hymunet/weights-sha256"] == weights
    predictor = manifest["spec"]["predictor"]
    [container] = predictor.pop("containers")
    assert container["image"] == IMAGE
    assert container["args"][:4] == ["--model", f"models:/{NAME}/1", "--weights-sha256", weights], "no alias: it moves"
    values = {entry["name"]: entry.get("value") or entry["valueFrom"] for entry in container["env"]}
    assert values == {
        "MLFLOW_TRACKING_URI": mlflow_server.uri,
        "HYMUNET_API_KEY": {"secretKeyRef": {"name": "keys", "key": "key"}},
    }
    check(container, "V1Container")
    assert predictor == {"minReplicas": 1, "timeout": 60}
    options = cli.parser().parse_args([container["command"][-1], *container["args"]])
    assert options.port == container["ports"][0]["containerPort"] == container["readinessProbe"]["httpGet"]["port"]


@pytest.mark.parametrize(
    ("options", "uri", "message"),
    [
        (["--image", "hymunet:latest"], None, "--image hymunet:latest: not pinned"),
        (["--image", f"hymunet@sha256:{'0' * 63}"], None, "not pinned"),
        (["--name", "Hy_M"], None, "--name Hy_M: expected small letters"),
        (["--model", "artifacts/model"], None, "a cluster cannot read it"),
        (["--model", "models:/nobody/1"], None, "nobody"),
        ([], "sqlite:///mlflow.db", "MLFLOW_TRACKING_URI is sqlite:///mlflow.db: a manifest takes an http(s) server"),
        ([], "http://" + "me:secret@mlflow", "MLFLOW_TRACKING_URI is http://mlflow: a manifest"),
    ],
)
def test_what_is_not_pinned_or_would_tell_a_secret_is_refused(weights, monkeypatch, capsys, options, uri, message):
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert deploy(*options) == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert "secret@" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("address", "message"),
    [(f"models:/{NAME}/1", "nothing is served"), (f"models:/{NAME}@champion", "which moves; name a version")],
)
def test_a_server_serves_no_other_weights_than_those_pinned(weights, capsys, address, message):
    assert cli.main(["serve", "--model", address, "--weights-sha256", "0" * 64, "--port", "0"]) == 1
    assert message in capsys.readouterr().err
