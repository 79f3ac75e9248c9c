"""A safe way in for the published pose files: npz with `arr_0`, a pickled array of dicts."""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.files import check_archive, read_bytes
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.skeleton import COCO17


def convert_published_npz(path: str | Path, canvas: tuple[int, int]) -> People:
    """COCO-17 people of a published pose npz: `arr_0`, a pickled array of dicts {keypoints, score, area}.

    The unpickler knows numpy's array, dtype and scalar forms and plain values; any other name in the file is
    refused, so a hostile file cannot run code. canvas: (width, height) of the source picture, which the file
    does not hold. keypoints: (17, 3) x, y, score in source pixels; a score outside 0..1 is clipped with a
    PoseWarning, a joint with score 0 is absent. The person's score is kept in extras["score"]. PoseError for
    anything else.
    """
    data = read_bytes(path)
    check_archive(data, path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.read("arr_0.npy")
        entries = _unpickle(member)
    except KeyError:
        raise PoseError("is missing", file=path, field="arr_0", remedy="Try read_poses instead.") from None
    except Exception as error:  # a broken pickle can raise anything
        raise PoseError(
            f"cannot be converted safely ({error})", file=path, field="arr_0", remedy="Do not open this file."
        ) from None
    if len(entries) > MAX_PEOPLE:
        raise PoseError(f"{len(entries)} people, the limit is {MAX_PEOPLE}", file=path, field="arr_0")
    rows = [_person(entry, path, f"arr_0[{i}]") for i, entry in enumerate(entries)]
    if not rows:
        return People.empty(canvas)
    points, area, extras = zip(*rows, strict=True)
    joints = np.stack(points)
    score = joints[..., 2]
    if (score < 0).any() or (score > 1).any():
        text = f"{path}: scores from {score.min():g} to {score.max():g} are clipped to 0..1"
        warnings.warn(text, PoseWarning, stacklevel=2)
    score = np.clip(score, 0.0, 1.0)
    seen = np.where(score > 0, 2, 0).astype(np.uint8)
    try:
        return People(joints[..., :2], score, seen, canvas, COCO17, np.array(area), tuple(extras))
    except PoseError as error:
        raise error.at(path, "arr_0") from None


def _person(entry: Any, path: str | Path, field: str) -> tuple[np.ndarray, float, dict[str, Any]]:
    try:
        values = {key: _plain(entry[key]) for key in ("keypoints", "score", "area") if key in entry}
        points = np.asarray(values["keypoints"], np.float64)
        score, area = (float(values.get(key, math.nan)) for key in ("score", "area"))
    except (TypeError, KeyError, ValueError):
        raise PoseError(
            "is not a dict of keypoints, score and area",
            file=path,
            field=field,
            remedy="Make the file again.",
        ) from None
    if points.shape != (17, 3) or not np.isfinite(points).all():
        raise PoseError(
            f"keypoints have shape {points.shape} or are not finite",
            file=path,
            field=field,
            remedy="Give 17 rows of x, y, score.",
        )
    known = {} if math.isnan(score) else {"score": score}
    return points, area if 0 <= area < math.inf else math.nan, known


def _unpickle(member: bytes) -> list[Any]:
    stream = io.BytesIO(member)
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if reader(stream)[2] != np.dtype(object):
        raise ValueError("it is not an array of dicts")
    entries = _plain(_Unpickler(stream).load())
    if not isinstance(entries, (list, np.ndarray)):
        raise ValueError("it is not an array of dicts")
    return list(entries)


class _Unpickler(pickle._Unpickler):
    """Resolves the few names that a pickled numpy array needs, to the stand-ins below.

    The Python unpickler, not the C one: that one reserves as much memory as a hostile file names, and its
    setting of state cannot be limited to the stand-ins.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise pickle.UnpicklingError("it asks to change an object")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy", "ndarray"): _ARRAY_TYPE,
            ("numpy", "dtype"): _Dtype,
            **{("builtins", kind.__name__): kind for kind in (dict, list, float, int, str)},
        }
        key = (module.replace("numpy._core.", "numpy.core."), name)
        if key not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[key]


_ARRAY_TYPE = "numpy.ndarray"


class _Dtype:
    """A dtype of plain numbers or of objects; numpy's own would trust whatever state the file gives it."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biuf][1248]|O8?", code):
            raise pickle.UnpicklingError(f"it asks for the dtype {str(code)[:20]!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        self.order = order if order in ("<", ">", "=") else "="

    @property
    def real(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """An array being unpickled; `value` is a numpy array of numbers or a list of objects."""

    value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.code.startswith("O"):
            if not isinstance(data, list) or math.prod(shape) != len(data):
                raise pickle.UnpicklingError("an array has the wrong length")
            self.value = data
        else:
            self.value = np.frombuffer(bytes(data), dtype.real).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _ARRAY_TYPE:
        raise pickle.UnpicklingError("it asks for an unusual array")
    return _Array()


def _scalar(dtype: Any, data: bytes) -> Any:
    return np.frombuffer(bytes(data), dtype.real, count=1)[0].item()


def _plain(value: Any) -> Any:
    """The value with stand-ins replaced; an object array of one entry (a bare dict) stays a list."""
    if isinstance(value, _Array):
        return _plain(value.value)
    return [_plain(v) for v in value] if isinstance(value, list) else value
