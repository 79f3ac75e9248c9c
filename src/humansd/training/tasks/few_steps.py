"""Four UNet calls for twenty: a low-rank change of the UNet that goes in one call where its teacher goes in several."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from humansd.losses.denoising import mse
from humansd.losses.trajectory import KINDS, ddim_step, shortcut
from humansd.models.lora import read_unet_lora
from humansd.models.precision import compiled
from humansd.pipelines.guidance import Branch, Plan
from humansd.training.identity import digests
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.distillation import BRANCHES, DistillationTask
from humansd.training.tasks.distillation_settings import DistillationSettings
from humansd.training.tasks.few_steps_settings import FewStepSettings

ONE_BRANCH = (Branch(True, True),)


class FewStepTask(BaseTask):
    """Trajectory distillation (progressive distillation, Salimans and Ho 2022, in one stage; the student's own states
    as in Kohler et al. 2024, "Imagine Flash", sec. 3.1).

    The way from noise to the image is cut into `settings.calls` parts. In each the teacher takes
    `settings.teacher_steps` DDIM steps, and the student learns the one prediction that leads to the same place. It is a
    plain regression with the noise as a given, so it needs neither a discriminator nor an averaged copy of itself, and
    the finished model draws with plain DDIM. A call starts from what the student's own calls before it have made,
    beginning with pure noise: as it will be when it draws.
    """

    def __init__(self, settings: FewStepSettings) -> None:
        self.settings = settings
        plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(DistillationSettings)}
        self.outer = DistillationTask(DistillationSettings(**plain))
        self.inner = self.outer.inner
        self.student, self.module = self.outer.student, self.outer.module
        self.teacher = self.outer.teacher
        self.plan = Plan(BRANCHES, settings.guidance_scale, settings.pose_guidance_scale, 0.0)
        if settings.teacher_lora:
            self.plan = Plan(ONE_BRANCH, 1.0, 1.0, 0.0)
            layers = read_unet_lora(Path(settings.teacher_lora))
            _check_rank(self.student, layers, settings)
            set_peft_model_state_dict(self.student, layers)
            self.teacher = copy.deepcopy(self.student)
            self.teacher.requires_grad_(False).fuse_lora()
            self.teacher.unload_lora()
        self.teacher_network: Callable[..., Any] = self.teacher  # or compiled
        scheduler = self.inner.scheduler
        if scheduler.config.prediction_type not in KINDS:
            raise ValueError(
                f"{settings.base_model}: prediction_type is not one of {', '.join(KINDS)}; name another base"
            )
        self.kind = str(scheduler.config.prediction_type)
        self.grid = grid(scheduler, settings.calls, settings.teacher_steps)

    describe, check, shapes = DistillationTask.describe, DistillationTask.check, DistillationTask.shapes

    def fingerprint(self) -> dict[str, str]:
        return {**self.inner.fingerprint(), **digests("teacher_lora", self.settings.teacher_lora)}

    def prepare(self, device: torch.device) -> None:
        self.outer.prepare(device)
        self.teacher.to(device, memory_format=torch.channels_last)
        if self.settings.compile == "auto":
            self.teacher_network = compiled(self.teacher, device)
        self.grid = self.grid.to(device)
        last = torch.as_tensor(self.inner.scheduler.final_alpha_cumprod).reshape(1)
        self.alphas = torch.cat([self.inner.alphas, last]).to(device, torch.float32)  # -1: behind the last step

    def load(self, samples: range) -> dict[str, Any]:
        """What a diffusion task loads, and `part` (n,), which part of the way each learns."""
        parts = [index % self.settings.calls for index in samples]
        return self.inner.load(samples) | {"part": torch.tensor(parts)}

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        known = {name: one.to(self.inner.device) for name, one in batch.items() if isinstance(one, Tensor)}
        known["text"] = self.inner.denoising.text(known)
        with torch.no_grad():
            noisy = self.start(known)
            end, first = self.taught(known, noisy)
            begins, ends = self.grid[known["part"], 0], self.grid[known["part"], -1]
            wanted = shortcut(noisy, end, self.alphas[begins], self.alphas[ends], self.kind)
        found = self.answer(self.outer.network, known, noisy, begins)
        error = mse(found, wanted, self.inner.denoising.maps(known.get("maps"), begins))
        share = mse(found.detach(), wanted).mean() / mse(first, wanted).mean().clamp(min=1e-12)
        return error.mean(), {"against_one_step": share.item()}

    @torch.no_grad()
    def start(self, known: dict[str, Tensor]) -> Tensor:
        """Where each sample's part of the way begins, (n, c, h, w)."""
        scheduler, part = self.inner.scheduler, known["part"]
        if self.settings.start == "data":
            return scheduler.add_noise(known["latents"], known["noise"], self.grid[part, 0])
        noisy = known["noise"].clone()
        for step in range(self.settings.calls - 1):
            rows = torch.nonzero(part > step).flatten()
            if len(rows):
                some = {name: one[rows] for name, one in known.items() if name in ("text", "pose")}
                times = self.grid[step].expand(len(rows), -1)
                said = self.answer(self.student, some, noisy[rows], times[:, 0])  # of another size each time
                alphas = self.alphas[times[:, 0]], self.alphas[times[:, -1]]
                noisy[rows] = ddim_step(said, noisy[rows], *alphas, self.kind)
        return noisy

    @torch.no_grad()
    def taught(self, known: dict[str, Tensor], noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Where the teacher's steps lead from `noisy`, and the first thing it says; both (n, c, h, w)."""
        times, first = self.grid[known["part"]], None
        for here, there in zip(times.T[:-1], times.T[1:], strict=True):
            said = self.guided(known, noisy, here)
            first = said if first is None else first
            noisy = ddim_step(said, noisy, self.alphas[here], self.alphas[there], self.kind)
        assert first is not None
        return noisy, first

    def guided(self, known: dict[str, Tensor], noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The teacher's answer of all its branches, (n, c, h, w)."""
        branches, text, pose = self.plan.branches, known["text"], known["pose"]
        empty = self.outer.empty.expand_as(text)
        texts = torch.cat([text if one.text else empty for one in branches])
        poses = torch.cat([pose if one.pose else torch.zeros_like(pose) for one in branches])
        times, copies = timesteps.repeat(len(branches)), noisy.repeat(len(branches), 1, 1, 1)
        said = self.answer(self.teacher_network, {"text": texts, "pose": poses}, copies, times)
        return self.plan.combine(said.chunk(len(branches)))

    def answer(self, network: Any, known: dict[str, Tensor], noisy: Tensor, timesteps: Tensor) -> Tensor:
        """What a UNet says of `noisy`, (n, c, h, w) fp32."""
        told = {"text": known["text"], "pose": known["pose"], "timesteps": timesteps}
        given = self.inner.denoising.inputs(told)(noisy)
        sample = given.pop("sample").contiguous(memory_format=torch.channels_last)
        said: Tensor = network(sample, given.pop("timestep"), **given).sample
        return said.float()

    def export(self, folder: Path) -> None:
        """Writes the change as diffusers' pipelines load it (`load_lora_weights`)."""
        self.outer.export(folder)


def grid(scheduler: Any, calls: int, steps: int) -> Tensor:
    """Timesteps (calls, steps + 1): each call's, with those of the teacher's steps between it and the next; the last
    is -1, where no noise is left."""
    own = copy.deepcopy(scheduler)
    own.set_timesteps(calls)
    begins = torch.cat([own.timesteps.cpu().long(), torch.tensor([-1])]).double()
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    rows = begins[:-1, None] + (begins[1:] - begins[:-1])[:, None] * share
    found = rows.round().long()
    if (found.diff(dim=1) >= 0).any():
        raise ValueError(f"calls = {calls} and teacher_steps = {steps}: more steps than the schedule has; use fewer")
    return found


def _check_rank(student: nn.Module, layers: dict[str, Tensor], settings: FewStepSettings) -> None:
    """Whether the LoRA that was read is the student's, layer for layer."""
    own = get_peft_model_state_dict(student)
    same = own.keys() == layers.keys() and all(own[name].shape == one.shape for name, one in layers.items())
    if not same:
        raise ValueError(
            f"teacher_lora = {settings.teacher_lora!r}: not a LoRA of rank {settings.rank} of this UNet; set rank to "
            "its own, or name the export of pocket-one-branch"
        )
