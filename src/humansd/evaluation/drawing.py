"""Where the images of an evaluation come from: a model that draws them, or (`given`) a folder of another tool's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from torch import nn

from humansd import __version__
from humansd.core.arrays import ImageArray
from humansd.evaluation.records import Record, image_file
from humansd.evaluation.scores import plain
from humansd.evaluation.text_model import compare_text_models
from humansd.evaluation.timing import time_generation
from humansd.inference.generate import Job, draw_batch
from humansd.inference.image_info import image_info, read_png_info, write_png
from humansd.inference.pose_files import NamedPose
from humansd.inference.pretrained import load_pipeline
from humansd.models.clip_similarity import ClipScorer
from humansd.models.digests import networks_digest
from humansd.models.precision import can_compile
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.sizes import check_size
from humansd.pose.people import People

if TYPE_CHECKING:
    from humansd.evaluation.evaluate import EvaluationSettings


class Images(Protocol):
    """What an evaluation measures."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of all images, to which the data are cut."""

    def identity(self) -> dict[str, Any]:
        """Of the settings of a run, those that tell these images."""

    def prepare(self, keys: Sequence[str], out: Path) -> frozenset[str]:
        """What is done before the first image of these keys is asked for. Returns the keys that have none."""

    def images(self, jobs: Sequence[Job], out: Path, tick: Callable[[int], object]) -> list[ImageArray]:
        """The images of these jobs, uint8 RGB (height, width, 3), in the run's folder from then on; `tick` is told
        how many more there are."""

    def about(self, first: Record, scorer: ClipScorer | None) -> dict[str, Any]:
        """What results.json says of them beside their scores."""


class DrawnImages:
    """Images that a model draws."""

    def __init__(self, settings: EvaluationSettings, device: str) -> None:
        self.pipeline = load_pipeline(
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
        self.pipeline.set_progress_bar_config(disable=True)
        self.settings = replace(settings, sampling=settings.sampling.resolved(self.pipeline))
        self.size = check_size(self.pipeline, *(self.settings.sampling.size or (None, None)))

    def identity(self) -> dict[str, Any]:
        """See `Images.identity`."""
        settings, unet = self.settings, self.pipeline.unet
        return {
            "model": {
                "name": folder_name(settings.model),
                "weights": networks_digest(drawing_networks(self.pipeline)),
                "config": _config_digest(self.pipeline),
                "dtype": str(unet.dtype).removeprefix("torch."),
                "compiled": settings.compile_unet and can_compile(unet.device),
            },
            "text_only": settings.text_only,
            **({"enlarged": True} if settings.enlarged else {}),
            "sampling": settings.sampling.record(),
        }

    def prepare(self, keys: Sequence[str], out: Path) -> frozenset[str]:
        """Nothing: a model draws whatever it is asked for."""
        return frozenset()

    def images(self, jobs: Sequence[Job], out: Path, tick: Callable[[int], object]) -> list[ImageArray]:
        """See `Images.images`; batches in which one is not there yet are drawn, and what is missing written."""
        settings = self.settings
        infos = {job.pose.name: _info(job, settings) for job in jobs}
        files = {job.pose.name: image_file(out, job.pose.name) for job in jobs}
        for start in range(0, len(jobs), settings.batch_size):
            batch = jobs[start : start + settings.batch_size]
            missing = {job.pose.name for job in batch if not _is_drawn(files[job.pose.name], infos[job.pose.name])}
            if missing:  # the whole batch again: in another one sums are rounded in another order
                asked = [replace(j, pose=NamedPose(j.pose.name, None)) for j in batch] if settings.text_only else batch
                for job, image in zip(batch, self._drawn(asked), strict=True):
                    if job.pose.name in missing:
                        write_png(files[job.pose.name], image, infos[job.pose.name])
            tick(len(batch))
        return [read_image(files[job.pose.name]) for job in jobs]

    def _drawn(self, batch: Sequence[Job]) -> list[Image.Image]:
        """The images of a batch, at the size of the sampling."""
        settings, pipeline = self.settings, self.pipeline
        if not settings.enlarged:
            return draw_batch(pipeline, batch, settings.sampling)
        images = draw_batch(pipeline, batch, replace(settings.sampling, size=pipeline.default_size))
        return [image.resize(self.size, Image.Resampling.BICUBIC) for image in images]

    def about(self, first: Record, scorer: ClipScorer | None) -> dict[str, Any]:
        """See `Images.about`: the time of an image, and whether the text model is the scorer's."""
        settings, time = self.settings, None
        if settings.timing_runs:
            sampling = replace(settings.sampling, size=self.pipeline.default_size) if settings.enlarged else None
            runs = (sampling or settings.sampling, settings.timing_runs)
            time = dict(plain(asdict(time_generation(self.pipeline, first.prompt, first.wanted, *runs))))
        if scorer is None:
            return {"time": time}
        return {"time": time, "text_model": compare_text_models(self.pipeline.text_encoder, scorer)}


def folder_name(source: str) -> str:
    """A folder's own name, without where it lies; a hub id or a shipped name as it is."""
    return Path(source).resolve().name if Path(source).is_dir() else source


def drawing_networks(pipeline: HumanSDPipeline) -> list[nn.Module]:
    """What an image depends on."""
    own = [one for one in (pipeline.pose_network, pipeline.tiny_decoder) if one is not None]
    return [pipeline.vae, pipeline.text_encoder, pipeline.unet, *own]


def people_of(job: Job) -> People:
    """Whom an image is to show."""
    assert isinstance(job.pose.pose, People)
    return job.pose.pose


def read_image(file: Path) -> ImageArray:
    """uint8 RGB (height, width, 3) of a PNG that an evaluation wrote."""
    with Image.open(file, formats=("PNG",)) as image:
        return np.array(image.convert("RGB"))


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


def _info(job: Job, settings: EvaluationSettings) -> dict[str, Any]:
    known = {"humansd": __version__, "model": folder_name(settings.model), **settings.sampling.record()}
    people, negative = None if settings.text_only else people_of(job), settings.sampling.negative_prompt
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
