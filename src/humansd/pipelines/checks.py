"""What a pipeline refuses before it draws, and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from humansd.core.numbers import whole
from humansd.methods.protocol import Method, Networks
from humansd.models.codec import vae_scale_factor
from humansd.models.tokenizers import check_tokenizer
from humansd.models.widen import OTHER_KINDS, unet_kind
from humansd.pipelines.schedulers import check_schedule, check_scheduler
from humansd.pipelines.sizes import MOST_PX


def check_method(method: Method, unet: Any, vae: Any, pose_network: Any) -> None:
    """Whether UNet and VAE are of this method. ValueError says what does not fit, and the remedy."""
    latent, given = vae.config.latent_channels, unet.config.in_channels
    wanted = method.unet_channels(latent)
    if given == latent != wanted:
        raise ValueError(
            f"unet.in_channels is {given}, as many as the latent has: a plain Stable Diffusion UNet, which "
            "cannot see a pose. Name a method and its weights (--method controlnet --pose-network FILE; --method sd "
            "draws without a pose), or train it; in Python HumanSDPipeline.from_base widens the UNet"
        )
    if given != wanted:
        kind = unet_kind(given, latent)
        what = f", as a Stable Diffusion for {kind} has; that is another model" if kind in OTHER_KINDS else ""
        raise ValueError(
            f"unet.in_channels is {given}{what}; on latents of {latent} channels the method {method.name} reads "
            f"{wanted}. Use the UNet and the VAE of one {method.name} model"
        )
    if (pose_network is None) != (method.network is None):
        needs = "no pose_network" if method.network is None else f"a pose_network, a {method.network.__name__}"
        raise ValueError(f"method is {method.name!r}, which has {needs}; load a folder that was saved with it")
    if pose_network is not None:
        method.check(Networks(unet, vae, pose_network))


def check_components(unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
    """Whether these fit each other. ValueError names the component that does not, and the remedy."""
    if unet.config.time_cond_proj_dim is not None:
        raise ValueError(
            "unet.time_cond_proj_dim is set: this UNet was distilled to read the guidance scale, which no HumanSD "
            "does; use the LCM-LoRA of the base instead"
        )
    sides = [unet.config.sample_size] if isinstance(unet.config.sample_size, int) else list(unet.config.sample_size)
    if not all(isinstance(side, int) and 0 < side * vae_scale_factor(vae) <= MOST_PX for side in sides):
        raise ValueError(
            f"unet.sample_size is {unet.config.sample_size}, images of another size than 1 to {MOST_PX} px; mend "
            "unet/config.json"
        )
    width, reads = text_encoder.config.hidden_size, unet.config.cross_attention_dim
    if width != reads:
        raise ValueError(
            f"the text encoder's embeddings are {width} wide and unet.cross_attention_dim is {reads}; use the text "
            "encoder and the UNet of one model"
        )
    scaling, shift = vae.config.scaling_factor, vae.config.shift_factor
    if not _is_number(scaling) or scaling <= 0 or not (shift is None or _is_number(shift)):
        raise ValueError(
            f"vae.scaling_factor is {scaling!r} and vae.shift_factor {shift!r}: a number above 0, and a number or "
            "null; mend vae/config.json"
        )
    check_tokenizer(tokenizer, text_encoder)
    check_scheduler(scheduler)
    check_schedule(scheduler)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_steps(steps: Any, scheduler: Any) -> int:
    """A number of denoising steps. ValueError for none, or more than the noise schedule has."""
    number, most = whole("num_inference_steps", steps), int(scheduler.config.num_train_timesteps)
    if number > most:
        raise ValueError(f"num_inference_steps is {number}; the noise schedule of this model has {most} steps")
    return number


def check_latents(pipeline: Any, latents: Tensor, call: Any) -> Tensor:
    """The caller's first noise as the call needs it, fp32 on the pipeline's device. ValueError for another shape."""
    factor = vae_scale_factor(pipeline.vae)
    place = (pipeline.vae.config.latent_channels, call.size[1] // factor, call.size[0] // factor)
    wanted = (len(call.generators), *place)
    if tuple(latents.shape) != wanted:
        raise ValueError(f"latents have the shape {tuple(latents.shape)}; these images need {wanted}")
    return latents.to(device=pipeline.place[0], dtype=torch.float32)


def check_texts(encoded: Sequence[Tensor], unet: Any) -> None:
    """ValueError unless the texts, (tokens, width) each, have one length and the UNet's width."""
    shapes = sorted({tuple(one.shape) for one in encoded})
    if len(shapes) > 1:
        raise ValueError(
            f"prompt_embeds and negative_prompt_embeds have the shapes {', '.join(map(str, shapes))} (tokens, width); "
            "pad them to one length, or give texts for both"
        )
    if shapes[0][1] != unet.config.cross_attention_dim:
        raise ValueError(
            f"prompt_embeds are {shapes[0][1]} wide, this UNet reads {unet.config.cross_attention_dim}; encode them "
            "with this model's text encoder"
        )


def check_finite(values: Tensor, what: str, dtype: torch.dtype) -> None:
    """FloatingPointError naming the images whose `values` are not finite."""
    if values.device.type == "meta":
        return
    bad = [index for index, value in enumerate(values) if not torch.isfinite(value).all()]
    if bad:
        raise FloatingPointError(
            f"the {what} of image {', '.join(map(str, bad))} are not finite. Load the pipeline with "
            f"dtype=torch.float32 (now {dtype}), lower guidance_scale and pose_guidance_scale, "
            "or check the weights"
        )
