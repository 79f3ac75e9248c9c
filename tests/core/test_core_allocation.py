"""Large tensors lie in huge pages: a page fault for two megabytes, not for four kilobytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource
def faults(_):
    import torch
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(32 * 2**20)  # 128 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
HERE = "from humansd.core.allocation import keep_memory\nkeep_memory()\nprint(faults(0))"
WORKER = "if __name__ == '__main__':\n    from humansd.core.workers import ordered_map\n"
WORKER += "    print(max(ordered_map(faults, range(2), 2, 1)))"


@pytest.mark.skipif(not HUGE.exists() or "[never]" in HUGE.read_text(), reason="this kernel gives no huge pages")
@pytest.mark.parametrize("where", [HERE, WORKER], ids=["command", "worker"])
def test_large_tensors_lie_in_huge_pages(where, tmp_path):
    (tmp_path / "script.py").write_text(FAULTS + where)
    faults = int(subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, check=True).stdout)
    assert faults < 40_000  # 163,840 pages of the usual size are touched; some huge ones may be refused
