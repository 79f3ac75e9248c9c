"""The optimiser of a run; the one place to change for another."""

from __future__ import annotations

import torch
from torch.nn import Parameter

from humansd.training.muon import MuonAndAdamW
from humansd.training.settings import LoopSettings


def make_optimizer(parameters: list[Parameter], settings: LoopSettings) -> torch.optim.Optimizer:
    """AdamW in its fused form, or Muon beside it where the settings say so. A checkpoint takes the state of any
    optimiser whose state is tensors."""
    betas = (0.9, settings.beta2)
    if getattr(settings, "optimizer", "adamw") == "muon":
        return MuonAndAdamW(parameters, settings.learning_rate, settings.weight_decay, betas)
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=betas, fused=True
    )
