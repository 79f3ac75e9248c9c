"""CenterNet's codec: people to centres and offsets, which it learns, and its maps to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from humansd.core.arrays import Float32s
from humansd.models.peaks import local_maxima, subpixel
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

N_JOINTS = len(COCO17)
FARTHEST_SNAP = 2.0  # spreads
LEAST_SCORE = 1e-3  # of a joint that nothing but its offset speaks for
CENTRE_STRIDE, JOINT_STRIDE = 4, 2  # pixels of the image per pixel of the maps


class CentreMaps(NamedTuple):
    """Logits of centres (n, 1, h/4, w/4) and joints (n, 17, h/2, w/2); offsets (n, 34, h/4, w/4) from a position of the
    centre map to the joints, x and y in turn, in units of a quarter of the image's side."""

    centre: Tensor
    offset: Tensor
    joints: Tensor


@dataclass(frozen=True)
class CentreRules:
    """How maps become people. Scores are probabilities.

    max_people: of an image. centre_score: a centre below this is none. joint_score: a peak below this is none. snap:
    the spread of the bell by which a joint's peaks are weighed around where its offset points, as a share of the
    person's size.
    """

    max_people: int = 30
    centre_score: float = 0.3
    joint_score: float = 0.2
    snap: float = 0.2


RULES = CentreRules()


def centre_targets(people: People, stride: int, sigma_px: float) -> tuple[Float32s, Float32s, NDArray[np.bool_]]:
    """Centres (1, h, w), offsets (34, h, w) in quarters of the width, and where the offsets count (34, h, w).

    A person's centre is the middle of the box of its labelled joints; offsets are asked for at the 3 x 3 positions
    about it.
    """
    width, height = (side // stride for side in people.canvas)
    heat = np.zeros((1, height, width), np.float32)
    offset = np.zeros((34, height, width), np.float32)
    asked = np.zeros((34, height, width), bool)
    unit = people.canvas[0] / 4
    people = people.with_joints()
    boxes = people.boxes()
    middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 + 0.5) / stride - 0.5
    cells = np.clip(np.rint(middles), 0, (width - 1, height - 1)).astype(int)
    y, x = np.mgrid[:height, :width]
    for column, row in cells:
        heat[0] = np.maximum(heat[0], np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma_px**2)))
    for reach in (1, 0):  # the centres themselves last, so that no neighbour takes them
        for xy, seen, (column, row) in zip(people.xy, people.labelled, cells, strict=True):
            rows = slice(max(0, row - reach), row + reach + 1)
            columns = slice(max(0, column - reach), column + reach + 1)
            here = (np.stack([x, y])[:, rows, columns] + 0.5) * stride - 0.5  # in pixels of the image
            away = (xy[:, :, None, None] - here[None]) / unit  # (17, 2, r, c)
            offset[:, rows, columns] = away.reshape(34, *away.shape[2:])
            asked[:, rows, columns] = np.repeat(seen, 2)[:, None, None]
    return heat, offset, asked


def mirrored(maps: CentreMaps) -> CentreMaps:
    """The maps of an image from those of its mirror image."""
    order = list(COCO17.flip_order)
    offset = maps.offset.unflatten(1, (N_JOINTS, 2))[:, order].flip(4)
    offset = torch.cat([-offset[:, :, :1], offset[:, :, 1:]], dim=2).flatten(1, 2)
    return CentreMaps(maps.centre.flip(3), offset, maps.joints[:, order].flip(3))


def decode(maps: CentreMaps, rules: CentreRules) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Per image: joints (p, 17, 2) in pixels of the joint maps, joint scores (p, 17), 0 outside the image, and
    person scores (p,), surest first."""
    n, _, h, w = maps.centre.shape
    centre, joints = maps.centre.float().sigmoid(), maps.joints.float().sigmoid()
    alone = torch.where(F.max_pool2d(centre, 3, 1, 1) == centre, centre, centre.new_zeros(()))
    score, index = alone.flatten(1).topk(min(rules.max_people, h * w), dim=1)
    offset = maps.offset.float().flatten(2).gather(2, index[:, None].expand(-1, 2 * N_JOINTS, -1))
    offset = offset.permute(0, 2, 1).reshape(n, -1, N_JOINTS, 2) * (w * CENTRE_STRIDE / 4)
    place = torch.stack([index % w, index // w], dim=-1)[:, :, None].float()
    pointed = ((place + 0.5) * CENTRE_STRIDE + offset) / JOINT_STRIDE - 0.5
    heat = joints.cpu().numpy()
    out = []
    for i in range(n):
        sure = (score[i] >= rules.centre_score).cpu().numpy()
        guess, person = pointed[i].cpu().numpy()[sure], score[i].cpu().numpy()[sure]
        xy, joint = _snapped(guess, heat[i], rules)
        person = person * np.where(joint > 0, 0.5 + 0.5 * joint, 0.5).mean(axis=1)
        order = np.argsort(-person, kind="stable")
        out.append((xy[order], joint[order], person[order]))
    return out


def _snapped(guess: NDArray, heat: NDArray, rules: CentreRules) -> tuple[NDArray, NDArray]:
    """Joints at the peak that is high and near to where the offset points; else there, with the little heat it has."""
    count, k = guess.shape[:2]
    h, w = heat.shape[1:]
    nearest = np.clip(np.rint(guess), 0, (w - 1, h - 1)).astype(int)
    xy = guess.copy()
    score = np.maximum(heat[np.arange(k), nearest[..., 1], nearest[..., 0]], LEAST_SCORE)
    joint, y, x = local_maxima(heat, 1, rules.joint_score)
    if count and len(joint):
        size = np.maximum(np.ptp(guess, axis=1).max(axis=1), 4.0)
        peak, height = np.stack([x, y], axis=1), heat[joint, y, x]
        away = guess[:, joint] - peak
        gap = np.sqrt((away * away).sum(axis=2)) / size[:, None]  # (count, peaks)
        value = height * np.exp(-((gap / rules.snap) ** 2) / 2)
        ends = np.searchsorted(joint, np.arange(k + 1))
        best, near = np.zeros((count, k), int), np.zeros((count, k), bool)
        for j in np.unique(joint):
            best[:, j] = ends[j] + value[:, ends[j] : ends[j + 1]].argmax(axis=1)
            near[:, j] = gap[np.arange(count), best[:, j]] <= FARTHEST_SNAP * rules.snap
        fine = subpixel(heat, peak[best], near.astype(np.float32))
        xy, score = np.where(near[..., None], fine, xy), np.where(near, height[best], score)
    inside = ((xy >= -0.5) & (xy <= (w - 0.5, h - 0.5))).all(axis=2)
    return xy.astype(np.float32), np.where(inside, score, 0).astype(np.float32)
