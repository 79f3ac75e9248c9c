"""The HumanSD pipeline: latent diffusion whose UNet reads the encoded skeleton beside the noisy latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ModelMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import IPAdapterMixin, StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from humansd.methods.protocol import Method, Networks
from humansd.methods.table import find_method
from humansd.models.codec import decode_latents, vae_scale_factor
from humansd.models.tiny_decoder import TinyDecoder
from humansd.pipelines.call import Call, PrepareMixin
from humansd.pipelines.checks import (
    check_components,
    check_finite,
    check_latents,
    check_method,
    check_steps,
)
from humansd.pipelines.conditions import merged
from humansd.pipelines.folders import FolderMixin
from humansd.pipelines.guidance import Guidance
from humansd.pipelines.pose_input import Pose
from humansd.pipelines.running import RunningMixin
from humansd.pipelines.schedulers import prediction_of
from humansd.pipelines.sizes import check_size
from humansd.pose.render import DrawStyle

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
DROPPED_POSES = ("zero", "black")
Pipeline = TypeVar("Pipeline", bound="HumanSDPipeline")
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None]


@dataclass
class HumanSDOutput(BaseOutput):
    """Images and what is needed to make them again.

    images: list of PIL images, float32 array (n, H, W, 3) in [0, 1], tensor (n, 3, H, W) in [0, 1], or
        scaled latents (n, c, h, w), by `output_type`.
    seeds: the seed of each image; None where generators were given.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    seeds: list[int] | None


