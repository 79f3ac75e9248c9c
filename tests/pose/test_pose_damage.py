"""Pose files damaged at random: a PoseError naming the file, or something readable; never anything else."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from humansd.pose import HUMANART21, People, PoseError, PoseWarning
from humansd.pose.formats import convert_published_npz, read_poses, write_poses
from pose_cases import pickled_npz, standing

ODD = st.sampled_from([None, True, -1, 0, 3, 10**400, float("nan"), float("inf"), "", "x", "[1]", [], [[]], {}])

FUZZ = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
)


def error_of(read: Callable[[], object]) -> PoseError | None:
    """The PoseError of a call, None when it works; anything else goes on up."""
    try:
        read()
    except PoseError as error:
        return error
    return None


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every node of a JSON value, lists up to their fourth entry."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    return [path, *(p for key, v in inner for p in leaves(v, (*path, key)))]


@FUZZ
@given(st.data(), st.sampled_from(["coco", "humanart", "openpose", "humansd"]))
def test_any_damage_is_a_pose_error_or_readable(tmp_path: Path, data: st.DataObject, format: str) -> None:
    path = tmp_path / "any.json"
    whole = standing() if format == "openpose" else standing().to_skeleton(HUMANART21)
    unsure = People(whole.xy, whole.score * 0.5, whole.visibility, whole.canvas, whole.skeleton)
    write_poses(path, {"some/name": unsure}, format)
    value = json.loads(path.read_text())
    places = [p for p in leaves(value) if p]
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(places))
        node = value
        try:
            for key in parents:
                node = node[key]
            node[last] = copy.deepcopy(data.draw(ODD))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    path.write_text(json.dumps(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseWarning)
        error = error_of(lambda: read_poses(path, canvas=(100, 100)))
    assert error is None or error.file == str(path)


@FUZZ
@given(st.data())
def test_any_damage_to_npz_is_a_pose_error(tmp_path: Path, data: st.DataObject) -> None:
    ours, theirs = tmp_path / "ours.npz", tmp_path / "theirs.npz"
    write_poses(ours, {"a": standing()}, "npz")
    np.savez(theirs, np.array([{"keypoints": np.zeros((17, 3)), "score": np.float32(1)}], dtype=object))
    for path in (ours, theirs):
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
    for read in (lambda: read_poses(ours), lambda: convert_published_npz(theirs, (99, 99))):
        error = error_of(read)
        assert error is None or error.file


@FUZZ
@given(st.data())
def test_any_damage_to_a_pickle_is_a_pose_error(tmp_path: Path, data: st.DataObject) -> None:
    entry = {"keypoints": np.zeros((17, 3)), "score": np.float32(1), "area": 3.0}
    payload = bytearray(pickle.dumps(np.array([entry], dtype=object), protocol=4))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PoseError), warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseWarning)
        convert_published_npz(pickled_npz(tmp_path / "p.npz", bytes(payload)), (99, 99))
