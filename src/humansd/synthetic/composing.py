"""Sets people and a camera so that everyone gets, as nearly as one floor and one camera allow, a wanted framing.

The camera looks straight ahead (its principal point is shifted instead of tilting it), so a person s frames a metre
large has the feet at horizon + camera height * s: sizes and places within an image are those of one floor.
Lengths are metres, places in the image shares of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from humansd.synthetic import props
from humansd.synthetic.buffers import Camera
from humansd.synthetic.framing import Target
from humansd.synthetic.plan import INDOOR
from humansd.synthetic.stage import Figure, join_pieces, touch

CUT_BELOW = 0.70  # who is seen in part and reaches lower than this is cut by the frame, others by a thing in front
MOST_THINGS = 3
THING_SHARE = 0.8  # of the smaller people who could stand behind something
NEAR = (0.0, 0.11, 0.08, 0.05)  # least height of who may be seen in part, by view, share of the frame
MOST_HIDDEN = 0.55  # share of the joints in the frame that nearer people may hide
SCALES = (0.032, 2.4)  # frames a metre
LYING = 1.15  # wider than so many times its height, a figure is on the floor
CROWN = 0.13  # metres from the eyes to the top of the hair
ROOM_ABOVE = 0.02  # of the frame
HEIGHT_TRIES = 8
DEEPEST = {True: 15.0, False: 60.0}  # of the place, metres: indoors, outdoors


@dataclass(frozen=True, eq=False)
class Placed:
    """A figure in its place. scale: frames a metre; cut: height above the floor below which a thing in front hides
    it, or None."""

    number: int
    figure: Figure
    scale: float
    cut: float | None


@dataclass(frozen=True, eq=False)
class Stage:
    """Who stands where, left to right, and what stands in front. numbers: the row in the plan of each figure;
    behind: the name of the thing that each figure stands behind, or ""."""

    numbers: tuple[int, ...]
    figures: list[Figure]
    things: list[Figure]
    behind: tuple[str, ...]
    camera: Camera

    def only(self, keep: np.ndarray) -> Stage:
        """Without the people for whom `keep` (n,) is false."""
        rows = [i for i in range(len(self.figures)) if keep[i]]
        return replace(
            self, numbers=tuple(self.numbers[i] for i in rows), figures=[self.figures[i] for i in rows],
            behind=tuple(self.behind[i] for i in rows),
        )  # fmt: skip


@dataclass(frozen=True)
class _View:
    """The camera in shares of the frame: height above the floor, row of the horizon, focal length."""

    height: float
    horizon: float
    focal: float


def cut_level(figure: Figure, view: int, rng: np.random.Generator) -> float:
    """Height above the floor (metres) below which a figure in that view (index into VIEWS) is not seen."""
    y = figure.joints[:, 1]
    hips, knees, ankles, shoulders = (float(y[i : i + 2].mean()) for i in (11, 13, 15, 5))
    part = float(rng.uniform(0.25, 0.8))
    if view == 0:
        return -1.0
    low, high = ((ankles, knees), (knees, hips), (hips, shoulders))[view - 1]
    return low + part * (high - low)


def _extent(figure: Figure, cut: float) -> tuple[float, float, float]:
    """Of the joints above `cut`: the height of their box, its lower edge above the floor, its middle across."""
    seen = figure.joints[figure.joints[:, 1] > cut]
    low, high = seen.min(0), seen.max(0)
    tall = max(float(high[1] - low[1]), 0.5 * float(high[0] - low[0]), 0.18)
    return tall, float(low[1]), 0.5 * float(low[0] + high[0])


def compose(figures: list[Figure], targets: list[Target], place: str, size: int, rng: np.random.Generator) -> Stage:
    """The stage for figures whose targets begin with the largest person's; `size`: px of the layers.

    People for whom no free place is found are left out; the first never is.
    """
    targets = _hideable(targets, rng)
    cuts = [cut_level(f, t.view, rng) for f, t in zip(figures, targets, strict=True)]
    extents = [_extent(f, c) for f, c in zip(figures, cuts, strict=True)]
    scales = [
        float(np.clip(min(t.height / e[0], _largest(f, c)), *SCALES))
        for f, t, e, c in zip(figures, targets, extents, cuts, strict=True)
    ]
    scales, targets = _lying_inside(figures, targets, scales)
    feet = [_foot_row(*each) for each in zip(figures, targets, scales, extents, cuts, strict=True)]
    view = _camera(scales, feet, place in INDOOR, rng)
    placed: list[Placed] = []
    shown: list[_Shown] = []
    for i, (figure, target) in enumerate(zip(figures, targets, strict=True)):
        scale, by_frame = _settled(view, scales[i], extents[i], cuts[i], first=i == 0)
        cut = None if target.view == 0 or by_frame else cuts[i]
        spot = _free_place(figure, target.x, extents[i][2], scale, view, placed, shown)
        if spot is not None:
            placed.append(Placed(i, spot[0], spot[1], cut))
    things, behind = _things(placed, view, place, rng)
    order = sorted(range(len(placed)), key=lambda k: _across(placed[k].figure, view))
    camera = Camera(view.height, 0.0, view.focal * size, (size - 1) / 2, view.horizon * size - 0.5)
    return Stage(
        tuple(placed[k].number for k in order), [placed[k].figure for k in order], things,
        tuple(behind[k] for k in order), camera,
    )  # fmt: skip


def _hideable(targets: list[Target], rng: np.random.Generator) -> list[Target]:
    """The targets, whole figures where neither the frame nor one of few things will hide what is below.

    Who is small is not cut: a head at the frame's edge, or a thing far away, would be all that there is.
    """
    out, things = [], 0
    for i, target in enumerate(targets):
        bottom, near = target.y + target.height / 2, target.height > NEAR[target.view]
        hides = near and things < MOST_THINGS and (i == 0 or rng.random() < THING_SHARE)
        if target.view and bottom <= CUT_BELOW and hides:
            things += 1
        elif target.view and (bottom <= CUT_BELOW or not near):
            target = replace(target, view=0)
        out.append(target)
    return out


def _lying_inside(
    figures: list[Figure], targets: list[Target], scales: list[float]
) -> tuple[list[float], list[Target]]:
    """Who lies or is bent over the floor is shown whole: the sizes and targets with that."""
    sizes, wanted = [], []
    for figure, target, scale in zip(figures, targets, scales, strict=True):
        wide, tall = (float(np.ptp(figure.joints[:, k])) + 0.3 for k in (0, 1))
        if wide > LYING * tall:
            scale = min(scale, 0.95 / wide)
            half = 0.5 * scale * wide
            target = replace(target, x=float(np.clip(target.x, half, 1 - half)))
        sizes.append(scale)
        wanted.append(target)
    return sizes, wanted


def _largest(figure: Figure, cut: float) -> float:
    """The size (frames a metre) at which a figure fills the frame from the cut to the top of the hair."""
    return (1.0 - ROOM_ABOVE) / (float(figure.joints[:5, 1].max()) + CROWN - max(cut, 0.0))


def _foot_row(figure: Figure, target: Target, scale: float, extent: tuple[float, float, float], cut: float) -> float:
    """The row of the floor under a person who has the target's place, lower where the head would be cut off."""
    bottom = target.y + target.height / 2
    row = 1.0 + scale * cut if target.view and bottom > CUT_BELOW else bottom + scale * extent[1]
    head = float(figure.joints[:5, 1].max()) + CROWN
    return max(row, ROOM_ABOVE + scale * head)


