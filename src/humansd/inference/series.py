"""One scene, several poses: images of one prompt and one seed, drawn in one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image

from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.shared_attention import begin_at, shared_attention
from humansd.pose.people import People


def draw_series(
    pipeline: HumanSDPipeline,
    prompts: str | Sequence[str],
    poses: Sequence[People | None],
    seeds: int | Sequence[int],
    *,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    shared: bool = False,
) -> list[Image.Image]:
    """An image for each pose; those of one seed begin with one noise.

    Args:
        prompts, seeds: of all, or one for each pose.
        shared: all read the first image's keys and values (`pipelines.shared_attention`); they are then one series,
            and what an image shows depends on the first.

    Raises:
        ValueError: as a call of the pipeline does.
    """
    seeds = [seeds] * len(poses) if isinstance(seeds, int) else list(seeds)
    prompts = [prompts] * len(poses) if isinstance(prompts, str) else list(prompts)
    sampling = sampling.resolved(pipeline)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    asked: dict[str, Any] = {**sampling.options(pipeline), "generator": generators}
    steps = sampling.num_inference_steps or pipeline.default_steps
    with shared_attention(pipeline.unet, len(poses)) if shared else nullcontext() as attention:
        if attention is not None:
            asked["callback_on_step_end"] = begin_at(attention, steps)
        out: Any = pipeline(prompts, list(poses), **asked)
    return list(out.images)
