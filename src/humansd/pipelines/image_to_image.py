"""Images that begin with an image: drawn over as a whole, or in a mask (change the pose of one, keep the rest)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from humansd.models.codec import encode_images, vae_scale_factor
from humansd.pipelines.call import Call
from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
from humansd.pipelines.pose_input import Pose
from humansd.pipelines.sizes import output_size
from humansd.pipelines.start_images import check_mask, check_strength, covered, grey, rgb

ImageItem: TypeAlias = Image.Image | np.ndarray


class HumanSDImg2ImgPipeline(HumanSDPipeline):
    """HumanSD that begins with an image (SDEdit, Meng et al. 2022): noise is added to it and taken away again, with
    the people in `pose`. Components as of `HumanSDPipeline`; `from_pipe` shares them."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        pose: Pose = None,
        image: ImageItem | Sequence[ImageItem] | None = None,
        *,
        strength: float = 0.6,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> HumanSDOutput | tuple[Any, ...]:
        """Draw `image` anew.

        Args:
            prompt, pose, num_inference_steps, options: as in `HumanSDPipeline`.
            image: PIL, or uint8 (H, W, 3) RGB; one or as many as prompts or poses.
            strength: above 0 to 1, the share of the steps that run: how much may change.
            height, width: px; default: the image's shape at about the model's size. Never stretched: resized to cover
                the size, and what hangs over is cropped.

        Raises:
            ValueError: as in `HumanSDPipeline`; no image, one of another shape than asked for, or a strength without
                a single step.
        """
        images = [rgb(one) for one in _listed(image, "image")]
        size = output_size(self, images[0], width, height)
        with self.alone_where_offloaded(), self.one_place():
            call = self.prepare_call(
                prompt, pose, size=size, num_inference_steps=num_inference_steps, others={"image": images}, **options
            )
            start_latents(self, call, [covered(one, size) for one in call.others["image"]], strength)
            self.denoise(call)
            return self.finish(call, return_dict)


class HumanSDInpaintPipeline(HumanSDPipeline):
    """HumanSD that draws in a mask and keeps the rest of an image, pixel for pixel (the latents outside are put back
    after every step, as in RePaint, Lugmayr et al. 2022, without its resampling). Any HumanSD model will do."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        pose: Pose = None,
        image: ImageItem | Sequence[ImageItem] | None = None,
        mask_image: ImageItem | Sequence[ImageItem] | None = None,
        *,
        strength: float = 1.0,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> HumanSDOutput | tuple[Any, ...]:
        """Draw `image` anew where `mask_image` is white.

        Args:
            prompt, pose, image, height, width, num_inference_steps, options: as in `HumanSDImg2ImgPipeline`.
            mask_image: grey, of the image's size, white where it is drawn: PIL, uint8 or bool (H, W). `repose_mask`
                makes one of two poses.
            strength: above 0 to 1; below 1 what was there shines through.

        Raises:
            ValueError: as in `HumanSDImg2ImgPipeline`; a mask of another size than its image, or an empty one.
        """
        images = [rgb(one) for one in _listed(image, "image")]
        masks = [grey(one) for one in _listed(mask_image, "mask_image")]
        for image, mask in zip(images * len(masks), masks * len(images), strict=True):
            check_mask(image, mask)
        size = output_size(self, images[0], width, height)
        with self.alone_where_offloaded(), self.one_place():
            call = self.prepare_call(
                prompt,
                pose,
                size=size,
                num_inference_steps=num_inference_steps,
                others={"image": images, "mask_image": masks},
                **options,
            )
            images = [covered(one, size) for one in call.others["image"]]
            open_ = torch.stack([torch.from_numpy(covered(one, size)) for one in call.others["mask_image"]])[:, None]
            open_ = open_.to(self.place[0]).float() / 255
            kept, noise = start_latents(self, call, images, strength)
            # A latent position is drawn wherever a pixel of it is.
            drawn = (F.max_pool2d(open_, vae_scale_factor(self.vae)) > 0).to(kept.dtype)

            def put_back(step: int, latents: Tensor) -> Tensor:
                last = step + 1 == len(call.timesteps)
                then = kept if last else _noised(call, kept, noise, call.timesteps[step + 1])
                return drawn * latents + (1 - drawn) * then

            original = _unit(images).to(self.place[0])
            self.denoise(call, put_back)
            return self.finish(call, return_dict, lambda made: open_ * made + (1 - open_) * original)


def start_latents(
    pipeline: HumanSDPipeline, call: Call, images: Sequence[np.ndarray], strength: float
) -> tuple[Tensor, Tensor]:
    """Puts the noised images and the steps that are left into `call`; returns their latents and the noise.

    Raises:
        ValueError: a strength outside 0..1, or without a step.
    """
    check_strength(strength)
    scheduler = call.scheduler
    total = len(call.timesteps) // scheduler.order
    running = min(total, int(total * strength + 1e-9))
    if not running:
        raise ValueError(
            f"strength is {strength} of {total} steps, which is not one; use {math.ceil(1 / strength)} steps, or more "
            "strength"
        )
    first = (total - running) * scheduler.order
    call.timesteps = call.timesteps[first:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    kept = encode_images(pipeline.vae, _unit(images).to(pipeline.place[0])).float()
    noise = pipeline.first_noise(call)
    whole = strength == 1
    call.latents = noise * scheduler.init_noise_sigma if whole else _noised(call, kept, noise, call.timesteps[0])
    return kept, noise


def _noised(call: Call, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    noised: Tensor = call.scheduler.add_noise(latents, noise, timestep.reshape(1).expand(len(latents)))
    return noised


def _unit(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 (h, w, 3) each -> (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.stack(images).astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


def _listed(value: Any, name: str) -> list[Any]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items or any(item is None for item in items):
        raise ValueError(f"{name} is missing; pass one image, or a list of them")
    return items