def _camera(scales: list[float], feet: list[float], indoors: bool, rng: np.random.Generator) -> _View:
    """Exact for the first person; of several heights, the one that suits the others' feet best."""
    best, least = 1.5, np.inf
    for _ in range(HEIGHT_TRIES if len(scales) > 1 else 1):
        height = float(np.clip(rng.lognormal(np.log(1.5), 0.28), 0.7, 3.2))
        horizon = feet[0] - height * scales[0]
        wrong = sum(abs(horizon + height * s - f) for s, f in zip(scales, feet, strict=True))
        wrong += 4 * max(0.0, -0.2 - horizon, horizon - 0.9)
        if wrong < least:
            best, least = height, wrong
    away = float(rng.uniform(2.4, 5.5)) if scales[0] > 0.3 else float(rng.uniform(4.0, 9.0))
    ratio = scales[0] / min(scales)
    away = max(min(away, DEEPEST[indoors] / ratio), 1.7)
    focal = max(away * scales[0], 0.95)
    return _View(best, feet[0] - best * scales[0], focal)


def _settled(
    view: _View, scale: float, extent: tuple[float, float, float], cut: float, first: bool
) -> tuple[float, bool]:
    """The size (frames a metre) of a person on that floor, and whether the frame cuts the person at `cut`."""
    bottom = view.horizon + scale * (view.height - extent[1])
    if cut < 0 or bottom < CUT_BELOW:
        return scale, bottom > 1.0
    if first or view.height - cut < 0.1:
        return scale, True
    exact = (1.0 - view.horizon) / (view.height - cut)
    return (exact, True) if 0.6 * scale < exact < 1.7 * scale else (scale, True)


def _across(figure: Figure, view: _View) -> float:
    x = 0.5 + view.focal * figure.joints[:, 0] / -figure.joints[:, 2]
    return float(np.clip(x, 0, 1).mean())


# Steps aside (metres) and back (factor of the distance), in the order in which they are tried.
STEPS = tuple(
    sorted(
        (
            (x, z)
            for x in (0, 0.25, -0.25, 0.5, -0.5, 0.8, -0.8, 1.2, -1.2, 2, -2, 3, -3)
            for z in (1, 1.12, 1.3, 1.6, 2)
        ),
        key=lambda step: abs(step[0]) + 3 * (step[1] - 1),
    )
)


