"""Where the loss of a trained secondary adapter has come to, beside the least it can be (CN117392675A, step 9)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from humansd.data.image_cache import to_unit
from humansd.models.loading import load_part
from humansd.training.bases import image_px
from humansd.training.devices import run_device
from humansd.training.presets import DUAL_POCKET
from humansd.training.small_models import small_model
from humansd.training.tasks.dual_adapter import DualAdapterTask
from humansd.training.tasks.dual_adapter_settings import ADAPTERS, DualAdapterSettings

LEAST_NOISY = 10  # steps


def adapter_limit(
    primary: str, secondary: str, data: str, *, pairs: int = 64, batch_size: int = 8, estimator: str = "", seed: int = 0
) -> dict[str, float]:
    """Means over true pairs, at the `LEAST_NOISY` least noisy DDIM steps.

    Args:
        primary, secondary: folders of their pipelines. data: shards of true pairs that neither learnt from.
        estimator: of the loss; "": the one that ships. The loss itself is that of `dual-adapter-pocket` for every
            adapter, whatever it learnt from, so that rows can be compared.

    Returns: loss: Q ||b - B||^2 + ||b - a||^2. least: Q / (Q + 1) ||B - a||^2, with the pose a that is measured on
        route 1. theory: ||B - A||^2. to_target, held: the two terms, without Q. estimator_noise: ||g(Psi(Z_B)) -
        g(B)||^2 of the true images. ratio: loss / least. Q, and pairs.
    """
    settings = _settings(primary, data, estimator, batch_size, seed)
    task = DualAdapterTask(settings)
    task.secondary.load_state_dict(load_part(type(task.secondary), secondary, "pose_network").state_dict())
    task.prepare(run_device(settings))
    last = settings.ddim_steps
    steps = list(range(max(0, last - LEAST_NOISY), last))
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for start in range(0, pairs, batch_size):
            batch = {**task.load(range(2 * start, 2 * start + 2 * batch_size, 2)), "steps": steps}
            for name, value in _means(task, batch).items():
                found.setdefault(name, []).append(value)
    told = {name: float(np.mean(values)) for name, values in found.items()}
    noise = _estimator_noise(task, range(0, 2 * pairs, 2), batch_size)
    counted = len(found["loss"]) * batch_size
    return {**told, "ratio": told["loss"] / max(told["least"], 1e-12), "estimator_noise": noise, "Q": task.strength,
            "pairs": counted}  # fmt: skip


def check_limit(primary: str, data: str, estimator: str = "") -> None:
    """ValueError where that estimator cannot look at the images of these adapters; from their configurations alone."""
    settings = _settings(primary, data, estimator, batch_size=1, seed=0)
    small, px = small_model(settings), image_px(settings)
    if px is not None:
        small.check_fit(px, small.shown_px(settings.estimator_px, px))


def _settings(primary: str, data: str, estimator: str, batch_size: int, seed: int) -> DualAdapterSettings:
    given = {"estimator": estimator, "mask": "own"} if estimator else {}
    method = json.loads((Path(primary) / "model_index.json").read_text()).get("method", "t2i-adapter")
    method = method if method in ADAPTERS else "t2i-adapter"
    how: dict[str, Any] = {"base_model": primary, "data": data, "true_pairs": True, "method": method, **given}
    return replace(DUAL_POCKET, batch_size=batch_size, seed=seed, gradient_accumulation_steps=1, **how)


def _means(task: DualAdapterTask, batch: dict[str, Any]) -> dict[str, float]:
    loss, told = task.loss(batch)
    wanted = ("least", "theory", "to_target", "held", "sure")
    return {"loss": float(loss), **{name: told[name] for name in wanted}}


@torch.no_grad()
def _estimator_noise(task: DualAdapterTask, indices: range, batch_size: int) -> float:
    """The mean ||g(Psi(Z_B)) - g(B)||^2 of true images."""
    values: list[float] = []
    cache, whole = task.inner.image_cache, list(indices)
    for start in range(0, len(whole), batch_size):
        chunk = whole[start : start + batch_size]
        rows = [task.quintuples.draw(task.settings.seed, index).rows[1] for index in chunk]
        batch = [task.load(range(index, index + 1)) for index in chunk]
        images = to_unit(np.stack([cache.images[row] for row in rows])).to(task.device)
        found, sure = task.sight.look(images)
        known = torch.cat([one["known"] for one in batch]).to(task.device)
        wanted = torch.cat([one["wanted"][1] for one in batch]).to(task.device)
        values += task.sight.distance(found, wanted, sure * known).tolist()
    return float(np.mean(values))
