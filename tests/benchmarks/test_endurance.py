"""The benchmark of kills and full disks notices what it is there for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "endured.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
def test_a_careful_command_passes_and_others_are_found_out(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    kills, disks, faults = found["careful"]
    assert (kills, faults) == (4, [])
    (fault,) = set(found["forgetful"][2])
    assert fault.endswith("another result is left than without")
    if not found["can_mount"]:
        pytest.skip("needs the right to mount a tmpfs")
    assert disks == 3
    (fault,) = found["rude"][2]
    assert "exit status 2, and it said 'humansd: humansd: something went wrong'" in fault
