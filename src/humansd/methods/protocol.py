"""What a way of conditioning on poses must say of itself. Training, memory, generation and evaluation know no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable
from humansd.pose.render import DrawStyle


@dataclass
class Networks:
    """The networks of a method.

    unet: as the method runs it. vae: of the latents. pose_network: the method's own, if it has one.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    pose_network: nn.Module | None = None


class Method(Protocol):
    """One way of conditioning, a row of table 1 (HumanSD, sec. 5).

    name: what `--method` calls it, and what is saved in model_index.json.
    draw_style: how poses are drawn for it, where the saved model says nothing else.
    network: the class of `Networks.pose_network`; None where the method has no network of its own.
    unet_class: of `Networks.unet`.
    reads_pose: False where it draws without looking at a pose.
    latent_drawing: True where `encode` gives the VAE's latent of the drawing in `HUMANSD_STYLE` and nothing else: the
        trainer then reads it from its latent cache.
    """

    name: str
    draw_style: DrawStyle
    network: type[ModelMixin] | None
    unet_class: type[UNet2DConditionModel]
    reads_pose: bool
    latent_drawing: bool

    def unet_channels(self, latent_channels: int) -> int:
        """Input channels of the UNet that `build` returns."""

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        """The networks at step 0 from a plain UNet, or from one that `build` returned. Works on the meta device."""

    def check(self, networks: Networks) -> None:
        """Whether a network of the method that was loaded fits the UNet and the VAE beside it.

        Raises:
            ValueError: it was made for another base or another image; the message says which, and the remedy.
        """

    def learns(self, networks: Networks) -> nn.Module:
        """What training changes; the rest is frozen."""

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        """What the networks are told of n poses (None: a dropped one), float32 (n, ...) on the CPU.

        size: (width, height) px of the image to be drawn. style: how this model's poses are drawn.
        """

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        """What can be computed of a condition before the first step: tensors (n, ...) of any number."""

    def dropped(self, networks: Networks, size: tuple[int, int]) -> tuple[Tensor, ...] | None:
        """What stands for one dropped pose in the place of what `encode` gives, (1, ...) each; None where that is what
        `condition` and `encode` make of it."""

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        """The arguments of one UNet call.

        noisy: (n, c, h, w). timestep: a number, or (n,). text: (n, tokens, width). pose: as `encode` gave it.
        """
