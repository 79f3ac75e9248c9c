"""Real poses without images: an archive of annotated people of COCO, for statistics and as conditions.

The archive (`poses.npz`) holds `keypoints` int16 (people, 17, 3): x and y in px and COCO's visibility; `image` int32
(people,): the row of `canvas` int16 (images, 2), width and height in px; `coco_id` int32 (images,). Annotations of
COCO (T.-Y. Lin et al., Microsoft COCO, ECCV 2014; cocodataset.org), CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from humansd.data.crop import window_for
from humansd.pose.people import People

EVALUATION_SEED = 256
EVALUATION_COUNT = 500


@dataclass(frozen=True, eq=False)
class RealPoses:
    """The archive in memory: coco_id and canvas (width, height) of each image; the keypoints of all people, image by
    image, those of image i from edges[i] on."""

    coco_id: NDArray[np.int64]
    canvas: NDArray[np.int16]
    keypoints: NDArray[np.int16]
    edges: NDArray[np.int64]

    def people(self, i: int) -> People:
        """Everyone in the image of row i, on its canvas."""
        rows = self.keypoints[self.edges[i] : self.edges[i + 1]]
        canvas = (int(self.canvas[i, 0]), int(self.canvas[i, 1]))
        if not len(rows):
            return People.empty(canvas)
        return People.of(rows[:, :, :2].astype(float), canvas, visibility=rows[:, :, 2])

    @property
    def images(self) -> tuple[People, ...]:
        """The people of every image, as `coco_id` has them; made anew each time."""
        return tuple(self.people(i) for i in range(len(self.coco_id)))

    def squares(self, ids: Iterable[int], size: int = 256) -> Iterator[People]:
        """The people of each image of `ids` in the square that an evaluation cuts, on size x size px.

        The window is that of `crop.window_for`. Joints outside it are dropped, and people without any joint left; an
        image of which nobody is left gives nobody.
        """
        row = {int(number): i for i, number in enumerate(self.coco_id)}
        for number in ids:
            people = self.people(row[int(number)])
            yield _labelled(window_for(people, (size, size)).people(people, (size, size)).drop_outside())


def _labelled(people: People) -> People:
    keep = people.labelled.any(axis=1)
    return People.of(people.xy[keep], people.canvas, visibility=people.visibility[keep])


def load_real_poses(path: Path) -> RealPoses:
    """The archive at `path`, a .npz file or the folder that holds `poses.npz`; everyone of every image."""
    with np.load(path / "poses.npz" if path.is_dir() else path) as file:
        points, image, canvas, number = (file[k] for k in ("keypoints", "image", "canvas", "coco_id"))
    order = np.argsort(image, kind="stable")
    edges = np.searchsorted(image[order], np.arange(len(canvas) + 1))
    return RealPoses(number.astype(np.int64), canvas, points[order], edges)


def real_pose_ids(coco_id: NDArray[np.int64], seed: int = EVALUATION_SEED, count: int = EVALUATION_COUNT) -> list[int]:
    """The COCO ids, sorted, of the `count` images that are kept for evaluation, all their people with them.

    Drawn without repetition from the sorted ids by NumPy's default generator seeded with `seed`, so the order in which
    an archive lists its images does not matter. No statistic that Atelier is made by may use them.
    """
    ids = np.sort(np.asarray(coco_id, np.int64))
    if count > len(ids):
        raise ValueError(f"count = {count}: the archive has {len(ids)} images; ask for fewer")
    return sorted(int(i) for i in np.random.default_rng(seed).choice(ids, count, replace=False))
