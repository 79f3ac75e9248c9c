"""Images that are there already: their names, and the record by which one is known to be the one asked for."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from humansd.core.digests import file_sha256
from humansd.inference.image_info import read_png_info
from humansd.models.digests import LIST, networks_digest
from humansd.models.names import SHIPPED, weights_folder
from humansd.pipelines.humansd import HumanSDPipeline

_LENGTH = 16  # of a digest, which tells versions of one model apart and guards against nobody


def free_name(out: Path, stem: str, info: Mapping[str, Any]) -> Path:
    """out/stem.png, or out/stem-2.png ...: the first that is free or was made with exactly this `info`."""
    return next(path for path in _names(out, stem) if not path.exists() or _has_info(path, info))


def kept_image(out: Path, stem: str, info: Mapping[str, Any]) -> Path | None:
    """The image of these names that was made with exactly this `info`; None where there is none."""
    path = free_name(out, stem, info)
    return path if path.exists() else None


def slug(text: str, length: int = 32) -> str:
    """`text` as part of a file name: letters, digits and "_", words joined by "-"."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:length].rstrip("-") or "x"


def weights_record(pipeline: HumanSDPipeline, model: str, added: Iterable[str] = ()) -> str:
    """A short digest of the weights that draw, so that an image of a model that was trained on is drawn anew.

    Args:
        model: a shipped name, a folder or a hub id. Of a folder with a list of its files that list is taken, else the
            networks as they are, a second or two for a gigabyte.
        added: LoRAs and textual inversions; of files their content.
    """
    folder = weights_folder(model) if model in SHIPPED else Path(model)
    listed = folder / LIST
    own = [one for one in (pipeline.pose_network, pipeline.tiny_decoder) if one is not None]
    networks = [pipeline.vae, pipeline.text_encoder, pipeline.unet, *own]
    parts = [file_sha256(listed) if listed.is_file() else networks_digest(networks)]
    parts += [file_sha256(Path(one)) if Path(one).is_file() else one for one in added]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:_LENGTH]


def pixels_record(*images: np.ndarray | None) -> str:
    """A short digest of images that a record names by their files alone; "" without any."""
    digest = hashlib.sha256()
    given = [image for image in images if image is not None]
    for image in given:
        digest.update(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:_LENGTH] if given else ""


def _names(out: Path, stem: str) -> Iterator[Path]:
    yield out / f"{stem}.png"
    yield from (out / f"{stem}-{number}.png" for number in itertools.count(2))


def _has_info(path: Path, info: Mapping[str, Any]) -> bool:
    try:
        return read_png_info(path) == info
    except ValueError:
        return False
