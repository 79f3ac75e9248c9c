"""What a UNet may be trained from: which bases are known by name, and whether base, VAE and text encoder fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import CLIPTextModel

from humansd.checkpoints.original_format import SD1, SD2, ModelFamily
from humansd.methods.table import find_method
from humansd.models import pocket
from humansd.models.widen import OTHER_KINDS, unet_kind
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


def base_name(source: str) -> str:
    """The base in words, and whether its sizes are only supposed."""
    if not source:
        return "pocket size"
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


def check_base(
    unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, settings: LatentSettings
) -> None:
    """Whether `settings` can train this UNet on the latents and texts of these parts.

    Raises:
        ValueError: it takes or gives another number of channels, or reads other texts; the message names base_model
            and components.
    """
    base, parts = settings.base_model or "the pocket UNet", settings.components or settings.base_model
    latent = vae.config.latent_channels
    given, made = unet.config.in_channels, unet.config.out_channels
    wanted = {latent: "a plain Stable Diffusion"}
    wanted.setdefault(find_method(settings.method).unet_channels(latent), f"a trained {settings.method}")
    if made != latent or given not in wanted:
        known = " or ".join(f"{count} ({what})" for count, what in wanted.items())
        kind = unet_kind(given, latent)
        told = f" (a Stable Diffusion for {kind})" if kind in OTHER_KINDS else ""
        raise ValueError(
            f"base_model = {base!r}: its UNet takes {given} channels{told} and gives {made}; on latents of {latent} "
            f"channels (components = {parts!r}), method = {settings.method!r} starts from one that takes "
            f"{known} and gives {latent}"
        )
    width, reads = text_encoder.config.hidden_size, unet.config.cross_attention_dim
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
