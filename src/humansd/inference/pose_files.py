"""Poses as a user names them: a pose file, a photograph, a folder of them, or images declared to be skeletons."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humansd.core.arrays import ImageArray
from humansd.core.counting import people_text
from humansd.inference.detect import IMAGE_SUFFIXES, is_image, photo_size, read_photo
from humansd.inference.image_info import read_png_info
from humansd.models.estimators import PoseEstimator
from humansd.pipelines.pose_input import read_pose_list
from humansd.pose.drawn import decoded, is_line_drawing, read_drawing
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.formats import POSE_SUFFIXES, pose_files, read_poses
from humansd.pose.people import People
from humansd.pose.skeleton import OPENPOSE18

log = logging.getLogger(__name__)

KINDS = ("auto", "skeleton")
_TOLD_PEOPLE = 3  # of a drawing, whose missing joints are named
_TOLD_JOINTS = 6
_TOLD_COUNTS = 8  # people of a photograph whose joints are counted
_FEW_JOINTS = 8  # of a person who is hardly seen
_SMALL = 0.1  # of the image's longer side


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
    units: str | None = None,
    joints: str | None = None,
    estimator: Callable[[], PoseEstimator] | None = None,
) -> list[NamedPose]:
    """Every pose of a file or of the files in a folder, sorted by file, with unique names.

    kind: "auto" reads key points, and detects the people of photographs: those named, or those of a folder without
    pose files. A drawing in OpenPose's or HumanSD's colors is read back to key points; "skeleton" takes any other as
    it is.
    canvas: (width, height) px for files that do not name theirs. units, joints: as of `read_poses`.
    estimator: gives what detects, called for the first photograph; without it photographs are refused.
    Files of a folder, and frames of a file, with nobody or nothing to use are left out, which a PoseWarning counts.
    Raises PoseError for a missing file, an empty folder, an unknown drawing where a photograph is expected, and where
    nobody has a joint; FileNotFoundError where nothing is at `path`.
    """
    if kind not in KINDS:
        raise PoseError(f"is {kind!r}", field="pose_kind", remedy=f"Choose one of {', '.join(KINDS)}.")
    key_points = functools.partial(read_poses, canvas=canvas, units=units, joints=joints)
    read = functools.partial(_read, kind=kind, key_points=key_points)
    loaded = None if estimator is None else functools.cache(estimator)
    files = _files(path, kind, photos=loaded is not None)
    found: dict[str, NamedPose] = {}
    odd: list[PoseError] = []
    empty = 0
    for file in files:
        try:
            poses = read(file, estimator=loaded)
        except PoseError as error:
            odd.append(error)
            continue
        for name, pose in poses.items():
            if isinstance(pose, People) and not pose.labelled.any():
                empty += 1
                continue
            # Two files of a folder may name the same image.
            unique = name if name not in found else f"{file.stem}_{name}"
            if unique in found:
                raise PoseError("a second pose of this name", file=file, field=name, remedy="Rename one of the files.")
            found[unique] = NamedPose(unique, pose)
    if not found:
        raise odd[0]
    _note_left_out(path, len(files), odd, empty)
    return list(found.values())


def _note_left_out(path: Path, files: int, odd: list[PoseError], empty: int) -> None:
    """One note of what a folder or a file held beside the poses."""
    parts = [f"{len(odd)} of {files} files hold nothing to use, the first: {odd[0]}"] if odd else []
    parts += [f"{empty} images with nobody in them"] if empty else []
    if parts:
        warnings.warn(f"{path}: left out: {'; '.join(parts)}", PoseWarning, stacklevel=3)


def _files(path: Path, kind: str, *, photos: bool) -> list[Path]:
    """The files to read: of a folder its pose files, else, if wanted, its photographs."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; --pose takes a pose file or a folder of them")
    files = [] if kind == "skeleton" else pose_files(path)
    if not files and (photos or kind == "skeleton"):
        files = sorted(file for file in path.iterdir() if file.is_file() and is_image(file))
    if not files:
        wanted = [*(s for group in POSE_SUFFIXES for s in group if kind != "skeleton")]
        wanted += IMAGE_SUFFIXES if photos or kind == "skeleton" else ()
        raise PoseError("no pose file in this folder", file=path, remedy=f"Put {', '.join(wanted)} files there.")
    return files


