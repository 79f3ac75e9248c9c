"""Poses of other tools for the images of a listing: OpenPose's files, YOLO's labels, exports of annotation tools.

What a pose file may be like is `pose.adapters`' business; here its people find their images, one fault costing one
image. Lists of images with poses, as COCO's and MPII's, have readers of their own, which are asked first.
"""

from __future__ import annotations

import functools
import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from humansd.build.item import Item
from humansd.build.layouts.annotations import PEOPLE
from humansd.build.layouts.folders import is_label
from humansd.build.layouts.image_finder import same_split
from humansd.build.layouts.records import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    Listing,
    Remarks,
    files_below,
    fresh,
    numbered,
    upright_size,
)
from humansd.pose.adapters import adapter_of
from humansd.pose.assemble import Reading, build
from humansd.pose.beside import lines_as_list, names_beside
from humansd.pose.errors import PoseError
from humansd.pose.files import parse_json, plain_text, read_bytes
from humansd.pose.formats import read_poses
from humansd.pose.joints import names_in_order
from humansd.pose.labels import cvat_frames, is_yolo, yolo_frames
from humansd.pose.people import People
from humansd.pose.raw import RawFrame

POSE_SUFFIXES = (".json", ".xml", ".npz", ".txt")
_OWN_FOLDERS = {"images", "image", "imgs", "img", "labels", "json", "poses", "pose", "keypoints", "annotations"}
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the names of files
_MAX_YAML = 1 << 20  # bytes
_SNIFFED = 5  # files of a folder that are looked at to tell whether they hold poses
Size = tuple[int, int]


@dataclass(frozen=True)
class Posed:
    """What a file says of one image. name: of the image, as the file calls it; people: or what is wrong with them;
    without: how many more it has without a body, such as hands alone."""

    file: Path
    name: str
    people: People | PoseError
    without: int = 0


class ImageNames:
    """Which image of a listing a name in a pose file, or the name of a pose file, means.

    Folders that are called after what they hold (images/, labels/) do not count. train/1 never means val/1.jpg.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = {file: file for file in files}
        self._by: list[dict[Any, list[str]]] = [defaultdict(list) for _ in range(3)]
        for file in files:
            path = PurePosixPath(file)
            for table, key in zip(self._by, (_bare(path.with_suffix("").parts), path.name, path.stem)):
                table[key].append(file)

    def find(self, name: str, by_folder: bool = False) -> str | None:
        """The image's file; None where there is none or where several could be meant. by_folder: folders of the name
        and of the image must be the same, as far as both say one; else photos/1.jpg is found for out/1 too."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        for skipped in range(len(parts)):
            file = self.files.get("/".join(parts[skipped:]))
            if file is not None:
                return file
        last = parts[-1]
        is_file = PurePosixPath(last).suffix.lower() in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)
        stem = PurePosixPath(last).stem if is_file else last
        keys = [(0, _bare(parts)), (0, _bare([*parts[:-1], stem])), (1, last), (2, last), (2, stem)]
        for table, key in keys:
            found = self._by[table].get(key, [])
            if len(found) == 1 and _may_be(parts, found[0], by_folder):
                return found[0]
        if not _UPLOADED.match(last):
            return None
        uploaded = [(1, _UPLOADED.sub("", last)), (2, _UPLOADED.sub("", stem))]  # from folders of the server
        few = (self._by[table].get(key, []) for table, key in uploaded)
        return next((found[0] for found in few if len(found) == 1), None)

    def tells_folder(self, name: str) -> bool:
        """Whether the name says the folder of its image."""
        file, own = self.find(name), _folders(name.replace("\\", "/").split("/"))
        return file is not None and own != () and own == _folders(file.split("/"))


def _folders(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts[:-1] if part not in ("", ".", "..") and part.lower() not in _OWN_FOLDERS)


