"""Whole files at a time: draw the people of a pose file, rewrite it in another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from humansd.core.arrays import ImageArray
from humansd.core.files import write_whole
from humansd.pose.adapters import ADAPTERS, OTHER_FORMATS
from humansd.pose.errors import PoseError
from humansd.pose.files import read_bytes
from humansd.pose.formats import read_image_records, read_poses, write_poses
from humansd.pose.image_sizes import MAX_PIXELS, image_size
from humansd.pose.images import letterboxed, overlay
from humansd.pose.joints import JOINT_SETS
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, DrawStyle, draw_people
from humansd.pose.skeleton import COCO17, HUMANART21, OPENPOSE18

STYLES: dict[str, DrawStyle] = {"humansd": HUMANSD_STYLE, "openpose": OPENPOSE_STYLE}


def draw_file(
    path: Path,
    out: Path,
    *,
    style: str = "humansd",
    name: str | None = None,
    canvas: tuple[int, int] | None = None,
    units: str | None = None,
    joints: str | None = None,
    background: Path | None = None,
) -> People:
    """Draws the people of a pose file to the PNG `out`, as large as their canvas; returns them.

    name: which pose, for a file of several. canvas: (width, height) px where the file names none.
    background: an image to draw over, letterboxed to the canvas; without it black.
    """
    if style not in STYLES:
        raise PoseError(f"is {style!r}", field="style", remedy=f"Choose one of {', '.join(STYLES)}.")
    if out.suffix.lower() != ".png":
        raise PoseError("does not end in .png", file=out, remedy="Drawings are PNG files; name one.")
    people = _pick(path, read_poses(path, canvas=canvas, units=units, joints=joints), name)
    if people.canvas[0] * people.canvas[1] > MAX_PIXELS:
        raise PoseError(
            f"is {people.canvas[0]} x {people.canvas[1]} px, the limit is {MAX_PIXELS // 10**6} megapixels",
            file=path,
            field="canvas",
            remedy="Write the pose for a smaller image.",
        )
    if background is None:
        drawn = draw_people(people, STYLES[style])
    else:
        drawn = overlay(letterboxed(_read_image(background), people.canvas), people, STYLES[style])
    encoded = cv2.imencode(".png", np.ascontiguousarray(drawn[..., ::-1]))[1]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lambda stream: stream.write(encoded.tobytes()))
    return people


def convert_file(
    path: Path,
    out: Path,
    to: str,
    *,
    canvas: tuple[int, int] | None = None,
    units: str | None = None,
    joints: str | None = None,
) -> dict[str, People]:
    """Writes all poses of the file or folder `path` to `out` in the format `to`; returns them as written.

    Joints go by name to the skeleton of the format (OpenPose-18, COCO-17; Human-Art keeps 21). OpenPose and
    our own JSON hold one image a file: with several, `out` becomes a folder. Image records of COCO and
    Human-Art files are carried over.
    """
    read = read_poses(path, canvas=canvas, units=units, joints=joints)
    poses = {name: _suited(people, to) for name, people in read.items()}
    single = to in ("openpose", "humansd")
    folder = out if single and not out.suffix else out.parent
    folder.mkdir(parents=True, exist_ok=True)
    write_poses(out, poses, to, images=None if single or to == "npz" else _image_records(path))
    return poses


def format_tables() -> str:
    """The pose formats that are read, and the joint sets known by their order, as two tables of text."""
    formats = [(a.name, a.looks, a.writers) for a in ADAPTERS]
    formats += [(name, looks, writers) for name, (writers, looks) in OTHER_FORMATS.items()]
    sets = [(s.name, str(len(s)), s.source) for s in JOINT_SETS.values()]
    tables = _table(("format", "looks like", "written by"), formats), _table(("--joints", "n", "written by"), sets)
    return "\n\n".join([*tables, "Joints that a file names are read by name, in any order and spelling."])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    lines = ("  ".join([*(c.ljust(w) for c, w in zip(row, widths)), row[-1]]) for row in (head, *rows))
    return "\n".join(lines)


def _suited(people: People, to: str) -> People:
    if to == "openpose":
        return people.to_skeleton(OPENPOSE18)
    if to == "coco" or (to == "humanart" and people.skeleton != HUMANART21):
        return people.to_skeleton(COCO17)
    return people


def _image_records(path: Path) -> dict[str, dict[str, Any]] | None:
    try:
        return read_image_records(path)
    except PoseError:  # the poses were read, so this only says that the format has no image records
        return None


def _pick(path: Path, poses: dict[str, People], name: str | None) -> People:
    known = ", ".join(list(poses)[:5]) + (" ..." if len(poses) > 5 else "")
    if name is None and len(poses) == 1:
        return next(iter(poses.values()))
    if name is None:
        raise PoseError(f"holds {len(poses)} poses ({known})", file=path, remedy="Name one with --name.")
    if name not in poses:
        raise PoseError(f"holds no pose {name!r} but {known}", file=path, remedy="Name one of these.")
    return poses[name]


def _read_image(path: Path) -> ImageArray:
    """uint8 RGB (H, W, 3)."""
    data = read_bytes(path)
    width, height = image_size(data) or (0, 0)
    if width * height > MAX_PIXELS:
        text = f"has {width} x {height} px, the limit is {MAX_PIXELS // 10**6} megapixels"
        raise PoseError(text, file=path, remedy="Make it smaller.")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if width * height else None
    if image is None:
        raise PoseError("not a readable image", file=path, remedy="Give a PNG, JPEG, WebP or BMP file.")
    return np.asarray(image, np.uint8)
