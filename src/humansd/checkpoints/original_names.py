"""How the single-file checkpoints of Stable Diffusion and HumanSD call what diffusers calls otherwise.

Each function names one weight of a diffusers part as the LDM code base does. Reading goes the same way: the part says
which weights it has, and each is looked up under its name, so nothing is missed and nothing is left over unseen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
CLIP_PREFIX = "cond_stage_model.transformer.text_model."
OPEN_CLIP_PREFIX = "cond_stage_model.model."

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE_ENDS = {"mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2", "conv_norm_out": "norm_out"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def unet_name(key: str, up_block_types: Sequence[str], layers: int = 2) -> str:
    """The LDM name of a UNet2DConditionModel's weight.

    Args:
        up_block_types, layers: of its config (`layers_per_block`); where a block's upsampler stands depends on them.

    Raises:
        KeyError: a weight that Stable Diffusion's UNet does not have.
    """
    block = _BLOCK.fullmatch(key)
    if block is None:
        return UNET_PREFIX + _with_resnet(_replaced(key, _UNET_ENDS))
    side, i, kind, j, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
    if kind == "downsamplers":
        return f"{UNET_PREFIX}input_blocks.{(i + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if "CrossAttn" in up_block_types[i] else 1
        return f"{UNET_PREFIX}output_blocks.{i * (layers + 1) + layers}.{place}.{rest}"
    where = f"input_blocks.{1 + i * (layers + 1) + j}" if side == "down" else f"output_blocks.{i * (layers + 1) + j}"
    if kind == "attentions":
        return f"{UNET_PREFIX}{where}.1.{rest}"
    return f"{UNET_PREFIX}{where}.0.{_replaced(rest, _RESNET)}"


def vae_name(key: str, blocks: int = 4) -> str:
    """The LDM name of an AutoencoderKL's weight; blocks: resolutions. The mid block's attention is a 1 x 1 convolution
    there and a linear layer here. KeyError for a weight that LDM's VAE does not have."""
    half, _, rest = key.partition(".")
    if half in ("quant_conv", "post_quant_conv"):
        return VAE_PREFIX + key
    block = _BLOCK.fullmatch(rest)
    if block is not None:
        side, i, kind, j, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
        level = i if side == "down" else blocks - 1 - i
        part = f"block.{j}" if kind == "resnets" else {"downsamplers": "downsample", "upsamplers": "upsample"}[kind]
        return f"{VAE_PREFIX}{half}.{side}.{level}.{part}.{rest.replace('conv_shortcut', 'nin_shortcut')}"
    attention = "mid_block.attentions.0."
    if rest.startswith(attention):
        return f"{VAE_PREFIX}{half}.mid.attn_1.{_replaced(rest.removeprefix(attention), _VAE_ATTENTION)}"
    if rest.startswith("conv_") and not rest.startswith("conv_norm_out"):
        return f"{VAE_PREFIX}{half}.{rest}"
    return f"{VAE_PREFIX}{half}.{_replaced(rest, _VAE_ENDS)}"


def is_vae_attention(key: str) -> bool:
    """Whether this weight is a matrix here and a 1 x 1 convolution in LDM."""
    return ".attentions.0.to_" in key and key.endswith("weight")


def clip_name(key: str) -> str:
    """The LDM name of a weight of Stable Diffusion 1's text encoder (CLIP ViT-L/14)."""
    return CLIP_PREFIX + key.removeprefix("text_model.")


def open_clip_name(key: str) -> tuple[str, int | None]:
    """The LDM name of a weight of Stable Diffusion 2's text encoder (OpenCLIP ViT-H/14), and which third of that
    tensor it is: query, key and value are one there; None: all of it.

    Raises:
        KeyError: a weight that it does not have.
    """
    key = key.removeprefix("text_model.")
    layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", key)
    if layer is None:
        return OPEN_CLIP_PREFIX + _OPEN_CLIP_ENDS[key], None
    where = f"{OPEN_CLIP_PREFIX}transformer.resblocks.{layer[1]}."
    third = re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", layer[2])
    if third is not None:
        return f"{where}attn.in_proj_{third[2]}", "qkv".index(third[1])
    return where + _replaced(layer[2], _OPEN_CLIP_LAYER), None


def _with_resnet(key: str) -> str:
    """Names inside the middle block's residual blocks."""
    match = re.fullmatch(r"(middle_block\.[02])\.(.+)", key)
    return f"{match[1]}.{_replaced(match[2], _RESNET)}" if match else key


def _replaced(key: str, names: dict[str, str]) -> str:
    """`key` with its beginning, one of `names`, replaced."""
    for ours, theirs in names.items():
        if key.startswith(ours + "."):
            return theirs + key.removeprefix(ours)
    raise KeyError(f"{key}: no such weight in a Stable Diffusion checkpoint")
