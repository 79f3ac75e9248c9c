"""Small images and sources for the tests of building data sets, importable by worker processes."""

from __future__ import annotations

import io
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.build.item import Item
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.stages import Decode, Encode
from humansd.pose.people import People

SIDE = 48
# A person who stands, as shares of a canvas; COCO's joints.
_X = (0.5, 0.56, 0.44, 0.62, 0.38, 0.69, 0.31, 0.81, 0.19, 0.87, 0.13, 0.62, 0.38, 0.62, 0.38, 0.62, 0.38)
_Y = (0.12, 0.06, 0.06, 0.12, 0.12, 0.25, 0.25, 0.38, 0.38, 0.5, 0.5, 0.56, 0.56, 0.75, 0.75, 0.94, 0.94)


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    """A tar with these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def standing(canvas: tuple[int, int] = (16, 16), shift: float = 0.0) -> People:
    """One person who fills the canvas, `shift` px to the right."""
    return People.of([np.stack([_X, _Y], axis=1) * canvas + [shift, 0.0]], canvas)


def image_bytes(number: int, size: tuple[int, int] = (SIDE, SIDE), kind: str = "JPEG", **options: Any) -> bytes:
    """An image file of smooth color spots, another for every number."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(stream, kind, **options)
    return stream.getvalue()


@dataclass(frozen=True)
class Spots:
    """`count` items with an image and a standing person each; every tenth is broken, every seventh a repetition."""

    count: int
    pause: float = 0.0  # seconds an item

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> Item:
        time.sleep(self.pause)
        number = 3 if index % 7 == 6 else index
        data = b"broken" if index % 10 == 9 else image_bytes(number)
        people = standing((SIDE, SIDE))
        return Item(index, f"{index:08d}", {"n": index}, data, None, people, f"a person, {index}", "", "spots", "CC0")

    def signature(self) -> dict[str, Any]:
        return {"kind": "spots", "count": self.count}


STAGES = (Decode(), Encode())


if __name__ == "__main__":
    out, how = sys.argv[1:]
    plan = Plan(STAGES, per_shard=12, batch_size=4, near=3)
    source = Spots(60, pause=0.01 if how == "slow" else 0.0)
    engine, workers = ("ray", 2) if how == "ray" else ("local", 1)
    build_dataset(source, plan, out, engine=engine, workers=workers, progress=False)
