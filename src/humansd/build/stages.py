"""The stages every source shares and that need no model: read, decode, encode."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from humansd.build.decode import MAX_BYTES, ImageError, decode_image
from humansd.build.duplicates import hash_text, perceptual_hash
from humansd.build.item import Batch, Item, each, place, thumbnail
from humansd.build.layouts.records import LINK_REMEDY
from humansd.data.sample import Sample, SampleError, encode_sample
from humansd.pose.errors import PoseError
from humansd.pose.people import People
from humansd.pose.published import convert_published_npz
from humansd.pose.render import looks_like_drawn_skeleton
from humansd.pose.skeleton import COCO17

JPEG_QUALITY = 95
SIDES_APART = 0.02  # by which two shapes may differ for one image, as a share


@dataclass(frozen=True)
class Read:
    """The bytes of an image file: origin["file"] below `root`, or origin["at"] .. + origin["size"] of origin["tar"]."""

    root: str = place()

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._read)

    def _read(self, item: Item) -> Item:
        root = Path(self.root).resolve()
        path = (root / item.origin.get("tar", item.origin.get("file", ""))).resolve()
        if not path.is_relative_to(root):
            return item.drop("read", "a link out of the folder", f"leads to {path}: {LINK_REMEDY}")
        try:
            if not path.is_file():
                return item.drop("read", "the image is missing", str(path))
            with path.open("rb") as file:
                file.seek(item.origin.get("at", 0))
                data = file.read(item.origin.get("size", MAX_BYTES + 1))
        except OSError as error:
            return item.drop("read", "cannot be read", f"{path}: {error}", retry=True)
        return item.but(data=data)


@dataclass(frozen=True)
class Decode:
    """Bytes to pixels, and people to the canvas of those pixels. Longer sides are shrunk to `max_side` px.

    Poses of another shape than the image are not guessed at. A published npz (origin["npz"] below `root`) is read here,
    since it does not know its canvas. The JPEG of a photograph is kept, less its metadata; all else becomes PNG.
    """

    max_side: int = 2048
    root: str = place()

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._decode)

    def _decode(self, item: Item) -> Item:
        assert item.data is not None
        try:
            decoded = decode_image(item.data, self.max_side)
            if looks_like_drawn_skeleton(decoded.pixels):
                return item.drop("decode", "a drawn skeleton, not an image")
            people = item.people
            if "npz" in item.origin:
                people = self._published(item, decoded.upright)
        except ImageError as error:
            return item.drop("decode", error.reason, error.detail)
        except PoseError as error:
            return item.drop("decode", "the pose cannot be read", str(error))
        height, width = decoded.pixels.shape[:2]
        if people is not None:
            shape = people.canvas[0] / people.canvas[1] / (decoded.upright[0] / decoded.upright[1])
            if abs(shape - 1) > SIDES_APART and people.n:
                return item.drop("decode", "the poses are of another shape", f"{people.canvas} and {decoded.upright}")
            people = people.resize(width, height)
        extras = dict(item.extras)
        if decoded.upright != (width, height):
            extras["original_size"] = list(decoded.upright)
        return item.but(image=decoded.pixels, data=decoded.jpeg, people=people, extras=extras)

    def _published(self, item: Item, canvas: tuple[int, int]) -> People:
        root = Path(self.root).resolve()
        path = (root / item.origin["npz"]).resolve()
        if not path.is_relative_to(root):
            raise PoseError("lies outside the folder", file=path)
        if not path.is_file():
            raise PoseError("is missing", file=path)
        return convert_published_npz(path, canvas)


@dataclass(frozen=True)
class Encode:
    """Pixels, people and texts to what a shard stores, with the digests by which duplicates are found.

    kind: of all image files, as readers ask for that infer from the first samples what all are like: "png", lossless;
    "jpg", a photograph's own JPEG where it decodes to just these pixels, else one of quality 95; "": that JPEG, else
    PNG.
    """

    kind: str = ""

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._encode)

    def _encode(self, item: Item) -> Item:
        item = self._as_stored(item)
        image = item.image
        assert image is not None
        height, width = image.shape[:2]
        people = People.empty((width, height)) if item.people is None else item.people
        if people.skeleton.name == "openpose18":
            people = people.to_skeleton(COCO17)
        extras = {
            **item.extras,
            "origin": item.origin,
            "phash": hash_text(perceptual_hash(image)),
            "pixels": hashlib.sha256(image.tobytes()).hexdigest()[:32],
        }
        sample = Sample(item.key, image, item.caption.strip(), people, item.scene, item.source, item.license, extras)
        try:
            members = encode_sample(sample, None if item.data is None else ("jpg", item.data))
        except (SampleError, PoseError) as error:
            return item.drop("encode", "cannot be stored", str(error))
        return item.but(members=members, image=None, data=None, extras=extras, people=people, thumb=thumbnail(image))

    def _as_stored(self, item: Item) -> Item:
        """The item with the file to be stored as its data, None for PNG, and with the pixels that this file has."""
        if self.kind == "png":
            return item.but(data=None)
        if self.kind == "jpg" and item.data is None and item.image is not None:
            stream = io.BytesIO()
            Image.fromarray(item.image).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
            return item.but(data=stream.getvalue(), image=decode_image(stream.getvalue(), 0).pixels)
        return item
