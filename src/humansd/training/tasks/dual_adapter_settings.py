"""The settings of the secondary adapter's training (CN117392675A)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from humansd.training.loop_settings import LoopSettings, require
from humansd.training.tasks.diffusion_settings import DiffusionSettings

SEGFORMER = "segformer"  # before "=FOLDER_OR_ID" in `estimator`
ADAPTERS = ("t2i-adapter", "t2i-adapter-dots", "t2i-adapter-masks")
OBJECTIVES = ("patent", "pairs")
READINGS = {
    "constancy": ("literal", "squared"),
    "total": ("mean", "sum"),
    "strength": ("mean", "timed"),
    "alphas": ("base", "literal"),
}
_READ = frozenset(
    {
        "data",
        "image_size",
        "components",
        "base_model",
        "method",
        "estimator",
        "estimator_px",
        "mask",
        "guidance_scale",
        "text_dropout",
    }
    | {"pose_guidance_scale", "inference_steps", "gradient_checkpointing", "log_images_minutes", "zero_terminal_snr"}
)
_IDLE = {field.name for field in fields(DiffusionSettings)} - {field.name for field in fields(LoopSettings)} - _READ


@dataclass(frozen=True)
class DualAdapterSettings(DiffusionSettings):
    """The secondary adapter, which starts as the primary one; base and primary stay as they are."""

    method: str = "t2i-adapter"  # of the primary adapter, which decides the drawing: t2i-adapter | t2i-adapter-dots |
    # t2i-adapter-masks
    primary: str = ""  # folder, file or hub id of the primary adapter; empty: the pose_network of `base_model`
    objective: str = "patent"  # patent | pairs; pairs: the other side of a true pair is what is learnt
    estimator: str = "pocket"  # the small model whose L2 is the loss (training.small_models): a HigherHRNet for key
    # points ("pocket", a folder), or segformer=FOLDER_OR_ID for person masks
    mask: str = "skeleton"  # skeleton | own; what a SegFormer should see: the drawing of the key points, or the image's
    # own person mask, where the data carry one
    decoder: str = ""  # AutoencoderTiny or export of pocket-tiny-decoder that decodes in the loss; empty: the VAE
    ddim_steps: int = 50  # T of the description
    sampled_steps: int = 5  # of these, that are learnt from in an update; as many as ddim_steps: all, as printed
    constancy: str = "literal"  # of L_const: literal | squared (losses.dual_adapter)
    total: str = "mean"  # over the steps: mean | sum
    strength: str = "mean"  # of Q: mean | timed
    alphas: str = "base"  # which decide Q: base | literal, the description's sequence
    diffusion_weight: float = 0.0  # of L_diffusion as a further term; 0: it is only logged
    true_pairs: bool = False  # A and B are the two sides of a true pair (data atelier --pairs), not any two samples
    least_joints: int = 8  # of a person, that must be labelled; others and groups are left out
    sharpness: float = 30.0  # of the soft-argmax
    outside_weight: float = 4.0  # of "pairs": an error where nothing may change counts so much more
    text_dropout: float = 0.0  # share of the samples whose caption is the empty text

    def unread(self, names: Iterable[str]) -> dict[str, str]:
        """See `LoopSettings.unread`."""
        masks = self.estimator.partition("=")[0] == SEGFORMER
        idle = dict.fromkeys(_IDLE, "the secondary adapter's training does not read it")
        if masks:
            idle["sharpness"] = "person masks have no peaks; read with a HigherHRNet as estimator"
        else:
            idle["mask"] = f"key points need none; read with estimator={SEGFORMER}=FOLDER"
        return {name: idle[name] for name in names if name in idle}

    def __post_init__(self) -> None:
        super().__post_init__()
        require("aspect_buckets", self.aspect_buckets, self.aspect_buckets == 0, "0 here, where pairs are of one shape")
        require("objective", self.objective, self.objective in OBJECTIVES, " or ".join(OBJECTIVES))
        for name, known in READINGS.items():
            require(name, getattr(self, name), getattr(self, name) in known, " or ".join(known))
        require("ddim_steps", self.ddim_steps, 1 <= self.ddim_steps <= 1000, "from 1 to 1000")
        steps = self.sampled_steps
        require("sampled_steps", steps, 1 <= steps <= self.ddim_steps, f"from 1 to ddim_steps, {self.ddim_steps}")
        require("least_joints", self.least_joints, 1 <= self.least_joints <= 17, "from 1 to 17")
        for name in ("diffusion_weight", "outside_weight"):
            require(name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "0 or more")
        require("sharpness", self.sharpness, 0 < self.sharpness < math.inf, "above 0")
        require("method", self.method, self.method in ADAPTERS, " or ".join(ADAPTERS))
