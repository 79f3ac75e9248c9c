"""Diffusers pipelines: pose and prompt in, images with their settings inside out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansd.pipelines.guidance import Guidance
    from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
    from humansd.pipelines.image_to_image import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline
    from humansd.pipelines.start_images import repose_mask

__all__ = [
    "Guidance",
    "HumanSDImg2ImgPipeline",
    "HumanSDInpaintPipeline",
    "HumanSDOutput",
    "HumanSDPipeline",
    "repose_mask",
]

# Where each name is defined; imported when it is asked for, so that names and numbers are checked without torch.
_HOMES = {
    "Guidance": "guidance",
    "HumanSDImg2ImgPipeline": "image_to_image",
    "HumanSDInpaintPipeline": "image_to_image",
    "HumanSDOutput": "humansd",
    "HumanSDPipeline": "humansd",
    "repose_mask": "start_images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
