"""`humansd data union`: several data sets mixed with weights into one, deterministic and resumable."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from humansd.build.item import Batch, Item, each, place
from humansd.build.pipeline import Plan, build_dataset
from humansd.core.digests import file_sha256
from humansd.data.sample import IMAGE_MEMBERS, SampleError, decode_sample
from humansd.data.shards import shard_files
from humansd.data.tar import Member, tar_members


@dataclass(frozen=True)
class Part:
    """A data set and how much of the mixture it makes up."""

    shards: str
    weight: float = 1.0


def parse_part(text: str) -> Part:
    """SHARDS or SHARDS=WEIGHT."""
    match = re.fullmatch(r"(.+?)(?:=([0-9.]+))?", text)
    weight = float(match[2]) if match and match[2] and match[2].count(".") < 2 else 1.0
    if match is None or not weight > 0:
        raise ValueError(f"{text!r}: write SHARDS or SHARDS=WEIGHT, such as laion=3")
    return Part(match[1], weight)


def mixture(counts: Sequence[int], weights: Sequence[float], count: int, seed: int) -> np.ndarray:
    """(count, 2) int64: for each sample of a mixture, the data set it comes from and its number there.

    The data sets take turns so that after any number of samples each has its share, as near as whole numbers allow.
    Each is gone through in an order drawn by the seed, and again in another where its share asks for more than it has.
    """
    share = np.array(weights, float) / sum(weights)
    taken = np.zeros(len(counts), np.int64)
    out = np.empty((count, 2), np.int64)
    orders = [np.empty(0, np.int64) for _ in counts]
    for turn in range(count):
        which = int((share * (turn + 1) - taken).argmax())
        lap, number = divmod(int(taken[which]), counts[which])
        if number == 0:
            orders[which] = np.random.default_rng((seed, which, lap)).permutation(counts[which])
        out[turn] = which, orders[which][number]
        taken[which] += 1
    return out


@dataclass(frozen=True, eq=False)
class Mixed:
    """The mixture as a source: items that know where their sample lies."""

    order: np.ndarray
    named: tuple[tuple[str, float, str], ...]  # of each part: name, weight, digest

    def __len__(self) -> int:
        return len(self.order)

    def item(self, index: int) -> Item:
        which, number = (int(value) for value in self.order[index])
        origin = {"part": which, "number": number, "set": self.named[which][0]}
        return Item(index, f"{index:08d}", origin)

    def signature(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.order.tobytes()).hexdigest()[:32]
        return {"kind": "mixture", "parts": [list(one) for one in self.named], "order": digest}


@dataclass(frozen=True)
class TakeStored:
    """The stored members of samples of other data sets, as they are but for the key and where they came from."""

    parts: tuple[str, ...] = place(())

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._take)

    def _take(self, item: Item) -> Item:
        members = dict(_stored(self.parts[item.origin["part"]], item.origin["number"]))
        try:
            sample = decode_sample(members)
        except SampleError as error:
            return item.drop("read", "a damaged sample", str(error))
        record = json.loads(members["json"])
        record["extras"]["from"] = {"set": item.origin["set"], "key": sample.key}
        members["json"] = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        kept = {name: members[name] for name in (*IMAGE_MEMBERS, "json", "mask.png") if name in members}
        return item.but(members=kept)


@functools.lru_cache(maxsize=16)
def _index(shards: str) -> list[tuple[Path, str, dict[str, tuple[int, int]]]]:
    """Of each sample: its file, its key, and where its members lie in it (name -> place, size)."""
    found: list[tuple[Path, str, dict[str, tuple[int, int]]]] = []
    for path in shard_files(shards):
        with path.open("rb") as stream:
            now = ""
            for member in tar_members(stream):
                assert isinstance(member, Member)
                key, _, name = Path(member.name).name.partition(".")
                if key != now or name in found[-1][2]:
                    found.append((path, key, {}))
                    now = key
                found[-1][2][name] = (member.data, member.size)
    return found


def _stored(shards: str, number: int) -> dict[str, Any]:
    path, key, places = _index(shards)[number]
    out: dict[str, Any] = {"__key__": key}
    with path.open("rb") as stream:
        for name, (start, size) in places.items():
            stream.seek(start)
            out[name] = stream.read(size)
    return out


def build_union(
    parts: Sequence[Part],
    out: Path | str,
    *,
    count: int = 0,
    seed: int = 0,
    per_shard: int = 500,
    engine: str = "local",
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Mixes data sets and returns the manifest of the mixture. count: samples; 0: as many as all have together."""
    if not parts:
        raise ValueError("no data set to mix; name at least one")
    counts = [len(_index(part.shards)) for part in parts]
    if not all(counts):
        raise ValueError(f"{parts[counts.index(0)].shards}: holds no sample; leave it out")
    order = mixture(counts, [part.weight for part in parts], count or sum(counts), seed)
    digests = [shards_digest(part.shards) for part in parts]
    names = [Path(part.shards).name for part in parts]
    named = tuple((name, part.weight, digest) for name, part, digest in zip(names, parts, digests))
    source = Mixed(order, named)
    told = ", ".join(f"{name} (weight {part.weight:g})" for name, part in zip(names, parts))
    about: dict[str, Any] = {
        "name": "A mixture",
        "source": told,
        "license": "of each sample as it says",
        "poses": "as the parts have them",
        "notes": _shares(order, counts, names, [part.weight for part in parts]),
    }
    stages = (TakeStored(tuple(part.shards for part in parts)),)
    plan = Plan(stages, per_shard=per_shard, near=None, about=about)
    return build_dataset(source, plan, out, engine=engine, workers=workers, progress=progress)


def _shares(order: np.ndarray, counts: Sequence[int], names: Sequence[str], weights: Sequence[float]) -> list[str]:
    """What of each part is in a mixture, in words."""
    notes, left = [], False
    for which, (name, count) in enumerate(zip(names, counts, strict=True)):
        times = np.bincount(order[order[:, 0] == which, 1], minlength=count)
        few, most = int(times.min()), int(times.max())
        often = "once" if few == most == 1 else f"{few} times" if few == most else f"{few} to {most} times"
        left |= few == 0
        kept = f"{int((times > 0).sum())} of its {count} samples" if few == 0 else f"all {count} samples, {often} each"
        notes.append(f"{name}: {kept}")
    if left:
        share = min(weight / sum(weights) / count for weight, count in zip(weights, counts, strict=True))
        notes.append(f"all samples of all parts are in a mixture of {math.ceil(1 / share)} (--count)")
    return notes


def shards_digest(shards: str) -> str:
    digest = hashlib.sha256()
    for path in shard_files(shards):
        digest.update(file_sha256(path).encode())
    return digest.hexdigest()[:16]
