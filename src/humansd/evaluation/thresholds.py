"""From which score people found are counted, where there are no real images that would say it."""

from __future__ import annotations

from humansd.evaluation.sides import best_threshold
from humansd.models.estimators import PoseEstimator
from humansd.synthetic.render import make_sample

SEED, IMAGES = 990_004, 48  # of Atelier; training uses seed 1


def calibrated_threshold(estimator: PoseEstimator, side: int) -> float:
    """The score (0..1) at and above which people found in Atelier's renders, `side` px, are counted best."""
    side = min(max(side, 64), 1024)
    samples = [make_sample(SEED, i, side) for i in range(IMAGES)]
    found = estimator.detect([sample.image for sample in samples])
    return best_threshold([(sample.people, one) for sample, one in zip(samples, found, strict=True)])
