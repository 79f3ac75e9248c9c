"""Where the studio touches `pose` and the estimators: pose files, and people in images."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.models.estimators import PHOTO_ESTIMATOR, load_estimator
from humansd.pose import examples
from humansd.pose.drawn import read_drawing
from humansd.pose.errors import PoseError
from humansd.pose.formats import FORMATS, POSE_SUFFIXES, read_poses, write_poses
from humansd.pose.people import People
from humansd.pose.render import looks_like_drawn_skeleton

Pixels = NDArray[np.uint8]
POSE_FORMATS = FORMATS
POSE_ENDINGS = tuple(suffix for group in POSE_SUFFIXES for suffix in group)
DEFAULT_ESTIMATOR = PHOTO_ESTIMATOR
DRAWN_ESTIMATOR = "higherhrnet"  # for images that a model drew
HELD_OUT_ESTIMATOR = "centernet"
IN_THE_POSE = "Add canvas_width and canvas_height to it"
_OPTION = re.compile(r"(?<![\w-])--[a-z]|`humansd ")  # of the command line, which no client has
_JOINTS = "Name the joints as COCO does, such as left_shoulder."


def _suffix(data: bytes) -> str:
    """The ending of a pose file's name by how its bytes begin: labels are numbers, CVAT's annotations are XML."""
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if data.startswith(b"PK"):
        return ".npz"
    return ".xml" if start == b"<" else ".txt" if start.isdigit() else ".json"


def read_pose_bytes(
    data: bytes, canvas: tuple[int, int] | None = None, canvas_remedy: str = f"{IN_THE_POSE}."
) -> tuple[dict[str, People], list[str]]:
    """Name -> People of a pose file's bytes, and what the reader notes. PoseError without any file's name.

    canvas_remedy: what a client can do where the canvas is not known.
    """
    suffix = _suffix(data)
    with tempfile.TemporaryDirectory(prefix="humansd-") as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = Path(folder) / f"pose{suffix}"
        file.write_bytes(data)
        try:
            poses = read_poses(file, canvas=canvas)
        except PoseError as error:
            remedy = _without_options(error.remedy, canvas_remedy)
            raise PoseError(error.problem, field=error.field, remedy=remedy) from None
    told = [str(one.message).replace(f"{file}: ", "").replace(str(file), "the file") for one in caught]
    notes = ["; ".join(part for part in note.split("; ") if not _OPTION.search(part)) for note in told]
    return poses, list(dict.fromkeys(notes))


def _without_options(remedy: str, canvas_remedy: str) -> str:
    """A remedy of the pose reader, for clients, who have no command line."""
    told = []
    for sentence in re.split(r"(?<=\.)\s+", remedy):
        if "--canvas" in sentence:
            told.append(canvas_remedy)
        elif _OPTION.search(sentence):
            kept = "; ".join(part for part in sentence.split("; ") if not _OPTION.search(part))
            told.append(f"{kept.rstrip('.')}." if kept else _JOINTS)
        else:
            told.append(sentence)
    return " ".join(dict.fromkeys(told))


def write_pose_bytes(poses: dict[str, People], format: str) -> bytes:
    """A pose file's bytes; PoseError where the format cannot hold the skeleton, or more than one pose."""
    with tempfile.TemporaryDirectory(prefix="humansd-") as folder:
        file = Path(folder) / ("pose.npz" if format == "npz" else "pose.json")
        try:
            write_poses(file, poses, format)
        except PoseError as error:
            raise PoseError(error.problem, field=error.field, remedy=error.remedy) from None
        return file.read_bytes()


class Estimator:
    """What finds people in images; loaded when first asked. To be used by one thread."""

    def __init__(self, name: str = "", source: str = "", device: str = "cpu") -> None:
        self.name = name or DEFAULT_ESTIMATOR
        self._source, self._device = source, device
        self._loaded: Any = None

    def detect(self, image: Pixels) -> People:
        """The people of an image, surest first."""
        if self._loaded is None:
            self._loaded = load_estimator(self.name, self._source, self._device)
        found: People = self._loaded.detect([image])[0]
        return found


def is_drawn_skeleton(image: Pixels) -> bool:
    """Whether an image is a drawn skeleton rather than a photograph."""
    return bool(looks_like_drawn_skeleton(image))


def example_poses() -> dict[str, People]:
    """Name -> People of the poses that ship."""
    return {
        name: people
        for file in sorted(examples.example_poses().glob("*.json"))
        for name, people in read_poses(file).items()
    }


def people_of_drawing(image: Pixels) -> People | None:
    """The people of a skeleton drawn in OpenPose's or HumanSD's colors; None for any other image."""
    return read_drawing(image)
