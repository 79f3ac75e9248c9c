"""Diffusers pipelines: pose and prompt in, pictures with their settings inside out."""

from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
from humansd.pipelines.inputs import Guidance

__all__ = ["Guidance", "HumanSDOutput", "HumanSDPipeline"]
