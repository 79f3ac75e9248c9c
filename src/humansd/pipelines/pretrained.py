"""Models by name: the one that ships, a folder, or a hub id."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging
from transformers import CLIPTextModel, CLIPTokenizer

from humansd.models.widen import narrow_conv_in
from humansd.pipelines.humansd import HumanSDPipeline

SHIPPED = ("pocket",)


class ModelError(ValueError):
    """A model that cannot be loaded; the message names it and the remedy."""


def weights_folder(name: str) -> Path:
    """The folder of the shipped model `name`. Raises ModelError where this install has none."""
    folder = Path(str(resources.files("humansd"))) / "weights" / name
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"model {name!r}: this install holds no weights in {folder}; install a release, or make them "
            "with `make pocket` and copy them there"
        )
    return folder


def load_pipeline(model: str, device: str | None = None, *, plain: bool = False) -> HumanSDPipeline:
    """The pipeline of a shipped model's name, a diffusers folder or a hub id, in fp32.

    device: default the GPU if there is one, else the CPU.
    plain: a plain Stable Diffusion is accepted too; it draws as ever and ignores poses.
    Raises ModelError for a model that is not there, and what `HumanSDPipeline` raises.
    """
    if model in SHIPPED:
        source = str(weights_folder(model))
    else:
        source = model
        _check_name(model)
    logging.disable_progress_bar()  # of the components; downloads keep theirs
    try:
        kind = DiffusionPipeline.load_config(source).get("_class_name") if plain else None
        load = HumanSDPipeline.from_base if kind == "StableDiffusionPipeline" else HumanSDPipeline.from_pretrained
        pipeline = load(source, dtype=torch.float32)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model {model!r}: cannot be loaded ({reason})") from error
    finally:
        logging.enable_progress_bar()
    return pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


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


def _check_name(model: str) -> None:
    """A folder must hold a pipeline; what cannot be a hub id either is a mistyped path."""
    path = Path(model).expanduser()
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise ModelError(f"model {model!r}: the folder has no model_index.json; name a diffusers pipeline folder")
    if not path.is_dir() and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise ModelError(
            f"model {model!r}: no such folder; use {', '.join(SHIPPED)}, a folder, or a hub id (owner/name)"
        )
