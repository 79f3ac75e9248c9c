"""The training loop, from top to bottom. What is learnt is a `Task`; how, is here."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch.nn import Module
from tqdm import tqdm

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

    Leaves `run/config.json`, `run/log.jsonl`, `run/checkpoints/` and, when the last step is reached,
    `run/export/` with the averaged (EMA) weights.

    Raises:
        ValueError: `run` holds a run with other settings, or a damaged checkpoint.
        FloatingPointError: the loss is not a finite number.
    """
    settings = task.settings
    settle_config(run, dataclasses.asdict(settings), RESUMABLE)
    if (run / "export").exists() and _exported_step(run) >= settings.steps:
        return Progress(**json.loads((run / "export" / "progress.json").read_text()))

    accelerator = Accelerator(cpu=settings.device == "cpu", mixed_precision=_precision(settings))
    task.prepare(accelerator.device)
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
    if _device_name(accelerator) not in progress.devices:
        progress.devices.append(_device_name(accelerator))

    started, seconds_before = time.monotonic(), progress.seconds
    next_save, next_preview = settings.save_minutes, getattr(settings, "preview_minutes", 0.0)
    for samples in _batches(settings, progress):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(settings, progress.step)
        with accelerator.autocast():
            loss, numbers = task.loss(samples)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"{run}: the loss at step {progress.step} is {loss.item()}; the last checkpoint is kept: "
                "lower learning_rate (a new --out), then train again"
            )
        accelerator.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
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
            next_preview = minutes + getattr(settings, "preview_minutes", 0.0)
        if 0 < settings.max_minutes <= minutes:
            break

    save_checkpoint(run, progress, module, ema, optimizer)
    with _swapped(parameters, ema):
        task.export(run / "export")
        (run / "export" / "progress.json").write_text(json.dumps(vars(progress)) + "\n")
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


def _precision(settings: LoopSettings) -> str:
    if settings.mixed_precision != "auto":
        return settings.mixed_precision
    if settings.device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bf16() else "no"


def _cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def _device_name(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    return f"CPU, {torch.get_num_threads()} threads"


def _exported_step(run: Path) -> int:
    path = run / "export" / "progress.json"
    return json.loads(path.read_text())["step"] if path.exists() else -1


def _log(run: Path, progress: Progress, numbers: dict[str, float]) -> None:
    row = {"step": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 1)}
    row |= {key: round(value, 6) for key, value in numbers.items()}
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
