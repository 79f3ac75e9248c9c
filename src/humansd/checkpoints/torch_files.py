"""PyTorch's pickled checkpoints read without running anything of them, tensor by tensor.

`torch.load(weights_only=True)` is as safe, but refuses a whole file for one object that is no tensor, such as the
callbacks in a checkpoint of PyTorch Lightning. Those become a `Skipped` here (`inert_pickle`).
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from humansd.checkpoints.inert_pickle import InertReader, Name, PickleError, Skipped, set_items

MAPPED = 256 * 2**20  # bytes from which on a file is mapped into memory and not read whole
LONGEST_PROGRAM = 64 * 2**20  # bytes of a checkpoint's pickle; Stable Diffusion's has less than one million

_DTYPES: dict[str, torch.dtype] = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_STORAGES = {
    **{f"{module}.{name}Storage": kind for module in ("torch", "torch.cuda") for name, kind in _DTYPES.items()},
    "torch.storage.UntypedStorage": torch.uint8,
}
_NAMED_DTYPES = {str(kind): kind for kind in _DTYPES.values()}


@dataclass(frozen=True)
class Storage:
    """Where numbers lie: the key of a record, their type and count, and the first of them that belongs to it."""

    key: str
    dtype: torch.dtype
    count: int
    first: int = 0


@dataclass(frozen=True)
class Stored:
    """A tensor that is described and not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch_file(file: Path) -> tuple[Any, Callable[[Stored], Tensor]]:
    """What a checkpoint holds, tensors as `Stored`, and the function that reads one of them.

    Both forms of `torch.save` are known: the zip archive, and what PyTorch wrote before version 1.6. Of a large file
    only those pages are in memory that are used: leave it as it is while its tensors live.

    Raises:
        OSError: no such file.
        PickleError: not such a file, damaged, or one that asks for a name of `os`, `builtins` and the like; the
            function raises it for a tensor whose numbers do not lie within the file.
    """
    if file.exists() and not file.is_file():  # a pipe may wait for ever
        raise OSError(f"{file}: a folder, a pipe or a device; name a file")
    with file.open("rb") as stream:
        try:
            content, records = _read_zip(stream) if zipfile.is_zipfile(stream) else _read_legacy(stream)
        except PickleError:
            raise
        except Exception as error:  # damaged bytes can lead to any
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise PickleError(f"it is damaged, or no PyTorch file: {reason}") from error
    size = file.stat().st_size
    whole = torch.UntypedStorage.from_file(str(file), False, size)
    parts: dict[str, torch.UntypedStorage] = {}

    def read(tensor: Stored) -> Tensor:
        key = tensor.storage.key
        begin, length = records.get(key, (0, -1))
        _check_fit(tensor, length, begin + length <= size)
        if 0 in tensor.size:
            return torch.empty(tensor.size, dtype=tensor.storage.dtype)
        if key not in parts:
            part = whole[begin : begin + length]
            aligned = begin % tensor.storage.dtype.itemsize == 0
            parts[key] = part if size >= MAPPED and aligned else part.clone()
        empty = torch.empty(0, dtype=tensor.storage.dtype)
        return empty.set_(parts[key], tensor.storage.first + tensor.offset, tensor.size, tensor.stride)

    return content, read


def _read_zip(stream: BinaryIO) -> tuple[Any, dict[str, tuple[int, int]]]:
    with zipfile.ZipFile(stream) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        programs = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise PickleError("it is a zip archive, and none of PyTorch's")
        root = programs[0].removesuffix("data.pkl")
        if root + "constants.pkl" in entries:
            raise PickleError("it is a TorchScript program; save the state_dict of its network instead")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries.values()):
            raise PickleError("it was compressed or encrypted after PyTorch wrote it; unpack it first")
        if entries[programs[0]].file_size > LONGEST_PROGRAM:
            raise PickleError("its list of contents is absurdly long")
        if root + "byteorder" in entries and archive.read(root + "byteorder") != b"little":
            raise PickleError("it was written on a big-endian machine; save it again on another")
        content = _read(io.BytesIO(archive.read(programs[0])), _Storages())
    data = root + "data/"
    return content, {
        name.removeprefix(data): (_begin(stream, entry), entry.file_size)
        for name, entry in entries.items()
        if name.startswith(data)
    }


