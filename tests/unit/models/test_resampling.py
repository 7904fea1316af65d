"""Our resizing and pooling against torch's, which CUDA cannot do deterministically: values and gradients."""

import pytest
import torch
from torch.nn import functional

from hymunet.models.layers.resampling import Bilinear, Nearest, global_average, global_maximum, maximum


def bilinear(align_corners):
    return lambda x, size: functional.interpolate(x, size, mode="bilinear", align_corners=align_corners)


CASES = {
    "bilinear": (lambda x, size: Bilinear()(x, size), bilinear(False)),
    "bilinear by corners": (lambda x, size: Bilinear(align_corners=True)(x, size), bilinear(True)),
}
SIZES = [((5, 7), (10, 14)), ((1, 1), (4, 3)), ((2, 3), (8, 8)), ((8, 8), (5, 3)), ((4, 6), (4, 6)), ((6, 4), (1, 9))]


def maps(height, width, dtype=torch.float64):
    return torch.randn(2, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(0))


def assert_the_same(ours, theirs, x):
    a, b = (x.clone().requires_grad_() for _ in range(2))
    found, expected = ours(a), theirs(b)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(1))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bilinear_resizing(case, before, after):
    ours, theirs = CASES[case]
    assert_the_same(lambda x: ours(x, after), lambda x: theirs(x, after), maps(*before))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_scale_in_place_of_a_size(scale):
    x = maps(3, 5)
    assert_the_same(Bilinear(scale), lambda x: functional.interpolate(x, scale_factor=scale, mode="bilinear"), x)
    assert_the_same(Nearest(scale), lambda x: functional.interpolate(x, scale_factor=scale, mode="nearest"), x)


def test_global_pooling():
    x = maps(6, 5)
    assert_the_same(global_average, lambda x: functional.adaptive_avg_pool2d(x, 1), x)
    assert_the_same(global_maximum, lambda x: functional.adaptive_max_pool2d(x, 1), x)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_gradient_of_a_maximum_is_that_of_its_first_place(dim):
    x = maps(6, 5).relu().round()  # many are equal
    assert_the_same(lambda x: maximum(x, dim), lambda x: x.max(dim, keepdim=True).values, x)
    infinite = torch.full((2, 3, 2, 2), -torch.inf)
    assert torch.equal(maximum(infinite, dim), infinite.amax(dim, keepdim=True))


@pytest.mark.parametrize("layer", [Bilinear(2), Bilinear(2, align_corners=True), Nearest(2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_that_are_last_stay_last(layer, dtype):
    x = maps(4, 4, dtype).contiguous(memory_format=torch.channels_last)
    resized = layer(x)
    assert resized.dtype == dtype
    assert resized.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(resized.float(), layer(x.float()), rtol=1e-2, atol=1e-2)


LAYERS = [Bilinear(2), Bilinear(2, align_corners=True), Nearest(2), global_average, global_maximum]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@pytest.mark.parametrize("layer", LAYERS)
def test_on_a_gpu_under_deterministic_algorithms(layer):
    torch.use_deterministic_algorithms(True)
    try:
        x = maps(16, 16, torch.float32).cuda().requires_grad_()
        layer(x).square().sum().backward()
        first = x.grad.clone()
        x.grad = None
        layer(x).square().sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, x.grad)
