"""What memory a run will take, estimated from shapes alone: nothing is allocated, loaded or downloaded."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from humansd.models.precision import fast_bf16
from humansd.training.counting import activation_bytes, frozen_bytes
from humansd.training.settings import LoopSettings, PocketRecipe
from humansd.training.tasks.table import task_class

PROGRAM_GB = (
    0.6  # Python, PyTorch and what they load in a process that trains on a CPU (measured 0.5), and small change
)


def estimate_memory(settings: LoopSettings | PocketRecipe) -> dict[str, Any]:
    """The memory of a run in one process, GB, by what takes it, and what the estimate takes for granted; of a recipe,
    by stage.

    The peak is lower where gradients take the place of activations that the backward pass is done with, and higher
    where the allocator does not give back at once what was freed.

    Raises:
        ValueError: a batch that is no multiple of its parts, or networks that do not fit each other.
    """
    if isinstance(settings, PocketRecipe):
        stages = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        return {name: estimate_memory(one) for name, one in stages.items() if isinstance(one, LoopSettings)}
    device, half = arithmetic(settings)
    samples = settings.share(1)
    with torch.device("meta"):
        shapes = task_class(settings).shapes(settings)
    try:
        plain = activation_bytes(shapes, samples, device, half, checkpointing=False)
        saving = plain
        if shapes.unet is not None:
            saving = activation_bytes(shapes, samples, device, half, checkpointing=True)
    except RuntimeError as error:
        raise ValueError(
            f"{shapes.name}: its networks do not fit each other ({str(error).splitlines()[0]}); name a base and parts "
            "of one family, --set base_model=FOLDER --set components=FOLDER"
        ) from error
    count = sum(p.numel() for p in shapes.learns.parameters())
    sizes = weight_bytes(count, ema=settings.ema_decay > 0)
    frozen = {name: 4 * sum(p.numel() for p in one.parameters()) for name, one in shapes.frozen.items()}
    sizes["frozen"] = sum(frozen.values())
    guiding = 0 if shapes.guiding is None else frozen_bytes(lambda: shapes.guiding(samples), device, half)
    sums = {}
    for name, one in {"off": plain, "on": saving}.items():
        # What guides the loss is computed while the activations are kept, and is gone before the backward pass.
        working = {"backward": one["working"], **({"the loss's guide": guiding} if guiding else {})}
        sums[name] = {"activations": one["activations"], "working": max(working.values())}, working
    used, working = sums["on" if getattr(settings, "gradient_checkpointing", False) else "off"]
    sizes |= used
    numbers = {name: size / 1e9 for name, size in sizes.items()} | ({"program": PROGRAM_GB} if device == "cpu" else {})
    result: dict[str, Any] = {
        "network": f"{shapes.name}, {count / 1e6:.1f} M parameters learn",
        "gb": _rounded(numbers | {"total": sum(numbers.values())}, 1),
    }
    if frozen:
        result["frozen_gb"] = _rounded(frozen)
    if guiding:
        result["working_gb"] = _rounded(working)
    if shapes.unet is not None:
        both = {f"gradient_checkpointing {name}": sum(one.values()) for name, (one, _) in sums.items()}
        result["activations_and_working_gb"] = _rounded(both)
    if shapes.caching is not None:
        first = sizes["weights"] + sizes["frozen"] + frozen_bytes(shapes.caching, device, half)
        result["before_the_first_step_gb"] = _rounded({"weights, frozen, encoding the images": first})
    return result | {"assumes": _assumptions(device, half, samples)}


def _rounded(sizes: dict[str, float] | dict[str, int], unit: float = 1e9) -> dict[str, float]:
    return {name: round(size / unit, 3) for name, size in sizes.items()}


def weight_bytes(parameters: int, *, ema: bool) -> dict[str, int]:
    """What so many learning parameters take in fp32, by what they are kept for; AdamW keeps two moments."""
    each = {"weights": 4, "gradients": 4, "AdamW": 8, "averages": 4 if ema else 0}
    return {name: parameters * size for name, size in each.items()}


def arithmetic(settings: LoopSettings) -> tuple[str, bool]:
    """The kind of device that a run will use, and whether it multiplies in 16 bits there.

    A dry run may ask for a GPU that is elsewhere; such a one is taken to be fast at bf16.
    """
    here = torch.cuda.is_available()
    device = settings.device if settings.device != "auto" else ("cuda" if here else "cpu")
    if settings.mixed_precision != "auto":
        return device, settings.mixed_precision != "no"
    return device, fast_bf16(device) if device == "cpu" or here else True


def _assumptions(device: str, half: bool, samples: int) -> list[str]:
    numbers = "16 bits where autocast computes in them, beside a copy of the weights in them" if half else "fp32"
    driver = ", the driver's own (about 0.5 GB)" if device == "cuda" else ""
    return [
        f"{device}, one process, {samples} samples at a time; {numbers}",
        f"not counted: the data, previews, evaluation, compiled code, work space of single operations{driver}",
    ]
