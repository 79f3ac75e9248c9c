"""Single-file checkpoints (.ckpt, .safetensors) of Stable Diffusion 1 and 2 and of HumanSD, from and to the parts of a
diffusers folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.checkpoints.convert import read_checkpoint
from humansd.checkpoints.original_names import clip_name, is_vae_attention, open_clip_name, unet_name, vae_name
from humansd.core.files import write_whole
from humansd.models.tokenizers import MAX_TOKENS, VOCABULARY, Family
from humansd.models.widen import OTHER_KINDS, unet_kind

PARTS = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
# Of the parts, but of no use for drawing: training's losses, buffers, OpenCLIP's last layer, which SD 2 never reads.
UNUSED = (
    "first_stage_model.loss.",
    "first_stage_model.logvar",
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
    "cond_stage_model.model.attn_mask",
    "cond_stage_model.model.logit_scale",
    "cond_stage_model.model.text_projection",
    "cond_stage_model.model.transformer.resblocks.23.",
)

SAFETENSORS_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class ModelFamily:
    """The sizes of a family of checkpoints.

    unet, vae, text: of the parts' configs; open_clip: whether the text encoder is OpenCLIP's; family: of its tokenizer,
    which is in no checkpoint.
    """

    name: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    open_clip: bool
    family: Family


_UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "sample_size": 64,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
SD1 = ModelFamily(
    "Stable Diffusion 1",
    {**_UNET, "cross_attention_dim": 768, "attention_head_dim": 8},
    _VAE,
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    open_clip=False,
    family="sd1",
)
SD2 = ModelFamily(
    "Stable Diffusion 2",
    {**_UNET, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    _VAE,
    {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
    open_clip=True,
    family="sd2",
)
MODEL_FAMILIES = (SD1, SD2)


@dataclass(frozen=True)
class Parts:
    """What a checkpoint holds; `pose` says whether the UNet also takes a skeleton's latent."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel

    @property
    def pose(self) -> bool:
        return bool(self.unet.config.in_channels == 2 * self.vae.config.latent_channels)


def read_single_file(file: Path) -> dict[str, Tensor]:
    """The weights of a .safetensors, or of a pickled checkpoint that holds tensors alone.

    Raises:
        OSError, ValueError: as `read_checkpoint`.
    """
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file}: not a safetensors file ({error}); give the whole download") from error
    return read_checkpoint(file)


def read_metadata(file: Path) -> dict[str, str]:
    """What a .safetensors says of itself; nothing for any other file."""
    if file.suffix != ".safetensors":
        return {}
    try:
        with safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{file}: not a safetensors file ({error}); give the whole download") from error


def check_kind(state: Mapping[str, Tensor], source: str, layout: ModelFamily, *, humansd: bool | None = None) -> str:
    """Whether a checkpoint is a "plain" Stable Diffusion or a "HumanSD", by its UNet's input channels.

    InstructPix2Pix has HumanSD's channels, and nothing in the weights tells them apart. The published HumanSD is a
    Stable Diffusion 2, the published InstructPix2Pix a Stable Diffusion 1: with the text of SD 2 it is taken for
    HumanSD unless the file's name says "pix2pix", with the text of SD 1 the user must say what it is.

    Args:
        humansd: True where it is known to be one, by the user or by the file.

    Raises:
        ValueError: another kind of Stable Diffusion, which is named; or InstructPix2Pix, known or possible.
    """
    weight = _given(state, "model.diffusion_model.input_blocks.0.0.weight", source)
    channels = weight.shape[1] if weight.ndim == 4 else 0
    kind = unet_kind(channels, layout.vae["latent_channels"])
    if kind in OTHER_KINDS:
        raise ValueError(
            f"{source}: a Stable Diffusion for {kind} ({channels} input channels); only plain Stable Diffusion and "
            f"HumanSD are converted, diffusers reads this one ({OTHER_KINDS[kind]}.from_single_file)"
        )
    if kind == "unknown":
        raise ValueError(f"{source}: its UNet has {channels} input channels; a plain one has 4, HumanSD's has 8")
    if kind == "plain" and humansd:
        raise ValueError(f"{source}: its UNet has 4 input channels and sees no pose: no HumanSD; leave out --kind")
    if kind == "HumanSD" and not humansd:
        name = Path(source).name.lower()
        if "pix2pix" in name or "ip2p" in name:
            raise ValueError(
                f"{source}: InstructPix2Pix by its name; it changes images and knows no poses, diffusers reads it "
                f"({OTHER_KINDS['InstructPix2Pix']}.from_single_file). If it is a HumanSD, say --kind humansd"
            )
        if layout.family == "sd1":
            raise ValueError(
                f"{source}: 8 input channels and the text of Stable Diffusion 1, so HumanSD or InstructPix2Pix; the "
                "weights do not tell. If it is a HumanSD, say --kind humansd; the other knows no poses"
            )
    return kind


def find_family(
    state: Mapping[str, Tensor], source: str, layouts: tuple[ModelFamily, ...] = MODEL_FAMILIES
) -> ModelFamily:
    """The family of a checkpoint, by the width of the text that its attention reads. ValueError for another one."""
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    other = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    weight = state.get(key, state.get(other))
    if weight is None:
        raise ValueError(f"{source}: has no {key}; give a checkpoint of Stable Diffusion 1 or 2, or of HumanSD")
    for layout in layouts:
        if layout.unet["cross_attention_dim"] == weight.shape[1]:
            return layout
    widths = ", ".join(f"{one.unet['cross_attention_dim']} ({one.name})" for one in layouts)
    raise ValueError(f"{source}: its text is {weight.shape[1]} wide; known are {widths}")


