"""Runs a preset by name: what `humansd train` calls."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from humansd.training.presets import PRESETS
from humansd.training.settings import (
    AutoencoderSettings,
    DiffusionSettings,
    EstimatorSettings,
    HeadSettings,
    LoopSettings,
    PocketRecipe,
    TowersSettings,
    unread,
    with_overrides,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from humansd.training.loop import Task, Validator


def run_preset(
    name: str,
    overrides: dict[str, str],
    out: Path | None = None,
    dry_run: bool = False,
    make_validator: Callable[[Task], Validator] | None = None,
) -> str:
    """Runs preset `name` with `overrides` in folder `out` and returns a line that says where the result is.

    `out` defaults to runs/NAME in the cache folder (`$XDG_CACHE_HOME` or ~/.cache, humansd). With `dry_run` nothing
    runs and the settings are returned as JSON, with the memory that a run of them will take. make_validator: scores the
    run every `validate_steps`.

    Raises:
        ValueError: unknown preset or setting, a stage without its `data`, or a recipe with a validator.
    """
    settings = with_overrides(preset_settings(name), overrides)
    run = out or default_runs() / name
    if dry_run:
        from humansd.training.memory import estimate_memory

        told = {"preset": name, "out": str(run), "settings": dataclasses.asdict(settings)}
        return json.dumps(told | {"memory": estimate_memory(settings)}, indent=1)
    if isinstance(settings, PocketRecipe):
        if make_validator is not None:
            raise ValueError(f"{name}: a recipe of several stages; validate a single one, such as pocket-humansd")
        from humansd.training.recipe import run_pocket

        return f"{name}: the finished model is in {run_pocket(settings, run)}"
    if make_validator is not None and not settings.validate_steps:
        raise ValueError(
            f"{name}: validate_steps is 0, so nothing is validated; say how often: --set validate_steps=500"
        )
    _check_sources(name, settings)
    if isinstance(settings, DiffusionSettings):
        for key, why in unread(settings, overrides).items():
            raise ValueError(f"--set {key}={overrides[key]}: has no effect, since {why}; leave it out")
    from humansd.training.loop import train

    task = make_task(settings)
    progress = train(task, run, make_validator(task) if make_validator is not None else None)
    return f"{name}: {progress.step} steps, {progress.samples} samples; weights in {run / 'export'}"


def preset_settings(name: str) -> PocketRecipe | LoopSettings:
    """The settings of a preset.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"{name}: no such preset; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def _check_sources(name: str, settings: LoopSettings) -> None:
    needed = {"data": "a folder of shards"}
    if isinstance(settings, DiffusionSettings):
        needed["parts"] = "a diffusers folder or hub id with vae, text_encoder, tokenizer and scheduler"
        if settings.pose != "none":
            needed["base"] = "a diffusers folder or hub id whose UNet is the start"
    for field, what in needed.items():
        if not getattr(settings, field):
            raise ValueError(f"{name}: {field} is empty; name {what} with --set {field}=FOLDER")


def default_runs() -> Path:
    """Where runs live unless `out` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "humansd" / "runs"


def make_task(settings: object) -> Task:
    """The task of the settings of a single stage."""
    # Imported late, so that --dry-run stays quick.
    if isinstance(settings, AutoencoderSettings):
        from humansd.training.autoencoder import AutoencoderTask

        return AutoencoderTask(settings)
    if isinstance(settings, TowersSettings):
        from humansd.training.towers import TowersTask

        return TowersTask(settings)
    if isinstance(settings, EstimatorSettings):
        from humansd.training.estimators import EstimatorTask

        return EstimatorTask(settings)
    if isinstance(settings, HeadSettings):
        from humansd.training.latent_head import HeadTask

        return HeadTask(settings)
    assert isinstance(settings, DiffusionSettings)
    from humansd.training.diffusion import DiffusionTask

    return DiffusionTask(settings)
