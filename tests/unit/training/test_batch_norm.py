"""A part of one image whose maps shrink to 1×1 is refused before the first step, where torch would refuse it."""

import pytest
import torch
from torch import nn

from hymunet import models
from hymunet.models import catalogue
from hymunet.training import trainer
from hymunet.training.batch_norm import require_statistics
from tests.support.training_data import sections

SIZE = 32  # the smallest that params.yaml takes


@pytest.mark.parametrize("name", catalogue.names())
def test_what_torch_cannot_normalise_is_refused_by_name(name):
    section = models.section({"name": name, **catalogue.find(name).tiny})
    model = models.build(section, SIZE).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    _, train = sections(batch_size=1)
    try:
        model(torch.zeros(1, 3, SIZE, SIZE))
        refused = False
    except ValueError as error:
        refused = "Expected more than 1 value per channel" in str(error)
    model.load_state_dict(before)
    if refused:
        with pytest.raises(ValueError, match=rf"^train.batch_size 1 .* at 32 pixels \d+ batch norms of {name} "):
            require_statistics(model, SIZE, section, train, 1)
    else:
        require_statistics(model, SIZE, section, train, 1)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


PARTS = {  # batch_size, accumulate, ranks, sync_batch_norm -> whether a part is one image
    (1, 1, 1, False): True,
    (2, 1, 1, False): False,
    (2, 2, 1, False): True,
    (4, 2, 1, False): False,
    (4, 2, 2, False): True,
    (4, 2, 2, True): False,
    (2, 2, 1, True): True,
}


@pytest.mark.parametrize("parts", PARTS)
def test_it_is_the_part_of_a_rank_that_counts(parts):
    batch_size, accumulate, ranks, synchronised = parts
    section, train = sections(batch_size=batch_size, accumulate=accumulate, sync_batch_norm=synchronised)
    model = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4))
    if PARTS[parts]:
        with pytest.raises(ValueError, match=rf"raise train.batch_size to {2 * ranks * accumulate}, lower"):
            require_statistics(model, 8, section, train, ranks)
    else:
        require_statistics(model, 8, section, train, ranks)


def test_the_training_says_it_before_anything_is_written(inputs, tmp_path):
    paths = trainer.Paths(inputs.prepared, inputs.split, tmp_path / "model", tmp_path / "reports", str(tmp_path / "c"))
    tiny = catalogue.find("ce_net").tiny
    with pytest.raises(ValueError, match="batch norms of ce_net"):
        trainer.train(*sections(name="ce_net", batch_size=2, accumulate=2, **tiny), paths)
    assert not (tmp_path / "c").exists()
