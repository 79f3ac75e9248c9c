"""Plain Stable Diffusion around the same components."""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from humansd.models.widen import narrow_conv_in
from humansd.pipelines.humansd import HumanSDPipeline


def without_pose(pipeline: HumanSDPipeline) -> StableDiffusionPipeline:
    """The plain Stable Diffusion in a HumanSD: what it draws without a pose, and no input for one."""
    unet = narrow_conv_in(pipeline.unet, pipeline.vae.config.latent_channels)
    return plain_pipeline(pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, unet, pipeline.scheduler)


def plain_pipeline(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> StableDiffusionPipeline:
    """Stable Diffusion of these parts, without a safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