class HumanSDPipeline(
    FolderMixin,
    PrepareMixin,
    RunningMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    IPAdapterMixin,
):
    """Pose- and text-conditioned generation (HumanSD, ICCV 2023, sec. 3.2).

    The people are drawn, encoded by the VAE (posterior mean, scaled) and concatenated to the noisy latent on
    the channel axis; the UNet has `2 * latent_channels` input channels. A dropped text is the encoded empty (or
    negative) prompt, nobody is the encoded black drawing.

    LoRA, textual inversion, IP-Adapter, VAE slicing and tiling, CPU offload, `from_pipe` and `from_single_file` work as
    in diffusers' Stable Diffusion. `HumanSDImg2ImgPipeline` and `HumanSDInpaintPipeline` share the components. Several
    threads may draw with one pipeline: a call has its own scheduler, noise, guidance and interruption.

    Args:
        vae: gives the factor between pixels and latent, the channel count, scaling and shift.
        text_encoder, tokenizer: CLIP.
        unet: with `2 * latent_channels` input channels; `from_base` widens a plain one.
        scheduler: one of diffusers' for Stable Diffusion (`pipelines.schedulers.USABLE`); it alone knows the
            prediction type.
        image_encoder, feature_extractor: of an IP-Adapter; `load_ip_adapter` brings them.
        pose_network: the network of the method, where it has one (`methods`).
        draw_style: `DrawStyle.to_dict()`; how poses were drawn in training. Saved in model_index.json.
        guidance: the fields of `Guidance` that this model draws best with. Saved there too.
        dropped_pose: what the UNet saw for a pose that was left out: "zero", a latent of zeros, or "black", the encoded
            black drawing (published HumanSD weights). Saved there too.
        num_inference_steps: of a call that names none. Saved there too.
        method: a name of `methods.table.METHODS`; "humansd" is the paper's. Saved there too.

    Raises:
        ValueError: a UNet whose input does not fit the VAE, a tokenizer that does not fit the text encoder, a
            scheduler of another kind of model, or a setting of another value.
        PoseError: an unknown draw style.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->pose_network->unet->vae"
    _optional_components: ClassVar[list[str]] = [
        "image_encoder",
        "feature_extractor",
        "pose_network",
    ]  # diffusers adds it to a list
    _callback_tensor_inputs = ("latents", "prompt_embeds", "negative_prompt_embeds", "pose_latents")

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        pose_network: ModelMixin | None = None,
        draw_style: dict[str, Any] | None = None,
        guidance: dict[str, float] | None = None,
        dropped_pose: str = "zero",
        num_inference_steps: int = 25,
        method: str = "humansd",
    ) -> None:
        super().__init__()
        check_method(find_method(method), unet, vae, pose_network)
        check_components(unet, vae, text_encoder, tokenizer, scheduler)
        if dropped_pose not in DROPPED_POSES:
            raise ValueError(f"dropped_pose is {dropped_pose!r}; choose {' or '.join(DROPPED_POSES)}")
        check_steps(num_inference_steps, scheduler)
        style = find_method(method).draw_style if draw_style is None else DrawStyle.from_dict(dict(draw_style))
        own = Guidance() if guidance is None else Guidance.of(guidance)
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
            pose_network=pose_network,
        )
        self.register_to_config(
            draw_style=style.to_dict(),
            guidance=own.config(),
            dropped_pose=dropped_pose,
            num_inference_steps=num_inference_steps,
            method=method,
        )
        self.variant = ""  # whose weights these are, if not those of the model's folder (`inference.variants`)
        self.tiny_decoder: TinyDecoder | None = None  # decodes in the VAE's place
        self._prediction = prediction_of(scheduler)
        self._running: list[Call] = []

    @property
    def method(self) -> Method:
        """How this model is told of poses."""
        return find_method(self.config.method)

    @property
    def networks(self) -> Networks:
        """What the method works with."""
        return Networks(self.unet, self.vae, self.pose_network)

    @property
    def style(self) -> DrawStyle:
        """How this model's poses are drawn."""
        return DrawStyle.from_dict(dict(self.config.draw_style))

    @property
    def guidance(self) -> Guidance:
        """How strictly this model is held to text and pose where the caller does not say."""
        return Guidance.of(self.config.guidance)

    @property
    def default_steps(self) -> int:
        """Denoising steps where the caller does not say."""
        return int(self.config.num_inference_steps)

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in px of the images the UNet was made for."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return width * self.size_step, height * self.size_step

    @property
    def size_step(self) -> int:
        """Widths and heights of images are multiples of it."""
        return vae_scale_factor(self.vae)

    def sibling(self, kind: type[Pipeline]) -> Pipeline:
        """A pipeline of another class around the same components, in their precision (`from_pipe` makes them fp32)."""
        own = ("draw_style", "guidance", "dropped_pose", "num_inference_steps", "method")
        made = kind(**self.components, **{name: self.config[name] for name in own})
        made.variant, made.tiny_decoder = self.variant, self.tiny_decoder
        return made

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        pose: Pose = None,
        *,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> HumanSDOutput | tuple[Any, ...]:
        """Draw images of `prompt` with people in `pose`.

        Guidance, with s_t = `guidance_scale`, s_p = `pose_guidance_scale`, e(text, pose) the UNet's output, `-` the
        empty or negative prompt, 0 the dropped pose:

            s_p = 1:  e = e(-, pose) + s_t (e(text, pose) - e(-, pose))
            else:     e = e(-, 0) + s_p (e(-, pose) - e(-, 0)) + s_t (e(text, pose) - e(-, pose))

        The weights sum to 1, so the same holds for noise, v and sample prediction. An s_t of 1 or less is no guidance
        by the text, as in diffusers. s_t = s_p = 1 runs the UNet once a step, s_p = 1 or no pose at all on two
        branches, anything else on three.

        Args:
            prompt: one or a list; or `prompt_embeds` in its place.
            pose: People, a list of them, a pose file, a `People.to_json()` dict; None drops the pose. One
                prompt with many poses, many prompts with one pose, or as many of both.
            height, width: px, multiples of the VAE's factor; default: the size the UNet was made for.
            latents: (n, c, h, w), the first noise, of unit variance; default: drawn from the seeds.
            return_dict: False returns (images,).
            options: the others of `prepare_call`, with the same names and meaning in every HumanSD pipeline.

        Raises:
            ValueError: an argument that does not fit; the message names it and the remedy.
            PoseError: a pose that cannot be used.
            FloatingPointError: the latents or images are not finite.
        """
        with self.alone_where_offloaded(), self.one_place():
            call = self.prepare_call(prompt, pose, size=check_size(self, width, height), **options)
            noise = self.first_noise(call) if latents is None else check_latents(self, latents, call)
            call.latents = noise * call.scheduler.init_noise_sigma
            self.denoise(call)
            return self.finish(call, return_dict)

    def first_noise(self, call: Call) -> Tensor:
        """Noise (n, c, h, w), fp32, drawn on the CPU by one generator per image."""
        factor = vae_scale_factor(self.vae)
        shape = (1, self.vae.config.latent_channels, call.size[1] // factor, call.size[0] // factor)
        noise = torch.cat([randn_tensor(shape, generator=one, dtype=torch.float32) for one in call.generators])
        return noise.to(self.place[0])

    def denoise(self, call: Call, after_step: Callable[[int, Tensor], Tensor] | None = None) -> None:
        """Runs the steps of `call.timesteps` on `call.latents`.

        after_step: (number of the step, latents) -> latents, before the callback sees them.
        """
        total, dtype, alone = len(call.timesteps), self.place[1], self.alone()
        with self.running(call), self.progress_bar(total=total) as bar:
            for step, timestep in enumerate(call.timesteps):
                plan = call.steering.at(step, total, call.conditions.has_pose)
                inputs = call.conditions.of(plan.branches)
                noisy = call.scheduler.scale_model_input(call.latents, timestep).to(dtype)
                repeated = torch.cat([noisy] * len(plan.branches))
                given = self.method.unet_inputs(self.networks, repeated, timestep, inputs.text, inputs.pose)
                sample, at = given.pop("sample"), given.pop("timestep")  # by place, as hooks of other packages expect
                with alone:
                    out = self.unet(sample, at, **merged(given, inputs.options), return_dict=False)[0]
                noise = plan.combine(out.float().chunk(len(plan.branches)))
                call.latents = call.scheduler.step(
                    noise.to(call.latents.dtype), timestep, call.latents, **call.step_options, return_dict=False
                )[0]
                if after_step is not None:
                    call.latents = after_step(step, call.latents)
                if call.callback is not None:
                    self._call_back(call, step, timestep)
                bar.update()
                if call.interrupted:
                    break

    def _call_back(self, call: Call, step: int, timestep: Tensor) -> None:
        """Lets the callback see and change the call; diffusers' own also set `_guidance_scale`, see `RunningMixin`."""
        tensors = {"latents": call.latents, **call.conditions.tensors()}
        handed = {name: tensors[name] for name in call.callback_tensors}
        changed = call.callback(self, step, timestep, handed) or {}
        call.latents = changed.get("latents", call.latents)
        call.conditions.change(changed)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) -> images (n, 3, H, W), about [-1, 1], fp32."""
        tiny = self.tiny_decoder
        if tiny is None:
            return decode_latents(self.vae, latents).float()
        if tiny.device != latents.device or tiny.dtype != self.place[1]:
            tiny.to(latents.device, self.place[1])
        decoded: Tensor = tiny(latents.to(tiny.dtype))
        return decoded.float()

    def finish(
        self, call: Call, return_dict: bool, change: Callable[[Tensor], Tensor] | None = None
    ) -> HumanSDOutput | tuple[Any, ...]:
        """The call's latents as the images asked for. change: of the images (n, 3, H, W) in [-1, 1]."""
        check_finite(call.latents, "latents", self.place[1])
        images: Any = call.latents
        if call.output_type != "latent":
            decoded = self.decode(call.latents)
            check_finite(decoded, "decoded images", self.place[1])
            decoded = decoded if change is None else change(decoded)
            images = VaeImageProcessor().postprocess(decoded, output_type=call.output_type)
        self.maybe_free_model_hooks()
        return HumanSDOutput(images=images, seeds=call.seeds) if return_dict else (images,)
