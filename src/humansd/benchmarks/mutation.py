"""Damage: to the bytes of a file, and to JSON values that stay JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

_BIG = 10**400
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), -float("inf"), _BIG, -_BIG,
    2**31, 2**63, 2**64, 32768, 32769, "", "0", "x", "nan", "[1, 2]", "\ud800", "a\0b", "a/b", "../x", "x" * 300,
    [], [0], [[]], {}, {"a": 1}, [None], ["x"], [[[[1]]]], [0] * 51, [1.5] * 54, [1] * 63, [[0, 0]] * 17,
)  # fmt: skip
_TOKENS = (
    b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\ud800", b"\\u0000",
    b"\0", b"\xff", b"\xef\xbb\xbf", b"9" * 30, b"0.1e-400", b'""', b"[[[[[[[[", b'{"a":' * 50,
)  # fmt: skip


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to three changes: a byte, a bit, a piece taken out, doubled, moved or put in, the end cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not out:
            break
        at, size = rng.randrange(len(out)), rng.randint(1, 1 + len(out) // 8)
        kind = rng.randrange(7)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            piece = out[at : at + size]
            del out[at : at + size]
            to = rng.randint(0, len(out))
            out[to:to] = piece
        elif kind == 5:
            out[at:at] = rng.choice(_TOKENS)
        else:
            del out[at:]
    return bytes(out)


def damaged_value(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one to three of its nodes changed, none of them the root."""
    value = _copy(value)
    for _ in range(rng.randint(1, 3)):
        places = _places(value)
        if not places:
            break
        holder, key = rng.choice(places)
        _change(rng, holder, key, places)
    return value


def as_json(rng: random.Random, value: Any) -> bytes:
    """The value as JSON text in one of the ways in which programs write it; nested lists of 100,000 at times."""
    if rng.random() < 0.005:
        return b"[" * 100_000 + b"]" * 100_000
    layout = rng.choice(({}, {"indent": 1}, {"separators": (",", ":")}))
    text = json.dumps(value, ensure_ascii=True, **layout).encode()
    return (b"\xef\xbb\xbf" if rng.random() < 0.02 else b"") + text


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(holder, key or index) of the nodes; of long lists a few."""
    found, todo = [], [value]
    while todo:
        holder = todo.pop()
        if isinstance(holder, dict):
            keys: Sequence[Any] = list(holder)
        elif isinstance(holder, list):
            keys = range(len(holder)) if len(holder) <= 8 else [0, 1, 2, len(holder) // 2, len(holder) - 1]
        else:
            continue
        for key in keys:
            found.append((holder, key))
            todo.append(holder[key])
    return found


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))  # copy.deepcopy gives up at a third of this depth


def _change(rng: random.Random, holder: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    kind = rng.randrange(9)
    old = holder[key]
    if kind <= 2:
        holder[key] = _copy(rng.choice(_ODD))
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        if isinstance(holder, list):
            holder.insert(key, _copy(old))
        else:
            holder[rng.choice((f"{key}_21", "humansd", "segmentation", "name", "extra", "score"))] = _copy(old)
    elif kind == 5:
        other, place = rng.choice(places)
        holder[key] = _copy(other[place])
    elif kind == 6 and isinstance(old, (int, float)) and abs(old) < 1e300:
        holder[key] = rng.choice((-old, old * 10, old + 0.25, str(old), [old], old == 1, old * 1000))
    elif kind == 7 and isinstance(old, str):
        holder[key] = rng.choice((old + "\ud800", old * 50, list(old), old.upper(), old + ".png", "/", "."))
    else:
        deep: Any = old
        for _ in range(rng.choice((1, 2, 20, 40, 300))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        holder[key] = deep


def tar_header(size: bytes, kind: bytes = b"0") -> bytes:
    """The block before a member of a tar file, with a sum that is right. size, kind: as they stand in it."""
    block = bytearray(b"mutant.png".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.rjust(12, b"0"))
    block += b"00000000000\0" + b" " * 8 + kind + bytes(100) + b"ustar\x0000"
    block = block.ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
