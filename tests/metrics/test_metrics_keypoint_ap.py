"""AP of key points against pycocotools, on constructed people and on real annotations."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from humansd.metrics.keypoint_ap import KeypointState, keypoint_scores, person_scores, with_ignored
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from shared_data import COCO_PEOPLE

SIDE = 512


def people(rng: np.random.Generator, n: int, size: tuple[float, float] = (30, 250)) -> People:
    """n people at random places of a 512-px canvas, some joints missing, some hidden."""
    if not n:
        return People.empty((SIDE, SIDE))
    scale = rng.uniform(*size, (n, 1, 1))
    xy = rng.uniform(0, SIDE, (n, 1, 2)) + scale * rng.uniform(-0.5, 0.5, (n, 17, 2))
    return People.of(xy, (SIDE, SIDE), visibility=rng.choice([0, 1, 2], (n, 17), p=[0.2, 0.2, 0.6]))


def detected(rng: np.random.Generator, truth: People) -> People:
    """The people, moved a little, one in five missed, and some that are not there."""
    found = [truth.xy[i] + rng.normal(0, rng.uniform(0.5, 12), (17, 2)) for i in range(truth.n) if rng.random() < 0.8]
    found += [rng.uniform(0, SIDE, (17, 2)) for _ in range(rng.integers(0, 3))]
    if not found:
        return People.empty(truth.canvas)
    scores = rng.uniform(0.1, 1, len(found))
    return People.of(
        np.stack(found),
        truth.canvas,
        score=np.full((len(found), 17), 0.5),
        extras=[{"score": float(s)} for s in scores],
    )


def by_pycocotools(pairs: list[tuple[People, People]]) -> list[float]:
    truth: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    results = []
    for number, (wanted, found) in enumerate(pairs, start=1):
        truth["images"].append({"id": number})
        for i in range(wanted.n):
            seen = wanted.visibility[i] > 0
            x, y = wanted.xy[i, seen].T if seen.any() else np.zeros((2, 1))
            box = [x.min(), y.min(), np.ptp(x), np.ptp(y)]
            area = box[2] * box[3] if np.isnan(wanted.area[i]) else wanted.area[i]
            keypoints = np.column_stack([wanted.xy[i], wanted.visibility[i]]).ravel().tolist()
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
                | {"area": float(area), "bbox": box, "keypoints": keypoints, "num_keypoints": int(seen.sum())}
            )
        for i in range(found.n):
            keypoints = np.column_stack([found.xy[i], found.score[i]]).ravel().tolist()
            results.append(
                {"image_id": number, "category_id": 1, "keypoints": keypoints, "score": found.extras[i]["score"]}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats[:6]]


def ours(pairs):
    scores = keypoint_scores(pairs)
    values = (scores.ap, scores.ap50, scores.ap75, scores.ap_medium, scores.ap_large, scores.recall)
    return [-1.0 if math.isnan(v) else v for v in values]


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocotools_on_constructed_people(seed):
    rng = np.random.default_rng(seed)
    truths = [people(rng, int(rng.integers(0, 5))) for _ in range(30)]
    pairs = [(truth, detected(rng, truth)) for truth in truths]
    assert ours(pairs) == pytest.approx(by_pycocotools(pairs), abs=1e-12)


@pytest.mark.skipif(not COCO_PEOPLE.exists(), reason="the real photographs are not here")
def test_equals_pycocotools_on_real_annotations_with_their_crowds_and_unlabelled_people():
    """The reference reads the file itself; detections also fall on people whom COCO ignores."""
    rng = np.random.default_rng(0)
    file = COCO_PEOPLE / "person_keypoints.json"
    data = json.loads(file.read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in data["images"]}
    real = read_poses(file)
    assert set(names.values()) <= set(real)
    results, found = [], {name: [] for name in real}
    for note in data["annotations"]:
        x, y, width, height = note["bbox"]
        joints = np.array(note["keypoints"], float).reshape(17, 3)
        seen = joints[:, 2] > 0
        guess = rng.uniform((x, y), (x + width, y + height), (17, 2))
        guess[seen] = joints[seen, :2] + rng.normal(0, 0.02 * np.sqrt(width * height), (int(seen.sum()), 2))
        score = float(rng.uniform(0.3, 1))
        keypoints = np.column_stack([guess, np.full(17, 0.5)]).ravel().tolist()
        results.append({"image_id": note["image_id"], "category_id": 1, "keypoints": keypoints, "score": score})
        found[names[note["image_id"]]].append((guess, score))
    pairs = []
    for name, truth in real.items():
        guesses = found[name]
        there = People.of(
            np.array([g for g, _ in guesses]).reshape(-1, 17, 2),
            truth.canvas,
            score=np.full((len(guesses), 17), 0.5),
            visibility=np.full((len(guesses), 17), 2),
            extras=[{"score": s} for _, s in guesses],
        )
        pairs.append((truth, there))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0.3 < evaluation.stats[0] < 0.95
    # OKS does not depend on the scale of image and area together; the classes of size do.
    ours_all = keypoint_scores(pairs)
    values = (ours_all.ap, ours_all.ap50, ours_all.ap75, ours_all.recall)
    assert values == pytest.approx([evaluation.stats[i] for i in (0, 1, 2, 5)], abs=5e-3)
    at_512 = [tuple(p.resize(SIDE, SIDE) for p in pair) for pair in pairs]
    assert 0.3 < keypoint_scores(at_512).ap < 0.95


def test_perfect_and_absent_detections():
    truth = people(np.random.default_rng(0), 3, (150, 200))
    perfect = keypoint_scores([(truth, truth)])
    assert (perfect.ap, perfect.recall, perfect.n_people) == (1.0, 1.0, 3)
    nothing = keypoint_scores([(truth, People.empty(truth.canvas))])
    assert (nothing.ap, nothing.ap50, nothing.recall) == (0.0, 0.0, 0.0)
    nobody = keypoint_scores([(People.empty((SIDE, SIDE)), truth)])
    assert math.isnan(nobody.ap)
    assert (nobody.n_people, nobody.n_images) == (0, 1)
    assert math.isnan(keypoint_scores([]).ap)


def test_the_size_of_the_image_does_not_matter():
    rng = np.random.default_rng(3)
    pairs = [(t := people(rng, 3), detected(rng, t)) for _ in range(12)]
    small = [tuple(p.resize(128, 128) for p in pair) for pair in pairs]
    assert ours(small) == pytest.approx(ours(pairs), abs=1e-9)


def test_neither_order_nor_batches_matter():
    rng = np.random.default_rng(4)
    pairs = [(t := people(rng, 2), detected(rng, t)) for _ in range(12)]
    assert ours(pairs[::-1]) == pytest.approx(ours(pairs), abs=1e-12)


def test_a_persons_score_is_its_own_or_the_mean_of_its_joints():
    found = People.of(np.zeros((2, 17, 2)), (9, 9), score=np.full((2, 17), 0.25), extras=[{"score": 0.9}, {}])
    assert person_scores(found).tolist() == [0.9, 0.25]
    assert person_scores(People.empty((9, 9))).shape == (0,)


def test_people_of_three_sizes_have_an_ap_of_their_own():
    rng = np.random.default_rng(7)
    sizes = {"small": 28, "medium": 70, "large": 240}  # px, of a box that 17 joints nearly fill
    truths = {name: people(rng, 4, (side, side)) for name, side in sizes.items()}
    for name, truth in truths.items():
        scores = keypoint_scores([(truth, truth)])
        found = {kind: getattr(scores, f"ap_{kind}") for kind in sizes}
        assert {kind: value for kind, value in found.items() if not math.isnan(value)} == {name: 1.0}
        state = KeypointState.of([(truth, truth), (truths["large"], People.empty(truth.canvas))])
        assert state.statistic(name)(np.array([1, 1])) == keypoint_scores(state.pairs).__getattribute__(f"ap_{name}")
    missed = keypoint_scores([(truths["small"], People.empty((SIDE, SIDE)))])
    assert missed.ap_small == 0
    assert math.isnan(missed.ap_medium)


def test_people_with_few_joints_are_neither_asked_for_nor_false():
    truth = people(np.random.default_rng(8), 3, (120, 200))
    seen = np.full((3, 17), 2)
    seen[1, 7:], seen[2, :] = 0, 0
    wanted = People.of(truth.xy, truth.canvas, visibility=seen)
    ignoring = with_ignored(wanted, 8)
    assert [one.get("iscrowd", 0) for one in ignoring.extras] == [0, 1, 0]
    assert with_ignored(wanted, 7) is wanted
    scores = [0.5, 0.9, 0.4]
    found = People.of(truth.xy, truth.canvas, extras=[{"score": s} for s in scores])
    sure = found.select([0, 1])
    assert keypoint_scores([(ignoring, found.select([0]))]).ap == 1
    assert keypoint_scores([(ignoring, sure)]).ap == 1  # the other is ignored, though surer
    assert keypoint_scores([(ignoring, sure)]).n_people == 1
    stranger = People.of(truth.xy[:2] + np.array([[[0, 0]], [[300, 300]]]), truth.canvas, extras=sure.extras)
    assert keypoint_scores([(ignoring, stranger)]).ap < 1  # far from anybody, and surer
    state = KeypointState.of([(ignoring, sure), (with_ignored(wanted.select([1]), 8), sure)])
    assert state.statistic()(np.array([2, 0])) == 1
    assert math.isnan(state.statistic()(np.array([0, 2])))


def test_people_on_different_canvases_are_refused():
    truth = people(np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match="image 1 has the canvases"):
        keypoint_scores([(truth, People.empty((128, 128)))])


def test_states_merge_and_drawn_images_count_as_often_as_they_are_drawn():
    rng = np.random.default_rng(5)
    truths = [people(rng, int(rng.integers(0, 4))) for _ in range(40)]
    pairs = [(truth, detected(rng, truth)) for truth in truths]
    state = KeypointState.of(pairs[:7]).merge(KeypointState.of(pairs[7:]))
    assert state.compute() == keypoint_scores(pairs)
    statistic = state.statistic()
    assert statistic(np.ones(40, np.int64)) == pytest.approx(keypoint_scores(pairs).ap)
    draws = np.bincount(rng.integers(40, size=40), minlength=40)
    repeated = [pair for pair, times in zip(pairs, draws) for _ in range(times)]
    assert statistic(draws) == pytest.approx(keypoint_scores(repeated).ap)
    assert 0 < keypoint_scores(repeated).ap_medium < 1
    assert state.statistic("medium")(draws) == pytest.approx(keypoint_scores(repeated).ap_medium)


def test_a_statistic_without_detections_is_zero_and_without_people_nan():
    rng = np.random.default_rng(6)
    somebody, nobody = people(rng, 2), people(rng, 0)
    assert KeypointState.of([(somebody, nobody)]).statistic()(np.ones(1, np.int64)) == 0
    assert math.isnan(KeypointState.of([(nobody, nobody)]).statistic()(np.ones(1, np.int64)))
    assert math.isnan(KeypointState.of([(nobody, somebody)]).statistic()(np.ones(1, np.int64)))
