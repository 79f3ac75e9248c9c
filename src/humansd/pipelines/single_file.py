"""Single-file checkpoints of Stable Diffusion and HumanSD to diffusers folders, and back."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from transformers import CLIPTokenizer

from humansd.models.ldm import (
    LAYOUTS,
    Layout,
    Parts,
    find_layout,
    parts_of,
    read_single_file,
    sd_scheduler,
    write_single_file,
)
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.pretrained import ModelError
from humansd.pose.render import HUMANSD_STYLE

PREDICTIONS = ("epsilon", "v_prediction")


def checkpoint_to_folder(
    file: Path,
    out: Path,
    *,
    tokenizer: str = "",
    prediction: str = "epsilon",
    ema: bool = False,
    layouts: tuple[Layout, ...] = LAYOUTS,
) -> str:
    """Writes the diffusers folder of a single-file checkpoint: HumanSD's where the UNet takes a pose, else Stable
    Diffusion's. Returns what it was, in words.

    Args:
        tokenizer: folder or hub id of the words; "" is the family's own on the hub.
        prediction: one of PREDICTIONS; no checkpoint says which it was trained for.
        ema: the averaged weights of the UNet, where the file has them.

    Raises:
        ValueError: no checkpoint of a known family; the message names the file and what is wrong.
        OSError: no such file, or no tokenizer.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction is {prediction!r}; choose {' or '.join(PREDICTIONS)}")
    state = read_single_file(file)
    layout = find_layout(state, str(file), layouts)
    parts = parts_of(state, str(file), layout, ema=ema)
    words = _tokenizer(tokenizer or layout.tokenizer)
    common = {"vae": parts.vae, "text_encoder": parts.text_encoder, "tokenizer": words, "unet": parts.unet}
    scheduler = sd_scheduler(prediction)
    if parts.pose:
        HumanSDPipeline(**common, scheduler=scheduler, draw_style=HUMANSD_STYLE.to_dict()).save_pretrained(out)
    else:
        StableDiffusionPipeline(
            **common,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(out)
    return f"{'HumanSD' if parts.pose else 'Stable Diffusion'} of the family {layout.name}"


def folder_to_checkpoint(folder: Path, file: Path, *, layouts: tuple[Layout, ...] = LAYOUTS) -> str:
    """Writes UNet, VAE and text encoder of a diffusers folder as one .safetensors with LDM names, in their precision.

    Weights that no diffusers folder has (averages, schedules, OpenCLIP's last layer) are not in it. Returns the family.

    Raises:
        ValueError: no pipeline folder, a part of another kind or size, another file ending.
    """
    parts = _parts(folder)
    width = parts.unet.config.cross_attention_dim
    layout = next((one for one in layouts if one.unet["cross_attention_dim"] == width), None)
    if layout is None:
        raise ValueError(f"{folder}: its text is {width} wide; only Stable Diffusion 1 and 2 have single-file names")
    try:
        write_single_file(parts, layout, file)
    except KeyError as error:
        raise ValueError(f"{folder}: {error.args[0]}") from None
    return layout.name


def _parts(folder: Path) -> Parts:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{folder}: has no model_index.json; name a diffusers pipeline folder")
    kind = json.loads(index.read_text()).get("_class_name")
    load = HumanSDPipeline if kind == "HumanSDPipeline" else DiffusionPipeline
    pipeline = load.from_pretrained(folder, dtype="auto" if load is DiffusionPipeline else torch.float32)
    return Parts(pipeline.unet, pipeline.vae, pipeline.text_encoder)


def _tokenizer(source: str) -> CLIPTokenizer:
    try:
        place = {"subfolder": "tokenizer"} if (Path(source) / "tokenizer").is_dir() else {}
        return CLIPTokenizer.from_pretrained(source, **place)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"tokenizer {source!r}: cannot be loaded ({reason}); name a folder or hub id with --tokenizer"
        ) from error
