"""One step after another: schedule, skipping, averaging, parts of a batch, precision."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from hymunet import models, precision
from hymunet.data.feed.dataset import TrainingData
from hymunet.losses import HybridLoss
from hymunet.training import device as devices
from hymunet.training.capture import preserved
from hymunet.training.distributed import Ranks
from hymunet.training.learner import MAX_BAD_STEPS, Learner
from hymunet.training.progress import Readout
from hymunet.training.state import parameter_groups
from hymunet.training.validation import Validation, image_dice
from tests.support.training_data import drawn, sections, write_inputs


@pytest.fixture(autouse=True)
def deterministic():
    devices.make_deterministic()


def build(inputs, **changes) -> Learner:
    return Learner(*sections(**changes), TrainingData(inputs.prepared, inputs.split), Ranks())


@contextmanager
def poisoned(learner: Learner, value: float) -> Iterator[None]:
    """Images of nothing but this value; none that is not finite can come from uint8 data."""
    step = learner.step
    step.expanded = lambda batch: (torch.full_like(step.expand(batch)[0], value), step.expand(batch)[1])
    try:
        yield
    finally:
        step.expanded = step.expand


def weights(model) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def test_the_learning_rate_is_one_half_cosine_over_all_steps(inputs):
    learner = build(inputs, epochs=4, learning_rate=1e-2, min_learning_rate=1e-4)
    rates = [learner.learning_rate(step) for step in range(learner.schedule.steps)]
    assert len(rates) == 20
    assert rates[0] == 1e-2
    assert rates[-1] == pytest.approx(1e-4, rel=1e-12)
    angles = np.arccos(np.clip((np.array(rates) - 1e-4) / (1e-2 - 1e-4) * 2 - 1, -1, 1))
    assert np.allclose(np.diff(angles), math.pi / 19, atol=1e-6)


def test_a_step_is_that_of_a_plain_loop(inputs):
    """Against torch as a textbook would use it: AdamW not fused, no channels-last, no guard."""
    changes = {"drop_path": 0.0, "learning_rate": 1e-3, "precision": "float32"}
    learner = build(inputs, **changes)
    model_section, train = sections(**changes)
    torch.manual_seed(train.seed)
    model = models.build(model_section, learner.data.image_size)
    optimizer = torch.optim.AdamW(parameter_groups(model, train.weight_decay), betas=tuple(train.betas), foreach=False)
    loss_function = HybridLoss(train.loss_weights, train.dice_smoothing, train.boundary_radius)
    losses = []
    for step, batch in zip(range(3), learner.batches(), strict=False):
        images, masks = learner.loader.expand(batch)
        learner.learn(batch)
        for group in optimizer.param_groups:
            group["lr"] = learner.learning_rate(step)
        loss = loss_function(model.train()(images.contiguous()), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert learner.step.totals[0] == pytest.approx(sum(losses), rel=1e-4)
    found = dict(learner.model.named_parameters())
    differences = {name: (p - found[name]).detach().abs() for name, p in model.named_parameters()}
    for name, difference in differences.items():
        assert difference.median() < 1e-4, name
        # AdamW divides a gradient by its own size: where that is rounding alone, so is the sign of a whole step.
        assert difference.max() < 3 * 2.1e-3, name
    moved = sum(p.numel() for p in model.parameters()) * 3e-3
    assert sum(float(d.sum()) for d in differences.values()) < 0.02 * moved


def test_decay_spares_norms_biases_and_the_scan(inputs):
    model = build(inputs).model
    decayed, free = parameter_groups(model, 0.1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    for parameter in decayed["params"]:
        assert parameter.ndim >= 2
        assert not names[parameter].endswith(("bias", "A_log", ".D"))
    free_names = {names[parameter].split(".")[-1] for parameter in free["params"]}
    assert {"bias", "A_log", "D", "dt_bias"} <= free_names


@pytest.mark.parametrize("name", ["hymunet", "unet"])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(inputs, name, ema_decay, poison):
    learner = build(inputs, name=name, ema_decay=ema_decay)
    batch = next(learner.batches())
    learner.learn(batch)
    before = {key: tensor.clone() for key, tensor in learner.checkpoint().tensors.items()}
    if poison == "loss":
        with poisoned(learner, float("nan")):
            learner.learn(batch)
    else:
        last = list(learner.model.parameters())[-1]
        hook = last.register_hook(lambda gradient: gradient * float("inf"))
        learner.learn(batch)
        hook.remove()
    after = learner.checkpoint().tensors
    counters = {key for key in before if key.endswith("num_batches_tracked")} | {"totals"}
    assert [key for key in before if key not in counters and not torch.equal(before[key], after[key])] == []
    assert learner.step.totals[1:].tolist() == [1.0, 1.0, 1.0]
    learner.learn(batch)
    assert learner.step.totals[1:].tolist() == [2.0, 0.0, 1.0]
    assert all(torch.isfinite(tensor).all() for tensor in learner.checkpoint().tensors.values())


def test_nothing_but_bad_steps_ends_the_training_and_says_where(inputs):
    learner = build(inputs, epochs=10)
    readout = Readout(learner.device)

    def suffer() -> None:
        for batch in learner.batches():
            with poisoned(learner, float("inf")):
                learner.learn(batch)
            if readout.update(learner.progress.step, learner.step.totals):
                learner.check(readout.step, readout.bad_in_a_row)

    with pytest.raises(ValueError, match=r"epoch 2, step 10: 10 steps in a row with a loss that .*image00"):
        suffer()
    assert learner.step.totals[3] == MAX_BAD_STEPS


@pytest.mark.parametrize(
    ("epochs", "bad_from", "refused"),
    [(3, 5, True), (3, 6, False), (2, 0, True), (1, 0, True), (1, 1, False)],
)
def test_bad_steps_before_the_last_end_the_training_too(inputs, epochs, bad_from, refused):
    """Ten in a row at an epoch's end, where the looks at every tenth step have seen fewer or come too late; and all
    steps of a training that has fewer."""
    learner = build(inputs, epochs=epochs, example_every=0)
    steps = learner.schedule.steps_per_epoch
    assert steps == 5

    def suffer() -> None:
        for step, batch in enumerate(learner.batches()):
            with poisoned(learner, float("inf")) if step >= bad_from else nullcontext():
                learner.learn(batch)
            if learner.progress.step % steps == 0:
                learner.finish_epoch()

    bad = min(MAX_BAD_STEPS, epochs * steps)
    found = f"epoch {(bad_from + bad - 1) // steps + 1}, step {bad_from + bad}: {bad} steps in a row"
    with pytest.raises(ValueError, match=found) if refused else nullcontext():
        suffer()


def test_ties_go_to_the_earlier_epoch(inputs, monkeypatch):
    learner = build(inputs)
    scores = iter([0.0, 0.7, 0.5, 0.7, 0.8])
    monkeypatch.setattr(learner.validation, "dice", lambda *_: next(scores))
    chosen = []
    for epoch in range(1, 6):
        learner.progress.step = epoch * learner.schedule.steps_per_epoch
        learner.finish_epoch()
        chosen.append(learner.progress.best_epoch)
    assert chosen == [1, 2, 2, 2, 5]
    assert learner.progress.best_dice == 0.8


def test_the_best_weights_are_a_copy(inputs):
    learner = build(inputs, batch_size=10)
    for batch in learner.batches():
        learner.learn(batch)
        if learner.progress.step == 2:
            learner.finish_epoch()
            best = {name: tensor.clone() for name, tensor in learner.best.items()}
    assert learner.progress.step == 4
    assert all(torch.equal(learner.best[name], tensor) for name, tensor in best.items())


@pytest.mark.parametrize("decay", [0.15, 0.3, 0.9])
def test_averaged_weights_are_the_exponential_average_with_a_decay_that_warms_up(inputs, decay):
    learner = build(inputs, ema_decay=decay)
    expected = [parameter.detach().double() for parameter in learner.model.parameters()]
    for count, batch in enumerate(learner.batches()):
        learner.learn(batch)
        keep = min(decay, (1 + count) / (10 + count))
        now = [parameter.detach().double() for parameter in learner.model.parameters()]
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, now, strict=True)]
    for average, parameter in zip(expected, learner.evaluated.parameters(), strict=True):
        assert torch.allclose(average.float(), parameter, atol=1e-6)


# A constant decay and the live model's statistics, as it was: 0.0 for a U-Net whose live weights have 1.0.
@pytest.mark.parametrize(
    ("name", "decay", "accumulate"), [("unet", 0.99, 1), ("unet", 0.999, 1), ("unet", 0.99, 2), ("hymunet", 0.99, 1)]
)
def test_averaged_weights_score_as_the_live_ones_do_once_these_have_learnt(tmp_path, name, decay, accumulate):
    inputs = write_inputs(tmp_path / "inputs", *drawn(60, 32), validation=12, test=4)
    changes = {"name": name, "ema_decay": decay, "accumulate": accumulate, "augment": "device"}
    learner = build(inputs, epochs=4, batch_size=4 * accumulate, **changes)
    for batch in learner.batches():
        learner.learn(batch)
    dice = learner.finish_epoch()["validation_dice"]
    learner.model.eval()
    live = learner.validation.dice(learner.model, learner.step.autocast())
    assert live > 0.9
    assert dice > live - 0.03


def test_averaged_weights_are_judged_with_the_statistics_of_their_own_activations(inputs):
    learner = build(inputs, name="unet", ema_decay=0.9, precision="float32")
    for batch in learner.batches():
        learner.learn(batch)
    live = [buffer.clone() for buffer in learner.model.buffers()]
    learner.finish_epoch()
    seen: list[torch.Tensor] = []
    first = next(module for module in learner.evaluated.modules() if isinstance(module, torch.nn.BatchNorm2d))
    hook = first.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    for images in learner._statistics_batches():
        learner.evaluated(images)
    hook.remove()
    assert len(seen) == 5
    assert torch.allclose(first.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0), atol=1e-5)
    assert torch.allclose(first.running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0), rtol=1e-3)
    assert first.momentum == 0.1
    assert all(torch.equal(a, b) for a, b in zip(live, learner.model.buffers(), strict=True))
    assert all(torch.equal(learner.best[name], value) for name, value in learner.evaluated.state_dict().items())


@pytest.mark.parametrize("deep", [False, True])
def test_accumulation_is_the_whole_batch_where_no_batch_norm_sees_parts(inputs, deep):
    """With batch norm taken out, and stochastic depth in: the same losses and weights, up to rounding."""
    results = []
    for accumulate in (1, 2, 4):
        learner = build(inputs, accumulate=accumulate, batch_size=8, drop_path=0.5, deep_supervision=deep)
        for module in learner.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.forward = lambda x: x  # type: ignore[method-assign]
        for batch in learner.batches():
            learner.learn(batch)
        results.append(
            (learner.step.totals[0].item(), torch.cat([p.detach().flatten() for p in learner.model.parameters()]))
        )
    for total, flat in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-4)
        assert (flat - results[0][1]).abs().mean() < 2e-5


@pytest.mark.parametrize("contour", [0, 1, 4, 16])
@pytest.mark.parametrize("parts", [2, 8, 16])
def test_parts_average_to_the_batch_however_few_pixels_lie_at_a_contour(inputs, contour, parts):
    """contour: images whose mask is one pixel in a corner, four pixels of band each; the others are empty."""
    step = build(inputs).step
    step.parts = parts
    masks = torch.zeros(16, 1, 32, 32)
    masks[:contour, :, 0, 0] = 1
    logits = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))
    bands = step._band_pixels(masks)
    losses = [step.loss(x, y, bands) for x, y in zip(logits.chunk(parts), masks.chunk(parts), strict=True)]
    assert float(sum(losses)) / parts == pytest.approx(float(step.loss(logits, masks)), rel=1e-5)


@pytest.mark.parametrize("batch_size", [6, 20])
def test_parts_must_divide_the_batch(inputs, batch_size):
    model, train = sections(batch_size=batch_size)
    with pytest.raises(ValueError, match="multiple of ranks × train.accumulate = [37] × 1"):
        Learner(model, train, TrainingData(inputs.prepared, inputs.split), Ranks(count=3 if batch_size == 20 else 7))


def test_image_dice_counts_an_image_that_is_empty_in_both_as_perfect():
    prediction = torch.zeros(4, 8, 8, dtype=torch.bool)
    truth = prediction.clone()
    prediction[1, :4], truth[1, 2:6], truth[2, 0], prediction[3, 0] = True, True, True, True
    assert image_dice(prediction, truth).tolist() == [1.0, 0.5, 0.0, 0.0]


def test_validation_is_the_mean_over_images_whatever_the_batches(inputs):
    learner = build(inputs)
    images, masks = learner.data.subset("validation").arrays()
    learner.model.eval()
    whole = learner.validation.dice(learner.model, learner.step.autocast())
    learner.validation.batch_size = 5
    assert learner.validation.dice(learner.model, learner.step.autocast()) == pytest.approx(whole, abs=1e-6)
    assert len(images) == 6
    one_by_one = []
    for image, mask in zip(images, masks, strict=True):
        x = torch.from_numpy((image.astype(np.float32) - 127.5) / 127.5).permute(2, 0, 1)[None]
        prediction = (torch.sigmoid(learner.model(x))[0, 0] > 0.5).numpy()
        total = prediction.sum() + mask.sum()
        one_by_one.append(2 * (prediction & (mask > 0)).sum() / total if total else 1.0)
    assert whole == pytest.approx(np.mean(one_by_one), abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 9])
def test_every_validation_image_is_one_ranks_however_many_there_are(inputs, count):
    subset = build(inputs).data.subset("validation")
    shares = [Validation(subset, 4, torch.device("cpu"), Ranks(rank, count)).rows.tolist() for rank in range(count)]
    assert sorted(row for share in shares for row in share) == list(range(6))


def test_precision_follows_the_hardware():
    cpu = torch.device("cpu")
    expected = torch.bfloat16 if precision.computes_in_bfloat16(cpu) else None
    assert precision.autocast_dtype("auto", cpu) is expected
    assert precision.autocast_dtype("float32", cpu) is None
    if expected is None:
        with pytest.warns(UserWarning, match="only emulates bfloat16"):
            assert precision.autocast_dtype("bf16", cpu) is torch.bfloat16


@pytest.mark.parametrize(
    ("tiles", "instructions", "vendor", "expected"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),  # measured: 120 ms against 86 in float32
        (False, True, "AuthenticAMD", True),
        (False, True, "", False),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bfloat16_is_computed_in_where_the_processor_is_faster_with_it(
    tiles, instructions, vendor, expected, monkeypatch, tmp_path
):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n" if vendor else "processor\t: 0\n")
    found = precision.processor_vendor(tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(precision, "processor_vendor", lambda: found)
    assert precision.computes_in_bfloat16(torch.device("cpu")) is expected


def test_bf16_trains(inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this processor only emulates it
        learner = build(inputs, precision="bf16", batch_size=10)
    for batch in learner.batches():
        learner.learn(batch)
    total, count, *bad = learner.step.totals.tolist()
    assert bad == [0, 0]
    assert 0 < total / count < 3


def test_the_rate_warms_up_in_a_line_and_falls_in_one_half_cosine(inputs):
    learner = build(inputs, epochs=4, learning_rate=1e-2, min_learning_rate=1e-4, warmup_epochs=0.8)
    rates = [learner.learning_rate(step) for step in range(learner.schedule.steps)]
    assert rates[:4] == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2])
    assert rates[4] == 1e-2
    assert rates[-1] == pytest.approx(1e-4, rel=1e-12)
    assert np.all(np.diff(rates[4:]) < 0)


@pytest.mark.parametrize("clip_norm", [0.0, 1e-2, 1e6])
def test_clipping_is_torchs_own(inputs, clip_norm):
    """AdamW hardly heeds a gradient's length: what it is given is looked at."""
    learner = build(inputs, name="unet", clip_norm=clip_norm, precision="float32")
    seen: list[torch.Tensor] = []
    step = learner.optimizer.step
    learner.optimizer.step = lambda: seen.extend(p.grad.clone() for p in learner.model.parameters()) or step()
    learner.learn(next(learner.batches()))
    free = build(inputs, name="unet", precision="float32")
    expected: list[torch.Tensor] = []
    free.optimizer.step = lambda: expected.extend(p.grad.clone() for p in free.model.parameters())
    free.learn(next(free.batches()))
    norm = torch.nn.utils.get_total_norm(expected)
    scale = min(1.0, clip_norm / float(norm)) if clip_norm else 1.0
    for gradient, whole in zip(seen, expected, strict=True):
        assert torch.allclose(gradient, whole * scale, rtol=1e-4, atol=1e-9)


def test_a_step_leaves_nothing_of_its_preparation_behind(inputs):
    """What a capture does before the first step: steps that are taken back, moments that must exist."""
    tried, fresh = build(inputs, ema_decay=0.9), build(inputs, ema_decay=0.9)
    batch = next(tried.batches())
    tried.step.create_state()
    inputs_of_step = {**batch, **tried._step_inputs(4)}
    with preserved(tried.step.state()):
        for _ in range(3):
            tried.step(inputs_of_step)
    for learner in (tried, fresh):
        for given in learner.batches():
            learner.learn(given)
    ours, theirs = tried.checkpoint().tensors, fresh.checkpoint().tensors
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
