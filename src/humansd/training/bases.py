"""What a UNet may be trained from: which bases are known by name, what of the shipped model a method starts from, and
whether base, VAE and text encoder fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import CLIPTextModel

from humansd.checkpoints.original_format import SD1, SD2, ModelFamily
from humansd.methods.table import find_method
from humansd.models import pocket
from humansd.models.errors import ModelError
from humansd.models.names import SHIPPED, weights_folder
from humansd.models.widen import OTHER_KINDS, narrow_conv_in, unet_kind
from humansd.training.tasks.clip_settings import ClipSettings
from humansd.training.tasks.diffusion_settings import SD15, SD21, LatentSettings

CLIP_VOCABULARY = 49408
MODEL_FAMILIES: dict[str, ModelFamily] = {SD15: SD1, SD21: SD2}  # sizes that are known without a file
_POCKET_WORDS = ClipSettings().vocabulary
_POCKET: dict[str, dict[str, Any]] = {
    "unet": pocket.UNET,
    "vae": pocket.VAE,
    "text_encoder": {
        **pocket.CLIP_TEXT,
        "vocab_size": _POCKET_WORDS,
        "bos_token_id": _POCKET_WORDS - 2,
        "eos_token_id": _POCKET_WORDS - 1,
    },
}


def part_config(source: str, part: str) -> dict[str, Any]:
    """The config of the unet, vae or text_encoder of a folder or hub id, without asking the hub; "" and a folder
    without that part are the pocket model's. Of a hub id that is neither known nor in the local cache, that of Stable
    Diffusion 1 is supposed."""
    path = local_file(source, part) if source else None
    if path is not None:
        return json.loads(path.read_text())
    if not source or Path(source).is_dir():
        return _POCKET[part]
    layout = MODEL_FAMILIES.get(source, SD1)
    text = {"vocab_size": CLIP_VOCABULARY, "max_position_embeddings": 77, **layout.text}
    return {"unet": layout.unet, "vae": layout.vae, "text_encoder": text}[part]


def start_config(settings: LatentSettings) -> dict[str, Any]:
    """The config of the UNet that a run starts from; see `start_unet`."""
    config = part_config(settings.base_model, "unet")
    return {**config, "in_channels": config["out_channels"]} if _starts_plain(settings, config) else config


def start_unet(unet: UNet2DConditionModel, settings: LatentSettings) -> UNet2DConditionModel:
    """The UNet of `settings.base_model` as the method starts from it: the shipped one, a HumanSD's, loses its input for
    a pose where the method starts from a plain Stable Diffusion's."""
    if not _starts_plain(settings, unet.config):
        return unet
    with torch.random.fork_rng(devices=[]):  # what the method builds beside it begins as beside a plain folder
        return narrow_conv_in(unet, unet.config.out_channels)


def _starts_plain(settings: LatentSettings, config: Mapping[str, Any]) -> bool:
    return is_shipped(settings.base_model) and (
        find_method(settings.method).unet_channels(config["out_channels"]) != config["in_channels"]
    )


def is_shipped(base: str) -> bool:
    """Whether `base` is the folder of a model that ships."""
    try:
        return bool(base) and Path(base).resolve() in [weights_folder(name).resolve() for name in SHIPPED]
    except ModelError:  # this install has none
        return False


def base_name(settings: LatentSettings) -> str:
    """The base in words, and whether its sizes are only supposed."""
    source = settings.base_model
    if not source:
        return "pocket size"
    if _starts_plain(settings, part_config(source, "unet")):
        return f"{source} without its input for a pose"
    if local_file(source, "unet") is not None:
        return source
    return MODEL_FAMILIES[source].name if source in MODEL_FAMILIES else f"{source}, supposed to be a {SD1.name}"


def is_supposed(source: str, part: str) -> bool:
    """Whether nothing is known here of the sizes of a part of `source`."""
    return bool(source) and source not in MODEL_FAMILIES and local_file(source, part) is None


def image_px(settings: LatentSettings) -> int | None:
    """The side of the images that the model is made for; None where its sizes are not known here."""
    base, parts = settings.base_model, settings.components or settings.base_model
    if is_supposed(base, "unet") or is_supposed(parts, "vae"):
        return None
    side = part_config(base, "unet")["sample_size"]
    blocks = part_config(parts, "vae")["block_out_channels"]
    return int(side if isinstance(side, int) else min(side)) * 2 ** (len(blocks) - 1)


