"""What a method costs, counted: floating point operations of its networks against the base's UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from humansd.methods.table import find_method
from humansd.models.codec import vae_scale_factor
from humansd.training.tasks.diffusion_networks import frozen_but


def method_costs(
    unet_config: Mapping[str, Any], vae_config: Mapping[str, Any], methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """For each method on a plain UNet and a VAE of these configs, with nothing computed:

    learns: parameters that learn. training: FLOPs of a sample's forward and backward pass. step: of one UNet call with
    all that the method runs beside it. once: of what is encoded once for an image. All but the first are shares of a
    forward pass of the base's UNet.
    """
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(dict(vae_config)).requires_grad_(False)
        unet = UNet2DConditionModel.from_config(dict(unet_config))
    whole, _ = _call("sd", unet, vae)
    return {name: _costs(name, unet_config, vae, whole) for name in methods}


def _costs(name: str, unet_config: Mapping[str, Any], vae: AutoencoderKL, whole: int) -> dict[str, Any]:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(unet_config))
    once = _encode(name, unet, vae)
    step, training = _call(name, unet, vae)
    found = {"training": training, "step": step - _in_the_call(name, once), "once": once}
    with torch.device("meta"):
        learns = find_method(name).learns(find_method(name).build(unet, vae))
    return {"learns": _count(learns), **{key: value / whole for key, value in found.items()}}


def _in_the_call(name: str, once: int) -> int:
    """`_call` encodes the pose too, but where a cached latent is taken."""
    return 0 if find_method(name).latent_drawing else once


def _encode(name: str, unet: UNet2DConditionModel, vae: AutoencoderKL) -> int:
    """FLOPs of what is encoded of a pose."""
    method = find_method(name)
    size = (unet.config.sample_size * vae_scale_factor(vae),) * 2
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        networks = method.build(unet, vae)
        method.encode(networks, method.condition([None], size, method.draw_style).to("meta"))
    return int(counter.get_total_flops())


def _call(name: str, unet: UNet2DConditionModel, vae: AutoencoderKL) -> tuple[int, int]:
    """FLOPs of one UNet call for one sample, with what the method runs beside it: forward, and with the way back."""
    method, side, channels = find_method(name), unet.config.sample_size, vae.config.latent_channels
    size = (side * vae_scale_factor(vae),) * 2
    with torch.device("meta"), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        networks = method.build(unet, vae)
        frozen_but(networks, method.learns(networks))
        noisy, steps = torch.empty(1, channels, side, side), torch.zeros(1, dtype=torch.long)
        text = torch.empty(1, 77, _width(unet))
        pose: tuple[torch.Tensor, ...] = (noisy,)
        if not method.latent_drawing:
            pose = method.encode(networks, method.condition([None], size, method.draw_style).to("meta"))
        answer = networks.unet(**method.unet_inputs(networks, noisy, steps, text, pose)).sample
        forward = counter.get_total_flops()
        answer.sum().backward()
    return int(forward), int(counter.get_total_flops())


def _width(unet: UNet2DConditionModel) -> int:
    width = unet.config.cross_attention_dim
    return int(width if isinstance(width, int) else width[0])


def _count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())
