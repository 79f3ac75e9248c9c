"""Large tensors lie in huge pages: a page fault for two megabytes, not for four kilobytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource
from humansd.cli.allocation import keep_memory
keep_memory()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(32 * 2**20)  # 128 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not HUGE.exists() or "[never]" in HUGE.read_text(), reason="this kernel gives no huge pages")
def test_large_tensors_lie_in_huge_pages():
    faults = int(subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True).stdout)
    assert faults < 40_000  # 163,840 pages of the usual size are touched; some huge ones may be refused
