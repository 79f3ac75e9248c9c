"""Which task learns what: its class by the class of its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from humansd.training.settings import (
    AutoencoderSettings,
    ClipSettings,
    DiffusionSettings,
    DistillationSettings,
    EstimatorSettings,
    FewStepSettings,
    HeadSettings,
    LoopSettings,
    TinyDecoderSettings,
)
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.dual_adapter_settings import DualAdapterSettings
from humansd.training.tasks.segmenter_settings import SegmenterSettings
from humansd.training.tasks.subject_settings import SubjectSettings


def task_class(settings: LoopSettings) -> type[Any]:
    """The `BaseTask` of the settings of a single stage; only that one is imported."""
    for kind, load in TASKS.items():
        if isinstance(settings, kind):
            return load()
    raise TypeError(f"{type(settings).__name__}: no task has such settings")


def _autoencoder() -> type[BaseTask]:
    from humansd.training.tasks.autoencoder import AutoencoderTask

    return AutoencoderTask


def _clip() -> type[BaseTask]:
    from humansd.training.tasks.clip import ClipTask

    return ClipTask


def _estimator() -> type[BaseTask]:
    from humansd.training.tasks.estimators import EstimatorTask

    return EstimatorTask


def _segmenter() -> type[BaseTask]:
    from humansd.training.tasks.segmenter import SegmenterTask

    return SegmenterTask


def _head() -> type[BaseTask]:
    from humansd.training.tasks.latent_head import HeadTask

    return HeadTask


def _distillation() -> type[BaseTask]:
    from humansd.training.tasks.distillation import DistillationTask

    return DistillationTask


def _few_steps() -> type[BaseTask]:
    from humansd.training.tasks.few_steps import FewStepTask

    return FewStepTask


def _tiny_decoder() -> type[BaseTask]:
    from humansd.training.tasks.tiny_decoder import TinyDecoderTask

    return TinyDecoderTask


def _dual_adapter() -> type[BaseTask]:
    from humansd.training.tasks.dual_adapter import DualAdapterTask

    return DualAdapterTask


def _subject() -> type[BaseTask]:
    from humansd.training.tasks.subject import SubjectTask

    return SubjectTask


def _diffusion() -> type[BaseTask]:
    from humansd.training.tasks.diffusion import DiffusionTask

    return DiffusionTask


TASKS: dict[type[LoopSettings], Callable[[], type[BaseTask]]] = {  # the more special before the more general
    TinyDecoderSettings: _tiny_decoder,
    AutoencoderSettings: _autoencoder,
    ClipSettings: _clip,
    EstimatorSettings: _estimator,
    SegmenterSettings: _segmenter,
    HeadSettings: _head,
    DualAdapterSettings: _dual_adapter,
    SubjectSettings: _subject,
    FewStepSettings: _few_steps,
    DistillationSettings: _distillation,
    DiffusionSettings: _diffusion,
}
