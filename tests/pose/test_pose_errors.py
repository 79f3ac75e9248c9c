"""Every way a pose file can be wrong gives one clear error that names file, field and remedy."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from humansd.core.errors import DiskError
from humansd.pose import HUMANART21, OPENPOSE18, People, PoseError
from humansd.pose.files import MAX_FILE_BYTES
from humansd.pose.formats import convert_published_npz, read_image_records, read_poses, write_poses
from pose_cases import pickled_npz, standing

GOOD = [float(v) for j in range(18) for v in (j, j, 1)]


def frame(**person: Any) -> dict[str, Any]:
    whole = {"pose_keypoints_2d": GOOD} | person
    return {"people": [whole], "canvas_width": 50, "canvas_height": 60}


def coco(image: dict[str, Any] | None = None, **note: Any) -> dict[str, Any]:
    image = {"id": 1, "file_name": "a.jpg", "width": 50, "height": 60} | (image or {})
    whole = {"id": 1, "image_id": 1, "keypoints": GOOD[:51], "area": 5.0} | note
    return {"images": [image], "annotations": [whole]}


def with_point(index: int, value: Any, count: int = 51) -> list[Any]:
    points: list[Any] = GOOD[:count]
    points[index] = value
    return points


CASES: dict[str, tuple[Any, str, str]] = {
    # name: JSON value, field with problem, remedy
    "no body": (
        frame(pose_keypoints_2d=None),
        r"people\[0\]\.pose_keypoints_2d: is missing",
        "Give 18 joints",
    ),
    "joint count": (
        frame(pose_keypoints_2d=GOOD[:38]),
        r"pose_keypoints_2d: has 38 numbers, not 54",
        "Give 18",
    ),
    "NaN": (
        frame(pose_keypoints_2d=with_point(4, float("nan"), 54)),
        "holds NaN or infinity",
        "Write a missing",
    ),
    "text": (frame(pose_keypoints_2d=with_point(4, "7", 54)), "holds something that is not a num", "Give 18"),
    "no canvas": ({"people": []}, "canvas_width: is missing", r"Add canvas_width .* or give the canvas"),
    "odd canvas": (
        frame() | {"canvas_height": None},
        r"canvas: None is not an image side",
        "Give the image",
    ),
    "people": ({"people": {}}, "people: is missing or not a list", "Nobody is 'people': "),
    "person": ({"people": [5], "canvas_width": 5, "canvas_height": 5}, r"people\[0\]: is not a dict", ""),
    "crowd": ({"people": [{}] * 1001}, "people: 1001 people, the limit is 1000", "Split it"),
    "only frame": ([{"people": 3}], r"\[0\]\.people: is missing or not a list", ""),
    "own key": (frame(humansd={"color": 1}), r"people\[0\]\.humansd: may hold only", ""),
    "own visibility": (frame(humansd={"visibility": [[1], 2]}), r"people\[0\]\.visibility: the shape", ""),
    "own area": (frame(humansd={"area": "x"}), r"humansd\.area: 'x' is not a number", ""),
    "coco joints": (
        coco(keypoints=GOOD[:48]),
        r"annotations\[0\]\.keypoints: has 48 numbers, not 51",
        "Give 17",
    ),
    "coco none": (coco(keypoints=None), r"annotations\[0\]\.keypoints: is missing", "Give 17 joints"),
    "coco text": (coco(keypoints="[1,"), r"annotations\[0\]\.keypoints: is a text but not JSON", "Give 17"),
    "coco NaN": (
        coco(keypoints=with_point(0, float("nan"))),
        r"keypoints: holds NaN",
        "Write a missing joint",
    ),
    "coco huge": (
        coco(keypoints=with_point(0, 10**400)),
        r"keypoints: holds NaN or inf",
        "Write a missing joint",
    ),
    "coco visibility": (
        coco(keypoints=with_point(2, 3)),
        r"annotations\[0\]\.keypoints: a visibility",
        "Use 0 for",
    ),
    "coco image": (coco(image_id=7), r"annotations\[0\]\.image_id: 7 is not the id", "Give every annotation"),
    "coco area": (coco(area=-1), r"annotations\[0\]\.area: -1 is not", ""),
    "coco size": (coco({"width": 0}), r"images\[0\]\.canvas: 0 is not an image side", "Give the image"),
    "coco name": (coco({"file_name": None}), r"images\[0\]: needs an id and a file_name", "Add them"),
    "coco score": (coco(humansd={"score": [1]}), r"annotations\[0\]\.humansd\.score: the shape", ""),
    "coco notes": ({"images": [{"id": 1, "file_name": "a"}]}, "annotations: is missing", "Give a whole COCO"),
    "coco empty": ({"images": [], "annotations": []}, "images: holds no image", "List each image"),
    "coco twice": (
        {"images": [{"id": 1, "file_name": "a"}] * 2, "annotations": []},
        "images: id 1 occurs twice",
        "Give each image its own id",
    ),
    "coco same name": (
        {"images": [{"id": i, "file_name": "a.jpg"} for i in (1, 2)], "annotations": []},
        "images: two images are called 'a'",
        "its own file_name",
    ),
    "coco skeleton": (
        coco() | {"categories": [{"keypoints": ["nose", "tail"]}]},
        r"annotations\[0\]\.keypoints: has 17 joints, not 2",
        "If these joints are one of coco17, .* say so with --joints",
    ),
    "humanart": (
        coco(keypoints_21=GOOD),
        r"annotations\[0\]\.keypoints_21: has 54 numbers, not 63",
        "Give 21",
    ),
    "unknown": ({"shapes": []}, "is JSON, but of no known pose format", "Give COCO or Human-Art JSON"),
    "results": ([{"image_id": 1, "keypoints": []}], "canvas_width: is missing", "give the canvas .*: --canvas WxH"),
    "sixteen": (
        coco(keypoints=GOOD[:48]),
        "keypoints: has 48 numbers, not 51",
        r"one of mpii16, say so with --joints \(joints=\)",
    ),
    "number": (5, "is JSON, but of no known pose format", "Give COCO"),
    "own": (standing().to_json() | {"version": 9}, "version: version 9 is not known", ""),
}


@pytest.mark.parametrize("case", list(CASES))
def test_bad_json_files(tmp_path: Path, case: str) -> None:
    value, problem, remedy = CASES[case]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(value))
    with pytest.raises(PoseError, match=rf"bad\.json: .*{problem}.*{remedy}") as caught:
        read_poses(path)
    assert caught.value.file == str(path)
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty\. Write the poses again"),
        (b" \n", r"is empty"),
        (b'{"people": [', r"line 1, column 13: is not valid JSON .*Mend or export it again"),
        (b"\xff\xfe\x00", r"is neither JSON text in UTF-8 nor npz\. Give a pose file"),
        (b"[" * 200_000, r"is not (usable|valid) JSON"),
        (b"1" * 5000, r"is not usable JSON"),
        (b"PK\x03\x04 broken", r"is not a whole npz file .*Copy it again"),
    ],
)
def test_broken_bytes(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(PoseError, match=rf"bad\.json: {message}"):
        read_poses(path)


def test_missing_large_and_wrongly_named(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=r"no\.json: does not exist\. Check the path"):
        read_poses(tmp_path / "no.json")
    with pytest.raises(PoseError, match=r"holds no \.json or \.npz file"):
        read_poses(tmp_path)
    with pytest.raises(PoseError, match=r"is a folder"):
        read_image_records(tmp_path)
    big = tmp_path / "big.json"
    big.touch()
    os.truncate(big, MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(PoseError, match=r"big\.json: has 64 MiB, the limit is 64 MiB\. Split it"):
        read_poses(big)
    good = tmp_path / "good.json"
    write_poses(good, {"good": standing()}, "coco")
    with pytest.raises(PoseError, match=r"good\.json: looks like coco, not openpose\. Leave out the format"):
        read_poses(good, format="openpose")
    with pytest.raises(PoseError, match=r"good\.json: is not an npz file"):
        read_poses(good, format="npz")
    with pytest.raises(PoseError, match=r"format 'bvh' is not known\. Use one of coco"):
        read_poses(good, format="bvh")
    with pytest.raises(PoseError, match=r"canvas: 0 is not an image side"):
        read_poses(good, canvas=(0, 1))


def test_same_name_in_two_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_poses(tmp_path / name, {"x": standing()}, "coco")
    with pytest.raises(PoseError, match=r"b\.json: 'x' is in another file of the folder too\. Rename"):
        read_poses(tmp_path)


@pytest.mark.parametrize(
    ("poses", "format", "message"),
    [
        (
            {"a": standing(), "b": standing()},
            "openpose",
            "one openpose file holds one image, not 2. Give an exist",
        ),
        (
            {"a": People.empty((5, 5), HUMANART21)},
            "openpose",
            "has no place for 'humanart21'. Use People.to_skel",
        ),
        (
            {"a": People.empty((5, 5), OPENPOSE18)},
            "humanart",
            "has no place for 'openpose18'. Use People.to_skel",
        ),
        (
            {"a": standing(), "b": standing().to_skeleton(OPENPOSE18)},
            "coco",
            "coco17, openpose18 do not fit one",
        ),
        (
            {"a": People.of(standing().xy, (9, 9), extras=[{"area": 1}])},
            "coco",
            r"a\[0\]: the extra 'area' has the",
        ),
        (
            {"a": People.of(standing().xy, (9, 9), extras=[{"humansd": 1}])},
            "openpose",
            "the extra 'humansd' has",
        ),
        (
            {"a": People.of(standing().xy, (9, 9), extras=[{"x": {1}}])},
            "npz",
            "extras: is not a plain JSON value",
        ),
        ({"a": standing()}, "bvh", "format 'bvh' is not known. Use one of"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, poses: dict[str, People], format: str, message: str) -> None:
    with pytest.raises(PoseError, match=rf"out\.json: .*{message}"):
        write_poses(tmp_path / "out.json", poses, format)
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"none/a\.json: cannot be written .*; make the folder .*none first"):
        write_poses(tmp_path / "none" / "a.json", {"a": standing()}, "coco")
    with pytest.raises(PoseError, match=r"name: '\.\./a' is not a file name\. Rename it"):
        write_poses(tmp_path, {"../a": standing()}, "openpose")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xy": None}, "xy: is missing. The arrays are xy, score"),
        ({"xy": np.zeros((16, 2))}, "score: has shape"),
        ({"xy": np.full((17, 2), np.nan)}, r"meta\.pictures\[0\]\.xy: holds NaN"),
        ({"score": np.zeros(17, dtype="U3")}, "score: has shape"),
        ({"area": np.zeros((1, 1))}, "area or meta: has the wrong form"),
        ({"area": np.zeros(0)}, r"meta\.pictures\[0\]: has fewer joints than people"),
        ({"meta": np.frombuffer(b'{"version": 1, "pictures": []}', np.uint8)}, "xy: has joints of nobody"),
        ({"meta": np.frombuffer(b'{"version": 2}', np.uint8)}, "meta: is not of version 1"),
        ({"meta": np.frombuffer(b'{"version": 1, "pictures": [3]}', np.uint8)}, r"pictures\[0\]: is broken"),
    ],
)
def test_bad_npz_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.npz"
    write_poses(path, {"a": standing()}, "npz")
    arrays = dict(np.load(path)) | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(PoseError, match=rf"bad\.npz: .*{message}"):
        read_poses(path)


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("humansd.pose.files.MAX_UNPACKED_BYTES", 8 * 2**20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xy.npy", "w") as member:
        for _ in range(9):
            member.write(bytes(2**20))
    with pytest.raises(PoseError, match=r"bomb\.npz: unpacks to 9 MiB, the limit is 8 MiB\. Split it"):
        read_poses(path)


# -- the published, pickled form ---------------------------------------------------------------------------


class Hostile:
    """Unpickling an instance would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (str(self.target), "w")


