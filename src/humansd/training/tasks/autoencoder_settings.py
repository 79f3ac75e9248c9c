"""What is set when the VAE learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from humansd.training.loop_settings import LoopSettings, require


@dataclass(frozen=True)
class AutoencoderSettings(LoopSettings):
    """AutoencoderKL on random crops: L1 on pixels, on their differences, on their color and on features of an
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
        require("compile", self.compile, self.compile in ("no", "auto"), "no or auto")
        require("equivariance", self.equivariance, 0 <= self.equivariance <= 1, "from 0 to 1")
        require("feature_weight", self.feature_weight, 0 <= self.feature_weight < math.inf, "0 or more")
