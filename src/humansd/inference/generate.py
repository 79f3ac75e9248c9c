"""From prompts and pose files to images on disk: what `humansd generate` does.

pose file -> `pose.formats` -> `People` -> `HumanSDPipeline` -> PNG with its settings inside -> contact sheet.
A photograph in place of the pose file goes through an estimator.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from humansd import __version__
from humansd.core.lock import locked
from humansd.inference.image_info import image_info, write_png
from humansd.inference.kept import free_name, kept_image, pixels_record, slug, weights_record
from humansd.inference.pose_files import NamedPose, read_pose_files
from humansd.inference.pretrained import add_weights, load_pipeline
from humansd.inference.prompt_weights import prompt_arguments
from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.inference.sheets import write_sheets
from humansd.inference.start_image import Beginning, Start, read_start
from humansd.inference.words import prepared_negatives, prepared_prompts
from humansd.models.estimators import PHOTO_ESTIMATOR, load_estimator
from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
from humansd.pipelines.inputs import image_seeds
from humansd.pose.people import People


@dataclass(frozen=True)
class Job:
    """One image to draw: of this `pose` and `prompt`, from the noise of `seed`. Neighbours with the same `row` share a
    row of the sheet, captioned by it."""

    pose: NamedPose
    prompt: str
    seed: int
    row: str


@dataclass(frozen=True)
class Generated:
    """The images in the order of the jobs, and the contact sheets. kept: so many images were there already."""

    images: list[Path]
    sheets: list[Path]
    kept: int = 0


@dataclass(frozen=True)
class Model:
    """What draws, and where.

    name: the shipped model's name, a folder or a hub id. device: "auto" is a GPU if there is one. dtype: auto | fp32 |
    fp16 | bf16. compile_unet: by torch.compile. loras: files or hub ids with their scales. embeddings: files of textual
    inversions. method, pose_network, variant, decoder: as of `load_pipeline`.
    """

    name: str = "pocket"
    device: str = "auto"
    dtype: str = "auto"
    compile_unet: bool = False
    loras: tuple[tuple[str, float], ...] = ()
    embeddings: tuple[str, ...] = ()
    method: str = ""
    pose_network: str = ""
    variant: str = ""
    decoder: str = ""

    def load(self) -> HumanSDPipeline:
        """The pipeline. Errors as of `load_pipeline` and `add_weights`."""
        pipeline = load_pipeline(
            self.name,
            self.device,
            dtype=self.dtype,
            compile_unet=self.compile_unet,
            method=self.method,
            pose_network=self.pose_network,
            variant=self.variant,
            decoder=self.decoder,
        )
        add_weights(pipeline, self.loras, self.embeddings)
        return pipeline

    def record(self, pipeline: HumanSDPipeline) -> dict[str, Any]:
        """What an image says of it. pipeline: what `load` gave."""
        added: dict[str, Any] = {"loras": [list(one) for one in self.loras], "embeddings": list(self.embeddings)}
        added |= {"method": self.method, "pose_network": self.pose_network}
        added |= {"variant": pipeline.variant, "decoder": "" if pipeline.tiny_decoder is None else "tiny"}
        beside = [*(source for source, _ in self.loras), *self.embeddings]
        beside += [self.pose_network] if Path(self.pose_network).is_file() else []
        weights = weights_record(pipeline, self.name, beside)
        known = {"model": self.name, "weights": weights, "dtype": str(pipeline.unet.dtype).removeprefix("torch.")}
        return {**known, **{key: value for key, value in added.items() if value}}


def generate_images(
    prompts: Sequence[str],
    pose: Path | str,
    out: Path | str,
    *,
    model: Model | str = "pocket",
    n: int = 4,
    seed: int = 0,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    begin: Beginning | None = None,
    pose_kind: str = "auto",
    canvas: tuple[int, int] | None = None,
    units: str | None = None,
    joints: str | None = None,
    estimator: str = PHOTO_ESTIMATOR,
    source: str = "",
    batch_size: int = 8,
    progress: bool = True,
) -> Generated:
    """Draws `n` images of every prompt in every pose and writes them to the folder `out`.

    pose: a pose file, a photograph, or a folder of them. pose_kind "skeleton" declares images of drawn skeletons,
    used as they are where their colors are not known. canvas: (width, height) in pixels, for pose files that do not say
    theirs. units, joints: of pose files, as `read_poses` has them.
    prompts: a model with few words is told a scene where a prompt names none; those that it does not know are left out
    (of a negative prompt too), and a note names them.
    begin: the image that every drawing begins with; without it, noise.
    estimator, source: what detects the people of photographs, see `load_estimator`; loaded only for them.
    Image i of a pose and prompt has the seed `seed + i`. Names hold pose, prompt and seed; a file
    with other settings is never overwritten, the new one gets a number. One that says it was made of exactly this is
    kept as it is, so that the same call goes on after a stop.
    Raises ValueError (PoseError, ModelError) naming the file or argument and the remedy; also for a pose file
    or photograph with nobody in it.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ValueError("the prompt is empty; say what the image shows, for example 'photo, a woman running'")
    for name, value in (("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    image_seeds(seed, None, n)
    model = Model(model) if isinstance(model, str) else model
    seer = functools.cache(functools.partial(load_estimator, estimator, source, model.device))
    poses = read_pose_files(Path(pose), kind=pose_kind, canvas=canvas, units=units, joints=joints, estimator=seer)
    start = None if begin is None else read_start(begin, seer)
    prompts = prepared_prompts(prompts, model.name)
    (against,) = prepared_negatives([sampling.negative_prompt], model.name)
    sampling = replace(sampling, negative_prompt=against)
    pipeline = model.load()
    jobs = [
        Job(one, prompt, seed + i, f"{one.name}: {prompt}")
        for one, prompt in itertools.product(poses, prompts)
        for i in range(n)
    ]
    return draw_jobs(
        pipeline,
        jobs,
        Path(out),
        model=model,
        sampling=sampling,
        start=start,
        batch_size=batch_size,
        progress=progress,
    )


def draw_jobs(
    pipeline: HumanSDPipeline,
    jobs: Sequence[Job],
    out: Path,
    *,
    model: Model | str,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    start: Start | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> Generated:
    """Draws the jobs in batches, writes each image when it is done, and the contact sheets at the end. A batch whose
    images are all there is not drawn again.

    model: what is written into the images.
    """
    with locked(out, "images", wait=True):
        made = draw_images(pipeline, jobs, out, model, sampling, start, batch_size, progress)
        return replace(made, sheets=write_sheets(pipeline, jobs, made.images, out))


def draw_images(
    pipeline: HumanSDPipeline,
    jobs: Sequence[Job],
    out: Path,
    model: Model | str,
    sampling: SamplingConfig,
    start: Start | None,
    batch_size: int,
    progress: bool,
) -> Generated:
    """As `draw_jobs`, without the sheets and without a lock on the folder."""
    if start is not None:
        pipeline = start.pipeline(pipeline)
        sampling = start.sized(sampling, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    sampling = sampling.resolved(pipeline)
    width, height = sampling.size or pipeline.default_size
    known = (Model(model) if isinstance(model, str) else model).record(pipeline)
    begun = {} if start is None else start.record()
    settings = {"humansd": __version__, **known, **sampling.record(), "size": [width, height], **begun}
    written: list[Path] = []
    kept = 0
    steps = sampling.num_inference_steps or pipeline.default_steps
    running = steps if start is None else max(1, int(steps * start.strength + 1e-9))
    with tqdm(total=len(jobs) * running, unit="step", disable=not progress) as bar:
        for batch in _batches(jobs, batch_size):
            infos = [_info(job, settings, (width, height)) for job in batch]
            there = [kept_image(out, _stem(job), info) for job, info in zip(batch, infos, strict=True)]
            kept += sum(path is not None for path in there)
            if None not in there:
                written += [path for path in there if path is not None]
                bar.update(len(batch) * running)
                continue
            # The whole batch, though some be there: in another one sums are rounded in another order.
            images = draw_batch(pipeline, batch, sampling, functools.partial(bar.update, len(batch)), start)
            for job, image, info, path in zip(batch, images, infos, there, strict=True):
                written.append(path or write_png(free_name(out, _stem(job), info), image, info))
    return Generated(written, [], kept)


def _stem(job: Job) -> str:
    return f"{slug(job.pose.name, 64)}_{slug(job.prompt)}_seed{job.seed}"


def _batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """Neighbors that are drawn at once: people, or skeleton images, and not both."""
    for _, alike in itertools.groupby(jobs, key=lambda job: isinstance(job.pose.pose, np.ndarray)):
        group = list(alike)
        yield from (group[start : start + size] for start in range(0, len(group), size))


def draw_batch(
    pipeline: HumanSDPipeline,
    batch: Sequence[Job],
    sampling: SamplingConfig,
    step_done: Callable[[], object] = lambda: None,
    start: Start | None = None,
) -> list[Image.Image]:
    """One image per job; noise comes from the job's own seed, so the batch does not matter.

    step_done: called after every denoising step. start: the image to begin with; then `pipeline` is that of
    `Start.pipeline`.
    """

    def callback(*_: Any) -> dict[str, Any]:
        step_done()
        return {}

    texts = prompt_arguments(pipeline, [job.prompt for job in batch], sampling.negative_prompt, sampling.clip_skip)
    output = pipeline(
        pose=[job.pose.pose for job in batch],
        pose_kind="skeleton" if isinstance(batch[0].pose.pose, np.ndarray) else "people",
        **(sampling.options(pipeline) | texts),
        **({} if start is None else start.options([job.pose for job in batch])),
        generator=[torch.Generator().manual_seed(job.seed) for job in batch],
        callback_on_step_end=callback,
    )
    assert isinstance(output, HumanSDOutput)
    return list(output.images)


def _info(job: Job, settings: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The record of one image; its key points are in pixels of that image."""
    people = job.pose.pose.fit(*size) if isinstance(job.pose.pose, People) else None
    settings = {**settings, "pose": job.pose.name}
    if isinstance(job.pose.pose, np.ndarray):
        settings["pose_pixels"] = pixels_record(job.pose.pose)
    negative = settings["negative_prompt"]
    return image_info(job.prompt, negative_prompt=negative, seed=job.seed, people=people, settings=settings)
