"""Images of people in given poses: a skeleton-guided diffusion model, its data and its tools."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansd.inference.pretrained import load_pipeline
    from humansd.pipelines.humansd import HumanSDPipeline
    from humansd.pose.formats import read_poses
    from humansd.pose.people import People

try:
    __version__ = version("humansd")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["HumanSDPipeline", "People", "__version__", "load_pipeline", "read_poses"]

# Where each name of the package's own is defined. It is imported when somebody asks for it, so that
# `import humansd` and `humansd --help` need no torch.
_HOMES = {
    "HumanSDPipeline": "humansd.pipelines.humansd",
    "People": "humansd.pose.people",
    "load_pipeline": "humansd.inference.pretrained",
    "read_poses": "humansd.pose.formats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
