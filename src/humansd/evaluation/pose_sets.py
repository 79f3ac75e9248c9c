"""Real poses without images as what an evaluation draws: drawn by a seed, with Atelier captions that fit them.

A caption says how many people there are, how they are framed, what they wear and where they are, from an Atelier plan
drawn by the seed and the image's name. It names no action: nobody annotated what the real people do.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from humansd.data.crop import window_for
from humansd.data.real_poses import load_real_poses
from humansd.evaluation.colors import named_tops
from humansd.evaluation.sources import Cut
from humansd.inference.kept import slug
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17
from humansd.synthetic.captions import COUNT_HELD_OUT, COUNT_WORDS, Phrasing, describe
from humansd.synthetic.framing import VIEWS
from humansd.synthetic.plan import ScenePlan
from humansd.synthetic.sampling import ROBED, sample_person, sample_plan
from humansd.synthetic.views import View

MOST_PLANNED = max(COUNT_WORDS)  # people of a plan
GROUP = "a group of people"  # what more are called
CLOTHES_HEIGHT = 0.12  # share of the frame; what smaller people wear cannot be told
FACE_HEIGHT = 0.1
# Joints of the heads, shoulders, hips, knees and ankles, in COCO's order.
HEAD, SHOULDERS, HIPS, KNEES, ANKLES = slice(0, 5), slice(5, 7), slice(11, 13), slice(13, 15), slice(15, 17)
ARCHIVE = ("keypoints", "image", "canvas", "coco_id")  # arrays of `data.real_poses`


@dataclass(frozen=True, eq=False)
class PoseSet:
    """Images of which the people alone are known.

    name: of the file. poses: name -> everyone of an image on the image's own canvas, COCO-17. seed: of the captions'
    plans. phrasing: of the captions, as `synthetic.captions` has it. has_images: never.
    """

    name: str
    poses: Mapping[str, People]
    seed: int
    phrasing: Phrasing = "seen"
    has_images: bool = field(default=False, init=False)

    def total(self, size: tuple[int, int]) -> int:
        """See `sources.Source.total`; an image of which the cut leaves nobody does not count."""
        total = len(list(self._windows(size)))
        if not total:
            raise ValueError(f"{self.name}: nobody is left of any image in the shape {size[0]} x {size[1]}")
        return total

    def keys(self, size: tuple[int, int]) -> list[str]:
        """See `sources.Source.keys`."""
        keys = _keys(list(self.poses))
        return [keys[name] for name, _, _ in self._windows(size)]

    def cuts(self, size: tuple[int, int]) -> Iterator[Cut]:
        """See `sources.Source.cuts`; by name, people from left to right."""
        keys = _keys(list(self.poses))
        for name, people, way in self._windows(size):
            caption, scene, tops = self._told(name, people)
            yield Cut(keys[name], scene, caption, None, people.resize(*size), way, tops)

    def record(self, size: tuple[int, int]) -> dict[str, Any]:
        """See `sources.Source.record`; the digest is of the cut poses and their captions."""
        digest, total = hashlib.sha256(), 0
        for name, people, _ in self._windows(size):
            known = [name, people.to_json(), *self._told(name, people)]
            digest.update(json.dumps(known, sort_keys=True).encode())
            total += 1
        about = {"kind": "poses", "seed": self.seed, "phrasing": self.phrasing}
        return {"name": self.name, "digest": digest.hexdigest()[:16], "samples": total, **about}

    def _windows(self, size: tuple[int, int]) -> Iterator[tuple[str, People, str]]:
        """Name, people and way of the window of each image, in the image's own px: alike for all sizes of a shape."""
        for name in sorted(self.poses):
            people = self.poses[name]
            window = window_for(people, size)
            people = people.crop(window.left, window.top, window.width, window.height).with_joints()
            if people.n:
                yield name, _left_to_right(people), window.way

    def _told(self, name: str, people: People) -> tuple[str, str, tuple[str | None, ...]]:
        name_digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        return caption_for(people, np.random.default_rng((self.seed, name_digest)), self.phrasing)


