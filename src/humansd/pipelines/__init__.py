"""Diffusers pipelines: pose and prompt in, pictures with their settings inside out."""

from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline

__all__ = ["HumanSDOutput", "HumanSDPipeline"]
