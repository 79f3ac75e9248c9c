"""One call of a pipeline: what it is given, checked and encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from humansd.core.numbers import real, whole
from humansd.pipelines.checks import check_steps, check_texts
from humansd.pipelines.conditions import Conditions, ConditionsMixin
from humansd.pipelines.guidance import Steering, Window
from humansd.pipelines.inputs import broadcast, image_seeds, make_generators, text_list
from humansd.pipelines.pose_input import Pose, read_pose_list
from humansd.pipelines.schedulers import check_prediction, private_copy, step_options, warn_of_mush

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None]


@dataclass(eq=False)  # one call is itself alone
class Call:
    """One call on its way: what was asked for and what is known so far.

    size: (width, height) px. generators: one for each of the n images. scheduler: the call's own.
    timesteps: those still to run. latents: (n, c, h, w) fp32. conditions: text and pose for the UNet.
    others: what `prepare_call` was given beside, one for each image. interrupted: it ends after the present step.
    """

    size: tuple[int, int]
    seeds: list[int] | None
    generators: list[torch.Generator]
    scheduler: Any
    timesteps: Tensor
    steering: Steering
    conditions: Conditions
    step_options: dict[str, Any]
    output_type: str
    callback: Any = None
    callback_tensors: Sequence[str] = ("latents",)
    others: dict[str, list[Any]] = field(default_factory=dict)
    latents: Tensor = field(default_factory=lambda: torch.empty(0))
    interrupted: bool = False


class PrepareMixin(ConditionsMixin):
    """How a pipeline takes a call; see `HumanSDPipeline`."""

    scheduler: Any
    guidance: Any
    default_steps: Any
    get_list_adapters: Callable[[], dict[str, Any]]
    alone: Callable[[], AbstractContextManager[Any]]
    _prediction: str
    _callback_tensor_inputs: tuple[str, ...]

    def prepare_call(
        self,
        prompt: str | Sequence[str] | None = None,
        pose: Pose = None,
        *,
        size: tuple[int, int],
        pose_kind: str = "people",
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        pose_guidance_scale: float | None = None,
        guidance_start: float = 0.0,
        guidance_end: float | None = None,
        pose_guidance_start: float = 0.0,
        pose_guidance_end: float = 1.0,
        control_guidance_start: float = 0.0,
        control_guidance_end: float = 1.0,
        guidance_rescale: float = 0.0,
        num_images_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        eta: float = 0.0,
        scheduler: SchedulerMixin | None = None,
        clip_skip: int | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: list[Tensor] | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        others: Mapping[str, list[Any]] | None = None,
    ) -> Call:
        """Checks and encodes what a call is given; nothing is denoised yet.

        Args:
            prompt, pose: see `__call__`.
            size: (width, height) px.
            pose_kind: "skeleton" declares drawn skeleton images (PIL, uint8 RGB, image file), used as
                they are.
            negative_prompt: takes the empty prompt's place.
            prompt_embeds, negative_prompt_embeds: (n, tokens, width) in place of the texts.
            num_inference_steps: default: the model's own. timesteps, sigmas: in its place, where the scheduler takes
                them.
            guidance_scale, pose_guidance_scale: default: the model's own, `guidance`.
            guidance_start, guidance_end: the share of the steps in which there is any guidance; elsewhere the UNet
                runs once, with text and pose (Kynkäänniemi et al. 2024: in the middle alone it is faster and better).
                Default: from the beginning to the model's own end, `guidance`.
            pose_guidance_start, pose_guidance_end: where `pose_guidance_scale` counts; elsewhere it is 1.
            control_guidance_start, control_guidance_end: where the pose is shown at all, as in diffusers' ControlNet.
            guidance_rescale: 0..1, Lin et al. 2024, sec. 3.4.
            num_images_per_prompt: images of each (prompt, pose); they follow each other in the result.
            seed: image i uses seed + i, whatever the batch. Default: drawn from torch's global generator.
            generator: one CPU generator per image instead of a seed.
            eta: DDIM's eta in [0, 1].
            scheduler: for this call, in place of the pipeline's.
            clip_skip: so many of the text encoder's last layers are left out.
            cross_attention_kwargs: of the attention processors; "scale" is that of a LoRA, in the text encoder too.
            ip_adapter_image, ip_adapter_image_embeds: see `load_ip_adapter`; embeds are (2, ...) with the negative
                first, or (1, ...).
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: called as f(pipeline, step, timestep, tensors) after each step; tensors it
                returns under the same names are used from then on. Setting `pipeline._interrupt = True`
                stops this call; set outside a callback it stops every call that runs. diffusers' PipelineCallbacks
                work too.
            callback_on_step_end_tensor_inputs: names of the tensors to hand over: latents (n, c, h, w)
                float32, pose_latents, prompt_embeds, negative_prompt_embeds.
            others: lists that are to be as long as the prompts, such as images to begin with.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        self._check_words(output_type, callback_on_step_end_tensor_inputs)
        texts = text_list(prompt, prompt_embeds, "prompt")
        nothing = "" if negative_prompt is None and negative_prompt_embeds is None else negative_prompt
        negatives = text_list(nothing, negative_prompt_embeds, "negative_prompt")
        named: dict[str, list[Any]] = {
            "prompt": texts,
            "negative_prompt": negatives,
            "pose": read_pose_list(pose, pose_kind),
        }
        copies = whole("num_images_per_prompt", num_images_per_prompt)
        texts, negatives, poses, *more = broadcast(named | dict(others or {}), copies)
        seeds = image_seeds(seed, generator, len(texts))
        generators = make_generators(seeds, generator, len(texts))

        own_scheduler: Any = private_copy(scheduler or self.scheduler)
        check_prediction(own_scheduler, self._prediction)
        warn_of_mush(own_scheduler, self.scheduler, distilled=bool(self.get_list_adapters()))
        steps = check_steps(self.default_steps if num_inference_steps is None else num_inference_steps, own_scheduler)
        options = step_options(own_scheduler, generators, real("eta", eta, 0, 1))
        given = {"timesteps": timesteps, "sigmas": sigmas}
        custom = {name: list(values) for name, values in given.items() if values is not None}
        schedule, _ = retrieve_timesteps(own_scheduler, None if custom else steps, self.place[0], **custom)

        own = self.guidance
        steering = Steering(
            own.text if guidance_scale is None else real("guidance_scale", guidance_scale),
            own.pose if pose_guidance_scale is None else real("pose_guidance_scale", pose_guidance_scale),
            real("guidance_rescale", guidance_rescale, 0, 1),
            Window("guidance", guidance_start, own.end if guidance_end is None else guidance_end),
            Window("pose_guidance_scale", pose_guidance_start, pose_guidance_end),
            Window("control_guidance", control_guidance_start, control_guidance_end),
        )
        lora_scale = (cross_attention_kwargs or {}).get("scale")
        with self.alone():
            encoded = self.encode_texts([*texts, *negatives], clip_skip=clip_skip, lora_scale=lora_scale)
        check_texts(encoded, self.unet)
        conditions = Conditions(
            prompt_embeds=torch.stack(encoded[: len(texts)]),
            negative_prompt_embeds=torch.stack(encoded[len(texts) :]),
            pose=self.encode_poses(poses, size),
            dropped=lambda: self.encode_poses([None] * len(poses), size),
            has_pose=self.method.reads_pose and any(pose is not None for pose in poses),
            images=self.image_prompts(ip_adapter_image, ip_adapter_image_embeds, len(texts)),
            attention=cross_attention_kwargs,
        )
        call = Call(size, seeds, generators, own_scheduler, schedule, steering, conditions, options, output_type)
        call.callback, call.callback_tensors = callback_on_step_end, callback_on_step_end_tensor_inputs
        call.others = dict(zip(others or (), more, strict=True))
        return call

    def _check_words(self, output_type: str, tensors: Sequence[str]) -> None:
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; choose one of {', '.join(OUTPUT_TYPES)}")
        unknown = [name for name in tensors if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs names {', '.join(unknown)}; "
                f"choose among {', '.join(self._callback_tensor_inputs)}"
            )
