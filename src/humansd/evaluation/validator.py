"""Whether a run learns, while it runs: fixed poses drawn with fixed seeds and scored by the held-out estimator; for an
estimator, fixed images whose people are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from humansd.core.arrays import ImageArray
from humansd.data.crop import window_for
from humansd.data.sample import Sample
from humansd.data.shards import read_shards
from humansd.evaluation.estimators import look, summarise
from humansd.evaluation.overlay import overlay
from humansd.inference.generate import DEFAULT_SAMPLING, Job, SamplingConfig, draw_batch
from humansd.inference.image_info import contact_sheet, write_png
from humansd.inference.pose_files import NamedPose
from humansd.metrics.counting import count_scores
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.models.clip_similarity import ClipScorer
from humansd.models.estimators import PoseEstimator, load_estimator
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People

SHEET_ROWS = 12
Validator = Callable[[Path, int], dict[str, float]]  # the same as `training.loop.Validator`


class PoseValidator:
    """A `training.loop.Validator`: AP and PCE of fixed samples' poses, and 100 x cosine of images and prompts.

    Each call draws the same samples with the same seeds and writes a sheet, wanted pose | image | people found.
    """

    def __init__(
        self,
        pipeline: Callable[[], HumanSDPipeline],
        samples: Sequence[Sample],
        estimator: PoseEstimator,
        scorer: ClipScorer | None = None,
        *,
        sampling: SamplingConfig,
        count_threshold: float = 0.5,
        batch_size: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """pipeline: gives the pipeline around the weights as they are now. batch_size: images drawn at once; 0: as
        many as 8 of 128 px take of memory. dtype: drawn by autocast in it, where it is not that of the weights.

        Raises:
            ValueError: no samples.
        """
        if not samples:
            raise ValueError("no samples to validate on; name shards that hold some")
        self._pipeline, self._samples = pipeline, samples
        self.estimator, self.scorer, self.dtype = estimator, scorer, dtype
        self._sampling, self._threshold, self._batch_size = sampling, count_threshold, batch_size

    def __call__(self, folder: Path, step: int) -> dict[str, float]:
        """Scores in their own units (AP in 0..1); the sheet is folder/step-N.png."""
        pipeline = self._pipeline()
        pipeline.set_progress_bar_config(disable=True)
        size = pipeline.default_size
        jobs = []
        for seed, sample in enumerate(self._samples):
            pose = NamedPose(sample.key, _cut(sample.people, size))
            jobs.append(Job(pose, sample.caption, seed, sample.caption))
        images = self._drawn(pipeline, jobs)
        found = self.estimator.detect(images)
        pairs = [(_people(job), people) for job, people in zip(jobs, found, strict=True)]
        scores = {"ap": keypoint_scores(pairs).ap, "pce": count_scores(pairs, self._threshold).pce}
        if self.scorer is not None:
            scores["clipsim"] = float(self.scorer.scores(images, [job.prompt for job in jobs]).mean())
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for job, image, (wanted, seen) in itertools.islice(zip(jobs, images, pairs, strict=True), SHEET_ROWS):
            rows.append((pipeline.draw(wanted), [image, overlay(image, seen, size[0])], job.prompt))
        sheet = contact_sheet(rows)  # type: ignore[arg-type]  # every job has a pose
        write_png(folder / f"step-{step:08d}.png", sheet, {})
        return scores

    def _drawn(self, pipeline: HumanSDPipeline, jobs: Sequence[Job]) -> list[ImageArray]:
        """The images of all jobs, in the precision of the run."""
        width, height = pipeline.default_size
        at_once = self._batch_size or max(1, 8 * 128**2 // (width * height))
        images: list[ImageArray] = []
        with torch.autocast(pipeline.unet.device.type, self.dtype, enabled=self.dtype != pipeline.unet.dtype):
            for start in range(0, len(jobs), at_once):
                drawn = draw_batch(pipeline, jobs[start : start + at_once], self._sampling)
                images += [np.asarray(image.convert("RGB")) for image in drawn]
        return images


def make_validator(
    task: Any,
    samples: Sequence[Sample],
    estimator: str,
    device: torch.device,
    dtype: torch.dtype,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
) -> Validator:
    """What scores a run on `samples`.

    Args:
        task: of the run; one that draws has `pipeline()`, one that finds poses `estimator_kind` and `export(folder)`.
        estimator: NAME or NAME=SOURCE, finds the poses in what a model draws.
        device, dtype: where and how precisely the run computes.
        sampling: of what a model draws; default: as the model says.

    Raises:
        ValueError: a task that draws nothing and finds nobody; no samples; no such estimator.
    """
    kind = getattr(task, "estimator_kind", None)
    if kind is not None:
        return EstimatorValidator(kind, task.export, samples, device)
    pipeline = getattr(task, "pipeline", None)
    if pipeline is None:
        raise ValueError("this draws nothing, so it cannot be validated; leave out --validate")
    name, _, source = estimator.partition("=")
    centernet, scorer = load_estimator(name, source, device), ClipScorer.from_pretrained(device=device)
    return PoseValidator(pipeline, samples, centernet, scorer, sampling=sampling, dtype=dtype)


class EstimatorValidator:
    """A `training.loop.Validator` for estimators: AP over fixed samples, overall and by scene, as they would ship."""

    def __init__(
        self, kind: str, export: Callable[[Path], None], samples: Sequence[Sample], device: torch.device | str = "cpu"
    ) -> None:
        """kind: the estimator's name. export: writes it as it is now. ValueError without samples."""
        if not samples:
            raise ValueError("no samples to validate on; name shards that hold some")
        self._kind, self._export, self._samples, self._device = kind, export, samples, device

    def __call__(self, folder: Path, step: int) -> dict[str, float]:
        """AP in 0..1: "ap" of all but silhouettes, and that of every group of `evaluation.estimators.summarise`."""
        export = folder / "export"
        self._export(export)
        estimator = load_estimator(self._kind, str(export), self._device)
        seen = list(look(estimator, ((s.image, s.people, s.scene) for s in self._samples)))
        scores = {name: one["ap"] for name, one in summarise(seen)["scores"].items() if one["ap"] is not None}
        return {"ap": scores.get("overall", 0.0), **{f"ap, {name}": value for name, value in scores.items()}}


def first_samples(data: Path, count: int) -> list[Sample]:
    """The first `count` samples of shards."""
    return list(itertools.islice(read_shards(data), count))


def _cut(people: People, size: tuple[int, int]) -> People:
    """The people in the window of this shape, as an evaluation cuts it."""
    return window_for(people, size).people(people, size)


def _people(job: Job) -> People:
    assert isinstance(job.pose.pose, People)
    return job.pose.pose