def _read(
    file: Path,
    kind: str,
    key_points: Callable[[Path], dict[str, People]],
    estimator: Callable[[], PoseEstimator] | None,
) -> Mapping[str, People | np.ndarray]:
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        if kind == "skeleton":
            raise PoseError(
                "is no image, but --pose-kind skeleton was given", file=file, remedy="Leave it out for key points."
            )
        return _read_key_points(file, key_points)
    photo_size(file)  # refuses what should not be decoded
    own = _own_key_points(file) if kind == "auto" else None
    if own is not None:
        return {file.stem: own}
    pixels = decoded(file.read_bytes())
    drawing = None if pixels is None else read_drawing(pixels, str(file))
    if drawing is not None:
        _note_drawing(file, drawing)
        return {file.stem: drawing}
    if kind == "skeleton":
        return _read_skeleton(file)
    if pixels is not None and is_line_drawing(pixels):
        raise PoseError(
            "looks like a drawn skeleton, too small for its lines or not in OpenPose's or HumanSD's colors",
            file=file,
            remedy="Use it as it is with --pose-kind skeleton, or give key points.",
        )
    photo = read_photo(file)
    if estimator is None:
        raise PoseError(
            "is an image, and key points are needed",
            file=file,
            remedy="Give COCO, OpenPose or Human-Art JSON or npz; `humansd pose detect` makes one of a photograph.",
        )
    return {file.stem: _detect(file, photo, estimator())}


def _own_key_points(file: Path) -> People | None:
    """The key points that an image of this package carries; None where there are none."""
    if file.suffix.lower() != ".png":
        return None
    try:
        people = People.from_json(read_png_info(file)["people"])
    except (ValueError, KeyError, TypeError, RecursionError):  # no record, or one without a pose
        return None
    if not people.labelled.any():
        return None
    text = f"{file}: drawn by humansd; the pose that it was drawn in is used, {people_text(people.n)}"
    warnings.warn(text, PoseWarning, stacklevel=5)
    return people


def _note_drawing(file: Path, people: People) -> None:
    style = "OpenPose's" if people.skeleton == OPENPOSE18 else "HumanSD's"
    joints = int(people.labelled.sum())
    text = f"{file}: a drawing in {style} colors, read back to key points: {people_text(people.n)}, {joints} joints"
    warnings.warn(f"{text}{_without(people)}", PoseWarning, stacklevel=4)


def _without(people: People) -> str:
    """Which joints nobody read, of few people: they may be missing in the drawing, or hidden under others."""
    if people.n > _TOLD_PEOPLE:
        return ""
    names = people.skeleton.joints
    lacking = [[names[i].replace("_", " ") for i in np.flatnonzero(~seen)] for seen in people.labelled]
    told = [
        f"{'' if people.n == 1 else f'person {number} '}without {', '.join(some[:_TOLD_JOINTS])}"
        + (f" and {len(some) - _TOLD_JOINTS} more" if len(some) > _TOLD_JOINTS else "")
        for number, some in enumerate(lacking, 1)
        if some
    ]
    return f"; {'; '.join(told)}" if told else ""


def _detect(file: Path, photo: ImageArray, seer: PoseEstimator) -> People:
    people = seer.detect([photo])[0]
    if not people.labelled.any():
        raise PoseError(
            f"nobody was found in it by {seer.name}",
            file=file,
            remedy="Give an image that shows people larger, another --estimator, or a pose file.",
        )
    seen = people.labelled.sum(1)
    joints = ", ".join(map(str, seen[:_TOLD_COUNTS])) + (" ..." if people.n > _TOLD_COUNTS else "")
    text = "%s: %s found by %s (%s of %d joints)"
    log.info(text, file.name, people_text(people.n), seer.name, joints, len(people.skeleton))
    boxes = people.boxes()
    small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < _SMALL * max(people.canvas)
    unclear = int((small | (seen < _FEW_JOINTS)).sum())
    if unclear:
        text = (
            f"{file}: with fewer than {_FEW_JOINTS} joints, or smaller than a tenth of the image: {unclear} of "
            f"{people_text(people.n)}, who may be drawn without shape; crop the photograph, or change the pose "
            "(`humansd pose detect` writes it, `humansd studio` shows it)"
        )
        warnings.warn(text, PoseWarning, stacklevel=5)
    return people


def _read_key_points(file: Path, key_points: Callable[[Path], dict[str, People]]) -> dict[str, People]:
    poses = key_points(file)
    if not any(people.labelled.any() for people in poses.values()):
        raise PoseError("nobody in it has a labelled joint", file=file, remedy="Name a file with at least one person.")
    return poses


def _read_skeleton(file: Path) -> dict[str, np.ndarray]:
    skeleton = read_pose_list(str(file), "skeleton")[0]
    assert isinstance(skeleton, np.ndarray)
    text = (
        f"{file}: not in OpenPose's or HumanSD's colors, or too small to read; used as it is, "
        "which fits a model that was trained on drawings like it"
    )
    warnings.warn(text, PoseWarning, stacklevel=4)
    return {file.stem: skeleton}
