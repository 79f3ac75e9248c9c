"""What a UNet in training draws now: the images that a run logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from humansd.data.image_cache import ImageCache
from humansd.inference.image_info import contact_sheet
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.render import HUMANSD_STYLE, draw_people

PREVIEWS, PREVIEWS_AT_ONCE = 8, 2  # few at once: their decoding takes memory beside the run's own


@torch.no_grad()
def save_previews(pipeline: HumanSDPipeline, image_cache: ImageCache, path: Path) -> None:
    """A sheet of skeleton | image, for the same few poses and captions of the data, always with the same seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.linspace(0, len(image_cache) - 1, PREVIEWS).astype(int)
    people = [image_cache.people[row] for row in rows]
    prompts = [image_cache.captions[row][0] for row in rows]
    pipeline.set_progress_bar_config(disable=True)
    images: list[Any] = []
    for at in range(0, PREVIEWS, PREVIEWS_AT_ONCE):
        few = slice(at, at + PREVIEWS_AT_ONCE)
        asked: dict[str, Any] = {"num_inference_steps": 20, "guidance_scale": 4.0, "seed": at, "return_dict": False}
        images += pipeline(prompts[few], people[few], **asked)[0]
    rows_of_sheet = [
        (draw_people(one, HUMANSD_STYLE), [image], prompt)
        for one, image, prompt in zip(people, images, prompts, strict=True)
    ]
    contact_sheet(rows_of_sheet).save(path)
