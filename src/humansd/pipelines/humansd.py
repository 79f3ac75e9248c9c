"""The HumanSD pipeline: latent diffusion whose UNet reads the encoded skeleton beside the noisy latent."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from humansd.models.codec import decode_latents, encode_pictures, encode_text, vae_factor
from humansd.models.loading import load_part, single_precision
from humansd.models.widen import widen_conv_in
from humansd.pipelines.inputs import Guidance, broadcast, image_seeds, make_generators, prompt_list
from humansd.pipelines.pose_input import Drawable, Pose, draw_pose, read_pose_list
from humansd.pose.render import HUMANSD_STYLE, DrawStyle

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None]


@dataclass
class HumanSDOutput(BaseOutput):
    """Pictures and what is needed to make them again.

    images: list of PIL pictures, float32 array (n, H, W, 3) in [0, 1], tensor (n, 3, H, W) in [0, 1], or
        scaled latents (n, c, h, w), by `output_type`.
    seeds: the seed of each picture; None where generators were given.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    seeds: list[int] | None


class HumanSDPipeline(DiffusionPipeline):
    """Pose- and text-conditioned generation (HumanSD, ICCV 2023, sec. 3.2).

    The people are drawn, encoded by the VAE (posterior mean, scaled) and concatenated to the noisy latent on
    the channel axis; the UNet has `2 * latent_channels` input channels. A dropped pose is a zero latent,
    nobody is the encoded black drawing, a dropped text is the encoded empty (or negative) prompt.

    Args:
        vae: gives the factor between pixels and latent, the channel count, scaling and shift.
        text_encoder, tokenizer: CLIP.
        unet: with `2 * latent_channels` input channels; `from_base` widens a plain one.
        scheduler: any diffusers scheduler; it alone knows the prediction type.
        draw_style: `DrawStyle.to_dict()`; how poses were drawn in training. Saved in model_index.json.
        guidance: the fields of `Guidance` that this model draws best with. Saved there too.

    Raises:
        ValueError: a UNet whose input does not fit the VAE.
        PoseError: an unknown draw style.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _callback_tensor_inputs = ("latents", "prompt_embeds", "negative_prompt_embeds", "pose_latents")

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        draw_style: dict[str, Any] | None = None,
        guidance: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        _check_channels(unet, vae)
        style = HUMANSD_STYLE if draw_style is None else DrawStyle.from_dict(dict(draw_style))
        own = Guidance() if guidance is None else Guidance(**dict(guidance))
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_to_config(draw_style=style.to_dict(), guidance=dataclasses.asdict(own))
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> HumanSDPipeline:
        """Load a folder or hub id. Weights are safetensors, computed in fp32 unless `dtype` is set.

        Raises:
            ValueError: `use_safetensors=False`, or a plain Stable Diffusion folder (see `from_base`).
        """
        _check_safetensors(kwargs)
        options = single_precision(kwargs)  # transformers would keep the file's fp16
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def from_base(
        cls, base: str | os.PathLike[str], *, draw_style: dict[str, Any] | None = None, **kwargs: Any
    ) -> HumanSDPipeline:
        """A plain Stable Diffusion folder or hub id, its UNet widened: the start of fine-tuning.

        Until it is trained it ignores the pose and draws exactly what the base draws.

        Args:
            base: folder with unet, vae, text_encoder, tokenizer and scheduler.
            draw_style: as in the constructor.
            kwargs: of diffusers' `from_pretrained` (dtype, revision, variant, cache_dir, token ...).

        Raises:
            ValueError: the UNet is not a plain one (its input channels differ from the latent's).
        """
        _check_safetensors(kwargs)
        kwargs = single_precision(kwargs)
        vae = load_part(AutoencoderKL, base, "vae", **kwargs)
        unet = load_part(UNet2DConditionModel, base, "unet", **kwargs)
        channels = vae.config.latent_channels
        if unet.config.in_channels != channels:
            raise ValueError(
                f"{base}: unet.in_channels is {unet.config.in_channels}, a plain UNet for this VAE has "
                f"{channels}; load a HumanSD folder with from_pretrained"
            )
        wide = widen_conv_in(unet, channels)
        return cls.from_pretrained(base, vae=vae, unet=wide, draw_style=draw_style, **kwargs)

    @property
    def style(self) -> DrawStyle:
        """How this model's poses are drawn."""
        return DrawStyle.from_dict(dict(self.config.draw_style))

    @property
    def guidance(self) -> Guidance:
        """How strictly this model is held to text and pose where the caller does not say."""
        return Guidance(**dict(self.config.guidance))

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in px of the pictures the UNet was made for."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return width * vae_factor(self.vae), height * vae_factor(self.vae)

    def encode_prompt(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompts -> (n, tokens, width) in the UNet's dtype; warns of a cut prompt, naming the lost words."""
        embeds = encode_text(self.tokenizer, self.text_encoder, prompts)
        return embeds.to(device=self._execution_device, dtype=self.unet.dtype)

    def draw(self, pose: Drawable, *, width: int | None = None, height: int | None = None) -> np.ndarray | None:
        """What the model is shown of one pose: uint8 RGB (height, width, 3); None for a dropped pose."""
        default = self.default_size
        return draw_pose(pose, self.style, (width or default[0], height or default[1]))

    @torch.no_grad()
    def encode_pose(
        self,
        poses: Sequence[Drawable] | torch.Tensor,
        *,
        width: int | None = None,
        height: int | None = None,
    ) -> torch.Tensor:
        """Poses -> scaled skeleton latents (n, c, h, w), the posterior's mean, in the UNet's dtype.

        Args:
            poses: People (fitted and drawn), drawn skeletons uint8 RGB, None (zero latent); or a tensor of
                drawings (n, 3, H, W) in [-1, 1].
            width, height: px of the drawing; default `default_size`. Not used for a tensor.
        """
        device, dtype = self._execution_device, self.unet.dtype
        if isinstance(poses, torch.Tensor):
            return encode_pictures(self.vae, poses.to(device)).to(dtype)
        default = self.default_size
        size = (width or default[0], height or default[1])
        drawings = [draw_pose(pose, self.style, size) for pose in poses]
        factor = vae_factor(self.vae)
        shape = (len(drawings), self.vae.config.latent_channels, size[1] // factor, size[0] // factor)
        latents = torch.zeros(shape, device=device, dtype=dtype)
        given = [(index, drawing) for index, drawing in enumerate(drawings) if drawing is not None]
        if given:
            stack = np.stack([drawing for _, drawing in given]).astype(np.float32)
            pictures = torch.from_numpy(stack / 127.5 - 1).permute(0, 3, 1, 2).to(device)
            latents[[index for index, _ in given]] = encode_pictures(self.vae, pictures).to(dtype)
        return latents

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        pose: Pose = None,
        *,
        pose_kind: str = "people",
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 25,
        guidance_scale: float | None = None,
        pose_guidance: float | None = None,
        num_images_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        eta: float = 0.0,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> HumanSDOutput | tuple[Any, ...]:
        """Draw pictures of `prompt` with people in `pose`.

        Guidance, with s_t = `guidance_scale`, s_p = `pose_guidance`, e(text, pose) the UNet's output, `-` the
        empty or negative prompt, 0 the dropped pose:

            s_p = 1:  e = e(-, pose) + s_t (e(text, pose) - e(-, pose))
            else:     e = e(-, 0) + s_p (e(-, pose) - e(-, 0)) + s_t (e(text, pose) - e(-, pose))

        The weights sum to 1, so the same holds for noise, v and sample prediction. s_t = s_p = 1 runs the
        UNet once a step, s_p = 1 or no pose at all on two branches, anything else on three.

        Args:
            prompt: one or a list.
            pose: People, a list of them, a pose file, a `People.to_json()` dict; None drops the pose. One
                prompt with many poses, many prompts with one pose, or as many of both.
            pose_kind: "skeleton" declares drawn skeleton pictures (PIL, uint8 RGB, picture file), used as
                they are.
            negative_prompt: takes the empty prompt's place.
            height, width: px, multiples of the VAE's factor; default: the size the UNet was made for.
            guidance_scale, pose_guidance: default: the model's own, `guidance`.
            num_images_per_prompt: pictures of each (prompt, pose); they follow each other in the result.
            seed: picture i uses seed + i, whatever the batch. Default: drawn from torch's global generator.
            generator: one CPU generator per picture instead of a seed.
            eta: DDIM's eta in [0, 1].
            output_type: "pil", "np", "pt" or "latent".
            return_dict: False returns (images,).
            callback_on_step_end: called as f(pipeline, step, timestep, tensors) after each step; tensors it
                returns under the same names are used from then on. Setting `pipeline._interrupt = True`
                stops.
            callback_on_step_end_tensor_inputs: names of the tensors to hand over: latents (n, c, h, w)
                float32, pose_latents, prompt_embeds, negative_prompt_embeds.

        Raises:
            ValueError: an argument that does not fit; the message names it and the remedy.
            PoseError: a pose that cannot be used.
            FloatingPointError: the latents or pictures are not finite.
        """
        size = self._check(width, height, num_inference_steps, output_type, callback_on_step_end_tensor_inputs)
        prompts = prompt_list(prompt, "prompt")
        negatives = prompt_list("" if negative_prompt is None else negative_prompt, "negative_prompt")
        poses = read_pose_list(pose, pose_kind)
        prompts, negatives, poses = broadcast(
            {"prompt": prompts, "negative_prompt": negatives, "pose": poses}, num_images_per_prompt
        )
        seeds = image_seeds(seed, generator, len(prompts))
        generators = make_generators(seeds, generator, len(prompts))
        step_options = self._step_options(generators, eta)

        text_scale = self.guidance.text if guidance_scale is None else float(guidance_scale)
        pose_scale = self.guidance.pose if pose_guidance is None else float(pose_guidance)
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        state = {
            "latents": self._first_latents(generators, size),
            "pose_latents": _encode_once(poses, lambda p: self.encode_pose(p, width=size[0], height=size[1])),
            "prompt_embeds": _encode_once(prompts, self.encode_prompt),
            "negative_prompt_embeds": _encode_once(negatives, self.encode_prompt),
        }
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for index, timestep in enumerate(self.scheduler.timesteps):
                noise = self._predict(state, timestep, text_scale, pose_scale)
                latents = state["latents"]
                state["latents"] = self.scheduler.step(
                    noise.to(latents.dtype), timestep, latents, **step_options, return_dict=False
                )[0]
                if callback_on_step_end is not None:
                    tensors = {name: state[name] for name in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, index, timestep, tensors) or {}
                    state.update({name: changed[name] for name in changed if name in state})
                bar.update()
                if self._interrupt:
                    break
        images = self._finish(state["latents"], output_type)
        self.maybe_free_model_hooks()
        return HumanSDOutput(images=images, seeds=seeds) if return_dict else (images,)

    def _predict(
        self, state: dict[str, torch.Tensor], timestep: torch.Tensor, text: float, pose: float
    ) -> torch.Tensor:
        """The guided output of the UNet, (n, c, h, w); the equation stands in `__call__`."""
        some, none = state["prompt_embeds"], state["negative_prompt_embeds"]
        posed = state["pose_latents"]
        if pose != 1 and posed.any():
            branches = [(none, torch.zeros_like(posed)), (none, posed), (some, posed)]
        elif text != 1:
            branches = [(none, posed), (some, posed)]
        else:
            branches = [(some, posed)]
        noisy = self.scheduler.scale_model_input(state["latents"], timestep).to(self.unet.dtype)
        sample = torch.cat([torch.cat([noisy, skeleton], dim=1) for _, skeleton in branches])
        embeds = torch.cat([embed for embed, _ in branches])
        out = self.unet(sample, timestep, encoder_hidden_states=embeds, return_dict=False)[0]
        parts = out.float().chunk(len(branches))
        if len(parts) == 1:
            return parts[0]
        guided = parts[-2] + text * (parts[-1] - parts[-2])
        return guided if len(parts) == 2 else guided + (pose - 1) * (parts[1] - parts[0])

    def _first_latents(self, generators: list[torch.Generator], size: tuple[int, int]) -> torch.Tensor:
        """Noise (n, c, h, w), float32, drawn on the CPU by one generator per picture."""
        factor = vae_factor(self.vae)
        shape = (1, self.vae.config.latent_channels, size[1] // factor, size[0] // factor)
        noise = torch.cat([randn_tensor(shape, generator=one, dtype=torch.float32) for one in generators])
        return noise.to(self._execution_device) * self.scheduler.init_noise_sigma

    def _step_options(self, generators: list[torch.Generator], eta: float) -> dict[str, Any]:
        """What this scheduler's `step` takes of our options; they differ from class to class."""
        known = inspect.signature(self.scheduler.step).parameters
        options: dict[str, Any] = {}
        if "generator" in known:
            options["generator"] = generators
        if "eta" in known:
            options["eta"] = eta
        elif eta:
            raise ValueError(f"eta is {eta}, but {type(self.scheduler).__name__} has no eta; leave it out or use DDIM")
        return options

    def _finish(self, latents: torch.Tensor, output_type: str) -> Any:
        """Latents -> the pictures asked for."""
        self._check_finite(latents, "latents")
        if output_type == "latent":
            return latents
        pictures = decode_latents(self.vae, latents).float()
        self._check_finite(pictures, "decoded pictures")
        return VaeImageProcessor().postprocess(pictures, output_type=output_type)

    def _check_finite(self, values: torch.Tensor, what: str) -> None:
        bad = [index for index, value in enumerate(values) if not torch.isfinite(value).all()]
        if bad:
            raise FloatingPointError(
                f"the {what} of picture {', '.join(map(str, bad))} are not finite. Load the pipeline with "
                f"dtype=torch.float32 (now {self.unet.dtype}), lower guidance_scale and pose_guidance, "
                "or check the weights"
            )

    def _check(
        self, width: int | None, height: int | None, steps: int, output_type: str, tensors: Sequence[str]
    ) -> tuple[int, int]:
        """The output's (width, height) in px, all plain arguments checked."""
        default, factor = self.default_size, vae_factor(self.vae)
        size = (default[0] if width is None else width, default[1] if height is None else height)
        for name, value in zip(("width", "height"), size, strict=True):
            if value < factor or value % factor:
                near = max(1, round(value / factor)) * factor
                raise ValueError(f"{name} is {value} px; it must be a multiple of {factor}, for example {near}")
        if steps < 1:
            raise ValueError(f"num_inference_steps is {steps}; it must be at least 1")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; choose one of {', '.join(OUTPUT_TYPES)}")
        unknown = [name for name in tensors if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs names {', '.join(unknown)}; "
                f"choose among {', '.join(self._callback_tensor_inputs)}"
            )
        return size


def _check_channels(unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    latent, given = vae.config.latent_channels, unet.config.in_channels
    if given == latent:
        raise ValueError(
            f"unet.in_channels is {given}, as many as the latent has: a plain Stable Diffusion UNet, which "
            "cannot see a pose. Load the folder with HumanSDPipeline.from_base, or widen the UNet with "
            f"humansd.models.widen.widen_conv_in(unet, {latent})"
        )
    if given != 2 * latent:
        raise ValueError(
            f"unet.in_channels is {given}; noisy latent and skeleton latent of this VAE have {latent} "
            f"channels each, so it must be {2 * latent}. Use the UNet and the VAE of one HumanSD model"
        )


def _encode_once(items: list[Any], encode: Callable[[list[Any]], torch.Tensor]) -> torch.Tensor:
    """`encode(items)`, where an object that comes again and again is encoded once."""
    places: dict[Any, int] = {}
    first: list[Any] = []
    index = []
    for item in items:
        key = item if isinstance(item, str) else id(item)
        if key not in places:
            places[key] = len(first)
            first.append(item)
        index.append(places[key])
    return encode(first)[index]


def _check_safetensors(kwargs: dict[str, Any]) -> None:
    if kwargs.setdefault("use_safetensors", True) is not True:
        raise ValueError(
            "use_safetensors must stay True; humansd reads no pickled weights, choose a folder with safetensors"
        )
