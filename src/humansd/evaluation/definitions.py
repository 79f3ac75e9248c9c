"""The correct metrics beside the published ones, on the same people: how far numbers of old tables can be off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from humansd.evaluation.scores import paper_scores
from humansd.evaluation.sides import Pairs, Side
from humansd.evaluation.tables import markdown_table, shown
from humansd.metrics.counting import count_scores
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.metrics.similarity_ap import shuffled_scores, similarity_scores
from humansd.pose.people import People
from humansd.synthetic.render import make_sample

SEED = 990_004
SIZE_PX = 128
THRESHOLD = 0.5  # ghosts score less
ABSENT = 0.15  # of the joints


def compare_definitions(images: int = 400) -> str:
    """A table of both definitions for four made-up detectors on Atelier's people.

    Perfect; joints off by 3 % of the image; the same on people of whom 15 % of the joints are absent, as they are in
    every data set; and with a ghost of low score in every second image, as a detector without a filter has them.

    Raises:
        ValueError: fewer than 2 images.
    """
    if images < 2:
        raise ValueError(f"images is {images}; it must be 2 or more")
    everyone = [make_sample(SEED, index, SIZE_PX).people for index in range(images)]
    rng = np.random.default_rng(0)
    blurred = [_moved(rng, people) for people in everyone]
    ghosts = blurred.copy()
    for index in range(1, images, 2):
        ghosts[index] = _with_ghost(rng, blurred[index])
    lacking = [without_joints(rng, people, ABSENT) for people in everyone]
    cases = {
        "perfect": (everyone, everyone),
        "joints off by 3 %": (everyone, blurred),
        "and 15 % of the joints absent": (lacking, blurred),
        "and ghosts": (everyone, ghosts),
    }
    rows = []
    for name, (wanted, found) in cases.items():
        for row in _rows(list(zip(wanted, found, strict=True))):
            rows.append([name, *row])
    return markdown_table(["detections", "metric", "correct", "published definition"], rows)


def without_joints(rng: np.random.Generator, people: People, share: float) -> People:
    """`people` with each joint absent by the chance `share`, in 0..1."""
    absent = rng.random(people.visibility.shape) < share
    score = np.where(absent, 0.0, people.score)
    return replace(people, score=score, visibility=np.where(absent, 0, people.visibility))


def _rows(pairs: Pairs) -> list[list[str]]:
    paper = paper_scores(Side(pairs, np.full(len(pairs), np.nan)))
    return [
        ["AP", shown(keypoint_scores(pairs).ap, 100, 1), shown(paper["ap"], 100, 1)],
        ["CAP", shown(similarity_scores(pairs).cap, 100, 1), shown(paper["cap"], 100, 1)],
        ["CAP of shuffled poses", shown(shuffled_scores(pairs).cap, 100, 1), shown(paper["cap_shuffled"], 100, 1)],
        ["PCE", shown(count_scores(pairs, THRESHOLD).pce), shown(paper["pce"])],
    ]


def _moved(rng: np.random.Generator, people: People) -> People:
    xy = people.xy + rng.normal(0, 0.03 * SIZE_PX, people.xy.shape)
    extras = [{"score": float(score)} for score in rng.uniform(0.6, 1, people.n)]
    return People.of(xy, people.canvas, visibility=people.visibility, extras=extras) if people.n else people


def _with_ghost(rng: np.random.Generator, people: People) -> People:
    """One person more, a moved double of the first, with a low score."""
    if not people.n:
        return people
    double = people.xy[:1] + rng.normal(0, 0.1 * SIZE_PX, (1, *people.xy.shape[1:]))
    visibility = np.concatenate([people.visibility, people.visibility[:1]])
    extras = [*people.extras, {"score": float(rng.uniform(0.1, 0.3))}]
    return People.of(np.concatenate([people.xy, double]), people.canvas, visibility=visibility, extras=extras)
