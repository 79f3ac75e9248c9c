"""What the UNet is told: texts, poses and image prompts encoded, and put together for each branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from diffusers.models import ImageProjection
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from torch import Tensor

from humansd.models.codec import encode_images, encode_text, vae_scale_factor
from humansd.pipelines.guidance import Branch
from humansd.pipelines.pose_input import Drawable, draw_pose

_PLACES: ContextVar[Mapping[int, tuple[torch.device, torch.dtype]]] = ContextVar("places", default=MappingProxyType({}))


@dataclass(frozen=True)
class UNetInputs:
    """For b branches of n images, branch by branch: skeleton latents (b n, c, h, w), and keyword arguments."""

    skeletons: Tensor
    unet_options: dict[str, Any]


@dataclass
class Conditions:
    """The encoded conditions of n images.

    prompt_embeds, negative_prompt_embeds: (n, tokens, width). pose_latents: (n, c, h, w). dropped: gives the latent
    (1, c, h, w) of a dropped pose. has_pose: whether any image has one. images: of each IP-Adapter, (negative,
    positive), each (n, ...). attention: `cross_attention_kwargs`.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor
    pose_latents: Tensor
    dropped: Callable[[], Tensor]
    has_pose: bool
    images: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    attention: dict[str, Any] | None = None
    _known: dict[tuple[Branch, ...], UNetInputs] = field(default_factory=dict)
    _dropped: Tensor | None = None

    def of(self, branches: tuple[Branch, ...]) -> UNetInputs:
        """For these branches, in their order; put together once."""
        if branches not in self._known:
            embeds = [self.prompt_embeds if one.text else self.negative_prompt_embeds for one in branches]
            poses = [self.pose_latents if one.pose or not self.has_pose else self._no_pose() for one in branches]
            options: dict[str, Any] = {"encoder_hidden_states": torch.cat(embeds)}
            if self.attention is not None:
                options["cross_attention_kwargs"] = self.attention
            if self.images:
                sides = [torch.cat([pair[one.text] for one in branches]) for pair in self.images]
                options["added_cond_kwargs"] = {"image_embeds": sides}
            self._known[branches] = UNetInputs(torch.cat(poses), options)
        return self._known[branches]

    def tensors(self) -> dict[str, Tensor]:
        """Those that a callback may see and change."""
        names = ("pose_latents", "prompt_embeds", "negative_prompt_embeds")
        return {name: getattr(self, name) for name in names}

    def change(self, changed: dict[str, Tensor]) -> None:
        """Takes over what a callback returned. ValueError for a tensor of another shape."""
        for name, present in self.tensors().items():
            value = changed.get(name, present)
            if value is present:
                continue
            if value.shape != present.shape:
                raise ValueError(
                    f"the callback returned {name} of the shape {tuple(value.shape)}; it was {tuple(present.shape)}. "
                    "One of diffusers that drops the guidance draws one image at a time"
                )
            setattr(self, name, value)
            self._known.clear()

    def _no_pose(self) -> Tensor:
        if self._dropped is None:
            self._dropped = self.dropped().expand_as(self.pose_latents)
        return self._dropped


