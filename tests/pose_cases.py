"""Random people for the pose tests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from humansd.pose import COCO17, HUMANART21, OPENPOSE18, People, Skeleton

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
EXTRAS = st.dictionaries(st.sampled_from(["id", "track", "bbox", "note", "face_keypoints_2d"]), JSON_VALUES)


@st.composite
def some_people(draw: st.DrawFn, skeletons: tuple[Skeleton, ...] = (COCO17, OPENPOSE18, HUMANART21)) -> People:
    """0 to 3 people anywhere in and around a canvas, with any score, visibility, area and extras."""
    skeleton = draw(st.sampled_from(skeletons))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(0, 3)), len(skeleton)
    canvas = (draw(st.integers(1, 2000)), draw(st.integers(1, 2000)))
    seen = rng.integers(0, 3, (n, k))
    xy = rng.normal(0.5, 0.5, (n, k, 2)) * canvas
    xy[(seen == 0) & (rng.random((n, k)) < 0.7)] = 0.0
    score = np.where(rng.random((n, k)) < 0.5, seen > 0, rng.random((n, k)))
    area = np.where(rng.random(n) < 0.5, np.nan, rng.random(n) * 1e5)
    extras = tuple(draw(EXTRAS) for _ in range(n))
    return People(xy, score, seen, canvas, skeleton, area, extras)


def standing(canvas: tuple[int, int] = (100, 200)) -> People:
    """One whole COCO-17 person, left side at larger x, hips at 0.5 of the height."""
    shares = [(0.5, 0.1), (0.53, 0.08), (0.47, 0.08), (0.57, 0.09), (0.43, 0.09), (0.65, 0.2), (0.35, 0.2)]
    shares += [(0.72, 0.35), (0.28, 0.35), (0.75, 0.5), (0.25, 0.5), (0.6, 0.5), (0.4, 0.5)]
    shares += [(0.61, 0.7), (0.39, 0.7), (0.62, 0.9), (0.38, 0.9)]
    return People.of(np.array([shares]) * canvas, canvas)


def pickled_npz(path: Path, payload: bytes) -> Path:
    """Write an npz whose `arr_0` is an object array with this pickle."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue() + payload)
    return path
