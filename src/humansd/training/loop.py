"""The training loop, from top to bottom. What is learnt is a `Task`; how, is here."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch.nn import Module

from humansd.core.files import write_json
from humansd.core.lock import locked
from humansd.training.checkpoint import Progress, load_checkpoint, save_checkpoint, settle_config
from humansd.training.devices import device_name, make_accelerator
from humansd.training.files import whole_folder
from humansd.training.guard import DivergenceGuard
from humansd.training.loop_settings import EARLIER, RESUMABLE, LoopSettings, learning_rate_factor, unrecorded_settings
from humansd.training.observer import Log, Observer, Validator
from humansd.training.prefetch import Prefetcher
from humansd.training.step import TrainingStep
from humansd.training.timers import Timers


class Task(Protocol):
    """What a run learns. Everything random about a sample comes from its global index, never from global state."""

    @property
    def settings(self) -> LoopSettings:
        """How to train it."""

    @property
    def module(self) -> Module:
        """What learns."""

    def fingerprint(self) -> dict[str, str]:
        """Digests of the weights and data this run stands on; a run begun on others is not resumed."""

    def prepare(self, device: torch.device) -> None:
        """Moves what the task needs to `device`."""

    def load(self, samples: range) -> Any:
        """The samples with these global indices, as `loss` takes them; runs in another thread, on the CPU."""

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean loss over the samples that `load` made, and numbers worth logging."""

    def export(self, folder: Path) -> None:
        """Writes the module as it is now in its final form."""

    def log_images(self, folder: Path, step: int) -> None:
        """Draws what the module can do now; called every `log_images_minutes`, with the averaged weights in place."""


def train(task: Task, run: Path, validator: Validator | None = None) -> Progress:
    """Runs `task` in folder `run` to its last step or its time limit; the same call resumes.

    Leaves `run/config.json`, `run/log.jsonl`, `run/checkpoints/` and `run/export/` with the averaged (EMA) weights at
    the step it reached; `export/progress.json` says which. With a validator `run/best/` holds the export of the
    highest "ap". Under `accelerate launch` or `torchrun` the processes share each batch.

    Raises:
        ValueError: `run` holds a run with other settings, or a damaged checkpoint; a batch that the processes cannot
            share; or the device is not there.
        FloatingPointError: three batches gave a loss or gradient that is not finite or explodes.
        OSError: the disk is full; the last checkpoint and the last export are kept.
        LockedError: another process writes in `run`.
    """
    accelerator = make_accelerator(task.settings, run)
    with locked(run, "a training run") if accelerator.is_main_process else nullcontext():
        return _train(task, run, validator, accelerator)


def _train(task: Task, run: Path, validator: Validator | None, accelerator: Accelerator) -> Progress:
    settings = task.settings
    share = settings.share(accelerator.num_processes)
    if accelerator.is_main_process:
        settle_settings(task, run)
    accelerator.wait_for_everyone()
    if exported(run).finished(settings.steps):
        return exported(run)

    task.prepare(accelerator.device)
    step = TrainingStep(task.module, task.loss, settings, accelerator)
    ema = step.ema
    state = (task.module, ema, step.optimizer.optimizer, accelerator.scaler)
    progress = load_checkpoint(run, *state)
    progress.note_device(device_name(accelerator.device))
    log = Log(run, accelerator, settings, progress.step)
    observer = Observer(task, run, accelerator, ema, log, validator)
    guard = DivergenceGuard(run, settings)
    clock = Timers(progress.seconds, settings)
    if not progress.step and accelerator.is_main_process:
        save_checkpoint(run, progress, *state)  # so that a first bad batch has where to go back to

    loaders = None if settings.loaders < 0 else settings.loaders
    with (
        Prefetcher(task.load, accelerator, settings.gradient_accumulation_steps, share, loaders) as loader,
        log.bar(progress.step) as bar,
    ):
        while progress.step < settings.steps and not progress.stopped:
            if progress.samples in progress.skipped:
                progress.samples += settings.batch_size
                continue
            step.set_learning_rate(settings.learning_rate * learning_rate_factor(settings, progress.step))
            mean_loss, numbers = step.gradients(loader.parts(progress.samples))
            loss, norm = (float(accelerator.reduce(value, "mean")) for value in (mean_loss, step.clip()))
            trouble = guard.trouble(progress, loss, norm, scaled=accelerator.scaler is not None)
            if trouble:
                step.forget()
                progress = guard.rewind(load_checkpoint(run, *state), progress.samples, trouble)
                log.forget_after(progress.step)
                bar.n = progress.step
                continue
            step.update(progress.step + 1)
            progress.step += 1
            progress.samples += settings.batch_size
            progress.seconds = clock.seconds()
            bar.update()

            if clock.due("save") and accelerator.is_main_process:
                save_checkpoint(run, progress, *state)
            observer.after(progress, {"loss": loss, "gradient_norm": norm, **numbers}, images=clock.due("images"))
            if settings.max_minutes and _anywhere(accelerator, clock.out_of_time()):  # none may stop alone
                break
        observer.last(progress)

    if accelerator.is_main_process:
        save_checkpoint(run, progress, *state)
        with ema.in_place(), whole_folder(run / "export") as folder:
            task.export(folder)
            write_json(folder / "progress.json", vars(progress))
    log.close()
    return progress


def settle_settings(task: Task, run: Path) -> None:
    """Puts the settings of `task` and what it stands on on record in `run`, or refuses one that has others.

    Raises:
        ValueError, OSError: as `settle_config`.
    """
    settings, fingerprint = task.settings, task.fingerprint()
    # What an older version did not record: settings were what they were then, and of digests nothing is known.
    earlier = {key: value for key, value in EARLIER.items() if key in fingerprint}
    unrecorded = unrecorded_settings(type(settings)) | fingerprint | earlier
    names = [field.name for field in dataclasses.fields(settings)]
    idle = settings.FORMER_FIELDS | set(settings.unread(names))
    settle_config(run, dataclasses.asdict(settings) | fingerprint, RESUMABLE | idle, unrecorded)


def exported(run: Path) -> Progress:
    """The progress that `run/export` holds; step 0 if there is none."""
    path = run / "export" / "progress.json"
    return Progress.from_json(json.loads(path.read_text())) if path.exists() else Progress()


def _anywhere(accelerator: Accelerator, here: bool) -> bool:
    """Whether it is so in any of the processes."""
    if accelerator.num_processes == 1:
        return here
    return bool(accelerator.reduce(torch.tensor(float(here), device=accelerator.device), "sum") > 0)
