"""What is set when CLIP learns."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.training.loop_settings import LoopSettings


@dataclass(frozen=True)
class ClipSettings(LoopSettings):
    """Text and vision model, trained together contrastively."""

    data: str = ""  # folder of shards or of an image pack
    image_size: int = 0  # px of a side to which images are cut (data.crop); 0: they are square and of one size
    vocabulary: int = 1500  # pieces of words that the tokenizer learns
    crop_padding: int = 8  # random shift in pixels

    def learns_from(self) -> frozenset[str]:
        """See `LoopSettings.learns_from`."""
        return frozenset({"text"})
