"""`People`: the key points of everyone in one image, with the canvas they belong to.

Coordinates are pixels, origin top left, integer = pixel centre. Resizing by s maps x to (x + 0.5) s - 0.5; a
mirror maps x to W - 1 - x and swaps left and right joints. Joints with visibility 0 have no place, so no
transform moves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from humansd.pose.checks import areas_of, check_canvas, check_extras, exact_keys, floats, shown, visibilities
from humansd.pose.errors import PoseError
from humansd.pose.extras import mirror_extras, move_extras
from humansd.pose.skeleton import COCO17, SKELETONS, Skeleton

MAX_PEOPLE = 1000
_JSON_KEYS = {"version", "skeleton", "canvas", "people"}
_PERSON_KEYS = {"xy", "score", "visibility", "area", "extras"}


@dataclass(frozen=True, eq=False, repr=False)
class People:
    """Everyone in one image: n people with k joints each. Immutable; every transform returns a new one.

    xy: float64 (n, k, 2), pixels, finite, may lie outside the canvas. score: float64 (n, k) in [0, 1].
    visibility: uint8 (n, k): 0 absent, 1 labelled but hidden, 2 visible. canvas: (width, height) in pixels.
    area: float64 (n,), px^2, NaN where unknown (default). extras: one dict of plain JSON values per person
    (ids, hands, face ...), carried through. n = 0 (nobody) is legal. PoseError for anything else.
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    visibility: NDArray[np.uint8]
    canvas: tuple[int, int]
    skeleton: Skeleton = COCO17
    area: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    extras: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        k = len(self.skeleton)
        xy = floats(self.xy, "xy")
        if xy.ndim != 3 or xy.shape[1:] != (k, 2):
            raise PoseError(
                f"the shape is {xy.shape}, but skeleton {self.skeleton.name!r} needs (people, {k}, 2)",
                field="xy",
                remedy="Give x and y of every joint, or name the skeleton that the joints belong to.",
            )
        n = len(xy)
        if n > MAX_PEOPLE:
            raise _crowd(n)
        score = floats(self.score, "score", (n, k))
        if n and (score.min() < 0.0 or score.max() > 1.0):
            raise PoseError(
                f"scores go from {score.min():g} to {score.max():g}",
                field="score",
                remedy="Scale the scores to 0..1.",
            )
        area = areas_of(self.area, n)
        extras = tuple(self.extras) if len(self.extras) else ({},) * n
        if len(extras) != n or not all(isinstance(e, dict) for e in extras):
            raise PoseError(f"needs one dict for each of {n} people, got {len(extras)}", field="extras")
        values: dict[str, NDArray[Any]] = {
            "xy": xy,
            "score": score,
            "visibility": visibilities(self.visibility, (n, k)),
            "area": area,
        }
        for name, array in values.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "canvas", check_canvas(self.canvas))
        object.__setattr__(self, "extras", tuple(dict(e) for e in extras))

    # -- making -----------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, canvas: tuple[int, int], skeleton: Skeleton = COCO17) -> People:
        """An image with nobody in it."""
        k = len(skeleton)
        return cls(np.zeros((0, k, 2)), np.zeros((0, k)), np.zeros((0, k), np.uint8), canvas, skeleton)

    @classmethod
    def of(
        cls,
        xy: ArrayLike,
        canvas: tuple[int, int],
        *,
        score: ArrayLike | None = None,
        visibility: ArrayLike | None = None,
        skeleton: Skeleton = COCO17,
        area: ArrayLike | None = None,
        extras: Sequence[dict[str, Any]] = (),
    ) -> People:
        """People from what is known: visibility defaults to 2, score to 1 where labelled and 0 elsewhere."""
        xy = floats(xy, "xy").reshape(-1, len(skeleton), 2) if np.size(xy) == 0 else floats(xy, "xy")
        seen = np.full(xy.shape[:2], 2) if visibility is None else np.asarray(visibility)
        scores = (seen > 0).astype(float) if score is None else score
        return cls(
            xy,
            np.asarray(scores),
            seen,
            canvas,
            skeleton,
            np.empty(0) if area is None else np.asarray(area),
            tuple(extras),
        )

    @property
    def n(self) -> int:
        """Number of people."""
        return len(self.xy)

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        w, h = self.canvas
        return f"People({self.n} x {self.skeleton.name}, canvas {w}x{h}, {int(self.labelled.sum())} joints)"

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n, k) bool: visibility >= 1."""
        return np.asarray(self.visibility > 0)

    def boxes(self) -> NDArray[np.float64]:
        """(n, 4) x0, y0, x1, y1 of the labelled joints, pixels; NaN for a person without any."""
        out = np.full((self.n, 4), np.nan)
        labelled = self.labelled
        for i in range(self.n):
            seen = labelled[i]
            if seen.any():
                out[i] = (*self.xy[i, seen].min(axis=0), *self.xy[i, seen].max(axis=0))
        return out

    def areas(self) -> NDArray[np.float64]:
        """(n,) px^2: the given area, else that of the box of the labelled joints; NaN without joints."""
        box = self.boxes()
        return np.where(np.isnan(self.area), (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]), self.area)

    # -- transforms -------------------------------------------------------------------------------------

    def resize(self, width: int, height: int) -> People:
        """The same people after the image is resized to width x height; area and extras follow."""
        width, height = check_canvas((width, height))
        sx, sy = width / self.canvas[0], height / self.canvas[1]
        return self._moved((sx, sy), (0.5 * sx - 0.5, 0.5 * sy - 0.5), (width, height))

    def fit(self, width: int, height: int) -> People:
        """Letterbox into width x height: `fit_box` says where the image lands; never stretched."""
        new_w, new_h, left, top = fit_box(self.canvas, (width, height))
        return self.resize(new_w, new_h).pad(left, top, width - new_w - left, height - new_h - top)

    def crop(self, x0: int, y0: int, width: int, height: int) -> People:
        """The window with its top-left pixel at (x0, y0); joints outside it are dropped (visibility 0)."""
        return self._moved((1.0, 1.0), (-x0, -y0), (width, height)).drop_outside()

    def pad(self, left: int, top: int, right: int, bottom: int) -> People:
        """Widen the canvas on each side, in pixels (0 or more)."""
        if min(left, top, right, bottom) < 0:
            raise PoseError("padding must be 0 or more", field="pad", remedy="Use crop to cut.")
        canvas = (self.canvas[0] + left + right, self.canvas[1] + top + bottom)
        return self._moved((1.0, 1.0), (left, top), canvas)

    def hflip(self) -> People:
        """Mirror left to right: x' = W - 1 - x, left and right joints swapped."""
        order = list(self.skeleton.flip_order)
        xy, seen = self.xy[:, order].copy(), self.visibility[:, order]
        xy[..., 0] = np.where(seen > 0, self.canvas[0] - 1 - xy[..., 0], xy[..., 0])
        extras = tuple(mirror_extras(e, self.canvas[0]) for e in self.extras)
        return replace(self, xy=xy, score=self.score[:, order], visibility=seen, extras=extras)

    def drop_outside(self) -> People:
        """Joints outside the canvas (beyond -0.5 .. W - 0.5) become absent: (0, 0), score 0, visibility 0."""
        low, high = -0.5, np.array(self.canvas) - 0.5
        out = self.labelled & ((self.xy < low) | (self.xy > high)).any(axis=2)
        return replace(
            self,
            xy=np.where(out[..., None], 0.0, self.xy),
            score=np.where(out, 0.0, self.score),
            visibility=np.where(out, 0, self.visibility),
        )

    def select(self, indices: ArrayLike) -> People:
        """The people at `indices` (integers, in that order, or a bool mask of length n)."""
        wanted = np.asarray(indices)
        order = np.arange(self.n)[wanted if wanted.size else wanted.astype(int)].reshape(-1)
        return replace(
            self,
            xy=self.xy[order],
            score=self.score[order],
            visibility=self.visibility[order],
            area=self.area[order],
            extras=tuple(self.extras[i] for i in order),
        )

    def with_joints(self) -> People:
        """Only the people with at least one labelled joint."""
        return self.select(self.labelled.any(axis=1))

    def to_skeleton(self, skeleton: Skeleton) -> People:
        """The same people on another skeleton, joint by name; joints unknown here become absent.

        A missing neck is the midpoint of the shoulders when both are labelled, with the lower score and
        visibility of the two.
        """
        if skeleton == self.skeleton:
            return self
        k = len(skeleton)
        xy, score = np.zeros((self.n, k, 2)), np.zeros((self.n, k))
        seen = np.zeros((self.n, k), np.uint8)
        for j, name in enumerate(skeleton.joints):
            if name in self.skeleton.joints:
                source = self.skeleton.index(name)
                xy[:, j], score[:, j] = self.xy[:, source], self.score[:, source]
                seen[:, j] = self.visibility[:, source]
            elif name == "neck":
                pair = [self.skeleton.index(f"{side}_shoulder") for side in ("left", "right")]
                both = np.asarray(self.labelled[:, pair].all(axis=1))
                xy[:, j] = np.where(both[:, None], self.xy[:, pair].mean(axis=1), 0.0)
                score[:, j] = np.where(both, self.score[:, pair].min(axis=1), 0.0)
                seen[:, j] = np.where(both, self.visibility[:, pair].min(axis=1), 0)
        return replace(self, xy=xy, score=score, visibility=seen, skeleton=skeleton)

    def equals(self, other: People, atol: float = 0.0) -> bool:
        """True when canvas, skeleton, visibility and extras are equal and all numbers differ by <= atol."""
        return (
            self.canvas == other.canvas
            and self.skeleton == other.skeleton
            and self.n == other.n
            and bool(np.array_equal(self.visibility, other.visibility))
            and self.extras == other.extras
            and all(
                np.allclose(getattr(self, name), getattr(other, name), rtol=0, atol=atol, equal_nan=True)
                for name in ("xy", "score", "area")
            )
        )

    def _moved(self, scale: tuple[float, float], shift: tuple[float, float], canvas: tuple[int, int]) -> People:
        moved = self.xy * np.array(scale) + np.array(shift, float)
        return replace(
            self,
            xy=np.where(self.labelled[..., None], moved, self.xy),
            area=self.area * (scale[0] * scale[1]),
            canvas=canvas,
            extras=tuple(move_extras(e, scale, shift) for e in self.extras),
        )

    # -- plain data -------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives the same people back, bit by bit."""
        people = [
            {
                "xy": self.xy[i].tolist(),
                "score": self.score[i].tolist(),
                "visibility": self.visibility[i].tolist(),
                "area": None if np.isnan(self.area[i]) else float(self.area[i]),
                "extras": self.extras[i],
            }
            for i in range(self.n)
        ]
        return {"version": 1, "skeleton": self.skeleton.name, "canvas": list(self.canvas), "people": people}

    @classmethod
    def from_json(cls, data: Any) -> People:
        """The inverse of `to_json`; PoseError naming the field for anything else."""
        exact_keys(data, _JSON_KEYS, "pose")
        if data["version"] != 1:
            raise PoseError(f"version {shown(data['version'])} is not known", field="version", remedy="Use 1.")
        name = data["skeleton"]
        if not isinstance(name, str) or name not in SKELETONS:
            raise PoseError(
                f"skeleton {shown(name)} is not known",
                field="skeleton",
                remedy=f"Use one of {', '.join(SKELETONS)}.",
            )
        skeleton, people = SKELETONS[name], data["people"]
        if not isinstance(people, list):
            raise PoseError("must be a list", field="people")
        if len(people) > MAX_PEOPLE:
            raise _crowd(len(people))
        for i, person in enumerate(people):
            exact_keys(person, _PERSON_KEYS, f"people[{i}]")
            check_extras(person["extras"])
        if not people:
            return cls.empty(data["canvas"], skeleton)
        return cls(
            floats([p["xy"] for p in people], "people.xy"),
            floats([p["score"] for p in people], "people.score"),
            visibilities([p["visibility"] for p in people], (len(people), len(skeleton))),
            data["canvas"],
            skeleton,
            areas_of([np.nan if p["area"] is None else p["area"] for p in people], len(people)),
            tuple(p["extras"] for p in people),
        )


def _crowd(n: int) -> PoseError:
    return PoseError(
        f"{n} people in one image, the limit is {MAX_PEOPLE}",
        field="people",
        remedy="Split the file, or keep the largest people only.",
    )


def fit_box(canvas: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a letterboxed image lands: (width, height, left, top) in whole pixels inside `size`.

    Both sides scale alike up to rounding to whole pixels, so that an image resized to (width, height) and
    pasted at (left, top) matches `People.fit` exactly.
    """
    (w, h), (width, height) = check_canvas(canvas), check_canvas(size)
    scale = min(width / w, height / h)
    new_w, new_h = min(width, max(1, round(w * scale))), min(height, max(1, round(h * scale)))
    return new_w, new_h, (width - new_w) // 2, (height - new_h) // 2
