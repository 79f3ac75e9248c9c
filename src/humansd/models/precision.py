"""How a device computes fastest: arithmetic, attention, compilation."""

from __future__ import annotations

import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:  # seconds, which not every command needs
    from diffusers import UNet2DConditionModel


def fast_bf16(device: torch.device | str) -> bool:
    """Whether `device` multiplies bf16 faster than fp32.

    On a CPU: the instruction set has `avx512_bf16` or `amx_bf16` (measured: 1.5 times the training samples per second
    of fp32 for the pocket UNet). False where the CPU's flags cannot be read.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


DTYPES = ("auto", "fp32", "fp16", "bf16")


def inference_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """The precision in which a model draws on `device`; "auto": bf16 where the device multiplies it fast (`fast_bf16`),
    else fp16 on a GPU, fp32 on a CPU.

    Raises:
        ValueError: another name.
    """
    known = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if name in known:
        return known[name]
    if name != "auto":
        raise ValueError(f"dtype is {name!r}; choose one of {', '.join(DTYPES)}")
    if fast_bf16(device):
        return torch.bfloat16
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32


FUSED_FROM = 64  # positions a side of a latent


def use_fast_attention(unet: UNet2DConditionModel, device: torch.device | str, side: int | None = None) -> None:
    """Gives `unet` the attention that trains fastest on `device`; weights and results stay the same.

    On a CPU and small latents that is attention written out as matrix products: PyTorch's fused one does not reach the
    bf16 units in its backward pass (measured: 1.3 times the training samples per second for the pocket UNet). From
    `FUSED_FROM` positions a side on, the scores are so large that the fused one is faster (measured: up to 2.7 times),
    and it keeps none of them. What draws without gradients stays with diffusers' choice, the fused one.

    side: of the latents; default: what the UNet was made for.
    """
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    if torch.device(device).type == "cpu":
        size = side or getattr(unet.config, "sample_size", None) or FUSED_FROM
        shortest = size if isinstance(size, int) else min(size)
        unet.set_attn_processor(AttnProcessor() if shortest < FUSED_FROM else AttnProcessor2_0())


def compiled(module: nn.Module, device: torch.device | str) -> Callable[..., Any]:
    """`module` through `torch.compile` where `can_compile`, else as it is. Its first call takes a minute or two.

    Measured for the pocket UNet on a CPU: 1.2 times the training samples per second.
    """
    if not can_compile(device):
        return module
    # diffusers asks for PyTorch's version inside its layers, which is worth a warning to PyTorch alone.
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
    return torch.compile(module)


def can_compile(device: torch.device | str) -> bool:
    """Whether `torch.compile` finds what it needs for `device`: Python's headers and a compiler.

    C++ for a CPU; C for CUDA, whose kernels need a launcher.
    """
    cuda = torch.device(device).type == "cuda"
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang") if cuda else (os.environ.get("CXX", "g++"),)
    return any(map(shutil.which, compilers)) and (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()
