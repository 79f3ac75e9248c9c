"""What training the pocket HumanSD takes, measured in a process of its own beside the estimate."""

import ctypes

import psutil
import torch

from humansd.models.pocket import pocket_unet
from humansd.models.precision import use_fast_attention
from humansd.training.memory import estimate_memory
from humansd.training.optimizer import make_optimizer
from humansd.training.settings import DiffusionSettings
from peak_memory import peak_bytes

BATCH, STEPS = 8, 2  # the second step has the moments of the first beside it: the most that there is
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def measured_and_estimated(checkpointing: bool) -> tuple[float, float]:
    """The GB that steps take in this process, and the estimate."""
    for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):  # memory that is freed is given back at once
        ctypes.CDLL(None).mallopt(threshold, 100_000)
    settings = DiffusionSettings(
        method="humansd",
        batch_size=BATCH,
        ema_decay=0.0,
        mixed_precision="no",
        device="cpu",
        gradient_checkpointing=checkpointing,
    )
    numbers = estimate_memory(settings)["gb"]
    before = psutil.Process().memory_info().rss
    unet = pocket_unet(12).train().to(memory_format=torch.channels_last)
    use_fast_attention(unet, "cpu")
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    optimizer = make_optimizer(list(unet.parameters()), settings)
    for _ in range(STEPS):
        noisy, text = torch.randn(BATCH, 12, 32, 32), torch.randn(BATCH, 64, 192)
        unet(noisy, torch.arange(BATCH), text).sample.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return (peak_bytes() - before) / 1e9, numbers["total"] - numbers["program"] - numbers["frozen"]
