"""A loaded model, and how it draws: what of the studio needs networks."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from humansd.inference.pretrained import load_pipeline
from humansd.inference.prompt_weights import has_weights, weighted_embeds
from humansd.inference.words import Vocabulary, read_vocabulary
from humansd.methods.table import find_method
from humansd.models.codec import decode_latents
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.image_to_image import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline
from humansd.pipelines.schedulers import make_scheduler
from humansd.studio.drawing import About, ImageTask, Model, OnStep

FULL_SCALE = 100_000_000  # numbers in a UNet; the shipped models have a few millions


class LoadedModel(Model):
    """A model in this process."""

    def __init__(self, name: str, pipeline: HumanSDPipeline, vocabulary: Vocabulary | None = None) -> None:
        own, method = pipeline.guidance, str(pipeline.config.get("method") or "humansd")
        super().__init__(
            About(
                name=name,
                method=method,
                reads_pose=find_method(method).reads_pose,
                default_size=pipeline.default_size,
                size_step=pipeline.size_step,
                full_scale=sum(one.numel() for one in pipeline.unet.parameters()) >= FULL_SCALE,
                num_inference_steps=pipeline.default_steps,
                guidance_scale=own.text,
                pose_guidance_scale=own.pose,
                vocabulary=vocabulary,
                weighs=importlib.util.find_spec("compel") is not None,
            )
        )
        self.pipeline = pipeline
        pipeline.set_progress_bar_config(disable=True)

    def draw(self, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        """See `Model.draw`."""
        first, recipe = tasks[0], tasks[0].recipe
        more: dict[str, Any] = {}
        pipeline = self.pipeline
        if first.image is not None:
            more = {"image": [task.image for task in tasks], "strength": recipe.strength}
            if first.mask is not None:
                more["mask_image"] = [task.mask for task in tasks]
            pipeline = pipeline.sibling(HumanSDImg2ImgPipeline if first.mask is None else HumanSDInpaintPipeline)
            pipeline.set_progress_bar_config(disable=True)
        preview = _Preview(self.pipeline)

        def callback(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            preview.seen(float(timestep), tensors["latents"])
            if not on_step(step + 1, preview.images):
                running._interrupt = True
            return {}

        output: Any = pipeline(
            pose=[task.pose for task in tasks],
            pose_kind="skeleton" if isinstance(first.pose, np.ndarray) else "people",
            **self._texts("prompt", [task.prompt for task in tasks]),
            **self._texts("negative_prompt", [task.negative_prompt for task in tasks]),
            width=recipe.size[0],
            height=recipe.size[1],
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
            pose_guidance_scale=recipe.pose_guidance_scale,
            guidance_rescale=recipe.guidance_rescale,
            clip_skip=recipe.clip_skip,
            scheduler=make_scheduler(recipe.scheduler, pipeline.scheduler) if recipe.scheduler else None,
            generator=[torch.Generator().manual_seed(task.seed) for task in tasks],
            callback_on_step_end=callback,
            **more,
        )
        return list(output.images)

    def _texts(self, name: str, texts: list[str]) -> dict[str, Any]:
        """An argument of the pipeline's call, or its embeddings where a text weighs words."""
        if not any(map(has_weights, texts)):
            return {name: texts}
        return {name: None, f"{name}_embeds": weighted_embeds(self.pipeline, texts)}


class _Preview:
    """What the images will be, seen from two steps: x_t = sqrt(a) x_0 + sqrt(1 - a) e, with two known a and x_t.

    Exact for DDIM without noise, one step late; for schedulers of other kinds the latents themselves are shown.
    """

    def __init__(self, pipeline: HumanSDPipeline) -> None:
        self._pipeline = pipeline
        self._alphas = getattr(pipeline.scheduler, "alphas_cumprod", None)
        self._points: deque[tuple[torch.Tensor, float]] = deque(maxlen=2)
        self._now: torch.Tensor | None = None

    def seen(self, timestep: float, latents: torch.Tensor) -> None:
        """After a step at `timestep`. The latents are those of the next timestep, which only the next call names."""
        if self._now is not None:
            self._points.append((self._now, timestep))
        self._now = latents

    def images(self) -> list[Image.Image]:
        """As far as they can be seen now."""
        with torch.no_grad():
            made = decode_latents(self._pipeline.vae, self._clean()).float()
        pixels = ((made.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(one) for one in pixels]

    def _clean(self) -> torch.Tensor:
        assert self._now is not None
        if len(self._points) < 2 or self._alphas is None:
            return self._now
        (x1, t1), (x2, t2) = self._points
        signal1, noise1 = self._level(t1)
        signal2, noise2 = self._level(t2)
        scale = noise2 * signal1 - noise1 * signal2
        return self._now if abs(scale) < 1e-6 else (noise2 * x1 - noise1 * x2) / scale

    def _level(self, timestep: float) -> tuple[float, float]:
        assert self._alphas is not None
        alpha = float(self._alphas[min(int(timestep), len(self._alphas) - 1)])
        return alpha**0.5, (1 - alpha) ** 0.5


def load_model(name: str, source: str, device: str, dtype: str, method: str = "", network: str = "") -> LoadedModel:
    """A model of this name. A plain Stable Diffusion is one too, with `network` conditioned by `method`.

    Errors as of `read_vocabulary` and `load_pipeline`.
    """
    vocabulary = read_vocabulary(source)
    pipeline = load_pipeline(source, device, dtype=dtype, plain=True, method=method, pose_network=network)
    return LoadedModel(name, pipeline, vocabulary)