class ConditionsMixin:
    """How a pipeline encodes what it is told; see `HumanSDPipeline`."""

    vae: Any
    unet: Any
    text_encoder: Any
    tokenizer: Any
    image_encoder: Any
    feature_extractor: Any
    config: Any
    style: Any
    default_size: Any
    _execution_device: torch.device
    maybe_convert_prompt: Callable[..., Any]

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        """The device that the modules run on and the UNet's dtype."""
        known = _PLACES.get().get(id(self))
        return known or (self._execution_device, self.unet.dtype)

    @contextmanager
    def one_place(self) -> Iterator[None]:
        """Inside, `place` is known: diffusers looks through every layer for it, 8 ms a time at the size of SD."""
        token = _PLACES.set({**_PLACES.get(), id(self): self.place})
        try:
            yield
        finally:
            _PLACES.reset(token)

    def encode_prompt(self, prompts: Sequence[str], *, clip_skip: int | None = None) -> Tensor:
        """Prompts -> (n, tokens, width) in the UNet's dtype; warns of a cut prompt, naming the lost words.

        A placeholder of a textual inversion stands for all its vectors.
        """
        words = [self.maybe_convert_prompt(prompt, self.tokenizer) for prompt in prompts]
        device, dtype = self.place
        embeds = encode_text(self.tokenizer, self.text_encoder, words, clip_skip=clip_skip, device=device)
        return embeds.to(device=device, dtype=dtype)

    @torch.no_grad()
    def encode_texts(
        self, texts: Sequence[str | Tensor], *, clip_skip: int | None = None, lora_scale: float | None = None
    ) -> list[Tensor]:
        """Each text as (tokens, width); those that are encoded already stay, equal prompts are encoded once."""
        prompts = list(dict.fromkeys(text for text in texts if isinstance(text, str)))
        if prompts:
            if lora_scale is not None:
                scale_lora_layers(self.text_encoder, lora_scale)
            encoded = dict(zip(prompts, self.encode_prompt(prompts, clip_skip=clip_skip), strict=True))
            if lora_scale is not None:
                unscale_lora_layers(self.text_encoder, lora_scale)
        device, dtype = self.place
        return [encoded[text] if isinstance(text, str) else text.to(device, dtype) for text in texts]

    def draw(self, pose: Drawable, *, width: int | None = None, height: int | None = None) -> np.ndarray | None:
        """What the model is shown of one pose: uint8 RGB (height, width, 3); None for a dropped pose."""
        default = self.default_size
        return draw_pose(pose, self.style, (width or default[0], height or default[1]))

    def encode_pose(
        self, poses: Sequence[Drawable] | Tensor, *, width: int | None = None, height: int | None = None
    ) -> Tensor:
        """Poses -> scaled skeleton latents (n, c, h, w), the posterior's mean, in the UNet's dtype.

        Args:
            poses: People (fitted and drawn), drawn skeletons uint8 RGB, None (a dropped pose); or a tensor of
                drawings (n, 3, H, W) in [-1, 1].
            width, height: px of the drawing; default `default_size`. Not used for a tensor.
        """
        if isinstance(poses, Tensor):
            return self._encode_drawings(poses)
        default = self.default_size
        return self.encode_poses(poses, (width or default[0], height or default[1]))

    def encode_poses(self, poses: Sequence[Drawable], size: tuple[int, int]) -> Tensor:
        """As `encode_pose`, at `size` = (width, height) px; a pose that comes again and again is encoded once."""
        factor = vae_scale_factor(self.vae)
        shape = (len(poses), self.vae.config.latent_channels, size[1] // factor, size[0] // factor)
        device, dtype = self.place
        latents = torch.zeros(shape, device=device, dtype=dtype)
        places: dict[int, list[int]] = {}
        for place, pose in enumerate(poses):
            places.setdefault(id(pose), []).append(place)
        drawings = {key: draw_pose(poses[first[0]], self.style, size) for key, first in places.items()}
        if self.config.dropped_pose == "black":
            black = np.zeros((size[1], size[0], 3), np.uint8)
            drawings = {key: black if drawing is None else drawing for key, drawing in drawings.items()}
        given = {key: drawing for key, drawing in drawings.items() if drawing is not None}
        if given:
            stack = np.stack(list(given.values())).astype(np.float32) / 127.5 - 1
            encoded = self._encode_drawings(torch.from_numpy(stack).permute(0, 3, 1, 2))
            for key, latent in zip(given, encoded, strict=True):
                latents[places[key]] = latent
        return latents

    @torch.no_grad()
    def _encode_drawings(self, drawings: Tensor) -> Tensor:
        device, dtype = self.place
        return encode_images(self.vae, drawings.to(device)).to(dtype)

    @torch.no_grad()
    def image_prompts(self, image: Any, embeds: list[Tensor] | None, count: int) -> list[tuple[Tensor, Tensor]]:
        """(negative, positive) of each IP-Adapter for `count` images.

        Args:
            image: one for each adapter that is loaded (each may be a list of images); or `embeds`: (2, ...) with the
                negative first, or (1, ...).

        Raises:
            ValueError: images without an adapter, or another number of them.
        """
        if image is None and embeds is None:
            return []
        projection = getattr(self.unet, "encoder_hid_proj", None)
        layers = getattr(projection, "image_projection_layers", None)
        if layers is None:
            raise ValueError("ip_adapter_image is given and no IP-Adapter is loaded; call load_ip_adapter first")
        given = embeds if embeds is not None else image if isinstance(image, list) else [image]
        if len(given) != len(layers):
            raise ValueError(f"{len(given)} IP-Adapter images for {len(layers)} adapters; give one for each, as a list")
        if embeds is not None:
            pairs = [(one[:1] if len(one) > 1 else torch.zeros_like(one), one[-1:]) for one in embeds]
        else:
            pairs = [
                self._image_prompt(one, hidden=not isinstance(layer, ImageProjection))
                for one, layer in zip(given, layers, strict=True)
            ]
        device, dtype = self.place
        return [tuple(side.to(device, dtype).expand(count, *side.shape[1:]) for side in pair) for pair in pairs]  # type: ignore[misc]

    def _image_prompt(self, image: Any, hidden: bool) -> tuple[Tensor, Tensor]:
        """Negative and positive, (1, images, ...) each; `hidden`: the last layer but one, as "plus" adapters read."""
        if not isinstance(image, Tensor):
            image = self.feature_extractor(image, return_tensors="pt").pixel_values
        image = image.to(device=self.place[0], dtype=self.image_encoder.dtype)
        if not hidden:
            positive = self.image_encoder(image).image_embeds
            return torch.zeros_like(positive)[None], positive[None]
        states = [
            self.image_encoder(one, output_hidden_states=True).hidden_states[-2]
            for one in (torch.zeros_like(image), image)
        ]
        return states[0][None], states[1][None]
