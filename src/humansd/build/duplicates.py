"""Which images are the same: by their pixels, and nearly, by a perceptual hash."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

BITS = 64
_SIDE, _KEPT = 32, 8


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """64 bits that hardly change when an image is shrunk, compressed or brightened.

    The image in grey at 32 x 32, its 8 x 8 lowest cosine frequencies, each above their median or not (the "pHash" of
    Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", as the package imagehash has it).
    """
    grey = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, np.float64), type=2)[:_KEPT, :_KEPT]
    bits = (low > np.median(low)).reshape(-1)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def hash_text(value: int) -> str:
    """Sixteen hex digits."""
    return f"{value:016x}"


def distance(a: int, b: int) -> int:
    """Bits by which two hashes differ, 0..64."""
    return (a ^ b).bit_count()


class NearDuplicates:
    """The hashes seen so far; finds one within `most` bits without comparing all.

    The bits are cut in `most` + 1 bands: two hashes that differ in at most `most` bits agree in one of them.
    """

    def __init__(self, most: int) -> None:
        if not 0 <= most <= 15:
            raise ValueError(f"near duplicates: {most} bits; 0 to 15 of {BITS} can be asked for")
        edges = [round(BITS * k / (most + 1)) for k in range(most + 2)]
        self.most = most
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._tables: list[dict[int, list[int]]] = [{} for _ in self._bands]
        self._keys: dict[int, str] = {}

    def find(self, value: int) -> str | None:
        """The key of the first sample with such a hash; None: there is none."""
        for (shift, mask), table in zip(self._bands, self._tables):
            for other in table.get(value >> shift & mask, ()):
                if distance(value, other) <= self.most:
                    return self._keys[other]
        return None

    def add(self, value: int, key: str) -> None:
        """Remembers a hash as that of the sample `key`."""
        if value in self._keys:
            return
        self._keys[value] = key
        for (shift, mask), table in zip(self._bands, self._tables):
            table.setdefault(value >> shift & mask, []).append(value)
