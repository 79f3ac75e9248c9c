"""How well drawings of skeletons are read back: real poses drawn in many ways, read, and held against what was drawn.

One to four people, 10 to 90 % of the canvas tall, over each other as it comes; canvases of 256 to 1024 px, limbs of 2
to 8 px, OpenPose's drawing (limbs over discs, or discs over darkened lines as editors do) and HumanSD's, on black and
white, as PNG, as JPEG and with 32 colors.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment

from humansd.core.arrays import ImageArray
from humansd.data.real_poses import load_real_poses
from humansd.pose.drawn import read_drawing
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from humansd.pose.render import DrawStyle, draw_people
from humansd.pose.skeleton import COCO17, OPENPOSE18

KINDS = ("humansd", "openpose", "lines")
FORMS = ("png", "jpeg", "palette")
_LEAST_JOINTS = 10  # of a pose that is drawn
_RIGHT, _WRONG = 3.0, 6.0  # px at a short side of 512, and no less in smaller images


@dataclass(frozen=True, eq=False)
class Drawing:
    """An image, who was drawn in it, and how: kind, form, ground, number of people and the width of limbs, px."""

    image: ImageArray
    people: People
    how: dict[str, Any]


@dataclass
class Score:
    """Counts over drawings: how many there were and were read at all; joints that were drawn, that were left out, read
    right (to 3 px) and wrong (off by more than 6 px, or of nobody); people drawn, and read that nobody is."""

    drawings: int = 0
    read: int = 0
    joints: int = 0
    left_out: int = 0
    right: int = 0
    wrong: int = 0
    people: int = 0
    ghosts: int = 0

    def add(self, other: Score) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def sample_poses(path: Path) -> list[People]:
    """Each person of a pose file, or of an archive of `data.real_poses`, of whom most joints are known, alone."""
    everyone = load_real_poses(path).images if path.suffix == ".npz" else tuple(read_poses(path).values())
    poses = [one.to_skeleton(COCO17) for one in everyone]
    return [p.select([i]) for p in poses for i in range(p.n) if p.labelled[i].sum() >= _LEAST_JOINTS]


def sample_drawing(poses: Sequence[People], rng: np.random.Generator) -> Drawing:
    """A drawing of people drawn from `poses`."""
    side = int(rng.choice((256, 384, 512, 768, 1024)))
    canvas = (side, int(side * rng.choice((1.0, 1.0, 1.5))))
    number, kind = int(rng.choice((1, 1, 2, 3, 4))), str(rng.choice(KINDS))
    xy, seen = [], []
    for one in rng.choice(len(poses), number, replace=False):
        place = _placed(poses[one], canvas, rng)
        xy.append(place)
        seen.append(poses[one].visibility[0])
    people = People.of(np.stack(xy), canvas, visibility=np.stack(seen)).to_skeleton(
        COCO17 if kind == "humansd" else OPENPOSE18
    )
    width = float(rng.uniform(2, 8))
    image = _draw(people, kind, width)
    ground, form = str(rng.choice(("black", "black", "white"))), str(rng.choice(FORMS, p=(0.6, 0.2, 0.2)))
    if ground == "white":
        image = np.where(image.max(axis=2, keepdims=True) > 60, image, 255).astype(np.uint8)
    how = {"kind": kind, "form": form, "ground": ground, "people": number, "width": width, "side": side}
    return Drawing(_stored(image, form), people, how)


def _placed(one: People, canvas: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Joints (17, 2) moved into the canvas, 10 to 90 % of it tall, or as wide."""
    seen = one.labelled[0]
    low, high = one.xy[0][seen].min(axis=0), one.xy[0][seen].max(axis=0)
    scale = min(
        rng.uniform(0.1, 0.9) * canvas[1] / max(high[1] - low[1], 1), 0.95 * canvas[0] / max(high[0] - low[0], 1)
    )
    room = np.array(canvas) - (high - low) * scale
    return np.asarray((one.xy[0] - low) * scale + rng.uniform(0.02, 0.98, 2) * room)