def _begin(stream: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of a record begin; the header before them may be longer than the directory says."""
    stream.seek(entry.header_offset)
    header = stream.read(30)
    if len(header) < 30 or not header.startswith(b"PK\3\4"):
        raise PickleError(f"its record {entry.filename} is damaged")
    name, extra = struct.unpack("<HH", header[26:])
    return int(entry.header_offset + 30 + name + extra)


_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch before 1.6


def _read_legacy(stream: BinaryIO) -> tuple[Any, dict[str, tuple[int, int]]]:
    stream.seek(0, io.SEEK_END)
    end = stream.tell()
    stream.seek(0)
    bounded = _Bounded(stream, end)
    storages = _Storages()
    if _read(bounded, storages) != _MAGIC or _read(bounded, storages) != _PROTOCOL:
        raise PickleError("it is no PyTorch file")
    system = _read(bounded, storages)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise PickleError("it was written on a big-endian machine; save it again on another")
    content = _read(bounded, storages)
    records: dict[str, tuple[int, int]] = {}
    for key in _read(bounded, storages):
        storage = storages.known[key]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.count:
            raise PickleError(f"its storage {key} has {count} numbers where {storage.count} were promised")
        records[key] = (stream.tell(), count * storage.dtype.itemsize)
        stream.seek(count * storage.dtype.itemsize, io.SEEK_CUR)
    return content, records


def _read(stream: Any, storages: _Storages) -> Any:
    return InertReader(stream, _MAKERS, storages).load()


class _Bounded:
    """A stream that is never asked for more bytes than the file has; a file would reserve room for as many."""

    def __init__(self, stream: BinaryIO, end: int) -> None:
        self.stream, self.end, self.readline, self.tell = stream, end, stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        return self.stream.read(min(count, self.end - self.stream.tell()))


class _Storages:
    """The storages that a pickle names, by key."""

    def __init__(self) -> None:
        self.known: dict[str, Storage] = {}

    def __call__(self, identity: Any) -> Storage | Skipped:
        """The storage of a persistent identity: ("storage", type, key, device, count), before 1.6 with a view."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            return Skipped("an object kept elsewhere")
        kind, key, _, count = identity[1:5]
        dtype = _STORAGES.get(kind.full) if isinstance(kind, Name) else None
        if dtype is None or type(key) is not str or not _count(count):
            return Skipped("a storage of an unknown kind")
        storage = self.known.setdefault(key, Storage(key, dtype, count))
        view = identity[5] if len(identity) == 6 else None
        if view is None:
            return storage
        if type(view) is not tuple or len(view) != 3 or not _count(view[1]):
            raise PickleError(f"its storage {key[:40]!r} begins nowhere")
        return Storage(key, dtype, storage.count, view[1])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Stored | None:
    """Arguments of `torch._utils._rebuild_tensor` and its second version."""
    flags = rest[2] if len(rest) > 2 else None  # a conjugated or negated view, whose numbers are not what they seem
    if not isinstance(storage, Storage) or type(size) is not tuple or type(stride) is not tuple or flags:
        return None
    return Stored(storage, offset, size, stride)


def _tensor_of_bytes(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, flags: Any = None
) -> Stored | None:
    """The third version, whose storage has no type."""
    kind = _NAMED_DTYPES.get(dtype.full) if isinstance(dtype, Name) else None
    if not isinstance(storage, Storage) or kind is None or storage.dtype.itemsize != 1:
        return None
    typed = Storage(storage.key, kind, storage.count // kind.itemsize)
    return _tensor(typed, offset, size, stride, grad, hooks, flags)


def _parameter(data: Any, *_: Any) -> Stored | None:
    return data if isinstance(data, Stored) else None


def _from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor with attributes of its own, which are left out; of a subclass nobody knows what its numbers mean."""
    plain = isinstance(kind, Name) and kind.full in ("torch.Tensor", "torch.nn.parameter.Parameter")
    make = _MAKERS.get(function.full) if plain and isinstance(function, Name) else None
    return make(*arguments) if make is not None and type(arguments) is tuple else None


def _dictionary(*_: Any) -> dict[Any, Any]:
    return {}


def _pairs(pairs: Any = ()) -> dict[Any, Any]:
    """OrderedDict of a list of pairs, as Python 2 wrote it."""
    made: dict[Any, Any] = {}
    set_items(made, pairs)
    return made


def _size(numbers: Any = ()) -> tuple[Any, ...]:
    return tuple(numbers) if isinstance(numbers, (list, tuple)) else ()


_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": _dictionary,
    "builtins.dict": _dictionary,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_bytes,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
}


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _check_fit(tensor: Stored, length: int, whole: bool) -> None:
    """Whether a tensor's numbers lie in its record of `length` bytes, and are no more than it has."""
    storage = tensor.storage
    if length < 0 or not whole:
        raise PickleError(f"a tensor's numbers (record {storage.key[:40]!r}) are not in the file")
    numbers = (tensor.offset, *tensor.size, *tensor.stride)
    sound = len(tensor.size) == len(tensor.stride) <= 64 and all(map(_count, numbers))
    if sound:
        has = min(length // storage.dtype.itemsize, storage.count)
        count, last = 1, storage.first + tensor.offset
        for extent, stride in zip(tensor.size, tensor.stride, strict=True):
            count, last = count * extent, last + (extent - 1) * stride
        sound = storage.count * storage.dtype.itemsize <= length and (count == 0 or (count <= has and last < has))
    if not sound:
        raise PickleError(f"a tensor does not fit into its {length} bytes (record {storage.key[:40]!r})")
