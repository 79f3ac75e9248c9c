"""Which part of the body each pixel of a render shows: exact, by the bone that moves the surface there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from humansd.data.salvage import read_undamaged
from humansd.synthetic.body import bank
from humansd.synthetic.buffers import PROP

# 0 is what is nobody. Left and right are the person's own.
PARTS = (
    "nothing",
    "head",
    "trunk",
    "left upper arm",
    "left lower arm",
    "right upper arm",
    "right lower arm",
    "left thigh",
    "left lower leg",
    "right thigh",
    "right lower leg",
)
_OF_BONES = {  # beginnings of bones' names; what is none of these is the trunk
    "head": ("neck", "head", "eye"),
    "upper arm": ("shoulder", "upperarm"),
    "lower arm": ("lowerarm", "wrist", "finger", "metacarpal"),
    "thigh": ("upperleg",),
    "lower leg": ("lowerleg", "foot", "toe"),
}


@lru_cache(maxsize=1)
def _part_of_bones() -> NDArray[np.uint8]:
    """(bones,): index into PARTS."""
    return np.array([_part_of(bone) for bone in bank().bones], np.uint8)


def _part_of(bone: str) -> int:
    kind = next((kind for kind, starts in _OF_BONES.items() if bone.startswith(starts)), "trunk")
    if kind in ("head", "trunk"):
        return PARTS.index(kind)
    return PARTS.index(f"{'left' if bone.endswith('.L') else 'right'} {kind}")


def parts_of_vertices(index: NDArray[np.integer], weight: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Index into PARTS of vertices (n,) with these skinning bones and weights, (n, 4) both."""
    bones = np.take_along_axis(index, weight.argmax(axis=1)[:, None], axis=1)[:, 0]
    return _part_of_bones()[bones]


def part_layer(
    ids: NDArray[np.integer],
    triangles: NDArray[np.integer],
    parts: NDArray[np.uint8],
    person: NDArray[np.uint8],
    material: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Index into PARTS of each pixel (r, r), 0 where nobody is, or a thing.

    ids: triangle of each pixel, below 0 for none. triangles (t, 3) of vertices, parts (n,) of these.
    """
    shown = (ids >= 0) & (person > 0) & (material != PROP)
    found = np.zeros(ids.shape, np.uint8)
    found[shown] = parts[triangles[ids[shown], 0]]
    return found


def coarse(layer: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The part that most of each cell's pixels show, (side, side), of a square layer."""
    step = len(layer) // side
    cells = layer[: side * step, : side * step].reshape(side, step, side, step).swapaxes(1, 2).reshape(side, side, -1)
    counts = np.stack([(cells == part).sum(axis=2) for part in range(len(PARTS))], axis=2)
    return counts.argmax(axis=2).astype(np.uint8)


def rendered_parts(shards: Path, side: int) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """Captions and coarse parts (side, side) of each sample of Atelier's shards, in the order of an image cache.

    The layers are rendered again from the sample's key, which is its seed and index, so nothing but the keys is
    needed of the shards.

    Raises:
        ValueError: a sample of another source than Atelier.
    """
    from humansd.synthetic.render import SOURCE, layers

    for sample in read_undamaged(shards, []):
        if sample.source != SOURCE:
            raise ValueError(
                f"{shards}: sample {sample.key} is of {sample.source!r}; body parts are known of Atelier's"
            )
        seed, index = map(int, sample.key.split("-"))
        made = layers(seed, index, len(sample.image))
        assert made.part is not None
        yield [sample.caption, *sample.extras.get("captions", [])], coarse(made.part, side)