def check_base_is_here(settings: LatentSettings) -> None:
    """ValueError where a base is named that has no place any more."""
    for name in ("base_model", "components"):
        if getattr(settings, name) == SD21 and not Path(SD21).is_dir():
            raise ValueError(
                f"{name} = {SD21!r}: Stable Diffusion 2.1-base has left its place on the hub; name a folder of it with "
                f"--set {name}=FOLDER, made of v2-1_512-ema-pruned.safetensors (or .ckpt) with `humansd convert "
                "checkpoint FILE --out FOLDER`, or the hub id of a copy that you trust"
            )


def check_base_kind(base: str) -> None:
    """ValueError where the model_index.json of a base says that it is neither a plain Stable Diffusion nor a HumanSD:
    InstructPix2Pix has HumanSD's channels."""
    from humansd.pipelines.folders import check_index  # late: a dry run needs no pipeline, which takes seconds

    path = local_file(base, "", "model_index.json")
    if path is not None:
        check_index(json.loads(path.read_text()), f"base_model = {base!r}: {path.name}")


def check_start(settings: LatentSettings) -> None:
    """As `check_base`, of the configs alone, where they are here; and as `check_base_kind`."""
    base, parts = settings.base_model, settings.components or settings.base_model
    if base:
        check_base_kind(base)
    if is_supposed(base, "unet") or is_supposed(parts, "vae") or is_supposed(parts, "text_encoder"):
        return
    vae = {"latent_channels": 4, **part_config(parts, "vae")}  # the numbers are the classes' own, for configs without
    unet = {"in_channels": 4 if base else vae["latent_channels"], "out_channels": 4, "cross_attention_dim": 1280}
    known = part_config(parts, "text_encoder")
    texts = {"hidden_size": 512, **known, **known.get("text_config", {})}  # a whole CLIP's config has the text's inside
    _check_fit({**unet, **start_config(settings)}, vae, texts, settings)


def check_parts_are_here(settings: LatentSettings) -> None:
    """FileNotFoundError where a folder is named that has not the parts which are loaded of it."""
    base, parts = settings.base_model, settings.components or settings.base_model
    named = [("base_model", base, "unet/config.json")]
    asked = "components" if settings.components else "base_model"
    files = ("vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json")
    named += [(asked, parts, file) for file in files]
    for name, folder, file in named:
        if folder and Path(folder).is_dir() and not (Path(folder) / file).is_file():
            raise FileNotFoundError(f"{name} = {folder!r}: has no {file}; name a whole diffusers folder")


def check_base(
    unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, settings: LatentSettings
) -> None:
    """Whether `settings` can train this UNet on the latents and texts of these parts.

    Raises:
        ValueError: it takes or gives another number of channels, or reads other texts; the message names base_model
            and components.
    """
    _check_fit(unet.config, vae.config, text_encoder.config.to_dict(), settings)


def _check_fit(
    unet: Mapping[str, Any], vae: Mapping[str, Any], text_encoder: Mapping[str, Any], settings: LatentSettings
) -> None:
    base, parts = settings.base_model or "the pocket UNet", settings.components or settings.base_model
    latent, given, made = vae["latent_channels"], unet["in_channels"], unet["out_channels"]
    wanted = {latent: "a plain Stable Diffusion"}
    wanted.setdefault(find_method(settings.method).unet_channels(latent), f"a trained {settings.method}")
    if made != latent or given not in wanted:
        known = " or ".join(f"{count} ({what})" for count, what in wanted.items())
        kind = unet_kind(given, latent)
        told = f" (a Stable Diffusion for {kind})" if kind in OTHER_KINDS else ""
        remedy = "; name base_model and components of one family" if made != latent else ""
        if made == latent and kind == "HumanSD":
            remedy = (
                "; base_model=pocket is a plain one, and in Python without_pose(load_pipeline(FOLDER, "
                'variant="full")).save_pretrained(PLAIN) of humansd.pipelines.plain makes one of a HumanSD'
            )
        raise ValueError(
            f"base_model = {base!r}: its UNet takes {given} channels{told} and gives {made}; on latents of {latent} "
            f"channels (components = {parts!r}), method = {settings.method!r} starts from one that takes "
            f"{known} and gives {latent}{remedy}"
        )
    width, reads = text_encoder["hidden_size"], unet["cross_attention_dim"]
    if width != reads:
        raise ValueError(
            f"base_model = {base!r}: its UNet reads texts {reads} wide, and the text encoder of components = "
            f"{parts!r} makes them {width} wide; name base_model and components of one family"
        )


def local_file(source: str, part: str, name: str = "config.json") -> Path | None:
    """A file of a part of a folder, or of a hub id in the local cache."""
    path = Path(source) / part / name
    if path.is_file():
        return path
    if Path(source).is_dir():
        return None
    try:
        found = try_to_load_from_cache(source, f"{part}/{name}" if part else name)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
