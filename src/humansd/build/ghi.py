"""`humansd data build ghi`: prompts of 18 parts, images by any diffusers model, the best of those with whole people."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from humansd.build.bodies import AsAsked, Best, Integrity, PossibleBodies, Score
from humansd.build.filters import Minors, SafeForWork
from humansd.build.item import Batch, Item, Stage, together
from humansd.build.models import load_models
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.prompts import compose
from humansd.build.stages import Encode
from humansd.pose.people import People
from humansd.synthetic.render import pose_of

_ONE_AT_A_TIME = threading.Lock()
POSES = ("atelier", "none")
CANDIDATES = 1000  # prompts for each pair that is wanted, at most, before it is given up


@dataclass(frozen=True)
class Prompts:
    """The prompts of a seed, one after the other."""

    seed: int
    count: int
    model: str
    license: str

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> Item:
        prompt = compose(self.seed, index)
        origin = {"prompt": prompt.text, "seed": self.seed, "index": index}
        extras = {"wanted_people": prompt.people, "parts": prompt.parts}
        key = f"{index:08d}"
        scene = prompt.parts["style"]
        return Item(index, key, origin, None, None, None, prompt.text, scene, self.model, self.license, extras)

    def signature(self) -> dict[str, Any]:
        return {"kind": "prompts", "seed": self.seed, "model": self.model, "license": self.license}


@dataclass(frozen=True)
class Generate:
    """Images of the captions by a diffusers model: a HumanSD folder or "pocket", or any text-to-image folder or hub id
    of diffusers. The noise of an image depends on its index alone, not on its batch.

    poses: what a model of HumanSD draws its people in: "atelier", poses of as many as the prompt asks for, or "none".
    Models that draw from the text alone are not asked.
    """

    model: str
    seed: int = 0
    steps: int = 0  # 0: as the model says
    guidance: float = 0.0  # 0: as the model says
    size: int = 0  # px of a side; 0: as the model says
    device: str = "cpu"
    waits: bool = False  # on a GPU: other stages compute meanwhile
    poses: str = "atelier"

    def __call__(self, batch: Batch) -> Batch:
        return together(batch, lambda item: item.image is None, self._generate)

    def _generate(self, items: Sequence[Item]) -> list[Item]:
        with _ONE_AT_A_TIME:  # batches wait on threads, and a pipeline's scheduler remembers its step
            return self._generated(items)

    def _generated(self, items: Sequence[Item]) -> list[Item]:
        import torch

        pipeline, ours = _pipeline(self.model, self.device)
        generators = [torch.Generator().manual_seed((self.seed << 32) + item.index) for item in items]
        asked: dict[str, Any] = {"generator": generators}
        asked |= {"num_inference_steps": self.steps} if self.steps else {}
        asked |= {"guidance_scale": self.guidance} if self.guidance else {}
        asked |= {"height": self.size, "width": self.size} if self.size else {}
        texts = [item.caption for item in items]
        with warnings.catch_warnings():  # a small text encoder reads only the beginning, and says so for every prompt
            warnings.filterwarnings("ignore", message=".*longer than the text encoder")
            images = (pipeline(texts, self._poses(items), **asked) if ours else pipeline(texts, **asked)).images
        return [item.but(image=np.asarray(image.convert("RGB"))) for item, image in zip(items, images, strict=True)]

    def _poses(self, items: Sequence[Item]) -> list[People] | None:
        if self.poses == "none":
            return None
        return [pose_of(self.seed, item.index, item.extras["wanted_people"]) for item in items]


@functools.cache
def _pipeline(model: str, device: str) -> tuple[Any, bool]:
    """The pipeline, and whether it is one of ours."""
    from humansd.inference.pretrained import SHIPPED, load_pipeline

    if model in SHIPPED or ((Path(model) / "model_index.json").is_file() and _is_ours(Path(model))):
        pipeline: Any = load_pipeline(model, device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline, True
    from diffusers import AutoPipelineForText2Image

    from humansd.models.loading import from_hub

    pipeline = from_hub(AutoPipelineForText2Image.from_pretrained, model, use_safetensors=True).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, False


def _is_ours(folder: Path) -> bool:
    import json

    return "HumanSD" in str(json.loads((folder / "model_index.json").read_text()).get("_class_name"))


@dataclass(frozen=True)
class GhiOptions:
    """How prompts become pairs. model, steps, guidance, size, device, poses: see `Generate`. estimator, weights: who
    finds people. integrity, quality, share: see `bodies`. pool: prompts of whose images the best are chosen. nsfw: a
    checker, "" for none."""

    model: str
    estimator: str
    seed: int = 0
    steps: int = 0
    guidance: float = 0.0
    size: int = 0
    device: str = "cpu"
    weights: str = ""
    integrity: float = 0.6
    quality: str = "certainty-sharpness"
    share: float = 0.3
    pool: int = 64
    nsfw: str = ""
    license: str = ""
    poses: str = "atelier"

    def stages(self) -> list[Stage]:
        """What every prompt goes through."""
        from humansd.build.annotate import Detect

        on_gpu = self.device != "cpu"
        how = (self.model, self.seed, self.steps, self.guidance, self.size, self.device, on_gpu, self.poses)
        stages: list[Stage] = [Minors(), Generate(*how), Detect(self.estimator, self.weights, self.device)]
        stages += [AsAsked(), PossibleBodies(), Integrity(self.integrity)]
        stages += [SafeForWork(self.nsfw)] if self.nsfw else []
        return [*stages, Score(self.quality), Encode("png")]


def build_ghi(
    count: int,
    out: Path | str,
    options: GhiOptions,
    *,
    per_shard: int = 200,
    batch_size: int = 8,
    engine: str = "local",
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds `count` pairs in `out` and returns the manifest; the same call goes on after a kill.

    Raises:
        ValueError: of `CANDIDATES` prompts a pair not enough could be kept; the message says what was left out.
        Exception: as of `build_dataset`, and what the model raises.
    """
    if not options.estimator:
        raise ValueError("without people that are found no image can be judged; name an --estimator")
    if options.poses not in POSES:
        raise ValueError(f"poses {options.poses!r} is not known; choose one of {', '.join(POSES)}")
    if count < 1 or options.pool % batch_size or options.pool < batch_size:
        raise ValueError(f"count = {count} must be 1 or more, pool = {options.pool} a multiple of {batch_size}")
    load_models(options)
    source = Prompts(options.seed, count * CANDIDATES, options.model, options.license)
    about = {
        "name": "Generated people in the manner of GHI",
        "source": f"generated by {options.model}; prompts of 18 parts, seed {options.seed}",
        "license": options.license or "as the model's license has it",
        "poses": f"found by {options.estimator}",
        "captions": "the prompts",
    }
    plan = Plan(options.stages(), per_shard, batch_size, options.pool, Best(options.share), count, None, about)
    manifest = build_dataset(source, plan, out, engine=engine, workers=workers, progress=progress)
    if manifest["count"] < count:
        left = ", ".join(f"{n} x {name}" for name, n in manifest["build"]["left_out"].items())
        raise ValueError(f"{out}: {manifest['count']} of {count} pairs could be kept ({left}); try another model")
    return manifest
