"""Checkpoints with more than weights in them: read without running anything, hostile ones refused in one line."""

from __future__ import annotations

import collections
import copyreg
import io
import os
import pickle
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from humansd.checkpoints import inert_pickle, torch_files
from humansd.checkpoints.convert import read_checkpoint
from tiny_ldm import lightning_class


@pytest.fixture
def lightning():
    with lightning_class() as callback:
        yield callback


def trained() -> tuple[dict, dict]:
    """Weights of many forms, and the states of an optimiser."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 4)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    table = torch.arange(12.0).reshape(3, 4)
    more = {
        "turned": table.t(),
        "window": table[1:, 1:3],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.empty(0, 3),
        "one": torch.tensor(3),
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.float16, torch.bfloat16, torch.float64, torch.bool)},
    }
    return collections.OrderedDict(network.state_dict() | more), optimiser.state_dict()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_lightning_checkpoint_gives_its_weights_and_says_what_was_skipped(
    zipped, protocol, mapped, lightning, tmp_path, monkeypatch
):
    if mapped:
        monkeypatch.setattr(torch_files, "MAPPED", 0)
    weights, states = trained()
    checkpoint = {
        "epoch": 3,
        "global_step": 95000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": weights,
        "callbacks": {lightning: {"best": torch.tensor(1.0), "which": lightning(), "score": np.float64(3)}},
        "optimizer_states": [states],
        "lr_schedulers": [],
    }
    file = tmp_path / "humansd.ckpt"
    torch.save(checkpoint, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    for name in [one for one in sys.modules if one.startswith("pytorch_lightning")]:
        del sys.modules[name]
    with pytest.warns(UserWarning, match=r"humansd\.ckpt: only its weights are read; skipped: ") as said:
        read = read_checkpoint(file)
    assert len(said) == 1
    text = str(said[0].message)
    assert "callbacks (pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint, " in text
    assert text.endswith(", optimizer_states")
    assert read.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(read[name], weight), name
        assert read[name].dtype == weight.dtype


@pytest.mark.filterwarnings("error")
def test_plain_files_bring_no_note(tmp_path):
    weights, _ = trained()
    for content in (weights, {"state_dict": weights, "epoch": 3, "name": "x", "betas": []}, {"model": weights}):
        torch.save(content, tmp_path / "plain.pth")
        assert read_checkpoint(tmp_path / "plain.pth").keys() == weights.keys()


def test_numbers_as_keys_are_no_names(tmp_path):
    file = tmp_path / "m.pth"
    torch.save({1: torch.zeros(2), (2, 3): torch.ones(1), "a": torch.ones(2)}, file)
    with pytest.warns(UserWarning, match="skipped: an entry without a name"):
        assert list(read_checkpoint(file)) == ["a"]
    torch.save({"state_dict": {0: torch.zeros(2)}}, file)
    with pytest.raises(ValueError, match=r"m\.pth: holds no named weights; give"):
        read_checkpoint(file)


def test_a_whole_pickled_network_is_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m\.pth: holds no named weights but torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(tmp_path / "m.pth")


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def refused(file: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_checkpoint(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: not a checkpoint of plain weights: ")
    assert "\n" not in message
    assert "weights_only" not in message


RUN = "open({!r}, 'w').close()"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("posix.system", lambda mark: Call(os.system, f"touch {mark}")),
        ("builtins.exec", lambda mark: Call(exec, RUN.format(str(mark)))),
        ("builtins.eval", lambda mark: {"deep": [(Call(eval, RUN.format(str(mark))),)]}),
        ("builtins.getattr", lambda mark: Call(getattr, [], "clear")),
        ("io.open", lambda mark: Call(open, str(mark), "w")),
        ("builtins.__import__", lambda mark: Call(__import__, "antigravity")),
        ("pickle.loads", lambda mark: Call(pickle.loads, pickle.dumps(1))),
    ],
)
def test_a_file_that_asks_for_code_is_refused_and_runs_nothing(name, make, zipped, tmp_path):
    mark, file = tmp_path / "ran", tmp_path / "bad.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "more": make(mark)}, file, _use_new_zipfile_serialization=zipped)
    refused(file, f"it asks for {name.replace('.', '[.]')}, which no weights need; nothing of it was run")
    assert not mark.exists()


OLD_NAMES = [
    (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
    (b"(S'true'\nios\nsystem\n.", "os.system"),
    (b"(cposix\nsystem\nS'true'\no.", "posix.system"),
    (b"ccommands\ngetoutput\n(S'true'\ntR.", "subprocess.getoutput"),
    (b"\x80\x04\x8c\x08builtins\x8c\x0cgetattr.eval\x93.", "builtins.getattr.eval"),
    (b"\x80\x02coperator\nmethodcaller\nq\x00.", "operator.methodcaller"),
]


@pytest.mark.parametrize(("program", "name"), OLD_NAMES)
def test_no_instruction_reaches_a_function(program, name, tmp_path):
    write_zip(tmp_path / "bad.ckpt", program, {})
    refused(tmp_path / "bad.ckpt", f"asks for {name}")


def test_objects_of_other_modules_are_never_made_nor_given_state(tmp_path, monkeypatch):
    ran: list[str] = []
    module = types.ModuleType("some_trainer")

    class Thing(list):
        def __new__(cls, *arguments):
            ran.append("new")
            return super().__new__(cls)

        def __setstate__(self, state):
            ran.append("state")

        def append(self, value):
            ran.append("append")

        def __reduce__(self):
            return module.make, (1,), {"a": 1}, iter([1, 2])

    def make(*arguments):
        ran.append("call")
        return Thing()

    for one in (Thing, make):
        one.__module__, one.__qualname__ = "some_trainer", one.__name__
    module.Thing, module.make = Thing, make
    monkeypatch.setitem(sys.modules, "some_trainer", module)
    file = tmp_path / "m.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1), "b": Thing()}, "hooks": [Thing()]}, file)
    program = b"\x80\x02}(U\x01wcsome_trainer\nThing\n)\x81}U\x01xK\x01sbu."
    write_zip(tmp_path / "new.ckpt", program, {})
    ran.clear()
    with pytest.warns(UserWarning, match=r"skipped: hooks \(some_trainer\.make\), b \(some_trainer\.make\)"):
        assert list(read_checkpoint(file)) == ["a"]
    with pytest.raises(ValueError, match=r"holds no named weights but some_trainer\.Thing"):
        read_checkpoint(tmp_path / "new.ckpt")
    assert ran == []


def test_registered_extensions_are_refused(tmp_path):
    copyreg.add_extension("os", "system", 77)
    try:
        write_zip(tmp_path / "m.ckpt", b"\x80\x02\x82M.", {})
        refused(tmp_path / "m.ckpt", "it has an instruction EXT1")
    finally:
        copyreg.remove_extension("os", "system", 77)


class Reference:
    """Pickled as a storage of `count` numbers, kept in the record `key`."""

    def __init__(self, count, key="0", kind=torch.FloatStorage):
        self.identity = ("storage", kind, key, "cpu", count)


def tensor_file(file: Path, count=4, offset=0, size=(4,), stride=(1,), *, key="0", numbers=b"\0" * 16) -> None:
    """A checkpoint of one weight, which lies as the arguments say in a record of 16 bytes."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, one):
            return one.identity if isinstance(one, Reference) else None

    stream = io.BytesIO()
    rebuild = Call(
        torch._utils._rebuild_tensor_v2, Reference(count, key), offset, size, stride, False, collections.OrderedDict()
    )
    Pickler(stream, protocol=2).dump({"a": torch.nn.Parameter, "weight": rebuild})
    write_zip(file, stream.getvalue(), {"0": numbers})


