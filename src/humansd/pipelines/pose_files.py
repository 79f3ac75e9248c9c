"""Pose files as a user names them: one file, a folder of them, or pictures declared to be skeletons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from humansd.pipelines.pose_input import read_pose_list
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from humansd.pose.render import looks_like_drawn_skeleton

POSE_SUFFIXES = (".json", ".npz")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
KINDS = ("auto", "skeleton")


@dataclass(frozen=True, eq=False)
class NamedPose:
    """A pose and a name for files: People, or a skeleton picture, uint8 (H, W, 3) RGB."""

    name: str
    pose: People | np.ndarray


def read_pose_files(path: Path, *, kind: str = "auto", canvas: tuple[int, int] | None = None) -> list[NamedPose]:
    """Every pose of a file or of the files in a folder, sorted by file, with unique names.

    kind: "auto" reads key points; "skeleton" takes pictures of drawn skeletons as they are.
    canvas: (width, height) px for files that do not name theirs.
    Raises PoseError for a missing file, an empty folder, a picture where key points are needed, and a file in
    which nobody has a joint; FileNotFoundError where nothing is at `path`.
    """
    if kind not in KINDS:
        raise PoseError(f"is {kind!r}", field="pose_kind", remedy=f"Choose one of {', '.join(KINDS)}.")
    read = _read_skeleton if kind == "skeleton" else _read_key_points
    found: dict[str, NamedPose] = {}
    for file in _files(path, PICTURE_SUFFIXES if kind == "skeleton" else POSE_SUFFIXES):
        for name, pose in read(file, canvas).items():
            # Two files of a folder may name the same picture.
            unique = name if name not in found else f"{file.stem}_{name}"
            if unique in found:
                raise PoseError("a second pose of this name", file=file, field=name, remedy="Rename one of the files.")
            found[unique] = NamedPose(unique, pose)
    return list(found.values())


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; --pose takes a pose file or a folder of them")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in suffixes)
    if not files:
        raise PoseError("no pose file in this folder", file=path, remedy=f"Put {', '.join(suffixes)} files there.")
    return files


def _read_key_points(file: Path, canvas: tuple[int, int] | None) -> dict[str, People]:
    if file.suffix.lower() in PICTURE_SUFFIXES:
        raise _picture_refused(file)
    poses = read_poses(file, canvas=canvas)
    if not any(people.labelled.any() for people in poses.values()):
        raise PoseError("nobody in it has a labelled joint", file=file, remedy="Name a file with at least one person.")
    return poses


def _read_skeleton(file: Path, canvas: tuple[int, int] | None) -> dict[str, np.ndarray]:
    if file.suffix.lower() not in PICTURE_SUFFIXES:
        raise PoseError(
            "is no picture, but --pose-kind skeleton was given",
            file=file,
            remedy="Leave it out for key points.",
        )
    skeleton = read_pose_list(str(file), "skeleton")[0]
    assert isinstance(skeleton, np.ndarray)
    return {file.stem: skeleton}


def _picture_refused(file: Path) -> PoseError:
    """What to say to a picture where key points are needed."""
    try:
        with Image.open(file) as picture:
            drawn = looks_like_drawn_skeleton(np.asarray(picture.convert("RGB")))
    except OSError as error:
        return PoseError(f"not a readable picture ({error})", file=file, remedy="Give a pose file (.json, .npz).")
    if drawn:
        return PoseError(
            "looks like a drawn skeleton",
            file=file,
            remedy="Say so with --pose-kind skeleton to use it as it is.",
        )
    return PoseError(
        "is a picture, and key points are needed",
        file=file,
        remedy="Give COCO, OpenPose or Human-Art JSON or npz; a drawn skeleton needs --pose-kind skeleton.",
    )
