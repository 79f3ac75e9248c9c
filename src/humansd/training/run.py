"""Runs a preset by name: what `humansd train` calls."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humansd.training.dual_settings import DualAdapterSettings
from humansd.training.presets import PRESETS
from humansd.training.settings import (
    LOSS_WORDS,
    AutoencoderSettings,
    ClipSettings,
    DiffusionSettings,
    DistillationSettings,
    EstimatorSettings,
    HeadSettings,
    LoopSettings,
    PocketRecipe,
    unread,
    with_overrides,
)
from humansd.training.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from humansd.training.loop import Task
    from humansd.training.observer import Validator


def run_preset(
    name: str,
    overrides: dict[str, str],
    out: Path | None = None,
    dry_run: bool = False,
    make_validator: Callable[[Task], Validator] | None = None,
    config: Path | None = None,
) -> str:
    """Runs preset `name` with the settings of the file `config` and then `overrides` in folder `out` and returns a line
    that says where the result is.

    `out` defaults to runs/NAME in the cache folder (`$XDG_CACHE_HOME` or ~/.cache, humansd). With `dry_run` nothing
    runs and the settings are returned as JSON, with the loss and its teacher in words and the memory that a run of them
    will take; what a run refuses is refused. make_validator: scores the run every `validate_steps`.

    Raises:
        ValueError: unknown preset or setting, a stage without its `data`, a recipe with a validator, a loss whose
            teacher is not named, not here or made for images of another size.
    """
    from humansd.training.checks import check_inputs, with_shipped

    settings = preset_settings(name)
    if config is not None:
        settings = configured(settings, config)
    settings = with_shipped(with_overrides(settings, overrides))
    run = out or default_runs() / name
    if isinstance(settings, DiffusionSettings):
        for key, why in unread(settings, overrides).items():
            raise ValueError(f"--set {key}={overrides[key]}: has no effect, since {why}; leave it out")
    check_inputs(name, settings)
    if dry_run:
        from humansd.training.memory import estimate_memory

        told: dict[str, Any] = {"preset": name, "out": str(run), "settings": dataclasses.asdict(settings)}
        if isinstance(settings, DualAdapterSettings):
            from humansd.training.dual_costs import dual_cost

            told |= dual_cost(settings)
        elif isinstance(settings, DiffusionSettings):
            told["loss"] = describe_loss(settings)
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
        _check_weights(settings)
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


def configured(settings: PocketRecipe | LoopSettings, config: Path) -> PocketRecipe | LoopSettings:
    """`settings` with those of a file. OSError, ValueError: it is not there, or holds what is no setting of these."""
    from humansd.training.config_file import read_config

    values = read_config(config)
    try:
        return with_overrides(settings, values)
    except ValueError as error:
        raise ValueError(f"{config}: {str(error).removeprefix('--set ')}") from None


def describe_loss(settings: DiffusionSettings) -> dict[str, Any]:
    """The loss in words, with its teacher, as a dry run shows it.

    Raises:
        ValueError, OSError: no teacher is named, or one that does not fit the images, as `training.teachers` says.
    """
    from humansd.training.bases import image_px
    from humansd.training.teachers import check_fit, needs_teacher, shown_px, teacher_of

    head = isinstance(settings, HeadSettings)
    told: dict[str, Any] = {"name": "the teacher's heatmaps" if head else settings.loss}
    told["is"] = "squared error of the head's heatmaps" if head else LOSS_WORDS[settings.loss]
    for key in ("mask_strength", "heatmap_strength"):
        if not unread(settings, [key]):
            told[key] = getattr(settings, key)
    if needs_teacher(settings):
        teacher, px = teacher_of(settings), image_px(settings)
        told["teacher"] = str(teacher)
        told["teacher_is_shown_px"] = shown_px(settings, teacher, px or teacher.config.input_px)
        if px is not None:
            check_fit(teacher, px, told["teacher_is_shown_px"])
    return told


def _check_weights(settings: DiffusionSettings) -> None:
    """Whether base and teacher can be loaded at all, before anything is; errors as of `describe_loss`."""
    from humansd.training.bases import check_base_is_here
    from humansd.training.teachers import find_teacher, needs_teacher, teacher_folder, teacher_of

    check_base_is_here(settings)
    if isinstance(settings, DualAdapterSettings):
        teacher_folder(find_teacher(settings.estimator, "the secondary adapter"))
        return
    describe_loss(settings)
    if needs_teacher(settings):
        teacher_folder(teacher_of(settings))


def _check_sources(name: str, settings: LoopSettings) -> None:
    needed = {"data": "a folder of shards"}
    if isinstance(settings, DiffusionSettings):
        if settings.method != "sd":
            needed["base"] = "a diffusers folder or hub id whose UNet is the start"
        if not settings.base:
            needed["parts"] = "a diffusers folder or hub id with vae, text_encoder, tokenizer and scheduler"
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
    if isinstance(settings, ClipSettings):
        from humansd.training.clip import ClipTask

        return ClipTask(settings)
    if isinstance(settings, EstimatorSettings):
        from humansd.training.estimators import EstimatorTask

        return EstimatorTask(settings)
    if isinstance(settings, HeadSettings):
        from humansd.training.latent_head import HeadTask

        return HeadTask(settings)
    if isinstance(settings, DualAdapterSettings):
        from humansd.training.tasks.dual_adapter import DualAdapterTask

        return DualAdapterTask(settings)
    if isinstance(settings, SubjectSettings):
        from humansd.training.tasks.subject import SubjectTask

        return SubjectTask(settings)
    if isinstance(settings, DistillationSettings):
        from humansd.training.distillation import DistillationTask

        return DistillationTask(settings)
    assert isinstance(settings, DiffusionSettings)
    from humansd.training.diffusion import DiffusionTask

    return DiffusionTask(settings)
