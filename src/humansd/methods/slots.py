"""In which order people are told of, where a method tells them apart."""

from __future__ import annotations

import numpy as np

from humansd.pose.people import People
from humansd.pose.skeleton import COCO17


def by_size(people: People) -> People:
    """The same people as COCO's 17 joints, those with the largest box of joints first; who has none is left out."""
    people = people.to_skeleton(COCO17)
    people = people.select([i for i in range(people.n) if people.labelled[i].any()])
    sizes = [np.ptp(xy[seen], axis=0).max() for xy, seen in zip(people.xy, people.labelled, strict=True)]
    return people.select(np.argsort(-np.array(sizes), kind="stable"))
