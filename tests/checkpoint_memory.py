"""Prints the MB by which saving, and loading into a run that goes on, raise the peak memory of a process."""

import resource
import sys
from pathlib import Path

import torch

from humansd.training import checkpoint
from humansd.training.averages import Averages
from humansd.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from humansd.training.optimizer import make_optimizer
from humansd.training.settings import LoopSettings

checkpoint.PART_BYTES = 8_000_000


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


module = torch.nn.Sequential(*(torch.nn.Linear(1000, 1000, bias=False) for _ in range(24)))
parameters = list(module.parameters())
averages, optimizer = Averages(parameters, 0.9), make_optimizer(parameters, LoopSettings())
for parameter in parameters:
    parameter.grad = torch.ones_like(parameter)
optimizer.step()
before = peak_mb()
save_checkpoint(Path(sys.argv[1]), Progress(step=1), module, averages, optimizer)
saved = peak_mb()
optimizer.zero_grad()
load_checkpoint(Path(sys.argv[1]), module, averages, optimizer)
print(saved - before, peak_mb() - saved)
