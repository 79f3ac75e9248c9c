"""Files written whole or not at all: on a full disk, at the limit of a file's size, where nothing can be written."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from humansd.core.errors import DiskError
from humansd.core.files import write_json, write_text, write_whole
from humansd.inference.image_info import write_png
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.pose import People
from humansd.pose.errors import PoseError
from humansd.pose.formats import write_poses

MOUNT_KB = 64


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with a few kB left."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_KB}k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        (place / "other").write_bytes(bytes((MOUNT_KB - 8) * 1024))
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_with_what_is_needed_and_leaves_the_old_file(full_disk: Path) -> None:
    file = full_disk / "results.json"
    write_json(file, {"ap": 1})
    before = file.read_bytes()
    with pytest.raises(
        OSError, match=r"results\.json: the disk is full; 0\.2 MB are needed there, make room"
    ) as caught:
        write_json(file, "x" * 200_000)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value).startswith(f"{file}: ")
    assert file.read_bytes() == before
    assert sorted(path.name for path in full_disk.iterdir()) == ["other", "results.json"]


def test_a_full_disk_is_no_fault_of_the_pose(full_disk: Path) -> None:
    crowd = People.of([[[i + j, j] for j in range(17)] for i in range(200)], (512, 512))
    with pytest.raises(OSError, match="the disk is full") as caught:
        write_poses(full_disk / "poses.json", {"a": crowd}, "coco")
    assert not isinstance(caught.value, PoseError)


def test_a_limit_of_the_system_keeps_its_number_and_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_text(file, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=r"report\.html: cannot be written \(.*too large\); check the disk") as caught:
            write_text(file, "é" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_or_a_file_that_is_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"none/a\.md: cannot be written .*; make the folder .*none first") as caught:
        write_text(tmp_path / "none" / "a.md", "text")
    assert caught.value.errno == errno.ENOENT
    (tmp_path / "a.md").mkdir()
    with pytest.raises(DiskError, match=r"a\.md: cannot be written .*; name a file, not a folder"):
        write_text(tmp_path / "a.md", "text")
    assert os.listdir(tmp_path) == ["a.md"]


def test_a_fault_of_the_writer_is_not_called_one_of_the_disk(tmp_path: Path) -> None:
    def broken(stream) -> None:
        stream.write(b"half")
        raise PoseError("is not a plain JSON value", field="extras")

    with pytest.raises(PoseError, match="extras"):
        write_whole(tmp_path / "a.json", broken)
    assert not os.listdir(tmp_path)


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", "größer\n")
    assert (tmp_path / "a.md").read_bytes() == "größer\n".encode()


def test_an_image_on_a_full_disk_is_named_too(full_disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    with pytest.raises(OSError, match=r"a\.png: the disk is full; 0\.0\d+ MB are needed there"):
        write_png(full_disk / "a.png", noise, {})
    assert os.listdir(full_disk) == ["other"]


def test_a_network_on_a_full_disk_is_named_too(full_disk: Path) -> None:
    with pytest.raises(OSError, match=r"model\.safetensors: the disk is full; 0\.\d+ MB are needed there"):
        CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(full_disk)
    assert "model.safetensors" not in os.listdir(full_disk)
