"""The adapters of CN117392675A: of dots, of person masks or of a skeleton, and the secondary one, which draws alone.

The secondary adapter is a T2I-Adapter that learnt beside a frozen primary one (`training.tasks.dual_adapter`); an image
needs the secondary alone. Several adapters add their features, each with a weight and, in an `AdapterMix`, each with
its own drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, MultiAdapter, T2IAdapter, UNet2DConditionModel
from torch import Tensor, nn

from humansd.checkpoints.pose_networks import read_t2i_adapter
from humansd.methods.drawing import Drawable
from humansd.methods.protocol import Networks
from humansd.methods.t2i_adapter import Adapter
from humansd.models.loading import load_part
from humansd.pose.people import People
from humansd.pose.render import DOTS_STYLE, MASKS_STYLE, DrawStyle


class DotAdapter(Adapter):
    """T2I-Adapter that is shown the joints as dots of grey 0 on 255."""

    name = "t2i-adapter-dots"
    draw_style = DOTS_STYLE


class MaskAdapter(Adapter):
    """T2I-Adapter that is shown where people are, white on black: drawn of key points, or a mask image as it is."""

    name = "t2i-adapter-masks"
    draw_style = MASKS_STYLE


class DualAdapter(Adapter):
    """The secondary adapter, alone or with others."""

    name = "dual-adapter"


class AdapterMix(Adapter):
    """T2I-Adapters that read different drawings of one pose; each is shown its own, their features add up.

    The name is theirs with "+" between them, as in "t2i-adapter+t2i-adapter-masks".
    """

    def __init__(self, methods: Sequence[Adapter]) -> None:
        """methods: two or more, in the order of the networks in `Weighted`."""
        self.methods = tuple(methods)
        self.name = "+".join(one.name for one in methods)
        self.draw_style = methods[0].draw_style

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        """Adapters at step 0 that count the same."""
        adapters: list[Any] = [one.build(unet, vae).pose_network for one in self.methods]
        return Networks(unet, vae, Weighted(adapters, [1 / len(adapters)] * len(adapters)))

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        """Each adapter's drawings, as its own method draws them, one behind the other: (n, 3 k, height, width) in
        [0, 1] for k adapters.

        Raises:
            ValueError: a drawn image in the place of key points, which can be but one of the drawings.
        """
        if any(pose is not None and not isinstance(pose, People) for pose in poses):
            raise ValueError(
                f"method {self.name} makes several drawings of key points, and an image has none; give a "
                "pose file, or name one method"
            )
        return torch.cat([one.condition(poses, size, one.draw_style) for one in self.methods], dim=1)


class Weighted(MultiAdapter):
    """Several T2I-Adapters that are shown one drawing, or one each; their features are added, each times its weight."""

    def __init__(self, adapters: list[T2IAdapter], weights: list[float]) -> None:
        """Adapters of one base, at least two."""
        super().__init__(adapters)
        self.weights = weights

    def forward(self, drawing: Tensor) -> list[Tensor]:
        """A feature map (n, c, h, w) of each of the UNet's resolutions.

        drawing: (n, 3, height, width), which all are shown; or (n, 3 k, height, width), one for each of k adapters.
        """
        count = len(self.weights)
        alike = drawing.shape[1] == self.adapters[0].config.in_channels
        shown = [drawing] * count if alike else list(drawing.chunk(count, dim=1))
        return super().forward(shown, self.weights)  # type: ignore[no-any-return]


def weighted(adapter: T2IAdapter, weight: float) -> T2IAdapter | Weighted:
    """The adapter with its features times a weight. diffusers' class takes two or more, so it is in there twice."""
    return adapter if weight == 1 else Weighted([adapter, adapter], [weight, 0.0])


def load_adapters(source: str, dtype: torch.dtype, method: Any = None) -> Any:
    """One T2I-Adapter of a folder, a published file or a hub id, or several of "A=0.7,B=0.3"; a weight that is not said
    is 1.

    method: whose networks these are; an `AdapterMix` needs as many as it has drawings.

    Raises:
        ValueError: a weight that is no number, or another number of networks. Otherwise as of `load_part` and
            `checkpoints.pose_networks.read_t2i_adapter`.
    """
    alone = Path(source).exists() or not {",", "="} & set(source)
    named = [(source, 1.0)] if alone else [_weighted(one) for one in source.split(",")]
    if isinstance(method, AdapterMix) and len(named) != len(method.methods):
        count = len(method.methods)
        raise ValueError(
            f"method {method.name}: needs {count} networks in this order, and {source!r} names "
            f"{len(named)}; write --pose-network A=0.7,B=0.3"
        )
    adapters = [load_adapter(name, dtype) for name, _ in named]
    weights = [weight for _, weight in named]
    return weighted(adapters[0], weights[0]) if len(adapters) == 1 else Weighted(adapters, weights)


def load_adapter(source: str, dtype: torch.dtype = torch.float32) -> T2IAdapter:
    """One T2I-Adapter of a folder or hub id in diffusers' layout, or of a published file. Errors as of
    `load_adapters`."""
    if Path(source).is_file():
        network: T2IAdapter = nn.Module.to(read_t2i_adapter(Path(source)), dtype)
        return network
    loaded: T2IAdapter = load_part(T2IAdapter, source, "", dtype=dtype)
    return loaded


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
