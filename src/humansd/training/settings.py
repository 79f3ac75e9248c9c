"""The settings of a training run: frozen dataclasses, printed by `--dry-run` and saved beside the weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from humansd.core.names import present_name


def _require(name: str, value: Any, holds: bool, what: str) -> None:
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

    def share(self, processes: int) -> int:
        """Samples that each of `processes` takes of each part of a batch. ValueError where it cannot be shared."""
        parts = processes * self.gradient_accumulation_steps
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size = {self.batch_size}: cannot be shared by {processes} processes in "
                f"{self.gradient_accumulation_steps} parts; use a multiple of {parts}"
            )
        return self.batch_size // parts

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "gradient_accumulation_steps", "log_every"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "save_minutes"):
            _require(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "above 0")
        for name in ("max_grad_norm", "lr_warmup_steps"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "0 or more")
        _require("loaders", self.loaders, -1 <= self.loaders <= 256, "from -1 to 256")
        _require("beta2", self.beta2, 0 <= self.beta2 < 1, "at least 0 and below 1")
        _require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")
        _require("mixed_precision", self.mixed_precision, self.mixed_precision in PRECISIONS, " or ".join(PRECISIONS))
        _require("device", self.device, self.device in DEVICES, " or ".join(DEVICES))
        _require("lr_scheduler", self.lr_scheduler, self.lr_scheduler in SCHEDULES, " or ".join(SCHEDULES))
        _require("explode_factor", self.explode_factor, self.explode_factor >= 0, "0 or more")


SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # on the hub
SD21 = "stable-diffusion-2-1-base"  # a name alone: its place on the hub is gone (training.bases)
PRECISIONS = ("auto", "no", "bf16", "fp16")
SCHEDULES = ("constant", "cosine")
MASK_SCHEDULES = ("constant", "early", "late")
RESOLUTIONS = ("both", "half")
DEVICES = ("auto", "cpu", "cuda")
RESUMABLE = frozenset(
    {"steps", "cooldown_steps", "mixed_precision", "device", "compile", "log_every", "loaders"}
    | {"save_minutes", "max_minutes", "log_images_minutes", "min_snr_samples", "gradient_accumulation_steps"}
    | {"validate_steps", "patience", "report_to", "gradient_checkpointing", "guidance_scale", "pose_guidance_scale"}
    | {"inference_steps"}
)
# A setting that names a folder or hub id -> the digest that says more than the name; of several the first known.
IDENTITIES = {
    "data": ("data_digest",),
    "parts": ("parts_weights",),
    "base": ("base_weights",),
    "init": ("init_weights",),
    "head": ("guide_weights",),
    "subject": ("data_digest",),
    "primary": ("primary_weights",),
    "decoder": ("decoder_weights",),
    "estimator": ("estimator_weights", "guide_weights"),
}


# What a run stood on whose record does not say so, where that was something else than now.
EARLIER = {"reference_loss": "like the published code but for five points (version 0.1.0)"}


@dataclass(frozen=True)
class AutoencoderSettings(LoopSettings):
    """AutoencoderKL on random crops: L1 on pixels, on their differences, on their colour and on features of an
    estimator, a trace of KL."""

    data: str = ""  # folder of shards or of an image pack
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: they are square and of one size
    init: str = ""  # folder of a VAE to start from; empty: untrained
    crop: int = 64  # px of a side of what is learnt from
    skeleton_share: float = 0.15  # of the crops that are drawn skeletons: the VAE must also carry drawn skeletons
    edge_weight: float = 1.0  # of the error of differences between neighboring pixels
    color_weight: float = 3.0  # of the error of the colors; without it a short training drops one of their two axes
    kl_weight: float = 1e-6  # of the latents' distance from a normal distribution
    feature_weight: float = 0.0  # of the difference in the estimator's first features; 0: none is asked
    estimator: str = ""  # the HigherHRNet whose features count (training.teachers): "pocket", a folder
    equivariance: float = 0.0  # share of a batch whose latents, halved in size, must decode to the halved images
    compile: str = "no"  # * no | auto; auto: torch.compile on a GPU that has a compiler

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("compile", self.compile, self.compile in ("no", "auto"), "no or auto")
        _require("equivariance", self.equivariance, 0 <= self.equivariance <= 1, "from 0 to 1")
        _require("feature_weight", self.feature_weight, 0 <= self.feature_weight < math.inf, "0 or more")


@dataclass(frozen=True)
class ClipSettings(LoopSettings):
    """Text and image tower, trained together contrastively."""

    data: str = ""  # folder of shards or of an image pack
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: they are square and of one size
    vocabulary: int = 1500  # pieces of words that the tokenizer learns
    crop_padding: int = 8  # random shift in pixels


@dataclass(frozen=True)
class DiffusionSettings(LoopSettings):
    """A way of conditioning, `method` (`methods`): "sd" is plain Stable Diffusion, "humansd" the paper's."""

    IDLE: ClassVar[frozenset[str]] = frozenset()  # settings that a kind of training does not read at all

    data: str = ""  # folder of shards or of an image pack
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: square ones of one size as they are,
    # others to the model's size
    parts: str = ""  # diffusers folder with vae, text_encoder, tokenizer, scheduler; empty: those of `base`
    base: str = ""  # diffusers folder whose UNet is the start; empty: untrained pocket UNet
    method: str = "sd"  # of conditioning: sd | humansd | controlnet | t2i-adapter | gligen | joint-maps
    loss: str = "ldm"  # ldm | skeleton-mask | heatmap | reference | latent-heatmap; a dry run says what it is
    mask_strength: float = 3.0  # of "skeleton-mask": an error on a person counts 1 + this
    mask: str = "skeleton"  # skeleton | own; own: the sample's person mask, where the data carry one
    mask_schedule: str = "constant"  # constant | early | late: the strength over the timesteps (losses.weights)
    estimator: str = ""  # the HigherHRNet that "heatmap" and "reference" ask (training.teachers): "pocket", a folder
    estimator_px: int = 0  # of "heatmap": side of the image it is shown; 0: that of the images it learnt from
    head: str = ""  # folder of the head that "latent-heatmap" asks
    heatmap_strength: float = 8.0  # of "heatmap" and "latent-heatmap": an error on a joint counts 1 + this
    heatmap_resolutions: str = "both"  # both | half: the estimator's two maps averaged, or the finer one alone
    heatmap_threshold: float = 0.05  # less heat is none
    heatmap_sum: bool = False  # the joints' heat is added up, not the largest taken
    weight_mean_one: bool = False  # every sample's weights are divided by their mean
    weigh_unposed: bool = True  # false: a sample whose pose is dropped counts as in "ldm", whatever the loss
    train_text: bool = False  # the text encoder learns too (for a base that starts from nothing)
    min_snr_gamma: float = 5.0  # 0 = every timestep counts the same
    min_snr_samples: int = 0  # * from this sample on every timestep counts the same; 0 = never
    zero_terminal_snr: bool = False  # the last timestep is pure noise (Lin et al. 2024); velocity prediction alone, and
    # min-SNR leaves that timestep out
    cached_augmentations: int = (
        1  # of each image in the latent cache: itself, then windows and mirror images (data.augmentations)
    )
    text_dropout: float = 0.1  # share of the samples whose caption is the empty text
    pose_dropout: float = 0.1  # share of the samples whose pose is left out
    cache_text: bool = False  # captions are encoded once, before the first step; takes disk (data.latents.build_texts)
    guidance_scale: float = 5.0  # * of the finished model, where nothing else is asked of it
    pose_guidance_scale: float = 1.0  # * of the finished model
    inference_steps: int = 25  # * of the finished model
    gradient_checkpointing: bool = False  # * computes the forward pass twice to save memory
    compile: str = "no"  # * no | auto; auto: torch.compile where the device has a compiler
    log_images_minutes: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSS_WORDS:
            raise ValueError(f"loss = {self.loss!r}: known are {', '.join(LOSS_WORDS)}")
        for name in ("text_dropout", "pose_dropout"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "from 0 to 1")
        _require(
            "cache_text", self.cache_text, not (self.cache_text and self.train_text), "false where train_text is true"
        )
        _require("cached_augmentations", self.cached_augmentations, self.cached_augmentations >= 1, "1 or more")
        _require("compile", self.compile, self.compile in ("no", "auto"), "no or auto")
        posed = self.method != "sd"
        _require("weigh_unposed", self.weigh_unposed, self.weigh_unposed or posed, "true where method is sd")
        _require("mask_strength", self.mask_strength, 0 <= self.mask_strength <= 1e4, "from 0 to 10000")
        _require("mask", self.mask, self.mask in ("skeleton", "own"), "skeleton or own")
        _require("mask_schedule", self.mask_schedule, self.mask_schedule in MASK_SCHEDULES, " or ".join(MASK_SCHEDULES))
        resolutions = self.heatmap_resolutions
        _require("heatmap_resolutions", resolutions, resolutions in RESOLUTIONS, " or ".join(RESOLUTIONS))
        px = self.estimator_px
        _require("estimator_px", px, px >= 0 and px % 32 == 0, "0 or a multiple of 32, which is what the network takes")
        _require("inference_steps", self.inference_steps, self.inference_steps >= 1, "1 or more")
        _require("heatmap_strength", self.heatmap_strength, 0 <= self.heatmap_strength < math.inf, "0 or more")
        _require("heatmap_threshold", self.heatmap_threshold, 0 <= self.heatmap_threshold < 1, "at least 0 and below 1")
        _require("min_snr_samples", self.min_snr_samples, self.min_snr_samples >= 0, "0 or more")
        _require("min_snr_gamma", self.min_snr_gamma, self.min_snr_gamma >= 0, "0 or more")


