"""What every model must do, whatever it is: sizes, gradients, precision, layout, bits, files, ranks, compilers.

Models come from the catalogue in the smallest form that their Spec names, so a new one is tested by being there.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hymunet import models
from hymunet.data.feed import augment
from hymunet.models import catalogue
from hymunet.models.protocols import SparesDecay, draws, scans
from hymunet.portable.export import Portable, write_core
from hymunet.study import size
from hymunet.training.state import optimizer_tensors, parameter_groups, restore_optimizer

NAMES = catalogue.names()
ABLATIONS = [{"encoder": "cnn"}, {"encoder": "mamba"}, {"fusion": "none"}, {"fusion": "both"}]
ABLATIONS += [{"directions": 2}, {"directions": 1}, {"encoder": "efficientnet_lite0"}, {"deep_supervision": True}]
FORMS = {name: {"name": name, **catalogue.find(name).tiny} for name in NAMES}
FORMS |= {
    f"hymunet {key} {value}": {**FORMS["hymunet"], key: value} for fields in ABLATIONS for key, value in fields.items()
}
SIZE = 64
every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def one_thread():
    """Forms this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(form, size=SIZE, seed=0):
    torch.manual_seed(seed)
    return models.build(models.section(FORMS[form]), size)


def images(count=2, size=SIZE, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def without_stochastic_depth(model):
    """In training mode, drawing nothing."""
    for layer in draws(model):
        layer.rate = 0.0
    return model.train()


def with_running_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def output(model, x):
    """Logits (B, values): of all levels, under deep supervision."""
    logits = model(x)
    return torch.cat([level.flatten(1) for level in (logits if isinstance(logits, list) else [logits])], 1)


def finest(logits):
    return logits[0] if isinstance(logits, list) else logits


def loss_of(model, x):
    return output(model, x).float().square().mean()


PUBLISHED = [(name, number) for name in NAMES for number in range(len(catalogue.find(name).published))]


@pytest.mark.parametrize(("name", "number"), PUBLISHED)
def test_the_published_form_has_the_published_size(name, number):
    """Multiply-accumulates of convolutions and products, those of bilinear resizing apart, which others do otherwise.

    Within 2 %: we pad ResNet's pooling in TransUNet, and make Swin's biases by a product.
    """
    published = catalogue.find(name).published[number]
    section = models.section({"name": name, **published.section})
    counted = size.counts(section, published.image_size)
    assert counted["parameters"] == published.parameters
    assert counted["gmacs"] == pytest.approx(published.gmacs, rel=0.02)


BY_EQUALITY = {f"{name}Backward{form}" for name in ("Amax", "Amin", "Aminmax", "Max", "Min", "Median") for form in "01"}
BY_PLACE = {"MaxBackward0", "MinBackward0", "MedianBackward1"}  # of a dimension


@every_form
def test_no_gradient_goes_to_what_equals_a_result(form):
    """Compiled for a GPU such a place is looked for among numbers that were rounded otherwise, and is not found."""
    waiting, seen = [loss_of(build(form).train(), images()).grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    assert {node.name() for node in seen}.isdisjoint(BY_EQUALITY - BY_PLACE)


@every_form
@pytest.mark.parametrize(("count", "size"), [(1, 32), (3, 64), (2, 96)])
def test_any_batch_and_any_size_that_the_stride_divides(form, count, size):
    with torch.no_grad():
        logits = build(form, size).eval()(images(count, size))
    assert logits.shape == (count, 1, size, size)
    assert torch.isfinite(logits).all()


@every_form
def test_a_size_off_the_stride_is_refused_in_one_line(form):
    section = models.section(FORMS[form])
    stride = catalogue.find(section.name).stride(section)
    with pytest.raises(
        ValueError, match=rf"image_size = {stride + 1}: model {section.name} takes multiples of {stride}"
    ):
        models.build(section, stride + 1)
    with pytest.raises(ValueError, match="image size"):
        build(form, 64)(torch.zeros(1, 3, 64 + stride // 2, 64))


@every_form
def test_every_parameter_gets_a_gradient(form):
    """With batch norm's own statistics: those of the batch take away again what a bias before it adds."""
    model = with_running_statistics(without_stochastic_depth(build(form)))
    loss_of(model, images()).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


@every_form
def test_a_sample_does_not_hear_of_its_neighbours_in_the_batch(form):
    model, x = build(form).eval(), images(3)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in x])
        torch.testing.assert_close(model(x), alone, rtol=1e-3, atol=1e-4)


@every_form
def test_channels_last_changes_nothing(form):
    model, x = build(form).eval(), images()
    with torch.no_grad():
        plain = model(x)
        last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)


@every_form
def test_bf16_says_nearly_the_same_and_learns(form):
    model, x = without_stochastic_depth(build(form)), images()
    with torch.no_grad():
        wide = output(copy.deepcopy(model), x)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = output(model, x)
    narrow.float().square().mean().backward()
    assert torch.nn.functional.cosine_similarity(wide.flatten(), narrow.float().flatten(), 0) > 0.97
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def step_twice(model, x):
    """Weights after two optimizer steps."""
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2), lr=1e-3, fused=True)
    for _ in range(2):
        loss_of(model, x).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@every_form
