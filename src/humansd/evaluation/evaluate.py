"""A model evaluated on data: what `humansd evaluate` does.

shards -> real images cut to the model's shape, with their poses (`sources`; or poses alone, `pose_sets`) -> images
of the same captions and poses (`HumanSDPipeline`) -> poses found in both (held-out estimator), features, text
similarity and colours -> `records` -> `scores` -> results.json, results.md and report.html.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from humansd import __version__
from humansd.core.arrays import ImageArray
from humansd.core.files import write_json, write_text
from humansd.core.lock import locked
from humansd.evaluation.colors import top_colors
from humansd.evaluation.doubts import text_check
from humansd.evaluation.records import (
    CHUNK,
    PROTOCOL,
    Record,
    begin_run,
    chunk_done,
    image_file,
    read_run,
    write_chunk,
)
from humansd.evaluation.report import write_report
from humansd.evaluation.scores import plain, score_run
from humansd.evaluation.sources import Cut, Shards, Source
from humansd.evaluation.tables import as_markdown
from humansd.evaluation.text_model import compare_text_models
from humansd.evaluation.thresholds import calibrated_threshold
from humansd.evaluation.timing import time_generation
from humansd.inference.generate import Job, draw_batch
from humansd.inference.image_info import image_info, read_png_info, write_png
from humansd.inference.pose_files import NamedPose
from humansd.inference.pretrained import load_pipeline
from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.models.clip_similarity import ClipScorer
from humansd.models.digests import networks_digest
from humansd.models.estimators import PoseEstimator, load_estimator
from humansd.models.features import FeatureExtractor, load_extractor
from humansd.models.precision import can_compile
from humansd.pipelines.checks import check_size
from humansd.pipelines.humansd import HumanSDPipeline
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

    def __post_init__(self) -> None:
        for name, least in (("limit", 0), ("timing_runs", 0), ("batch_size", 1), ("min_joints", 1)):
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
    tools = _load(settings, source.has_images)
    settings = replace(settings, sampling=settings.sampling.resolved(tools.pipeline))
    size = check_size(tools.pipeline, *(settings.sampling.size or (None, None)))
    begin_run(out, _identity(settings, tools, source, size))
    with tqdm(total=source.total(size), unit="image", disable=not progress) as bar:
        for number, samples in enumerate(_chunks(source, size)):
            if not chunk_done(out, number):
                _do_chunk(tools, settings, number, samples, out, bar)
            else:
                bar.update(len(samples))
    run = read_run(out)
    results = score_run(run, settings.count_threshold, inception=[e.name for e in tools.extractors if e.is_fid])
    results["time"] = _time(tools.pipeline, run.records[0], settings)
    if tools.scorer is not None:
        results["text_model"] = compare_text_models(tools.pipeline.text_encoder, tools.scorer)
        results["text_check"] = text_check(tools.scorer, run, out, source, size)
    write_json(out / "results.json", results)
    write_text(out / "results.md", as_markdown(results))
    cuts = source.cuts(size) if source.has_images else iter(())
    write_report(run, results, out / "report.html", ((c.key, c.image) for c in cuts if c.image is not None))
    return results


def _load(settings: EvaluationSettings, has_images: bool) -> Tools:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = automatic if settings.device in ("", "auto") else settings.device
    name, _, source = settings.estimator.partition("=")
    estimator = load_estimator(name, source, device)
    specs = settings.features if has_images else ()
    extractors = tuple(load_extractor(one, place, device) for one, _, place in (spec.partition("=") for spec in specs))
    names = [extractor.name for extractor in extractors]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise ValueError(f"features = {settings.features}: two are called {twice!r}; rename a folder")
    scorer = None if settings.clip == "none" else ClipScorer.from_pretrained(settings.clip, device)
    pipeline = load_pipeline(
        settings.model,
        device,
        plain=True,
        dtype=settings.dtype,
        compile_unet=settings.compile_unet,
        method=settings.method,
        pose_network=settings.pose_network,
        variant=settings.variant,
        decoder=settings.decoder,
    )
    pipeline.set_progress_bar_config(disable=True)
    return Tools(pipeline, estimator, extractors, scorer)


def _identity(settings: EvaluationSettings, tools: Tools, source: Source, size: tuple[int, int]) -> dict[str, Any]:
    """What makes two runs the same run, told by content: of the data, of the networks that draw and measure, and of
    what else decides how is drawn. Where things lie, what they are called and how fast they are done is not part of
    it, nor is the version of this package: `PROTOCOL` says whether it measures as another does."""
    pipeline = tools.pipeline
    scorer = "none" if tools.scorer is None else networks_digest(tools.scorer.networks)
    threshold = settings.count_threshold
    if threshold is None and not source.has_images:
        threshold = calibrated_threshold(tools.estimator, min(size))
    return {
        **({} if source.has_images else {"count_threshold": threshold}),
        "protocol": PROTOCOL,
        "humansd": __version__,
        "model": {
            "name": _name(settings.model),
            "weights": networks_digest(drawing_networks(pipeline)),
            "config": _config_digest(pipeline),
            "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
            "compiled": settings.compile_unet and can_compile(pipeline.unet.device),
        },
        "data": source.record(size),
        "seed": settings.seed,
        "text_only": settings.text_only,
        **({"enlarged": True} if settings.enlarged else {}),
        "min_joints": settings.min_joints,
        "sampling": asdict(settings.sampling),
        "estimator": {"name": tools.estimator.name, "weights": networks_digest(tools.estimator.networks)},
        "features": {one.name: networks_digest(one.networks) for one in tools.extractors},
        "clip": {"name": _name(settings.clip or "pocket"), "weights": scorer},
    }


def _name(source: str) -> str:
    """A folder's own name, without where it lies; a hub id or a shipped name as it is."""
    return Path(source).resolve().name if Path(source).is_dir() else source


