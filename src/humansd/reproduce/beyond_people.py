"""Robots, statues and animals in given poses (HumanSD, sec. 5.4): texts and key points for a user's own weights.

The pocket model has learnt people alone; the set is for models that start from Stable Diffusion. Poses were set by
hand; of animals the fore legs stand for arms and the hind legs for legs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from humansd.inference.generate import Generated, Job, Model, draw_jobs
from humansd.inference.pose_files import NamedPose
from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.pose.people import People

KINDS = ("robot", "statue", "animal")


def beyond_people(kinds: Sequence[str] = KINDS) -> list[tuple[NamedPose, str]]:
    """(pose, prompt) of every entry of these kinds; poses on a canvas of 512 x 512 px, COCO-17.

    Raises:
        ValueError: a kind that is not known.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"kind {unknown[0]!r} is not known; choose of {', '.join(KINDS)}")
    entries = json.loads(resources.files(__package__).joinpath("beyond_people.json").read_text())
    return [
        (NamedPose(one["name"], People.of(np.array([one["keypoints"]], float), tuple(one["canvas"]))), one["prompt"])
        for one in entries
        if one["kind"] in kinds
    ]


def draw_beyond_people(
    model: Model,
    out: Path,
    *,
    kinds: Sequence[str] = KINDS,
    n: int = 1,
    seed: int = 0,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    batch_size: int = 4,
    progress: bool = True,
) -> Generated:
    """Draws `n` images of every entry, and sheets of poses beside images; the same call goes on after a stop.

    Raises:
        ValueError, OSError: an unknown kind, or what `Model.load` and `draw_jobs` refuse.
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"n is {n}, batch_size {batch_size}; both must be 1 or more")
    entries = beyond_people(kinds)
    jobs = [
        Job(pose, prompt, seed + number, f"{pose.name}: {prompt}") for pose, prompt in entries for number in range(n)
    ]
    pipeline = model.load()
    return draw_jobs(pipeline, jobs, out, model=model, sampling=sampling, batch_size=batch_size, progress=progress)
