"""MPII Human Pose: its own .mat file, and the JSON that pose estimators' code is trained on.

Both have 16 joints, which are put on COCO-17 without its nose, eyes and ears; pelvis, thorax, neck and the top of the
head have no place there. Both count pixels from 1, as MATLAB does (so HRNet's reader of that JSON, its mpii.py).
MPII has no captions: what people do ("curling") is kept in the extras.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.build.item import Item
from humansd.build.layouts.annotations import likely_roots
from humansd.build.layouts.image_finder import ImageFinder
from humansd.build.layouts.records import (
    MAX_LIST_BYTES,
    LayoutError,
    Listing,
    fresh,
    numbered,
    read_json,
    stored_size,
)
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

# In MPII's order (Andriluka et al., CVPR 2014).
MPII_JOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("pelvis", "thorax", "upper_neck", "head_top"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
)
_RELEASE = "RELEASE"  # the variable of the .mat
_JOINTS = len(MPII_JOINTS)


def read_mpii_json(path: Path, images: Path) -> Listing:
    """A record for each person: image, joints (16 x 2), joints_vis (16; 0: not labelled)."""
    by_image: dict[str, list[Any]] = defaultdict(list)
    items: list[Item] = []
    for place, record in enumerate(read_json(path)):
        name = record.get("image") if isinstance(record, dict) else None
        if isinstance(name, str) and name:
            by_image[name].append(record)
        else:
            items.append(fresh({"entry": place}).drop("list", "a person without an image", str(record)))
    finder = ImageFinder(images, [images, *likely_roots(images, path)], path.stem).claim(by_image)
    for name, records in by_image.items():
        file = finder.find(name)
        item = fresh({"file": file or name})
        try:
            people = [_from_json(record) for record in records]
        except (KeyError, TypeError, ValueError) as error:
            items.append(item.drop("list", "the pose cannot be read", f"{name}: {error}"))
            continue
        items.append(_posed(item, finder, file, people))
    return Listing("mpii", images, numbered(items))


def _from_json(record: dict[str, Any]) -> NDArray[np.float64]:
    values = {"joints": record["joints"], "joints_vis": record.get("joints_vis", [1] * _JOINTS)}
    for key, value in values.items():
        if len(value) != _JOINTS:
            raise ValueError(f"{key} has {len(value)} joints, not {_JOINTS}")
    xy = np.array(values["joints"], np.float64).reshape(_JOINTS, 2)
    seen = np.array(values["joints_vis"], np.float64).reshape(_JOINTS) > 0
    seen &= np.isfinite(xy).all(axis=1) & (xy > 0).any(axis=1)
    return np.concatenate([xy - 1, 2.0 * seen[:, None]], axis=1)


def _posed(item: Item, finder: ImageFinder, file: str | None, people: list[NDArray[np.float64]]) -> Item:
    """The item with these people: (16, 3) x, y and visibility (0 absent, 1 hidden, 2 visible) each."""
    if file is None:
        return finder.missing(item, str(item.origin["file"]))
    size = stored_size(finder.base / file)
    if size is None:
        return item.drop("list", "not a readable image", file)
    points = np.zeros((len(people), len(COCO17), 3))
    for joint, name in enumerate(MPII_JOINTS):
        if name in COCO17.joints:
            points[:, COCO17.index(name)] = [one[joint] for one in people]
    return item.but(people=People.of(points[..., :2], size, visibility=points[..., 2]).with_joints())


# -- MATLAB ------------------------------


def is_mpii_mat(path: Path) -> bool:
    """Whether a .mat file has MPII's variable; only its headers are read."""
    from scipy.io import whosmat

    try:
        return any(name == _RELEASE for name, _, _ in whosmat(path))
    except Exception:  # damage, or MATLAB 7.3, which scipy does not read
        return False


