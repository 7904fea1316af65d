"""Where a training runs, and what it does with freed memory."""

import platform
import subprocess
import sys

import pytest

from tests.support.training_data import ROOT

STEPS = """
import resource, sys, torch
from hymunet.training import device
if sys.argv[1] == "keep":
    device.keep_freed_memory()
def step():
    tensors = [torch.ones(megabytes * 2**18) for megabytes in (48, 5, 64)]
faults = []
for _ in range(15):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[7])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_steps_find_the_memory_of_the_step_before():
    faults = {}
    for what in ("keep", "give back"):
        command = [sys.executable, "-c", STEPS, what]
        faults[what] = int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert faults["keep"] < 10
    assert faults["give back"] > 10_000  # pages of 4 KiB: 117 MiB have 30,000
