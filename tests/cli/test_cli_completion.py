"""Other ways in: `python -m humansd`, completion of shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from humansd.cli import main


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "humansd", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("humansd ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_gets_its_completion(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "generate" in script
    assert "pose" in script
    if shell == "bash" and shutil.which("bash"):
        words = "COMP_WORDS=(humansd generate --pose-gui); COMP_CWORD=2"
        (tmp_path / "c.sh").write_text(script)
        line = f'source c.sh; {words}; _shtab_humansd; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "--pose-guidance-scale" in done.stdout