def write_zip(file: Path, program: bytes, records: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", how) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
        for key, numbers in records.items():
            archive.writestr(f"archive/data/{key}", numbers)


@pytest.mark.parametrize(
    "what",
    [
        {"count": 2**40, "size": (2**40,)},  # more numbers than the record has
        {"count": 5, "size": (5,)},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**70},
        {"stride": (2,)},
        {"stride": (-1,), "offset": 3},
        {"size": (2, 2), "stride": (4, 1)},
        {"size": (2**40,), "stride": (0,)},  # one number read a million million times
        {"size": (2**33, 2**33), "stride": (0, 0)},
        {"size": (4, 1), "stride": (1,)},
        {"size": ((4,),)},
        {"size": (True,)},
        {"size": ("4",)},
        {"size": (1,) * 65, "stride": (1,) * 65},
        {"key": "../../version", "count": 0, "size": (0,)},
        {"key": "1"},
    ],
    ids=str,
)
def test_a_tensor_that_does_not_lie_in_the_file_is_refused(what, tmp_path):
    file = tmp_path / "m.ckpt"
    tensor_file(file)
    with pytest.warns(UserWarning, match=r"skipped: a \(torch\.nn\.parameter\.Parameter\)"):
        assert read_checkpoint(file)["weight"].shape == (4,)
    tensor_file(file, **what)
    refused(file, "a tensor does not fit|numbers .* are not in the file")


