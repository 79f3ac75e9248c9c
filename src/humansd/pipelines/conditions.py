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

from humansd.methods.drawing import Drawable, draw_pose
from humansd.models.codec import encode_text
from humansd.pipelines.guidance import Branch

_PLACES: ContextVar[Mapping[int, tuple[torch.device, torch.dtype]]] = ContextVar("places", default=MappingProxyType({}))


@dataclass(frozen=True)
class UNetInputs:
    """For b branches of n images, branch by branch.

    text: (b n, tokens, width). pose: what the method made of the poses, (b n, ...) each. options: more keyword
    arguments of the UNet.
    """

    text: Tensor
    pose: tuple[Tensor, ...]
    options: dict[str, Any]


@dataclass
class Conditions:
    """The encoded conditions of n images.

    prompt_embeds, negative_prompt_embeds: (n, tokens, width).
    pose: what the method made of the poses, (n, ...) each; HumanSD: skeleton latents (n, c, h, w).
    dropped: gives the same of n dropped poses.
    has_pose: whether any image has a pose that the method reads.
    images: of each IP-Adapter, (negative, positive), each (n, ...).
    attention: `cross_attention_kwargs`.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor
    pose: tuple[Tensor, ...]
    dropped: Callable[[], tuple[Tensor, ...]]
    has_pose: bool
    images: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    attention: dict[str, Any] | None = None
    _known: dict[tuple[Branch, ...], UNetInputs] = field(default_factory=dict)
    _dropped: tuple[Tensor, ...] | None = None

    def of(self, branches: tuple[Branch, ...]) -> UNetInputs:
        """For these branches, in their order; put together once."""
        if branches not in self._known:
            embeds = [self.prompt_embeds if one.text else self.negative_prompt_embeds for one in branches]
            poses = [self.pose if one.pose or not self.has_pose else self._no_pose() for one in branches]
            options: dict[str, Any] = {}
            if self.attention is not None:
                options["cross_attention_kwargs"] = self.attention
            if self.images:
                sides = [torch.cat([pair[one.text] for one in branches]) for pair in self.images]
                options["added_cond_kwargs"] = {"image_embeds": sides}
            pose = tuple(torch.cat(same) for same in zip(*poses, strict=True))
            self._known[branches] = UNetInputs(torch.cat(embeds), pose, options)
        return self._known[branches]

    def tensors(self) -> dict[str, Tensor]:
        """Those that a callback may see and change."""
        known = {"prompt_embeds": self.prompt_embeds, "negative_prompt_embeds": self.negative_prompt_embeds}
        return known | ({"pose_latents": self.pose[0]} if self.pose else {})

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
            if name == "pose_latents":
                self.pose = (value, *self.pose[1:])
            else:
                setattr(self, name, value)
            self._known.clear()

    def _no_pose(self) -> tuple[Tensor, ...]:
        if self._dropped is None:
            self._dropped = self.dropped()
        return self._dropped


def merged(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A method's arguments of the UNet and the caller's; `cross_attention_kwargs` of both go together."""
    both = {**given, **options}
    if "cross_attention_kwargs" in both:
        own, asked = given.get("cross_attention_kwargs", {}), options.get("cross_attention_kwargs", {})
        both["cross_attention_kwargs"] = {**own, **asked}
    return both


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
    method: Any
    networks: Any
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
        words = list(prompts)
        if any(name.endswith("_1") for name in self.tokenizer.added_tokens_encoder):  # else it only warns of long ones
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
        """The first of what the method makes of poses, in the UNet's dtype; HumanSD: scaled skeleton latents
        (n, c, h, w), the posterior's mean.

        Args:
            poses: People (fitted and drawn), drawn skeletons uint8 RGB, None (a dropped pose); or a tensor of
                drawings (n, 3, H, W) in [-1, 1].
            width, height: px of the drawing; default `default_size`. Not used for a tensor.
        """
        if isinstance(poses, Tensor):
            return self._encode(poses)[0]
        default = self.default_size
        return self.encode_poses(poses, (width or default[0], height or default[1]))[0]

    def encode_poses(self, poses: Sequence[Drawable], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """What the method makes of n poses at `size` = (width, height) px, (n, ...) each, in the UNet's dtype; a pose
        that comes again and again is encoded once."""
        distinct = {id(pose): pose for pose in poses if pose is not None}
        rows = {key: row for row, key in enumerate(distinct)}
        found: list[tuple[Tensor, ...]] = []
        if distinct:
            found.append(self._encode(self.method.condition(list(distinct.values()), size, self.style)))
        if len(distinct) < len(poses) and any(pose is None for pose in poses):
            rows[id(None)] = len(distinct)
            found.append(self._dropped(size))
        order = torch.tensor([rows[id(pose)] for pose in poses], device=self.place[0])
        return tuple(torch.cat(same)[order] for same in zip(*found, strict=True))

    def _dropped(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        known = self.method.dropped(self.networks, size) if self.config.dropped_pose == "zero" else None
        if known is None:
            return self._encode(self.method.condition([None], size, self.style))
        device, dtype = self.place
        return tuple(one.to(device, dtype) for one in known)

    @torch.no_grad()
    def _encode(self, condition: Tensor) -> tuple[Tensor, ...]:
        device, dtype = self.place
        return tuple(one.to(dtype) for one in self.method.encode(self.networks, condition.to(device)))

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
