"""Poses as a user names them: a pose file, a photograph, a folder of them, or images declared to be skeletons."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humansd.inference.detect import IMAGE_SUFFIXES, read_photo
from humansd.models.estimators import ImageArray, PoseEstimator
from humansd.pipelines.pose_input import read_pose_list
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_poses
from humansd.pose.people import People

POSE_SUFFIXES = (".json", ".npz")
KINDS = ("auto", "skeleton")


@dataclass(frozen=True, eq=False)
class NamedPose:
    """A pose and a name for files: People, a skeleton image, uint8 (H, W, 3) RGB, or None, the dropped pose."""

    name: str
    pose: People | np.ndarray | None


def read_pose_files(
    path: Path,
    *,
    kind: str = "auto",
    canvas: tuple[int, int] | None = None,
    estimator: Callable[[], PoseEstimator] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[NamedPose]:
    """Every pose of a file or of the files in a folder, sorted by file, with unique names.

    kind: "auto" reads key points, and detects the people of photographs: those named, or those of a folder without
    pose files; "skeleton" takes images of drawn skeletons as they are.
    canvas: (width, height) px for files that do not name theirs.
    estimator: gives what detects, called for the first photograph; without it photographs are refused.
    say: is told in one line what was detected.
    Raises PoseError for a missing file, an empty folder, a drawn skeleton where a photograph is expected, and a
    file in which nobody has a joint; FileNotFoundError where nothing is at `path`.
    """
    if kind not in KINDS:
        raise PoseError(f"is {kind!r}", field="pose_kind", remedy=f"Choose one of {', '.join(KINDS)}.")
    seer = None if estimator is None else functools.cache(estimator)
    found: dict[str, NamedPose] = {}
    for file in _files(path, kind, photos=seer is not None):
        for name, pose in _read(file, kind, canvas, seer, say).items():
            # Two files of a folder may name the same image.
            unique = name if name not in found else f"{file.stem}_{name}"
            if unique in found:
                raise PoseError("a second pose of this name", file=file, field=name, remedy="Rename one of the files.")
            found[unique] = NamedPose(unique, pose)
    return list(found.values())


def _files(path: Path, kind: str, *, photos: bool) -> list[Path]:
    """The files to read: of a folder its pose files, else, if wanted, its photographs."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; --pose takes a pose file or a folder of them")
    choices = [IMAGE_SUFFIXES] if kind == "skeleton" else [POSE_SUFFIXES, *([IMAGE_SUFFIXES] if photos else [])]
    for suffixes in choices:
        named = (file for file in path.iterdir() if file.suffix.lower() in suffixes and not file.name.startswith("."))
        files = sorted(file for file in named if file.is_file())
        if files:
            return files
    wanted = ", ".join(suffix for suffixes in choices for suffix in suffixes)
    raise PoseError("no pose file in this folder", file=path, remedy=f"Put {wanted} files there.")


def _read(
    file: Path,
    kind: str,
    canvas: tuple[int, int] | None,
    seer: Callable[[], PoseEstimator] | None,
    say: Callable[[str], object],
) -> Mapping[str, People | np.ndarray]:
    if kind == "skeleton":
        return _read_skeleton(file)
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        return _read_key_points(file, canvas)
    photo = read_photo(file)
    if seer is None:
        raise PoseError(
            "is an image, and key points are needed",
            file=file,
            remedy="Give COCO, OpenPose or Human-Art JSON or npz; `humansd pose detect` makes one of a photograph.",
        )
    return {file.stem: _detect(file, photo, seer(), say)}


def _detect(file: Path, photo: ImageArray, seer: PoseEstimator, say: Callable[[str], object]) -> People:
    people = seer.detect([photo])[0]
    if not people.labelled.any():
        raise PoseError(
            f"nobody was found in it by {seer.name}",
            file=file,
            remedy="Give an image that shows people larger, another --estimator, or a pose file.",
        )
    say(f"{file.name}: {people.n} {'person' if people.n == 1 else 'people'} found by {seer.name}")
    return people


def _read_key_points(file: Path, canvas: tuple[int, int] | None) -> dict[str, People]:
    poses = read_poses(file, canvas=canvas)
    if not any(people.labelled.any() for people in poses.values()):
        raise PoseError("nobody in it has a labelled joint", file=file, remedy="Name a file with at least one person.")
    return poses


def _read_skeleton(file: Path) -> dict[str, np.ndarray]:
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        raise PoseError(
            "is no image, but --pose-kind skeleton was given",
            file=file,
            remedy="Leave it out for key points.",
        )
    skeleton = read_pose_list(str(file), "skeleton")[0]
    assert isinstance(skeleton, np.ndarray)
    return {file.stem: skeleton}
