"""Kills at random moments and disks that run full, over every command that makes something: what is there in the end
must be what an unbroken run leaves.

Each attempt is a forked copy of this process, so that the libraries are loaded once. Small file systems are mounted
where this may be done (Linux, as root); elsewhere that half is left out, visibly.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.benchmarks.build_works import build_works
from humansd.benchmarks.works import Work, digest_of, forked
from humansd.core.markdown import markdown_table

log = logging.getLogger(__name__)

SIZE_PX = 64
MODELS = ("data", "training", "evaluation", "generation")
BUILDS = ("import", "laion", "union", "ghi")
NAMES = (*MODELS, *BUILDS)
_LONGEST_S = 4 * 3600.0  # of one attempt
_LONG_S = 120.0  # from here on a command is not begun anew for every few kills
_LEAST_BYTES = 64 * 1024  # of a small disk
_USER_ERROR = 2  # exit status of a mistake that a user can mend


@dataclass(frozen=True)
class Endured:
    """What one command, `name`, went through. kills: that struck; disks: that ran full, of `sizes` tried; faults: in
    words."""

    name: str
    kills: int
    disks: int
    sizes: int
    faults: list[str]


@dataclass(frozen=True)
class Shell:
    """Runs commands in forked processes. run: the command line's own function; log: the file of what they say."""

    run: Callable[[list[str]], int]
    log: Path

    def attempt(self, words: Sequence[str], kill_after: float = _LONGEST_S) -> int | None:
        """The exit status of a command; None where it had to be killed."""
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            self._as_command(list(words))
        until = time.monotonic() + kill_after
        while time.monotonic() < until:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        with suppress(ProcessLookupError):  # it has no group of its own yet
            os.killpg(process, signal.SIGKILL)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return None

    def last_line(self) -> str:
        """What was said last."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").strip().splitlines()
        return lines[-1] if lines else ""

    def _as_command(self, words: list[str]) -> None:
        """Never returns."""
        status = 70
        try:
            os.setsid()  # so that its workers can be killed with it
            with self.log.open("ab") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            status = self.run(words)
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def benchmark_endurance(
    run: Callable[[list[str]], int],
    out: Path,
    *,
    kills: int = 20,
    sizes: int = 20,
    seed: int = 0,
    only: Sequence[str] = (),
    count: int = 0,
) -> str:
    """Every command that makes something under `kills` SIGKILLs and on `sizes` small disks each; a table.

    run: runs a command from its words and returns its exit status. out: a folder for all of it, emptied first. only:
    names of `NAMES`; all. count: images, addresses and pairs of the data sets that are built; 0: a few.

    Raises:
        ValueError: something is not what an unbroken run leaves, or says nothing of the full disk; an unknown name.
    """
    if not hasattr(os, "fork"):
        raise ValueError("this system cannot fork a process; run it on Linux or macOS")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _load_libraries()
    for name in only:
        if name not in NAMES:
            raise ValueError(f"{name!r} is no command that is tried; choose of {', '.join(NAMES)}")
    with ExitStack() as servers:
        shell = Shell(run, out / "log")
        works = {work.name: work for work in _chosen(shell, out, only or NAMES, servers, count)}
        return _endure_all(works, run, out, kills, sizes, seed)


def _endure_all(
    works: dict[str, Work], run: Callable[[list[str]], int], out: Path, kills: int, sizes: int, seed: int
) -> str:
    can_mount = _can_mount(out)
    if not can_mount:
        log.warning("no small file system can be mounted here, so full disks are not tried")
    found = [
        _endure(work, Shell(run, out / f"{name}.log"), out / name, kills, sizes if can_mount else 0, seed)
        for name, work in works.items()
    ]
    rows = [[one.name, str(one.kills), f"{one.disks} of {one.sizes}", str(len(one.faults))] for one in found]
    text = markdown_table(["command", "kills", "full disks", "faults"], rows)
    faults = [f"{one.name}: {fault}" for one in found for fault in one.faults]
    if faults:
        raise ValueError(f"{text}\n{'; '.join(faults[:5])}")
    return text


def _endure(work: Work, shell: Shell, folder: Path, kills: int, sizes: int, seed: int) -> Endured:
    whole = folder / "whole"
    whole.mkdir(parents=True)
    started = time.monotonic()
    if shell.attempt(work.words(whole)) != 0:
        raise ValueError(f"{work.name}: does not run; {shell.log} has what it said")
    seconds, right, needed = time.monotonic() - started, work.left(whole), _bytes_in(whole)
    moment, faults = random.Random(f"{seed} {work.name}"), list[str]()
    struck = _with_kills(work, shell, folder / "killed", kills, seconds, right, moment, faults)
    full = sum(
        _on_small_disk(work, shell, folder / "disk", size, 4 * needed + 2**24, right, faults)
        for size in _sizes(needed, sizes)
    )
    return Endured(work.name, struck, full, sizes, faults)


def _with_kills(
    work: Work,
    shell: Shell,
    folder: Path,
    kills: int,
    seconds: float,
    right: str,
    moment: random.Random,
    faults: list[str],
) -> int:
    """Kills the command again and again; when it ends by itself, compares and begins anew. How many kills struck.

    A kill comes at any moment of the `seconds` that an unbroken run takes; where these are many, all kills are spread
    over one run.
    """
    struck, latest = 0, seconds if seconds < _LONG_S else 2 * seconds / (kills + 1)
    while struck < kills:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        since = 0
        while struck < kills:
            status = shell.attempt(work.words(folder), kill_after=moment.uniform(0, latest))
            if status is not None:
                break
            struck, since = struck + 1, since + 1
        if shell.attempt(work.words(folder)) != 0:
            faults.append(f"it does not go on after {since} kills: {shell.last_line()}")
        elif work.left(folder) != right:
            faults.append(f"after {since} kills another result is left than without")
    shutil.rmtree(folder, ignore_errors=True)
    return struck


def _on_small_disk(
    work: Work, shell: Shell, folder: Path, size: int, enough: int, right: str, faults: list[str]
) -> bool:
    """Runs the command on a disk of `size` bytes, gives it room, runs it again. Whether the disk ran full."""
    folder.mkdir(parents=True, exist_ok=True)
    with _mounted(folder, size):
        place = folder / "out"
        status = shell.attempt(work.words(place))
        if status == 0:
            return False
        said = shell.last_line()
        if status != _USER_ERROR or "humansd:" not in said or not any(word in said for word in ("full", "free")):
            faults.append(f"a disk of {size} bytes: exit status {status}, and it said {said[:200]!r}")
        subprocess.run(["mount", "-o", f"remount,size={enough}", str(folder)], check=True, capture_output=True)
        if shell.attempt(work.words(place)) != 0:
            faults.append(f"a disk of {size} bytes: with room it does not go on: {shell.last_line()[:200]}")
        elif work.left(place) != right:
            faults.append(f"a disk of {size} bytes: with room another result is left")
    return True


def _sizes(needed: int, count: int) -> Iterator[int]:
    """So many sizes of a disk, from next to nothing to a little less than what is needed."""
    return (max(_LEAST_BYTES, int(needed * (i + 0.5) / count)) for i in range(count))


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _can_mount(folder: Path) -> bool:
    place = folder / "try"
    place.mkdir()
    try:
        with _mounted(place, 2**20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        place.rmdir()


@contextmanager
def _mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in memory."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "humansd", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


# -- the commands ------------------------------


def _chosen(shell: Shell, out: Path, names: Sequence[str], servers: ExitStack, count: int) -> list[Work]:
    """The works of these names; what serves their addresses runs until `servers` is closed."""
    works = _prepared(shell, out) if set(names) & set(MODELS) else []
    if set(names) & set(BUILDS):
        works += build_works(shell.attempt, out, servers, names, count)
    return [work for work in works if work.name in names]


def _prepared(shell: Shell, out: Path) -> list[Work]:
    """The commands, with the shards and the small model that they need."""
    data, model, pose = out / "data", out / "model", out / "pose.json"
    if shell.attempt(["data", "atelier", *_options(count=12, size=SIZE_PX, seed=7, workers=1, out=data)]) != 0:
        raise ValueError(f"the data cannot be made; {shell.log} has what was said")
    if forked(lambda: _small_model(model)) != 0:
        raise ValueError("the small model cannot be made")
    pose.write_text(json.dumps(_pose()))
    common = {"limit": 10, "batch_size": 3, "steps": 2, "timing_runs": 0, "model": model, "dtype": "fp32"}
    training = {
        "steps": 14,
        "batch_size": 2,
        "gradient_accumulation_steps": 1,
        "log_every": 1,
        "save_minutes": 0.0001,
        "mixed_precision": "no",
    }
    settings = [f"--set={key}={value}" for key, value in training.items()]
    sources = [f"--set=data={data}", f"--set=components={model}", f"--set=base_model={model}", "--set=report_to=none"]
    return [
        Work(
            "data",
            lambda to: ["data", "atelier", *_options(count=24, size=SIZE_PX, seed=5, workers=1, out=to)],
            lambda to: digest_of(to, "*.tar", "manifest.json"),
        ),
        Work(
            "training",
            lambda to: ["train", "pocket-humansd", *settings, *sources, "--set=compile=no", "--out", str(to)],
            lambda to: digest_of(to / "export", "**/*.safetensors"),
        ),
        Work(
            "evaluation",
            lambda to: ["evaluate", *_options(data=data, out=to, **common)],
            lambda to: _images(to / "images") + _scores(to / "results.json"),
        ),
        Work(
            "generation",
            lambda to: [
                "generate", "photo, a woman", *_options(pose=pose, model=model, n=12, steps=3, batch_size=2, out=to),
                "--dtype", "fp32",
            ],
            _images,
        ),
    ]  # fmt: skip


def _load_libraries() -> None:
    """What the commands import, once for all copies of this process; nothing is computed, so no thread begins."""
    import humansd.build.annotate
    import humansd.build.fetch
    import humansd.build.ghi
    import humansd.build.importing
    import humansd.build.laion
    import humansd.build.union
    import humansd.evaluation.evaluate
    import humansd.inference.generate
    import humansd.synthetic.dataset
    import humansd.training.loop
    import humansd.training.tasks.diffusion  # noqa: F401


def _options(**values: Any) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _small_model(folder: Path) -> None:
    """The shipped pocket model with a UNet of fewer channels and random weights."""
    import torch

    from humansd.inference.pretrained import load_pipeline
    from humansd.models.codec import vae_scale_factor
    from humansd.models.pocket import pocket_unet
    from humansd.models.widen import widen_conv_in
    from humansd.pipelines.humansd import HumanSDPipeline

    torch.manual_seed(0)
    parts = load_pipeline("pocket", "cpu").components
    vae = parts["vae"]
    channels, side = vae.config.latent_channels, SIZE_PX // vae_scale_factor(vae)
    sizes = {"block_out_channels": (16, 16, 16), "norm_num_groups": 8, "sample_size": side, "out_channels": channels}
    wide = widen_conv_in(pocket_unet(channels, **sizes), channels)
    HumanSDPipeline(**{**parts, "unet": wide}).save_pretrained(folder)


def _pose() -> dict[str, Any]:
    points = [value for joint in range(17) for value in (24 + 16 * (joint % 2), 6 + 3 * joint, 2)]
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points, "num_keypoints": 17}
    image = {"id": 1, "file_name": "one.png", "width": SIZE_PX, "height": SIZE_PX}
    return {"images": [image], "annotations": [person], "categories": [{"id": 1, "name": "person"}]}


def _images(folder: Path) -> str:
    """Names and pixels of the images of a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.png")):
        with Image.open(file) as image:
            digest.update(file.name.encode() + np.asarray(image.convert("RGB")).tobytes())
    return digest.hexdigest()


def _scores(file: Path) -> str:
    """The results, without what names the folder or the clock."""
    results = json.loads(file.read_text())
    return json.dumps({key: results[key] for key in ("groups", "intervals", "distances", "paper")}, sort_keys=True)
