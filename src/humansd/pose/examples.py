"""The poses that ship."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def example_poses() -> Path:
    """The folder of example poses: in an installed package, or of the source tree it runs from."""
    package = Path(str(resources.files("humansd")))
    for folder in (package / "examples" / "poses", package.parents[1] / "examples" / "poses"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("this install holds no example poses; name a folder with --poses")