def _draw(people: People, kind: str, width: float) -> ImageArray:
    scale = min(people.canvas) / 512
    if kind == "humansd":
        return draw_people(people, DrawStyle("humansd", width / scale, width / 2 / scale))
    if kind == "openpose":
        return draw_people(people, DrawStyle("openpose", width / 2 / scale, width / 2 / scale, blend=0.6))
    image = np.zeros((people.canvas[1], people.canvas[0], 3), np.uint8)
    for xy, seen in zip(np.rint(people.xy).astype(int), people.labelled, strict=True):
        for (a, b), color in zip(OPENPOSE18.limbs, OPENPOSE18.limb_colors, strict=True):
            if seen[a] and seen[b]:
                dark = tuple(int(0.6 * c) for c in color)
                cv2.line(image, xy[a].tolist(), xy[b].tolist(), dark, max(1, round(width)))
        for joint, color in enumerate(OPENPOSE18.joint_colors):
            if seen[joint]:
                cv2.circle(image, xy[joint].tolist(), max(1, round(width / 2)), color, -1)
    return image


def _stored(image: ImageArray, form: str) -> ImageArray:
    """The image as it comes back from a file of that form."""
    if form == "png":
        return image
    stream, pixels = io.BytesIO(), Image.fromarray(image)
    if form == "jpeg":
        pixels.save(stream, "JPEG", quality=85)
    else:
        pixels.quantize(32).save(stream, "PNG")
    return np.asarray(Image.open(stream).convert("RGB"))


def score_drawing(drawing: Drawing) -> Score:
    """What reading it gives. A joint counts as drawn where a limb leads to it."""
    true, read = drawing.people, read_drawing(drawing.image)
    drawn = np.zeros(true.labelled.shape, bool)
    for a, b in true.skeleton.limbs:
        both = true.labelled[:, a] & true.labelled[:, b]
        drawn[:, a] |= both
        drawn[:, b] |= both
    score = Score(drawings=1, joints=int(drawn.sum()), left_out=int(drawn.sum()), people=true.n)
    if read is None:
        return score
    score.read = 1
    read = read.to_skeleton(true.skeleton)
    unit = max(1.0, min(true.canvas) / 512)
    away = np.linalg.norm(true.xy[:, None] - read.xy[None], axis=3)
    away[~(drawn[:, None] & read.labelled[None])] = np.inf
    rows, columns = linear_sum_assignment(-(away <= _RIGHT * unit).sum(axis=2))
    score.right = int(sum((away[i, j] <= _RIGHT * unit).sum() for i, j in zip(rows, columns, strict=True)))
    score.wrong = int(
        sum((read.labelled[j] & (away[i, j] > _WRONG * unit)).sum() for i, j in zip(rows, columns, strict=True))
    )
    score.left_out -= int(sum(np.isfinite(away[i, j]).sum() for i, j in zip(rows, columns, strict=True)))
    others = set(range(read.n)) - set(columns)
    score.wrong += int(sum(read.labelled[j].sum() for j in others))
    score.ghosts = max(0, read.n - true.n)
    return score


def benchmark_drawings(path: Path, *, count: int = 200, seed: int = 0) -> str:
    """A table of what is read of `count` drawings of the poses of a file.

    Raises:
        ValueError: fewer than four people of whom most joints are known; PoseError: a file that cannot be read.
    """
    poses = sample_poses(path)
    if len(poses) < 4:
        raise PoseError(
            f"shows {len(poses)} people with {_LEAST_JOINTS} joints", file=path, remedy="Name a larger set."
        )
    scores: dict[str, Score] = {}
    for number in range(count):
        drawing = sample_drawing(poses, np.random.default_rng((seed, number)))
        score = score_drawing(drawing)
        for row in ("all", *_rows_of(drawing)):
            scores.setdefault(row, Score()).add(score)
    head = (
        "| drawings | number | read | joints within 3 px | left out | of those read wrong | people too many |\n"
        "|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(_row(name, scores[name]) for name in sorted(scores, key=lambda n: (n != "all", n)))])


def _rows_of(drawing: Drawing) -> Iterator[str]:
    how = drawing.how
    yield from (f"kind: {how['kind']}", f"form: {how['form']}", f"ground: {how['ground']}", f"people: {how['people']}")
    if how["people"] > 1:
        yield "people: several"
    yield f"side: {how['side']} px"
    yield f"limbs: {'2 to 4' if how['width'] < 4 else '4 to 8'} px"
    tall = float(
        min(np.ptp(xy[seen], axis=0).max() for xy, seen in zip(drawing.people.xy, drawing.people.labelled, strict=True))
    )
    yield f"smallest person: {'under' if tall < 100 else 'over'} 100 px"


def _row(name: str, score: Score) -> str:
    found = max(1, score.right + score.wrong)
    return (
        f"| {name} | {score.drawings} | {score.read / score.drawings:.0%} | {score.right / max(1, score.joints):.1%} "
        f"| {score.left_out / max(1, score.joints):.1%} | {score.wrong / found:.1%} | {score.ghosts} |"
    )
