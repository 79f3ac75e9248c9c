"""What is set when a pose estimator learns."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.training.loop_settings import LoopSettings, require


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

    def learns_from(self) -> frozenset[str]:
        """See `LoopSettings.learns_from`."""
        return frozenset({"pose"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require("kind", self.kind, self.kind in ("higherhrnet", "centernet"), "higherhrnet or centernet")
        require("changes", self.changes, self.changes in ("strong", "mild"), "strong or mild")
        require("group_repeats", self.group_repeats, self.group_repeats >= 1, "1 or more")
