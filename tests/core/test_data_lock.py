"""One writer at a time in a folder, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_data_image_cache import make as make_square

from humansd.core.errors import DiskError
from humansd.core.lock import LOCK_FILE, LockedError, locked
from humansd.data.image_cache import find_image_cache
from humansd.data.shards import ShardError, write_shards
from shard_makers import make

pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from humansd.core.lock import locked
with locked(Path(sys.argv[1]), "a training run"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    {then}
"""


def holder(folder: Path, seconds: float, then: str = "") -> subprocess.Popen:
    """Another process that holds the folder's lock."""
    command = [sys.executable, "-c", HOLD.format(then=then), str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = holder(folder, 60)
    try:
        text = rf"run: another process \({process.pid}\) is writing shards there; wait .* or choose another folder"
        with pytest.raises(LockedError, match=text), locked(folder, "shards"):
            pass
        with pytest.raises(ShardError, match=text):
            write_shards(make, 5, folder, workers=1, progress=False)
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    with locked(folder, "shards"):
        pass


def test_who_waits_is_told_and_goes_on_when_the_other_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = holder(tmp_path, 1.0)
    with locked(tmp_path, "latents", wait=True):
        assert process.wait(10) == 0
    lines = caplog.messages
    assert len(lines) == 1
    assert f"{tmp_path}: another process ({process.pid}) is writing latents there; waiting for it" in lines[0]


def test_a_thread_may_take_it_again_and_another_may_not(tmp_path: Path) -> None:
    seen: list[object] = []

    def other() -> None:
        try:
            with locked(tmp_path / "." / "x" / "..", "shards"):
                seen.append("held")
        except LockedError as error:
            seen.append(str(error))

    (tmp_path / "x").mkdir()
    with locked(tmp_path, "shards"):
        with locked(tmp_path, "an image pack"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"another process ({os.getpid()}, this one)" in str(seen[0])
    with locked(tmp_path, "shards"):
        pass


def test_a_forked_child_does_not_keep_the_lock_of_a_parent_that_is_gone(tmp_path: Path) -> None:
    process = holder(tmp_path, 0.0, then="import os; os.fork() or time.sleep(20)")
    process.kill()
    process.wait()
    with locked(tmp_path, "shards"):
        pass


def test_a_folder_that_is_removed_while_one_waits_is_locked_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = holder(folder, 1.0, then="import shutil; shutil.rmtree(sys.argv[1])")
    with locked(folder, "shards", wait=True):
        assert (folder / LOCK_FILE).exists()
        command = [sys.executable, "-c", HOLD.format(then=""), str(folder), "0"]
        third = subprocess.run(command, capture_output=True, text=True)
        assert f"another process ({os.getpid()}) is writing a training run there" in third.stderr
    process.wait()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(DiskError, match=r"file/run: cannot be written \(.*\); check its rights"),
        locked(tmp_path / "file" / "run", "shards"),
    ):
        pass


def test_two_processes_make_one_pack_and_the_second_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(make_square, 12, tmp_path / "data", per_shard=4, workers=1, progress=False)
    build = "build_image_cache(Path(sys.argv[1]).parent, Path(sys.argv[1]))"
    then = f"from humansd.data.image_cache import build_image_cache; {build}"
    process = holder(tmp_path / "data" / "pack", 1.0, then)
    started = time.monotonic()
    image_cache = find_image_cache(tmp_path / "data")
    assert time.monotonic() - started > 0.5
    assert process.wait(10) == 0
    assert len(image_cache) == 12
    assert "waiting for it" in caplog.text
    first = (tmp_path / "data" / "pack" / "about.json").stat().st_ino
    assert find_image_cache(tmp_path / "data").digest() == image_cache.digest()
    assert (tmp_path / "data" / "pack" / "about.json").stat().st_ino == first
