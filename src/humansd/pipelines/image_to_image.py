"""Images that begin with an image: drawn over as a whole, or in a mask (change the pose of one, keep the rest)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from humansd.core.numbers import LEAST_STRENGTH, real
from humansd.models.codec import encode_images, vae_scale_factor
from humansd.pipelines.call import Call
from humansd.pipelines.checks import check_size
from humansd.pipelines.humansd import HumanSDOutput, HumanSDPipeline
from humansd.pipelines.pose_input import Pose
from humansd.pose.maps import person_mask
from humansd.pose.people import People

ImageItem: TypeAlias = Image.Image | np.ndarray
_SAME_SHAPE = 0.02  # relative difference of aspect ratios that a crop of the borders may hide


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


def repose_mask(before: People, after: People, size: tuple[int, int], margin: float = 0.15) -> np.ndarray:
    """Where people change: uint8 (height, width), 255 around everybody of one pose who is not just so in the other.

    Args:
        before, after: on canvases of one shape. size: (width, height) px of the mask.
        margin: room around them, as a share of the tallest one's height.

    Raises:
        ValueError: nobody changes.
    """
    before, after = before.fit(*size), after.fit(*size)
    changed = [_others(before, after), _others(after, before)]
    if not any(people.labelled.any() for people in changed):
        raise ValueError("nobody stands otherwise in the new pose, so there is nothing to draw; change a joint first")
    mask = np.zeros((size[1], size[0]), np.uint8)
    tallest = 1.0
    for people in changed:
        mask |= np.where(person_mask(people, size) > 0, 255, 0).astype(np.uint8)
        for xy, seen in zip(people.xy, people.labelled, strict=True):
            if seen.any():
                tallest = max(tallest, float(np.ptp(xy[seen][:, 1])))
    reach = max(1, round(margin * tallest))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask, disc), np.uint8)


def _others(people: People, rest: People) -> People:
    """Those of `people` who are not exactly in `rest`."""

    def same(i: int, j: int) -> bool:
        both = people.labelled[i] == rest.labelled[j]
        return bool(
            both.all() and np.allclose(people.xy[i][people.labelled[i]], rest.xy[j][rest.labelled[j]], atol=0.5)
        )

    return people.select([not any(same(i, j) for j in range(rest.n)) for i in range(people.n)])


def output_size(pipeline: HumanSDPipeline, image: np.ndarray, width: int | None, height: int | None) -> tuple[int, int]:
    """(width, height) px: as asked, else the image's shape with the model's shorter side.

    Raises:
        ValueError: not what the VAE can make, or another shape than the image's.
    """
    factor = vae_scale_factor(pipeline.vae)
    scale = min(pipeline.default_size) / min(image.shape[:2])
    natural = [max(1, round(side * scale / factor)) * factor for side in (image.shape[1], image.shape[0])]
    if width is None and height is None:
        return natural[0], natural[1]
    size = check_size(pipeline, width or natural[0], height or natural[1])
    if abs(size[0] * image.shape[0] / (size[1] * image.shape[1]) - 1) > _SAME_SHAPE + factor / min(size):
        raise ValueError(
            f"the image is {image.shape[1]} x {image.shape[0]} px and {size[0]} x {size[1]} are asked for: another "
            "shape; crop the image first, or leave width and height out"
        )
    return size


def covered(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` (H, W) or (H, W, 3) resized so that it just covers `size` = (width, height), the middle of it."""
    height, width = image.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    around = (max(size[0], round(width * scale)), max(size[1], round(height * scale)))
    if around != (width, height):
        way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        image = np.asarray(Image.fromarray(image).resize(around, way))
    left, top = (around[0] - size[0]) // 2, (around[1] - size[1]) // 2
    return image[top : top + size[1], left : left + size[0]]


def rgb(image: Any) -> np.ndarray:
    """uint8 (H, W, 3). ValueError for anything that is no image."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    raise ValueError(f"image is {_what(image)}; pass PIL images or uint8 arrays (height, width, 3) RGB")


def grey(mask: Any) -> np.ndarray:
    """uint8 (H, W). ValueError for anything that is no mask."""
    if isinstance(mask, Image.Image):
        return np.asarray(mask.convert("L"))
    if isinstance(mask, np.ndarray) and mask.ndim == 2 and mask.dtype in (np.uint8, np.bool_):
        return mask.astype(np.uint8) * 255 if mask.dtype == np.bool_ else mask
    raise ValueError(f"mask_image is {_what(mask)}; pass a PIL image, or an array (height, width) of uint8 or bool")


def check_strength(strength: float) -> None:
    """ValueError below one of the most steps, or above 1."""
    real("strength", strength, LEAST_STRENGTH, 1)


def check_mask(image: np.ndarray, mask: np.ndarray) -> None:
    """ValueError unless the mask is of the image's size and has something to draw."""
    if image.shape[:2] != mask.shape[:2]:
        raise ValueError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} px, its image {image.shape[1]} x {image.shape[0]}; make "
            "it of the image's size"
        )
    if not mask.any():
        raise ValueError("the mask is black everywhere, so there is nothing to draw; make it white where to draw")


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


def _what(value: Any) -> str:
    return f"an array of {value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
