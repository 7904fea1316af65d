"""How large a model is: the same on a machine without the kernel of the CPU, as one with a GPU and no compiler is."""

from pathlib import Path

import pytest

from hymunet.ops import cpu
from hymunet.study import plan, results, size

ROOT = Path(__file__).resolve().parents[3]
KEPT = {
    cell.model: (planned, cell, result)
    for planned in [plan.load(ROOT / "studies/comparison")]
    for cell in planned.cells
    if (result := results.read(planned.results(cell)))
}


@pytest.fixture(params=["built", "not built"])
def kernel(request, monkeypatch, tmp_path):
    if request.param == "not built":
        monkeypatch.setattr(cpu, "LIBRARY", tmp_path / "_scan_cpu.so")
    cpu._library.cache_clear()
    yield
    cpu._library.cache_clear()


@pytest.mark.parametrize("model", ["hymunet", "no_scan", "unet_mamba", "vm_unet", "unet", "trans_unet"])
def test_a_models_size_is_counted_without_its_kernels(kernel, model):
    planned, cell, result = KEPT[model]
    content = planned.checked(cell)
    counted = size.counts(content.model, content.prepare.image_size)
    assert counted == {name: result.record[name] for name in counted}
