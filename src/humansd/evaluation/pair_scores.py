"""Two generated images of one prompt and one seed in two poses: what changed that should not have, what fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.evaluation.colors import fill_torso, torso_mask
from humansd.metrics.bootstrap import Comparison, Statistic, bootstrap_interval, mean_of, paired_comparison
from humansd.metrics.keypoint_ap import KeypointState
from humansd.metrics.pairs import outside_scores
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

HIGHEST_DB = 60.0  # what identical backgrounds count as, so that a mean exists
THIGHS = tuple(tuple(COCO17.joints.index(f"{side}_{joint}") for joint in ("hip", "knee")) for side in ("left", "right"))
THICK = 0.22  # of a thigh, share of its length
METRICS = {  # name -> title, digits, whether more is better
    "psnr": ("background PSNR, dB", 2, True),
    "ssim": ("background SSIM", 3, True),
    "mse": ("background MSE x 1000", 2, False),
    "top": ("top, change of color (CIELAB)", 1, False),
    "bottom": ("bottom, change of color (CIELAB)", 1, False),
    "clipsim": ("CLIPSIM", 2, True),
    "ap": ("AP of pose B", 1, True),
}
SCALES = {"mse": 1000.0, "ap": 100.0}


@dataclass(frozen=True, eq=False)
class PairRecord:
    """What is known of two images. psnr (dB), ssim, mse: outside of what may change. top, bottom: distance in CIELAB
    of the mean colors of a person's clothes in both, the mean over the people; NaN where they cannot be looked at.
    clipsim: the mean of both. wanted, found: pose B, and who is seen in the second image."""

    psnr: float
    ssim: float
    mse: float
    top: float
    bottom: float
    clipsim: float
    wanted: People
    found: People

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; no number is NaN: None."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        plain = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return plain | {"wanted": self.wanted.to_json(), "found": self.found.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PairRecord:
        """The inverse of `to_json`."""
        fields: dict[str, Any] = {name: People.from_json(data[name]) for name in ("wanted", "found")}
        for name in ("psnr", "ssim", "mse", "top", "bottom", "clipsim"):
            fields[name] = math.nan if data[name] is None else float(data[name])
        return cls(**fields)


def score_pair(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    people: tuple[People, People],
    changes: NDArray[np.bool_],
    found: People,
    clipsim: float,
) -> PairRecord:
    """people: A and B on the canvas of the images (h, w, 3). changes: (h, w). found: who the second image shows."""
    outside = outside_scores(*images, changes)
    psnr = outside["psnr"] if math.isnan(outside["psnr"]) else min(outside["psnr"], HIGHEST_DB)
    clothes = {"top": torso_mask, "bottom": thigh_mask}
    change = {name: color_change(images, people, where) for name, where in clothes.items()}
    return PairRecord(psnr, outside["ssim"], outside["mse"], **change, clipsim=clipsim, wanted=people[1], found=found)


def color_change(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]], people: tuple[People, People], where: Any
) -> float:
    """The mean distance in CIELAB of what people wear at one part in both images; NaN if it is seen of nobody.

    where: (people, row) -> the part's mask (h, w), or None. Person i of A is person i of B."""
    distances = []
    for row in range(min(one.n for one in people)):
        masks = [where(one, row) for one in people]
        if all(mask is not None for mask in masks):
            means = [mean_lab(image, mask) for image, mask in zip(images, masks, strict=True)]
            distances.append(float(np.linalg.norm(means[0] - means[1])))
    return float(np.mean(distances)) if distances else math.nan


def thigh_mask(people: People, place: int) -> NDArray[np.bool_] | None:
    """(h, w): both thighs of one person (from 0); None where one of their joints is hidden or absent, or they are less
    than `colors.LEAST_PX` px."""
    people = people.to_skeleton(COCO17)
    rows = [joint for pair in THIGHS for joint in pair]
    if (people.visibility[place, rows] < 2).any():
        return None
    whole: NDArray[np.bool_] | None = None
    for hip, knee in (people.xy[place, list(pair)] for pair in THIGHS):
        along = knee - hip
        aside = THICK / 2 * np.array([-along[1], along[0]])
        part = fill_torso(np.stack([hip + aside, knee + aside, knee - aside, hip - aside]), people.canvas)
        if part is not None:
            whole = part if whole is None else whole | part
    return whole


def mean_lab(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The mean color inside (h, w) of an image, CIELAB (3,)."""
    mean = (image[inside].mean(axis=0) / 255).astype(np.float32)
    return np.asarray(cv2.cvtColor(mean[None, None], cv2.COLOR_RGB2LAB)[0, 0])


def statistic_of(records: Sequence[PairRecord], metric: str) -> Statistic:
    """A metric of `METRICS` as a function of how often each pair is drawn, in the unit of the table."""
    scale = SCALES.get(metric, 1.0)
    if metric == "ap":
        average = KeypointState.of([(one.wanted, one.found) for one in records]).statistic()
        return lambda draws: scale * average(draws)
    return mean_of([scale * getattr(one, metric) for one in records])


def pair_table(records: Sequence[PairRecord], draws: int = 1000) -> dict[str, dict[str, float]]:
    """Each metric with the ends of its 95 % interval over the pairs."""
    found = {}
    for metric in METRICS:
        interval = bootstrap_interval(statistic_of(records, metric), len(records), n_draws=draws)
        found[metric] = asdict(interval)
    return found


def compare_pairs(
    first: Sequence[PairRecord], second: Sequence[PairRecord], draws: int = 1000
) -> dict[str, Comparison]:
    """The first's metrics less the second's, of the same pairs in the same order."""
    return {
        metric: paired_comparison(statistic_of(first, metric), statistic_of(second, metric), len(first), n_draws=draws)
        for metric in METRICS
    }
