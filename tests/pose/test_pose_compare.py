"""OKS and cosine against hand values and pycocotools."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansd.pose import COCO17, OPENPOSE18, People, PoseError
from humansd.pose.compare import cosine_matrix, oks, pose_cosine
from pose_cases import standing


def test_oks_by_hand() -> None:
    truth = People.of(np.zeros((1, 17, 2)), (100, 100), visibility=[[2, 1] + [0] * 15], area=[400.0])
    found = np.zeros((1, 17, 2))
    found[0, 0] = [1, 0]
    # nose off by 1 px, sigma 0.026; left eye exact; the rest is not labelled.
    expected = (math.exp(-1 / (2 * 400 * (2 * 0.026) ** 2)) + 1) / 2
    np.testing.assert_allclose(oks(truth, People.of(found, (100, 100))), [[expected]], rtol=1e-12)


def test_oks_equals_pycocotools() -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    true_xy = standing((400, 600)).xy + rng.normal(0, 40, (3, 1, 2)) + rng.normal(0, 5, (3, 17, 2))
    seen = rng.integers(0, 3, (3, 17))
    found_xy = true_xy[[2, 0, 1, 1]] + rng.normal(0, 9, (4, 17, 2))
    area = np.array([3000.0, 8000.0, 20000.0])
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "width": 400, "height": 600}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": area[i],
                "bbox": [0, 0, 9, 9],
                "num_keypoints": int((seen[i] > 0).sum()),
                "keypoints": np.column_stack([true_xy[i], seen[i]]).reshape(-1).tolist(),
            }
            for i in range(3)
        ],
    }
    truth.createIndex()
    results = [
        {
            "image_id": 1,
            "category_id": 1,
            "score": 1 - 0.1 * i,
            "keypoints": np.column_stack([xy, np.ones(17)]).reshape(-1).tolist(),
        }
        for i, xy in enumerate(found_xy)
    ]
    centernet = COCOeval(truth, truth.loadRes(results), "keypoints")
    centernet._prepare()
    reference = np.asarray(centernet.computeOks(1, 1)).T
    ours = oks(People.of(true_xy, (400, 600), visibility=seen, area=area), People.of(found_xy, (400, 600)))
    assert ours.min() < 0.1
    assert ours.max() > 0.5
    np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12)


def test_oks_of_absent_joints_and_people() -> None:
    person = standing()
    assert oks(person, person) == 1.0
    gone = np.full((1, 17), 2)
    gone[0, 0] = 0
    np.testing.assert_allclose(oks(person, People.of(person.xy, person.canvas, visibility=gone)), [[16 / 17]])
    nobody = People.of(np.zeros((1, 17, 2)), person.canvas, visibility=np.zeros((1, 17)))
    assert oks(nobody, person) == 0.0
    assert oks(person, People.empty(person.canvas)).shape == (1, 0)


def test_oks_refuses_what_does_not_compare() -> None:
    person = standing()
    with pytest.raises(PoseError, match="canvas: the canvases"):
        oks(person, person.resize(50, 50))
    with pytest.raises(PoseError, match=r"skeleton: .* differ\. Use People.to_skeleton"):
        oks(person, person.to_skeleton(OPENPOSE18))
    with pytest.raises(PoseError, match="sigmas: needs 17 numbers"):
        oks(person, person, sigmas=[1.0])
    with pytest.raises(PoseError, match="area: needs 1 numbers"):
        oks(person, person, area=[1.0, 2.0])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_cosine_ignores_place_and_size(scale: float, dx: float, dy: float) -> None:
    xy, seen = standing().xy[0], np.full(17, 2)
    assert pose_cosine(xy, seen, xy * scale + [dx, dy], seen) == pytest.approx(1.0, abs=1e-9)


def test_cosine_known_answers() -> None:
    seen = np.array([2, 2] + [0] * 15)
    right, down, both = np.zeros((3, 17, 2))
    right[1], down[1], both[1] = [4, 0], [0, 2], [3, 3]
    assert pose_cosine(right, seen, down, seen) == pytest.approx(0.0)
    assert pose_cosine(right, seen, both, seen) == pytest.approx(math.sqrt(0.5))
    assert pose_cosine(right, seen, -right, seen) == pytest.approx(-1.0)


def test_cosine_uses_common_joints_only() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(17, 2)) * 50
    b = a.copy()
    seen_a, seen_b = np.full(17, 2), np.full(17, 1)
    seen_a[3], b[3] = 0, [1e6, 1e6]
    seen_b[5], a[5] = 0, [-1e6, 3]
    assert pose_cosine(a, seen_a, b, seen_b) == pytest.approx(1.0)


def test_cosine_is_nan_without_a_shape() -> None:
    xy, one = standing().xy[0], np.zeros(17)
    one[4] = 2
    assert math.isnan(pose_cosine(xy, one, xy, np.full(17, 2)))
    assert math.isnan(pose_cosine(np.full((17, 2), 7.3), np.full(17, 2), xy, np.full(17, 2)))


def test_cosine_matrix_and_errors() -> None:
    person = standing()
    assert cosine_matrix(person, person.hflip().resize(30, 60)).shape == (1, 1)
    assert cosine_matrix(People.empty((9, 9)), person).shape == (0, 1)
    with pytest.raises(PoseError, match="needs two poses"):
        pose_cosine(np.zeros((17, 2)), np.zeros(17), np.zeros((18, 2)), np.zeros(18))
    assert COCO17.sigmas[0] == 0.026
