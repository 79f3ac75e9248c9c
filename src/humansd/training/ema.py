"""The averaged weights (EMA) of a run, and putting them in the place of the trained ones for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import Parameter


class EMA:
    """Moving averages of parameters; decay 0 keeps none, and the trained weights stand for them."""

    def __init__(self, parameters: list[Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.tensors = [parameter.detach().clone() for parameter in parameters] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step`; early on the average forgets faster, so that it leaves the start behind."""
        if self.tensors:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.tensors, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in the parameters; afterwards the trained values are back."""
        if not self.tensors:
            yield
            return
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._put(self.tensors)
        try:
            yield
        finally:
            self._put(trained)

    @torch.no_grad()
    def _put(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
