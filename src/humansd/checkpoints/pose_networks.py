"""Published ControlNets and T2I-Adapters of one file, as networks of diffusers.

ControlNet (lllyasviel): `control_model.*`, alone or beside the whole Stable Diffusion that it belongs to. T2I-Adapter
(TencentARC): `conv_in`, `body.N.block1` ..., the full network of `num_res_blocks` blocks a level. A file taken out of a
diffusers folder, which has diffusers' names, is read too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from torch import Tensor, nn

from humansd.checkpoints.original_format import MODEL_FAMILIES, ModelFamily, read_single_file
from humansd.models.folders import check_fit

CONTROL = "control_model."  # begins the names of a ControlNet in a file that holds a Stable Diffusion too
DIFFUSERS_HINT = "controlnet_cond_embedding.conv_in.weight"  # a weight that has this name in diffusers' layout alone
LEVELS = 4  # resolutions of Stable Diffusion's UNet, for each of which the adapter has as many blocks
HINTS = (16, 32, 96, 256)  # channels of the drawing's embedding
_BODY = re.compile(r"body\.(\d+)\.(block1|block2|in_conv)\.(weight|bias)")
# The same in diffusers' names: level, block and the rest.
_LEVEL = re.compile(r"body\.(\d+)\.(?:resnets\.(\d+)\.)?((?:block1|block2|in_conv)\.(?:weight|bias))")
_ADAPTER_BEGINS = ("adapter.", "module.")


def read_controlnet(file: Path, layouts: tuple[ModelFamily, ...] = MODEL_FAMILIES) -> ControlNetModel:
    """A ControlNet of Stable Diffusion 1 or 2 from one file, in the file's precision.

    Raises:
        OSError: no such file. ValueError: no checkpoint, another network, or weights that are missing or left over.
    """
    state = read_single_file(file)
    if DIFFUSERS_HINT in state:
        return _of_diffusers(state, file, layouts)
    if any(key.startswith(CONTROL) for key in state):
        state = {key.removeprefix(CONTROL): weight for key, weight in state.items() if key.startswith(CONTROL)}
    width = state.get("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight")
    if width is None or "input_hint_block.0.weight" not in state:
        raise ValueError(
            f"{file}: no ControlNet: it has no {CONTROL}input_hint_block; give a file such as "
            "control_v11p_sd15_openpose.pth"
        )
    network = _untrained(width, file, layouts)
    found = convert_controlnet_checkpoint(dict(state), network.config)
    if any(weight is None for weight in found.values()):
        missing = next(key for key, weight in found.items() if weight is None)
        raise ValueError(f"{file}: has no weight for {missing}; give the whole download")
    if len(found) < len(state):
        raise ValueError(f"{file}: {len(state)} weights, of which a ControlNet has {len(found)}; another network")
    return _filled(network, found, file)


def _of_diffusers(state: dict[str, Tensor], file: Path, layouts: tuple[ModelFamily, ...]) -> ControlNetModel:
    """A ControlNet whose weights have diffusers' names already, as in a file taken out of its folder."""
    width = state.get("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight")
    if width is None:
        raise ValueError(f"{file}: a ControlNet without attention to a text; give one of Stable Diffusion 1 or 2")
    network: ControlNetModel = _filled(_untrained(width, file, layouts), state, file)
    return network


def _untrained(reads: Tensor, file: Path, layouts: tuple[ModelFamily, ...]) -> ControlNetModel:
    """The empty network of the family that is told by a weight which reads the text, (any, width of the text)."""
    layout = next((one for one in layouts if one.unet["cross_attention_dim"] == reads.shape[1]), None)
    if layout is None:
        raise ValueError(f"{file}: its text is {reads.shape[1]} wide; known are Stable Diffusion 1 and 2")
    with torch.device("meta"):
        unet = UNet2DConditionModel(in_channels=4, **layout.unet)
        return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINTS, load_weights_from_unet=False)


