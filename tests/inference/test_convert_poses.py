"""The pose files of HumanSD's release through the commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from humansd.cli import main
from humansd.inference.pose_files import read_pose_files
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_poses
from tiny_pipeline import standing


def published(path: Path, extra: object = None) -> Path:
    """As the release writes it: `arr_0`, a pickled array of a dict for each person."""
    points = np.column_stack([standing((640, 480)).xy[0], np.linspace(0, 1, 17)]).astype(np.float32)
    entry = {"keypoints": points, "score": np.float32(0.5), "area": np.float64(77.0)}
    np.savez(path, np.array([entry, entry | ({} if extra is None else {"extra": extra})], dtype=object))
    return path


def test_pose_convert_reads_a_published_file(tmp_path, capsys):
    file, out = published(tmp_path / "000123.npz"), tmp_path / "poses.json"
    assert main(["pose", "convert", str(file), str(out), "--to", "coco", "--canvas", "640x480"]) == 0
    assert "1 poses, 2 people" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (640, 480)
    points = np.array(content["annotations"][0]["keypoints"]).reshape(17, 3)
    np.testing.assert_allclose(points[1:, :2], standing((640, 480)).xy[0][1:], atol=1e-3)
    assert points[0, 2] == 0  # score 0: absent
    assert read_poses(out)["000123"].n == 2


def test_a_published_file_is_a_pose_for_generate_where_its_canvas_is_said(tmp_path):
    file = published(tmp_path / "a.npz")
    (named,) = read_pose_files(file, canvas=(640, 480))
    assert named.name == "a"
    assert named.pose.canvas == (640, 480)
    with pytest.raises(PoseError, match=r"a\.npz: arr_0: .* does not say how large its image is.*--canvas"):
        read_pose_files(file)


class Touch:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_pose_file_runs_nothing(tmp_path, capsys):
    file, mark = published(tmp_path / "h.npz", Touch(tmp_path / "ran")), tmp_path / "ran"
    assert main(["pose", "convert", str(file), str(tmp_path / "o.json"), "--to", "coco", "--canvas", "640x480"]) != 0
    message = capsys.readouterr().err
    assert "h.npz: arr_0: cannot be converted safely (it asks for posix.system)" in message
    assert not mark.exists()
    assert not (tmp_path / "o.json").exists()
