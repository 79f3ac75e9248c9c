"""AP and AP(m) of key points over a whole data set, with COCO's semantics (cocodataset.org, "keypoints-eval").

faster-coco-eval computes; this file says what it is given. Sizes are those at a short side of 512 px, so that
"medium" means the same at every image size (HumanSD's evaluation has 512-px images).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from faster_coco_eval import COCO
from faster_coco_eval import COCOeval_faster as COCOeval
from numpy.typing import NDArray

from humansd.pose.errors import PoseError
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

REFERENCE_SIDE_PX = 512
SIZES = ("all", "medium", "large", "small")  # of people: COCO's own, and the one that COCO leaves out
AREAS = ((0, 1e10), (32**2, 96**2), (96**2, 1e10), (0, 32**2))  # of each, px^2 at 512-px scale


@dataclass(frozen=True)
class KeypointScores:
    """AP in 0..1, NaN where no person of that kind was wanted.

    ap: mean over OKS 0.50:0.05:0.95; ap50, ap75: at one threshold; ap_medium: of people of 32^2 to 96^2 px at 512-px
    scale, ap_large: of larger ones, ap_small: of smaller ones; recall: mean over the thresholds. n_images, n_people:
    what was wanted and counts.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    recall: float
    n_images: int
    n_people: int
    ap_small: float = float("nan")


def keypoint_scores(pairs: Sequence[tuple[People, People]]) -> KeypointScores:
    """Scores of all images together.

    Args:
        pairs: (wanted, found) of each image, both COCO-17 and on one canvas. A found person's own score is
            `extras[i]["score"]`, else the mean over its joints; the 20 surest of an image count. As in COCO a wanted
            person without joints, or a crowd (`extras[i]["iscrowd"]`), is ignored, and so is who is found in its box
            (`extras[i]["bbox"]`, x y width height in pixels; without one nobody is found in it).

    Raises:
        PoseError: a pair with different canvases.
    """
    return KeypointState.of(pairs).compute()


@dataclass(frozen=True, eq=False)
class KeypointState:
    """The wanted and found people of any number of images: AP needs them all, so it is never a mean over batches."""

    pairs: tuple[tuple[People, People], ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[People, People]]) -> KeypointState:
        """Arguments and errors as in `keypoint_scores`."""
        for number, (truth, people) in enumerate(pairs, start=1):
            check_canvas(number, truth, people)
        return cls(tuple(pairs))

    def merge(self, other: KeypointState) -> KeypointState:
        """The state of both sets of images together."""
        return KeypointState(self.pairs + other.pairs)

    def compute(self) -> KeypointScores:
        """The scores of all images together."""
        wanted, found = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        truth = _truth(wanted)
        wanted_areas = [one["area"] for one in truth["annotations"] if _counts(one)]
        n_people = len(wanted_areas)
        detections = _detections(found)
        if not n_people:
            nan = float("nan")
            return KeypointScores(nan, nan, nan, nan, nan, nan, len(self.pairs), 0)
        if not detections:
            kinds = set(map(_kind, wanted_areas))
            medium, large, small = (0.0 if kind in kinds else float("nan") for kind in SIZES[1:])
            return KeypointScores(0.0, 0.0, 0.0, medium, large, 0.0, len(self.pairs), n_people, small)
        evaluation = _evaluated(truth, detections)
        evaluation.accumulate()
        evaluation.summarize()
        ap, ap50, ap75, medium, large, recall = (float("nan") if v < 0 else float(v) for v in evaluation.stats[:6])
        small = _mean_precision(evaluation, SIZES.index("small"))
        return KeypointScores(ap, ap50, ap75, medium, large, recall, len(self.pairs), n_people, small)

    def statistic(self, size: str = "all") -> Callable[[NDArray[np.int64]], float]:
        """AP, or that of a `size` of `SIZES`, in 0..1, with each image as often as `draws` (images,) says, for
        `metrics.bootstrap`.

        People are matched once, image by image; a draw costs milliseconds.
        """
        place = SIZES.index(size)
        wanted, found = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        truth, detections = _truth(wanted), _detections(found)
        n_people = np.zeros(len(self.pairs), np.int64)
        for one in truth["annotations"]:
            n_people[one["image_id"] - 1] += _counts(one) and size in ("all", _kind(one["area"]))
        if not detections or not n_people.sum():
            return lambda draws: 0.0 if draws @ n_people else float("nan")
        evaluation = _evaluated(truth, detections, keep_images=True)
        images, n_images = evaluation._evalImgs_cpp, len(self.pairs)

        def average_precision(draws: NDArray[np.int64]) -> float:
            rows = np.repeat(np.arange(n_images), draws)
            drawn = copy.copy(evaluation)
            # One entry for each kind of area and image; the sum of draws has to be the number of images.
            drawn._evalImgs_cpp = [images[kind * n_images + row] for kind in range(len(SIZES)) for row in rows]
            drawn.accumulate()
            return _mean_precision(drawn, place)

        return average_precision


