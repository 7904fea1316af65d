"""The scan inside HyM-UNet: no graph break, channels-last without layout copies, and the same map from ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hymunet.models.hymunet import HyMUNet
from hymunet.models.layers.state_space import SS2D, VisualStateSpaceBlock
from hymunet.ops import cpu

CHANNELS = (8, 16, 32, 64)
needs_kernel = pytest.mark.skipif(bool(cpu.unavailable("cpu")), reason=f"no CPU kernel: {cpu.unavailable('cpu')}")


@pytest.fixture
def model() -> HyMUNet:
    torch.manual_seed(0)
    return HyMUNet(CHANNELS).to(memory_format=torch.channels_last)


def images(size: int, batch: int = 2) -> Tensor:
    pixels = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(size))
    return pixels.contiguous(memory_format=torch.channels_last)


def use(model: nn.Module, backend: str) -> None:
    for module in model.modules():
        if isinstance(module, SS2D):
            module.backend = backend


@pytest.mark.slow
@needs_kernel
def test_the_whole_model_compiles_without_a_graph_break(model: HyMUNet) -> None:
    """Forward and backward, traced as one graph; the tracer's own arithmetic keeps the comparison exact to rounding."""
    model.eval()
    parameters = list(model.parameters())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for run in (model, compiled):
        logits = run(images(32))
        results.append([logits.detach(), *torch.autograd.grad(logits.square().mean(), parameters)])
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-4, atol=1e-5)


@needs_kernel
def test_backends_agree_through_the_whole_model(model: HyMUNet) -> None:
    model.eval()
    use(model, "reference")
    with torch.no_grad():
        wanted = model.double()(images(32).double())
        model.float()
        for backend in ("cpu", "export"):
            use(model, backend)
            torch.testing.assert_close(model(images(32)).double(), wanted, rtol=1e-4, atol=1e-4)


@needs_kernel
def test_a_channels_last_block_hands_the_scan_contiguous_maps(caplog: pytest.LogCaptureFixture) -> None:
    block = VisualStateSpaceBlock(16).to(memory_format=torch.channels_last)
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    with caplog.at_level("DEBUG", "hymunet.ops"):
        y = block(x)
        y.square().sum().backward()
    assert "copying x" not in caplog.text
    assert "copying proj" not in caplog.text
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96])
def test_onnx_runtime_gives_the_same_map(model: HyMUNet, tmp_path: Path, size: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    model.eval()
    with torch.no_grad():
        wanted = torch.sigmoid(model(images(size)))
    use(model, "export")
    probabilities = nn.Sequential(model, nn.Sigmoid()).eval()
    torch.onnx.export(probabilities, (images(size),), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: images(size).numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=1e-4)
