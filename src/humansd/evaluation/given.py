"""Images that another tool drew for the poses and prompts of the data, as what an evaluation measures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from humansd.core.arrays import ImageArray
from humansd.core.digests import file_sha256
from humansd.core.files import write_json
from humansd.evaluation.drawing import folder_name, read_image
from humansd.evaluation.records import LEFT_OUT, Record, image_file
from humansd.inference.detect import read_upright, upright_size
from humansd.inference.generate import Job
from humansd.inference.image_info import read_png_info, write_png
from humansd.models.clip_similarity import ClipScorer
from humansd.pose.errors import PoseError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SAME_SHAPE = 0.01  # relative difference of aspect ratios that a resize may hide
SHOWN = 3  # names in a message

NO_FILE, DAMAGED, OTHER_SHAPE = "no file", "cannot be read", "another shape"


class GivenImages:
    """The images of a folder, named by the key of their sample.

    Those of the wanted shape are brought to the wanted size; of a sample without a file, with a damaged one, or with
    one of another shape, nothing is measured, and it is counted.
    """

    def __init__(self, folder: Path, size: tuple[int, int] | None = None) -> None:
        """size: (width, height) px; None: the size that most of the images have.

        Raises:
            FileNotFoundError: no such folder. ValueError: no image in it, or two of one name.
        """
        self.folder, self.files = folder, find_images(folder)
        self.size = size or _usual_size(folder, self.files)
        self._digests = {name: file_sha256(file) for name, file in self.files.items()}
        self._told: dict[str, Any] = {}

    def identity(self) -> dict[str, Any]:
        """See `drawing.Images.identity`: the content of all files, by name."""
        content = "\n".join(f"{name} {digest}" for name, digest in sorted(self._digests.items()))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return {
            "model": {"name": folder_name(str(self.folder)), "images": digest},
            "text_only": False,
            "sampling": {"size": self.size},
        }

    def check(self, keys: Sequence[str]) -> None:
        """ValueError where the names and headers of the images tell that not one can be measured."""
        left_out = {}
        for key in keys:
            reason = self._fault(key)
            if not reason:
                return
            left_out[key] = reason
        raise ValueError(self._nothing_fits(keys, left_out, sorted(set(self.files) - set(keys))))

    def _fault(self, key: str) -> str:
        """Why an image will be left out, as far as its header tells."""
        if key not in self.files:
            return NO_FILE
        try:
            size = upright_size(self.files[key])
        except PoseError:
            return DAMAGED
        return "" if self._fits(size) or self._fits(size[::-1]) else OTHER_SHAPE  # a header may not tell how it lies

    def _fits(self, size: tuple[int, int]) -> bool:
        return abs(size[0] * self.size[1] / (size[1] * self.size[0]) - 1) <= SAME_SHAPE

    def prepare(self, keys: Sequence[str], out: Path) -> frozenset[str]:
        """Brings the images into the run's folder, writes which are left out and why, and returns the keys of those.

        Raises:
            ValueError: not one image can be measured.
        """
        left_out = {key: reason for key in keys if (reason := self._take(key, out))}
        extra = sorted(set(self.files) - set(keys))
        if len(left_out) == len(keys):
            raise ValueError(self._nothing_fits(keys, left_out, extra))
        write_json(out / LEFT_OUT, left_out)
        self._told = {
            "samples": len(keys),
            "left_out": dict(sorted(Counter(left_out.values()).items())),
            "examples": {reason: _of_reason(left_out, reason)[:SHOWN] for reason in sorted({*left_out.values()})},
            "extra": len(extra),
            "extra_examples": [self.files[name].name for name in extra[:SHOWN]],
        }
        return frozenset(left_out)

    def images(self, jobs: Sequence[Job], out: Path, tick: Callable[[int], object]) -> list[ImageArray]:
        """See `drawing.Images.images`."""
        tick(len(jobs))
        return [read_image(image_file(out, job.pose.name)) for job in jobs]

    def about(self, first: Record, scorer: ClipScorer | None) -> dict[str, Any]:
        """See `drawing.Images.about`: how many samples have no image, how many images no sample."""
        return {"time": None, "images": self._told}

    def _take(self, key: str, out: Path) -> str:
        """Brings one image into the run's folder; returns why it is left out, "" where it is not."""
        if key not in self.files:
            return NO_FILE
        target, info = image_file(out, key), {"file": self.files[key].name, "sha256": self._digests[key]}
        if _is_taken(target, info):
            return ""
        try:
            pixels = _as_seen(self.files[key])
        except PoseError:
            return DAMAGED
        if not self._fits((pixels.shape[1], pixels.shape[0])):
            return OTHER_SHAPE
        write_png(target, resized(pixels, self.size), info)
        return ""

    def _nothing_fits(self, keys: Sequence[str], left_out: dict[str, str], extra: Sequence[str]) -> str:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(left_out.values()).items())
        if OTHER_SHAPE in left_out.values():
            return f"{self.folder}: not one image can be measured at {_px(self.size)} ({reasons}); give another --size"
        names = f"a sample is called {keys[0]!r}" + (f", an image {self.files[extra[0]].name!r}" if extra else "")
        return (
            f"{self.folder}: not one image can be measured ({reasons}): {names}; name images by the key of their "
            "sample, as `humansd data export-prompts` lists them"
        )


def find_images(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, of the PNG, JPEG and WebP images of a folder.

    Raises:
        FileNotFoundError: no such folder. ValueError: no image in it, or two of one name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--images {folder}: no such folder")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith(".") or not file.is_file():
            continue
        if file.stem in found:
            raise ValueError(f"{folder}: has {found[file.stem].name} and {file.name}; keep one of them")
        found[file.stem] = file
    if not found:
        inside = " (folders in it are not looked into)" if any(one.is_dir() for one in folder.iterdir()) else ""
        raise ValueError(f"{folder}: no image in it{inside}; name a folder of {', '.join(SUFFIXES)} files")
    return found


def resized(pixels: ImageArray, size: tuple[int, int]) -> ImageArray:
    """uint8 RGB (h, w, 3) at `size` (width, height) px, as real images are: shrinking averages areas."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    how = Image.Resampling.BOX if size[0] < pixels.shape[1] else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def _as_seen(file: Path) -> ImageArray:
    """uint8 RGB (h, w, 3), upright, on white where it is transparent: there a file may keep any color. PoseError as of
    `read_upright`."""
    pixels = read_upright(file)
    with Image.open(file) as image:
        if not image.has_transparency_data:
            return pixels
        shown = ImageOps.exif_transpose(image).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB"))


def _usual_size(folder: Path, files: dict[str, Path]) -> tuple[int, int]:
    sizes: Counter[tuple[int, int]] = Counter()
    for file in files.values():
        try:
            sizes[upright_size(file)] += 1
        except PoseError:
            continue
    if not sizes:
        raise ValueError(f"{folder}: no image in it can be read; copy the folder again")
    return max(sizes, key=lambda size: (sizes[size], size))


def _is_taken(target: Path, info: dict[str, Any]) -> bool:
    try:
        return target.exists() and read_png_info(target) == info
    except ValueError:
        return False


def _of_reason(left_out: dict[str, str], reason: str) -> list[str]:
    return [key for key, why in left_out.items() if why == reason]


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
