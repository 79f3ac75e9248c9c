"""What a training step costs beyond the arithmetic: loading, logging, watching, averaging; measured against a bare loop
over the same batches in the same run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from humansd.core.markdown import markdown_table
from humansd.evaluation.timing import device_name, wait
from humansd.training.devices import make_accelerator
from humansd.training.loop import Task, train
from humansd.training.run import make_task, preset_settings
from humansd.training.settings import LoopSettings, with_overrides
from humansd.training.step import TrainingStep

WARM_UP = 3


def benchmark_overhead(preset: str, overrides: dict[str, str], out: Path, steps: int = 60) -> str:
    """Seconds a step of the loop and of a bare loop that has its batches already, and the share that is overhead.

    The bare loop runs before and after the real one; both do `steps` steps. Its parts are listed beside it.

    Args:
        preset: of a single stage, such as pocket-humansd; overrides: as `--set` takes them.
        out: folder for the run, removed if it was a benchmark's before.

    Raises:
        ValueError: fewer than ten steps, a preset of several stages, or a setting that does not fit.
    """
    if steps < 10:
        raise ValueError(f"steps is {steps}; 10 or more tell something")
    settings = with_overrides(preset_settings(preset), overrides)
    if not isinstance(settings, LoopSettings):
        raise ValueError(f"{preset}: a recipe of several stages; name a single one, such as pocket-humansd")
    shutil.rmtree(out, ignore_errors=True)
    task = make_task(
        replace(
            settings, steps=steps + WARM_UP, log_images_minutes=0, validate_steps=0, max_minutes=0, save_minutes=1e6
        )
    )
    first = _bare(task, out, steps)
    whole = _whole(task, out / "run", steps)
    second = _bare(task, out, steps)
    bare = {name: (first[name] + second[name]) / 2 for name in first}
    total = bare.pop("step")
    rows = [[name, f"{1000 * one:.1f}", f"{100 * one / total:.1f} %"] for name, one in bare.items()]
    rows += [
        ["bare step", f"{1000 * total:.1f}", "100 %"],
        ["step of the loop, loading and logging included", f"{1000 * whole:.1f}", f"{100 * whole / total:.1f} %"],
    ]
    device = make_accelerator(replace(settings, report_to="none"), out).device
    head = f"{preset}, batch {settings.batch_size}, {device_name(device)}"
    table = markdown_table(["part", "ms", "of the bare step"], rows)
    return f"{head}\n\n{table}\n\nOverhead: {100 * (whole / total - 1):.1f} % of a bare step."


def _whole(task: Task, run: Path, steps: int) -> float:
    """Seconds a step of `training.loop.train`, from one forward pass to the next, the first few left out."""
    times: list[float] = []
    with _stamped(task, times):
        train(task, run)
    return (times[-1] - times[WARM_UP - 1]) / steps


@contextmanager
def _stamped(task: Task, times: list[float]) -> Iterator[None]:
    """Notes the moments at which the loss is asked for."""
    loss = task.loss

    def stamped(batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        times.append(time.perf_counter())
        return loss(batch)

    task.loss = stamped  # type: ignore[method-assign]
    try:
        yield
    finally:
        task.loss = loss  # type: ignore[method-assign]


def _bare(task: Task, out: Path, steps: int) -> dict[str, float]:
    """Mean seconds of the parts of a step, and of the "step", over batches that are there already."""
    settings = task.settings
    accelerator = make_accelerator(replace(settings, report_to="none"), out)
    task.prepare(accelerator.device)
    step = TrainingStep(task.module, task.loss, settings, accelerator)
    part = settings.share(1)
    count = settings.gradient_accumulation_steps
    batches = [[task.load(_samples(count * i + j, part)) for j in range(count)] for i in range(WARM_UP + steps)]
    seconds = dict.fromkeys(("forward", "backward", "clipping", "optimiser and averages", "step"), 0.0)
    for i, parts in enumerate(batches):
        spent = dict.fromkeys(seconds, 0.0)
        clock = _Stopwatch()
        for batch in parts:
            loss, _ = step.forward(batch)
            spent["forward"] += clock.lap()
            step.backward(loss)
            spent["backward"] += clock.lap()
        step.clip()
        spent["clipping"] += clock.lap()
        step.update(i + 1)
        wait(accelerator.device)
        spent["optimiser and averages"] += clock.lap()
        spent["step"] = sum(spent.values())
        if i >= WARM_UP:
            seconds = {name: value + spent[name] / steps for name, value in seconds.items()}
    return seconds


def _samples(number: int, size: int) -> range:
    return range(number * size, (number + 1) * size)


class _Stopwatch:
    """The seconds since it was last asked."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def lap(self) -> float:
        before, self._at = self._at, time.perf_counter()
        return self._at - before
