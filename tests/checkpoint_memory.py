"""What saving and loading a checkpoint takes, measured in a process of its own."""

from pathlib import Path

import torch

from humansd.training import checkpoint
from humansd.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from humansd.training.ema import EMA
from humansd.training.optimizer import make_optimizer
from humansd.training.settings import LoopSettings
from peak_memory import peak_bytes


def rise(what: str, run: Path) -> float:
    """The MB by which "save", or "load" less the moments themselves, raises the peak memory of this process."""
    checkpoint.PART_BYTES = 8_000_000
    module = torch.nn.Sequential(*(torch.nn.Linear(1000, 1000, bias=False) for _ in range(24)))
    parameters = list(module.parameters())
    ema, optimizer = EMA(parameters, 0.9), make_optimizer(parameters, LoopSettings())
    if what == "load":
        before = peak_bytes()
        load_checkpoint(run, module, ema, optimizer)
        return (peak_bytes() - before) / 1e6 - 2 * 96
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = peak_bytes()
    save_checkpoint(run, Progress(step=1), module, ema, optimizer)
    return (peak_bytes() - before) / 1e6
