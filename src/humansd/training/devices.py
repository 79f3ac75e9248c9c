"""Where and how precisely a run computes: accelerate, set up from the settings."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from humansd.models.precision import fast_bf16
from humansd.training.settings import LoopSettings


def make_accelerator(settings: LoopSettings, run: Path) -> Accelerator:
    """accelerate for the run in folder `run`: one process, or those that `accelerate launch` or `torchrun` started.

    Raises:
        ValueError: "cuda" without CUDA, or fp16 without it.
    """
    device, precision = run_device(settings), run_precision(settings)
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process; stages may differ
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=precision,
        log_with=_tracker(settings.report_to),
        project_dir=run.parent,
        step_scheduler_with_optimizer=False,
    )


def run_device(settings: LoopSettings) -> torch.device:
    """Where this process of a run computes. ValueError for "cuda" without CUDA."""
    cpu = settings.device == "cpu" or not torch.cuda.is_available()
    if settings.device == "cuda" and cpu:
        raise ValueError("device = 'cuda': PyTorch finds no CUDA here; use device=cpu or device=auto")
    return torch.device("cpu") if cpu else torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def run_precision(settings: LoopSettings) -> str:
    """How precisely a run computes there: no | bf16 | fp16. ValueError for fp16 on a CPU."""
    device, precision = run_device(settings), settings.mixed_precision
    if precision == "auto":
        return "bf16" if fast_bf16(device) else "no"
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("mixed_precision = 'fp16': a CPU trains in bf16 or fp32; use bf16, no or auto")
    return precision


def run_dtype(settings: LoopSettings) -> torch.dtype:
    """The same as a type."""
    return {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[run_precision(settings)]


def _tracker(name: str) -> str | None:
    """accelerate's name of the tracker; "auto" is tensorboard where it is installed.

    Raises:
        ValueError: it is unknown, or not installed.
    """
    known = {one.value for one in LoggerType} - {"all"}
    ready = {one.value for one in get_available_trackers()}
    if name == "auto":
        return "tensorboard" if "tensorboard" in ready else None
    if name == "none":
        return None
    if name not in known:
        raise ValueError(f"report_to = {name!r}: known are auto, none, {', '.join(sorted(known))}")
    if name not in ready:
        raise ValueError(f"report_to = {name!r}: it is not installed; pip install {name}, or use report_to=none")
    return name


def device_name(device: torch.device) -> str:
    """For the log: the GPU's name, or the CPU with its threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
