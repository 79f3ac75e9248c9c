"""Diffusers pipelines: pose and prompt in, pictures with their settings inside out."""

from humansd.pipelines.humansd import Guidance, HumanSDOutput, HumanSDPipeline

__all__ = ["Guidance", "HumanSDOutput", "HumanSDPipeline"]