def test_published_npz_needs_the_size_of_its_image(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, np.array([{"keypoints": np.zeros((17, 3))}], dtype=object))
    with pytest.raises(PoseError, match=r"p\.npz: arr_0: holds HumanSD's published form, .*--canvas WxH"):
        read_poses(path)


def test_hostile_pickles_run_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    array = np.array([{"keypoints": Hostile(target)}], dtype=object)
    payloads = [pickle.dumps(array, protocol=p) for p in (2, 3, 4)]
    payloads.append(b"cnumpy\nload\n(S'x'\ntR.")
    payloads.append(b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.")
    payloads.append(b"cnumpy\ndtype\n(N}S'real'\nS'x'\nstb.")  # would set dtype.real = "x"
    payloads.append(b"cbuiltins\neval\n(S'1'\ntR.")
    payloads.append(b"cbuiltins\ndict.fromkeys\n(S'1'\ntR.")
    for payload in payloads:
        path = pickled_npz(tmp_path / "h.npz", payload)
        with pytest.raises(PoseError, match=r"h\.npz: arr_0: cannot be converted safely \(it asks (for|to)"):
            convert_published_npz(path, (9, 9))
    assert not target.exists()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "cannot be converted safely"),
        (b"cnumpy\ndtype\n(S'V8'\ntR.", "cannot be converted safely"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x09tS'b'\ntR.",
            "it asks for an unusual array",
        ),
        (pickle.dumps(5), "it is not an array of dicts"),
        (pickle.dumps(np.zeros(3)), r"arr_0\[0\]: is not a dict of keypoints"),
        (pickle.dumps([{"keypoints": [1, 2]}]), r"arr_0\[0\]: keypoints have shape \(2,\)"),
        (pickle.dumps([{"area": 2}]), r"arr_0\[0\]: is not a dict of keypoints"),
        (pickle.dumps([{"keypoints": np.full((17, 3), np.nan)}]), "or are not finite.* Give 17 rows"),
        (pickle.dumps([{}] * 1001), "arr_0: 1001 people, the limit is 1000"),
    ],
)
def test_bad_published_files(tmp_path: Path, payload: bytes, message: str) -> None:
    with pytest.raises(PoseError, match=message):
        convert_published_npz(pickled_npz(tmp_path / "p.npz", payload), (9, 9))


def test_published_file_without_the_array(tmp_path: Path) -> None:
    write_poses(tmp_path / "ours.npz", {"a": standing()}, "npz")
    with pytest.raises(PoseError, match=r"ours\.npz: arr_0: is missing\. Try read_poses"):
        convert_published_npz(tmp_path / "ours.npz", (9, 9))
    np.savez(tmp_path / "plain.npz", np.zeros(3))
    with pytest.raises(PoseError, match="it is not an array of dicts"):
        convert_published_npz(tmp_path / "plain.npz", (9, 9))
