"""Low-rank changes of a UNet (LoRA, Hu et al. 2022) as files: diffusers' names, safetensors."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "pytorch_lora_weights.safetensors"
_PREFIX = "unet."


def read_unet_lora(path: Path) -> dict[str, Tensor]:
    """The layers of a file, or of the folder that a distillation exported, fp32, under the UNet's own names.

    Raises:
        ValueError: no such file, not safetensors, or not a LoRA of a UNet.
    """
    file = path / WEIGHTS if path.is_dir() else path
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{file}: cannot be read ({reason}); name a LoRA, such as pocket-one-branch's") from None
    if not tensors or not all(name.startswith(_PREFIX) and ".lora_" in name for name in tensors):
        raise ValueError(f"{file}: holds something else than a LoRA of a UNet; name one, such as pocket-one-branch's")
    return {name.removeprefix(_PREFIX): one.float() for name, one in tensors.items()}


def write_unet_lora(layers: dict[str, Tensor], path: Path) -> None:
    """Writes what `read_unet_lora` gives in fp16, half the size, as diffusers' `load_lora_weights` reads it."""
    half = {f"{_PREFIX}{name}": one.half().contiguous() for name, one in layers.items()}
    save_file(half, path, metadata={"format": "pt"})
