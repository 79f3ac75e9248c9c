"""One step of a training: gradients, their norm, the optimiser, the averages; the loop takes it and so do the
benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Module

from humansd.training.ema import EMA
from humansd.training.optimizer import make_optimizer
from humansd.training.settings import LoopSettings

Loss = Callable[[Any], tuple[Tensor, dict[str, float]]]


class LossModule(Module):
    """The loss as a module's forward, which is what a launcher wraps to average gradients over processes."""

    def __init__(self, module: Module, loss: Loss) -> None:
        super().__init__()
        self.module = module
        self._loss = loss

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        return self._loss(batch)


class TrainingStep:
    """What learns, with its optimiser and its averages. `gradients`, `clip` and `update`, in turn, are a step."""

    def __init__(self, module: Module, loss: Loss, settings: LoopSettings, accelerator: Accelerator) -> None:
        """module: what learns, where it shall learn. loss: of a batch, with numbers worth logging."""
        self.settings, self.accelerator = settings, accelerator
        self.learner = accelerator.prepare(LossModule(module, loss))
        self.parameters = list(module.train().parameters())
        self.optimizer = accelerator.prepare(make_optimizer(self.parameters, settings))
        self.ema = EMA(self.parameters, settings.ema_decay)

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch in the run's precision."""
        return self.learner(batch)

    def gradients(self, batches: Iterable[Any]) -> tuple[Tensor, dict[str, float]]:
        """Leaves the gradients of all parts of a batch in the module; their mean loss, and the means of the numbers,
        each over the parts that have it."""
        parts = self.settings.gradient_accumulation_steps
        total = torch.zeros((), device=self.accelerator.device)
        values: dict[str, list[float]] = {}  # not every part has every quarter of the timesteps
        for part, batch in enumerate(batches):
            with self.accelerator.no_sync(self.learner) if part + 1 < parts else nullcontext():
                loss, numbers = self.forward(batch)
                self.backward(loss)
            total += loss.detach() / parts
            for name, value in numbers.items():
                values.setdefault(name, []).append(value)
        return total, {name: statistics.fmean(some) for name, some in values.items()}

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of the loss of one part."""
        self.accelerator.backward(loss / self.settings.gradient_accumulation_steps)

    def clip(self) -> Tensor:
        """The norm of the gradients, which are scaled down to `max_grad_norm` where that is not 0."""
        if self.settings.max_grad_norm:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
            assert norm is not None
            return norm
        self.accelerator.unscale_gradients()
        return torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def set_learning_rate(self, value: float) -> None:
        """Of the next update."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def update(self, step: int) -> None:
        """The optimiser's step, which is number `step` of the run, and that of the averages; the gradients are gone."""
        self.optimizer.step()
        self.forget()
        self.ema.update(step)

    def forget(self) -> None:
        """Throws the gradients away."""
        self.optimizer.zero_grad()
