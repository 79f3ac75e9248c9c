"""Reading and writing pose files: what this package writes, and what the tools of the world do (`adapters`).

Reading what was written gives the same `People` bit by bit, in every format.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from humansd.core.files import write_whole
from humansd.pose.adapters import ADAPTERS, OTHER_FORMATS, adapter_of
from humansd.pose.assemble import Reading, build
from humansd.pose.beside import lines_as_list, names_beside
from humansd.pose.checks import check_canvas, check_name, shown
from humansd.pose.coco import image_names, write_coco
from humansd.pose.drawn import read_drawing_bytes
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.files import dump_json, parse_json, plain_text, read_bytes
from humansd.pose.image_sizes import is_image_file, other_kind, size_beside
from humansd.pose.joints import known_set
from humansd.pose.labels import cvat_frames, is_yolo, yolo_frames
from humansd.pose.large import is_large_coco, read_large_coco
from humansd.pose.npz import read_npz, write_npz
from humansd.pose.openpose import write_openpose
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.published import convert_published_npz, is_published
from humansd.pose.units import THOUSANDTHS, check_units, may_be_thousandths

__all__ = [
    "FORMATS",
    "POSE_SUFFIXES",
    "convert_published_npz",
    "pose_files",
    "read_image_records",
    "read_poses",
    "write_poses",
]

FORMATS = ("coco", "openpose", "humanart", "npz", "humansd")  # that are written
READ_FORMATS = (*dict.fromkeys((*FORMATS, *(a.name for a in ADAPTERS), *OTHER_FORMATS)),)
# Of a folder the files of the first group that has any.
POSE_SUFFIXES = ((".json", ".npz"), (".xml", ".txt"))


def read_poses(
    path: str | Path,
    *,
    canvas: tuple[int, int] | None = None,
    format: str | None = None,
    units: str | None = None,
    joints: str | None = None,
) -> dict[str, People]:
    """Name -> People of a pose file, or of every pose file of a folder, in name order.

    Names are image file stems (COCO, Human-Art; the path without suffix where stems collide), stored names
    (npz), or the file's own stem less OpenPose's "_keypoints". A drawing in OpenPose's or HumanSD's colors is read
    back to key points.

    canvas: (width, height) for images whose file does not say; without it an image of that name beside the file tells.
    format: one of READ_FORMATS, by default told from the content. units: of the coordinates, one of `units.UNITS`, by
    default decided by the points. joints: a name in `joints.JOINT_SETS`, before the file's own names.

    Joints go by name to COCO-17, OpenPose-18 or Human-Art's 21, whichever holds them; others become the extra
    "other_joints". A person, frame or file that cannot be used is left out, which a PoseWarning counts; joints
    outside the canvas are kept with one. PoseError, where nothing is left, names file, field and remedy.
    """
    path = Path(path)
    if format is not None and format not in READ_FORMATS:
        raise PoseError(f"format {format!r} is not known", file=path, remedy=f"Use one of {', '.join(READ_FORMATS)}.")
    check_units(units)
    if joints is not None:
        known_set(joints)
    reading = Reading(None if canvas is None else check_canvas(canvas), units, joints)
    if _is_folder(path):
        return _read_folder(path, reading, format)
    poses, notes = _read_file(path, reading, format)
    for text, category in notes:
        warnings.warn(f"{path}: {text}", category, stacklevel=2)
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
    data = parse_json(plain_text(read_bytes(path), path), path)
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list):
        raise PoseError("is missing or not a list", file=path, field="images", remedy="Give a COCO file.")
    try:
        return dict(zip(image_names(images), images, strict=True))
    except PoseError as error:
        raise error.at(path) from None


_Notes = list[tuple[str, type[Warning]]]


def _read_file(path: Path, reading: Reading, format: str | None) -> tuple[dict[str, People], _Notes]:
    """The poses of one file, and what is to be noted of it."""
    reading = Reading(reading.canvas, reading.units, reading.joints, lambda name: size_beside(path, name))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if is_large_coco(path):
                poses = build(read_large_coco(path, reading), reading)
            else:
                poses = _read(read_bytes(path), path, reading, format)
        except PoseError as error:
            raise (error if error.file else error.at(path)) from None
    notes = list(dict.fromkeys((str(w.message), w.category) for w in caught))
    return poses, notes + _outside(poses)


def _read(data: bytes, path: Path, reading: Reading, format: str | None) -> dict[str, People]:
    data = plain_text(data, path)
    stem = path.with_suffix("").stem if path.suffix.lower() == ".gz" else path.stem
    if data.startswith(b"PK"):
        _agree(format, "npz", path)
        if reading.canvas is not None and is_published(data, path):
            return {stem: convert_published_npz(path, reading.canvas)}
        return read_npz(data, path)
    if format == "npz":
        raise PoseError("is not an npz file", file=path, remedy="Leave out the format to have it detected.")
    if is_image_file(data):
        _agree(format, "drawing", path)
        return {stem: read_drawing_bytes(data)}
    if kind := other_kind(data[:256]):
        raise PoseError(f"is {kind}", file=path, remedy="Give a pose file, or a photograph as PNG or JPEG.")
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        _agree(format, "cvat", path)
        return build(cvat_frames(data, stem, reading), reading)
    if not start.startswith((b"{", b"[")) and is_yolo(data):
        _agree(format, "yolo", path)
        return build(yolo_frames(data, stem, reading), reading)
    _count_people(data)
    value = parse_json(lines_as_list(data), path)
    reading.names = names_beside(value)
    if isinstance(value, dict) and {"skeleton", "canvas", "people"} <= set(value):
        _agree(format, "humansd", path)
        name = value.pop("name", stem)
        if not isinstance(name, str):
            raise PoseError(f"{shown(name)} is not a text", field="name", remedy="Remove it.")
        return {check_name(name, "name"): People.from_json(value)}
    adapter, value = adapter_of(value)
    if {format, adapter.name} != {"coco", "humanart"}:
        _agree(format, adapter.name, path)
    return build(adapter.frames(value, stem, reading), reading)


def _count_people(data: bytes) -> None:
    """PoseError where JSON text plainly holds more people than images may, before it is parsed."""
    if not data[:64].lstrip().startswith(b"{") or not any(key in data for key in (b'"people"', b'"annotations"')):
        return  # lists of results name no image; the memory that they take is limited all the same
    people = max(data.count(key) for key in (b'"keypoints"', b'"pose_keypoints_2d"', b'"xy"'))
    images = max(1, data.count(b'"file_name"'), data.count(b'"people"'))
    if people > (MAX_PEOPLE + 1) * images:  # "keypoints" names the joints of a category too
        raise PoseError(
            f"{people} people in {images} images, the limit is {MAX_PEOPLE} in each",
            remedy="Split the file, or keep the largest people only.",
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


def pose_files(folder: Path) -> list[Path]:
    """The pose files of a folder in name order: of JSON and npz, else of XML and labels; [] where there are none."""
    there = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    for suffixes in POSE_SUFFIXES:
        found = sorted(p for p in there if p.suffix.lower() in suffixes and _may_hold_poses(p))
        if found:
            return found
    return []


def _may_hold_poses(file: Path) -> bool:
    """Whether a text is a label file and no caption or list of classes."""
    if file.suffix.lower() != ".txt":
        return True
    try:
        with file.open("rb") as stream:
            return is_yolo(stream.read(1 << 16))
    except OSError:
        return False


def _read_folder(folder: Path, reading: Reading, format: str | None) -> dict[str, People]:
    files = pose_files(folder)
    if not files:
        raise PoseError("holds no .json or .npz file", file=folder, remedy="Name a folder of pose files.")
    poses: dict[str, People] = {}
    odd: list[PoseError] = []
    noted: dict[tuple[str, type[Warning]], list[Path]] = {}
    for file in files:
        try:
            found, notes = _read_file(file, reading, format)
        except PoseError as error:
            odd.append(error)
            continue
        for one in notes:
            noted.setdefault(one, []).append(file)
        for name, people in found.items():
            if name in poses:
                raise PoseError(
                    f"{name!r} is in another file of the folder too", file=file, remedy="Rename one of them."
                )
            poses[name] = people
    if odd and not poses:
        raise odd[0]
    for (text, category), where in noted.items():
        more = "" if len(where) == 1 else f" (and so in {len(where) - 1} other files)"
        warnings.warn(f"{where[0]}: {text}{more}", category, stacklevel=3)
    if odd:
        text = f"{folder}: {len(odd)} of {len(files)} files cannot be used and are left out; the first: {odd[0]}"
        warnings.warn(text, PoseWarning, stacklevel=3)
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


def _outside(poses: dict[str, People]) -> _Notes:
    """One note of the joints outside their canvas."""
    counts: dict[str, int] = {}
    for name, people in poses.items():
        beyond = (people.xy < -0.5) | (people.xy > np.array(people.canvas) - 0.5)
        count = int((beyond.any(axis=2) & people.labelled).sum())
        if count:
            counts[name] = count
    if not counts:
        return []
    name = next(iter(counts))
    remedy = f"; {THOUSANDTHS}" if may_be_thousandths(poses.values()) else ""
    more = "" if len(counts) == 1 else f" (and {sum(counts.values()) - counts[name]} in {len(counts) - 1} other poses)"
    text = f"{name}: {counts[name]} joints lie outside the canvas {poses[name].canvas}; they are kept{more}{remedy}"
    return [(text, PoseWarning)]
