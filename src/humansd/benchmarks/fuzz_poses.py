"""What the fuzzer does to pose files: COCO, Human-Art, OpenPose and our own JSON, npz, the published pickled npz."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from humansd.benchmarks.fuzz import Target
from humansd.benchmarks.mutation import as_json, damaged_bytes, damaged_value
from humansd.benchmarks.plain_readers import COCO, HUMANART, JOINTS, Plain, Unknown, plain_poses
from humansd.pose.errors import PoseError
from humansd.pose.formats import convert_published_npz, read_poses
from humansd.pose.people import People

CANVAS = (640, 480)
_PUBLISHED = "published"  # in the names of files that are pickled


def _make(rng: random.Random, folder: Path) -> Path:
    kind = rng.choice((_coco, _coco, _humanart, _openpose, _openpose, _ours))
    if rng.random() < 0.25:
        return _make_npz(rng, folder) if rng.random() < 0.7 else _make_published(rng, folder)
    value = kind(rng)
    text = as_json(rng, damaged_value(rng, value) if rng.random() < 0.75 else value)
    if rng.random() < 0.35:
        text = damaged_bytes(rng, text)
    path = folder / rng.choice(("pose.json", "a_keypoints.json"))
    path.write_bytes(text)
    return path


def _read(path: Path) -> dict[str, Plain]:
    if _PUBLISHED in path.name:
        return {"": plain(convert_published_npz(path, CANVAS))}
    return {name: plain(people) for name, people in read_poses(path, canvas=CANVAS).items()}


def _truth(path: Path) -> dict[str, Plain]:
    if _PUBLISHED not in path.name:
        return plain_poses(path, CANVAS)
    told = path.with_suffix(".truth")
    if not told.exists():
        raise Unknown("a damaged pickle")
    return {"": json.loads(told.read_text())}


def plain(people: People) -> Plain:
    """`People` as the independent readers give them."""
    return {
        "skeleton": people.skeleton.name,
        "canvas": [float(side) for side in people.canvas],
        "xy": people.xy.tolist(),
        "score": people.score.tolist(),
        "visibility": people.visibility.astype(float).tolist(),
        "area": ["nan" if a != a else a for a in people.area.tolist()],
        "extras": list(people.extras),
    }


def differs(ours: Any, theirs: Any, where: str = "") -> str:
    """Where two JSON values differ; NaN equals NaN, numbers count by value and true is no number."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if set(ours) != set(theirs):
            return f"{where}: {sorted(map(str, set(ours) ^ set(theirs)))[:3]} on one side only"
        return next(filter(None, (differs(ours[key], theirs[key], f"{where}.{key}") for key in ours)), "")
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} and {len(theirs)} entries"
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next(filter(None, (differs(a, b, f"{where}[{i}]") for i, (a, b) in pairs)), "")
    same = ours == theirs or (ours != ours and theirs != theirs)
    return "" if same and isinstance(ours, bool) == isinstance(theirs, bool) else f"{where}: {ours!r} and {theirs!r}"


# -- whole files, before they are damaged ---------------------------------------------------------------------------


def _number(rng: random.Random, most: float) -> float:
    return rng.choice((rng.randint(0, int(most)), round(rng.uniform(-5, most), 2), rng.uniform(0, most)))


def _flat(rng: random.Random, joints: int, values: Callable[[], float]) -> list[float]:
    return [v for _ in range(joints) for v in (_number(rng, 640), _number(rng, 480), values())]


def _coco(rng: random.Random, names: list[str] = COCO) -> Plain:
    images: list[Plain] = [
        {"id": i, "file_name": f"{rng.choice(('', 'a/', 'b/'))}{rng.choice('xyz')}{i // 2}.jpg"}
        | {"width": 640, "height": 480}
        for i in range(rng.randint(1, 3))
    ]
    notes = []
    for i in range(rng.randint(0, 4)):
        flat = _flat(rng, len(names), lambda: rng.randint(0, 2))
        note: Plain = {"id": i, "image_id": rng.choice(images)["id"], "category_id": 1, "iscrowd": 0, "keypoints": flat}
        note |= rng.choice(({}, {"area": _number(rng, 9e4)}, {"bbox": [1, 2, 3.5, 4], "segmentation": [[1, 2, 3, 4]]}))
        if rng.random() < 0.3:
            note["humansd"] = {"score": [rng.random() for _ in names]} | rng.choice(({}, {"filled": ["area", "bbox"]}))
        notes.append(note)
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}
    return {"images": images, "annotations": notes, "categories": rng.choice(([category], [], [{"id": 1}]))}