def _may_be(parts: Sequence[str], file: str, by_folder: bool) -> bool:
    """Whether a name may mean the file as far as their folders tell."""
    own, there = _folders(parts), _folders(file.split("/"))
    few = min(len(own), len(there))
    if not few or own[-few:] == there[-few:]:
        return True
    return not by_folder and same_split("/".join(own), "/".join(there))


def _bare(parts: Sequence[str]) -> tuple[str, ...]:
    """A path without the folders that are called after what they hold: images/train/a and labels/train/a are one."""
    return (*_folders(parts), parts[-1])


def pose_files_in(folder: Path, names: ImageNames) -> list[Path]:
    """The files below a folder that hold poses, as far as the first few of each place and kind tell: those that are
    called as an image is, as OpenPose's and YOLO's, and lists for several images."""
    groups: dict[tuple[Path, str, bool], list[Path]] = defaultdict(list)
    empty = defaultdict(list)  # YOLO's labels of images with nobody in them
    for path in files_below(folder, (".json", ".xml", ".txt")):
        if path.suffix.lower() == ".txt" and path.stat().st_size == 0:
            empty[path.parent].append(path)
        elif path.suffix.lower() != ".txt" or is_label(path):
            one = names.find(_image_name(path, folder)) is not None
            groups[path.parent, path.suffix.lower(), one].append(path)
    chosen: list[Path] = []
    for (place, suffix, one), files in groups.items():
        few = files[:_SNIFFED]
        if suffix == ".txt":
            chosen += files if any(map(_holds_poses, few)) else []
            chosen += empty.pop(place, [])
        elif one:
            chosen += files if any(map(_holds_poses, few)) else []
        else:
            chosen += [path for path in few if _holds_poses(path)]
    return sorted(chosen)


