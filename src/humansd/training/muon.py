"""Muon for matrices and kernels, AdamW for the rest, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024; PyTorch's own) where a parameter has two axes or more, a kernel being a matrix of its
    outputs and all else; AdamW for biases and the scales of norms.

    Muon's steps are scaled to AdamW's (`match_rms_adamw`), so that one learning rate and one decay serve both. The
    parameters keep the order in which they are given, by which a checkpoint names their state.
    """

    def __init__(self, parameters: list[Parameter], lr: float, weight_decay: float, betas: tuple[float, float]) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError("optimizer = 'muon' needs PyTorch 2.9 or newer; install it, or use optimizer=adamw")
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        self._views: dict[Tensor, Parameter] = {
            one: Parameter(_matrix(one, one)) for one in parameters if one.ndim >= 2
        }
        rest = [one for one in parameters if one.ndim < 2]
        shared: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        self._parts: list[torch.optim.Optimizer] = []
        if self._views:
            matrices = list(self._views.values())
            self._parts.append(torch.optim.Muon(matrices, **shared, adjust_lr_fn="match_rms_adamw"))
        if rest:
            self._parts.append(torch.optim.AdamW(rest, **shared, betas=betas, fused=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """A step of both."""
        if closure is not None:
            raise ValueError("a closure is not taken")
        for parameter, view in self._views.items():
            view.grad = None if parameter.grad is None else _matrix(parameter.grad, parameter)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self.param_groups[0]["lr"]
            part.step()
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter] = self._own(parameter)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of both; a parameter without one begins anew."""
        super().load_state_dict(state_dict)
        for part in self._parts:
            part.state.clear()
        for parameter, state in list(self.state.items()):
            place, key = self._place(parameter)
            place.state[key] = state

    def _own(self, parameter: Tensor) -> Any:
        place, key = self._place(parameter)
        return place.state[key]

    def _place(self, parameter: Tensor) -> tuple[torch.optim.Optimizer, Tensor]:
        """Which of the two knows a parameter, and by which name."""
        if parameter in self._views:
            return self._parts[0], self._views[parameter]
        return self._parts[-1], parameter


def _matrix(values: Tensor, like: Tensor) -> Tensor:
    """Values (o, ...) as (o, rest), the rest in the order in which `like` lies in memory, so that of `like` itself it
    is a view."""
    if like.is_contiguous():
        return values.detach().reshape(len(values), -1)
    return values.detach().movedim(1, -1).reshape(len(values), -1)
