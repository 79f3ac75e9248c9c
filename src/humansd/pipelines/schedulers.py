"""Which of diffusers' schedulers draw with Stable Diffusion's noise, and by what short names they are asked for."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin

from humansd.pipelines.scheduler_names import SCHEDULERS

# Besides those that diffusers lists for Stable Diffusion; EDM's is on the list and scales its input otherwise.
_MORE = {"DDIMParallelScheduler", "DDPMParallelScheduler", "LCMScheduler", "TCDScheduler"}
USABLE = {one.name for one in KarrasDiffusionSchedulers} - {"EDMEulerScheduler"} | _MORE
PREDICTIONS = ("epsilon", "v_prediction", "sample")

# What "sde" needs beyond diffusers: (package, how it is installed).
_NEEDS = {"DPMSolverSDEScheduler": "torchsde"}


def make_scheduler(name: str, present: SchedulerMixin) -> SchedulerMixin:
    """The scheduler called `name`, one of SCHEDULERS, with the noise schedule and prediction type of `present`.

    Raises:
        ValueError: another name, or one whose package is not installed; the message names it.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler is {name!r}; choose one of {', '.join(SCHEDULERS)}")
    kind, changes = SCHEDULERS[name]
    try:
        return getattr(diffusers, kind).from_config(present.config, **changes)
    except ImportError as error:
        package = _NEEDS.get(kind)
        if package is None:
            raise
        raise ValueError(
            f"scheduler {name!r} ({kind}) needs the package {package}; pip install {package}, or choose dpm++-2m-sde"
        ) from error


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Whether `scheduler` draws from a discrete variance-preserving schedule, as Stable Diffusion was trained.

    Raises:
        ValueError: it does not; the message names it and the remedy.
    """
    kind = type(scheduler).__name__
    if not USABLE & {one.__name__ for one in type(scheduler).__mro__}:
        raise ValueError(
            f"the scheduler is a {kind}, which is made for models of another kind (flow matching, EDM, consistency "
            "...); use one of Stable Diffusion's, such as DDIMScheduler or DPMSolverMultistepScheduler"
        )
    config: Any = scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS or config.get("use_flow_sigmas"):
        what = "use_flow_sigmas=True" if config.get("use_flow_sigmas") else f"prediction_type={prediction!r}"
        raise ValueError(
            f"the scheduler {kind} has {what} in scheduler/scheduler_config.json, which is for flow matching; a model "
            f"of this kind predicts {', '.join(PREDICTIONS)}"
        )


def check_schedule(scheduler: Any) -> None:
    """ValueError where a scheduler's settings let it make no timesteps; most classes look at them only then."""
    trial, steps = copy.deepcopy(scheduler), min(10, int(scheduler.config.num_train_timesteps))
    try:
        trial.set_timesteps(steps)
    except Exception as error:  # of whatever kind a wrong value leads to
        raise ValueError(
            f"the scheduler {type(scheduler).__name__} cannot make {steps} timesteps ({error}); mend "
            "scheduler/scheduler_config.json, or copy it again"
        ) from error


# Those whose `step` is not written for sample prediction.
_NO_SAMPLE = {
    "PNDMScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
}
_FOR_DISTILLED = {"LCMScheduler", "TCDScheduler"}
_SAME_SCHEDULE = 0.01  # difference of abar_t that a model does not feel


def prediction_of(scheduler: SchedulerMixin) -> str:
    """What a scheduler takes the UNet's output for, one of PREDICTIONS."""
    config: Any = scheduler.config
    return str(config.get("prediction_type", "epsilon"))


def check_prediction(scheduler: SchedulerMixin, model: str) -> None:
    """Whether `scheduler` takes the UNet's output for what it is.

    Args:
        model: what the model predicts, by the scheduler that it came with.

    Raises:
        ValueError: it takes it for something else, or cannot work with it.
    """
    kind, taken = type(scheduler).__name__, prediction_of(scheduler)
    if taken != model:
        raise ValueError(
            f"the scheduler {kind} has prediction_type {taken!r}, and this model predicts {model!r}; make it with "
            f"{kind}.from_config(pipeline.scheduler.config)"
        )
    if taken == "sample" and kind in _NO_SAMPLE:
        raise ValueError(f"the scheduler {kind} cannot work with sample prediction; use DDIMScheduler")


def warn_of_mush(scheduler: SchedulerMixin, own: SchedulerMixin, *, distilled: bool) -> None:
    """UserWarning for a scheduler that works and yet draws badly: another noise schedule than the model's, or one for
    distilled weights where none are loaded."""
    kind = type(scheduler).__name__
    if kind in _FOR_DISTILLED and not distilled and type(own).__name__ != kind:
        text = f"the scheduler {kind} is for weights distilled to few steps, such as an LCM-LoRA, and none is loaded"
        warnings.warn(text, UserWarning, stacklevel=3)
    ours, theirs = (getattr(one, "alphas_cumprod", None) for one in (scheduler, own))
    if ours is None or theirs is None or scheduler is own:
        return
    if ours.shape != theirs.shape or (ours.cpu() - theirs.cpu()).abs().max() > _SAME_SCHEDULE:
        text = (
            f"the scheduler {kind} has another noise schedule than the model was trained with, and will draw badly; "
            f"make it with {kind}.from_config(pipeline.scheduler.config)"
        )
        warnings.warn(text, UserWarning, stacklevel=3)


def private_copy(scheduler: SchedulerMixin) -> SchedulerMixin:
    """A copy that one call may step through while others do the same with theirs.

    It never clips: DDIM's class does unless its config says otherwise, which those of other schedulers do not, and
    latents are not bounded to -1..1. diffusers' Stable Diffusion turns it off too.
    """
    check_scheduler(scheduler)
    own = copy.deepcopy(scheduler)
    if own.config.get("clip_sample"):
        own.register_to_config(clip_sample=False)
    return own


def step_options(scheduler: SchedulerMixin, generators: Sequence[torch.Generator], eta: float) -> dict[str, Any]:
    """What this scheduler's `step` takes of our options; they differ from class to class.

    Raises:
        ValueError: an eta for a scheduler that has none.
    """
    known = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"generator": list(generators)} if "generator" in known else {}
    if "eta" in known:
        options["eta"] = eta
    elif eta:
        raise ValueError(f"eta is {eta}, but {type(scheduler).__name__} has no eta; leave it out or use DDIM")
    return options