def test_the_same_seed_gives_the_same_bits(form, deterministic):
    """Fresh weights, and what two steps make of them."""
    first, second = build(form), build(form)
    other = build(form, seed=1).state_dict()
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.state_dict().items())
    results = []
    for model in (first, second):
        torch.manual_seed(3)
        results.append(step_twice(model.train(), images()))
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


@every_form
def test_a_checkpoint_between_two_steps_changes_no_bit(form):
    whole = step_twice(without_stochastic_depth(build(form)), images())
    model = without_stochastic_depth(build(form))
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2), lr=1e-3, fused=True)
    loss_of(model, images()).backward()
    optimizer.step()
    saved = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer_tensors(optimizer, model))
    resumed = without_stochastic_depth(build(form, seed=5))
    resumed.load_state_dict(saved[0])
    optimizer = torch.optim.AdamW(parameter_groups(resumed, 1e-2), lr=1e-3, fused=True)
    restore_optimizer(optimizer, resumed, saved[1])
    loss_of(resumed, images()).backward()
    optimizer.step()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in resumed.state_dict().items())


@every_form
def test_saved_and_loaded_it_is_the_same_model(form, tmp_path):
    model = build(form).eval()
    models.save(model, {"model": FORMS[form], "image_size": SIZE, "threshold": 0.5}, tmp_path)
    loaded, info = models.load(tmp_path)
    assert info["model"] == FORMS[form]
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(loaded(images()), model(images()), rtol=1e-3, atol=1e-4)


def drawing(layers, keys, model, x):
    for layer, row in zip(layers, keys, strict=True):
        layer.keys = row
    return output(model, x)


@every_form
@pytest.mark.parametrize("count", [2, 4])
def test_a_sample_draws_the_same_however_the_batch_is_divided(form, count):
    """Over ranks or accumulated parts; with batch norm's own statistics, which such a division does change."""
    model, x = with_running_statistics(build(form).train()), images(4)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules()), "Dropout of ours draws per sample"
    with torch.no_grad():
        layers = list(draws(model))
        keys = torch.from_numpy(augment.keys(2, 0, np.arange(4)[None], np.arange(len(layers))[:, None]).view(np.int64))
        whole, parts = drawing(layers, keys, model, x), []
        for part, those in zip(x.chunk(count), keys.chunk(count, 1), strict=True):
            parts.append(drawing(layers, those, model, part))
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-3, atol=1e-4)


@every_form
def test_weight_decay_spares_vectors_and_what_a_layer_names(form):
    model = build(form)
    decayed, free = (set(group["params"]) for group in parameter_groups(model, 0.1))
    named = {
        layer.get_parameter(name)
        for layer in model.modules()
        if isinstance(layer, SparesDecay)
        for name in layer.undecayed
    }
    assert decayed | free == set(model.parameters())
    assert free == named | {parameter for parameter in model.parameters() if parameter.ndim < 2}
    names = {parameter: key.rpartition(".")[2] for key, parameter in model.named_parameters()}
    assert not {names[parameter] for parameter in decayed} & {"positions", "offsets", "A_log", "D", "dt_bias"}


