"""What a user may hand over as a pose."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from humansd.methods.drawing import Drawable
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_poses
from humansd.pose.people import People

POSE_KINDS = ("people", "skeleton")

PoseItem: TypeAlias = People | Mapping[str, Any] | str | os.PathLike[str] | Image.Image | np.ndarray | None
Pose: TypeAlias = PoseItem | Sequence[PoseItem]


def read_pose_list(pose: Pose, kind: str = "people") -> list[Drawable]:
    """`pose` as a list with one entry for each pose: People, a drawn skeleton, or None (pose dropped).

    Args:
        pose: People, the dict of `People.to_json()`, the path of a pose file with exactly one pose, None, or
            a list of these. With `kind="skeleton"`: PIL images, uint8 arrays (H, W, 3) RGB or
            paths of image files.
        kind: "people", or "skeleton" where the user declares that the images are drawn skeletons; they are
            then used as they are, no detection is run.

    Raises:
        PoseError: anything else; the message says what to pass instead.
    """
    if kind not in POSE_KINDS:
        raise PoseError(f"{kind!r} is not known", field="pose_kind", remedy=f"Use one of {', '.join(POSE_KINDS)}.")
    items = list(pose) if isinstance(pose, (list, tuple)) else [pose]
    if not items:
        raise PoseError(
            "an empty list",
            field="pose",
            remedy="Pass None to leave the pose out, People.empty(...) for an image of nobody.",
        )
    read = _read_skeleton if kind == "skeleton" else _read_people
    return [None if item is None else read(item) for item in items]


def _read_people(item: Any) -> People:
    if isinstance(item, People):
        return item
    if isinstance(item, Mapping):
        return People.from_json(dict(item))
    if isinstance(item, (str, os.PathLike)):
        poses = read_poses(Path(item))
        if len(poses) != 1:
            raise PoseError(
                f"holds {len(poses)} poses, one is needed",
                file=Path(item),
                remedy="Read it with humansd.pose.formats.read_poses and pass the poses you want.",
            )
        return next(iter(poses.values()))
    if isinstance(item, (Image.Image, np.ndarray)):
        raise PoseError(
            "an image",
            field="pose",
            remedy="If it is a drawn skeleton, say so with pose_kind='skeleton' (then used as it is); if "
            "it is a photo, detect its people first and pass them as People or as a pose file.",
        )
    raise PoseError(
        f"a {type(item).__name__}",
        field="pose",
        remedy="Pass People, a list of People, a People.to_json() dict, a pose file's path, or None.",
    )


def _read_skeleton(item: Any) -> np.ndarray:
    if isinstance(item, (str, os.PathLike)):
        try:
            with Image.open(item) as image:
                return _rgb(image)
        except OSError as error:
            raise PoseError(
                f"not a readable image ({error})",
                file=Path(item),
                remedy="Pass a PNG or JPEG of a skeleton.",
            ) from error
    if isinstance(item, Image.Image):
        return _rgb(item)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
            raise PoseError(
                f"the skeleton image is an array of {item.dtype} {item.shape}",
                field="pose",
                remedy="Pass uint8 (height, width, 3) RGB.",
            )
        return item
    raise PoseError(
        f"a {type(item).__name__} where pose_kind='skeleton' expects images",
        field="pose",
        remedy="Pass PIL images, uint8 RGB arrays or image files; for People leave pose_kind out.",
    )


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) of any mode: grey values of 16 bits scaled, what is seen through on black."""
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.float64)
        return np.repeat((deep / (257 if deep.max() > 255 else 1)).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return np.asarray(image.convert("RGB"))
