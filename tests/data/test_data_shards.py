import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import pytest
from test_data_sample import equal

import shard_makers
from humansd.data import ShardError, count_samples, read_shards, write_shards
from humansd.data.sheet import sample_sheet, show_shards
from shard_makers import COUNT, PER_SHARD, fails_at_seven, make


def write(out, count=COUNT, workers=1, maker=make, **more):
    options = {"per_shard": PER_SHARD, "progress": False, "settings": {"a": 1}, **more}
    return write_shards(maker, count, out, workers=workers, **options)


def files(folder):
    """Name -> content of everything but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished data set; tests must not change it."""
    out = tmp_path_factory.mktemp("whole")
    write(out)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    for name, data in files(whole).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_every_sample_comes_back_in_order(whole):
    samples = list(read_shards(whole))
    assert len(samples) == count_samples(whole) == COUNT
    assert all(equal(sample, make(index)) for index, sample in enumerate(samples))


def test_three_workers_write_the_same_bytes_as_one(whole, tmp_path):
    write(tmp_path, workers=3)
    assert files(tmp_path) == files(whole)


def test_the_manifest_tells_the_truth(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [entry["n"] for entry in manifest["shards"]] == [5] * 8 + [3]
    for entry in manifest["shards"]:
        data = (whole / entry["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])


def test_headers_hold_nothing_of_this_machine(whole):
    with tarfile.open(whole / "shard-000000.tar") as tar:
        headers = {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in tar}
    assert headers == {(0, 0, 0, "", "", 0o644)}


def test_the_webdataset_library_reads_the_shards(whole):
    webdataset = pytest.importorskip("webdataset")
    paths = [str(path) for path in sorted(whole.glob("*.tar"))]
    read = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [make(index).key for index in range(COUNT)]
    assert json.loads(read[7]["json"])["caption"] == make(7).caption


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_loses_and_doubles_nothing(whole, tmp_path, workers):
    program = [sys.executable, str(Path(shard_makers.__file__)), str(tmp_path), str(workers), "0.05"]
    for shards_before_kill in (2, 5):
        child = subprocess.Popen(program, start_new_session=True)
        wait_for(lambda: len(list(tmp_path.glob("shard-*.tar"))) >= shards_before_kill)  # noqa: B023
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        wait_for(lambda: not group_alive(child.pid))  # noqa: B023
        assert len(list(tmp_path.glob("shard-*.tar"))) < 9
    kept = (tmp_path / "shard-000000.tar").stat().st_mtime_ns
    (tmp_path / ".writing-shard-000099.tar").write_bytes(b"left by a kill")
    write(tmp_path)
    assert files(tmp_path) == files(whole)
    assert (tmp_path / "shard-000000.tar").stat().st_mtime_ns == kept


def group_alive(group):
    """Whether a process of this group still runs (the workers of a killed parent must not)."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return any(int(fields[2]) == group and fields[0] != "Z" for fields in states)


def wait_for(condition, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_finished_set_is_not_made_again(copy):
    def never(index):
        raise AssertionError("must not be called")

    before = {path: path.stat().st_mtime_ns for path in copy.glob("*.tar")}
    write(copy, maker=never)
    assert before == {path: path.stat().st_mtime_ns for path in copy.glob("*.tar")}


def test_a_deleted_shard_is_made_again(copy, whole):
    (copy / "shard-000003.tar").unlink()
    write(copy)
    assert files(copy) == files(whole)


def test_an_error_of_the_maker_arrives_and_the_rest_can_go_on(tmp_path, whole):
    for workers in (1, 2):
        with pytest.raises(ValueError, match="index 7"):
            write(tmp_path, maker=fails_at_seven, workers=workers)
    with pytest.raises(ShardError, match=r"unfinished, 5 of 43.*again"):
        list(read_shards(tmp_path))
    assert len(list(read_shards(f"{tmp_path}/shard-*.tar"))) == 5
    write(tmp_path)
    assert files(tmp_path) == files(whole)


def test_equal_keys_are_refused(tmp_path):
    with pytest.raises(ShardError, match="s000001"):
        write(tmp_path, maker=partial(lambda index: make(1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 44}, "count 43, now asked for 44"),
        ({"per_shard": 6}, "per_shard 5"),
        ({"settings": {"a": 2}}, "a 1, now asked for 2"),
        ({"settings": {"a": 1, "b": 1}}, "b None, now asked for 1"),
        ({"settings": {}}, "a 1, now asked for None"),
    ],
)
def test_other_settings_are_refused(copy, change, message):
    before = files(copy)
    with pytest.raises(ShardError, match=message) as caught:
        write(copy, **change)
    assert "manifest.json" in str(caught.value)
    assert "another folder" in str(caught.value)
    assert files(copy) == before


def test_a_folder_of_foreign_shards_is_refused(tmp_path):
    (tmp_path / "other.tar").write_bytes(b"")
    with pytest.raises(ShardError, match="empty folder"):
        write(tmp_path)


def test_two_writers_at_once_are_refused(copy):
    fcntl = pytest.importorskip("fcntl")
    with (copy / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ShardError, match="another process"):
            write(copy)


def damaged(path, name):
    data = bytearray(path.read_bytes())
    if name == "cut in the middle":
        data = data[: len(data) // 2]
    elif name == "cut between members":
        with tarfile.open(path) as tar:
            data = data[: tar.getmembers()[2].offset]
    elif name == "header damaged":
        with tarfile.open(path) as tar:
            offset = tar.getmembers()[2].offset
        data[offset : offset + 8] = b"\xff" * 8
    elif name == "image damaged":
        with tarfile.open(path) as tar:
            member = tar.getmember("s000002.png")
        data[member.offset_data + member.size // 2] ^= 0x55
    elif name == "no tar":
        data = bytearray(b"<html>not found</html>" * 100)
    elif name == "empty":
        data = bytearray()
    path.write_bytes(bytes(data))


DAMAGES = ("cut in the middle", "cut between members", "header damaged", "image damaged", "no tar", "empty")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_shard_is_named(copy, name):
    path = copy / "shard-000000.tar"
    damaged(path, name)
    with pytest.raises(ShardError, match=r"shard-000000\.tar"):
        list(read_shards(path))
    with pytest.raises(ShardError, match=r"shard-000000\.tar"):
        list(read_shards(copy))
    with pytest.raises(ShardError, match=r"shard-000000\.tar.*sha256"):
        write(copy)


def test_a_member_that_claims_gigabytes_is_refused(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 34
    (tmp_path / "bomb.tar").write_bytes(info.tobuf() + bytes(2048))
    with pytest.raises(ShardError, match=r"bomb\.tar: a\.png has 17179869184 bytes"):
        list(read_shards(tmp_path))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1, "count": 1}'])
def test_a_broken_manifest_is_named(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(ShardError, match=r"manifest\.json"):
        list(read_shards(copy))


def test_a_manifest_cannot_point_outside_its_folder(copy):
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace("shard-000000.tar", "../shard-000000.tar"))
    with pytest.raises(ShardError, match="not the name of a shard"):
        list(read_shards(copy))


@pytest.mark.parametrize("source", ["nothing", "nothing/*.tar", "."])
def test_no_shards_are_an_error(tmp_path, source):
    with pytest.raises(ShardError, match="no shards there"):
        list(read_shards(tmp_path / source))


def test_the_sheet_shows_the_first_samples(whole, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    assert show_shards(whole, out, n=5) == 5
    assert out.read_bytes().startswith(b"\x89PNG")
    one, six = (sample_sheet([make(i) for i in range(n)]) for n in (1, 6))
    assert six.width > 2 * one.width
    assert six.height > one.height