@pytest.mark.slow
@every_form
def test_it_learns_four_images_by_heart(form):
    """From a draw of weights by which every form learns: from draw 0 HyM-UNet with two directions finds no lesion."""
    model = without_stochastic_depth(build(form, seed=1))
    x = images(4)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    centres = torch.tensor([[20, 20], [40, 24], [30, 44], [32, 32]])[:, :, None, None]
    truth = (((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) < 12**2).float()[:, None]
    x = x + 3 * truth
    steps = 250
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(finest(model(x)), truth).backward()
        optimizer.step()
        schedule.step()
    found = (finest(model(x)) > 0).float()
    assert float(2 * (found * truth).sum() / (found + truth).sum()) > 0.95


@pytest.mark.slow
@every_form
def test_compiled_it_computes_the_same(form):
    """In float64, but for the scan's kernels: in float32 another order of sums turns pools and ReLUs on or off."""
    model, x = without_stochastic_depth(build(form)), images()
    exact = not list(scans(model))
    if exact:
        model, x = model.double(), x.double()
    compiled = torch.compile(copy.deepcopy(model))
    losses = loss_of(model, x), loss_of(compiled, x)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6 if exact else 1e-3, atol=1e-5)
    for loss in losses:
        loss.backward()
    for (key, ours), theirs in zip(model.named_parameters(), compiled.parameters(), strict=True):
        scale = float(ours.grad.abs().max()) + 1e-6
        assert float((ours.grad - theirs.grad).abs().max()) < (1e-5 * scale + 1e-8 if exact else 0.02 * scale + 1e-5), (
            key
        )


@pytest.mark.slow
@every_form
def test_as_onnx_it_computes_the_same_for_any_batch(form, tmp_path):
    pytest.importorskip("onnxscript", reason="ONNX is an extra: pip install hymunet[export]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
    model = build(form).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = Portable(model)(torch.from_numpy(pixels)).numpy()
    write_core(Portable(model), SIZE, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (found,) = session.run(None, {"pixels": pixels[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@every_form
def test_on_a_gpu_the_same_bits_and_nearly_those_of_the_cpu(form, deterministic):
    results = []
    for _ in range(2):
        model = without_stochastic_depth(build(form)).cuda().to(memory_format=torch.channels_last)
        results.append(step_twice(model, images().cuda().contiguous(memory_format=torch.channels_last)))
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
    model = build(form).eval()
    with torch.no_grad():
        on_cpu, on_gpu = model(images()), model.cuda()(images().cuda()).cpu()
    assert torch.nn.functional.cosine_similarity(on_cpu.flatten(), on_gpu.flatten(), 0) > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@every_form
def test_on_a_gpu_forward_and_backward_can_be_captured(form):
    model = build(form).train().cuda().to(memory_format=torch.channels_last)
    x = images().cuda().contiguous(memory_format=torch.channels_last)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        for _ in range(3):
            loss_of(model, x).backward()
            model.zero_grad()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        loss = loss_of(model, x)
        loss.backward()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@every_form
def test_on_a_gpu_compiled_in_bfloat16_gradients_are_finite_and_nearly_those_of_float32(form):
    """The published models train so. Nearly: or as near as bfloat16 comes without a compiler, where a model's gradient
    is this sensitive to rounding (TransUNet, untrained: group norms over few values, one behind the other)."""
    model = without_stochastic_depth(build(form)).cuda().to(memory_format=torch.channels_last)
    x = images().cuda().contiguous(memory_format=torch.channels_last)
    gradients = []
    rounded = copy.deepcopy(model), torch.compile(copy.deepcopy(model))
    for one, wide in ((model, True), (rounded[0], False), (rounded[1], False)):
        with torch.autocast("cuda", torch.bfloat16, enabled=not wide):
            loss = loss_of(one, x)
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in one.parameters()]).cpu())
    exact, eager, compiled = gradients
    assert torch.isfinite(compiled).all()
    nearness = nn.functional.cosine_similarity(exact, eager, 0)
    assert nn.functional.cosine_similarity(exact, compiled, 0) > min(0.95, nearness - 0.1)
