"""npz files of plain arrays: every image's people bit by bit, in one file.

Arrays: `xy` float64 (J, 2), `score` float64 (J,), `visibility` uint8 (J,) with the joints of all people of
all images one after another; `area` float64 (P,); `meta` uint8, JSON text: for each image its name,
canvas, skeleton and the extras of its people.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from humansd.pose.checks import check_extras, check_name
from humansd.pose.errors import PoseError
from humansd.pose.files import (
    MAX_FILE_BYTES,
    MAX_IMAGES,
    MAX_UNPACKED_BYTES,
    check_archive,
    dump_json,
    parse_json,
    plain_array,
    unpack,
)
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.skeleton import SKELETONS

_ARRAYS = ("xy", "score", "visibility", "area", "meta")


def write_npz(poses: dict[str, People], path: str | Path) -> bytes:
    """The bytes of an npz file holding `poses`, bit by bit."""
    images = [
        {"name": n, "canvas": list(p.canvas), "skeleton": p.skeleton.name, "extras": list(p.extras)}
        for n, p in poses.items()
    ]
    meta = dump_json({"version": 1, "pictures": images}, path)
    every = list(poses.values()) or [People.empty((1, 1))]
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        xy=np.concatenate([p.xy.reshape(-1, 2) for p in every]),
        score=np.concatenate([p.score.reshape(-1) for p in every]),
        visibility=np.concatenate([p.visibility.reshape(-1) for p in every]),
        area=np.concatenate([p.area for p in every]),
        meta=np.frombuffer(meta, np.uint8),
    )
    return stream.getvalue()


def read_npz(data: bytes, path: str | Path) -> dict[str, People]:
    """Name -> People of the bytes of an npz file written by `write_npz`. Never unpickles."""
    check_archive(data, path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _check_names(archive, path)
        images = _images(_array(archive, "meta", MAX_FILE_BYTES, path), path)
        arrays = {name: _array(archive, name, MAX_UNPACKED_BYTES, path) for name in _ARRAYS[:-1]}
    _check_shapes(arrays, path)
    poses: dict[str, People] = {}
    joint = person = 0
    for i, image in enumerate(images):
        skeleton, n = SKELETONS[image["skeleton"]], len(image["extras"])
        k = len(skeleton)
        joints, persons = slice(joint, joint + n * k), slice(person, person + n)
        joint, person = joints.stop, persons.stop
        field = f"meta.pictures[{i}]"
        if joint > len(arrays["xy"]) or person > len(arrays["area"]):
            raise PoseError("has fewer joints than people", file=path, field=field, remedy="Write it again.")
        try:
            poses[image["name"]] = People(
                arrays["xy"][joints].reshape(n, k, 2),
                arrays["score"][joints].reshape(n, k),
                arrays["visibility"][joints].reshape(n, k),
                image["canvas"],
                skeleton,
                arrays["area"][persons],
                tuple(image["extras"]),
            )
        except PoseError as error:
            raise error.at(path, field) from None
    for name, used in (("xy", joint), ("area", person)):
        if used != len(arrays[name]):
            raise PoseError("has joints of nobody", file=path, field=name, remedy="Write the file again.")
    return poses


def _images(meta: np.ndarray, path: str | Path) -> list[dict[str, Any]]:
    """What `meta` says of each image, all that can be checked before a joint is read."""
    if meta.ndim != 1 or meta.dtype != np.uint8:
        raise PoseError("has the wrong form", file=path, field="area or meta", remedy="Write it again.")
    value = parse_json(meta.tobytes(), path)
    images = value.get("pictures") if isinstance(value, dict) and value.get("version") == 1 else None
    if not isinstance(images, list):
        raise PoseError("is not of version 1", file=path, field="meta", remedy="Write the file again.")
    if len(images) > MAX_IMAGES:
        raise PoseError(f"{len(images)} images, the limit is {MAX_IMAGES}", file=path, remedy="Split it.")
    names: set[str] = set()
    for i, image in enumerate(images):
        field = f"meta.pictures[{i}]"
        known = isinstance(image, dict) and set(image) == {"name", "canvas", "skeleton", "extras"}
        known = known and isinstance(image["name"], str) and isinstance(image["extras"], list)
        if not known or image["skeleton"] not in list(SKELETONS) or image["name"] in names:
            raise PoseError("is broken or named twice", file=path, field=field, remedy="Write the file again.")
        if len(image["extras"]) > MAX_PEOPLE:
            text = f"{len(image['extras'])} people in one image, the limit is {MAX_PEOPLE}"
            raise PoseError(text, file=path, field=field, remedy="Split the file.")
        try:
            names.add(check_name(image["name"], "name"))
            for extras in image["extras"]:
                check_extras(extras)
        except PoseError as error:
            raise error.at(path, field) from None
    return images


def _check_names(archive: zipfile.ZipFile, path: str | Path) -> None:
    names = {name.removesuffix(".npy") for name in archive.namelist()}
    if "arr_0" in names and "xy" not in names:
        raise PoseError(
            "holds HumanSD's published form, which does not say how large its image is",
            file=path,
            field="arr_0",
            remedy="Give the size of the image (--canvas WxH, read_poses(..., canvas=)).",
        )
    if names and not any(name.endswith(".npy") for name in archive.namelist()):
        raise PoseError("is a zip archive of other files", file=path, remedy="Unpack it, and name what it holds.")
    missing = [name for name in _ARRAYS if name not in names]
    if missing:
        raise PoseError("is missing", file=path, field=missing[0], remedy=f"The arrays are {', '.join(_ARRAYS)}.")


def _array(archive: zipfile.ZipFile, name: str, limit: int, path: str | Path) -> np.ndarray:
    try:
        return plain_array(unpack(archive, f"{name}.npy", limit))
    except Exception as error:  # a damaged member makes zipfile and numpy raise many things
        raise PoseError(f"is not a readable npz file ({error})", file=path, remedy="Write the file again.") from None


def _check_shapes(arrays: dict[str, np.ndarray], path: str | Path) -> None:
    joints = len(arrays["xy"]) if arrays["xy"].ndim == 2 else -1
    shapes = {"xy": (joints, 2), "score": (joints,), "visibility": (joints,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fui":
            raise PoseError(f"has shape {arrays[name].shape}", file=path, field=name, remedy="Write it again.")
    if arrays["area"].ndim != 1 or arrays["area"].dtype.kind not in "fui":
        raise PoseError("has the wrong form", file=path, field="area or meta", remedy="Write it again.")
