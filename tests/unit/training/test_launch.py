"""How many ranks there are, and what their exit codes mean together."""

import signal

import pytest
import torch

from components.train import __main__ as train
from hymunet import params
from hymunet.data.feed.dataset import TrainingData
from hymunet.training import launch
from hymunet.training.distributed import Ranks
from hymunet.training.learner import Learner
from tests.support.training_data import write_params


@pytest.mark.parametrize(
    ("environment", "gpus", "expected"),
    [
        ({}, 0, 1),
        ({}, 1, 1),
        ({}, 4, 4),
        ({"HYMUNET_RANKS": "2"}, 0, 2),
        ({"HYMUNET_RANKS": "2"}, 4, 2),
        ({"HYMUNET_RANKS": ""}, 4, 4),
        ({"HYMUNET_GPUS": "4"}, 4, 4),
        ({"HYMUNET_GPUS": "4", "HYMUNET_RANKS": "1"}, 4, 1),
        ({"RANK": "1", "HYMUNET_RANKS": "2"}, 4, 1),  # a rank starts none
    ],
)
def test_one_rank_a_visible_gpu_or_as_many_as_asked_for(environment, gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert launch.ranks_wanted(environment) == expected


@pytest.mark.parametrize(
    ("environment", "gpus", "expected"),
    [
        ({"HYMUNET_GPUS": "4"}, 0, r"HYMUNET_GPUS=4: torch .* sees 0 here; is this the image for GPUs"),
        ({"HYMUNET_GPUS": "4"}, 1, "HYMUNET_GPUS=4: torch .* sees 1 here"),
        ({"HYMUNET_RANKS": "3"}, 2, "HYMUNET_RANKS=3: 2 GPUs are visible"),
        ({"HYMUNET_RANKS": "two"}, 0, "HYMUNET_RANKS='two': expected a whole number"),
        ({"HYMUNET_RANKS": "0"}, 0, "HYMUNET_RANKS='0': expected a whole number"),
    ],
)
def test_gpus_that_are_not_there_are_refused(environment, gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=expected):
        launch.ranks_wanted(environment)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "ranks", "fits"),
    [(8, 1, 2, True), (8, 2, 4, True), (7, 1, 2, False), (8, 2, 8, False)],
)
def test_a_batch_that_ranks_cannot_share_is_refused_before_they_start(
    inputs, tmp_path, monkeypatch, batch_size, accumulate, ranks, fits
):
    """In the words of a rank, which torchrun may have started."""
    started = []
    monkeypatch.setattr(launch, "launch", lambda *given: started.append(given) or 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv(launch.RANKS, str(ranks))
    parameters = write_params(tmp_path / "params.yaml", batch_size=batch_size, accumulate=accumulate)
    arguments = ["--params", str(parameters), *inputs.arguments()]
    if fits:
        assert train.main(arguments) == 0
        assert started
        return
    with pytest.raises(ValueError, match="train.batch_size") as refusal:
        train.main(arguments)
    assert not started
    content = params.load(parameters, "model", "train")
    with pytest.raises(ValueError, match="train.batch_size") as of_rank:
        Learner(content.model, content.train, TrainingData(inputs.prepared, inputs.split), Ranks(count=ranks))
    assert str(refusal.value) == str(of_rank.value)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([75], 75),
        ([75, 75], 75),
        ([130, 75], 130),
        ([-signal.SIGTERM, 75], 75),
        ([1, -signal.SIGTERM], 1),
        ([-signal.SIGTERM, 1], 1),
        ([70, 1, -signal.SIGKILL], 1),  # a NaN on one rank: its neighbours lose the connection, the last is killed
        ([-signal.SIGKILL, -signal.SIGTERM], 137),
        ([75, 70], 70),
        ([-signal.SIGTERM], 143),
    ],
)
def test_exit_codes_of_several_ranks_as_one(codes, expected):
    assert launch.exit_code(codes) == expected
