"""Sixty-four images with fixed seeds on one sheet, none picked: half in Atelier's poses, half in real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from humansd.core.arrays import ImageArray
from humansd.core.files import write_whole
from humansd.data.real_poses import EVALUATION_COUNT, EVALUATION_SEED
from humansd.evaluation.pose_sets import PoseSet, read_pose_set
from humansd.evaluation.sources import Cut
from humansd.inference.generate import Job, draw_batch
from humansd.inference.pose_files import NamedPose
from humansd.inference.pretrained import load_pipeline
from humansd.inference.sampling import DEFAULT_SAMPLING
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.render import HUMANSD_STYLE, draw_people
from humansd.synthetic.render import make_sample

ATELIER_SEED = 900_003  # no training uses it
COLUMNS = 8
GAP = 4  # px
SIDES = (192, 96)  # px of an image on the sheet, and of the skeleton under it


def draw_pose_sheet(
    out: Path,
    real_poses: Path,
    *,
    model: str = "pocket",
    variant: str = "",
    count: int = 64,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str = "auto",
) -> Path:
    """Draws the first `count` / 2 poses of Atelier's set `ATELIER_SEED`, and as many of the real images that are kept
    for evaluation, evenly taken from those in the order of their names; writes the sheet, a PNG, to `out`.

    Image i has the seed `seed` + i. Under each lies its skeleton, as the model was shown it.

    Raises:
        ValueError, OSError: as `read_pose_set` and `load_pipeline`; a count that is odd or below 2; or fewer real
            images than that.
    """
    if count < 2 or count % 2:
        raise ValueError(f"count is {count}; it must be even, half of each kind of pose")
    try:
        poses = read_pose_set(real_poses, count=EVALUATION_COUNT, seed=EVALUATION_SEED)
    except ValueError:  # it has fewer
        poses = read_pose_set(real_poses)
    pipeline = load_pipeline(model, device, dtype=dtype, variant=variant)
    pipeline.set_progress_bar_config(disable=True)
    size = pipeline.default_size
    wanted = [*_of_atelier(count // 2, size), *_of_real(poses, count // 2, size)]
    images = _drawn(pipeline, wanted, seed, batch_size)
    sheet = lay_out(images, [draw_people(cut.people, HUMANSD_STYLE) for cut in wanted])
    write_whole(out, lambda stream: sheet.save(stream, format="PNG"))
    return out


def _of_atelier(count: int, size: tuple[int, int]) -> list[Cut]:
    side = min(max(size), 1024)
    return [Cut.of(make_sample(ATELIER_SEED, index, max(64, side)), size) for index in range(count)]


def _of_real(poses: PoseSet, count: int, size: tuple[int, int]) -> list[Cut]:
    every = list(poses.cuts(size))
    if len(every) < count:
        raise ValueError(
            f"{poses.name}: shows somebody in {len(every)} images, {count} are asked for; use a lower count"
        )
    return [every[i] for i in np.linspace(0, len(every) - 1, count).round().astype(int)]


def _drawn(pipeline: HumanSDPipeline, cuts: Sequence[Cut], seed: int, batch_size: int) -> list[Image.Image]:
    jobs = [Job(NamedPose(cut.key, cut.people), cut.caption, seed + i, "") for i, cut in enumerate(cuts)]
    batches = (jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size))
    return [image for batch in batches for image in draw_batch(pipeline, batch, DEFAULT_SAMPLING)]


def lay_out(images: Sequence[Image.Image], skeletons: Sequence[ImageArray]) -> Image.Image:
    """Rows of `COLUMNS` images, each with its skeleton under it."""
    large, small = SIDES
    rows = -(-len(images) // COLUMNS)
    width, height = COLUMNS * (large + GAP) + GAP, rows * (large + small + 2 * GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    for number, (image, skeleton) in enumerate(zip(images, skeletons, strict=True)):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (large + GAP), GAP + row * (large + small + 2 * GAP)
        sheet.paste(_fitted(image, large), (left, top))
        sheet.paste(_fitted(Image.fromarray(skeleton), small), (left + (large - small) // 2, top + large + GAP))
    return sheet


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """The image in a square of that side, never stretched."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (side, side), "white")
    square.paste(
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2)
    )
    return square