def _holds_poses(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _frames(path, Reading((1, 1))) != []
    except PoseError:
        return False


@dataclass(frozen=True)
class YoloNames:
    """What the YAML of a YOLO data set says of its labels. classes: those that are people; () where that is not said.
    joints: their names, in order."""

    classes: tuple[int, ...] = ()
    joints: tuple[str, ...] = ()


def yolo_names(folder: Path) -> YoloNames:
    """Of the first .yaml in a folder or the one above that names classes, as ultralytics and Roboflow write it."""
    for path in (one for place in (folder, folder.parent) for one in sorted(place.glob("*.y*ml"))):
        try:
            data = yaml.safe_load(path.read_bytes()[:_MAX_YAML])
        except (yaml.YAMLError, OSError, ValueError):
            continue
        if isinstance(data, dict) and isinstance(data.get("names"), (list, dict)):
            named = data["names"] if isinstance(data["names"], dict) else dict(enumerate(data["names"]))
            classes = [number for number, name in named.items() if str(name).strip().lower() in PEOPLE]
            listed = data.get("kpt_names")
            first = next(iter(listed.values()), None) if isinstance(listed, dict) else listed
            texts = isinstance(first, list) and all(isinstance(name, str) for name in first)
            one = len(named) > 1 and all(isinstance(number, int) for number in classes)
            return YoloNames(tuple(classes) if one else (), names_in_order(first) if texts else ())
    return YoloNames()


def with_poses(
    listing: Listing, root: Path, files: Sequence[Path], joints: str | None = None, units: str | None = None
) -> Listing:
    """The listing, its images having the people of these pose files, which lie below `root`; what is said of no image,
    or a second time, is left out and told. joints, units: a joint set, and of coordinates, before what the files
    say."""
    items = list(listing.items)
    reader = _Reader(root, joints, units, yolo_names(root))
    places = {item.origin["file"]: n for n, item in enumerate(items) if item.left_out is None and "file" in item.origin}
    names = ImageNames(list(places))
    taken: dict[str, Path] = {}
    size_of = _size_of(names, listing.root)
    told = list(itertools.chain.from_iterable(reader.read(path, size_of) for path in files))
    own = {posed.name for posed in told if names.tells_folder(posed.name)}
    told.sort(key=lambda posed: posed.name not in own)  # they come before those that could mean the same image
    for posed in told:
        where = posed.file.relative_to(root).as_posix()
        file = names.find(posed.name, bool(own)) if posed.name else None
        if file is None:
            reason = "a pose without an image" if posed.name else "a pose that cannot be read"
            detail = f"{where}: there is no image {posed.name}" if posed.name else str(posed.people)
            items.append(fresh({"pose": where}).drop("list", reason, detail))
        elif file in taken:
            detail = f"{where}: {file} has one of {taken[file].name}"
            items.append(fresh({"pose": where}).drop("list", "a second pose of an image", detail))
        else:
            taken[file] = posed.file
            items[places[file]] = _posed(items[places[file]], posed, where, reader.remarks)
    unposed = [file for file in places if file not in taken and items[places[file]].people is None]
    few = ", ".join(unposed[:3]) + (" ..." if len(unposed) > 3 else "")
    notes = list(listing.notes)
    notes += [f"{len(unposed)} of {len(places)} images have no pose in the pose files ({few})"] if unposed else []
    notes += [f"{reader.others} labels are of other classes than people"] if reader.others else []
    return Listing(f"{listing.layout} with poses", listing.root, numbered(items), (*notes, *reader.remarks.lines()))


def _posed(item: Item, posed: Posed, where: str, remarks: Remarks) -> Item:
    people = posed.people
    if isinstance(people, PoseError):
        return item.drop("list", "the pose cannot be read", f"{item.origin['file']}: {people}")
    kept = remarks.bare(people)
    without = people.n - kept.n + posed.without
    extras = {**item.extras, **({"people_without_pose": without} if without else {})}
    return item.but(people=kept, origin={**item.origin, "pose": where}, extras=extras)


def with_listed_poses(listing: Listing, posed: Listing, of: Path) -> Listing:
    """The listing, its images having the people, and what else they lack, of a list of images `of`, with poses or with
    captions alone."""
    known = {item.origin["file"]: item for item in posed.items if "file" in item.origin and not item.left_out}
    twice = []  # left out, of an image that is used
    for one in posed.items:
        if one.left_out and known.setdefault(one.origin.get("file", ""), one) is not one:
            twice.append(one)
    items = []
    for item in listing.items:
        other = known.pop(item.origin.get("file", ""), None)
        if item.left_out or other is None:
            items.append(item)
        elif other.left_out:
            items.append(item.but(left_out=other.left_out))
        else:
            items.append(
                item.but(
                    people=item.people if other.people is None else other.people,
                    caption=item.caption or other.caption,
                    scene=item.scene or other.scene,
                    license=item.license or other.license,
                    extras={**other.extras, **item.extras},
                    origin={**other.origin, **item.origin, **({} if other.people is None else {"pose": of.name})},
                )
            )
    items += [other if other.left_out else _imageless(other, of) for other in known.values()] + twice
    layout = f"{listing.layout} with poses" if any(one.people is not None for one in items) else listing.layout
    return Listing(layout, listing.root, numbered(items), (*listing.notes, *posed.notes))


def _imageless(item: Item, of: Path) -> Item:
    detail = f"{of.name}: {item.origin['file']} is not among the images that are imported"
    return item.drop("list", "a pose without an image", detail)


def _size_of(names: ImageNames, root: Path) -> Callable[[str], Size | None]:
    @functools.cache
    def size(name: str) -> Size | None:
        file = names.find(name)
        return None if file is None else upright_size(root / file)

    return size


def _image_name(path: Path, root: Path) -> str:
    """What the image of a pose file is called: as the file, less what OpenPose appends."""
    name = path.relative_to(root).with_suffix("").as_posix()
    return name.removesuffix("_keypoints")


@dataclass
class _Reader:
    """Reads pose files below `root`. joints, units, yolo: what is known of them. others: labels of no person."""

    root: Path
    joints: str | None
    units: str | None
    yolo: YoloNames
    remarks: Remarks = field(default_factory=Remarks)
    others: int = 0

    def read(self, path: Path, size_of: Callable[[str], Size | None]) -> Iterator[Posed]:
        """What a pose file says of each image. An image of which one person cannot be read has a fault and no people:
        who is there without a pose would be learnt as background."""
        own = _image_name(path, self.root)
        if path.suffix.lower() == ".txt" and path.stat().st_size == 0:  # YOLO's label of an image with nobody in it
            size = size_of(own)
            yield Posed(path, own, PoseError("is empty", file=path) if size is None else People.empty(size))
            return
        reading = Reading(units=self.units, joints=self.joints, beside=lambda name: size_of(own) or size_of(name))
        with self.remarks.of(path.name):
            try:
                found = self._read(path, own, reading, size_of)
            except PoseError as error:
                found = [Posed(path, own, error if error.file else error.at(path))]
        yield from found
        for odd in reading.odd:
            yield Posed(path, "", odd if odd.file else odd.at(path))

    def _read(self, path: Path, own: str, reading: Reading, size_of: Callable[[str], Size | None]) -> list[Posed]:
        frames = None if path.suffix.lower() == ".npz" else _frames(path, reading)
        if frames is None:
            found = read_poses(path, canvas=size_of(own))
            return [Posed(path, own if len(found) == 1 else name, one) for name, one in found.items()]
        if len(frames) == 1:
            name = own if size_of(own) is not None else _name_beside(own, frames[0].image)
            return [self._posed(frames[0], path, name, reading)]
        return [self._posed(one, path, one.image or one.name, reading) for one in frames]

    def _posed(self, frame: RawFrame, path: Path, name: str, reading: Reading) -> Posed:
        if path.suffix.lower() == ".txt" and self.yolo.classes:
            persons = [one for one in frame.persons if one.extras.get("class") in (None, *self.yolo.classes)]
            self.others += len(frame.persons) - len(persons)
            frame.persons = persons
        bodies = [one for one in frame.persons if one.broken or one.scores is not None or _is_there(one.points)]
        without = len(frame.persons) - len(bodies)
        frame.persons = bodies
        names = self.yolo.joints if path.suffix.lower() == ".txt" else reading.names
        one = Reading(units=reading.units, joints=reading.joints, beside=reading.beside, names=names)
        try:
            (people,) = build([frame], one).values()
            fault = one.odd[0] if one.odd else None
        except PoseError as error:
            people, fault = None, error
        if people is None or fault is not None:
            fault = fault or PoseError("holds nobody")
            return Posed(path, name, fault if fault.file else fault.at(path), without)
        return Posed(path, name, people, without)


def _name_beside(own: str, image: str) -> str:
    """What the one image of a file is called: as the file, or as it says, beside it if it says no folder."""
    if not image or "/" in image or "\\" in image:
        return image or own
    return str(PurePosixPath(own).with_name(image))


def _is_there(points: Any) -> bool:
    return points is not None and not (isinstance(points, (list, dict, str)) and not points)


def _frames(path: Path, reading: Reading) -> list[RawFrame] | None:
    """The images of a pose file that is no npz; None where it is of this package. PoseError for any other file."""
    data = plain_text(read_bytes(path), path)
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        return cvat_frames(data, path.stem, reading)
    if not start.startswith((b"{", b"[")):
        if is_yolo(data):
            return yolo_frames(data, path.stem, reading)
        raise PoseError("holds no joints", file=path, remedy="Give class, box and joints a line, as YOLO-pose does.")
    value = parse_json(lines_as_list(data), path)
    reading.names = names_beside(value)
    if isinstance(value, dict) and {"skeleton", "canvas", "people"} <= set(value):
        return None
    adapter, value = adapter_of(value)
    return adapter.frames(value, path.stem, reading)