def read_pose_set(path: Path, *, count: int = 0, seed: int = 0, limit: int = 0, phrasing: Phrasing = "seen") -> PoseSet:
    """`count` images (0: all) of a pose file or folder, drawn by `seed` from those that show somebody; of those drawn,
    the first `limit` by name (0: all).

    path: whatever `pose.formats.read_poses` reads, COCO's key-point JSON above all, or an archive of
    `data.real_poses`, from which `seed` and `count` draw the same images as `real_poses.real_pose_ids`.

    Raises:
        PoseError: a file that cannot be read. ValueError: a count that is negative or more than there are.
    """
    everyone = {name: one for name, one in sorted(_read(path).items()) if one.labelled.any()}
    if count < 0 or count > len(everyone):
        raise ValueError(f"count is {count}: {path} shows somebody in {len(everyone)} images; ask for 0 to so many")
    if not everyone:
        raise ValueError(f"{path}: no image shows anybody; name a file of poses")
    names = list(everyone)
    chosen = np.random.default_rng(seed).choice(len(names), count, replace=False) if count else range(len(names))
    kept = sorted(chosen)[: limit or None]
    return PoseSet(path.name, {names[i]: everyone[names[i]] for i in kept}, seed, phrasing)


def _read(path: Path) -> dict[str, People]:
    archive = path / "poses.npz" if path.is_dir() and (path / "poses.npz").exists() else path
    if archive.is_file() and _is_archive(archive):
        poses = load_real_poses(archive)
        # COCO's own names: their order is that of the ids
        return {f"{number:012d}": people for number, people in zip(poses.coco_id, poses.images, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseWarning)  # joints outside an image are cut off
        return {name: people.to_skeleton(COCO17) for name, people in read_poses(path).items()}


def _is_archive(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return {f"{name}.npy" for name in ARCHIVE} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise PoseError(f"is not a readable npz file ({error})", file=file, remedy="Fetch it again.") from None


def _left_to_right(people: People) -> People:
    """In the order in which Atelier's captions name people."""
    box = people.boxes()
    return people.select(np.argsort(box[:, 0] + box[:, 2], kind="stable"))


def _keys(names: list[str]) -> dict[str, str]:
    """A file name of its own for each name."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        key, number = slug(name, 64), 1
        while key in taken:
            number += 1
            key = f"{slug(name, 64)}-{number}"
        taken.add(key)
        keys[name] = key
    return keys


def caption_for(
    people: People, rng: np.random.Generator, phrasing: Phrasing = "seen"
) -> tuple[str, str, tuple[str | None, ...]]:
    """Caption, scene and named colours of tops (n,) of a plan drawn from `rng` for `people`, left to right.

    Of more people than a plan has it says that they are a group, and names nobody.
    """
    views = tuple(view_of(people, i) for i in range(people.n))
    base = sample_plan(rng)
    planned = views[:MOST_PLANNED]
    wear = tuple(sample_person(rng, base.scene in ROBED, VIEWS.index(view.framing)) for view in planned)
    plan = replace(base, people=wear)
    if people.n > MOST_PLANNED:
        return _group(describe(plan, rng, phrasing, planned, short=True)), plan.scene, ()
    return describe(plan, rng, phrasing, views), plan.scene, _tops(plan, views)


def _tops(plan: ScenePlan, views: tuple[View, ...]) -> tuple[str | None, ...]:
    extras = {"top_colours": [one.top.color for one in plan.people], "named": [view.top for view in views]}
    return named_tops(plan.scene, extras, len(plan.people))


def _group(caption: str) -> str:
    """The caption of a full plan, its number made one of any size."""
    for words in (*COUNT_WORDS[MOST_PLANNED][::-1], *COUNT_HELD_OUT[MOST_PLANNED]):
        caption = caption.replace(words, GROUP)
    return caption


def view_of(people: People, i: int) -> View:
    """What can be told of person i from the key points: never what somebody does, nor what stands in front."""
    there = people.labelled[i]
    rows = [there[row].any() for row in (ANKLES, KNEES, HIPS)]
    x0, y0, x1, y1 = people.boxes()[i]
    height = float(y1 - y0) / people.canvas[1]
    large = max(height, float(x1 - x0) / people.canvas[0])  # also of those who lie
    clothes = bool(large >= CLOTHES_HEIGHT and there[SHOULDERS].any())
    return View(
        top=clothes,
        bottom=bool(clothes and rows[1] and rows[2]),
        hat=bool(clothes and there[HEAD].any()),
        action=False,
        legs=bool(there[13:17].all()),
        framing=VIEWS[next((k for k, row in enumerate(rows) if row), 3)],
        height=height,
        face=large >= FACE_HEIGHT,
    )
