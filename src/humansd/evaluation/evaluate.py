"""A model evaluated on data: what `humansd evaluate` does.

shards -> real images cut to the model's shape, with their poses (`sources`; or poses alone, `pose_sets`) -> images
of the same captions and poses (`drawing`: `HumanSDPipeline`; `given`: those of another tool) -> poses found in both
(held-out estimator), features, text similarity and colours -> `records` -> `scores` -> results.json, results.md and
report.html.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from humansd import __version__
from humansd.core.arrays import ImageArray
from humansd.core.files import write_json, write_text
from humansd.core.lock import locked
from humansd.evaluation.colors import top_colors
from humansd.evaluation.doubts import text_check
from humansd.evaluation.drawing import DrawnImages, Images, folder_name, people_of
from humansd.evaluation.given import GivenImages
from humansd.evaluation.records import CHUNK, PROTOCOL, Record, begin_run, chunk_done, read_run, write_chunk
from humansd.evaluation.report import write_report
from humansd.evaluation.scores import score_run
from humansd.evaluation.sources import Cut, Shards, Source
from humansd.evaluation.tables import as_markdown
from humansd.evaluation.thresholds import calibrated_threshold
from humansd.inference.generate import Job
from humansd.inference.pose_files import NamedPose
from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.models.clip_similarity import ClipScorer
from humansd.models.digests import networks_digest
from humansd.models.estimators import PoseEstimator, load_estimator, usable_device
from humansd.models.features import FeatureExtractor, load_extractor
from humansd.pose.people import People


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation measures and with what.

    model: the shipped model's name, a folder or a hub id; a plain Stable Diffusion is evaluated too, and ignores poses.
    estimator: NAME or NAME=SOURCE, finds poses; better not the network that training used.
    features: NAME or NAME=SOURCE of `models.features.EXTRACTORS`, for distances between generated and real images;
    not used where there are no real ones.
    clip: folder or hub id of a CLIP for the similarity of image and prompt; "" is the pocket pair, "none" is none.
    limit: the first so many samples of shards; 0 = all. seed: of the first image, then one more each.
    count_threshold: people found with at least this score are counted (0..1); None: what counts the people of the
    real images best, or without them those of Atelier's renders.
    min_joints: people with fewer labelled joints are ignored by AP.
    sampling: its size is the shape to which real images are cut; without one it is the model's own.
    timing_runs: images drawn one by one to measure the time; 0 = none.
    text_only: images are drawn from the prompt alone, the pose dropped, and measured as ever: what a model still
    knows without a pose.
    device: of all networks; "auto" is a GPU if there is one. dtype: auto | fp32 | fp16 | bf16, of the model that draws;
    what measures computes in fp32. compile_unet: by torch.compile.
    method, pose_network, variant, decoder: as of `load_pipeline`.
    enlarged: images are drawn at the model's own size and enlarged to the sampling's, at which all is measured: so a
    smaller model stands beside a larger one on the same real images.
    images: a folder of images that another tool drew, which are measured in the place of a model's; see
    `given.GivenImages`. What says how a model draws does not count then.
    """

    model: str = "pocket"
    estimator: str = "centernet"
    features: tuple[str, ...] = ("pocket",)
    clip: str = ""
    limit: int = 0
    seed: int = 0
    count_threshold: float | None = None
    min_joints: int = 1
    sampling: SamplingConfig = field(default_factory=lambda: DEFAULT_SAMPLING)
    batch_size: int = 8
    timing_runs: int = 20
    text_only: bool = False
    device: str = "auto"
    dtype: str = "auto"
    compile_unet: bool = False
    method: str = ""
    pose_network: str = ""
    variant: str = ""
    decoder: str = ""
    enlarged: bool = False
    images: str = ""

    def __post_init__(self) -> None:
        for name, least in (("limit", 0), ("timing_runs", 0), ("batch_size", 1), ("min_joints", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if self.count_threshold is not None and not 0 <= self.count_threshold <= 1:
            raise ValueError(f"count_threshold is {self.count_threshold}; it must be a score from 0 to 1")


@dataclass(frozen=True)
class Tools:
    """What an evaluation measures with."""

    estimator: PoseEstimator
    extractors: tuple[FeatureExtractor, ...]
    scorer: ClipScorer | None


def evaluate(settings: EvaluationSettings, data: Path | Source, out: Path, *, progress: bool = True) -> dict[str, Any]:
    """Evaluates a model on `data`, shards or another source; writes results.json, results.md and report.html to `out`.

    The same call after a kill goes on where it was, batch by batch as an unbroken one, so that its numbers are the same
    to the last digit. Returns what results.json holds.

    Raises:
        ValueError: settings, data or a folder that does not fit; the message names it and the remedy.
        LockedError: another process writes in `out`.
    """
    with locked(out, "an evaluation"):
        return _evaluate(settings, Shards(data, settings.limit) if isinstance(data, Path) else data, out, progress)


def _evaluate(settings: EvaluationSettings, source: Source, out: Path, progress: bool) -> dict[str, Any]:
    source.total((1, 1))  # refused before anything is loaded
    images: Images
    if settings.images:
        images = GivenImages(Path(settings.images), settings.sampling.size)
        images.check(source.keys(images.size))
    tools, device = _load(settings, source.has_images)
    if not settings.images:
        images = DrawnImages(settings, device)
    size = images.size
    begin_run(out, _identity(settings, tools, images, source))
    left_out = images.prepare(source.keys(size), out) if settings.images else frozenset()
    with tqdm(total=source.total(size), unit="image", disable=not progress) as bar:
        for number, samples in enumerate(_chunks(source, size)):
            jobs = _jobs(samples, settings.seed + number * CHUNK)
            shown = [pair for pair in zip(samples, jobs) if pair[0].key not in left_out]
            if shown and not chunk_done(out, number):
                _do_chunk(tools, images, number, shown, out, bar.update)
            else:
                bar.update(len(samples))
    run = read_run(out)
    results = score_run(run, settings.count_threshold, inception=[e.name for e in tools.extractors if e.is_fid])
    results |= images.about(run.records[0], tools.scorer)
    if tools.scorer is not None:
        results["text_check"] = text_check(tools.scorer, run, out, source, size)
    write_json(out / "results.json", results)
    write_text(out / "results.md", as_markdown(results))
    cuts = source.cuts(size) if source.has_images else iter(())
    write_report(run, results, out / "report.html", ((c.key, c.image) for c in cuts if c.image is not None))
    return results


def _load(settings: EvaluationSettings, has_images: bool) -> tuple[Tools, str]:
    """What measures, and the device of all networks."""
    device = str(usable_device(settings.device))
    name, _, source = settings.estimator.partition("=")
    estimator = load_estimator(name, source, device)
    specs = settings.features if has_images else ()
    extractors = []
    for spec in specs:
        kind, _, place = spec.partition("=")
        extractors.append(load_extractor(kind, place, device))
    names = [extractor.name for extractor in extractors]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise ValueError(f"features = {settings.features}: two are called {twice!r}; rename a folder")
    scorer = None if settings.clip == "none" else ClipScorer.from_pretrained(settings.clip, device)
    return Tools(estimator, tuple(extractors), scorer), device


def _identity(settings: EvaluationSettings, tools: Tools, images: Images, source: Source) -> dict[str, Any]:
    """What makes two runs the same run, told by content: of the data, of the images or the networks that draw them, of
    those that measure, and of what else decides how is drawn. Where things lie, what they are called and how fast they
    are done is not part of it, nor is the version of this package: `PROTOCOL` says whether it measures as another
    does."""
    scorer = "none" if tools.scorer is None else networks_digest(tools.scorer.networks)
    threshold = settings.count_threshold
    if threshold is None and not source.has_images:
        threshold = calibrated_threshold(tools.estimator, min(images.size))
    return {
        **({} if source.has_images else {"count_threshold": threshold}),
        "protocol": PROTOCOL,
        "humansd": __version__,
        **images.identity(),
        "data": source.record(images.size),
        "seed": settings.seed,
        "min_joints": settings.min_joints,
        "estimator": {"name": tools.estimator.name, "weights": networks_digest(tools.estimator.networks)},
        "features": {one.name: networks_digest(one.networks) for one in tools.extractors},
        "clip": {"name": folder_name(settings.clip or "pocket"), "weights": scorer},
    }


def _chunks(source: Source, size: tuple[int, int]) -> Iterator[list[Cut]]:
    cuts = iter(source.cuts(size))
    while chunk := list(itertools.islice(cuts, CHUNK)):
        yield chunk


def _jobs(samples: Sequence[Cut], seed: int) -> list[Job]:
    return [Job(NamedPose(one.key, one.people), one.caption, seed + i, "") for i, one in enumerate(samples)]


def _do_chunk(
    tools: Tools,
    images: Images,
    number: int,
    shown: Sequence[tuple[Cut, Job]],
    out: Path,
    tick: Callable[[int], object],
) -> None:
    """Looks at the images of one chunk, and writes what was found."""
    jobs = [job for _, job in shown]
    generated = images.images(jobs, out, tick)
    real = [sample.image for sample, _ in shown if sample.image is not None]
    prompts = [job.prompt for job in jobs]
    found, texts = tools.estimator.detect(generated), _text_scores(tools.scorer, generated, prompts)
    ceiling: list[People | None] = [None] * len(jobs)
    ceilings = [float("nan")] * len(jobs)
    if real:  # all have one, or none has
        ceiling, ceilings = list(tools.estimator.detect(real)), _text_scores(tools.scorer, real, prompts)
    records = []
    for row, (sample, job) in enumerate(shown):
        record = Record(
            key=sample.key,
            scene=sample.scene,
            prompt=job.prompt,
            seed=job.seed,
            wanted=people_of(job),
            found=found[row],
            ceiling=ceiling[row],
            text_score=texts[row],
            ceiling_text_score=ceilings[row],
            cut=sample.way,
            colors=top_colors(sample.tops, sample.people, generated[row], sample.image),
        )
        records.append(record)
    features = {}
    for extractor in tools.extractors:
        for side, pixels in (("generated", generated), ("real", real)):
            features[f"{side}/{extractor.name}"] = np.asarray(extractor.extract(pixels), np.float64)
    write_chunk(out, number, records, features)


def _text_scores(scorer: ClipScorer | None, images: Sequence[ImageArray], prompts: Sequence[str]) -> list[float]:
    if scorer is None:
        return [float("nan")] * len(images)
    return [float(value) for value in scorer.scores(images, prompts)]
