"""Quintuples (A0, B0, y, Z_A, Z_B) of CN117392675A: two poses, and the words of the first's image; and their mirror."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.data.image_cache import ImageCache
from humansd.data.pairs import partners
from humansd.pose.people import People
from humansd.training.randomness import data_row, sample_rng


@dataclass(frozen=True, eq=False)
class Quintuple:
    """first, second: A and B, one person each, px of the cached images; A0 and B0 are their drawings. caption: y, of
    the first's image. rows: of both images, Z_A and Z_B, in the cache."""

    first: People
    second: People
    caption: str
    rows: tuple[int, int]


class Quintuples:
    """The endless set of quintuples of an image cache; number 2 i + 1 is the mirror of number 2 i.

    left_out: images that show nobody, several people, or fewer labelled joints than are asked for.
    """

    def __init__(self, image_cache: ImageCache, least_joints: int, *, true_pairs: bool = False) -> None:
        """true_pairs: A and B are the two sides of a pair of one scene (`data.pairs`), else any two images.

        Raises:
            ValueError: not two images, or not one pair, are left.
        """
        self.image_cache = image_cache
        self._usable = [row for row, one in enumerate(image_cache.people) if _is_alone(one, least_joints)]
        self.left_out = len(image_cache) - len(self._usable)
        usable = set(self._usable)
        found = partners(image_cache) if true_pairs else {}
        self._pairs = [pair for pair in found.items() if usable.issuperset(pair)]
        self._true = true_pairs
        if (true_pairs and not self._pairs) or len(self._usable) < 2:
            what = "no true pair" if true_pairs else f"{len(self._usable)} images"
            raise ValueError(
                f"{image_cache.folder}: has {what} of one person with {least_joints} labelled joints or more, and a "
                "quintuple needs two; name other data (humansd data atelier --pairs makes some), or lower least_joints"
            )

    def draw(self, seed: int, index: int) -> Quintuple:
        """Quintuple number `index` of the set `seed`."""
        number, mirrored = divmod(index, 2)
        rows = self._rows(seed, number)
        first, second = reversed(rows) if mirrored else rows
        words = self.image_cache.captions[first]
        caption = words[int(sample_rng(seed, index).integers(len(words)))]
        people = self.image_cache.people
        return Quintuple(_alone(people[first]), _alone(people[second]), caption, (first, second))

    def _rows(self, seed: int, number: int) -> tuple[int, int]:
        if self._true:
            return self._pairs[data_row(seed, number, len(self._pairs))]
        first = data_row(seed, number, len(self._usable))
        step = 1 + int(sample_rng(seed, 2 * number).integers(len(self._usable) - 1))
        return self._usable[first], self._usable[(first + step) % len(self._usable)]


def _is_alone(people: People, least_joints: int) -> bool:
    counts = people.labelled.sum(axis=1)
    return int((counts > 0).sum()) == 1 and int(counts.max()) >= least_joints


def _alone(people: People) -> People:
    return people.select([int(people.labelled.sum(axis=1).argmax())])
