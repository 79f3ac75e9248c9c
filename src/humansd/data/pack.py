"""A picture pack: the samples of shards laid out for training, memory-mapped, one file per kind.

`pictures.npy` (n, s, s, 3) uint8, `samples.jsonl` (captions, scene, key points), `about.json` written last, so
a folder with it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from humansd.data.files import write_json
from humansd.data.shards import count_samples, read_shards
from humansd.pose.people import People


@dataclass(frozen=True, eq=False)
class PicturePack:
    """n square pictures with what is known of them; row i of everything belongs together."""

    folder: Path
    pictures: np.ndarray  # (n, s, s, 3) uint8 RGB
    captions: list[list[str]]  # one or more wordings each
    people: list[People]

    def __len__(self) -> int:
        return len(self.pictures)

    def digest(self) -> str:
        """A short digest of captions and key points, which tells one set of pictures from another."""
        return hashlib.sha256((self.folder / "samples.jsonl").read_bytes()).hexdigest()[:16]

    @property
    def size(self) -> int:
        return int(self.pictures.shape[1])


def build_pack(shards: Path, out: Path) -> PicturePack:
    """Reads every sample of `shards` once into the pack `out`; returns at once if `out` is already complete.

    Raises:
        ValueError: a picture that is not square or not of the first one's size.
    """
    if (out / "about.json").exists():
        return open_pack(out)
    out.mkdir(parents=True, exist_ok=True)
    count = count_samples(shards)
    pictures: np.memmap | None = None
    with (out / "samples.jsonl").open("w") as lines:
        for row, sample in enumerate(tqdm(read_shards(shards), total=count, desc="pack", dynamic_ncols=True)):
            if pictures is None:
                shape = (count, *sample.image.shape)
                _check_space(out, count * sample.image.nbytes)
                pictures = np.lib.format.open_memmap(out / "pictures.npy", mode="w+", dtype=np.uint8, shape=shape)
            if sample.image.shape != pictures.shape[1:] or sample.image.shape[0] != sample.image.shape[1]:
                raise ValueError(
                    f"{shards}: picture {sample.key} is {sample.image.shape}, the pack {pictures.shape[1:]}; "
                    "a pack needs square pictures of one size"
                )
            pictures[row] = sample.image
            extras = {k: v for k, v in sample.extras.items() if k not in ("mask", "captions")}
            record = {
                "captions": [sample.caption, *sample.extras.get("captions", [])],
                "scene": sample.scene,
                "people": sample.people.to_json(),
                "extras": extras,
            }
            lines.write(json.dumps(record) + "\n")
    if pictures is None:
        raise ValueError(f"{shards}: no sample found; write some with `humansd data atelier`")
    pictures.flush()
    write_json(out / "about.json", {"count": count, "size": pictures.shape[1]})
    return open_pack(out)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise OSError(
            f"{folder}: the pictures need {needed / 1e9:.1f} GB uncompressed and {free / 1e9:.1f} GB are free; "
            "use fewer or smaller pictures, or another disk"
        )


def find_pack(folder: Path) -> PicturePack:
    """The pack in `folder`; for a folder of shards the pack beside them in `folder/pack`, built if need be.

    Raises:
        FileNotFoundError: `folder` holds neither.
    """
    if not (folder / "about.json").exists() and any(folder.glob("*.tar")):
        return build_pack(folder, folder / "pack")
    return open_pack(folder)


def open_pack(folder: Path) -> PicturePack:
    """Opens a complete pack; the pictures stay on disk and are read as needed.

    Raises:
        FileNotFoundError: `folder` holds no complete pack.
    """
    if not (folder / "about.json").exists():
        raise FileNotFoundError(
            f"{folder}: neither a complete picture pack nor a folder of shards; make some with `humansd data atelier`"
        )
    records = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return PicturePack(
        folder=folder,
        pictures=np.load(folder / "pictures.npy", mmap_mode="r"),
        captions=[record["captions"] for record in records],
        people=[People.from_json(record["people"]) for record in records],
    )


def to_unit(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) RGB -> fp32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
