"""npz files of plain arrays: every picture's people bit by bit, in one file.

Arrays: `xy` float64 (J, 2), `score` float64 (J,), `visibility` uint8 (J,) with the joints of all people of
all pictures one after another; `area` float64 (P,); `meta` uint8, JSON text: for each picture its name,
canvas, skeleton and the extras of its people.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from humansd.pose.errors import PoseError
from humansd.pose.files import check_archive, dump_json, parse_json
from humansd.pose.people import People
from humansd.pose.skeleton import SKELETONS

_ARRAYS = ("xy", "score", "visibility", "area", "meta")


def write_npz(poses: dict[str, People], path: str | Path) -> bytes:
    """The bytes of an npz file holding `poses`, bit by bit."""
    pictures = [
        {"name": n, "canvas": list(p.canvas), "skeleton": p.skeleton.name, "extras": list(p.extras)}
        for n, p in poses.items()
    ]
    meta = dump_json({"version": 1, "pictures": pictures}, path)
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
    arrays = _load_arrays(data, path)
    meta = parse_json(arrays["meta"].tobytes(), path)
    pictures = meta.get("pictures") if isinstance(meta, dict) and meta.get("version") == 1 else None
    if not isinstance(pictures, list):
        raise PoseError("is not of version 1", file=path, field="meta", remedy="Write the file again.")
    poses: dict[str, People] = {}
    joint = person = 0
    for i, picture in enumerate(pictures):
        field = f"meta.pictures[{i}]"
        wanted = {"name", "canvas", "skeleton", "extras"}
        known = isinstance(picture, dict) and set(picture) == wanted and isinstance(picture["name"], str)
        known = known and picture["skeleton"] in list(SKELETONS) and isinstance(picture["extras"], list)
        if not known or picture["name"] in poses:
            raise PoseError("is broken or named twice", file=path, field=field, remedy="Write the file again.")
        skeleton, n = SKELETONS[picture["skeleton"]], len(picture["extras"])
        k = len(skeleton)
        joints, persons = slice(joint, joint + n * k), slice(person, person + n)
        joint, person = joints.stop, persons.stop
        if joint > len(arrays["xy"]) or person > len(arrays["area"]):
            raise PoseError("has fewer joints than people", file=path, field=field, remedy="Write it again.")
        try:
            poses[picture["name"]] = People(
                arrays["xy"][joints].reshape(n, k, 2),
                arrays["score"][joints].reshape(n, k),
                arrays["visibility"][joints].reshape(n, k),
                picture["canvas"],
                skeleton,
                arrays["area"][persons],
                tuple(picture["extras"]),
            )
        except PoseError as error:
            raise error.at(path, field) from None
    if joint != len(arrays["xy"]):
        raise PoseError("has joints of nobody", file=path, field="xy", remedy="Write the file again.")
    return poses


def _load_arrays(data: bytes, path: str | Path) -> dict[str, np.ndarray]:
    check_archive(data, path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if "arr_0" in archive.files and "xy" not in archive.files:
                raise PoseError(
                    "holds the published pickled form, which is not read unasked",
                    file=path,
                    field="arr_0",
                    remedy="If you trust where it is from, use convert_published_npz and write it again.",
                )
            missing = [name for name in _ARRAYS if name not in archive.files]
            if missing:
                raise PoseError(
                    "is missing", file=path, field=missing[0], remedy=f"The arrays are {', '.join(_ARRAYS)}."
                )
            arrays = {name: archive[name] for name in _ARRAYS}
    except PoseError:
        raise
    except Exception as error:
        raise PoseError(f"is not a readable npz file ({error})", file=path, remedy="Write the file again.") from None
    joints = len(arrays["xy"]) if arrays["xy"].ndim == 2 else -1
    shapes = {"xy": (joints, 2), "score": (joints,), "visibility": (joints,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fui":
            raise PoseError(f"has shape {arrays[name].shape}", file=path, field=name, remedy="Write it again.")
    if arrays["area"].ndim != 1 or arrays["meta"].dtype != np.uint8:
        raise PoseError("has the wrong form", file=path, field="area or meta", remedy="Write it again.")
    return arrays
