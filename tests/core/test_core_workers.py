"""Work on several processes, called from a script of the user's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from humansd.core.workers import ordered_map

CALL = "from humansd.core.workers import ordered_map\n{guard}print(list(ordered_map(abs, range(-20, 0), 2)))\n"
GUARD = 'if __name__ == "__main__":\n    '


def test_a_script_without_a_guard_is_told_of_it_and_one_with_it_works(tmp_path):
    """Spawned processes read the script anew, so that it would start itself for ever."""
    ends = {}
    for name, guard in (("bare", ""), ("guarded", GUARD)):
        script = tmp_path / f"{name}.py"
        script.write_text(CALL.format(guard=guard))
        ends[name] = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert ends["guarded"].stdout == f"{list(range(20, 0, -1))}\n"
    assert ends["bare"].returncode == 1
    assert 'write the call under `if __name__ == "__main__":`' in ends["bare"].stderr


def test_one_worker_starts_no_process():
    assert list(ordered_map(lambda n: n + 1, range(3), 1)) == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda n: 1 // n, [1, 0], 1))
