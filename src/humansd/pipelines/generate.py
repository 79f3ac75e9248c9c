"""From prompts and pose files to pictures on disk: what `humansd generate` does.

pose file -> `pose.formats` -> `People` -> `HumanSDPipeline` -> PNG with its settings inside -> contact sheet.
A photograph in place of the pose file goes through an estimator.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from humansd import __version__
from humansd.models.estimators import load_estimator
from humansd.pipelines.guidance import Window
from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
from humansd.pipelines.picture_info import contact_sheet, picture_info, read_png_info, write_png
from humansd.pipelines.pose_files import NamedPose, read_pose_files
from humansd.pipelines.pretrained import load_pipeline
from humansd.pipelines.schedulers import SCHEDULERS, make_scheduler
from humansd.pose.people import People

ROWS_PER_SHEET = 24


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn; see `HumanSDPipeline.prepare_call`. What is None is the model's own.

    steps: denoising steps. guidance, pose_guidance: how strictly text and pose are followed. negative: "" is the plain
    empty prompt. size: (width, height) px. scheduler: a name of `pipelines.schedulers.SCHEDULERS`. guidance_start,
    guidance_end: the share of the steps that are guided at all. rescale: 0..1, against pictures that are too bright.
    clip_skip: so many of the text encoder's last layers are left out.

    Raises:
        ValueError: a value out of its range.
    """

    steps: int | None = None
    guidance: float | None = None
    pose_guidance: float | None = None
    negative: str = ""
    size: tuple[int, int] | None = None
    scheduler: str = ""
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    rescale: float = 0.0
    clip_skip: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least one denoising step is needed, 25 are usual")
        if self.scheduler and self.scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler is {self.scheduler!r}; choose one of {', '.join(SCHEDULERS)}")
        Window("guidance", self.guidance_start, self.guidance_end)

    def settled(self, pipeline: HumanSDPipeline) -> Sampling:
        """The same with the values of `pipeline` where this one names none."""
        own = pipeline.guidance
        steps = pipeline.default_steps if self.steps is None else self.steps
        return replace(self, steps=steps, size=self.size or pipeline.default_size).filled(own.text, own.pose)

    def filled(self, guidance: float, pose_guidance: float) -> Sampling:
        """The same with these where it names none."""
        text = guidance if self.guidance is None else self.guidance
        pose = pose_guidance if self.pose_guidance is None else self.pose_guidance
        return replace(self, guidance=text, pose_guidance=pose)

    def options(self, pipeline: HumanSDPipeline) -> dict[str, Any]:
        """The keyword arguments of a pipeline's call."""
        size = {} if self.size is None else {"width": self.size[0], "height": self.size[1]}
        return {
            "negative_prompt": self.negative,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "pose_guidance": self.pose_guidance,
            "guidance_start": self.guidance_start,
            "guidance_end": self.guidance_end,
            "guidance_rescale": self.rescale,
            "clip_skip": self.clip_skip,
            "scheduler": make_scheduler(self.scheduler, pipeline.scheduler) if self.scheduler else None,
            **size,
        }


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class Job:
    """One picture to draw. Neighbours with the same `row` share a row of the sheet, captioned by it."""

    pose: NamedPose
    prompt: str
    seed: int
    row: str


@dataclass(frozen=True)
class Generated:
    """What was written: the pictures in the order of the jobs, and the contact sheets."""

    pictures: list[Path]
    sheets: list[Path]