def _humanart(rng: random.Random) -> Plain:
    value = _coco(rng)
    value["categories"] = [{"id": 1, "keypoints": HUMANART}]
    for note in value["annotations"]:
        flat = _flat(rng, 21, lambda: rng.randint(0, 2))
        choice = rng.randrange(4)
        note |= {"keypoints": flat[:51], "keypoints_21": flat} if choice else {"keypoints": flat[:51]}
        if choice == 1:
            note["keypoints_21"] = json.dumps(flat)
        note["humansd"] = {}
    return value


def _openpose(rng: random.Random) -> Any:
    def frame() -> Plain:
        joints = rng.choice((18, 18, 25))
        people = [
            {"pose_keypoints_2d": _flat(rng, joints, lambda: rng.choice((0, 1, rng.random()))), "person_id": [i]}
            | rng.choice(({}, {"hand_left_keypoints_2d": [1, 2, 0.5]}, {"humansd": {"area": 5.5}}))
            for i in range(rng.randint(0, 3))
        ]
        size = rng.choice(({}, {"canvas_width": 512, "canvas_height": 768}))
        own = rng.choice(({}, {}, {"humansd": {"name": "some/name"}}, {"humansd": {"skeleton": "coco17"}}))
        return {"version": 1.3, "people": people} | size | own

    return [frame() for _ in range(rng.randint(1, 3))] if rng.random() < 0.2 else frame()


def _person(rng: random.Random, k: int) -> Plain:
    return {
        "xy": [[_number(rng, 640), _number(rng, 480)] for _ in range(k)],
        "score": [rng.choice((0, 1, rng.random())) for _ in range(k)],
        "visibility": [rng.randint(0, 2) for _ in range(k)],
        "area": rng.choice((None, 12, 99.5)),
        "extras": rng.choice(({}, {"id": 3}, {"bbox": [1, 2, 3, 4], "note": "x"})),
    }


def _ours(rng: random.Random) -> Plain:
    skeleton = rng.choice(list(JOINTS))
    people = [_person(rng, len(JOINTS[skeleton])) for _ in range(rng.randint(0, 3))]
    name = rng.choice(({}, {"name": "other"}))
    return {"version": 1, "skeleton": skeleton, "canvas": [640, 480], "people": people} | name


# -- npz ------------------------------------------------------------------------------------------------------------


def _arrays(images: list[Plain], names: list[str]) -> dict[str, np.ndarray]:
    people = [person for image in images for person in image["people"]]
    about = [
        {"name": n, "canvas": p["canvas"], "skeleton": p["skeleton"], "extras": [one["extras"] for one in p["people"]]}
        for n, p in zip(names, images, strict=True)
    ]
    return {
        "xy": np.array([xy for p in people for xy in p["xy"]], np.float64).reshape(-1, 2),
        "score": np.array([s for p in people for s in p["score"]], np.float64),
        "visibility": np.array([v for p in people for v in p["visibility"]], np.uint8),
        "area": np.array([np.nan if p["area"] is None else p["area"] for p in people], np.float64),
        "meta": np.frombuffer(json.dumps({"version": 1, "pictures": about}).encode(), np.uint8),
    }


