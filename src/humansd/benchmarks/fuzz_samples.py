"""What the fuzzer does to samples in shards: their JSON, their images, their members, the tar file and its manifest.

A damaged sample stands between two whole ones. What is read of a shard must hold these two, whatever the third is; and
all that is read must be what the independent reader reads.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.benchmarks.fuzz import Target
from humansd.benchmarks.fuzz_poses import differs as values_differ
from humansd.benchmarks.fuzz_poses import plain
from humansd.benchmarks.mutation import as_json, damaged_bytes, damaged_value, tar_header
from humansd.benchmarks.plain_readers import Plain, plain_members, plain_sample
from humansd.data.salvage import read_undamaged
from humansd.data.sample import Sample
from humansd.data.shards import ShardError, read_shards

_WIDTH, _HEIGHT = 16, 12
_TEXTS = ("caption", "scene", "source", "license")
_NEAR = 3.0  # grey levels, in the mean: two decoders of JPEG or WebP
_WHOLE = "whole"  # in the names of tar files that are not damaged themselves

Members = dict[str, bytes]


class LostSampleError(Exception):
    """A whole sample was not read because of the one beside it."""


# -- whole samples --------------------------------------------------------------------------------------------------


def _record(rng: random.Random, width: int = _WIDTH, height: int = _HEIGHT) -> Plain:
    people = [
        {
            "xy": [[round(rng.uniform(0, width), 2), rng.uniform(0, height)] for _ in range(17)],
            "score": [rng.choice((0, 1, rng.random())) for _ in range(17)],
            "visibility": [rng.randint(0, 2) for _ in range(17)],
            "area": rng.choice((None, 12, 99.5)),
            "extras": rng.choice(({}, {"id": 3})),
        }
        for _ in range(rng.randint(0, 2))
    ]
    return {
        "version": 1,
        "caption": "photo, a man",
        "scene": "photo",
        "source": "test",
        "license": "CC0-1.0",
        "people": {"version": 1, "skeleton": "coco17", "canvas": [width, height], "people": people},
        "extras": rng.choice(({}, {"n": 5}, {"captions": ["a man", "someone"]}, {"x": {"y": [1, 2]}})),
    }


def _image(rng: random.Random, kind: str) -> bytes:
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (_HEIGHT, _WIDTH, 4), dtype=np.uint8)
    mode = "RGB" if kind != "PNG" else rng.choice(("RGB", "RGB", "RGBA", "L", "P"))
    image = Image.fromarray(pixels).convert(mode)
    stream = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {"progressive": rng.random() < 0.5} if kind == "JPEG" else {}
    image.save(stream, kind, **options)
    return stream.getvalue()


def _members(rng: random.Random) -> Members:
    kind = rng.choice(("PNG", "PNG", "PNG", "JPEG", "WEBP"))
    name = {"PNG": "png", "JPEG": rng.choice(("jpg", "jpeg")), "WEBP": "webp"}[kind]
    members = {name: _image(rng, kind), "json": json.dumps(_record(rng)).encode()}
    if rng.random() < 0.3:
        members["mask.png"] = _png(np.zeros((_HEIGHT, _WIDTH), np.uint8))
    return members


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _tar(samples: list[tuple[str, Members]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for name, data in members.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


# -- damage ---------------------------------------------------------------------------------------------------------


def _make(rng: random.Random, folder: Path) -> Path:
    samples = [("before", _members(rng)), ("mutant", _members(rng)), ("after", _members(rng))]
    kind = rng.random()
    if kind < 0.9:
        samples[1] = (samples[1][0], _damaged(rng, samples[1][1]))
        return _written(folder, samples, _WHOLE)
    path = _written(folder, samples, "damaged")
    path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    return path


def _written(folder: Path, samples: list[tuple[str, Members]], name: str) -> Path:
    path = folder / f"{name}.tar"
    path.write_bytes(_tar(samples))
    return path


def _damaged(rng: random.Random, members: Members) -> Members:
    members = dict(members)
    image = next(name for name in members if name not in ("json", "mask.png"))
    kind = rng.random()
    if kind < 0.55:
        members["json"] = as_json(rng, damaged_value(rng, json.loads(members["json"])))
    elif kind < 0.65:
        members["json"] = damaged_bytes(rng, members["json"])
    elif kind < 0.8:
        name = rng.choice((image, "mask.png" if "mask.png" in members else image))
        members[name] = damaged_bytes(rng, members[name])
    elif kind < 0.93 and image == "png":
        members[image] = _other_chunks(rng, members[image])
    else:
        others = ("png", "jpg", "webp", "json", "mask.png", "JSON", "txt", "")
        members[rng.choice(others)] = members.pop(rng.choice(list(members)))
    return members


def _other_chunks(rng: random.Random, data: bytes) -> bytes:
    """A PNG whose chunks are damaged but carry a sound checksum."""
    chunks, place = [], 8
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        chunks.append((kind, data[place + 8 : place + 8 + size]))
        place += 12 + size
    for _ in range(rng.randint(1, 2)):
        i = rng.randrange(len(chunks))
        kind, content = chunks[i]
        choice = rng.randrange(5)
        if choice == 0:
            chunks.insert(i, chunks[i])
        elif choice == 1:
            chunks[i] = (rng.choice((b"tRNS", b"iCCP", b"zTXt", b"fcTL", b"acTL", b"fdAT", b"PLTE", b"eXIf")), content)
        elif choice == 2 and kind == b"IDAT":
            with contextlib.suppress(zlib.error):  # damaged already
                chunks[i] = (kind, zlib.compress(damaged_bytes(rng, zlib.decompress(content))))
        elif choice == 3:
            at = rng.randrange(13)
            header = bytearray(chunks[0][1].ljust(13, b"\0"))
            header[at] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            chunks[0] = (b"IHDR", bytes(header))
        else:
            chunks[i] = (kind, damaged_bytes(rng, content))
        if chunks[0][0] != b"IHDR" or not any(kind == b"IDAT" for kind, _ in chunks):
            break
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(packed)


# -- reading and comparing ------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    skipped: list[dict[str, Any]] = []
    samples = {sample.key: sample for sample in read_undamaged(path, skipped)}
    if path.name.startswith(_WHOLE):
        for key in ("before", "after"):
            if key not in samples:
                raise LostSampleError(f"{key} is missing, beside {skipped}")
    try:
        strict, refusal = [sample.key for sample in read_shards(path)], ""
    except ShardError as error:
        strict, refusal = [], str(error)
    return {"samples": samples, "skipped": skipped, "strict": strict, "refusal": refusal}


def _truth(path: Path) -> list[tuple[str, Members]]:
    """The members of each sample, by key; one that holds a member twice is two."""
    groups: list[tuple[str, Members]] = []
    for name, data in plain_members(path.read_bytes()):
        key, _, member = name.rsplit("/", 1)[-1].partition(".")
        if not groups or groups[-1][0] != key or member.lower() in groups[-1][1]:
            groups.append((key, {}))
        groups[-1][1][member.lower()] = data
    return groups


def _differs(ours: dict[str, Any], groups: list[tuple[str, Members]]) -> str:
    if not ours["refusal"] and ours["strict"] != list(ours["samples"]):
        return f"the strict reader reads {ours['strict']}, the tolerant {list(ours['samples'])}"
    if bool(ours["refusal"]) != bool(ours["skipped"]):
        return f"refused: {ours['refusal']!r}, but left out: {ours['skipped']}"
    for key, sample in ours["samples"].items():
        problems = [_sample_differs(sample, members) for name, members in groups if name == key]
        if not problems or all(problems):
            return f"{key}: {problems[0] if problems else 'nothing of that name is there'}"
    return ""


def _sample_differs(ours: Sample, members: Members) -> str:
    try:
        theirs = plain_sample(members)
    except Exception as error:
        return f"the independent reader says {type(error).__name__}: {error}"
    extras = {name: value for name, value in ours.extras.items() if name != "mask"}
    told = {name: getattr(ours, name) for name in _TEXTS} | {"extras": extras, "people": plain(ours.people)}
    problem = values_differ(told, {name: theirs[name] for name in told})
    lossy = not any(name == "png" for name in members)
    return (
        problem
        or _image_differs("image", ours.image, theirs["image"], _NEAR if lossy else 0)
        or (_image_differs("mask", ours.extras["mask"], theirs["mask"], 0) if theirs["mask"] is not None else "")
    )


def _image_differs(name: str, ours: np.ndarray, theirs: np.ndarray | None, most: float) -> str:
    """Images of which the independent reader knows nothing, and coloured masks, are not compared."""
    if theirs is None or (name == "mask" and theirs.ndim == 3):
        return ""
    if name == "image" and theirs.ndim == 2:
        theirs = np.repeat(theirs[..., None], 3, axis=2)
    if ours.shape != theirs.shape:
        return f"{name}: {ours.shape} and {theirs.shape}"
    away = float(np.abs(ours.astype(float) - theirs).mean())
    return f"{name}: {away:.2f} grey levels apart" if away > most else ""


# -- attacks --------------------------------------------------------------------------------------------------------


def _beside(members: Callable[[random.Random], Members], key: str = "mutant") -> Callable[[Path], Path]:
    """A hostile sample between two whole ones."""

    def make(folder: Path) -> Path:
        rng = random.Random(0)
        samples = [("before", _members(rng)), (key, members(rng)), ("after", _members(rng))]
        return _written(folder, samples, _WHOLE)

    return make


def _json(text: Callable[[], bytes]) -> Callable[[Path], Path]:
    return _beside(lambda rng: {"png": _image(rng, "PNG"), "json": text()})


def _with(**fields: Any) -> Callable[[Path], Path]:
    return _json(lambda: json.dumps(_record(random.Random(0)) | fields).encode())


def _flat_image(kind: str, width: int, height: int, **options: Any) -> Callable[[Path], Path]:
    def make(rng: random.Random) -> Members:
        stream = io.BytesIO()
        Image.new("RGB", (width, height), (9, 99, 199)).save(stream, kind, **options)
        return {kind.lower(): stream.getvalue(), "json": json.dumps(_record(rng, width, height)).encode()}

    return _beside(make)


def _scans(rng: random.Random) -> Members:
    """A progressive JPEG whose last scan comes five thousand times."""
    stream = io.BytesIO()
    Image.new("L", (3000, 3000)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    scans = data[:-2] + data[last:-2] * 5000 + data[-2:]
    return {"jpg": scans, "json": json.dumps(_record(rng, 3000, 3000)).encode()}


def _deep_grey(rng: random.Random) -> Members:
    """16 bits a pixel, which Pillow would cut off at 255."""
    image = Image.fromarray(np.full((_HEIGHT, _WIDTH), 30_000, np.uint16))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"png": stream.getvalue(), "json": json.dumps(_record(rng)).encode()}


def _hidden_text(rng: random.Random) -> Members:
    """A PNG whose comment unpacks to 200 MB."""
    data = _image(rng, "PNG")
    content = b"zTXt" + b"a\0\0" + zlib.compress(bytes(200 << 20))
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return {"png": data[:33] + chunk + data[33:], "json": json.dumps(_record(rng)).encode()}


def _tar_attack(blocks: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """What `blocks` makes of a whole tar file of two samples; these need not be read."""

    def make(folder: Path) -> Path:
        rng = random.Random(0)
        path = _written(folder, [("before", _members(rng)), ("after", _members(rng))], "damaged")
        path.write_bytes(blocks(path.read_bytes()))
        return path

    return make


_NEGATIVE = b"\xff" * 10 + b"\xfc\x00"  # -1024, in the form of large numbers


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.tar")
    return folder / "x.tar"


def _device(folder: Path) -> Path:
    (folder / "x.tar").symlink_to("/dev/zero")
    return folder / "x.tar"


def _folder(folder: Path) -> Path:
    (folder / "data" / "x.tar").mkdir(parents=True)
    return folder / "data"


def _manifest(text: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _written(folder, [("a", _members(random.Random(0)))], "shard-000000")
        (folder / "manifest.json").write_bytes(text())
        return folder

    return make


def _entry(**fields: Any) -> bytes:
    entry = {"name": "shard-000000.tar", "n": 1, "bytes": 1, "sha256": "0" * 64} | fields
    return json.dumps({"version": 1, "count": 1, "per_shard": 1, "settings": {}, "shards": [entry]}).encode()


ATTACKS: dict[str, Callable[[Path], Path]] = {
    "100,000 nested lists": _json(lambda: b"[" * 100_000),
    "100,000 nested lists as extras": _json(
        lambda: json.dumps(_record(random.Random(0)) | {"extras": 0})[:-2].encode() + b"[" * 10**5 + b"]" * 10**5 + b"}"
    ),
    "4 MB of empty lists": _json(lambda: b"[" + b"[]," * 1_390_000 + b"[]]"),
    "5 MB of json": _json(lambda: b" " * (5 << 20)),
    "lists in lists as extras": _with(extras={"a": json.loads("[" * 500 + "]" * 500)}),
    "extras are a list": _with(extras=[[1, 2]]),
    "extras are a number": _with(extras=5),
    "captions are a text": _with(extras={"captions": "letters"}),
    "captions hold a number": _with(extras={"captions": ["a", 5]}),
    "half a character in the caption": _with(caption="\ud800"),
    "half a character in other wordings": _with(extras={"captions": ["\udfff"]}),
    "the caption is a list": _with(caption=["a"]),
    "people are a list": _with(people=[1]),
    "people are nobody": _with(people=None),
    "the mask is a number": _with(extras={"mask": 5}),
    "the version is a list": _with(version=[1]),
    "two images": _beside(lambda rng: _members(rng) | {"png": _image(rng, "PNG"), "jpg": _image(rng, "JPEG")}),
    "67 megapixels of PNG": _flat_image("PNG", 8192, 8192),
    "25 megapixels of PNG": _flat_image("PNG", 5000, 5000),
    "25 megapixels of WebP": _flat_image("WEBP", 5000, 5000),
    "25 megapixels of JPEG": _flat_image("JPEG", 5000, 5000, progressive=True, subsampling=0),
    "five thousand scans": _beside(_scans),
    "grey of 16 bits": _beside(_deep_grey),
    "200 MB of comment": _beside(_hidden_text),
    "one key twice": lambda folder: _written(
        folder, [(key, _members(random.Random(key))) for key in ("before", "after", "before")], _WHOLE
    ),
    "a key that leaves its folder": _beside(_members, key="..\\x"),
    "no key": _beside(_members, key=""),
    "a size below zero": _tar_attack(lambda tar: tar[:-10240] + tar_header(_NEGATIVE) + tar),
    "a size of 2^60": _tar_attack(lambda tar: tar[:1024] + tar_header(b"\x80\0\0\0" + (2**60).to_bytes(8)) + tar),
    "20,000 name headers": _tar_attack(lambda tar: (tar_header(b"00000001000\0", b"x") + bytes(512)) * 20_000 + tar),
    "a name of 8 GB": _tar_attack(lambda tar: tar_header(b"77777777777\0", b"L") + tar),
    "a pipe": _pipe,
    "a device without end": _device,
    "a folder": _folder,
    "a manifest of nested lists": _manifest(lambda: b"[" * 100_000),
    "a manifest that counts in texts": _manifest(lambda: _entry(n="1")),
    "a manifest that counts below zero": _manifest(lambda: _entry(n=-1)),
    "a manifest that names a list": _manifest(lambda: _entry(name=["shard-000000.tar"])),
    "a manifest that leaves its folder": _manifest(lambda: _entry(name="../shard-000000.tar")),
    "a manifest of another sha256": _manifest(lambda: _entry(sha256=5)),
}  # fmt: skip


def _truth_of(path: Path) -> list[tuple[str, Members]]:
    return _truth(path) if path.is_file() else []


TARGET = Target(_make, ATTACKS, _read, _truth_of, _differs, (ShardError,), lambda answer: answer["refusal"])