def with_ignored(people: People, min_joints: int) -> People:
    """The people, those with fewer than `min_joints` labelled joints marked as crowds: AP then asks for none of them.

    As in COCO, whoever is found there, with an OKS of its labelled joints, counts neither as found nor as false. A few
    joints are little to be recognised by, so their area is that of their box widened on every side by half its longer
    side, and at least a medium person's.
    """
    joints = people.labelled.sum(axis=1)
    few = (joints > 0) & (joints < min_joints)
    if not few.any():
        return people
    box = people.boxes()
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    wide = (width + np.maximum(width, height)) * (height + np.maximum(width, height))
    least = (32 / _scale(people)) ** 2
    area = np.where(few, np.fmax(np.fmax(people.area, wide), least), people.area)
    extras = tuple({**one, "iscrowd": 1} if f else one for one, f in zip(people.extras, few, strict=True))
    return replace(people, area=area, extras=extras)


def with_published_area(people: People) -> People:
    """Those of `people` with a labelled joint, with the area by which the published evaluation (HumanSD) scales OKS.

    It is that of the box around all 17 joints at 512-px scale, of which an absent one lies at (-1, -1). So a person
    with an absent joint is as large as all between it and the corner, and found wherever that is.
    """
    people = people.to_skeleton(COCO17).with_joints()
    scale = _scale(people)
    xy = np.where(people.labelled[..., None], _placed(people.xy, scale), -1.0)
    area = np.ptp(xy, axis=1).prod(axis=1) / scale**2
    return replace(people, area=area, extras=())


def _evaluated(truth: dict[str, Any], detections: list[dict[str, Any]], keep_images: bool = False) -> COCOeval:
    coco = COCO(truth)
    evaluation = COCOeval(
        coco, coco.loadRes(detections), "keypoints", print_function=lambda *_: None, separate_eval=keep_images
    )
    evaluation.params.kpt_oks_sigmas = np.array(COCO17.sigmas)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(one) for one in AREAS], list(SIZES)
    evaluation.evaluate()
    return evaluation


def _mean_precision(evaluation: COCOeval, place: int) -> float:
    """AP of the size at `place` of `SIZES`; NaN where nobody of it was wanted."""
    precision = evaluation.eval["precision"][:, :, 0, place, 0]
    return float(precision.mean()) if precision.size and precision.max() >= 0 else float("nan")


def _counts(annotation: dict[str, Any]) -> bool:
    """Whether a wanted person is one whom AP asks for."""
    return annotation["num_keypoints"] > 0 and not annotation["iscrowd"]


def _kind(area: float) -> str:
    return "small" if area < 32**2 else "medium" if area <= 96**2 else "large"


def _truth(everyone: Sequence[People]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, people in enumerate(everyone, start=1):
        people, scale = people.to_skeleton(COCO17), _scale(people)
        images.append({"id": number, "width": people.canvas[0] * scale, "height": people.canvas[1] * scale})
        xy, seen = _placed(people.xy, scale), people.labelled
        low = np.where(seen[..., None], xy, np.inf).min(axis=1)
        size = np.where(seen[..., None], xy, -np.inf).max(axis=1) - low
        empty = ~seen.any(axis=1)
        low[empty], size[empty] = 0, 0
        area = np.where(np.isnan(people.area), size.prod(axis=1), people.area * scale**2)
        keypoints = (
            np.concatenate([xy, people.visibility[..., None]], axis=2).reshape(people.n, 3 * len(COCO17)).tolist()
        )
        for i, extras in enumerate(people.extras):
            x, y, width, height = extras.get("bbox", (0.0, 0.0, 0.0, 0.0))
            given = [*_placed(np.array([x, y]), scale), width * scale, height * scale]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": int(bool(extras.get("iscrowd", 0))),
                    "area": float(area[i]),
                    "bbox": [float(v) for v in (given if "bbox" in extras else (*low[i], *size[i]))],
                    "keypoints": keypoints[i],
                    "num_keypoints": int(seen[i].sum()),
                }
            )
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.joints), "skeleton": []}
    return {"info": {}, "images": images, "annotations": annotations, "categories": [category]}


def _detections(found: Sequence[People]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for number, people in enumerate(found, start=1):
        people = people.to_skeleton(COCO17)
        placed = np.concatenate([_placed(people.xy, _scale(people)), people.score[..., None]], axis=2)
        keypoints = placed.reshape(people.n, 3 * len(COCO17)).tolist()
        out += [
            {"image_id": number, "category_id": 1, "keypoints": one, "score": float(score)}
            for one, score in zip(keypoints, person_scores(people), strict=True)
        ]
    return out


def check_canvas(number: int, wanted: People, found: People) -> None:
    """PoseError unless both are on one canvas; `number` names the image."""
    if wanted.canvas != found.canvas:
        raise PoseError(
            f"image {number} has the canvases {wanted.canvas} and {found.canvas}",
            field="canvas",
            remedy="Resize the found people to the canvas of the wanted ones.",
        )


def person_scores(people: People) -> np.ndarray:
    """(n,) each person's own score in 0..1: `extras["score"]`, else the mean over its joints."""
    means = people.score.mean(axis=1) if people.n else np.zeros(0)
    return np.array([extra.get("score", mean) for extra, mean in zip(people.extras, means, strict=True)], float)


def _scale(people: People) -> float:
    return REFERENCE_SIDE_PX / min(people.canvas)


def _placed(xy: np.ndarray, scale: float) -> np.ndarray:
    """Pixel centres after a resize by `scale`."""
    return (xy + 0.5) * scale - 0.5
