"""The adapters of CN117392675A: drawn as dots or as a skeleton, and the secondary one, which draws alone.

The secondary adapter is a T2I-Adapter that learnt beside a frozen primary one (`training.tasks.dual_adapter`); an image
needs the secondary alone. Several adapters add their features, each with a weight.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import MultiAdapter, T2IAdapter
from torch import Tensor

from humansd.methods.protocol import Networks
from humansd.methods.t2i_adapter import Adapter
from humansd.models.loading import load_part
from humansd.pose.render import DOTS_STYLE


class DotAdapter(Adapter):
    """T2I-Adapter that is shown the joints as dots of grey 0 on 255."""

    name = "t2i-adapter-dots"
    draw_style = DOTS_STYLE


class DualAdapter(Adapter):
    """The secondary adapter, alone or with others."""

    name = "dual-adapter"

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        """As of T2I-Adapter; of `Weighted` adapters the weighted sum."""
        if not isinstance(networks.pose_network, Weighted):
            return super().encode(networks, condition)
        own = next(networks.pose_network.parameters())
        return tuple(networks.pose_network(condition.to(own.dtype)))


class Weighted(MultiAdapter):
    """Several T2I-Adapters that are shown one drawing; their features are added, each times its weight."""

    def __init__(self, adapters: list[T2IAdapter], weights: list[float]) -> None:
        """Adapters of one base, at least two."""
        super().__init__(adapters)
        self.weights = weights

    def forward(self, drawing: Tensor) -> list[Tensor]:
        """A feature map (n, c, h, w) of each of the UNet's resolutions, for drawings (n, 3, height, width)."""
        return super().forward([drawing] * len(self.weights), self.weights)  # type: ignore[no-any-return]


def weighted(adapter: T2IAdapter, weight: float) -> T2IAdapter | Weighted:
    """The adapter with its features times a weight. diffusers' class takes two or more, so it is in there twice."""
    return adapter if weight == 1 else Weighted([adapter, adapter], [weight, 0.0])


def load_adapters(source: str, dtype: torch.dtype) -> Any:
    """One T2I-Adapter of a folder or hub id, or several of "A=0.7,B=0.3"; a weight that is not said is 1.

    Raises:
        ValueError: a weight that is no number. OSError: as of `load_part`.
    """
    if Path(source).is_dir() or not {",", "="} & set(source):
        return load_part(T2IAdapter, source, "", dtype=dtype)
    named = [_weighted(one) for one in source.split(",")]
    adapters = [load_part(T2IAdapter, name, "", dtype=dtype) for name, _ in named]
    weights = [weight for _, weight in named]
    return weighted(adapters[0], weights[0]) if len(adapters) == 1 else Weighted(adapters, weights)


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise ValueError(f"pose network {text!r}: write FOLDER_OR_ID or FOLDER_OR_ID=WEIGHT, like pose=0.7,mask=0.3")
    return name, value
