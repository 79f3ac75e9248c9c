"""The training loop, from top to bottom. What is learnt is a `Task`; how, is here."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch.nn import Module
from tqdm import tqdm

from humansd.data.files import write_json
from humansd.models.precision import fast_bf16
from humansd.training.checkpoint import Progress, load_checkpoint, save_checkpoint, settle_config
from humansd.training.settings import RESUMABLE, LoopSettings


class Task(Protocol):
    """What a run learns. Everything random about a sample comes from its global index, never from global state."""

    @property
    def settings(self) -> LoopSettings:
        """How to train it."""

    @property
    def module(self) -> Module:
        """What learns."""

    def origin(self) -> dict[str, str]:
        """Digests of the weights this run stands on; a run begun on others is not resumed."""

    def prepare(self, device: torch.device) -> None:
        """Moves what the task needs to `device`."""

    def loss(self, samples: range) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean loss over the samples with these global indices, and numbers worth logging."""

    def export(self, folder: Path) -> None:
        """Writes the module as it is now in its final form."""

    def preview(self, folder: Path, step: int) -> None:
        """Draws what the module can do now; called every `preview_minutes`, with the averaged weights in place."""


def train(task: Task, run: Path) -> Progress:
    """Runs `task` in folder `run` to its last step or its time limit; the same call resumes.

    Leaves `run/config.json`, `run/log.jsonl`, `run/checkpoints/` and `run/export/` with the averaged (EMA) weights
    at the step it reached; `export/progress.json` says which.

    Raises:
        ValueError: `run` holds a run with other settings, or a damaged checkpoint; or the device is not there.
        FloatingPointError: the loss or its gradient is not finite.
    """
    settings = task.settings
    device = pick_device(settings.device)
    settle_config(run, dataclasses.asdict(settings) | task.origin(), RESUMABLE)
    if exported(run).step >= settings.steps:
        return exported(run)

    bf16 = settings.mixed_precision == "bf16" or (settings.mixed_precision == "auto" and fast_bf16(device))
    task.prepare(device)
    module = task.module.train()
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    ema = [parameter.detach().clone() for parameter in parameters]
    progress = load_checkpoint(run, module, ema, optimizer)
    if device_name(device) not in progress.devices:
        progress.devices.append(device_name(device))
    _forget_after(run / "log.jsonl", progress.step)

    started, seconds_before = time.monotonic(), progress.seconds
    next_save, next_preview = settings.save_minutes, settings.preview_minutes
    for samples in _batches(settings, progress):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(settings, progress.step)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss, numbers = task.loss(samples)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"{run}: at step {progress.step} the loss is {loss.item()}, its gradient {norm.item()}; the last "
                "checkpoint is kept: lower learning_rate (a new --out), then train again"
            )
        optimizer.step()
        optimizer.zero_grad()
        progress.step += 1
        progress.samples += len(samples)
        _average(ema, parameters, min(settings.ema_decay, (1 + progress.step) / (10 + progress.step)))

        minutes = (time.monotonic() - started) / 60
        progress.seconds = seconds_before + 60 * minutes
        if progress.step % settings.log_every == 0:
            _log(run, progress, {"loss": loss.item(), "gradient_norm": norm.item(), **numbers})
        if minutes >= next_save:
            save_checkpoint(run, progress, module, ema, optimizer)
            next_save = minutes + settings.save_minutes
        if 0 < next_preview <= minutes:
            with _swapped(parameters, ema):
                task.preview(run / "previews", progress.step)
            module.train()
            next_preview = minutes + settings.preview_minutes
        if 0 < settings.max_minutes <= minutes:
            break

    save_checkpoint(run, progress, module, ema, optimizer)
    with _swapped(parameters, ema):
        task.export(run / "export")
    write_json(run / "export" / "progress.json", vars(progress))
    return progress


def learning_rate_factor(settings: LoopSettings, step: int) -> float:
    """Warm-up, constant, linear to zero: the constant middle lets a run be prolonged."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cool = min(1.0, (settings.steps - step) / max(1, settings.cooldown_steps)) if settings.cooldown_steps else 1.0
    return warm * cool


def _batches(settings: LoopSettings, progress: Progress) -> Iterator[range]:
    bar = tqdm(total=settings.steps, initial=progress.step, unit="step", dynamic_ncols=True)
    with bar:
        while progress.step < settings.steps:
            yield range(progress.samples, progress.samples + settings.batch_size)
            bar.update()


@torch.no_grad()
def _average(ema: list[torch.Tensor], parameters: list[torch.nn.Parameter], decay: float) -> None:
    torch._foreach_lerp_(ema, [p.detach() for p in parameters], 1 - decay)


class _swapped:
    """Puts the averaged weights into the module, and the trained ones back."""

    def __init__(self, parameters: list[torch.nn.Parameter], ema: list[torch.Tensor]) -> None:
        self.parameters, self.ema = parameters, ema

    def __enter__(self) -> None:
        self.trained = [parameter.detach().clone() for parameter in self.parameters]
        for parameter, average in zip(self.parameters, self.ema, strict=True):
            parameter.data.copy_(average)

    def __exit__(self, *_: object) -> None:
        for parameter, value in zip(self.parameters, self.trained, strict=True):
            parameter.data.copy_(value)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one. One process trains; several would train apart.

    Raises:
        ValueError: "cuda" without CUDA, or more than one process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("WORLD_SIZE is above 1: a run trains in one process; start it without a launcher")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': PyTorch finds no CUDA here; use device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """For the log: the GPU's name, or the CPU with its threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def exported(run: Path) -> Progress:
    """The progress that `run/export` holds; step 0 if there is none."""
    path = run / "export" / "progress.json"
    return Progress(**json.loads(path.read_text())) if path.exists() else Progress()


def _forget_after(log: Path, step: int) -> None:
    """Drops rows of steps that a killed run had logged and not saved."""
    if log.exists():
        rows = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(row + "\n" for row in rows))


def _log(run: Path, progress: Progress, numbers: dict[str, float]) -> None:
    row = {"step": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 1)}
    row |= {key: round(value, 6) for key, value in numbers.items()}
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