LOSS_WORDS = {
    "ldm": "HumanSD Eq. 1: every error counts the same",
    "skeleton-mask": "an error counts more where the key points say that people are",
    "heatmap": "HumanSD Eq. 6: an error counts more where the estimator sees a person in the missed noise",
    "reference": "HumanSD Eq. 6 as the published code computes it: 1 + 0.1 Z, Z a latent of the inverted joint count",
    "latent-heatmap": "HumanSD Eq. 6, the heatmaps read from the latent by a head that the estimator taught",
}
_MAPPED = ("skeleton-mask", "heatmap", "latent-heatmap")
LOSS_SETTINGS = {  # the settings that not every loss reads, and which do
    "mask_strength": ("skeleton-mask",),
    "mask": ("skeleton-mask",),
    "mask_schedule": ("skeleton-mask",),
    "estimator": ("heatmap", "reference"),
    "estimator_px": ("heatmap",),
    "head": ("latent-heatmap",),
    "heatmap_strength": ("heatmap", "latent-heatmap"),
    "heatmap_resolutions": ("heatmap",),
    "heatmap_threshold": ("heatmap", "latent-heatmap"),
    "heatmap_sum": ("heatmap", "latent-heatmap"),
    "weight_mean_one": _MAPPED,
    "weigh_unposed": (*_MAPPED, "reference"),
}
_HEADS_TOO = {"estimator", "estimator_px", "heatmap_resolutions"}
_NOT_THE_HEADS = {"loss", "train_text", "min_snr_gamma", "min_snr_samples", *LOSS_SETTINGS} - _HEADS_TOO


