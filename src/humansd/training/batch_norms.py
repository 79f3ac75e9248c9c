"""Statistics of batch norms: they belong to the trained weights, not to their average, and are measured again."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def measure_again(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives every batch norm of a network the mean statistics over batches of its inputs, and leaves it for use.

    Without batch norms no batch is asked for.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    for batch in batches if norms else ():
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