def components_of(
    state: Mapping[str, Tensor], source: str, layout: ModelFamily | None = None, *, ema: bool = False
) -> Parts:
    """The parts of a checkpoint, computed in its own precision; tensors are shared with `state` where they can be.

    Args:
        ema: the UNet's averaged weights (`model_ema.`) instead of the last ones.

    Raises:
        ValueError: a weight is missing, has another shape or is left over; the message names `source` and the weight.
    """
    layout = layout or find_family(state, source)
    first = _given(state, "model.diffusion_model.input_blocks.0.0.weight", source)
    text = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=MAX_TOKENS, **layout.text)
    unet_keys = _Keys(state, source, ema)
    with init_empty_weights(include_buffers=False):
        unet = UNet2DConditionModel(in_channels=first.shape[1], **layout.unet)
        vae = AutoencoderKL(**layout.vae)
        encoder = CLIPTextModel(text)
    _fill(unet, {key: unet_keys.take(name) for key, name in unet_names(unet).items()}, source)
    keys = _Keys(state, source, False)
    _fill(vae, {key: _as_matrix(key, keys.take(name)) for key, name in vae_names(vae).items()}, source)
    _fill(encoder, _text_weights(encoder, keys, layout), source)
    taken = keys.taken | unet_keys.taken | (set(unet_names(unet).values()) if ema else set())
    left = sorted(key for key in state if key.startswith(PARTS) and key not in taken and not key.startswith(UNUSED))
    if left:
        raise ValueError(f"{source}: {len(left)} weights are left over ({', '.join(left[:3])}); not {layout.name}")
    return Parts(unet, vae, encoder)


def state_of(parts: Parts, layout: ModelFamily) -> dict[str, Tensor]:
    """The parts under their LDM names: what `parts_of` reads, and nothing else."""
    unet, vae = parts.unet.state_dict(), parts.vae.state_dict()
    state = {name: unet[key] for key, name in unet_names(parts.unet).items()}
    for key, name in vae_names(parts.vae).items():
        weight = vae[key]
        state[name] = weight[:, :, None, None] if is_vae_attention(key) else weight
    text = parts.text_encoder.state_dict()
    if not layout.open_clip:
        return state | {clip_name(key): weight for key, weight in text.items()}
    thirds: dict[str, list[Tensor | None]] = {}
    for key, weight in text.items():
        name, third = open_clip_name(key)
        if third is None:
            state[name] = weight
        else:
            thirds.setdefault(name, [None] * 3)[third] = weight
    return state | {name: torch.cat([one for one in three if one is not None]) for name, three in thirds.items()}


def write_single_file(parts: Parts, layout: ModelFamily, file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes one .safetensors with LDM names, whole or not at all; `metadata` is what it says of itself.

    Raises:
        ValueError: another file ending.
        OSError: it cannot be written; the message says why.
    """
    if file.suffix != ".safetensors":
        raise ValueError(f"{file}: weights are written as safetensors alone; give the file the ending .safetensors")
    # Widest numbers first, so that each begins at a multiple of its size.
    state = sorted(state_of(parts, layout).items(), key=lambda entry: (-entry[1].itemsize, entry[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name, weight in state:
        begin, end = end, end + weight.nbytes
        kind = SAFETENSORS_TYPES[weight.dtype]
        header[name] = {"dtype": kind, "shape": list(weight.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(stream: IO[bytes]) -> None:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, weight in state:
            stream.write(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, write)  # safetensors' own writer hides that a disk is full, or holds the whole file in memory


def sd_scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    """DDIM with Stable Diffusion's noise schedule; prediction: "epsilon", or "v_prediction" (SD 2 at 768 px)."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def unet_names(unet: UNet2DConditionModel) -> dict[str, str]:
    """diffusers name -> LDM name of every weight of the UNet."""
    config = unet.config
    return {key: unet_name(key, config.up_block_types, config.layers_per_block) for key in unet.state_dict()}


def vae_names(vae: AutoencoderKL) -> dict[str, str]:
    """diffusers name -> LDM name of every weight of the VAE."""
    return {key: vae_name(key, len(vae.config.block_out_channels)) for key in vae.state_dict()}


class _Keys:
    """Takes weights out of a checkpoint by name and remembers which."""

    def __init__(self, state: Mapping[str, Tensor], source: str, ema: bool) -> None:
        self.state, self.source, self.ema = state, source, ema
        self.taken: set[str] = set()

    def take(self, name: str) -> Tensor:
        stored = "model_ema." + name.removeprefix("model.").replace(".", "") if self.ema else name
        self.taken.add(stored)
        return _given(self.state, stored, self.source)


def _given(state: Mapping[str, Tensor], name: str, source: str) -> Tensor:
    if name not in state:
        raise ValueError(f"{source}: {name} is missing; give a whole checkpoint of Stable Diffusion 1, 2 or HumanSD")
    return state[name]


def _as_matrix(key: str, weight: Tensor) -> Tensor:
    return weight.flatten(1) if is_vae_attention(key) else weight


def _text_weights(encoder: CLIPTextModel, keys: _Keys, layout: ModelFamily) -> dict[str, Tensor]:
    weights = {}
    for key in encoder.state_dict():
        if layout.open_clip:
            name, third = open_clip_name(key)
            weight = keys.take(name)
            weights[key] = weight if third is None else weight.chunk(3)[third]
        else:
            weights[key] = keys.take(clip_name(key))
    return weights


def _fill(part: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Puts the weights into a part that has none yet."""
    for key, empty in part.state_dict().items():
        if weights[key].shape != empty.shape:
            kind = type(part).__name__
            raise ValueError(
                f"{source}: {key} of the {kind} has the shape {tuple(weights[key].shape)}, not {tuple(empty.shape)}"
            )
    part.load_state_dict(weights, assign=True)
    part.eval()
