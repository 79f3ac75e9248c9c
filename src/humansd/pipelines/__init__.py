"""Diffusers pipelines: pose and prompt in, images with their settings inside out."""

from humansd.pipelines.guidance import Guidance
from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
from humansd.pipelines.image_to_image import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline, repose_mask

__all__ = [
    "Guidance",
    "HumanSDImg2ImgPipeline",
    "HumanSDInpaintPipeline",
    "HumanSDOutput",
    "HumanSDPipeline",
    "repose_mask",
]
