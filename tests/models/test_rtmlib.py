"""rtmlib behind the estimators' protocol: people from its answers, and one line in seconds where it cannot be had."""

import importlib.util
import time
from typing import ClassVar

import numpy as np
import pytest

from humansd.models import rtmlib_estimator
from humansd.models.digests import networks_digest
from humansd.models.errors import ModelError
from humansd.models.estimators import load_estimator
from humansd.models.rtmlib_estimator import RtmlibEstimator

BLUE = (0, 0, 255)


def estimator(joints, scores, files=()):
    """rtmlib's two callables: a detector of boxes around what is blue, and a pose network that knows its answer."""

    def detector(image):
        rows, columns = np.nonzero(image[..., 0] > 200)  # BGR
        return [] if not len(rows) else [[columns.min(), rows.min(), columns.max(), rows.max()]] * len(joints)

    return RtmlibEstimator(detector, lambda image, bboxes: (np.array(joints), np.array(scores)), files)


def test_its_answers_become_people_surest_first():
    joints = np.stack([np.full((17, 2), 5.0), np.full((17, 2), 8.0)])
    joints[1, 3] = (500, 5)  # outside the image
    scores = np.stack([np.full(17, 0.4), np.full(17, 0.9)])
    scores[0, :10], scores[1, 0] = 0.1, 1.3
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:9, 4:9] = BLUE
    people, nobody = estimator(joints, scores).detect([image, np.zeros((9, 9, 3), np.uint8)])
    assert (people.n, people.canvas, nobody.n, nobody.canvas) == (2, (30, 20), 0, (9, 9))
    assert people.xy[0, 5].tolist() == [8, 8]
    assert people.score[0, 0] == 1.0
    assert people.visibility[0, 3] == 0
    assert people.visibility[1].tolist() == [0] * 10 + [2] * 7
    assert people.extras[0]["score"] > people.extras[1]["score"] > 0
    with pytest.raises(ValueError, match="uint8 RGB"):
        estimator(joints, scores).detect([np.zeros((9, 9), np.uint8)])


def test_results_are_known_by_the_files(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    one, two, three = (networks_digest(estimator([], [], [tmp_path / name]).networks) for name in "abc")
    assert one == three != two


@pytest.mark.skipif(importlib.util.find_spec("rtmlib") is not None, reason="rtmlib is installed")
def test_without_rtmlib_the_remedy_is_named():
    with pytest.raises(ModelError, match=r"needs rtmlib .* pip install 'humansd\[rtmlib\]'"):
        load_estimator("rtmlib")


class Body:
    """The table of networks that rtmlib fetches; nothing of it is reached here."""

    MODE: ClassVar = {
        "balanced": {"det": "https://nowhere.invalid/v1/yolox_m.zip", "pose": "https://nowhere.invalid/v1/m.zip"}
    }


def test_without_a_network_the_answer_comes_within_seconds(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(rtmlib_estimator, "_MIRROR", "https://nowhere.invalid")
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"nowhere\.invalid does not answer .* --estimator movenet"):
        rtmlib_estimator._fetched(Body, "balanced")
    assert time.monotonic() - start < 15
    with pytest.raises(ModelError, match="none of lightweight, balanced, performance"):
        rtmlib_estimator._fetched(Body, "best")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name in ("yolox_m.onnx", "m.onnx"):  # once fetched, no network is needed
        (tmp_path / "hub" / "checkpoints" / name).write_bytes(b"")
    assert rtmlib_estimator._fetched(Body, "balanced") == {"mode": "balanced"}
