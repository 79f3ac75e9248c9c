"""What was wanted and what was found, image by image: in the generated images and, where there are any, the real ones.

The real ones are the estimator's ceiling: nothing generated can be seen better than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from humansd.core.arrays import Float64s
from humansd.evaluation.colors import TopColor
from humansd.evaluation.records import Record, Run
from humansd.metrics.counting import count_errors
from humansd.metrics.keypoint_ap import with_ignored
from humansd.pose.people import People

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))

Pairs = list[tuple[People, People]]


@dataclass(frozen=True)
class Side:
    """One side of the comparison, generated or real.

    pairs: (wanted, found) of each image. texts: how well each fits its caption, (n_images,).
    """

    pairs: Pairs
    texts: Float64s

    def of(self, rows: Sequence[int]) -> Side:
        """Of these images alone."""
        return Side([self.pairs[row] for row in rows], self.texts[list(rows)])


def sides(records: Sequence[Record], min_joints: int = 1) -> tuple[Side, Side | None]:
    """What was found in the generated images, and in the real ones; None where there are none.

    People with fewer labelled joints than `min_joints` are ignored by AP (`keypoint_ap.with_ignored`).
    """
    generated: Pairs = []
    real: Pairs = []
    for record in records:
        wanted = with_ignored(record.wanted, min_joints)
        generated.append((wanted, record.found))
        if record.ceiling is not None:
            real.append((wanted, record.ceiling))
    ours = Side(generated, np.array([record.text_score for record in records], float))
    if len(real) < len(records):
        return ours, None
    return ours, Side(real, np.array([record.ceiling_text_score for record in records], float))


def sides_of(run: Run) -> tuple[Side, Side | None]:
    """`sides` of a run, people ignored as it was told to."""
    return sides(run.records, run.settings.get("min_joints", 1))


def threshold_of(run: Run) -> float:
    """The score from which people of a run are counted: what counts those of the real images best, or, without
    them, what the run has recorded."""
    real = sides_of(run)[1]
    return float(run.settings.get("count_threshold", 0.5)) if real is None else best_threshold(real.pairs)


def best_threshold(pairs: Pairs) -> float:
    """The score at and above which found people have to be counted to come nearest to the wanted numbers."""

    def error(threshold: float) -> float:
        return float(np.abs(count_errors(pairs, threshold)).mean())

    return min(THRESHOLDS, key=error)


def of_place(colors: Sequence[TopColor], place: int) -> list[TopColor]:
    """Those of the person at `place`; of everyone for 0."""
    return [one for one in colors if place in (0, one.place)]
