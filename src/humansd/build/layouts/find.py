"""Which layout a folder or file is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from humansd.build.layouts.annotations import kind_of_list, read_coco_json, read_mapping
from humansd.build.layouts.folders import (
    METADATA,
    TEXT_SUFFIXES,
    read_metadata_folder,
    read_plain_folder,
    read_text_folder,
)
from humansd.build.layouts.mpii import is_mpii_mat, read_mpii_json, read_mpii_mat
from humansd.build.layouts.records import LayoutError, Listing, image_files
from humansd.build.layouts.tars import read_tars
from humansd.data.shards import MANIFEST, ShardError, shard_files

_LISTS: dict[str, Callable[[Path, Path], Listing]] = {
    "coco": read_coco_json,
    "mpii": read_mpii_json,
    "mapping": read_mapping,
}
KNOWN = (
    "metadata.jsonl with its images, images with .txt beside them, COCO, Human-Art or MPII JSON, MPII's .mat, "
    "HumanSD's mapping file, webdataset tars, or a folder of images"
)


def read_layout(path: Path | str, images: Path | str | None = None) -> Listing:
    """All that `path` holds: a folder, a .tar, a metadata.jsonl, a JSON file of poses, or MPII's .mat.

    images: the folder below which the images of a JSON or .mat file lie, if not its own.

    Raises:
        LayoutError: nothing is there, it is of no known layout, or there are several lists to choose from.
    """
    path = Path(path)
    if not path.exists():
        raise LayoutError(f"{path}: there is no such file or folder; name {KNOWN}")
    if path.is_dir():
        return _non_empty(path, _read_folder(path))
    if path.suffix.lower() == ".tar":
        return _non_empty(path, read_tars(path.parent, [path]))
    if path.name in METADATA:
        return _non_empty(path, read_metadata_folder(path.parent))
    if path.suffix.lower() in (".json", ".mat"):
        return _non_empty(path, _read_list(path, _root(path, images)))
    raise LayoutError(f"{path}: is of no known layout; name {KNOWN}")


def _read_folder(folder: Path) -> Listing:
    if any(next(folder.rglob(name), None) for name in METADATA):
        return read_metadata_folder(folder)
    tars = sorted(folder.rglob("[!.]*.tar"))
    if tars:
        return read_tars(folder, _own_shards(folder) or tars)
    lists = _pose_lists(folder)
    if len(lists) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in lists)
        raise LayoutError(f"{folder}: holds several lists ({names}); name one of them")
    if lists:
        return _read_list(lists[0], folder)
    files = image_files(folder)
    if any(path.with_suffix(suffix).is_file() for path in files for suffix in TEXT_SUFFIXES):
        return read_text_folder(folder)
    return read_plain_folder(folder)


def _read_list(path: Path, images: Path) -> Listing:
    return read_mpii_mat(path, images) if path.suffix.lower() == ".mat" else _LISTS[kind_of_list(path)](path, images)


def _own_shards(folder: Path) -> list[Path]:
    """The shards that a manifest lists; [] where there is none of ours."""
    if not (folder / MANIFEST).is_file():
        return []
    try:
        return shard_files(folder)
    except ShardError as error:
        raise LayoutError(str(error)) from None


def _pose_lists(folder: Path) -> list[Path]:
    """JSON and .mat files of a known layout in a folder or its annotations/; of COCO's, those with poses."""
    mats = sorted([*folder.glob("*.mat"), *(folder / "annotations").glob("*.mat")])
    found = [path for path in mats if is_mpii_mat(path)]
    for path in sorted([*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]):
        if path.name.startswith(("captions", "instances", "panoptic", "stuff")) or path.stat().st_size > 2 << 30:
            continue
        try:
            kind_of_list(path)
        except LayoutError:
            continue
        found.append(path)
    return found


def _root(path: Path, images: Path | str | None) -> Path:
    if images is not None:
        if not Path(images).is_dir():
            raise LayoutError(f"{images}: is no folder; name the one that holds the images of {path}")
        return Path(images)
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _non_empty(path: Path, listing: Listing) -> Listing:
    if not listing.items:
        raise LayoutError(f"{path}: holds no image; name {KNOWN}")
    return listing
