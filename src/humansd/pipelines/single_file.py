"""Single-file checkpoints of Stable Diffusion and HumanSD to diffusers folders, and back."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel

from humansd.checkpoints.original_format import (
    MODEL_FAMILIES,
    SAFETENSORS_TYPES,
    ModelFamily,
    Parts,
    check_kind,
    components_of,
    find_family,
    read_metadata,
    read_single_file,
    sd_scheduler,
    write_single_file,
)
from humansd.core.errors import DiskError
from humansd.models.errors import ModelError
from humansd.models.loading import load_part
from humansd.models.tokenizers import clip_tokenizer, load_tokenizer
from humansd.pipelines.folders import check_index, class_name
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pose.render import HUMANSD_STYLE

PREDICTIONS = ("epsilon", "v_prediction")
KINDS = ("auto", "humansd")
# As the published code samples: DDIM of 50 steps, guidance 9, and it knows no pose as the drawing of nobody.
PUBLISHED: dict[str, Any] = {
    "draw_style": HUMANSD_STYLE.to_dict(),
    "guidance": {"text": 9.0, "pose": 1.0},
    "num_inference_steps": 50,
    "dropped_pose": "black",
}
OWN = "humansd"  # the entry of a file's metadata in which `folder_to_checkpoint` keeps a model's own settings


def checkpoint_to_folder(
    file: Path,
    out: Path,
    *,
    tokenizer: str = "",
    prediction: str = "",
    ema: bool = False,
    kind: str = "auto",
    layouts: tuple[ModelFamily, ...] = MODEL_FAMILIES,
) -> str:
    """Writes the diffusers folder of a single-file checkpoint: HumanSD's where the UNet takes a pose, else Stable
    Diffusion's. Returns what it was, in words. Arguments and errors as `read_pipeline`.
    """
    pipeline, words = _read(file, tokenizer, prediction, ema, kind, layouts)
    _check_room(out, sum(one.nbytes for part in _KINDS for one in getattr(pipeline, part).state_dict().values()))
    pipeline.save_pretrained(out)
    return words


def _check_room(out: Path, needed: int) -> None:
    """DiskError where a folder of so many bytes has no room; what writes it would not say so."""
    place = next(one for one in (out, *out.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskError(
            errno.ENOSPC,
            f"{out}: its weights need {needed / 1e9:.2g} GB and {free / 1e9:.2g} GB are free; make room there, or name "
            "another disk with --out",
        )


def read_pipeline(
    file: Path,
    *,
    tokenizer: str = "",
    prediction: str = "",
    ema: bool = False,
    kind: str = "auto",
    layouts: tuple[ModelFamily, ...] = MODEL_FAMILIES,
) -> DiffusionPipeline:
    """The pipeline of a single-file checkpoint, in the file's precision: HumanSD or plain Stable Diffusion.

    A HumanSD gets the published settings (`PUBLISHED`), one that `folder_to_checkpoint` wrote those it had. A Stable
    Diffusion 2 that predicts v was trained at 768 px and draws at that size.

    Args:
        tokenizer: folder or hub id of its tokenizer; "" is the family's own, which ships with this package.
        prediction: one of PREDICTIONS; "" is what the file says, else "epsilon": published files do not say.
        ema: the averaged weights of the UNet, where the file has them.
        kind: "humansd" where it is known to be one; see `checkpoints.original_format.check_kind`.

    Raises:
        ValueError: no checkpoint of a known family, another kind of model, a tokenizer that does not fit; the message
            names the file and what is wrong.
        OSError: no such file, no tokenizer, or no room on the disk.
    """
    return _read(file, tokenizer, prediction, ema, kind, layouts)[0]


def _read(
    file: Path, tokenizer: str, prediction: str, ema: bool, kind: str, layouts: tuple[ModelFamily, ...]
) -> tuple[DiffusionPipeline, str]:
    if prediction not in ("", *PREDICTIONS):
        raise ValueError(f"prediction is {prediction!r}; choose {' or '.join(PREDICTIONS)}")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose {' or '.join(KINDS)}")
    state, own = read_single_file(file), _own_settings(file)
    layout = find_family(state, str(file), layouts)
    pose = check_kind(state, str(file), layout, humansd="settings" in own or kind == "humansd") == "HumanSD"
    parts = components_of(state, str(file), layout, ema=ema)
    del state
    prediction = prediction or own.get("prediction", "epsilon")
    size = own.get("sample_size") or (96 * layout.unet["sample_size"] // 64 if _at_768(layout, prediction) else None)
    if size is not None:
        parts.unet.register_to_config(sample_size=size)
        parts.vae.register_to_config(sample_size=layout.vae["sample_size"] * size // layout.unet["sample_size"])
    if tokenizer:
        words = load_tokenizer(tokenizer, parts.text_encoder, family=layout.family)
    else:
        words = clip_tokenizer(layout.family)
    name = f"{'HumanSD' if pose else 'Stable Diffusion'} of the family {layout.name}"
    scheduler = sd_scheduler(prediction)
    if not pose:
        return plain_pipeline(parts.vae, parts.text_encoder, words, parts.unet, scheduler), name
    try:
        settings = {**PUBLISHED, **own.get("settings", {})}
        return HumanSDPipeline(parts.vae, parts.text_encoder, words, parts.unet, scheduler, **settings), name
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def _at_768(layout: ModelFamily, prediction: str) -> bool:
    return layout.family == "sd2" and prediction == "v_prediction"


def _own_settings(file: Path) -> dict[str, Any]:
    """What `folder_to_checkpoint` wrote of a model into its file; nothing for any other file."""
    text = read_metadata(file).get(OWN, "{}")
    try:
        found = json.loads(text)
        settings = found.get("settings", {})
        sound = set(settings) <= set(PUBLISHED) and found.get("prediction", "epsilon") in PREDICTIONS
        sound = sound and isinstance(found.get("sample_size", 1), int)
    except (ValueError, AttributeError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{file}: its metadata {OWN!r} are damaged; write the file again from its folder")
    return dict(found)


def folder_to_checkpoint(folder: Path, file: Path, *, layouts: tuple[ModelFamily, ...] = MODEL_FAMILIES) -> str:
    """Writes UNet, VAE and text encoder of a diffusers folder as one .safetensors with LDM names, in their precision.

    Weights that no diffusers folder has (averages, schedules, OpenCLIP's last layer) are not in it. A HumanSD's own
    settings, its prediction and its size go into the file's metadata. Returns the family.

    Raises:
        ValueError: no pipeline folder, a part of another kind or size, another file ending.
    """
    index = _index(folder)
    parts = Parts(*(_part(folder, name, kind) for name, kind in _KINDS.items()))
    width = parts.unet.config.cross_attention_dim
    layout = next((one for one in layouts if one.unet["cross_attention_dim"] == width), None)
    if layout is None:
        raise ValueError(f"{folder}: its text is {width} wide; only Stable Diffusion 1 and 2 have single-file names")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    prediction = json.loads(scheduler.read_text()).get("prediction_type") if scheduler.is_file() else None
    own: dict[str, Any] = {"sample_size": parts.unet.config.sample_size}
    if prediction in PREDICTIONS:
        own["prediction"] = prediction
    if class_name(index).startswith("HumanSD"):
        own["settings"] = {key: index[key] for key in PUBLISHED if index.get(key) is not None}
    try:
        write_single_file(parts, layout, file, {OWN: json.dumps(own)})
    except KeyError as error:
        raise ValueError(f"{folder}: {error.args[0]}") from None
    return layout.name


_KINDS: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    if not file.is_file():
        raise ModelError(f"{folder}: has no model_index.json; name a diffusers pipeline folder")
    try:
        index = json.loads(file.read_text())
    except ValueError as error:
        raise ModelError(f"{file}: not JSON ({error}); copy the folder again") from error
    check_index(index, str(folder))
    return dict(index)


def _part(folder: Path, name: str, kind: Any) -> Any:
    """A part in the precision in which it lies in the folder."""
    return load_part(kind, folder, name, dtype=_precision(folder / name))


def _precision(folder: Path) -> torch.dtype:
    """The widest of the floating-point types in a folder's safetensors, fp32 where there are none."""
    found = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            found |= {opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
    known = [kind for kind, name in SAFETENSORS_TYPES.items() if name in found]
    return known[0] if len(known) == 1 else torch.float32
