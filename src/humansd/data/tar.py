"""The members of a tar file, read with limits: whatever its headers say, reading ends and takes little memory.

Python's `tarfile` writes our shards, and is not used to read them: sizes below zero keep it busy for ever
(CVE-2025-8194), headers behind headers exhaust the stack, and it remembers every member it has seen. Known here are
plain files of ustar, GNU and pax archives, with long names; other members (folders, links) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
MAX_MEMBER_BYTES = 64 << 20
_MAX_NAME_BYTES = 1 << 16  # of a header that holds the name of the next
_FILES = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, FIFOs
_LONG_NAME, _LONG_LINK, _PAX, _PAX_SUN, _PAX_ALL = b"L", b"K", b"x", b"X", b"g"
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]{1,256})=")


class TarError(ValueError):
    """Where a tar file is broken; the message does not name the file."""


@dataclass(frozen=True)
class Member:
    """A plain file in a tar file: its name, where its header and its data begin, its size in bytes."""

    name: str
    header: int
    data: int
    size: int


def tar_members(stream: BinaryIO, damage: list[str] | None = None) -> Iterator[Member | TarError]:
    """The plain files in stored order, up to the mark at the end; one that is too large is a `TarError` in its place.

    With `damage` reading goes on at the next sound header, to the end of the file, and `damage` gains what was wrong.

    Raises:
        TarError: damage, or no mark at the end, unless there is a list for it.
    """
    offset = end = 0  # of the next header; behind the last member
    name, size = None, None  # of the next member, from a header of its own
    while block := _at(stream, offset, BLOCK):
        header = _header(block)
        if header is None:
            if damage is None:
                if block == bytes(BLOCK):
                    return
                raise TarError(f"damaged at byte {offset}")
            offset += BLOCK
            continue
        if offset != end and damage is not None:
            damage.append(f"damaged at byte {end}")
            name, size = None, None
        kind, own_name, length = header
        start = offset + BLOCK
        if kind in (_LONG_NAME, _PAX, _PAX_SUN):
            if length <= _MAX_NAME_BYTES:
                name, size = _long_header(kind, _at(stream, start, length), name, size)
        elif kind in _FILES and not own_name.endswith("/"):
            length = length if size is None else size
            member = Member(own_name if name is None else name, offset, start, length)
            name, size = None, None
            yield member if length <= MAX_MEMBER_BYTES else _too_large(member)
        elif kind not in (_LONG_LINK, _PAX_ALL):
            length = 0 if kind in _WITHOUT_DATA or kind in _FILES else length
            name, size = None, None
        offset = end = start + -(-length // BLOCK) * BLOCK
    if _at(stream, end, BLOCK) != bytes(BLOCK):
        problem = f"damaged or cut short at byte {end}"
        if damage is None:
            raise TarError(problem)
        damage.append(f"broken tar file ({problem})")


def _long_header(kind: bytes, text: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Name and size of the next member from a header of its own, and what was known before."""
    return (_text(text), size) if kind == _LONG_NAME else _pax(text, name, size)


def _too_large(member: Member) -> TarError:
    return TarError(f"{member.name} has {member.size} bytes; at most {MAX_MEMBER_BYTES}")


def read_data(stream: BinaryIO, member: Member) -> bytes:
    """TarError where the file ends before the member does."""
    data = _at(stream, member.data, member.size)
    if len(data) < member.size:
        raise TarError(f"cut short within {member.name}")
    return data


def _at(stream: BinaryIO, offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


def _header(block: bytes) -> tuple[bytes, str, int] | None:
    """Kind, name and size of a header block; None where it is none."""
    if len(block) < BLOCK:
        return None
    wanted, rest = _number(block[148:156]), block[:148] + b" " * 8 + block[156:]
    if wanted is None:
        return None
    total = sum(rest)
    if wanted != total and wanted != total - 256 * sum(byte > 127 for byte in rest):  # signed, as old programs count
        return None
    size = _number(block[124:136])
    if size is None:
        return None
    return block[156:157], _text(block[:100]), size


def _number(field: bytes) -> int | None:
    """A whole number from 0 to 2^62, in octal digits or, after 0x80, in bytes; None for anything else."""
    if field[0] == 0x80:
        value = int.from_bytes(field[1:])
        return value if value <= 2**62 else None
    digits = field.partition(b"\0")[0].strip()
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(text: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Name and size that a pax header gives the next member, else what they were."""
    place = 0
    while record := _PAX_RECORD.match(text, place):
        stop = place + int(record[1])
        if stop <= record.end() or stop > len(text):
            break
        value = text[record.end() : stop - 1]
        if record[2] == b"path":
            name = _text(value)
        elif record[2] == b"size" and re.fullmatch(rb"\d{1,18}", value):
            size = int(value)
        place = stop
    return name, size