def read_t2i_adapter(file: Path) -> T2IAdapter:
    """A full T2I-Adapter from one file, in the file's precision; its sizes are read from the weights.

    Raises:
        OSError: no such file. ValueError: no checkpoint, another network, or weights that are missing or left over.
    """
    state = read_single_file(file)
    for begin in _ADAPTER_BEGINS:
        state = {key.removeprefix(begin): weight for key, weight in state.items()}
    state = _with_published_names(state)
    blocks = sorted({int(match[1]) for key in state if (match := _BODY.fullmatch(key))})
    if "conv_in.weight" not in state or not blocks:
        raise ValueError(
            f"{file}: no full T2I-Adapter: it has no conv_in and body.0.block1; give a file such as "
            "t2iadapter_openpose_sd14v1.pth"
        )
    weights = [state.get(f"body.{number}.block1.weight") for number in range(len(blocks))]
    widths = [weight.shape[0] for weight in weights if weight is not None]
    if len(widths) < len(blocks) or len(blocks) % LEVELS:
        raise ValueError(f"{file}: {len(widths)} whole blocks, not as many on each of {LEVELS} levels; load it again")
    per_level = len(blocks) // LEVELS
    channels = widths[::per_level]
    unshuffle = _whole_root(state["conv_in.weight"].shape[1] / 3)
    if unshuffle is None:
        raise ValueError(f"{file}: reads {state['conv_in.weight'].shape[1]} channels, no RGB drawing; another adapter")
    with torch.device("meta"):
        network = T2IAdapter(
            in_channels=3,
            channels=channels,
            num_res_blocks=per_level,
            downscale_factor=unshuffle,
            adapter_type="full_adapter",
        )
    return _filled(network, {_adapter_name(key, per_level): weight for key, weight in state.items()}, file)


READERS: dict[str, Callable[[Path], Any]] = {
    "controlnet": read_controlnet,
    **dict.fromkeys(("t2i-adapter", "t2i-adapter-dots", "t2i-adapter-masks", "dual-adapter"), read_t2i_adapter),
}


def read_pose_network(file: Path, method: str) -> Any:
    """The network of a method from one file. Errors as of its reader, and for a method without published files."""
    if method not in READERS:
        raise ValueError(f"{file}: method {method!r} has no published files; known are {', '.join(READERS)}")
    return READERS[method](file)


def convert_pose_network(file: Path, method: str, out: Path) -> int:
    """Writes the network of one file as a folder for `--pose-network`; returns how many parameters it has."""
    network = read_pose_network(file, method)
    network.save_pretrained(out)
    return sum(one.numel() for one in network.parameters())


def _with_published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's weights, without what begins their names, under its authors' names where they have diffusers'."""
    matches = {key: match for key in state if (match := _LEVEL.fullmatch(key))}
    if not any(match[2] for match in matches.values()):
        return state
    per_level = 1 + max(int(match[2] or 0) for match in matches.values())
    numbers = {key: int(match[1]) * per_level + int(match[2] or 0) for key, match in matches.items()}
    names = {key: f"body.{numbers[key]}.{match[3]}" for key, match in matches.items()}
    return {names.get(key, key): weight for key, weight in state.items()}


def _adapter_name(key: str, per_level: int) -> str:
    """diffusers' name of a weight; another one stays as it is and is told of as left over."""
    match = _BODY.fullmatch(key)
    if match is None:
        return f"adapter.{key}"
    level, block = divmod(int(match[1]), per_level)
    inside = "in_conv" if match[2] == "in_conv" else f"resnets.{block}.{match[2]}"
    return f"adapter.body.{level}.{inside}.{match[3]}"


def _filled(network: Any, state: dict[str, Tensor], file: Path) -> Any:
    check_fit(network, state, str(file), "give the whole download of a network of Stable Diffusion 1 or 2")
    nn.Module.load_state_dict(network, state, assign=True)
    return network.eval()


def _whole_root(value: float) -> int | None:
    root = round(value**0.5)
    return root if root * root == value else None
