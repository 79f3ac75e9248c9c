"""A model evaluated on data: what `humansd evaluate` does.

shards -> pictures of the same captions and poses (`HumanSDPipeline`) -> poses found in them and in the real ones
(the judge), features, text similarity -> `records` -> `scores` -> results.json, results.md and report.html.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from humansd import __version__
from humansd.data.files import write_json, write_text
from humansd.data.sample import Sample
from humansd.data.shards import count_samples, read_shards, shard_files
from humansd.evaluation.records import (
    CHUNK,
    Record,
    begin_run,
    chunk_done,
    picture_file,
    read_run,
    write_chunk,
)
from humansd.evaluation.report import write_report
from humansd.evaluation.scores import plain, score_run
from humansd.evaluation.tables import as_markdown
from humansd.evaluation.timing import time_generation
from humansd.models.clip_similarity import ClipScorer
from humansd.models.estimators import Picture, PoseEstimator, load_estimator
from humansd.models.features import FeatureExtractor, load_extractor
from humansd.models.loading import weights_digest
from humansd.pipelines.generate import DEFAULT_SAMPLING, Job, Sampling, draw_batch
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.picture_info import picture_info, read_png_info, write_png
from humansd.pipelines.pose_files import NamedPose
from humansd.pipelines.pretrained import load_pipeline, weights_folder
from humansd.pose.people import People, fit_box


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation measures and with what.

    model: the shipped model's name, a folder or a hub id; a plain Stable Diffusion is evaluated too, and ignores poses.
    estimator: NAME or NAME=SOURCE, finds poses; better not the network that training used.
    features: NAME or NAME=SOURCE of `models.features.EXTRACTORS`, for distances between generated and real pictures.
    clip: folder or hub id of a CLIP for the similarity of picture and prompt; "" is the pocket pair, "none" is none.
    limit: the first so many samples; 0 = all. seed: of the first picture, then one more each.
    count_threshold: people found with at least this score are counted (0..1); None: what counts the people of the
    real pictures best.
    timing_runs: pictures drawn one by one to measure the time; 0 = none.
    text_only: pictures are drawn from the prompt alone, the pose dropped, and measured as ever: what a model still
    knows without a pose.
    """

    model: str = "pocket"
    estimator: str = "judge"
    features: tuple[str, ...] = ("pocket",)
    clip: str = ""
    limit: int = 0
    seed: int = 0
    count_threshold: float | None = None
    sampling: Sampling = field(default_factory=lambda: DEFAULT_SAMPLING)
    batch_size: int = 8
    timing_runs: int = 20
    text_only: bool = False
    device: str = ""

    def __post_init__(self) -> None:
        for name, least in (("limit", 0), ("timing_runs", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if self.count_threshold is not None and not 0 <= self.count_threshold <= 1:
            raise ValueError(f"count_threshold is {self.count_threshold}; it must be a score from 0 to 1")


@dataclass(frozen=True)
class Tools:
    """The networks of an evaluation."""

    pipeline: HumanSDPipeline
    estimator: PoseEstimator
    extractors: tuple[FeatureExtractor, ...]
    scorer: ClipScorer | None


def evaluate(settings: EvaluationSettings, data: Path, out: Path, *, progress: bool = True) -> dict[str, Any]:
    """Evaluates a model on the samples of `data`, and writes results.json, results.md and report.html to `out`.

    The same call after a kill goes on where it was: no picture is drawn twice. Returns what results.json holds.

    Raises:
        ValueError: settings, data or a folder that does not fit; the message names it and the remedy.
    """
    total = count_samples(data)
    total = min(total, settings.limit) if settings.limit else total
    if not total:
        raise ValueError(f"{data}: holds no sample; name shards that `humansd data` wrote")
    tools = _load(settings)
    settings = replace(settings, sampling=settings.sampling.settled(tools.pipeline))
    begin_run(out, _identity(settings, data, total))
    with tqdm(total=total, unit="picture", disable=not progress) as bar:
        for number, samples in enumerate(_chunks(data, total)):
            if not chunk_done(out, number):
                _do_chunk(tools, settings, number, samples, out, bar)
            else:
                bar.update(len(samples))
    run = read_run(out)
    results = score_run(run, settings.count_threshold, inception=[e.name for e in tools.extractors if e.is_fid])
    results["time"] = _time(tools.pipeline, run.records[0], settings)
    write_json(out / "results.json", results)
    write_text(out / "results.md", as_markdown(results))
    write_report(run, results, out / "report.html", real_pictures(data, total))
    return results


def real_pictures(data: Path, total: int) -> Iterator[tuple[str, Picture]]:
    """(key, picture) of the first `total` samples."""
    return ((sample.key, sample.image) for sample in itertools.islice(read_shards(data), total))


def _load(settings: EvaluationSettings) -> Tools:
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name, _, source = settings.estimator.partition("=")
    estimator = load_estimator(name, source, device)
    extractors = tuple(
        load_extractor(one, place, device) for one, _, place in (spec.partition("=") for spec in settings.features)
    )
    scorer = None if settings.clip == "none" else ClipScorer.from_pretrained(settings.clip, device)
    pipeline = load_pipeline(settings.model, device, plain=True)
    pipeline.set_progress_bar_config(disable=True)
    return Tools(pipeline, estimator, extractors, scorer)


def _identity(settings: EvaluationSettings, data: Path, total: int) -> dict[str, Any]:
    """What makes two runs the same run; where things lie and how fast they are done is not part of it."""
    model = settings.model
    folder = weights_folder(model) if model == "pocket" else Path(model)
    return {
        "humansd": __version__,
        "model": {"name": Path(model).name if folder.is_dir() else model, "weights": weights_digest(folder)},
        "data": {"name": data.name, "digest": _digest(data), "samples": total},
        "seed": settings.seed,
        "text_only": settings.text_only,
        "sampling": asdict(settings.sampling),
        "estimator": _weights_of(settings.estimator),
        "features": {spec.partition("=")[0]: _weights_of(spec) for spec in settings.features},
        "clip": weights_digest(settings.clip) if settings.clip else "pocket",
    }


def _weights_of(spec: str) -> str:
    name, _, source = spec.partition("=")
    return f"{name}={weights_digest(source)}" if source else name


def _digest(data: Path) -> str:
    digest = hashlib.sha256()
    for file in shard_files(data):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def _chunks(data: Path, total: int) -> Iterator[list[Sample]]:
    samples = itertools.islice(read_shards(data), total)
    while chunk := list(itertools.islice(samples, CHUNK)):
        yield chunk


def _do_chunk(
    tools: Tools, settings: EvaluationSettings, number: int, samples: Sequence[Sample], out: Path, bar: tqdm
) -> None:
    """Draws, looks at and describes the pictures of one chunk, and writes what was found."""
    size = tools.pipeline.default_size
    jobs = [
        Job(NamedPose(sample.key, sample.people.fit(*size)), sample.caption, settings.seed + number * CHUNK + i, "")
        for i, sample in enumerate(samples)
    ]
    generated = _draw_missing(tools.pipeline, settings, jobs, out, bar)
    real = [letterboxed(sample.image, size) for sample in samples]
    found, ceiling = tools.estimator.detect(generated), tools.estimator.detect(real)
    prompts = [job.prompt for job in jobs]
    texts, ceilings = (_text_scores(tools.scorer, pictures, prompts) for pictures in (generated, real))
    records = [
        Record(s.key, s.scene, job.prompt, job.seed, _people(job), found[i], ceiling[i], texts[i], ceilings[i])
        for i, (s, job) in enumerate(zip(samples, jobs, strict=True))
    ]
    features = {
        f"{kind}/{extractor.name}": np.asarray(extractor.extract(pictures), np.float64)
        for extractor in tools.extractors
        for kind, pictures in (("generated", generated), ("real", real))
    }
    write_chunk(out, number, records, features)


def _draw_missing(
    pipeline: HumanSDPipeline, settings: EvaluationSettings, jobs: Sequence[Job], out: Path, bar: tqdm
) -> list[Picture]:
    """The pictures of all jobs; those not there yet are drawn and written."""
    model = Path(settings.model).name if Path(settings.model).is_dir() else settings.model
    infos = {job.pose.name: _info(job, model, settings) for job in jobs}
    files = {job.pose.name: picture_file(out, job.pose.name) for job in jobs}
    missing = [job for job in jobs if not _is_drawn(files[job.pose.name], infos[job.pose.name])]
    bar.update(len(jobs) - len(missing))
    for start in range(0, len(missing), settings.batch_size):
        batch = missing[start : start + settings.batch_size]
        drawn = [replace(job, pose=NamedPose(job.pose.name, None)) for job in batch] if settings.text_only else batch
        for job, image in zip(batch, draw_batch(pipeline, drawn, settings.sampling), strict=True):
            write_png(files[job.pose.name], image, infos[job.pose.name])
        bar.update(len(batch))
    return [read_picture(files[job.pose.name]) for job in jobs]


def _info(job: Job, model: str, settings: EvaluationSettings) -> dict[str, Any]:
    known = {"humansd": __version__, "model": model, **asdict(settings.sampling)}
    people, negative = None if settings.text_only else _people(job), settings.sampling.negative
    return picture_info(job.prompt, negative_prompt=negative, seed=job.seed, people=people, settings=known)


def _is_drawn(file: Path, info: dict[str, Any]) -> bool:
    try:
        return file.exists() and read_png_info(file) == info
    except ValueError:
        return False


def _people(job: Job) -> People:
    assert isinstance(job.pose.pose, People)
    return job.pose.pose


def _text_scores(scorer: ClipScorer | None, pictures: Sequence[Picture], prompts: Sequence[str]) -> list[float]:
    if scorer is None:
        return [float("nan")] * len(pictures)
    return [float(value) for value in scorer.scores(pictures, prompts)]


def read_picture(file: Path) -> Picture:
    """uint8 RGB (height, width, 3) of a PNG that an evaluation wrote."""
    with Image.open(file, formats=("PNG",)) as picture:
        return np.array(picture.convert("RGB"))


def letterboxed(picture: Picture, size: tuple[int, int]) -> Picture:
    """`picture` fitted into `size` (width, height) px as `People.fit` does, black beside it: never stretched."""
    if picture.shape[1::-1] == size:
        return picture
    width, height, left, top = fit_box((picture.shape[1], picture.shape[0]), size)
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    shrunk = width < picture.shape[1]
    filter_ = Image.Resampling.BOX if shrunk else Image.Resampling.BICUBIC
    small = Image.fromarray(picture).resize((width, height), filter_)
    fitted[top : top + height, left : left + width] = np.asarray(small)
    return fitted


def _time(pipeline: HumanSDPipeline, record: Record, settings: EvaluationSettings) -> dict[str, Any] | None:
    if not settings.timing_runs:
        return None
    time = time_generation(pipeline, record.prompt, record.wanted, settings.sampling, settings.timing_runs)
    return dict(plain(asdict(time)))
