"""The settings that every training run has, and which of them a resumed run may change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

PRECISIONS = ("auto", "no", "bf16", "fp16")
SCHEDULES = ("constant", "cosine")
DEVICES = ("auto", "cpu", "cuda")
RESUMABLE = frozenset(
    {"steps", "cooldown_steps", "mixed_precision", "device", "compile", "log_every", "loaders"}
    | {"save_minutes", "max_minutes", "log_images_minutes", "min_snr_samples", "gradient_accumulation_steps"}
    | {"validate_steps", "patience", "report_to", "gradient_checkpointing", "guidance_scale", "pose_guidance_scale"}
    | {"inference_steps", "guidance_end"}
)
# A setting that names a folder or hub id -> the digest that says more than the name; of several the first known.
IDENTITIES = {
    "data": ("data_digest",),
    "components": ("components_weights",),
    "base_model": ("base_model_weights",),
    "init": ("init_weights",),
    "head": ("guide_weights",),
    "teacher_lora": ("teacher_lora_weights",),
    "subject": ("data_digest",),
    "primary": ("primary_weights",),
    "decoder": ("decoder_weights",),
    "estimator": ("estimator_weights", "guide_weights"),
}
# What a run stood on whose record does not say so, where that was something else than now.
EARLIER = {"reference_loss": "like the published code but for five points (version 0.1.0)"}
# What settings were before there were these settings, where the default is not what was done then.
FORMER_DEFAULTS = {"heatmap_resolutions": "half", "heatmap_strength": 1.0}


def require(name: str, value: Any, holds: bool, what: str) -> None:
    """ValueError: not `holds`; the message says the setting, its value and what it must be."""
    if not holds:
        raise ValueError(f"{name} = {value!r}: must be {what}")


@dataclass(frozen=True)
class LoopSettings:
    """What every run needs. Changing a field marked * does not make it another run, so a resumed run may."""

    steps: int = 1000  # * batches that are learnt from
    batch_size: int = 16  # of all processes and parts together
    learning_rate: float = 3e-4  # of a whole batch, used as it is: a larger batch does not raise it by itself
    gradient_accumulation_steps: int = 1  # * parts in which a batch is computed, one after the other, to save memory
    lr_warmup_steps: int = 100  # in which the learning rate rises from zero; 0 = none
    cooldown_steps: int = 0  # * the last so many, in which the learning rate falls linearly to zero
    lr_scheduler: str = "constant"  # after the warm-up: constant (with the cool-down) | cosine
    weight_decay: float = 0.01  # of the weights towards zero, AdamW's
    beta2: float = 0.99  # AdamW's second; the first is 0.9
    max_grad_norm: float = 1.0  # the largest norm; 0 = gradients are used as they are
    ema_decay: float = 0.999  # of the averages of the weights, which are what is exported; 0: none are kept
    explode_factor: float = 100.0  # a loss so many times the usual one spoils the run: back, and past it; 0 = never
    seed: int = 0  # of the order of the samples, of noise and of new weights
    mixed_precision: str = "auto"  # * auto | no | bf16 | fp16; auto: bf16 where the device multiplies it fast
    device: str = "auto"  # * auto | cpu | cuda
    loaders: int = -1  # * processes that make batches; 0: a thread; -1: on a GPU what it leaves idle, on a CPU 0
    log_every: int = 50  # * steps between two lines of log.jsonl
    save_minutes: float = 5.0  # * between two checkpoints
    max_minutes: float = 0.0  # * stop cleanly after this long; 0 = no limit
    log_images_minutes: float = 0.0  # * a sheet of what it can do now; 0 = never
    validate_steps: int = 0  # * score fixed validation poses every so many steps; 0 = never
    patience: int = 0  # * stop after so many validations without a better score; 0 = never
    report_to: str = "auto"  # * beside log.jsonl: none | tensorboard | wandb ...; auto: tensorboard if it is installed

    FORMER_FIELDS: ClassVar[frozenset[str]] = frozenset()  # settings of earlier versions that changed nothing

    def share(self, processes: int) -> int:
        """Samples that each of `processes` takes of each part of a batch. ValueError where it cannot be shared."""
        parts = processes * self.gradient_accumulation_steps
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size = {self.batch_size}: cannot be shared by {processes} processes in "
                f"gradient_accumulation_steps = {self.gradient_accumulation_steps} parts; use a multiple of {parts}"
                + (f", or gradient_accumulation_steps = {fewer}" if (fewer := self.fewer_parts(processes)) else "")
            )
        return self.batch_size // parts

    def fewer_parts(self, processes: int) -> int:
        """The most gradient_accumulation_steps, not more than there are, with which so many processes can share a
        batch; 0 where it cannot be."""
        most = range(self.gradient_accumulation_steps, 0, -1)
        return next((parts for parts in most if self.batch_size % (processes * parts) == 0), 0)

    def needed(self) -> dict[str, str]:
        """Settings that must not be empty when a run begins -> what each names."""
        return {"data": "a folder of shards"}

    def learns_from(self) -> frozenset[str]:
        """What of the samples is learnt from beside their images: "text", "pose"."""
        return frozenset()

    def unread(self, names: Iterable[str]) -> dict[str, str]:
        """Those of these names of settings that the others leave without effect, and why."""
        return {}

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "gradient_accumulation_steps", "log_every"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "save_minutes"):
            require(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "above 0")
        for name in ("max_grad_norm", "lr_warmup_steps"):
            require(name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "0 or more")
        require("loaders", self.loaders, -1 <= self.loaders <= 256, "from -1 to 256")
        require("beta2", self.beta2, 0 <= self.beta2 < 1, "at least 0 and below 1")
        require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")
        require("mixed_precision", self.mixed_precision, self.mixed_precision in PRECISIONS, " or ".join(PRECISIONS))
        require("device", self.device, self.device in DEVICES, " or ".join(DEVICES))
        require("lr_scheduler", self.lr_scheduler, self.lr_scheduler in SCHEDULES, " or ".join(SCHEDULES))
        require("explode_factor", self.explode_factor, self.explode_factor >= 0, "0 or more")


def learning_rate_factor(settings: LoopSettings, step: int) -> float:
    """Warm-up, then by `schedule`: constant, linear to zero over the cool-down (the constant middle lets a run be
    prolonged); or half a cosine to zero at the last step."""
    warm = min(1.0, (step + 1) / max(1, settings.lr_warmup_steps))
    if settings.lr_scheduler == "cosine":
        done = max(0, step - settings.lr_warmup_steps) / max(1, settings.steps - settings.lr_warmup_steps)
        return warm * (1 + math.cos(math.pi * min(1.0, done))) / 2
    cool = min(1.0, (settings.steps - step) / max(1, settings.cooldown_steps)) if settings.cooldown_steps else 1.0
    return warm * cool


def unrecorded_settings(kind: type[LoopSettings]) -> dict[str, Any]:
    """What the settings of a run were whose record does not know them yet: the defaults, but where those have changed
    or a new setting's default is not what was done before there was the setting."""
    was = dataclasses.asdict(kind())
    return was | {name: value for name, value in FORMER_DEFAULTS.items() if name in was}
