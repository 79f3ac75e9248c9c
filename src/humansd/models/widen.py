"""Widening a UNet's input: how a plain Stable Diffusion UNet gets room for a skeleton (HumanSD); and the way back."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

# Which pipeline of diffusers reads a Stable Diffusion whose UNet takes something else beside the noisy latent.
OTHER_KINDS = {
    "inpainting": "StableDiffusionInpaintPipeline",
    "depth": "StableDiffusionDepth2ImgPipeline",
    "upscaling": "StableDiffusionUpscalePipeline",
    "InstructPix2Pix": "StableDiffusionInstructPix2PixPipeline",
}


def unet_kind(in_channels: int, latent_channels: int = 4) -> str:
    """What a Stable Diffusion UNet reads, by its input channels: "plain", "HumanSD", "inpainting" (mask and masked
    latent beside the noisy one), "depth", "upscaling" (the small image), or "unknown".

    InstructPix2Pix has exactly HumanSD's channels, the latent of the image to change in the place of the skeleton's,
    and is called "HumanSD" too: nothing in a UNet tells them apart.
    """
    kinds = {1: "depth", 3: "upscaling", latent_channels + 1: "inpainting", latent_channels: "HumanSD", 0: "plain"}
    return kinds.get(in_channels - latent_channels, "unknown")


def widen_conv_in(unet: UNet2DConditionModel, extra_channels: int) -> UNet2DConditionModel:
    """A copy of `unet` that takes `extra_channels` more input channels, appended after the present ones.

    The new columns of `conv_in` are exactly zero and every other weight is copied, so for any value in the
    new channels the output equals the given UNet's (HumanSD: the skeleton latent is concatenated to the
    noisy latent on the channel axis, and step 0 of fine-tuning is the base model).

    Args:
        unet: input (n, c, h, w). It is left as it is.
        extra_channels: >= 1, usually the VAE's `latent_channels`.

    Returns:
        A UNet with input (n, c + extra_channels, h, w), on the same device, in the same dtype and in the
        same training mode; its config says `in_channels = c + extra_channels`.

    Raises:
        ValueError: `extra_channels` below 1.
    """
    if extra_channels < 1:
        raise ValueError(f"extra_channels is {extra_channels}; a UNet is widened by at least 1 input channel")
    weight = unet.conv_in.weight.detach()
    zeros = torch.zeros(weight.shape[0], extra_channels, *weight.shape[2:], dtype=weight.dtype, device=weight.device)
    return _with_conv_in(unet, torch.cat([weight, zeros], dim=1))


def narrow_conv_in(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A copy of `unet` that takes only its first `channels` input channels, the inverse of `widen_conv_in`.

    Where the channels left out are zero, as a dropped pose is, the output equals the given UNet's.

    Args:
        unet: input (n, c, h, w). It is left as it is.
        channels: 1 to c - 1.

    Raises:
        ValueError: another number of channels.
    """
    if not 1 <= channels < unet.conv_in.in_channels:
        raise ValueError(f"channels is {channels}; of {unet.conv_in.in_channels} at least 1 stays and 1 goes")
    return _with_conv_in(unet, unet.conv_in.weight.detach()[:, :channels].clone())


def _with_conv_in(unet: UNet2DConditionModel, weight: torch.Tensor) -> UNet2DConditionModel:
    # `_use_default_values` would have from_config take the default for what is changed here.
    own = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    config = {**own, "in_channels": weight.shape[1]}
    other = UNet2DConditionModel.from_config(config)
    copied = {name: one.clone() for name, one in unet.state_dict().items()}
    other.load_state_dict({**copied, "conv_in.weight": weight}, assign=True)  # takes over their device and dtype
    return other.train(unet.training)
