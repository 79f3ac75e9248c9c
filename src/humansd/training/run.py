"""Runs a preset by name: what `humansd train` calls."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humansd.training.presets import PRESETS
from humansd.training.settings import LoopSettings, PocketRecipe, meant, with_overrides
from humansd.training.tasks.table import task_class

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
    will take. What a run refuses before it loads weights is refused then too; without `data` a dry run tells settings
    and memory alone, and says so. make_validator: scores the run every `validate_steps`.

    Raises:
        ValueError: unknown preset or setting, a stage without its `data`, a recipe with a validator, a loss whose
            teacher is not named, not here or made for images of another size.
    """
    settings = preset_settings(name)
    if config is not None:
        settings = configured(settings, config)
    settings = with_overrides(settings, overrides)
    run = out or default_runs() / name
    if isinstance(settings, LoopSettings):
        for key, why in settings.unread(overrides).items():
            raise ValueError(f"--set {key}={overrides[key]}: has no effect, since {why}; leave it out")
    from humansd.training.checks import check_inputs, with_shipped

    settings = with_shipped(settings)
    check_inputs(name, settings)
    if make_validator is not None:
        _check_validation(name, settings)
    if isinstance(settings, LoopSettings):
        if dry_run and not getattr(settings, "data", ""):
            _tell_what_is_needed(name, settings)
        else:
            _check_sources(name, settings)
            task_class(settings).check(settings)
    if dry_run:
        from humansd.training.memory import estimate_memory

        told: dict[str, Any] = {"preset": name, "out": str(run), "settings": dataclasses.asdict(settings)}
        if isinstance(settings, LoopSettings):
            told |= task_class(settings).describe(settings)
        return json.dumps(told | {"memory": estimate_memory(settings)}, indent=1)
    if isinstance(settings, PocketRecipe):
        from humansd.training.recipe import run_pocket

        return f"{name}: the finished model is in {run_pocket(settings, run)}"
    from humansd.training.loop import train

    task = make_task(settings)
    progress = train(task, run, make_validator(task) if make_validator is not None else None)
    loss = f", loss {progress.recent[-1]:.3g}" if progress.recent else ""
    return f"{name}: {progress.step} steps, {progress.samples} samples{loss}; weights in {run / 'export'}"


def preset_settings(name: str) -> PocketRecipe | LoopSettings:
    """The settings of a preset.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"{name}: no such preset; {meant(name, PRESETS)}")
    return PRESETS[name]


def configured(settings: PocketRecipe | LoopSettings, config: Path) -> PocketRecipe | LoopSettings:
    """`settings` with those of a file. OSError, ValueError: it is not there, or holds what is no setting of these."""
    from humansd.training.config_file import read_config

    values = {key: text for key, text in read_config(config).items() if not _is_former(settings, key)}
    try:
        return with_overrides(settings, values)
    except ValueError as error:
        raise ValueError(f"{config}: {str(error).removeprefix('--set ')}") from None


def _is_former(settings: PocketRecipe | LoopSettings, key: str) -> bool:
    """Whether `key`, or `stage.key` of a recipe, was a setting in an earlier version, and one without effect."""
    stage, _, name = key.rpartition(".")
    return name in getattr(getattr(settings, stage, None) if stage else settings, "FORMER_FIELDS", ())


def describe_loss(settings: LoopSettings) -> dict[str, Any]:
    """The loss in words, with its teacher, as a dry run shows it; empty where there is nothing to tell.

    Raises:
        ValueError, OSError: no teacher is named, or one that does not fit the images, as `training.teachers` says.
    """
    loss: dict[str, Any] = task_class(settings).describe(settings).get("loss", {})
    return loss


def _check_validation(name: str, settings: PocketRecipe | LoopSettings) -> None:
    if isinstance(settings, PocketRecipe):
        raise ValueError(f"{name}: a recipe of several stages; validate a single one, such as pocket-humansd")
    if not settings.validate_steps:
        raise ValueError(
            f"{name}: validate_steps is 0, so nothing is validated; say how often: --set validate_steps=500"
        )


def _tell_what_is_needed(name: str, settings: LoopSettings) -> None:
    empty = " and ".join(f"--set {field}=FOLDER" for field in settings.needed() if not getattr(settings, field))
    told = f"{name}: a run needs {empty}; without data this dry run tells settings and memory, and checks no more"
    warnings.warn(told, UserWarning, stacklevel=3)


def _check_sources(name: str, settings: LoopSettings) -> None:
    for field, what in settings.needed().items():
        if not getattr(settings, field):
            raise ValueError(f"{name}: {field} is empty; name {what} with --set {field}=FOLDER")


def default_runs() -> Path:
    """Where runs live unless `out` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "humansd" / "runs"


def make_task(settings: LoopSettings) -> Task:
    """The task of the settings of a single stage."""
    return task_class(settings)(settings)
