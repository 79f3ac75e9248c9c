"""Prints the GB that steps of the pocket HumanSD take in this process, and the estimate. Argument: on or off, gradient
checkpointing."""

import sys

import psutil
import torch

from humansd.models.pocket import pocket_unet
from humansd.models.precision import use_fast_attention
from humansd.training.memory import estimate_memory
from humansd.training.optimizer import make_optimizer
from humansd.training.settings import DiffusionSettings
from peak_memory import peak_bytes

BATCH = 8
settings = DiffusionSettings(
    method="humansd",
    batch_size=BATCH,
    ema_decay=0.0,
    mixed_precision="no",
    device="cpu",
    gradient_checkpointing=sys.argv[1] == "on",
)
numbers = estimate_memory(settings)["gb"]
before = psutil.Process().memory_info().rss
unet = pocket_unet(12).train().to(memory_format=torch.channels_last)
use_fast_attention(unet, "cpu")
if settings.gradient_checkpointing:
    unet.enable_gradient_checkpointing()
optimizer = make_optimizer(list(unet.parameters()), settings)
for _ in range(3):
    unet(
        torch.randn(BATCH, 12, 32, 32), torch.arange(BATCH), torch.randn(BATCH, 64, 192)
    ).sample.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
print((peak_bytes() - before) / 1e9, numbers["total"] - numbers["program"] - numbers["frozen"])
