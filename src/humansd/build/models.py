"""The models that a builder's options name."""

from __future__ import annotations

from typing import Protocol


class Models(Protocol):
    """Options that name models; "" where none is wanted."""

    @property
    def estimator(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def nsfw(self) -> str: ...


def load_models(options: Models, captioner: str = "", captioner_weights: str = "") -> None:
    """Loads them once, so that a wrong name or missing weights show before the work begins.

    Raises:
        Exception: as of `load_estimator`, `load_captioner` and `load_checker`.
    """
    if options.nsfw:
        from humansd.build.safety import load_checker

        load_checker(options.nsfw)
    if options.estimator:
        from humansd.models.estimators import estimator_name

        estimator_name(options.estimator)  # torch, which takes seconds, is loaded behind this line
        from humansd.build.annotate import estimator_of

        estimator_of(options.estimator, options.weights, options.device)
    if captioner:
        from humansd.build.captioners import load_captioner

        load_captioner(captioner, captioner_weights, options.device)
