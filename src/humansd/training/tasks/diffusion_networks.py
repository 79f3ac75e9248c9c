"""The networks of a denoising run: its noise schedule, its UNet, and what of them learns."""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn

from humansd.methods.protocol import Method, Networks
from humansd.models.codec import vae_scale_factor
from humansd.models.loading import from_hub
from humansd.models.pocket import pocket_unet
from humansd.pipelines.schedulers import USABLE
from humansd.training.bases import part_config
from humansd.training.tasks.diffusion_settings import LatentSettings


def load_scheduler(parts: str, zero_terminal_snr: bool) -> DDIMScheduler:
    """The noise schedule of `components`; on request rescaled so that the last timestep is pure noise, where sampling
    then begins (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps Are Flawed", Alg. 1 and sec. 3.3).

    Raises:
        ValueError: a scheduler of another kind of model; or pure noise with noise prediction, which then learns
            nothing: the network sees what it has to say.
    """
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_terminal_snr else {}
    config = from_hub(DDIMScheduler.load_config, parts, subfolder="scheduler")
    own = config.get("_class_name", "DDIMScheduler")
    if own not in USABLE:
        raise ValueError(
            f"{parts}: scheduler/scheduler_config.json is of a {own}, which is made for models of another kind; name "
            "parts with a scheduler of Stable Diffusion's, such as DDIMScheduler"
        )
    scheduler = DDIMScheduler.from_config(config, clip_sample=False, **changes)  # latents are not bounded to -1..1
    kind = scheduler.config.prediction_type
    if scheduler.config.rescale_betas_zero_snr and kind != "v_prediction":
        raise ValueError(
            f"zero_terminal_snr: {parts} has prediction_type {kind!r} in scheduler/scheduler_config.json, and from "
            "pure noise only v_prediction can start; name parts that predict velocity, or use zero_terminal_snr=false "
            "and a scheduler without rescale_betas_zero_snr"
        )
    return scheduler


def check_schedule(parts: str, zero_terminal_snr: bool) -> None:
    """As `load_scheduler`, where `parts` is a folder: a hub is not asked."""
    if parts and Path(parts).is_dir():
        load_scheduler(parts, zero_terminal_snr)


def model_size(settings: LatentSettings, vae: AutoencoderKL) -> int:
    """Px of a side of the images that the UNet of `settings.base_model` (without one, the pocket UNet) is made for."""
    if settings.base_model:
        side = from_hub(UNet2DConditionModel.load_config, settings.base_model, subfolder="unet").get("sample_size")
    else:
        side = pocket_unet().config.sample_size
    return side * vae_scale_factor(vae) if isinstance(side, int) else 0


def unet_class(method: Method, base: str) -> type[UNet2DConditionModel]:
    """The method's own class where the base has learnt with it."""
    own = method.unet_class
    return own if part_config(base, "unet").get("_class_name") == own.__name__ else UNet2DConditionModel


def frozen_but(networks: Networks, learns: nn.Module) -> nn.Module:
    """`learns`, and of the networks nothing else takes a gradient."""
    own = networks.pose_network
    for network in (networks.unet, *([] if own is None else [own])):
        network.requires_grad_(False)
    return learns.requires_grad_(True)