def unread(settings: DiffusionSettings, names: Iterable[str]) -> dict[str, str]:
    """Those of the names of settings that these settings leave without effect, and why."""
    if isinstance(settings, HeadSettings):
        return {name: "the latent heatmap head does not read it" for name in names if name in _NOT_THE_HEADS}
    if settings.IDLE:
        return {name: "this training does not read it" for name in names if name in settings.IDLE}
    return {
        name: f"loss = {settings.loss!r} does not read it; read by {', '.join(LOSS_SETTINGS[name])}"
        for name in names
        if name in LOSS_SETTINGS and settings.loss not in LOSS_SETTINGS[name]
    }


def unrecorded_settings(kind: type[LoopSettings]) -> dict[str, Any]:
    """What the settings of a run were whose record does not know them yet: the defaults, but where those have changed
    or a new setting's default is not what was done before there was the setting."""
    was = dataclasses.asdict(kind())
    return was | ({"heatmap_resolutions": "half", "heatmap_strength": 1.0} if "heatmap_resolutions" in was else {})


@dataclass(frozen=True)
class HeadSettings(DiffusionSettings):
    """The latent heatmap head; `base` is the HumanSD whose noise differences it learns to read."""

    method: str = "humansd"


@dataclass(frozen=True)
class DistillationSettings(DiffusionSettings):
    """The UNet of `base` answers at one branch what it does at `guidance_scale` and `pose_guidance_scale` (LoRA)."""

    method: str = "humansd"
    text_dropout: float = 0.0  # share of the samples whose caption is the empty text
    rank: int = 16  # of the change of each layer

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("rank", self.rank, self.rank >= 1, "1 or more")


