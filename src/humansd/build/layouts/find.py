"""Which layout a folder or file is of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from humansd.build.layouts.annotations import (
    captions_file,
    kind_of_list,
    read_coco_json,
    read_mapping,
    what_coco_has,
)
from humansd.build.layouts.folders import (
    LIST_SUFFIXES,
    is_list,
    metadata_files,
    read_lists,
    read_plain_folder,
    read_text_folder,
    texts_of,
    with_captions,
    with_texts,
)
from humansd.build.layouts.image_finder import ImageFinder
from humansd.build.layouts.mpii import is_mpii_mat, read_mpii_json, read_mpii_mat
from humansd.build.layouts.pose_files import (
    POSE_SUFFIXES,
    ImageNames,
    pose_files_in,
    with_listed_poses,
    with_poses,
)
from humansd.build.layouts.records import (
    LayoutError,
    Listing,
    files_below,
    image_files,
    outside_notes,
    read_json,
)
from humansd.build.layouts.tars import read_tars
from humansd.build.writer import SHOWN
from humansd.data.shards import MANIFEST, ShardError, shard_files

_LISTS: dict[str, Callable[[Path, Path, str | None, str | None], Listing]] = {
    "coco": read_coco_json,
    "mpii": lambda path, images, joints, units: read_mpii_json(path, images),
    "mapping": lambda path, images, joints, units: read_mapping(path, images),
}
KNOWN = (
    "metadata.jsonl with its images, images with .txt beside them, COCO, Human-Art or MPII JSON, MPII's .mat, "
    "HumanSD's mapping file, webdataset tars, images with pose files (OpenPose, YOLO, CVAT ...), or a folder of images"
)
# Folders in which lists lie beside that of the images.
_LIST_FOLDERS = ("annotations", "annotation", "annot", "json")
_ARCHIVES = (".zip", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_TABLES = (".parquet", ".arrow", ".feather")
_FEW_JSON = 20  # lists of a data set; a folder of more holds a file for each image


@dataclass(frozen=True)
class Given:
    """What a user says of a data set that its files do not.

    images: the folder below which the images of a list lie, if not its own. poses: a file or folder of poses for the
    images. joints: the joint set of poses without names. units: of coordinates (`pose.units.UNITS`).
    image_column, caption_column: of a metadata.jsonl or a table.
    """

    images: Path | str | None = None
    poses: Path | str | None = None
    joints: str | None = None
    units: str | None = None
    image_column: str = ""
    caption_column: str = ""

    @property
    def columns(self) -> tuple[str, str]:
        return self.image_column, self.caption_column


def read_layout(path: Path | str, images: Path | str | None = None, given: Given | None = None) -> Listing:
    """All that `path` holds: a folder, a .tar, a metadata.jsonl or table, or a file of poses for several images.

    images: the folder below which the images of a list lie, if not its own. given: that and more.

    Raises:
        LayoutError: nothing is there, it is of no known layout, or there are several lists to choose from.
    """
    given = given or Given(images)
    path = Path(path)
    if given.images is not None and not Path(given.images).is_dir():
        raise LayoutError(f"{given.images}: is no folder; name the one that holds the images of {path}")
    if not path.exists():
        raise LayoutError(f"{path}: there is no such file or folder; name {KNOWN}")
    if given.poses is not None and not Path(given.poses).exists():
        raise LayoutError(f"{given.poses}: there is no such file or folder; name the poses of the images of {path}")
    if path.is_dir():
        listing = _read_folder(path, given)
    elif path.suffix.lower() in (".yaml", ".yml"):  # of YOLO's data sets, which lie beside
        listing = _read_folder(path.parent, given)
    elif path.suffix.lower() == ".tar":
        listing = read_tars(path.parent, [path])
    elif path.suffix.lower() in LIST_SUFFIXES:
        listing = read_lists(Path(given.images or path.parent), [path], given.columns)
    elif path.suffix.lower() in (".json", ".mat", ".xml"):
        listing = _with_lists_beside(_read_list(path, _root(path, given.images), given), path, given, path.parent)
    else:
        raise LayoutError(f"{path}: {_unknown(path)}")
    listing = _non_empty(path, with_texts(listing))
    listing = listing if given.poses is None else _with_given_poses(listing, Path(given.poses), given)
    return Listing(listing.layout, listing.root, listing.items, (*listing.notes, *outside_notes(listing.items)))


def _read_folder(folder: Path, given: Given) -> Listing:
    lists = metadata_files(folder)
    images = Path(given.images or folder)
    if lists:
        return _with_found_poses(read_lists(images, lists, given.columns), given, lists)
    tars = files_below(folder, (".tar",))
    if tars:
        return _read_tars(folder, images, tars)
    if given.poses is None:
        lists = list(_best_of(_pose_lists(folder)))
        if len(lists) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in lists[:6])
            raise LayoutError(f"{folder}: holds several lists ({names}); name one of them")
        if lists:
            return _with_lists_beside(_read_list(lists[0], images, given), lists[0], given, folder)
    tables = [path for path in sorted(folder.iterdir()) if _plain(path) and is_list(path, given.columns)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables[:6])
        raise LayoutError(f"{folder}: holds several lists ({names}); name one of them")
    if tables:
        return _with_found_poses(read_lists(images, tables, given.columns), given, tables)
    texts = texts_of(folder)
    if any(path.with_suffix("") in texts or path in texts for path in image_files(folder)):
        return _with_found_poses(read_text_folder(folder, texts), given)
    return _with_found_poses(read_plain_folder(folder), given)


def _plain(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _read_tars(folder: Path, images: Path, tars: list[Path]) -> Listing:
    """The tars in a folder; LayoutError where images lie there too, and either may be the data set."""
    own = _own_shards(folder)
    if own:
        return read_tars(folder, own)
    beside = [path for path in image_files(images) if path.parent.name != SHOWN]
    if beside:
        raise LayoutError(
            f"{folder}: holds images ({beside[0].relative_to(images)} ...) and {len(tars)} tars "
            f"({tars[0].relative_to(folder)} ...), either of which may be the data set; name a tar or its folder, or, "
            "for the images, move the tars elsewhere"
        )
    return _noted(read_tars(folder, tars), _unread([folder], {*tars, *_of_tars(folder, tars)}))


def _read_list(path: Path, images: Path, given: Given) -> Listing:
    if path.suffix.lower() == ".mat":
        return read_mpii_mat(path, images)
    kind = _kind(path)
    if kind:
        listing = _LISTS[kind](path, images, given.joints, given.units)
        return _noted(listing, ImageFinder(images, []).unlisted(listing.items))
    if is_list(path, given.columns):
        return read_lists(images, [path], given.columns)
    listing = with_poses(read_plain_folder(images), path.parent, [path], given.joints, given.units)
    if not any(item.people is not None for item in listing.items):
        first = next((f"; {i.left_out.reason}: {i.left_out.detail}" for i in listing.items if i.left_out), "")
        raise LayoutError(
            f"{path}: is of no known layout, and names no image below {images} with a pose that can be read (--images "
            f"DIR says where they are){first}; name {KNOWN}"
        )
    unnamed = "an image that the list does not name"
    items = [
        item if item.left_out or item.people is not None else item.drop("list", unnamed, str(item.origin["file"]))
        for item in listing.items
    ]
    return Listing(listing.layout, listing.root, items)


def _with_lists_beside(listing: Listing, path: Path, given: Given, folder: Path) -> Listing:
    """The listing of the list at `path`, with the captions of lists beside it where it is one of poses; what is not
    read, there and in the folder, is told."""
    if not _kind(path) and path.suffix.lower() != ".mat":
        return listing
    beside = [one for one in sorted(path.parent.iterdir()) if _plain(one) and is_list(one, given.columns)]
    notes = _unread([folder, path.parent], {*_read_with(path), *beside})
    return _noted(with_captions(listing, beside, given.columns), notes)


def _read_with(path: Path) -> set[Path]:
    """A list of poses and the file of captions that is read with it."""
    texts = captions_file(path) if _kind_or_none(path) == "coco" else None
    return {path} if texts is None else {path, texts}


def _kind(path: Path) -> str:
    """coco | mpii | mapping, of a JSON list that has a reader of its own; "" for any other."""
    about = path.stat()
    return _kind_of(path, about.st_size, about.st_mtime_ns) if path.suffix.lower() == ".json" else ""


def _best_of(lists: Sequence[Path]) -> Sequence[Path]:
    """Those with poses of several lists, else those with captions, else all: COCO's of boxes say nothing needed."""
    if len(lists) < 2:
        return lists
    told = {path: what_coco_has(read_json(path)) if _kind(path) == "coco" else {"poses"} for path in lists}
    found = ([path for path in lists if wanted in told[path]] for wanted in ("poses", "captions"))
    return next((few for few in found if few), lists)


