"""What is set when a person segmenter learns."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.training.loop_settings import LoopSettings, require


@dataclass(frozen=True)
class SegmenterSettings(LoopSettings):
    """A SegFormer of the pocket size that learns which pixels show a person."""

    data: str = ""  # folder of shards or of an image cache, whose samples carry person masks
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: they are square and of one size
    init: str = ""  # folder of a SegFormer to start from; empty: untrained
    changes: str = "strong"  # how much the images are changed: strong | mild (data.augment)

    def __post_init__(self) -> None:
        super().__post_init__()
        require("changes", self.changes, self.changes in ("strong", "mild"), "strong or mild")
