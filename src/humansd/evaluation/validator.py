"""Whether a run learns, while it runs: fixed poses drawn with fixed seeds and scored by the judge; for an
estimator, fixed pictures whose people are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from humansd.data.sample import Sample
from humansd.data.shards import read_shards
from humansd.evaluation.estimators import look, summarise
from humansd.evaluation.overlay import overlay
from humansd.metrics.counting import count_scores
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.models.clip_similarity import ClipScorer
from humansd.models.estimators import PoseEstimator, load_estimator
from humansd.pipelines.generate import Job, Sampling, draw_batch
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.picture_info import contact_sheet, write_png
from humansd.pipelines.pose_files import NamedPose
from humansd.pose.people import People
from humansd.training.estimators import EstimatorTask

SHEET_ROWS = 12


class PoseValidator:
    """A `training.loop.Validator`: AP and PCE of fixed samples' poses, and 100 x cosine of pictures and prompts.

    Each call draws the same samples with the same seeds and writes a sheet, wanted pose | picture | people found.
    """

    def __init__(
        self,
        pipeline: Callable[[], HumanSDPipeline],
        samples: Sequence[Sample],
        estimator: PoseEstimator,
        scorer: ClipScorer | None = None,
        *,
        sampling: Sampling,
        count_threshold: float = 0.5,
        batch_size: int = 8,
    ) -> None:
        """pipeline: gives the pipeline around the weights as they are now.

        Raises:
            ValueError: no samples.
        """
        if not samples:
            raise ValueError("no samples to validate on; name shards that hold some")
        self._pipeline, self._samples = pipeline, samples
        self._estimator, self._scorer = estimator, scorer
        self._sampling, self._threshold, self._batch_size = sampling, count_threshold, batch_size

    def __call__(self, folder: Path, step: int) -> dict[str, float]:
        """Scores in their own units (AP in 0..1); the sheet is folder/step-N.png."""
        pipeline = self._pipeline()
        pipeline.set_progress_bar_config(disable=True)
        size = pipeline.default_size
        jobs = [
            Job(NamedPose(sample.key, sample.people.fit(*size)), sample.caption, seed, sample.caption)
            for seed, sample in enumerate(self._samples)
        ]
        pictures = [
            np.asarray(picture.convert("RGB"))
            for start in range(0, len(jobs), self._batch_size)
            for picture in draw_batch(pipeline, jobs[start : start + self._batch_size], self._sampling)
        ]
        found = self._estimator.detect(pictures)
        pairs = [(_people(job), people) for job, people in zip(jobs, found, strict=True)]
        scores = {"ap": keypoint_scores(pairs).ap, "pce": count_scores(pairs, self._threshold).pce}
        if self._scorer is not None:
            scores["clipsim"] = float(self._scorer.scores(pictures, [job.prompt for job in jobs]).mean())
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            (pipeline.draw(wanted), [picture, overlay(picture, seen, size[0])], job.prompt)
            for job, picture, (wanted, seen) in itertools.islice(zip(jobs, pictures, pairs, strict=True), SHEET_ROWS)
        ]
        sheet = contact_sheet(rows)  # type: ignore[arg-type]  # every job has a pose
        write_png(folder / f"step-{step:08d}.png", sheet, {})
        return scores


class EstimatorValidator:
    """A `training.loop.Validator` for estimators: AP over fixed samples, overall and by scene, as they would ship."""

    def __init__(self, task: EstimatorTask, samples: Sequence[Sample]) -> None:
        """ValueError without samples."""
        if not samples:
            raise ValueError("no samples to validate on; name shards that hold some")
        self._task, self._samples = task, samples

    def __call__(self, folder: Path, step: int) -> dict[str, float]:
        """AP in 0..1: "ap" of all but silhouettes, and that of every group of `evaluation.estimators.summarise`."""
        export = folder / "export"
        self._task.export(export)
        estimator = load_estimator(self._task.settings.kind, str(export), self._task.device)
        seen = list(look(estimator, ((s.image, s.people, s.scene) for s in self._samples)))
        scores = {name: one["ap"] for name, one in summarise(seen)["scores"].items() if one["ap"] is not None}
        return {"ap": scores.get("overall", 0.0), **{f"ap, {name}": value for name, value in scores.items()}}


def first_samples(data: Path, count: int) -> list[Sample]:
    """The first `count` samples of shards."""
    return list(itertools.islice(read_shards(data), count))


def _people(job: Job) -> People:
    assert isinstance(job.pose.pose, People)
    return job.pose.pose