@functools.lru_cache(maxsize=1000)
def _kind_of(path: Path, size: int, changed: int) -> str:
    """`_kind` of a file of this size and time: large lists are asked several times."""
    if is_list(path):
        return ""
    data = read_json(path)
    try:
        return kind_of_list(path, data)
    except LayoutError:
        return ""


def _noted(listing: Listing, notes: tuple[str, ...]) -> Listing:
    return Listing(listing.layout, listing.root, listing.items, (*listing.notes, *notes))


def _with_found_poses(listing: Listing, given: Given, used: Sequence[Path] = ()) -> Listing:
    """The listing of a folder with the poses that lie in it, unless they are named; what is not read is told. used:
    the lists that it is of."""
    if given.poses is not None:
        return listing
    root = listing.root
    names = ImageNames([item.origin["file"] for item in listing.items if not item.left_out and "file" in item.origin])
    files = pose_files_in(root, names)
    lists = [path for path in files if len(files) <= _FEW_JSON and _kind_or_none(path)]
    worse = set(lists) - set(_best_of(lists))
    files, lists = ([path for path in few if path not in worse] for few in (files, lists))
    if lists:  # a list of COCO's beside a metadata.jsonl
        if len(files) > 1:
            told = ", ".join(str(path.relative_to(root)) for path in files[:6])
            raise LayoutError(f"{root}: holds several lists of poses ({told}); name one of them by --poses")
        listing = with_listed_poses(listing, _read_list(lists[0], root, given), lists[0])
    elif files:
        listing = with_poses(listing, root, files, given.joints, given.units)
    read = {one for path in files for one in (_read_with(path) if path in lists else {path})}
    return _noted(listing, _unread([root, *(path.parent for path in lists)], {*read, *used}))


