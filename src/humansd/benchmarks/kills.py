"""Whether a run that is killed again and again ends bit for bit as one that was not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from humansd.training.checkpoint import checkpoints

LONGEST_WAIT_S = 600


def benchmark_kills(preset: str, settings: list[str], out: Path, kills: int = 50, seed: int = 0) -> str:
    """Trains `preset` once unbroken and once with `kills` SIGKILLs at random moments, and compares the weights.

    Each kill comes up to half a save interval after a checkpoint that is newer than the last kill, so that the run
    gets on. Give a preset of a single stage that saves often: --set save_minutes=0.05.

    Args:
        settings: KEY=VALUE.
        out: folder for both runs, removed if it was a benchmark's before.

    Returns: what happened, in words.

    Raises:
        ValueError: fewer than one kill, or the weights differ; the message names the files.
        subprocess.CalledProcessError: the preset does not train.
    """
    if kills < 1:
        raise ValueError(f"kills is {kills}; it must be 1 or more")
    whole, broken = out / "whole", out / "broken"
    for run in (whole, broken):
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
    _finish(preset, settings, whole)
    moment, done = random.Random(seed), 0
    while done < kills and not (broken / "export" / "progress.json").exists():
        done += _killed(preset, settings, broken, moment)
    _finish(preset, settings, broken)
    differing = _differing(whole, broken)
    if differing:
        raise ValueError(f"{broken}: {len(differing)} files differ from the unbroken run: {', '.join(differing[:3])}")
    return (
        f"{done} kills; all weights of the export and of the last checkpoint are those of the unbroken run, bit for bit"
    )


def _command(preset: str, settings: list[str], run: Path) -> list[str]:
    given = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "humansd.cli", "train", preset, *given, "--out", str(run)]


def _finish(preset: str, settings: list[str], run: Path) -> None:
    with (run.parent / f"{run.name}.log").open("ab") as log:
        subprocess.run(_command(preset, settings, run), check=True, stdout=log, stderr=log)


def _killed(preset: str, settings: list[str], run: Path, moment: random.Random) -> bool:
    """Starts the run and kills it at a random moment after its next checkpoint; False where it ended before."""
    before = _newest(run)
    with (run.parent / f"{run.name}.log").open("ab") as log:
        process = subprocess.Popen(_command(preset, settings, run), stdout=log, stderr=log)
    deadline = time.monotonic() + LONGEST_WAIT_S
    while process.poll() is None and _newest(run) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(moment.uniform(0, 2))
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def _newest(run: Path) -> str:
    found = checkpoints(run)
    return found[-1].name if found else ""


def _differing(whole: Path, broken: Path) -> list[str]:
    last = [checkpoints(run)[-1].relative_to(run) for run in (whole, broken)]
    if last[0] != last[1]:
        return [f"{last[0]} against {last[1]}"]
    files = [*(whole / "export").rglob("*.safetensors"), *(whole / last[0]).glob("*.safetensors")]
    names = [str(file.relative_to(whole)) for file in files]
    return [name for name in names if (whole / name).read_bytes() != (broken / name).read_bytes()]
