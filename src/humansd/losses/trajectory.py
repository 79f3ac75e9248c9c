"""Steps along the trajectory of DDIM, and what a network has to say for one step to stand for several."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("epsilon", "v_prediction")


def ddim_step(prediction: Tensor, noisy: Tensor, alpha: Tensor, alpha_next: Tensor, kind: str) -> Tensor:
    """The deterministic DDIM step (Song et al. 2021, Eq. 12, sigma = 0).

    Args:
        prediction: what the network said of `noisy`, both (n, c, h, w).
        alpha, alpha_next: (n,), abar of the timestep of `noisy` and of the one that is stepped to.
        kind: of the prediction, one of KINDS.
    """
    signal, noise = _parts(prediction, noisy, alpha, kind)
    return _wide(alpha_next).sqrt() * signal + (1 - _wide(alpha_next)).sqrt() * noise


def shortcut(noisy: Tensor, end: Tensor, alpha: Tensor, alpha_end: Tensor, kind: str) -> Tensor:
    """The prediction (n, c, h, w) of which one DDIM step from `noisy` leads to `end` (Salimans and Ho 2022, app. G).

    alpha, alpha_end: (n,), abar of both, alpha < alpha_end; otherwise as in `ddim_step`.
    """
    a, s = _wide(alpha).sqrt(), (1 - _wide(alpha)).sqrt()
    b, q = _wide(alpha_end).sqrt(), (1 - _wide(alpha_end)).sqrt()
    if kind == "v_prediction":
        return (end - (b * a + q * s) * noisy) / (q * a - b * s)
    if kind == "epsilon":
        return (end - b / a * noisy) / (q - b * s / a)
    raise ValueError(f"kind = {kind!r}: a step is known for {', '.join(KINDS)}")


def _parts(prediction: Tensor, noisy: Tensor, alpha: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The image and the noise that a prediction sees in `noisy`."""
    a, s = _wide(alpha).sqrt(), (1 - _wide(alpha)).sqrt()
    if kind == "v_prediction":
        return a * noisy - s * prediction, s * noisy + a * prediction
    if kind == "epsilon":
        return (noisy - s * prediction) / a, prediction
    raise ValueError(f"kind = {kind!r}: a step is known for {', '.join(KINDS)}")


def _wide(alpha: Tensor) -> Tensor:
    return alpha.view(-1, 1, 1, 1).to(torch.float32)
