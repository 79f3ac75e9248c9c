"""What the tasks have in common, and what can be asked of one before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # seconds, which not every command needs
    from humansd.training.counting import Shapes


class BaseTask:
    """A `training.loop.Task` that is known by its settings alone, before a weight is loaded."""

    @staticmethod
    def describe(settings: Any) -> dict[str, Any]:
        """What a dry run tells beside the settings and the memory; `loss`: the loss in words, with its teacher.

        Raises:
            ValueError, OSError: no teacher is named, or one that does not fit the images.
        """
        return {}

    @staticmethod
    def check(settings: Any) -> None:
        """Whether what the settings name can be loaded at all. ValueError, OSError: it cannot."""

    @staticmethod
    def shapes(settings: Any) -> Shapes:
        """Its networks, made under `torch.device("meta")`, of which `training.memory` counts what a run takes."""
        raise NotImplementedError

    def log_images(self, folder: Path, step: int) -> None:
        """Nothing to draw; see `Task.log_images`."""
