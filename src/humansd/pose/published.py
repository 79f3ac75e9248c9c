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

from humansd.pose.checks import check_leaves
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.files import check_archive, npy_header, read_bytes, unpack
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.skeleton import COCO17

MAX_PICKLE_BYTES = 16 * 2**20
MAX_OPERATIONS = 600_000  # of a pickle; a thousand people take 50,000 to 500,000
MAX_VALUES = 1000  # in one person
MAX_KEYS = 100  # of one dict
# Operations of a pickle that take memory by their say-so, make objects, or that numpy does not use.
_REFUSED = b"".join((
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4,
    pickle.PERSID, pickle.BINPERSID, pickle.OBJ, pickle.INST, pickle.NEWOBJ, pickle.NEWOBJ_EX,
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET,
))  # fmt: skip


def is_published(data: bytes, path: str | Path) -> bool:
    """Whether the bytes of an npz file are of the published form. PoseError where they are no npz file."""
    check_archive(data, path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = set(archive.namelist())
    return "arr_0.npy" in names and "xy.npy" not in names


def convert_published_npz(path: str | Path, canvas: tuple[int, int]) -> People:
    """COCO-17 people of a published pose npz: `arr_0`, a pickled array of dicts {keypoints, score, area}.

    The unpickler knows numpy's array, dtype and scalar forms and plain values; any other name in the file is
    refused, so a hostile file cannot run code. canvas: (width, height) of the source image, which the file
    does not hold. keypoints: (17, 3) x, y, score in source pixels; a score outside 0..1 is clipped with a
    PoseWarning, a joint with score 0 is absent. The person's score is kept in extras["score"]. PoseError for
    anything else.
    """
    data = read_bytes(path)
    check_archive(data, path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "arr_0.npy" not in archive.namelist():
                raise PoseError("is missing", file=path, field="arr_0", remedy="Try read_poses instead.")
            member = unpack(archive, "arr_0.npy", MAX_PICKLE_BYTES)
        entries = _unpickle(member)
    except PoseError:
        raise
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
        budget = _Budget(MAX_VALUES, "values in one person")
        values = {key: _plain(entry[key], budget) for key in ("keypoints", "score", "area") if key in entry}
        check_leaves(values["keypoints"])
        points = np.array(values["keypoints"], np.float64)
        score, area = (_number(values.get(key, math.nan)) for key in ("score", "area"))
    except Exception:  # what a hostile pickle put there can raise anything
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
    known = {"score": score} if math.isfinite(score) else {}
    return points, area if 0 <= area < math.inf else math.nan, known


def _number(value: Any) -> float:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    return float(value)


def _unpickle(member: bytes) -> list[Any]:
    _, _, dtype, start = npy_header(member)
    if dtype != np.dtype(object):
        raise ValueError("it is not an array of dicts")
    entries = _Unpickler(io.BytesIO(member[start:])).load()
    if isinstance(entries, _Array):
        entries = entries.value
    if not isinstance(entries, (list, np.ndarray)):
        raise ValueError("it is not an array of dicts")
    return list(entries)


class _Budget:
    """What a file may use of something; beyond it the file is refused."""

    def __init__(self, most: int, what: str) -> None:
        self.left, self.what = most, f"it holds more than {most} {what}"

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(self.what)


class _Operations(dict[int, Callable[[Any], None]]):
    """The operations of a pickle that an array needs, counted."""

    def __init__(self, known: dict[int, Callable[[Any], None]]) -> None:
        super().__init__(known)
        self.budget = _Budget(MAX_OPERATIONS, "operations")

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.budget.spend()
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise pickle.UnpicklingError(f"it asks for the operation {code}, which no array needs")


class _Unpickler(pickle._Unpickler):
    """Resolves the few names that a pickled numpy array needs, to the stand-ins below.

    The Python unpickler, not the C one: that one reserves as much memory as a hostile file names, and its
    setting of state cannot be limited to the stand-ins.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    known: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: run for code, run in pickle._Unpickler.dispatch.items() if code not in _REFUSED
    }

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.dispatch = _Operations(self.known)  # type: ignore[misc]  # counted for each file

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise pickle.UnpicklingError("it asks to change an object")
        self.stack[-1].__setstate__(state)

    known[pickle.BUILD[0]] = load_build

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._put(items)

    known[pickle.DICT[0]] = load_dict

    def load_setitem(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._put(items)

    known[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._put(self.pop_mark())

    known[pickle.SETITEMS[0]] = load_setitems

    def _put(self, items: list[Any]) -> None:
        """Numbers as keys can be chosen so that they collide, and a dict of many takes for ever."""
        target = self.stack[-1]
        keys = items[::2]
        if type(target) is not dict or len(keys) + len(target) > MAX_KEYS or not all(type(key) is str for key in keys):
            raise pickle.UnpicklingError("it asks for an unusual dict")
        target.update(zip(keys, items[1::2], strict=True))

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy", "ndarray"): _ARRAY_TYPE,
            ("numpy", "dtype"): _Dtype,
            **{("builtins", kind.__name__): _maker(kind) for kind in (dict, list, float, int, str)},
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
        if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(v) is int and v >= 0 for v in shape):
            raise pickle.UnpicklingError("an array has no shape")
        if dtype.code.startswith("O"):
            if not isinstance(data, list) or math.prod(shape) != len(data):
                raise pickle.UnpicklingError("an array has the wrong length")
            self.value = data
        else:
            self.value = np.frombuffer(_raw(data), dtype.real).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _ARRAY_TYPE:
        raise pickle.UnpicklingError("it asks for an unusual array")
    return _Array()


def _scalar(dtype: Any, data: bytes) -> Any:
    return np.frombuffer(_raw(data), dtype.real, count=1)[0].item()


def _raw(data: Any) -> bytes:
    """bytes(5_000_000_000) would take 5 GB."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("an array has no bytes")
    return data


def _maker(kind: type) -> Callable[..., Any]:
    """The type, called with nothing or a plain number or short text: str() of lists in lists may never end."""

    def make(*given: Any) -> Any:
        if len(given) > 1 or not all(isinstance(v, (int, float, str)) and len(str(v)) < 100 for v in given):
            raise pickle.UnpicklingError(f"it asks for an unusual {kind.__name__}")
        return kind(*given)

    return make


def _plain(value: Any, budget: _Budget) -> Any:
    """The value with stand-ins replaced; an object array of one entry (a bare dict) stays a list."""
    budget.spend()
    if isinstance(value, _Array):
        return _plain(value.value, budget)
    return [_plain(v, budget) for v in value] if isinstance(value, list) else value
