"""The settings of a training run: frozen dataclasses, printed by `--dry-run` and saved beside the weights.

Those of every run are in `training.loop_settings`, those of a task beside it in `training.tasks`; here are all names,
the recipe that has one of each, and how texts become settings.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from humansd.core.names import present_name
from humansd.training.loop_settings import EARLIER, IDENTITIES, RESUMABLE, LoopSettings
from humansd.training.tasks.autoencoder_settings import AutoencoderSettings
from humansd.training.tasks.clip_settings import ClipSettings
from humansd.training.tasks.diffusion_settings import (
    LOSS_SETTINGS,
    LOSS_WORDS,
    MASK_SCHEDULES,
    RESOLUTIONS,
    SD15,
    SD21,
    DiffusionSettings,
)
from humansd.training.tasks.distillation_settings import DistillationSettings
from humansd.training.tasks.estimators_settings import EstimatorSettings
from humansd.training.tasks.few_steps_settings import FewStepSettings
from humansd.training.tasks.latent_head_settings import HeadSettings
from humansd.training.tasks.tiny_decoder_settings import TinyDecoderSettings

__all__ = [
    "EARLIER",
    "IDENTITIES",
    "LOSS_SETTINGS",
    "LOSS_WORDS",
    "MASK_SCHEDULES",
    "RESOLUTIONS",
    "RESUMABLE",
    "SD15",
    "SD21",
    "AutoencoderSettings",
    "ClipSettings",
    "DiffusionSettings",
    "DistillationSettings",
    "EstimatorSettings",
    "FewStepSettings",
    "HeadSettings",
    "LoopSettings",
    "PocketRecipe",
    "TinyDecoderSettings",
    "meant",
    "with_overrides",
]


@dataclass(frozen=True)
class PocketRecipe:
    """All stages of the pocket model, in order; stage settings leave their folders empty, the recipe fills them.

    vae, clip, base, humansd, higherhrnet, centernet, head, finetune, one_branch, four_steps, tiny_decoder: the settings
    of each stage.
    """

    images: int = 40000  # that are rendered for clip, base, humansd and higherhrnet
    size: int = 256  # px of a side
    seed: int = 1  # of the images
    workers: int = 2  # processes that draw images
    vae_images: int = 12000  # that are rendered for the VAE
    vae_seed: int = 31  # of the VAE's own images, so that it can learn while the others are drawn
    vae: AutoencoderSettings = dataclasses.field(default_factory=AutoencoderSettings)
    clip: ClipSettings = dataclasses.field(default_factory=ClipSettings)
    base: DiffusionSettings = dataclasses.field(default_factory=DiffusionSettings)
    humansd: DiffusionSettings = dataclasses.field(default_factory=lambda: DiffusionSettings(method="humansd"))
    higherhrnet: EstimatorSettings = dataclasses.field(default_factory=EstimatorSettings)
    held_out_seed: int = 11  # of CenterNet's own images, so that its faults are not those of HigherHRNet
    centernet: EstimatorSettings = dataclasses.field(default_factory=lambda: EstimatorSettings(kind="centernet"))
    finetune_images: int = 30000  # that are rendered for head and finetune
    finetune_seed: int = 21  # of the images of the two last stages, which come after the estimators
    head: HeadSettings = dataclasses.field(default_factory=HeadSettings)
    finetune: DiffusionSettings = dataclasses.field(  # HumanSD, learning on
        default_factory=lambda: DiffusionSettings(method="humansd", loss="latent-heatmap")
    )
    one_branch: DistillationSettings = dataclasses.field(default_factory=DistillationSettings)  # of what finetune made
    four_steps: FewStepSettings = dataclasses.field(default_factory=FewStepSettings)  # of the same
    tiny_decoder: TinyDecoderSettings = dataclasses.field(default_factory=TinyDecoderSettings)  # of the VAE


Settings = TypeVar("Settings", bound=LoopSettings | PocketRecipe)


def with_overrides(settings: Settings, overrides: dict[str, str]) -> Settings:
    """`settings` with `key=value` texts applied; `stage.key=value` reaches into a recipe.

    Raises:
        ValueError: unknown key, or a value that is not of the field's type; the message names both.
    """
    changes: dict[str, Any] = {}
    for key, text in {present_name(key): text for key, text in overrides.items()}.items():
        field, _, rest = key.partition(".")
        known = [one.name for one in dataclasses.fields(settings)]
        if field not in known:
            raise ValueError(f"--set {key}: no such setting; {meant(field, known)}")
        now = changes.get(field, getattr(settings, field))
        if not dataclasses.is_dataclass(now):
            if rest:
                raise ValueError(f"--set {key}: {field} is a value and has no settings of its own; use {field}={text}")
            changes[field] = _parse(key, text, type(now))
            continue
        if not rest:
            raise ValueError(f"--set {key}: a stage; name one of its settings, as in {key}.steps=1000")
        try:
            changes[field] = with_overrides(now, {rest: text})  # type: ignore[type-var]
        except ValueError as error:
            raise ValueError(str(error).replace(f"--set {rest}", f"--set {key}", 1)) from None
    return dataclasses.replace(settings, **changes)


def meant(name: str, known: Iterable[str]) -> str:
    """Which of `known` a misspelt name means, as a question; all of them where none is near."""
    near = difflib.get_close_matches(name, list(known), 1, 0.75)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _parse(key: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"--set {key}={text}: needs true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"--set {key}={text}: needs a value of type {kind.__name__}") from None