@dataclass(frozen=True)
class EstimatorSettings(LoopSettings):
    """A pocket pose estimator: "higherhrnet", or "centernet", the other architecture that only evaluates."""

    data: str = ""  # folder of shards or of an image pack
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: they are square and of one size
    init: str = ""  # folder of a network to start from; empty: untrained
    kind: str = "higherhrnet"  # higherhrnet | centernet
    changes: str = "strong"  # how much the images are changed: strong | mild (data.augment)
    group_repeats: int = 3  # images of several people come so many times as often, to learn to tell people apart
    heat_weight: float = 300.0  # HigherHRNet: of the heatmaps against the tags, whose errors are larger numbers

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("kind", self.kind, self.kind in ("higherhrnet", "centernet"), "higherhrnet or centernet")
        _require("changes", self.changes, self.changes in ("strong", "mild"), "strong or mild")
        _require("group_repeats", self.group_repeats, self.group_repeats >= 1, "1 or more")


@dataclass(frozen=True)
class PocketRecipe:
    """All stages of the pocket model, in order; stage settings leave their folders empty, the recipe fills them."""

    images: int = 40000  # that are rendered for clip, base, humansd and higherhrnet
    size: int = 256  # px of a side
    seed: int = 1  # of the images
    workers: int = 2  # processes that draw images
    vae_images: int = 12000  # that are rendered for the VAE
    vae_seed: int = 31  # of the VAE's own images, so that it can learn while the others are drawn
    vae: AutoencoderSettings = AutoencoderSettings()
    clip: ClipSettings = ClipSettings()
    base: DiffusionSettings = DiffusionSettings()
    humansd: DiffusionSettings = DiffusionSettings(method="humansd")
    higherhrnet: EstimatorSettings = EstimatorSettings()
    held_out_seed: int = 11  # of CenterNet's own images, so that its faults are not those of HigherHRNet
    centernet: EstimatorSettings = EstimatorSettings(kind="centernet")
    finetune_images: int = 30000  # that are rendered for head and finetune
    finetune_seed: int = 21  # of the images of the two last stages, which come after the estimators
    head: HeadSettings = HeadSettings()
    finetune: DiffusionSettings = DiffusionSettings(method="humansd", loss="latent-heatmap")  # HumanSD, learning on


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
            raise ValueError(f"--set {key}: no such setting; known: {', '.join(known)}")
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


def _parse(key: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"--set {key}={text}: needs true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"--set {key}={text}: needs a value of type {kind.__name__}") from None
