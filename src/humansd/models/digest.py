"""What networks hold, told by content: the same wherever and under whatever name they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def networks_digest(networks: Iterable[nn.Module]) -> str:
    """A short digest of the names, types, shapes and values of all weights and buffers of `networks`, in their order.

    Those that run, be they from a folder, a hub or the package; on which device does not matter. A second or two for a
    gigabyte.
    """
    digest = hashlib.sha256()
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