@dataclass(frozen=True, eq=False)
class _Shown:
    """A figure in the frame: spots (17,2) of its joints, which lie inside and which are behind somebody's trunk, its
    distance in metres, and the rectangle (left, right, top, bottom) of its trunk and head."""

    spots: np.ndarray
    inside: np.ndarray
    hidden: np.ndarray
    away: float
    trunk: tuple[float, float, float, float]

    @classmethod
    def of(cls, joints: np.ndarray, view: _View) -> _Shown:
        size = view.focal / np.maximum(-joints[:, 2], 0.1)
        x = 0.5 + joints[:, 0] * size
        y = view.horizon + (view.height - joints[:, 1]) * size
        away = -float(joints[11, 2] + joints[12, 2]) / 2
        wide = 0.09 * view.focal / away
        across = x[TRUNK]
        trunk = (float(across.min()) - wide, float(across.max()) + wide, float(y.min()) - wide, float(y.max()))
        inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
        return cls(np.stack([x, y]), inside, np.zeros(17, bool), away, trunk)

    def behind(self, other: _Shown) -> _Shown:
        """The same with what a nearer figure hides."""
        if other.away >= self.away:
            return self
        (x, y), (left, right, top, bottom) = self.spots, other.trunk
        covered = (x > left) & (x < right) & (y > top) & (y < bottom)
        return replace(self, hidden=self.hidden | covered)

    def is_seen(self) -> bool:
        """Whether enough joints lie in the frame and not behind nearer people; a head above the frame is not enough."""
        if self.spots[1, :5].max() < 0:
            return False
        inside = int(self.inside.sum())
        return inside >= 2 and int((self.inside & self.hidden).sum()) <= MOST_HIDDEN * inside


TRUNK = np.array([5, 6, 11, 12])


def _free_place(figure: Figure, x: float, middle: float, scale: float, view: _View, placed: list[Placed],
                shown: list[_Shown]) -> tuple[Figure, float] | None:  # fmt: skip
    """The figure near x where it touches nobody, and neither hides nor is hidden too much; with its size.

    `shown`, that of `placed`, is brought up to date. The first figure goes where it is wanted.
    """
    for aside, back in STEPS:
        away = view.focal / scale * back
        step = np.array([(x - 0.5) * away / view.focal - middle + aside, 0, -away], np.float32)
        me = _Shown.of(figure.joints + step, view)
        if placed:
            if not 0.02 < float(np.clip(me.spots[0], 0, 1).mean()) < 0.98 or _crosses(figure, step, placed):
                continue
            for other in shown:
                me = me.behind(other)
            others = [other.behind(me) for other in shown]
            if not me.is_seen() or not all(o.is_seen() for o in others):
                continue
            shown[:] = others
        shown.append(me)
        return figure.moved(float(step[0]), float(step[2])), scale / back
    return None


def _crosses(figure: Figure, step: np.ndarray, placed: list[Placed]) -> bool:
    """Whether the figure's floor box, moved by `step`, crosses anybody's."""
    low, high = figure.low + step, figure.high + step
    return any(
        low[0] < p.figure.high[0] and p.figure.low[0] < high[0] and low[2] < p.figure.high[2]
        and p.figure.low[2] < high[2]
        for p in placed
    )  # fmt: skip


def _things(placed: list[Placed], view: _View, place: str, rng: np.random.Generator) -> tuple[list[Figure], list[str]]:
    """Things in front of those whose lower part is to be hidden, at most `MOST_THINGS`, and each figure's thing."""
    things: list[Figure] = []
    behind = [""] * len(placed)
    for k, one in enumerate(placed):
        if one.cut is None or len(things) == MOST_THINGS:
            continue
        others = [p.figure for p in placed if p is not one]
        name = props.choose(place, rng)
        wide = props.PROPS[name].wide and rng.random() < (0.7 if k == 0 else 0.3)
        reach = [3.0 * view.focal / one.scale] if wide else []
        for half in (*reach, float(rng.uniform(0.8, 1.6)), 0.6):
            thing = _thing(name, one, view, half, rng)
            if thing is not None and not touch(thing, [*others, *things]):
                things.append(thing)
                behind[k] = name
                break
    return things, behind


def _thing(name: str, one: Placed, view: _View, half: float, rng: np.random.Generator) -> Figure | None:
    """A thing `half` metres to either side, just in front of a person, whose top hides what is below the cut."""
    assert one.cut is not None
    figure = one.figure
    away = -float(figure.joints[11:13, 2].mean())
    low_part = figure.points[figure.points[:, 1] < one.cut + 0.2]
    front = -float(low_part[:, 2].max()) - 0.06
    top = view.height + (one.cut - view.height) * front / away
    if top < 0.15 or front < 0.8:
        return None
    middle = float(figure.joints[11:13, 0].mean())
    deep = float(rng.uniform(0.15, 0.4))
    pieces = props.build(
        name, np.array([middle - half, 0, -front], np.float32), np.array([middle + half, top, deep - front], np.float32)
    )
    mesh = join_pieces(pieces)
    points = np.concatenate([p.points for p in pieces])
    low, high = points.min(0), points.max(0)
    return Figure(mesh, points, np.zeros((17, 3), np.float32), low, high)