def drawing_networks(pipeline: HumanSDPipeline) -> list[nn.Module]:
    """What an image depends on."""
    own = [one for one in (pipeline.pose_network, pipeline.tiny_decoder) if one is not None]
    return [pipeline.vae, pipeline.text_encoder, pipeline.unet, *own]


def _config_digest(pipeline: HumanSDPipeline) -> str:
    """Of what decides how a pipeline draws beside its weights and `SamplingConfig`."""
    parts = [
        {key: value for key, value in part.config.items() if not key.startswith("_")}
        for part in (pipeline.scheduler, pipeline.unet, pipeline.vae)
    ]
    own = {key: pipeline.config[key] for key in ("draw_style", "dropped_pose", "method")}
    words = sorted(pipeline.tokenizer.get_vocab().items()), pipeline.tokenizer.pad_token
    known = json.dumps([parts, own, words], sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def _chunks(source: Source, size: tuple[int, int]) -> Iterator[list[Cut]]:
    cuts = iter(source.cuts(size))
    while chunk := list(itertools.islice(cuts, CHUNK)):
        yield chunk


def _do_chunk(
    tools: Tools, settings: EvaluationSettings, number: int, samples: Sequence[Cut], out: Path, bar: tqdm
) -> None:
    """Draws, looks at and describes the images of one chunk, and writes what was found."""
    jobs = [
        Job(NamedPose(sample.key, sample.people), sample.caption, settings.seed + number * CHUNK + i, "")
        for i, sample in enumerate(samples)
    ]
    generated = _draw_missing(tools.pipeline, settings, jobs, out, bar)
    real = [sample.image for sample in samples if sample.image is not None]
    prompts = [job.prompt for job in jobs]
    found, texts = tools.estimator.detect(generated), _text_scores(tools.scorer, generated, prompts)
    ceiling: list[People | None] = [None] * len(jobs)
    ceilings = [float("nan")] * len(jobs)
    if real:  # all have one, or none has
        ceiling, ceilings = list(tools.estimator.detect(real)), _text_scores(tools.scorer, real, prompts)
    colors = [top_colors(s.tops, s.people, one, s.image) for s, one in zip(samples, generated, strict=True)]
    found_of = zip(samples, jobs, found, ceiling, texts, ceilings, colors, strict=True)
    records = [
        Record(s.key, s.scene, job.prompt, job.seed, _people(job), seen, top, text, top_text, s.way, tops)
        for s, job, seen, top, text, top_text, tops in found_of
    ]
    features = {
        f"{kind}/{extractor.name}": np.asarray(extractor.extract(images), np.float64)
        for extractor in tools.extractors
        for kind, images in (("generated", generated), ("real", real))
    }
    write_chunk(out, number, records, features)


def _draw_missing(
    pipeline: HumanSDPipeline, settings: EvaluationSettings, jobs: Sequence[Job], out: Path, bar: tqdm
) -> list[ImageArray]:
    """The images of all jobs; batches in which one is not there yet are drawn, and what is missing written."""
    infos = {job.pose.name: _info(job, settings) for job in jobs}
    files = {job.pose.name: image_file(out, job.pose.name) for job in jobs}
    for start in range(0, len(jobs), settings.batch_size):
        batch = jobs[start : start + settings.batch_size]
        missing = {job.pose.name for job in batch if not _is_drawn(files[job.pose.name], infos[job.pose.name])}
        if missing:  # the whole batch again: in another one sums are rounded in another order
            drawn = (
                [replace(job, pose=NamedPose(job.pose.name, None)) for job in batch] if settings.text_only else batch
            )
            for job, image in zip(batch, _drawn(pipeline, drawn, settings), strict=True):
                if job.pose.name in missing:
                    write_png(files[job.pose.name], image, infos[job.pose.name])
        bar.update(len(batch))
    return [read_image(files[job.pose.name]) for job in jobs]


def _drawn(pipeline: HumanSDPipeline, batch: Sequence[Job], settings: EvaluationSettings) -> list[Image.Image]:
    """The images of a batch, at the size of the sampling."""
    if not settings.enlarged:
        return draw_batch(pipeline, batch, settings.sampling)
    size = settings.sampling.size or pipeline.default_size
    images = draw_batch(pipeline, batch, replace(settings.sampling, size=pipeline.default_size))
    return [image.resize(size, Image.Resampling.BICUBIC) for image in images]


def _info(job: Job, settings: EvaluationSettings) -> dict[str, Any]:
    known = {"humansd": __version__, "model": _name(settings.model), **asdict(settings.sampling)}
    people, negative = None if settings.text_only else _people(job), settings.sampling.negative_prompt
    return image_info(job.prompt, negative_prompt=negative, seed=job.seed, people=people, settings=known)


def _is_drawn(file: Path, info: dict[str, Any]) -> bool:
    """Whether the image is there; the run's folder is that of this model, whatever it was called then."""
    try:
        return file.exists() and _without_names(read_png_info(file)) == _without_names(info)
    except ValueError:
        return False


def _without_names(info: dict[str, Any]) -> dict[str, Any]:
    known = {key: value for key, value in info["settings"].items() if key not in ("humansd", "model")}
    plain_info: dict[str, Any] = json.loads(json.dumps({**info, "settings": known}))
    return plain_info


def _people(job: Job) -> People:
    assert isinstance(job.pose.pose, People)
    return job.pose.pose


def _text_scores(scorer: ClipScorer | None, images: Sequence[ImageArray], prompts: Sequence[str]) -> list[float]:
    if scorer is None:
        return [float("nan")] * len(images)
    return [float(value) for value in scorer.scores(images, prompts)]


def read_image(file: Path) -> ImageArray:
    """uint8 RGB (height, width, 3) of a PNG that an evaluation wrote."""
    with Image.open(file, formats=("PNG",)) as image:
        return np.array(image.convert("RGB"))


def _time(pipeline: HumanSDPipeline, record: Record, settings: EvaluationSettings) -> dict[str, Any] | None:
    if not settings.timing_runs:
        return None
    sampling = replace(settings.sampling, size=pipeline.default_size) if settings.enlarged else settings.sampling
    time = time_generation(pipeline, record.prompt, record.wanted, sampling, settings.timing_runs)
    return dict(plain(asdict(time)))
