"""Models that draw somewhere else: in a process beside this one, or through Ray on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from PIL import Image

from humansd.studio.drawing import About, ImageTask, Model, OnStep
from humansd.studio.served import ServedModel, grouped

# (name, method, tasks, on_step) -> images, as of `Model.draw`
Draw = Callable[[str, str, Sequence[ImageTask], OnStep], list[Image.Image]]


class RemoteModel(Model):
    """What is known of a model that draws elsewhere."""

    def __init__(self, about: About, draw: Draw) -> None:
        super().__init__(about)
        self._draw = draw

    def draw(self, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        """See `Model.draw`."""
        return self._draw(self.about.name, self.about.method, tasks, on_step)


def remote_models(about: Iterable[About], draw: Draw) -> dict[str, ServedModel]:
    """All models of one place by name."""
    return grouped(RemoteModel(one, draw) for one in about)
