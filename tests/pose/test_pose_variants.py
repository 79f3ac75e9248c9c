"""Forms that tools document, one by one: each gives the known person, or is refused with a remedy."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from humansd.pose import COCO17, PoseError
from humansd.pose.formats import read_poses, write_poses
from humansd.pose.people import People
from pose_mutants import CANVAS, TRUTH
from pose_variants import FORMS

NEAR = 1.5  # px


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_gives_the_known_person_or_a_remedy(tmp_path: Path, name: str) -> None:
    form = FORMS[name]()
    path = tmp_path / f"pose{form.suffix}"
    path.write_text(form.text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not form.people:
            with pytest.raises(PoseError) as refused:
                read_poses(path, canvas=CANVAS, **form.options)
            assert refused.value.remedy
            return
        people = next(iter(read_poses(path, canvas=CANVAS, **form.options).values()))
    assert people.n == form.people
    assert people.canvas == CANVAS
    body = people.to_skeleton(COCO17)
    there = [joint for joint in range(len(COCO17)) if body.labelled[0, joint]]
    assert len(there) >= form.least
    away = {COCO17.joints[j]: float(np.hypot(*(body.xy[0, j] - TRUTH[COCO17.joints[j]]))) for j in there}
    assert max(away.values()) <= NEAR, away


def test_joints_that_were_not_found_are_absent_and_own_corners_stay(tmp_path: Path) -> None:
    for name in ("ultralytics_weak_joints_are_zero", "coco_absent_as_minus_one"):
        path = tmp_path / f"{name}.json"
        path.write_text(FORMS[name]().text)
        people = next(iter(read_poses(path, canvas=CANVAS).values()))
        assert not people.labelled[0, COCO17.index("left_ear")]
        assert people.labelled[0].sum() == 16
    xy = np.array([[TRUTH[joint] for joint in COCO17.joints]], float)
    xy[0, 9] = 0
    corner = People.of(xy, CANVAS)
    for format in ("coco", "openpose"):
        path = tmp_path / f"own-{format}.json"
        write_poses(path, {path.stem: corner}, format)
        assert read_poses(path)[path.stem].to_skeleton(COCO17).equals(corner)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("depth_where_a_score_is_usual", "is a depth"),
        ("openpose_body_25b", "in the order of body25b"),
        ("openpose_neck_last", "in the order of coco18"),
        ("label_studio_two_annotators", "annotated several times"),
        ("yolo_box_of_another_class_first", "line 1: holds a box and no joint"),
        ("label_studio_local_files", ""),
    ],
)
def test_what_was_decided_is_said(tmp_path: Path, name: str, says: str) -> None:
    form = FORMS[name]()
    path = tmp_path / f"pose{form.suffix}"
    path.write_text(form.text, encoding="utf-8")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        poses = read_poses(path, canvas=CANVAS)
    assert any(says in str(w.message) for w in caught) or not says
    if name == "label_studio_local_files":
        assert list(poses) == ["a"]
