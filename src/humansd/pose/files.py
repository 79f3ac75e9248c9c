"""Reading and writing files with limits: size, JSON syntax, and writes that are never half done."""

from __future__ import annotations

import io
import json
import math
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.pose.errors import PoseError

MAX_FILE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 256 * 2**20
MAX_IMAGES = 200_000  # in one file
MAX_MEMORY = 600 * 10**6  # bytes that parsed JSON may take
_MAX_MEMBERS = 1000
_MAX_GROWTH = 50  # of a zip archive beyond 32 MiB; poses shrink to a half or a tenth


def read_bytes(path: str | Path) -> bytes:
    """The whole file; PoseError when it is missing, empty, not a file or larger than 64 MiB."""
    path = Path(path)
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise PoseError("is a folder", file=path, remedy="Name a pose file inside it.")
        if not stat.S_ISREG(about.st_mode):  # a pipe may wait for ever, a device never end
            raise PoseError("is a pipe or a device", file=path, remedy="Write its content to a file first.")
        data = b""
        if about.st_size <= MAX_FILE_BYTES:
            with path.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        size = max(about.st_size, len(data))
        if size > MAX_FILE_BYTES:
            raise PoseError(
                f"has {size / 2**20:.0f} MiB, the limit is {MAX_FILE_BYTES // 2**20} MiB",
                file=path,
                remedy="Split it into smaller files.",
            )
    except PoseError:
        raise
    except FileNotFoundError:
        raise PoseError("does not exist", file=path, remedy="Check the path.") from None
    except OSError as error:
        raise PoseError(f"cannot be read ({error.strerror})", file=path, remedy="Check its rights.") from None
    except ValueError as error:  # a zero byte or half a character
        raise PoseError(f"is no name of a file ({error})", file=path, remedy="Check the path.") from None
    if not data.strip():
        raise PoseError("is empty", file=path, remedy="Write the poses again; nobody is 'people': [].")
    return data


def plain_text(data: bytes, path: str | Path) -> bytes:
    """What a gzip file holds, and UTF-16, as Windows' shell writes it, as UTF-8; other bytes as they are."""
    if data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, MAX_FILE_BYTES + 1)
        except zlib.error as error:
            raise PoseError(f"is not a whole gzip file ({error})", file=path, remedy="Copy it again.") from None
        if len(data) > MAX_FILE_BYTES:
            limit = f"the limit is {MAX_FILE_BYTES // 2**20} MiB"
            raise PoseError(f"unpacks to more, {limit}", file=path, remedy="Split it into smaller files.")
        if not unpacker.eof:
            raise PoseError("is not a whole gzip file", file=path, remedy="Copy it again.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode()
        except (UnicodeDecodeError, UnicodeEncodeError):
            return data
    return data


def parse_json(data: bytes, path: str | Path) -> Any:
    """The JSON value in `data`; PoseError with line and column when it is broken, or would take `MAX_MEMORY`."""
    memory = json_memory(data)
    if memory > MAX_MEMORY:
        raise PoseError(
            f"holds values that take {memory / 1e9:.1f} GB of memory, the limit is {MAX_MEMORY / 1e9:.1f} GB",
            file=path,
            remedy="Split it into smaller files.",
        )
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise PoseError(
            f"is not valid JSON ({error.msg})", file=path, field=where, remedy="Mend or export it again."
        ) from None
    except UnicodeDecodeError:
        raise PoseError(
            "is neither JSON text in UTF-8 nor npz", file=path, remedy="Give a pose file (JSON or npz)."
        ) from None
    except (RecursionError, ValueError) as error:
        raise PoseError(f"is not usable JSON ({error})", file=path, remedy="Export it again.") from None


def json_memory(data: bytes) -> int:
    """About how many bytes Python takes for the values of a JSON text: for a list or dict, another value, a text."""
    holders = data.count(b"[") + data.count(b"{")
    return 200 * holders + 40 * (holders + data.count(b",")) + 30 * data.count(b'"')


def dump_json(value: Any, path: str | Path) -> bytes:
    """UTF-8 JSON; PoseError when an extra is not a plain JSON value or holds NaN."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PoseError(
            f"is not a plain JSON value ({error})",
            file=path,
            field="extras",
            remedy="Keep only numbers, text, lists and dicts in People.extras.",
        ) from None


def check_archive(data: bytes, path: str | Path) -> None:
    """PoseError unless `data` is a whole zip archive, as numpy writes them, that unpacks to 256 MiB or less.

    Nor may it grow 50-fold: a file of zeros, which is no pose, grows a thousandfold.
    """
    members = data.count(b"PK\x01\x02")
    if members > _MAX_MEMBERS:
        raise PoseError(f"holds {members} files, the limit is {_MAX_MEMBERS}", file=path, remedy="Write it again.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(info.file_size for info in archive.infolist())
            plain = all(info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in archive.infolist())
    except Exception as error:  # a damaged archive makes zipfile raise many things
        raise PoseError(f"is not a whole npz file ({error})", file=path, remedy="Copy it again.") from None
    if not plain:
        raise PoseError("is packed in an unusual way", file=path, remedy="Write it with numpy.savez_compressed.")
    if total > MAX_UNPACKED_BYTES:
        raise PoseError(
            f"unpacks to {total / 2**20:.0f} MiB, the limit is {MAX_UNPACKED_BYTES // 2**20} MiB",
            file=path,
            remedy="Split it into smaller files.",
        )
    if total > 32 * 2**20 + _MAX_GROWTH * len(data):
        raise PoseError(
            f"unpacks to {total / len(data):.0f} times its size", file=path, remedy="Write it again, with poses in it."
        )


def unpack(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member of an archive; ValueError where it is larger than `limit` bytes, whatever its header says.

    Raises also what zipfile does for a damaged one; KeyError where there is none of that name.
    """
    with archive.open(name) as member:
        data = member.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} has more than {limit} bytes")
    return data


def plain_array(data: bytes) -> NDArray[Any]:
    """The read-only array of an npy file; ValueError where it holds objects, or less than its header says.

    Numpy's own reader takes the memory that the header asks for before it looks at what is there.
    """
    shape, fortran, dtype, start = npy_header(data)
    count = math.prod(shape)
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"holds {dtype}, not numbers")
    if count * dtype.itemsize > len(data) - start:
        raise ValueError("is cut short")
    values = np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether it is in Fortran's order, dtype, and where the values of an npy file begin."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"has the unknown npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if min(shape, default=0) < 0 or len(shape) > 8:
        raise ValueError(f"has the shape {shape[:8]}")
    return shape, fortran, dtype, stream.tell()
