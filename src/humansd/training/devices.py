"""Where and how precisely a run computes: accelerate, set up from the settings."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from humansd.models.precision import fast_bf16
from humansd.training.settings import LoopSettings


def make_accelerator(settings: LoopSettings, **options: Any) -> Accelerator:
    """accelerate for this run: one process, or those that `accelerate launch` or `torchrun` started.

    Raises:
        ValueError: "cuda" without CUDA, or fp16 without it.
    """
    cpu = settings.device == "cpu" or not torch.cuda.is_available()
    if settings.device == "cuda" and cpu:
        raise ValueError("device = 'cuda': PyTorch finds no CUDA here; use device=cpu or device=auto")
    precision = settings.mixed_precision
    if precision == "auto":
        precision = "bf16" if fast_bf16("cpu" if cpu else "cuda") else "no"
    if precision == "fp16" and cpu:
        raise ValueError("mixed_precision = 'fp16': a CPU trains in bf16 or fp32; use bf16, no or auto")
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process; stages may differ
    tracker = None if settings.tracker == "none" else settings.tracker
    return Accelerator(
        cpu=cpu, mixed_precision=precision, log_with=tracker, step_scheduler_with_optimizer=False, **options
    )


def device_name(device: torch.device) -> str:
    """For the log: the GPU's name, or the CPU with its threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