def _kind_or_none(path: Path) -> str:
    return _kind(path) if path.suffix.lower() == ".json" and path.stat().st_size > 0 else ""


def _unread(folders: Iterable[Path], used: set[Path]) -> tuple[str, ...]:
    """A note of the files in folders, and the tars below, that look as if they held something of the images and are not
    read."""
    suffixes = (*LIST_SUFFIXES, *_TABLES, *_ARCHIVES, ".json", ".xml", ".npz", ".mat")
    unread: dict[Path, str] = {}
    for folder in dict.fromkeys(folders):
        there = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes and _plain(path)]
        unread |= {path: path.name for path in there if path not in used}
        unread |= {path: str(path.relative_to(folder)) for path in files_below(folder, (".tar",)) if path not in used}
    if not unread:
        return ()
    names = list(unread.values())
    return (f"not read: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}",)


def _of_tars(folder: Path, tars: Sequence[Path]) -> Iterator[Path]:
    """What img2dataset writes beside its tars: 00000.parquet, 00000_stats.json."""
    stems = {tar.stem for tar in tars}
    yield from (path for path in folder.iterdir() if path.stem.removesuffix("_stats") in stems)


def _with_given_poses(listing: Listing, poses: Path, given: Given) -> Listing:
    """The listing with the poses of a file or folder that the user names, before those that were found."""
    if not any("file" in item.origin for item in listing.items):
        raise LayoutError(f"{poses}: poses are given to files of images, and there are none; unpack the tars")
    bare = [item.but(people=None) if item.left_out is None else item for item in listing.items]
    listing = Listing(listing.layout, listing.root, bare, listing.notes)
    if poses.is_file():
        if poses.suffix.lower() == ".mat" or _kind(poses):
            return with_listed_poses(listing, _read_list(poses, listing.root, given), poses)
        return with_poses(listing, poses.parent, [poses], given.joints, given.units)
    files = files_below(poses, POSE_SUFFIXES)
    lists = [path for path in files[:_FEW_JSON] if len(files) <= _FEW_JSON and _kind_or_none(path)]
    if lists:
        raise LayoutError(f"{poses}: holds lists of poses, such as {lists[0].name}; name one of them")
    if not files:
        raise LayoutError(f"{poses}: holds no pose file ({', '.join(POSE_SUFFIXES)})")
    return with_poses(listing, poses, files, given.joints, given.units)


