"""A figure like HumanSD's figure 4: what the heatmap-guided loss sees at several timesteps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from humansd.core.arrays import ImageArray
from humansd.data.image_cache import to_unit
from humansd.data.shards import read_shards
from humansd.evaluation.sources import Cut
from humansd.inference.image_info import contact_sheet, write_png
from humansd.inference.pretrained import load_pipeline
from humansd.models.codec import decode_latents, encode_images
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.schedulers import make_scheduler
from humansd.pose.render import draw_people
from humansd.training.denoising import DenoisingLoss
from humansd.training.heatmap_weighting import HeatmapWeighter, make_loss_weighter
from humansd.training.settings import DiffusionSettings
from humansd.training.teachers import POCKET

TIMESTEPS = (100, 300, 500, 700, 900)
COLUMNS = "skeleton | noisy image | decoded noise difference | heatmaps | weight"


@torch.no_grad()
def draw_figure4(
    model: str,
    data: Path,
    out: Path,
    *,
    estimator: str = "",
    sample: int = 0,
    timesteps: Sequence[int] = TIMESTEPS,
    seed: int = 0,
) -> Path:
    """Writes the figure to the PNG `out`: a row per timestep with the noisy image, the decoded difference of
    predicted and true noise, the heatmaps that the estimator finds in it (their maximum), and the loss's weight. The
    noise is the same in every row.

    Args:
        model: HumanSD's name, folder or hub id. data: shards; `sample`: which of them, from 0, cut to the
            model's size.
        estimator: folder of a HigherHRNet; "": the one that ships.

    Raises:
        ValueError: a timestep that the noise schedule has not, a sample that the data have not, or an estimator that
            is made for images of another size.
    """
    pipeline = load_pipeline(model, variant="full")
    pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler)  # samplers know no targets of training
    known = pipeline.scheduler.config.num_train_timesteps
    if wrong := [t for t in timesteps if not 0 <= t < known]:
        raise ValueError(f"timestep {wrong[0]}: the noise schedule has 0 to {known - 1}")
    found = next(itertools.islice(read_shards(data), sample, None), None)
    if found is None:
        raise ValueError(f"{data}: holds no sample number {sample}; count from 0")
    shown = Cut.of(found, pipeline.default_size)
    settings = DiffusionSettings(method="humansd", loss="heatmap", estimator=estimator or POCKET, heatmap_strength=1.0)
    guide = make_loss_weighter(settings, pipeline.vae, min(pipeline.default_size))
    assert isinstance(guide, HeatmapWeighter)
    denoising = DenoisingLoss(settings, pipeline.networks, pipeline.scheduler, guide)
    denoising.prepare(pipeline.unet.device)
    rows = [
        (
            draw_people(shown.people, pipeline.style, pipeline.default_size),
            _row(pipeline, denoising, guide, shown, t, torch.Generator().manual_seed(seed)),
            f"t = {t}: {COLUMNS}",
        )
        for t in timesteps
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_png(out, contact_sheet(rows), {"sample": shown.key, "timesteps": list(timesteps), "seed": seed})
    return out


def _row(
    pipeline: HumanSDPipeline,
    denoising: DenoisingLoss,
    guide: HeatmapWeighter,
    sample: Cut,
    timestep: int,
    generator: torch.Generator,
) -> list[ImageArray]:
    size = pipeline.default_size
    assert sample.image is not None
    latents = encode_images(pipeline.vae, to_unit(sample.image[None]).to(pipeline.device))
    pose = pipeline.encode_pose([sample.people], width=size[0], height=size[1])
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    t = torch.tensor([timestep], device=latents.device)
    batch = {"latents": latents, "pose": pose, "noise": noise, "timesteps": t}
    difference = denoising.missed(*denoising.predict(batch | {"text": pipeline.encode_prompt([sample.caption])}))
    heat = guide.teacher.heatmaps(difference, guide.settings.heatmap_resolutions)
    weight = guide.weight(difference, ())
    noisy = pipeline.scheduler.add_noise(latents, noise, t)
    return [
        _decoded(pipeline, noisy),
        _decoded(pipeline, difference),
        _colored(heat[0].amax(0).clamp(0, 1), size),
        _colored(weight[0, 0] - 1, size),
    ]


def _decoded(pipeline: HumanSDPipeline, latents: Tensor) -> ImageArray:
    image = decode_latents(pipeline.vae, latents).float()[0].clamp(-1, 1)
    return ((image + 1) * 127.5).round().permute(1, 2, 0).cpu().numpy().astype(np.uint8)


def _colored(values: Tensor, size: tuple[int, int]) -> ImageArray:
    """0..1, (h, w), as colours from dark blue to yellow, enlarged to `size` (width, height) without smoothing."""
    grey = (values.cpu().numpy() * 255).round().astype(np.uint8)
    colored = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return np.asarray(Image.fromarray(colored).resize(size, Image.Resampling.NEAREST))
