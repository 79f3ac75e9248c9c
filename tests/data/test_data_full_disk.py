"""Caches, packs and shards on a disk that is full or fills up: no crash, nothing lost, and the need is named."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from test_data_image_cache import make as make_square
from test_data_shards import files

from humansd.core.disk import allocate
from humansd.core.errors import DiskError
from humansd.data.shards import read_shards, write_shards
from humansd.data.sheet import show_shards
from row_makers import ROWS, SHAPE, build
from shard_makers import make
from small_disk import enlarge, small_disk


def run(program: str, *arguments: object) -> subprocess.CompletedProcess:
    """In a process of its own, which a full disk might end."""
    begin = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_cache_that_does_not_fit_says_so_before_it_begins(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 700) as disk:
        done = run(
            """
            from pathlib import Path
            from row_makers import build
            try:
                build(Path(sys.argv[1]))
            except OSError as error:
                print(error.errno, error)
            """,
            disk,
        )
        assert done.returncode == 0, (done.returncode, done.stderr[-500:])  # not killed by SIGBUS
        assert re.search(rf"^{errno.ENOSPC} {disk}/latents-\w+: the latents that are kept need 1\.0 MB", done.stdout)
        assert "0.7 MB are free; make room there and give the same command again" in done.stdout
        assert not list(disk.rglob("*.npy"))
        enlarge(disk, 3000)
        assert np.array_equal(build(disk)["skeletons"][:, 0, 0, 0], -np.arange(ROWS))


def test_a_disk_that_fills_up_while_a_cache_is_written_does_not_end_the_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 3000) as disk:
        done = run(
            """
            from pathlib import Path
            from row_makers import build, computed
            disk = Path(sys.argv[1])
            def fill(rows):
                try:
                    with (disk / "other").open("ab", buffering=0) as other:
                        while True:
                            other.write(bytes(4096))
                except OSError:
                    return computed(rows)
            try:
                build(disk, fill)
            except OSError as error:
                print(error)
            """,
            disk,
        )
        assert done.returncode == 0, (done.returncode, done.stderr[-500:])
        assert re.search(r"about\.json: the disk is full; .* MB are needed there, make room", done.stdout)
        (disk / "other").unlink()
        rows = build(disk)
        assert np.array_equal(rows["pictures"][:, 1, 2, 3], np.arange(ROWS))


def test_room_is_taken_for_good_and_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no such call")

    for number in range(2):
        path = tmp_path / f"{number}"
        path.write_bytes(b"begin")
        os.truncate(path, 3_000_000)  # a hole
        with path.open("r+b") as stream:
            stream.seek(2_000_000)
            stream.write(b"middle")
        before = path.read_bytes()
        assert path.stat().st_blocks * 512 < 2_000_000
        allocate(path, 3_000_000)
        assert path.stat().st_blocks * 512 >= 3_000_000
        assert path.read_bytes() == before
        monkeypatch.setattr(os, "posix_fallocate", unsupported)


def test_room_that_is_not_there_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 300) as disk:
        (disk / "a").touch()
        with pytest.raises(DiskError, match=r"/a: the disk is full; about 1\.0 MB are needed there and 0\.3 MB are"):
            allocate(disk / "a", 1_000_000)


def test_a_cache_that_was_begun_with_holes_is_finished(tmp_path: Path) -> None:
    """As older versions began them."""
    whole = build(tmp_path / "whole")
    folder = next((tmp_path / "whole").glob("latents-*"))
    old = tmp_path / "old" / folder.name
    old.mkdir(parents=True)
    for name, values in whole.items():
        array = np.lib.format.open_memmap(old / f"{name}.npy", "w+", np.float16, SHAPE)
        array[:16] = values[:16]
        array.flush()
    (old / "about.json").write_text(json.dumps({"a": 1, "done": 16}))
    rows = build(tmp_path / "old")
    assert all(np.array_equal(rows[name], whole[name]) for name in whole)
    assert (old / "pictures.npy").read_bytes() == (folder / "pictures.npy").read_bytes()


@pytest.mark.parametrize("harm", ["cut short", "gone", "other shape", "about"])
def test_a_damaged_cache_is_named_and_not_filled_with_zeros(tmp_path: Path, harm: str) -> None:
    build(tmp_path)
    folder = next(tmp_path.glob("latents-*"))
    about = folder / "about.json"
    about.write_text(json.dumps({"a": 1, "done": 60}))
    if harm == "cut short":
        os.truncate(folder / "pictures.npy", 200_000)
    elif harm == "gone":
        (folder / "pictures.npy").unlink()
    elif harm == "other shape":
        np.save(folder / "pictures.npy", np.zeros((ROWS, 4, 33, 32), np.float16))
    else:
        about.write_text("{")
    with pytest.raises(ValueError, match=rf"{folder}/.*delete {folder} to compute it again"):
        build(tmp_path)


def test_a_finished_cache_is_opened_and_not_written(tmp_path: Path) -> None:
    build(tmp_path)
    folder = next(tmp_path.glob("latents-*"))
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.*")}
    assert not build(tmp_path)["pictures"].flags.writeable
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("*.*")}


def test_shards_on_a_full_disk_keep_what_is_whole_and_go_on_when_there_is_room(tmp_path: Path) -> None:
    write_shards(make, 20, tmp_path / "whole", per_shard=5, workers=1, progress=False)
    size = (tmp_path / "whole" / "shard-000000.tar").stat().st_size
    with small_disk(tmp_path / "disk", 2 * size // 1024 + 16) as disk:
        with pytest.raises(DiskError, match=r"shard-000002\.tar: the disk is full; about .* MB are needed") as caught:
            write_shards(make, 20, disk, per_shard=5, workers=1, progress=False)
        assert caught.value.errno == errno.ENOSPC
        assert "make room and give the same command again" in str(caught.value)
        kept = {name: data for name, data in files(disk).items() if name != "manifest.json"}
        assert kept == {name: files(tmp_path / "whole")[name] for name in ("shard-000000.tar", "shard-000001.tar")}
        assert not list(disk.glob(".writing-*"))
        enlarge(disk, 10 * size // 1024)
        write_shards(make, 20, disk, per_shard=5, workers=1, progress=False)
        assert files(disk) == files(tmp_path / "whole")
        assert len(list(read_shards(disk))) == 20


def test_a_pack_that_does_not_fit_says_so_and_is_built_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from humansd.data.image_cache import build_image_cache

    write_shards(make_square, 12, tmp_path / "data", per_shard=4, workers=1, progress=False)
    with small_disk(tmp_path / "disk", 600) as disk:
        with pytest.raises(DiskError, match=r"pack: the images need 0\.0 MB and 0\.6 MB are free; use fewer"):
            build_image_cache(tmp_path / "data", disk / "pack")
        assert not (disk / "pack" / "about.json").exists()
        monkeypatch.setattr("humansd.data.image_rows.check_space", lambda *_: None)  # as if the room went later
        enlarge(disk, 16)
        with pytest.raises(DiskError, match=r"pictures\.npy: the disk is full; about 0\.0 MB are needed there"):
            build_image_cache(tmp_path / "data", disk / "pack")
        assert [path.name for path in (disk / "pack").iterdir()] == [".lock"]
        enlarge(disk, 3000)
        assert len(build_image_cache(tmp_path / "data", disk / "pack")) == 12


def test_a_sheet_on_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    write_shards(make, 5, tmp_path / "data", per_shard=5, workers=1, progress=False)
    with small_disk(tmp_path / "disk", 100) as disk:
        (disk / "sheet.png").write_bytes(b"an old sheet")
        (disk / "other").write_bytes(bytes(80_000))
        with pytest.raises(DiskError, match=r"sheet\.png: the disk is full"):
            show_shards(tmp_path / "data", disk / "sheet.png")
        assert (disk / "sheet.png").read_bytes() == b"an old sheet"
