"""What a run says of itself while it learns: numbers, images, validation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from PIL import Image
from tqdm import tqdm

from humansd.core.files import write_json, write_text
from humansd.training.checkpoint import Progress
from humansd.training.ema import EMA
from humansd.training.files import full_disk_named, whole_folder
from humansd.training.settings import LoopSettings

# Scores of the module as it is now, averaged weights in place; "ap" decides which is best. (folder, step) -> scores.
Validator = Callable[[Path, int], dict[str, float]]


class Observer:
    """What is done after a step beside learning."""

    def __init__(
        self, task: Any, run: Path, accelerator: Accelerator, ema: EMA, log: Log, validator: Validator | None
    ) -> None:
        """task: a `training.loop.Task`."""
        self._task, self._run, self._accelerator, self._ema, self._log = task, run, accelerator, ema, log
        self._validator = validator
        self._unlogged: dict[str, float] = {}  # of the step before, where it was not its turn

    def after(self, progress: Progress, numbers: dict[str, float], *, images: bool) -> None:
        """Logs and validates as often as the settings say. images: whether a sheet of them is due."""
        settings: LoopSettings = self._task.settings
        self._unlogged = numbers
        if progress.step % settings.log_every == 0:
            self.last(progress)
        if images and self._accelerator.is_main_process:
            with self._ema.in_place():
                self._task.log_images(self._run / "previews", progress.step)
            self._task.module.train()
            self._log.sheet(self._run / "previews", progress.step)
        if self._validator and settings.validate_steps and progress.step % settings.validate_steps == 0:
            self._validate(self._validator, progress)

    def last(self, progress: Progress) -> None:
        """Logs the step just done, if it is not logged: a run of few steps ends before its first turn."""
        if self._unlogged:
            self._log.write(progress, self._unlogged)
        self._unlogged = {}

    def _validate(self, validator: Validator, progress: Progress) -> None:
        """Scores the averaged weights, keeps the best and stops where nothing gets better; one process does it."""
        news: list[Any] = [None]
        if self._accelerator.is_main_process:
            with self._ema.in_place():
                scores = validator(self._run / "validation", progress.step)
                if progress.note_score(scores.get("ap", float("nan")), self._task.settings.patience):
                    with whole_folder(self._run / "best") as folder:
                        self._task.export(folder)
                        write_json(folder / "scores.json", {"step": progress.step, **scores})
            self._task.module.train()
            self._log.write(progress, {f"validation_{name}": value for name, value in scores.items()})
            self._log.sheet(self._run / "validation", progress.step)
            news = [(progress.best, progress.since_best, progress.stopped)]
        if self._accelerator.num_processes > 1:
            broadcast_object_list(news)
        progress.best, progress.since_best, progress.stopped = news[0]


class Log:
    """`run/log.jsonl`, the trackers of accelerate, and the progress bar; only the main process writes."""

    def __init__(self, run: Path, accelerator: Accelerator, settings: LoopSettings, step: int) -> None:
        self._file, self._accelerator, self._steps = run / "log.jsonl", accelerator, settings.steps
        self.forget_after(step)
        accelerator.init_trackers(run.name)

    def bar(self, step: int) -> tqdm:
        hidden = not self._accelerator.is_main_process
        return tqdm(total=self._steps, initial=step, unit="step", dynamic_ncols=True, disable=hidden)

    def write(self, progress: Progress, numbers: dict[str, float]) -> None:
        if not self._accelerator.is_main_process:
            return
        row = {"step": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 1)}
        row |= {key: round(value, 6) for key, value in numbers.items() if math.isfinite(value)}
        with full_disk_named(self._file, then="the same command goes on from the last checkpoint"):
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self._accelerator.log(numbers, step=progress.step)

    def sheet(self, folder: Path, step: int) -> None:
        """Shows the sheet of images that `folder` holds of this step, if it does, where a tracker can."""
        path = folder / f"step-{step:08d}.png"
        if not path.exists():
            return
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))[None]
        for tracker in self._accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({folder.name: pixels}, step=step, dataformats="NHWC")
            elif tracker.name in ("wandb", "swanlab"):
                tracker.log_images({folder.name: list(pixels)}, step=step)

    def close(self) -> None:
        self._accelerator.end_training()

    def forget_after(self, step: int) -> None:
        """Drops rows of steps that were logged and not saved, and a row cut short by a kill."""
        if not self._accelerator.is_main_process or not self._file.exists():
            return
        rows = []
        for line in self._file.read_text().splitlines():
            try:
                rows += [line] if json.loads(line)["step"] <= step else []
            except (json.JSONDecodeError, KeyError):
                continue
        write_text(self._file, "".join(row + "\n" for row in rows))
