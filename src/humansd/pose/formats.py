"""Reading and writing pose files: COCO JSON, OpenPose JSON, Human-Art JSON, npz and our own JSON.

Reading what was written gives the same `People` bit by bit, in every format.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from humansd.core.files import write_whole
from humansd.pose.checks import check_canvas, check_name, shown
from humansd.pose.coco import image_names, is_humanart, read_coco, write_coco
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.files import dump_json, parse_json, read_bytes
from humansd.pose.npz import read_npz, write_npz
from humansd.pose.openpose import read_openpose, write_openpose
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.published import convert_published_npz, is_published

__all__ = ["FORMATS", "convert_published_npz", "read_image_records", "read_poses", "write_poses"]

FORMATS = ("coco", "openpose", "humanart", "npz", "humansd")
_SUFFIXES = (".json", ".npz")


def read_poses(
    path: str | Path, *, canvas: tuple[int, int] | None = None, format: str | None = None
) -> dict[str, People]:
    """Name -> People of a pose file, or of every .json and .npz file of a folder, in name order.

    Names are image file stems (COCO, Human-Art; the path without suffix where stems collide), stored names
    (npz), or the file's own stem less OpenPose's "_keypoints". canvas: (width, height) for images whose
    file does not say, as OpenPose's and the npz of HumanSD's release. format: one of FORMATS, by default told
    from the content. Human-Art's 21 joints give HUMANART21 people, OpenPose's 18 or 25 OPENPOSE18 ones. Joints
    outside the canvas are kept with a PoseWarning. PoseError names file, field and remedy.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise PoseError(f"format {format!r} is not known", file=path, remedy=f"Use one of {', '.join(FORMATS)}.")
    if _is_folder(path):
        return _read_folder(path, canvas, format)
    data = read_bytes(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            poses = _read(data, path, None if canvas is None else check_canvas(canvas), format)
        except PoseError as error:
            raise (error if error.file else error.at(path)) from None
    for text, category in dict.fromkeys((str(w.message), w.category) for w in caught):
        warnings.warn(f"{path}: {text}", category, stacklevel=2)
    _warn_outside(path, poses)
    return poses


def write_poses(
    path: str | Path,
    poses: dict[str, People],
    format: str,
    *,
    images: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write name -> People, whole or not at all.

    OpenPose and "humansd" (our own JSON) hold one image a file: give one image, or an existing folder as
    the path to get `<name>.json` for each. images: image records to keep (file_name, id, description ...; see
    `read_image_records`) for COCO and Human-Art. PoseError where the format cannot hold the skeleton.
    """
    path = Path(path)
    try:
        if format in ("openpose", "humansd"):
            for target, name, people in _targets(path, poses, format):
                value = people.to_json()
                if format == "openpose":
                    value = write_openpose(name, people, target.stem)
                elif name != target.stem:
                    value["name"] = name
                _save(target, dump_json(value, target))
        elif format in ("coco", "humanart"):
            _save(path, dump_json(write_coco(poses, images, format == "humanart"), path))
        elif format == "npz":
            _save(path, write_npz(poses, path))
        else:
            raise PoseError(f"format {format!r} is not known", remedy=f"Use one of {', '.join(FORMATS)}.")
    except PoseError as error:
        raise (error if error.file else error.at(path)) from None


def read_image_records(path: str | Path) -> dict[str, dict[str, Any]]:
    """Name -> image record (file_name, id, description, category ...) of a COCO or Human-Art file."""
    data = parse_json(read_bytes(path), path)
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list):
        raise PoseError("is missing or not a list", file=path, field="images", remedy="Give a COCO file.")
    try:
        return dict(zip(image_names(images), images, strict=True))
    except PoseError as error:
        raise error.at(path) from None


def _read(data: bytes, path: Path, canvas: tuple[int, int] | None, format: str | None) -> dict[str, People]:
    if data.startswith(b"PK"):
        _agree(format, "npz", path)
        if canvas is not None and is_published(data, path):
            return {path.stem: convert_published_npz(path, canvas)}
        return read_npz(data, path)
    if format == "npz":
        raise PoseError("is not an npz file", file=path, remedy="Leave out the format to have it detected.")
    _count_people(data)
    value = parse_json(data, path)
    found = _detect(value, path)
    if {format, found} != {"coco", "humanart"}:
        _agree(format, found, path)
    if found == "humansd":
        name = value.pop("name", path.stem)
        if not isinstance(name, str):
            raise PoseError(f"{shown(name)} is not a text", field="name", remedy="Remove it.")
        return {check_name(name, "name"): People.from_json(value)}
    if found == "openpose":
        return read_openpose(value, canvas, path.stem)
    return read_coco(value, canvas)


def _count_people(data: bytes) -> None:
    """PoseError where JSON text plainly holds more people than images may, before it is parsed."""
    people = max(data.count(key) for key in (b'"keypoints"', b'"pose_keypoints_2d"', b'"xy"'))
    images = max(1, data.count(b'"file_name"'), data.count(b'"people"'))
    if people > (MAX_PEOPLE + 1) * images:  # "keypoints" names the joints of a category too
        raise PoseError(
            f"{people} people in {images} images, the limit is {MAX_PEOPLE} in each",
            remedy="Split the file, or keep the largest people only.",
        )


def _detect(value: Any, path: Path) -> str:
    if isinstance(value, dict):
        if {"skeleton", "canvas", "people"} <= set(value):
            return "humansd"
        if "people" in value:
            return "openpose"
        if "annotations" in value or "images" in value:
            return "humanart" if is_humanart(value) else "coco"
    if isinstance(value, list) and value and all(isinstance(v, dict) and "people" in v for v in value):
        return "openpose"
    raise PoseError(
        "is JSON, but of no known pose format",
        file=path,
        remedy="Give COCO or Human-Art JSON ('images' and 'annotations'), OpenPose JSON ('people'), or npz.",
    )


def _agree(wanted: str | None, found: str, path: Path) -> None:
    if wanted not in (None, found):
        raise PoseError(
            f"looks like {found}, not {wanted}", file=path, remedy="Leave out the format to have it detected."
        )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long; reading it says so
        return False


def _read_folder(folder: Path, canvas: tuple[int, int] | None, format: str | None) -> dict[str, People]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    if not files:
        raise PoseError("holds no .json or .npz file", file=folder, remedy="Name a folder of pose files.")
    poses: dict[str, People] = {}
    for file in files:
        for name, people in read_poses(file, canvas=canvas, format=format).items():
            if name in poses:
                raise PoseError(
                    f"{name!r} is in another file of the folder too", file=file, remedy="Rename one of them."
                )
            poses[name] = people
    return poses


def _targets(path: Path, poses: dict[str, People], format: str) -> list[tuple[Path, str, People]]:
    if path.is_dir():
        bad = [name for name in poses if not name or Path(name).name != name]
        if bad:
            raise PoseError(f"{bad[0]!r} is not a file name", file=path, field="name", remedy="Rename it.")
        return [(path / f"{name}.json", name, people) for name, people in poses.items()]
    if len(poses) != 1:
        raise PoseError(
            f"one {format} file holds one image, not {len(poses)}",
            file=path,
            remedy="Give an existing folder as the path, or use coco or npz.",
        )
    return [(path, name, people) for name, people in poses.items()]


def _save(path: Path, data: bytes) -> None:
    write_whole(path, lambda stream: stream.write(data))


def _warn_outside(path: Path, poses: dict[str, People]) -> None:
    for name, people in poses.items():
        beyond = (people.xy < -0.5) | (people.xy > np.array(people.canvas) - 0.5)
        count = int((beyond.any(axis=2) & people.labelled).sum())
        if count:
            text = f"{path}: {name}: {count} joints lie outside the canvas {people.canvas}; they are kept"
            warnings.warn(text, PoseWarning, stacklevel=3)
