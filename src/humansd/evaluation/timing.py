"""How long one image takes, and how much of what the device can compute is used for it."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from humansd.inference.sampling import SamplingConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People

WARM_UPS = 2
PEAK_SIDE = 2048  # of the square matrices whose product measures the device's peak


@dataclass(frozen=True)
class GenerationTime:
    """One image at a time, from the prompt to the pixels.

    seconds: median over the runs; low, high: quartiles. gflop: counted by PyTorch, multiplications and additions each
    one. peak_gflops: of a product of square matrices in the UNet's precision on this device, measured in the same
    call. utilisation: gflop / seconds / peak_gflops, 0..1. memory_mb: peak, of the GPU, or of the whole process on a
    CPU.
    """

    device: str
    size: tuple[int, int]
    runs: int
    seconds: float
    low: float
    high: float
    gflop: float
    peak_gflops: float
    utilisation: float
    memory_mb: float


def time_generation(
    pipeline: HumanSDPipeline, prompt: str, people: People, sampling: SamplingConfig, runs: int = 20
) -> GenerationTime:
    """Draws one image at a time, `runs` times after a warm-up (HumanSD sec. 5.1: batch 1, mean of 20 runs).

    Raises:
        ValueError: fewer than one run.
    """
    if runs < 1:
        raise ValueError(f"runs is {runs}; at least one image has to be drawn")

    def draw() -> None:
        pipeline(
            prompt,
            people,
            **sampling.options(pipeline),
            seed=0,
        )

    device = pipeline.unet.device
    for _ in range(WARM_UPS):
        draw()
    forget_peak(device)
    seconds = [seconds_of(draw, device) for _ in range(runs)]
    memory = peak_memory(device)
    counter = FlopCounterMode(display=False)
    with counter:
        draw()
    gflop, peak = counter.get_total_flops() / 1e9, peak_gflops(device, pipeline.unet.dtype)
    low, median, high = (float(value) for value in np.quantile(seconds, [0.25, 0.5, 0.75]))
    size, used = sampling.size or pipeline.default_size, gflop / median / peak
    return GenerationTime(device_name(device), size, runs, median, low, high, gflop, peak, used, memory)


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def peak_gflops(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """GFLOP a second of the best of some products of square matrices."""
    a = torch.randn(PEAK_SIDE, PEAK_SIDE, device=device, dtype=dtype)
    best = min(seconds_of(lambda: a @ a, device) for _ in range(repeats + 1))
    return 2 * PEAK_SIDE**3 / best / 1e9


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """How long `run` takes, until the device has done it."""
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """`peak_memory` starts anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:  # Linux: 5 resets the high-water mark of the resident memory
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: torch.device) -> float:
    """In MB of 10^6 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