def generate_pictures(
    prompts: Sequence[str],
    pose: Path | str,
    out: Path | str,
    *,
    model: str = "pocket",
    n: int = 4,
    seed: int = 0,
    sampling: Sampling = DEFAULT_SAMPLING,
    pose_kind: str = "auto",
    canvas: tuple[int, int] | None = None,
    estimator: str = "higherhrnet",
    source: str = "",
    batch_size: int = 8,
    progress: bool = True,
    say: Callable[[str], object] = lambda line: None,
) -> Generated:
    """Draws `n` pictures of every prompt in every pose and writes them to the folder `out`.

    pose: a pose file, a photograph, or a folder of them. pose_kind "skeleton" declares pictures of drawn skeletons,
    used as they are. canvas: (width, height) in pixels, for pose files that do not say theirs.
    estimator, source: what detects the people of photographs, see `load_estimator`; loaded only for them.
    say: is told in one line what was detected in each photograph.
    Picture i of a pose and prompt has the seed `seed + i`. Names hold pose, prompt and seed; a file
    with other settings is never overwritten, the new one gets a number.
    Raises ValueError (PoseError, ModelError) naming the file or argument and the remedy; also for a pose file
    or photograph with nobody in it.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ValueError("the prompt is empty; say what the picture shows, for example 'photo, a woman running'")
    if n < 1:
        raise ValueError(f"n is {n}; at least one picture is needed")
    seer = functools.partial(load_estimator, estimator, source, "cuda" if torch.cuda.is_available() else "cpu")
    poses = read_pose_files(Path(pose), kind=pose_kind, canvas=canvas, estimator=seer, say=say)
    pipeline = load_pipeline(model)
    jobs = [
        Job(one, prompt, seed + i, f"{one.name}: {prompt}")
        for one, prompt in itertools.product(poses, prompts)
        for i in range(n)
    ]
    return draw_jobs(
        pipeline, jobs, Path(out), model=model, sampling=sampling, batch_size=batch_size, progress=progress
    )


def draw_jobs(
    pipeline: HumanSDPipeline,
    jobs: Sequence[Job],
    out: Path,
    *,
    model: str,
    sampling: Sampling = DEFAULT_SAMPLING,
    batch_size: int = 8,
    progress: bool = True,
) -> Generated:
    """Draws the jobs in batches, writes each picture when it is done, and the contact sheets at the end.

    model: the name that is written into the pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    pipeline.set_progress_bar_config(disable=True)
    sampling = sampling.settled(pipeline)
    assert sampling.size is not None
    assert sampling.steps is not None
    width, height = sampling.size
    settings = {"humansd": __version__, "model": model, **asdict(sampling), "size": [width, height]}
    pictures: list[Path] = []
    with tqdm(total=len(jobs) * sampling.steps, unit="step", disable=not progress) as bar:
        for batch in _batches(jobs, batch_size):
            images = draw_batch(pipeline, batch, sampling, functools.partial(bar.update, len(batch)))
            for job, image in zip(batch, images, strict=True):
                info = _info(job, settings, (width, height))
                stem = f"{slug(job.pose.name, 64)}_{slug(job.prompt)}_seed{job.seed}"
                pictures.append(write_png(free_name(out, stem, info), image, info))
    return Generated(pictures, _write_sheets(pipeline, jobs, pictures, out))


def free_name(out: Path, stem: str, info: Mapping[str, Any]) -> Path:
    """out/stem.png, or out/stem-2.png ...: the first that is free or was made with exactly this `info`."""
    for number in itertools.count(1):
        path = out / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        if not path.exists() or _has_info(path, info):
            return path
    raise AssertionError("count() has no end")


def slug(text: str, length: int = 32) -> str:
    """`text` as part of a file name: letters, digits and "_", words joined by "-"."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:length].rstrip("-") or "x"


def _has_info(path: Path, info: Mapping[str, Any]) -> bool:
    try:
        return read_png_info(path) == info
    except ValueError:
        return False


def _batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    return (jobs[start : start + size] for start in range(0, len(jobs), size))


def draw_batch(
    pipeline: HumanSDPipeline,
    batch: Sequence[Job],
    sampling: Sampling,
    step_done: Callable[[], object] = lambda: None,
) -> list[Image.Image]:
    """One picture per job; noise comes from the job's own seed, so the batch does not matter.

    step_done: called after every denoising step.
    """

    def callback(*_: Any) -> dict[str, Any]:
        step_done()
        return {}

    output = pipeline(
        [job.prompt for job in batch],
        [job.pose.pose for job in batch],
        pose_kind="skeleton" if isinstance(batch[0].pose.pose, np.ndarray) else "people",
        **sampling.options(pipeline),
        generator=[torch.Generator().manual_seed(job.seed) for job in batch],
        callback_on_step_end=callback,
    )
    assert isinstance(output, HumanSDOutput)
    return list(output.images)


def _info(job: Job, settings: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The record of one picture; its key points are in pixels of that picture."""
    people = job.pose.pose.fit(*size) if isinstance(job.pose.pose, People) else None
    settings = {**settings, "pose": job.pose.name}
    negative = settings["negative"]
    return picture_info(job.prompt, negative_prompt=negative, seed=job.seed, people=people, settings=settings)


def _write_sheets(pipeline: HumanSDPipeline, jobs: Sequence[Job], pictures: Sequence[Path], out: Path) -> list[Path]:
    """Sheets of `ROWS_PER_SHEET` rows: the skeleton as the model saw it, then its pictures."""
    pairs = itertools.groupby(zip(jobs, pictures), key=lambda pair: (pair[0].row, pair[0].pose.name))
    groups = [list(group) for _, group in pairs]
    sheets = []
    for page, start in enumerate(range(0, len(groups), ROWS_PER_SHEET), start=1):
        rows, names = [], []
        for group in groups[start : start + ROWS_PER_SHEET]:
            first = group[0][0]
            skeleton = pipeline.draw(first.pose.pose)
            assert skeleton is not None  # every job has a pose
            rows.append((skeleton, [_opened(path) for _, path in group], first.row))
            names.append([path.name for _, path in group])
        stem, info = "sheet" if page == 1 else f"sheet-page{page}", {"rows": names}
        sheets.append(write_png(free_name(out, stem, info), contact_sheet(rows), info))
    return sheets


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