def read_mpii_mat(path: Path, images: Path) -> Listing:
    """mpii_human_pose_v1_u12_1.mat, as it is published: an item an image.

    Images of the test set have no poses, which an estimator may find; extras["about"] says the split and, where it is
    known, what people do. Where a person of the training set has no pose the image is left out: who is there without a
    pose would be learnt as background.

    Raises:
        LayoutError: not MPII's file, or of MATLAB 7.3, or damaged.
    """
    release = _release(path)
    finder = ImageFinder(images, [images, *likely_roots(images, path)], path.stem)
    entries = np.atleast_1d(release.annolist)
    finder.claim(map(_name_of, entries))
    train = np.zeros(len(entries), bool)
    known = np.atleast_1d(getattr(release, "img_train", []))[: len(entries)]
    train[: len(known)] = known.astype(bool)
    acts = list(np.atleast_1d(getattr(release, "act", [])))
    acts += [None] * (len(entries) - len(acts))
    rows = zip(entries, train, acts)
    return Listing("mpii", images, numbered(_mat_item(n, *row, finder) for n, row in enumerate(rows)))


def _release(path: Path) -> Any:
    from scipy.io import loadmat

    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise LayoutError(f"{path}: more than {MAX_LIST_BYTES >> 30} GB; MPII's own file has some 12 MB")
        found = loadmat(path, variable_names=[_RELEASE], squeeze_me=True, struct_as_record=False)
    except NotImplementedError:
        raise LayoutError(f"{path}: is of MATLAB 7.3; save it anew with save(..., '-v7')") from None
    except LayoutError:
        raise
    except Exception as error:  # damage makes scipy raise nearly anything
        raise LayoutError(f"{path}: cannot be read ({error}); fetch it again") from None
    release = found.get(_RELEASE)
    if not hasattr(release, "annolist"):
        raise LayoutError(f"{path}: has no {_RELEASE}.annolist, so it is not MPII's; name mpii_human_pose_v1_u12_1.mat")
    return release


def _name_of(entry: Any) -> Any:
    return getattr(getattr(entry, "image", None), "name", None)


def _mat_item(number: int, entry: Any, train: bool, act: Any, finder: ImageFinder) -> Item:
    name = _name_of(entry)
    if not isinstance(name, str) or not name:
        return fresh({"entry": number}).drop("list", "an entry without an image", str(number))
    texts = {key: _text(getattr(act, of, None)) for key, of in (("activity", "act_name"), ("kind", "cat_name"))}
    about = {"split": "train" if train else "test", **{key: text for key, text in texts.items() if text}}
    file = finder.find(name)
    item = fresh({"file": file or name}, extras={"about": about})
    persons = list(_structs(getattr(entry, "annorect", [])))
    points = [list(_structs(getattr(getattr(person, "annopoints", None), "point", []))) for person in persons]
    if not train and not any(points):
        return item if file else finder.missing(item, name)
    if not all(points) or not points:
        return item.drop("list", "a person without a pose", name)
    try:
        people = [_from_points(of_person) for of_person in points]
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        return item.drop("list", "the pose cannot be read", f"{name}: {error}")
    return _posed(item, finder, file, people)


def _from_points(points: list[Any]) -> NDArray[np.float64]:
    """(16, 3) of MATLAB's points: id, x, y, and is_visible, which may be a number, a text or missing."""
    found = np.zeros((_JOINTS, 3))
    for point in points:
        joint, xy = int(point.id), (float(point.x) - 1, float(point.y) - 1)
        if not 0 <= joint < _JOINTS:
            raise ValueError(f"joint {joint}; 0 to {_JOINTS - 1} are known")
        if np.isfinite(xy).all():
            hidden = str(getattr(point, "is_visible", 1)) == "0"
            found[joint] = (*xy, 1 if hidden else 2)
    return found


def _structs(value: Any) -> Iterator[Any]:
    """The structs of a MATLAB value, of which there may be one, several or none."""
    return (one for one in np.atleast_1d(np.asarray(value, object)).reshape(-1) if hasattr(one, "_fieldnames"))


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
