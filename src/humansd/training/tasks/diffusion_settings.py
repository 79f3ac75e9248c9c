"""What is set when a UNet learns to denoise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from humansd.training.loop_settings import LoopSettings, require

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # on the hub
SD21 = "stable-diffusion-2-1-base"  # a name alone: its place on the hub is gone (training.bases)
MASK_SCHEDULES = ("constant", "early", "late")
RESOLUTIONS = ("both", "half")
OPTIMIZERS = ("adamw", "muon")
TAUGHT = ("heatmap", "reference")  # losses that ask an estimator in every step
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


@dataclass(frozen=True)
class LatentSettings(LoopSettings):
    """What is denoised, and what a UNet is told of it: the same for the UNet and for the head that reads its errors."""

    data: str = ""  # folder of shards or of an image cache
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: square ones of one size as they are,
    # others to the model's size
    components: str = ""  # diffusers folder with vae, text_encoder, tokenizer, scheduler; empty: those of `base_model`
    base_model: str = ""  # diffusers folder whose UNet is the start; empty: untrained pocket UNet
    method: str = "sd"  # of conditioning (methods.table), as sd, humansd, controlnet, t2i-adapter, gligen, joint-maps
    zero_terminal_snr: bool = False  # the last timestep is pure noise (Lin et al. 2024); velocity prediction alone, and
    # min-SNR leaves that timestep out
    cached_augmentations: int = 1  # of each image in the latent cache: itself, then windows and mirror images
    # (data.augmentations)
    text_dropout: float = 0.1  # share of the samples whose caption is the empty text
    pose_dropout: float = 0.1  # share of the samples whose pose is left out
    cache_text: bool = False  # captions are encoded once, before the first step; takes disk (data.latents.build_texts)
    compile: str = "no"  # * no | auto; auto: torch.compile where the device has a compiler

    def needed(self) -> dict[str, str]:
        """See `LoopSettings.needed`."""
        named = super().needed()
        if self.method != "sd":
            named["base_model"] = "a diffusers folder or hub id whose UNet is the start, or pocket,"
        elif not self.base_model:
            named["components"] = "a diffusers folder or hub id with vae, text_encoder, tokenizer and scheduler"
        return named

    def learns_from(self) -> frozenset[str]:
        """See `LoopSettings.learns_from`."""
        return frozenset({"text"} if self.method == "sd" else {"text", "pose"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_dropout", "pose_dropout"):
            require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "from 0 to 1")
        require("method", self.method, "+" not in self.method, "one; adapters are mixed when an image is drawn")
        require("cached_augmentations", self.cached_augmentations, self.cached_augmentations >= 1, "1 or more")
        require("compile", self.compile, self.compile in ("no", "auto"), "no or auto")


@dataclass(frozen=True)
class TeacherSettings(LoopSettings):
    """The estimator that is asked what it sees, and how."""

    estimator: str = ""  # the HigherHRNet that "heatmap", "reference" and the head's training ask (training.teachers):
    # "pocket", a folder
    estimator_px: int = 0  # side of the image it is shown; 0: that of the images it learnt from
    heatmap_resolutions: str = "both"  # both | half: the estimator's two maps averaged, or the finer one alone

    def teacher_wanted_by(self) -> str:
        """What asks an estimator, in words; empty where nothing does."""
        return ""

    def __post_init__(self) -> None:
        super().__post_init__()
        resolutions, px = self.heatmap_resolutions, self.estimator_px
        require("heatmap_resolutions", resolutions, resolutions in RESOLUTIONS, " or ".join(RESOLUTIONS))
        require("estimator_px", px, px >= 0 and px % 32 == 0, "0 or a multiple of 32, which is what the network takes")


@dataclass(frozen=True)
class DiffusionSettings(LatentSettings, TeacherSettings):
    """A way of conditioning, `method` (`methods`): "sd" is plain Stable Diffusion, "humansd" the paper's."""

    noise_candidates: int = 1  # of so many noises a sample takes the one nearest to its latent; 1: the first
    align_weight: float = 0.0  # of a middle layer's error in naming body parts (tasks.alignment); 0: not asked
    optimizer: str = "adamw"  # adamw | muon; muon: for matrices and kernels, AdamW for the rest
    aspect_buckets: float = 0.0  # images keep their shape as far as some shapes of about that area allow, up to sides
    # that differ by this factor, such as 2 (data.buckets); 0: all are cut to squares
    loss: str = "ldm"  # ldm | skeleton-mask | heatmap | reference | latent-heatmap; a dry run says what it is
    mask_strength: float = 3.0  # of "skeleton-mask": an error on a person counts 1 + this
    mask: str = "skeleton"  # skeleton | own; own: the sample's person mask, where the data carry one
    mask_schedule: str = "constant"  # constant | early | late: the strength over the timesteps (losses.weights)
    head: str = ""  # folder of the head that "latent-heatmap" asks
    heatmap_strength: float = 8.0  # of "heatmap" and "latent-heatmap": an error on a joint counts 1 + this
    heatmap_threshold: float = 0.05  # less heat is none
    heatmap_sum: bool = False  # the joints' heat is added up, not the largest taken
    weight_mean_one: bool = False  # every sample's weights are divided by their mean
    weigh_unposed: bool = True  # false: a sample whose pose is dropped counts as in "ldm", whatever the loss
    train_text: bool = False  # the text encoder learns too (for a base that starts from nothing)
    min_snr_gamma: float = 5.0  # 0 = every timestep counts the same
    min_snr_samples: int = 0  # * from this sample on every timestep counts the same; 0 = never
    guidance_scale: float = 5.0  # * of the finished model, where nothing else is asked of it
    pose_guidance_scale: float = 1.0  # * of the finished model
    guidance_end: float = 1.0  # * the share of the steps that the finished model guides
    inference_steps: int = 25  # * of the finished model
    gradient_checkpointing: bool = False  # * computes the forward pass twice to save memory
    log_images_minutes: float = 10.0  # * a sheet of what it can do now; 0 = never

    def teacher_wanted_by(self) -> str:
        """See `TeacherSettings.teacher_wanted_by`."""
        return f"loss = {self.loss!r}" if self.loss in TAUGHT else ""

    def unread(self, names: Iterable[str]) -> dict[str, str]:
        """See `LoopSettings.unread`."""
        return {
            name: f"loss = {self.loss!r} does not read it; read by {', '.join(LOSS_SETTINGS[name])}"
            for name in names
            if name in LOSS_SETTINGS and self.loss not in LOSS_SETTINGS[name]
        }

    def __post_init__(self) -> None:
        super().__post_init__()
        require("noise_candidates", self.noise_candidates, 1 <= self.noise_candidates <= 64, "from 1 to 64")
        require("align_weight", self.align_weight, 0 <= self.align_weight < math.inf, "0 or more")
        whole = not self.align_weight or (self.cached_augmentations == 1 and not self.aspect_buckets)
        require(
            "align_weight", self.align_weight, whole, "0 with aspect_buckets or where cached_augmentations is above 1"
        )
        require("optimizer", self.optimizer, self.optimizer in OPTIMIZERS, " or ".join(OPTIMIZERS))
        matrices = self.optimizer == "adamw" or not self.train_text
        require("optimizer", self.optimizer, matrices, "adamw where train_text is true")
        shapes = self.aspect_buckets
        require("aspect_buckets", shapes, shapes == 0 or 1 <= shapes <= 8, "0, or from 1 to 8")
        if self.loss not in LOSS_WORDS:
            raise ValueError(f"loss = {self.loss!r}: known are {', '.join(LOSS_WORDS)}")
        require(
            "cache_text", self.cache_text, not (self.cache_text and self.train_text), "false where train_text is true"
        )
        posed = self.method != "sd"
        require("weigh_unposed", self.weigh_unposed, self.weigh_unposed or posed, "true where method is sd")
        require("mask_strength", self.mask_strength, 0 <= self.mask_strength <= 1e4, "from 0 to 10000")
        require("mask", self.mask, self.mask in ("skeleton", "own"), "skeleton or own")
        require("mask_schedule", self.mask_schedule, self.mask_schedule in MASK_SCHEDULES, " or ".join(MASK_SCHEDULES))
        require("inference_steps", self.inference_steps, self.inference_steps >= 1, "1 or more")
        require("heatmap_strength", self.heatmap_strength, 0 <= self.heatmap_strength < math.inf, "0 or more")
        require("heatmap_threshold", self.heatmap_threshold, 0 <= self.heatmap_threshold < 1, "at least 0 and below 1")
        require("min_snr_samples", self.min_snr_samples, self.min_snr_samples >= 0, "0 or more")
        require("min_snr_gamma", self.min_snr_gamma, self.min_snr_gamma >= 0, "0 or more")
