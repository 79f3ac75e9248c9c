"""The files of an image cache while they are written: images, masks and a line of text a sample."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from humansd.core.disk import check_space, disk_errors
from humansd.data.sample import Sample
from humansd.pose.skeleton import COCO17

ROW_FILES = ("pictures.npy", "masks.npy", "samples.jsonl")


class RowsWriter:
    """Writes samples whose images are of one shape, about `total` of them at most, to `out`; use as a context manager.

    count: samples so far. shape: (h, w, 3) of their images, () before the first. Raises DiskError where there is no
    room, inside the context.
    """

    def __init__(self, out: Path, total: int) -> None:
        self.out, self.total, self.count, self.any_mask = out, total, 0, False
        self.shape: tuple[int, ...] = ()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> RowsWriter:
        paths = [self.out / name for name in ROW_FILES]
        with contextlib.ExitStack() as opened:
            opened.enter_context(disk_errors(paths[0], lambda: self.total * math.prod(self.shape)))
            self._images = opened.enter_context(paths[0].open("wb"))
            self._masks = opened.enter_context(paths[1].open("wb"))
            self._lines = opened.enter_context(paths[2].open("w"))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self._open.__exit__(*error)  # type: ignore[arg-type]

    def add(self, sample: Sample) -> None:
        """One more; its image must be of the shape of the first."""
        if not self.count:
            self.shape = sample.image.shape
            needed = self.total * sample.image.nbytes
            check_space(self.out, needed, "the images", "use fewer or smaller ones, or make room")
            _write_header(self._images, 0, self.shape)
            _write_header(self._masks, 0, _bits(self.shape))
        self._images.write(np.ascontiguousarray(sample.image).tobytes())
        mask = sample.extras.get("mask")
        self.any_mask = self.any_mask or mask is not None
        here = np.zeros(self.shape[:2], bool) if mask is None else mask > 0
        self._masks.write(np.packbits(here, axis=1).tobytes())
        record = {
            "captions": [sample.caption, *sample.extras.get("captions", [])],
            "scene": sample.scene,
            "people": sample.people.to_skeleton(COCO17).to_json(),
            "extras": {k: v for k, v in sample.extras.items() if k not in ("mask", "captions")},
            "masked": mask is not None,
        }
        self._lines.write(json.dumps(record) + "\n")
        self.count += 1

    def finish(self) -> None:
        """The files are whole from here on; without a single mask there is no file of them."""
        if self.count:
            for file, row in ((self._images, self.shape), (self._masks, _bits(self.shape))):
                _write_header(file, self.count, row)
                file.flush()
                os.fsync(file.fileno())
        if not self.any_mask:
            (self.out / "masks.npy").unlink()


def _bits(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], (shape[1] + 7) // 8


def _write_header(images: BinaryIO, count: int, shape: tuple[int, ...]) -> None:
    """The header of `count` rows, at the start of the file; numpy pads it, so that any number takes the same room."""
    images.seek(0)
    about = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(images, about)