def _make_npz(rng: random.Random, folder: Path) -> Path:
    names = ["one", "two/three", "four"][: rng.randint(1, 3)]
    arrays = _arrays([_ours(rng) for _ in names], names)
    kind = rng.randrange(4)
    if kind == 0:
        arrays["meta"] = np.frombuffer(as_json(rng, damaged_value(rng, json.loads(arrays["meta"].tobytes()))), np.uint8)
    elif kind == 1:
        name = rng.choice(list(arrays))
        changes: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
            lambda a: a[:-1], lambda a: a[None], lambda a: a.astype(">f4"), lambda a: a.astype("U5"), lambda a: a > 0,
            lambda a: np.asfortranarray(a), lambda a: a.astype(complex), lambda a: np.concatenate([a, a]),
            lambda a: np.full_like(a, 255), lambda a: a.astype(np.float64) * np.nan, lambda a: a.reshape(-1),
            lambda a: a.astype(np.int16), lambda a: a.astype([("x", a.dtype)]),
        )  # fmt: skip
        arrays[name] = rng.choice(changes)(arrays[name])
    files = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    if kind == 2:
        name = rng.choice(list(files))
        files[name] = damaged_bytes(rng, files[name][: rng.choice((128, len(files[name])))]) + files[name][128:]
    data = _zip(files, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    path = folder / "poses.npz"
    path.write_bytes(damaged_bytes(rng, data) if kind == 3 else data)
    return path


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _zip(files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


# -- the published form ---------------------------------------------------------------------------------------------


def _published(payload: bytes) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return _zip({"arr_0.npy": header.getvalue() + payload})


def _make_published(rng: random.Random, folder: Path) -> Path:
    entries = [
        {
            "keypoints": [[_number(rng, 640), _number(rng, 480), rng.random()] for _ in range(17)],
            "score": rng.random(),
            "area": _number(rng, 9e4),
        }
        for _ in range(rng.randint(0, 3))
    ]
    path = folder / f"{_PUBLISHED}.npz"
    whole: Any = damaged_value(rng, entries)
    if rng.random() < 0.4:
        path.with_suffix(".truth").write_text(json.dumps(_published_truth(entries)))
        whole = [{**e, "keypoints": np.array(e["keypoints"], rng.choice(("<f8", ">f8")))} for e in entries]
    array = np.empty(len(whole), object)
    array[:] = whole
    protocol = rng.choice((3, 4, 5))
    try:
        payload = pickle.dumps(array if rng.random() < 0.8 else whole, protocol)
    except RecursionError:  # lists of three hundred lists, thrice
        payload = pickle.dumps([], protocol)
    if not path.with_suffix(".truth").exists() and rng.random() < 0.7:
        payload = damaged_bytes(rng, payload)
    path.write_bytes(_published(payload))
    return path


def _published_truth(entries: list[Plain]) -> Plain:
    scores = [[row[2] for row in e["keypoints"]] for e in entries]
    return {
        "skeleton": "coco17",
        "canvas": list(CANVAS),
        "xy": [[row[:2] for row in e["keypoints"]] for e in entries],
        "score": scores,
        "visibility": [[2 if s > 0 else 0 for s in row] for row in scores],
        "area": [e["area"] if e["area"] >= 0 else "nan" for e in entries],
        "extras": [{"score": e["score"]} for e in entries],
    }


# -- attacks: little files that ask for much ------------------------------------------------------------------------


def _text_attack(text: Callable[[], bytes], name: str = "pose.json") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(text())
        return folder / name

    return make


def _pickle_attack(payload: Callable[[], bytes]) -> Callable[[Path], Path]:
    return _text_attack(lambda: _published(payload()), f"{_PUBLISHED}.npz")


def _meta_attack(meta: Callable[[], bytes], **arrays: np.ndarray) -> Callable[[Path], Path]:
    def make() -> bytes:
        whole = _arrays([], []) | {"meta": np.frombuffer(meta(), np.uint8)} | arrays
        return _zip({f"{name}.npy": _npy(array) for name, array in whole.items()})

    return _text_attack(make, "poses.npz")


_CROWD = b'{"image_id":1,"keypoints":[' + b",".join([b"0"] * 51) + b"]},"
_IMAGE = b'{"images":[{"id":1,"file_name":"a.jpg","width":9,"height":9}],"annotations":['


def _nested_lists() -> bytes:
    """Forty lists, each twice in the next: 2^40 when written out."""
    body = b"".join(b"]q" + bytes([i]) + b"(h" + bytes([i - 1]) + b"h" + bytes([i - 1]) + b"e" for i in range(1, 40))
    return b"\x80\x04]q\x00K\x01a" + body + b"]h'a."


def _colliding_keys() -> bytes:
    """Numbers that hash alike: a dict of n of them takes n^2 steps."""
    keys = (((2**61 - 1) * i).to_bytes(10, "little") for i in range(1, 90_000))
    return b"\x80\x04](}(" + b"".join(b"\x8a\x0a" + key + b"N" for key in keys) + b"ue."


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pose.json")
    return folder / "pose.json"


def _device(folder: Path) -> Path:
    (folder / "pose.json").symlink_to("/dev/zero")
    return folder / "pose.json"


def _lying_header(folder: Path) -> Path:
    """An array header that asks for 4 TB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 2, 250_000)})
    files = {f"{name}.npy": _npy(array) for name, array in _arrays([], []).items()}
    (folder / "poses.npz").write_bytes(_zip(files | {"xy.npy": header.getvalue()}))
    return folder / "poses.npz"


def _lying_size(folder: Path) -> Path:
    """A member said to have 100 bytes that unpacks to 100 MB."""
    files = {f"{name}.npy": b"" for name in ("xy", "score", "visibility", "area")}
    data = bytearray(_zip({"meta.npy": bytes(100 << 20)} | files))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")
    (folder / "poses.npz").write_bytes(data)
    return folder / "poses.npz"


ATTACKS: dict[str, Callable[[Path], Path]] = {
    "100,000 nested lists": _text_attack(lambda: b'{"people":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "15 MB of empty lists": _text_attack(lambda: b'{"people":[' + b"[]," * 5_000_000 + b"[]]}"),
    "30 MB of texts": _text_attack(lambda: b'{"people":[' + b'"a",' * 8_000_000 + b"0]}"),
    "a million people, OpenPose": _text_attack(lambda: b'{"people":[' + b"{}," * 10**6 + b"{}]}"),
    "a million people, our own": _text_attack(
        lambda: b'{"version":1,"skeleton":"coco17","canvas":[9,9],"people":[' + b"{}," * 10**6 + b"{}]}"
    ),
    "300,000 annotations of one image": _text_attack(lambda: _IMAGE + _CROWD * 300_000 + _CROWD[:-1] + b"]}"),
    "two million images": _text_attack(
        lambda: b'{"images":[' + b'{"id":1,"file_name":"a"},' * 2 * 10**6 + b"0]," + b'"annotations":[]}'
    ),
    "two million frames": _text_attack(lambda: b"[" + b'{"people":[]},' * 2 * 10**6 + b'{"people":[]}]'),
    "a number of a million digits": _text_attack(lambda: b'{"people":[' + b"9" * 10**6 + b"]}"),
    "one long text among a thousand": _text_attack(
        lambda: (
            b'{"version":1,"skeleton":"coco17","canvas":[9,9],"people":[{"xy":["'
            + b"x" * 10**6
            + b'"'
            + b',""' * 3000
            + b'],"score":[],"visibility":[],"area":null,"extras":{}}]}'
        )
    ),
    "half a character in a name": _text_attack(
        lambda: b'{"images":[{"id":1,"file_name":"\\ud800.jpg","width":9,"height":9}],"annotations":[]}'
    ),
    "meta of 20 MB of empty lists": _meta_attack(lambda: b'{"version":1,"pictures":[' + b"[]," * 7_000_000 + b"0]}"),
    "a million people, npz": _meta_attack(
        lambda: (
            b'{"version":1,"pictures":[{"name":"a","canvas":[9,9],"skeleton":"coco17","extras":['
            + b"{}," * 10**6
            + b"{}]}]}"
        ),
    ),
    "an array header of 4 TB": _lying_header,
    "a member larger than it says": _lying_size,
    "64 MB of zeros": _meta_attack(lambda: b'{"version":1,"pictures":[]}', xy=np.zeros((4_000_000, 2))),
    "20,000 members": _text_attack(lambda: _zip({f"{i}.npy": b"" for i in range(20_000)}), "poses.npz"),
    "lists shared forty times": _pickle_attack(_nested_lists),
    "str() of lists shared forty times": _pickle_attack(lambda: _nested_lists()[:-4] + b"cbuiltins\nstr\n(h'tR."),
    "a list that holds itself": _pickle_attack(lambda: b"\x80\x04]q\x00h\x00a."),
    "bytes(4 GB)": _pickle_attack(
        lambda: b"\x80\x04cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00f8tRJ\xff\xff\xff\x7ftR."
    ),
    "a bytearray of 4 GB": _pickle_attack(lambda: b"\x80\x05\x96" + (4 << 30).to_bytes(8, "little") + b"."),
    "numbers that hash alike": _pickle_attack(_colliding_keys),
    "ten million operations": _pickle_attack(lambda: b"\x80\x04]" + b"K\x01a" * 3_300_000 + b"."),
    "a pipe": _fifo,
    "a device without end": _device,
    "a folder": lambda folder: folder,
    "a name of 5,000 letters": lambda folder: folder / ("x" * 5000),
    "a name with a zero byte": lambda folder: folder / "a\0b",
    "a name with half a character": lambda folder: folder / "\ud800.json",
}

TARGET = Target(_make, ATTACKS, _read, _truth, differs, (PoseError,))