def test_absurd_lengths_and_damaged_files_are_refused(tmp_path):
    file = tmp_path / "m.ckpt"
    weights, _ = trained()
    for zipped in (True, False):
        torch.save(weights, file, _use_new_zipfile_serialization=zipped)
        whole = file.read_bytes()
        for length in (0, 1, 50, len(whole) // 2, len(whole) - 40):
            file.write_bytes(whole[:length])
            refused(file, "it is (damaged|no PyTorch file|a zip archive)|not in the file|not fit")
    for program in (
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.",
        b"\x80\x05\x96" + b"\xff" * 8 + b".",
        b"\x80\x02(((.",
        b"0.",
    ):
        write_zip(file, program, {})
        with pytest.raises(ValueError, match=r"m\.ckpt: "):
            read_checkpoint(file)
        file.write_bytes(program)
        refused(file, "it ")
    nested = b"\x80\x02" + b")" + b"\x85" * 200_000 + b"}K\x01s."  # a tuple in tuples as the key of a dictionary
    write_zip(file, b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.", {})
    with pytest.raises(ValueError, match="holds no named weights but a key of the type tuple"):
        read_checkpoint(file)
    write_zip(file, nested, {})
    with pytest.raises(ValueError, match=r"m\.ckpt: "):
        read_checkpoint(file)


def test_numbers_that_collide_and_endless_programs_are_refused_at_once(tmp_path, monkeypatch):
    file, step = tmp_path / "m.ckpt", sys.hash_info.modulus
    keys = b"".join(b"\x8a\x0d" + (step * n).to_bytes(13, "little") + b"N" for n in range(1, 30_000))
    write_zip(file, b"\x80\x02}(" + keys + b"u.", {})
    refused(file, "a dictionary of more than 10000 numbers")
    monkeypatch.setattr(inert_pickle, "MOST_STEPS", 1000)
    write_zip(file, b"\x80\x02" + b"N0" * 600 + b"}.", {})
    refused(file, "more than 1000 instructions")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.ckpt")
    for path in (tmp_path / "pipe.ckpt", tmp_path):
        with pytest.raises(OSError, match="a folder, a pipe or a device; name a file"):
            read_checkpoint(path)


def test_archives_of_other_kinds_are_named(tmp_path):
    file = tmp_path / "m.ckpt"
    write_zip(file, pickle.dumps({}, 2), {}, zipfile.ZIP_DEFLATED)
    refused(file, "compressed or encrypted after PyTorch wrote it")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "x")
    refused(file, "a zip archive, and none of PyTorch's")
    torch.jit.script(torch.nn.Linear(1, 1)).save(file)
    refused(file, "a TorchScript program")
    with tarfile.open(file, "w") as archive:
        archive.add(__file__, "pickle")
    refused(file, "it is (damaged|no PyTorch file)")


def test_a_mapped_file_is_not_copied(tmp_path, monkeypatch):
    """Each weight lies in the file's own pages, apart from the others, so that nothing takes them for tied."""
    monkeypatch.setattr(torch_files, "MAPPED", 0)
    torch.save({"a": torch.ones(1000), "b": torch.zeros(1000)}, tmp_path / "m.pth")
    read = read_checkpoint(tmp_path / "m.pth")
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert "m.pth" in maps.read_text()
    assert read["a"].untyped_storage().nbytes() == 4000
    assert read["a"].untyped_storage().data_ptr() != read["b"].untyped_storage().data_ptr()
    read["a"].zero_()  # a private copy: the file stays
    assert torch.equal(read_checkpoint(tmp_path / "m.pth")["a"], torch.ones(1000))
