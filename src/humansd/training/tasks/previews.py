"""What a UNet in training draws now: the images that a run logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from humansd.inference.image_info import contact_sheet
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.render import HUMANSD_STYLE, draw_people
from humansd.training.tasks.images import Images

PREVIEWS, PREVIEWS_AT_ONCE = 8, 2  # few at once: their decoding takes memory beside the run's own
STEPS = 20  # of denoising


@torch.no_grad()
def save_previews(pipeline: HumanSDPipeline, image_cache: Images, path: Path) -> None:
    """A sheet of skeleton | image, for the same few poses and captions of the data, always with the same seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.linspace(0, len(image_cache) - 1, PREVIEWS).astype(int)
    people = [image_cache.people[row] for row in rows]
    prompts = [image_cache.captions[row][0] for row in rows]
    pipeline.set_progress_bar_config(disable=True)
    images: list[Any] = []
    shapes = {image_cache.canvas(int(row)) for row in rows}
    at_once = PREVIEWS_AT_ONCE if len(shapes) == 1 else 1
    for at in range(0, PREVIEWS, at_once):
        few = slice(at, at + at_once)
        asked: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "seed": at, "return_dict": False}
        asked |= dict(zip(("width", "height"), image_cache.canvas(int(rows[at])), strict=True))
        images += pipeline(prompts[few], people[few], **asked)[0]
    rows_of_sheet = [
        (draw_people(one, HUMANSD_STYLE), [image], prompt)
        for one, image, prompt in zip(people, images, prompts, strict=True)
    ]
    contact_sheet(rows_of_sheet).save(path)
