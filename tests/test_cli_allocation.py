"""Memory that is freed is kept: the next step asks the system for none."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
if sys.argv[1] == "keep":
    from humansd.cli.allocation import keep_memory
    keep_memory()
import torch
def step():
    return torch.ones(3 * 2**20) * 2  # two of 12 MB
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_for_the_next_step():
    kept = int(subprocess.run([sys.executable, "-c", FAULTS, "keep"], capture_output=True, check=True).stdout)
    assert kept < 1000  # of 61,440 pages that ten steps touch