def _own_shards(folder: Path) -> list[Path]:
    """The shards that a manifest lists; [] where there is none of ours."""
    if not (folder / MANIFEST).is_file():
        return []
    try:
        return shard_files(folder)
    except ShardError as error:
        raise LayoutError(str(error)) from None


def _pose_lists(folder: Path) -> list[Path]:
    """JSON and .mat files of a known layout in a folder, its annotations/, or else the folders of its splits; of
    COCO's, those with poses. LayoutError where one cannot be read as JSON."""
    folders = [folder, *(folder / name for name in _LIST_FOLDERS)]
    mats = [path for one in folders for path in sorted(one.glob("*.mat"))]
    found = [path for path in mats if is_mpii_mat(path)]
    found += [path for one in folders for path in _json_lists(one)]
    if found:
        return found
    inside = [one for one in sorted(folder.iterdir()) if one.is_dir() and _plain_folder(one)]
    return [path for one in inside for path in _json_lists(one)]


def _plain_folder(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in ("__MACOSX", *_LIST_FOLDERS)


def _json_lists(folder: Path) -> list[Path]:
    there = [path for path in sorted(folder.glob("*.json")) if _plain(path) and not _of_an_image(path)]
    if len(there) > _FEW_JSON:
        return []
    left_out = ("captions", "instances", "panoptic", "stuff", "image_info")
    return [
        path for path in there if not path.name.startswith(left_out) and path.stat().st_size <= 2 << 30 and _kind(path)
    ]


def _of_an_image(path: Path) -> bool:
    """Whether a JSON file is called as one image: OpenPose's, img2dataset's, labelme's."""
    called = path.stem.endswith("_keypoints") and path.stem != "person_keypoints"
    return called or any(path.with_suffix(one).is_file() for one in (".jpg", ".png", ".jpeg"))


def _root(path: Path, images: Path | str | None) -> Path:
    if images is not None:
        return Path(images)
    return path.parent.parent if path.parent.name in _LIST_FOLDERS else path.parent


def _unknown(path: Path) -> str:
    """Why a file is not read, and what to do."""
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return "is a packed archive; unpack it and name the folder"
    if suffix in _TABLES:
        return (
            "is a table in a binary form; if it has addresses, use `humansd data build laion`; if it holds images, "
            "save them as files with a metadata.jsonl (file_name, text), and name the folder"
        )
    return f"is of no known layout; name {KNOWN}"


def _non_empty(path: Path, listing: Listing) -> Listing:
    if listing.items:
        return listing
    if path.is_dir():
        packed = [one for one in sorted(path.iterdir()) if one.suffix.lower() in (*_ARCHIVES, *_TABLES)]
        if packed:
            raise LayoutError(f"{packed[0]}: {_unknown(packed[0])}")
    raise LayoutError(f"{path}: holds no image; name {KNOWN}")
