"""Pictures of people in given poses: a skeleton-guided diffusion model, its data and its tools."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("humansd")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
