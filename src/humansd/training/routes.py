"""The two routes of CN117392675A through one frozen base: DDIM from one noise. What their images show: `sights`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from humansd.losses.dual_adapter import clean_latents, ddim_step

# (latents (n, c, h, w), timestep) -> what the UNet says
Answer = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Schedule:
    """T DDIM steps of a base's own noise schedule, in the order of sampling: step 0 starts from noise.

    timesteps: (T,). abars: (T,), of the latents that a step reads. nexts: (T,), of those it leaves.
    """

    timesteps: tuple[int, ...]
    abars: Tensor
    nexts: Tensor
    prediction_type: str

    @classmethod
    def of(cls, scheduler: DDIMScheduler, count: int) -> Schedule:
        """count: T. The scheduler stays as it is."""
        own: Any = type(scheduler).from_config(scheduler.config)
        own.set_timesteps(count)
        timesteps = tuple(int(t) for t in own.timesteps)
        abars = own.alphas_cumprod[list(timesteps)].float()
        last = torch.as_tensor(own.final_alpha_cumprod, dtype=torch.float32).reshape(1)
        return cls(timesteps, abars, torch.cat([abars[1:], last]), own.config.prediction_type)

    def clean_and_noise(self, latents: Tensor, answer: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """x0 and eps (n, c, h, w) of what the UNet answered at a step. ValueError: neither noise nor velocity."""
        abar, answer = self.abars[step].to(latents.device), answer.float()
        if self.prediction_type == "epsilon":
            return clean_latents(latents, answer, abar), answer
        if self.prediction_type == "v_prediction":  # also where abar is 0
            signal, rest = abar.sqrt(), (1 - abar).sqrt()
            return signal * latents - rest * answer, signal * answer + rest * latents
        raise ValueError(f"prediction_type = {self.prediction_type!r}: the routes know epsilon and v_prediction")

    def chain(self, answer: Answer, noise: Tensor, steps: Sequence[int]) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """Latents, x0 and eps at some steps, each (n, c, h, w), of the chain that begins with `noise`."""
        latents, known = noise, {}
        for step in range(max(steps) + 1):
            clean, eps = self.clean_and_noise(latents, answer(latents, self.timesteps[step]), step)
            if step in steps:
                known[step] = latents, clean, eps
            abar, left = self.abars[step].to(noise.device), self.nexts[step].to(noise.device)
            latents = ddim_step(clean, eps, abar, left)
        return known

    def inverted(self, answer: Answer, latents: Tensor) -> Tensor:
        """The noise (n, c, h, w) from which the chain leads, nearly, to these latents: DDIM run backwards (Song et al.
        2021, sec. 4.3)."""
        for step in reversed(range(len(self.timesteps))):
            before = self.nexts[step].to(latents.device)
            abar = self.abars[step].to(latents.device)
            asked = self.clean_and_noise(latents, answer(latents, self.timesteps[step]), step)[1]
            clean = clean_latents(latents, asked, before)
            latents = ddim_step(clean, asked, before, abar)
        return latents
