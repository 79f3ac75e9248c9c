"""The settings of a training run: frozen dataclasses, printed by `--dry-run` and saved beside the weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True)
class LoopSettings:
    """What every run needs. Changing a field marked * does not make it another run, so a resumed run may."""

    steps: int = 1000  # *
    batch_size: int = 16
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    cooldown_steps: int = 0  # * linear to zero over the last steps
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    mixed_precision: str = "auto"  # * auto | no | bf16; auto: bf16 where the device multiplies it fast
    device: str = "auto"  # * auto | cpu | cuda
    log_every: int = 50  # *
    save_minutes: float = 5.0  # *
    max_minutes: float = 0.0  # * stop cleanly after this long; 0 = no limit


RESUMABLE = frozenset(
    {"steps", "cooldown_steps", "mixed_precision", "device", "log_every", "save_minutes", "max_minutes"}
    | {"preview_minutes"}
)


@dataclass(frozen=True)
class AutoencoderSettings(LoopSettings):
    """AutoencoderKL on random crops: L1 on pixels, on their differences and on their colour, a trace of KL."""

    data: str = ""  # folder of shards or of a picture pack
    init: str = ""  # diffusers folder to start from; empty: untrained
    crop: int = 64
    skeleton_share: float = 0.15  # the VAE must also carry drawn skeletons
    edge_weight: float = 1.0
    colour_weight: float = 3.0  # without it a short training drops one of the two axes of colour
    kl_weight: float = 1e-6


@dataclass(frozen=True)
class TowersSettings(LoopSettings):
    """Text and image tower, trained together contrastively."""

    data: str = ""
    vocabulary: int = 1500
    crop_padding: int = 8  # random shift in pixels


@dataclass(frozen=True)
class DiffusionSettings(LoopSettings):
    """The UNet. `pose` = "none" is plain Stable Diffusion; "concat" is HumanSD."""

    data: str = ""  # folder of shards or of a picture pack
    parts: str = ""  # diffusers folder with vae, text_encoder, tokenizer, scheduler
    base: str = ""  # diffusers folder whose UNet is the start; empty: untrained pocket UNet
    pose: str = "none"
    loss: str = "ldm"
    min_snr_gamma: float = 5.0  # 0 = every timestep counts the same
    text_dropout: float = 0.1
    pose_dropout: float = 0.1
    preview_minutes: float = 10.0  # * a sheet of fixed validation poses; 0 = never


@dataclass(frozen=True)
class PocketRecipe:
    """All stages of the pocket model, in order; stage settings leave their folders empty, the recipe fills them."""

    pictures: int = 20000
    size: int = 128
    seed: int = 1
    workers: int = 2
    vae: AutoencoderSettings = AutoencoderSettings()
    towers: TowersSettings = TowersSettings()
    base: DiffusionSettings = DiffusionSettings()
    humansd: DiffusionSettings = DiffusionSettings(pose="concat")


Settings = TypeVar("Settings", bound=LoopSettings | PocketRecipe)


def with_overrides(settings: Settings, overrides: dict[str, str]) -> Settings:
    """`settings` with `key=value` texts applied; `stage.key=value` reaches into a recipe.

    Raises:
        ValueError: unknown key, or a value that is not of the field's type; the message names both.
    """
    changes: dict[str, Any] = {}
    for key, text in overrides.items():
        field, _, rest = key.partition(".")
        names = [one.name for one in dataclasses.fields(settings)]
        if field not in names:
            raise ValueError(f"--set {key}: no such setting; known: {', '.join(names)}")
        now = changes.get(field, getattr(settings, field))
        if dataclasses.is_dataclass(now) and not isinstance(now, type):
            if not rest:
                raise ValueError(f"--set {key}: a stage; name one of its settings, as in {key}.steps=1000")
            changes[field] = with_overrides(now, {rest: text})  # type: ignore[type-var]
        else:
            changes[field] = _parse(key, text, type(now))
    return dataclasses.replace(settings, **changes)


def _parse(key: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"--set {key}={text}: needs a value of type {kind.__name__}") from None
