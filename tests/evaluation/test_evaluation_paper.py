"""The published definitions of AP and PCE, against pycocotools and plain loops fed as the published code feeds them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from humansd.evaluation.definitions import without_joints
from humansd.evaluation.scores import paper_scores
from humansd.evaluation.sides import Side
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.pose import People

SIDE = 128  # px; the published evaluation has 512
SCALE = 512 // SIDE
BATCH = 10
STANDING = np.array(
    [
        (0, -80), (4, -84), (-4, -84), (9, -81), (-9, -81), (20, -58), (-20, -58), (28, -28), (-28, -28),
        (32, 0), (-32, 0), (13, 0), (-13, 0), (14, 38), (-14, 38), (15, 76), (-15, 76),
    ]
)  # fmt: skip


def images(share: float, count: int = 64, seed: int = 0) -> list[tuple[People, People]]:
    """0 to 3 people an image, a share of the joints absent, found a few px beside; sometimes a ghost, or nobody."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        n = 0 if 20 <= number < 30 else int(rng.choice([0, 1, 2, 3], p=[0.1, 0.5, 0.2, 0.2]))
        xy = rng.uniform(0.25, 0.6, (n, 1, 1)) * STANDING + rng.uniform(40, 88, (n, 1, 2))
        xy = xy + rng.normal(0, 2, (n, 17, 2))
        area = np.ptp(xy, axis=1).prod(axis=1) * 0.6 if n else None
        wanted = without_joints(rng, People.of(xy, (SIDE, SIDE), area=area), share)
        seen = np.concatenate([xy + rng.normal(0, 3, xy.shape), rng.uniform(0, SIDE, (int(rng.random() < 0.3), 17, 2))])
        scores = [{"score": float(score)} for score in rng.uniform(0.2, 1, len(seen))]
        pairs.append((wanted, People.of(seen, (SIDE, SIDE), extras=scores)))
    return pairs


def published(pairs: list[tuple[People, People]]) -> tuple[float, float]:
    """AP and the error of the number of people, written down from the published code's steps at its 512 px."""
    aps, errors = [], []
    for start in range(0, len(pairs), BATCH):
        annotations, detections, batch = [], [], pairs[start : start + BATCH]
        for image, (wanted, found) in enumerate(batch):
            for xy, seen in zip(wanted.xy, wanted.visibility, strict=True):
                rows = [(*((p + 0.5) * SCALE - 0.5), 1.0) if v else (-1.0, -1.0, 0.0) for p, v in zip(xy, seen)]
                if not any(seen):
                    continue
                xs, ys = [row[0] for row in rows], [row[1] for row in rows]
                width, height = max(xs) - min(xs), max(ys) - min(ys)
                annotations.append(
                    {
                        "id": 1 + image * 10 + len(annotations),
                        "image_id": image,
                        "category_id": 1,
                        "iscrowd": 0,
                        "keypoints": np.ravel(rows).tolist(),
                        "num_keypoints": int(sum(v > 0 for v in seen)),
                        "bbox": [min(xs), min(ys), width, height],
                        "area": width * height,
                    }
                )
            for xy, extra in zip(found.xy, found.extras, strict=True):
                points = np.concatenate([(xy + 0.5) * SCALE - 0.5, np.ones((17, 1))], axis=1)
                detection = {"image_id": image, "category_id": 1, "keypoints": points.ravel().tolist()}
                detections.append({**detection, "score": extra["score"]})
        populated = len({one["image_id"] for one in annotations})
        if not populated:
            continue
        aps.append(coco_ap(len(batch), annotations, detections))
        numbers = [[one["image_id"] for one in kind] for kind in (annotations, detections)]
        errors.append(np.mean([abs(numbers[0].count(i) - numbers[1].count(i)) for i in range(populated)]))
    return float(np.mean(aps)), float(np.mean(errors))


def coco_ap(images: int, annotations: list[dict], detections: list[dict]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i, "width": 512, "height": 512} for i in range(images)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def paper(pairs: list[tuple[People, People]]) -> dict[str, float]:
    return paper_scores(Side(pairs, np.full(len(pairs), np.nan)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0, 0.15])
def test_ap_and_pce_are_those_of_the_published_steps(share, seed):
    pairs = images(share, seed=seed)
    scores = paper(pairs)
    assert (scores["ap"], scores["pce"]) == pytest.approx(published(pairs), abs=1e-12)


def test_absent_joints_make_the_published_ap_large_and_leave_the_correct_one():
    whole, lacking = images(0.0), images(0.15)
    assert paper(lacking)["ap"] > 1.5 * paper(whole)["ap"]
    assert keypoint_scores(lacking).ap == pytest.approx(keypoint_scores(whole).ap, abs=0.05)
    assert paper(lacking)["ap"] > 2 * keypoint_scores(lacking).ap


def test_the_published_count_leaves_out_as_many_of_the_last_images_as_have_nobody():
    someone = People.of(STANDING[None] * 0.5 + 64.0, (SIDE, SIDE))
    nobody = People.empty((SIDE, SIDE))
    missed, right = (someone, nobody), (someone, someone)
    assert paper([(nobody, someone), right, missed])["pce"] == 0.5  # the ghost counts, the missed one does not
    assert paper([(nobody, nobody)] * 10 + [missed])["pce"] == 1.0
    assert np.isnan(paper([(nobody, someone)] * 3)["pce"])
