"""Building data sets: what is kept, what is left out and told, and that kills, engines and workers change nothing."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import build_makers
from build_makers import SIDE, STAGES, Spots, image_bytes, standing
from humansd.build import decode
from humansd.build.decode import ImageError, decode_image, without_metadata
from humansd.build.duplicates import NearDuplicates, distance, perceptual_hash
from humansd.build.engine import local_engine, stage_groups
from humansd.build.filters import HasCaption, Minors
from humansd.build.item import Item, each
from humansd.build.laion import LaionOptions
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.stages import Decode, Encode
from humansd.build.writer import left_out_lines
from humansd.core.errors import DiskError
from humansd.data import sample
from humansd.data.buckets import find_buckets
from humansd.data.sample import Sample, SampleError
from humansd.data.shards import ShardError, read_shards, write_shards
from humansd.inference import detect
from humansd.pose.errors import PoseError

SPOTS = Spots(60)
PLAN = Plan(STAGES, per_shard=12, batch_size=4, near=3)


def build(out, source=SPOTS, plan=PLAN, **more):
    return build_dataset(source, plan, out, progress=False, **more)


def files(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    build(out)
    return out


def test_every_item_is_kept_or_told(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    samples = list(read_shards(whole))
    # of 60: six broken; of the nine in place of number 3 (6, 13, ...), one is broken too
    assert manifest["build"]["left_out"] == {"decode: not a readable image": 6, "duplicates: the same image": 8}
    assert len(samples) == manifest["count"] == 46
    assert [entry["n"] for entry in manifest["shards"]] == [12, 12, 12, 10]
    lines = list(left_out_lines(whole))
    kept = {sample.extras["origin"]["n"] for sample in samples}
    assert sorted([*kept, *(line["index"] for line in lines)]) == list(range(60))
    card = (whole / "README.md").read_text()
    for told in ("46 samples", "decode: not a readable image | 6", "Known biases", "minors", "`Decode`"):
        assert told in card


def test_samples_keep_the_pixels_of_their_photographs(whole):
    sample = next(iter(read_shards(whole)))
    wanted = np.asarray(Image.open(io.BytesIO(image_bytes(0))))
    assert np.array_equal(sample.image, wanted)
    assert sample.people.n == 1
    assert sample.people.canvas == (SIDE, SIDE)


def test_two_workers_write_what_one_does(whole, tmp_path):
    build(tmp_path, workers=2)
    assert files(tmp_path) == files(whole)


def test_ray_writes_what_the_local_engine_does(whole, tmp_path):
    pytest.importorskip("ray.data")
    script = Path(build_makers.__file__)
    done = subprocess.run([sys.executable, script, tmp_path, "ray"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == files(whole)


def test_kills_lose_and_double_nothing(whole, tmp_path):
    moment = random.Random(0)
    for shards in (1, 3):
        process = subprocess.Popen([sys.executable, build_makers.__file__, tmp_path, "slow"], start_new_session=True)
        while process.poll() is None and len(list(tmp_path.glob("shard*.tar"))) < shards:
            time.sleep(0.005)
        time.sleep(moment.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if len(list(tmp_path.glob("shard*.tar"))) < 4:
        with pytest.raises(ShardError, match="unfinished"):
            next(read_shards(tmp_path))
    build(tmp_path)
    assert files(tmp_path) == files(whole)


@dataclass(frozen=True)
class Stopping:
    """Spots, until item `at` is asked for."""

    spots: Spots
    at: int

    def __len__(self):
        return len(self.spots)

    def item(self, index):
        if index == self.at:
            raise KeyboardInterrupt
        return self.spots.item(index)

    def signature(self):
        return self.spots.signature()


@dataclass(frozen=True)
class EveryThird:
    """Chooses by what the whole pool holds."""

    def __call__(self, batch):
        left = [item.index for item in batch if not item.left_out]
        return [item if item.left_out or item.index in left[::3] else item.drop("choice", "no") for item in batch]


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan(STAGES, per_shard=3, batch_size=2, pool=10, select=EveryThird()),
        Plan(STAGES, per_shard=3, batch_size=2, pool=10, select=EveryThird(), count=11),
    ],
)
def test_twenty_stops_at_random_items_change_nothing(plan, tmp_path):
    build(tmp_path / "whole", plan=plan)
    moment = random.Random(3)
    for _ in range(20):
        with contextlib.suppress(KeyboardInterrupt):
            build(tmp_path / "stopped", Stopping(Spots(60), moment.randrange(60)), plan)
    build(tmp_path / "stopped", plan=plan)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_a_finished_build_is_left_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*.tar")}
    build(whole)
    assert {path: path.stat().st_mtime_ns for path in whole.glob("*.tar")} == before


def test_another_source_or_plan_is_refused(whole):
    with pytest.raises(ShardError, match="begun with source"):
        build(whole, Spots(61))
    with pytest.raises(ShardError, match="begun with near_duplicates 3, now asked for None"):
        build(whole, plan=Plan(STAGES, per_shard=12, batch_size=4))


def test_a_changed_shard_is_refused(whole, tmp_path):
    for name, data in files(whole).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "shard-000001.tar").write_bytes(b"\0" * (tmp_path / "shard-000001.tar").stat().st_size)
    with pytest.raises(ShardError, match=r"shard-000001\.tar"):
        build(tmp_path)


@dataclass(frozen=True)
class Flaky:
    """Every third item has no luck while `broken` exists."""

    broken: str

    def __call__(self, batch):
        def one(item: Item) -> Item:
            lost = Path(self.broken).exists() and item.index % 3 == 0
            return item.drop("fetch", "the server is down", retry=True) if lost else item

        return each(batch, one)


def test_what_failed_for_now_is_tried_again_by_the_next_run(tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    plan = Plan((Flaky(str(broken)), *STAGES), per_shard=12, batch_size=4)
    first = build(tmp_path / "out", Spots(30), plan)
    assert first["build"]["left_out"]["fetch: the server is down"] == 10
    kept = first["count"]
    again = build(tmp_path / "out", Spots(30), plan)
    assert again["count"] == kept
    broken.unlink()
    assert_log(tmp_path / "out", again, 30)
    last = build(tmp_path / "out", Spots(30), plan)
    assert "fetch: the server is down" not in last["build"]["left_out"]
    samples = [sample.extras["origin"]["n"] for sample in read_shards(tmp_path / "out")]
    assert len(samples) == len(set(samples)) == last["count"] > kept
    assert last["build"]["left_out"]["decode: not a readable image"] == 3
    assert_log(tmp_path / "out", last, 30)


def assert_log(out, manifest, count):
    """Every item is in a shard or has one line, with the reason that is counted."""
    lines = list(left_out_lines(out))
    kept = [sample.extras["origin"]["n"] for sample in read_shards(out)]
    assert sorted([*kept, *(line["index"] for line in lines)]) == list(range(count))
    assert Counter(f"{line['stage']}: {line['reason']}" for line in lines) == manifest["build"]["left_out"]


class Killed(BaseException):
    pass


def test_a_second_try_that_is_killed_at_any_step_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.touch()
    plan = Plan((Flaky(str(broken)), *STAGES), per_shard=4, batch_size=4)
    build(tmp_path / "first", Spots(30), plan)
    broken.unlink()
    shutil.copytree(tmp_path / "first", tmp_path / "whole")
    assert_log(tmp_path / "whole", build(tmp_path / "whole", Spots(30), plan), 30)
    steps = itertools.count()

    def step(done):
        def counted(*args, **more):
            if next(steps) == at:
                raise Killed
            return done(*args, **more)

        return counted

    replace, fsync = os.replace, os.fsync
    for at in itertools.count():
        out = tmp_path / f"killed-{at}"
        shutil.copytree(tmp_path / "first", out)
        steps = itertools.count()
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", step(replace))
            patched.setattr(os, "fsync", step(fsync))
            with contextlib.suppress(Killed):
                build(out, Spots(30), plan)
        if next(steps) <= at:
            break
        build(out, Spots(30), plan)
        assert files(out) == files(tmp_path / "whole"), at
        shutil.rmtree(out)
    assert at >= 16  # steps of three shards, of the manifest and of the log


@dataclass(frozen=True)
class Waiting:
    seconds: float
    waits = True

    def __call__(self, batch):
        time.sleep(self.seconds)
        return batch


def test_waiting_stages_wait_together_and_keep_the_order():
    batches = [[Item(n, str(n), {})] for n in range(24)]
    started = time.monotonic()
    done = list(local_engine((Waiting(0.1),), batches, 1))
    assert time.monotonic() - started < 1.2  # one after the other: 2.4 s
    assert [batch[0].index for batch in done] == list(range(24))


def test_the_benchmark_says_what_holds():
    from humansd.benchmarks.build_speed import Costs, benchmark_build

    text = benchmark_build(count=80, side=32, workers=1, wait_s=0.01, memory=100, ray=0)
    found = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if "|" in line}
    assert {"source", "Make", "Decode", "Quality", "Encode", "write (one process)", "together"} <= set(found)
    assert float(found["together"]) > float(found["Decode"]) > 0
    for name in ("all stages", "behind a network"):
        assert float(found[f"{name}: images a second"]) > 0
        assert float(found[f"{name}: CPU ms an image, steady"]) > 0
        assert found[f"{name}: last shard"].endswith("x the median")
    assert "at the end" in found["memory, 100 small images"]
    slow = Costs({"one": 0.01, "two": 0.002}, writing=0.001)
    assert slow.bound(cores=8, workers=4) == pytest.approx(400)  # the slowest stage on four workers
    assert slow.bound(cores=2, workers=8) == pytest.approx(2 / 0.013)  # all that two cores can do
    assert Costs({"one": 0.001}, writing=0.01).bound(64, 64) == pytest.approx(100)  # there is one writer


def test_light_filters_before_a_network_start_no_processes_of_their_own():
    light, waits, computes = (HasCaption(), Minors()), Waiting(0), Decode()
    assert stage_groups([*light, waits, computes]) == [(True, (*light, waits)), (False, (computes,))]
    assert stage_groups([computes, *light, Encode()]) == [(False, (computes, *light, Encode()))]
    assert stage_groups(light) == [(False, light)]
    known = LaionOptions(estimator="").stages()
    assert [waits for waits, _ in stage_groups(known)] == [True, False]


@pytest.mark.parametrize("size", [(200, 120), (64, 64)])
def test_the_perceptual_hash_is_that_of_imagehash(size):
    imagehash = pytest.importorskip("imagehash")
    for number in range(20):
        image = Image.open(io.BytesIO(image_bytes(number, size)))
        assert f"{perceptual_hash(np.asarray(image)):016x}" == str(imagehash.phash(image))


def test_near_duplicates_are_found_like_by_comparing_all():
    rng = random.Random(1)
    hashes = [rng.getrandbits(64) for _ in range(300)]
    hashes += [h ^ sum(1 << bit for bit in rng.sample(range(64), rng.randrange(7))) for h in hashes[:150]]
    near, known = NearDuplicates(3), []
    for value in hashes:
        found = near.find(value)
        assert (found is not None) == any(distance(value, other) <= 3 for other in known)
        if found is None:
            near.add(value, str(value))
            known.append(value)
    assert 300 <= len(known) < 400


def test_a_smaller_and_lighter_copy_is_nearly_the_same():
    image = Image.open(io.BytesIO(image_bytes(5, (240, 160))))
    copy = image.resize((120, 80)).point(lambda v: min(255, int(v * 1.1)))
    assert distance(perceptual_hash(np.asarray(image)), perceptual_hash(np.asarray(copy))) <= 4
    other = Image.open(io.BytesIO(image_bytes(6, (240, 160))))
    assert distance(perceptual_hash(np.asarray(image)), perceptual_hash(np.asarray(other))) > 12


def test_photographs_lose_their_metadata_and_no_pixel():
    exif = Image.Exif()
    exif[0x010E] = "at home, by me"
    data = image_bytes(2, exif=exif, comment=b"private", icc_profile=b"x" * 300)
    assert b"at home" in data
    bare = without_metadata(data + b"a trailer with a place")
    for secret in (b"at home", b"private", b"xxx", b"trailer"):
        assert secret not in bare
    assert np.array_equal(Image.open(io.BytesIO(bare)), Image.open(io.BytesIO(data)))


def secret(**options):
    exif = Image.Exif()
    exif[0x010E] = "at home, by me"
    return image_bytes(7, exif=exif, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"quality": 100, "subsampling": 0}, {"optimize": True}],
)
def test_photographs_lose_what_stands_behind_them(options):
    data = image_bytes(2, (200, 120), **options)
    wanted = np.asarray(Image.open(io.BytesIO(data)))
    behind = (secret(), b"ftypmp42 a video \xff\xd9 with a place", b"\xff\xff\xd9", b"\0" * 9 + secret() + b"\xff\xd9")
    for trailer in behind:
        bare = without_metadata(data + trailer)
        assert bare == without_metadata(data)
        assert np.array_equal(Image.open(io.BytesIO(bare)), wanted)
        decoded = decode_image(data + trailer)
        assert decoded.jpeg == bare
        assert np.array_equal(decoded.pixels, wanted)


def test_photographs_lose_what_stands_between_their_scans_and_in_their_header():
    data = image_bytes(2, progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    told = b"\xff\xfe\x00\x09private\xff\xe1\x00\x09at home"
    assert without_metadata(data[:second] + told + data[second:]) == without_metadata(data)
    small = b"\xff\xe0\x00\x16JFIF\0\1\1\0\0\1\0\1\1\1RGBxyz"  # a thumbnail in the JFIF header
    more = b"\xff\xe0\x00\x0fJFXX\0thumbnail"[: 2 + 15]
    plain = without_metadata(data)
    assert plain[2:6] == b"\xff\xe0\x00\x10"
    assert without_metadata(data[:2] + small + more + data[20:]) == plain
    assert decode_image(data[:2] + small + more + data[20:]).jpeg == plain


def test_a_file_that_cannot_be_followed_is_not_stored_as_it_is():
    data = secret()
    scan = data.index(b"\xff\xda")
    middle = (scan + len(data)) // 2
    junk = data[:20] + b"junk" + data[20:]
    for broken in (data[:-2], data[:scan], data[:middle] + b"\xff\x37" + data[middle:], junk):
        assert without_metadata(broken) is None
    assert decode_image(junk).jpeg is None  # Pillow passes over it


def test_the_first_of_several_photographs_in_one_file_is_kept_alone():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "at home, by me"
    two = [Image.open(io.BytesIO(image_bytes(n, (64, 48)))).convert("RGB") for n in (1, 2)]
    two[0].save(stream, "MPO", save_all=True, append_images=two[1:], exif=exif)
    data = stream.getvalue()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
        wanted = np.asarray(image)
    decoded = decode_image(data)
    assert b"at home" not in decoded.jpeg
    assert Image.open(io.BytesIO(decoded.jpeg)).format == "JPEG"
    assert np.array_equal(decoded.pixels, wanted)
    assert np.array_equal(Image.open(io.BytesIO(decoded.jpeg)), wanted)


def test_many_scans_are_refused_in_files_of_several_photographs_too(tmp_path, monkeypatch):
    stream = io.BytesIO()
    two = [Image.open(io.BytesIO(image_bytes(n))).convert("RGB") for n in (1, 2)]
    two[0].save(stream, "MPO", save_all=True, append_images=two[1:])
    for module in (decode, sample, detect):
        monkeypatch.setattr(module, "MAX_SCANNED_PIXELS", SIDE * SIDE)
    with pytest.raises(ImageError, match="goes over the image too often"):
        decode_image(stream.getvalue())
    with pytest.raises(SampleError, match="takes 2 scans"):
        sample._read_image("a", "jpg", stream.getvalue(), "RGB")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    with pytest.raises(PoseError, match="goes over the image too often"), detect._opened(tmp_path / "a.jpg"):
        pass


def test_many_bytes_of_one_kind_are_passed_over_quickly():
    data = image_bytes(2)
    scan = data.index(b"\xff\xda") + 14
    started = time.process_time()
    assert len(without_metadata(data[:scan] + b"\xff\x00" * (4 << 20) + data[scan:])) > 8 << 20
    assert time.process_time() - started < 1


def wide_and_high(index):
    size = ((96, 48), (64, 64), (48, 96))[index % 3]
    image = np.full((size[1], size[0], 3), 10 * index, np.uint8)
    return Sample(f"{index:06}", image, "a man", standing(size), "photo", "test", "CC0", {})


def test_buckets_ask_for_the_room_that_all_images_take_and_no_more(tmp_path, monkeypatch):
    write_shards(wide_and_high, 12, tmp_path, per_shard=12, workers=1, progress=False)
    image = 64 * 64 * 3
    out = tmp_path / "buckets-64-2-16"

    def nearly_full(path):
        taken = sum(file.stat().st_size for file in out.rglob("pictures.npy"))
        return SimpleNamespace(free=room - taken)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    room = 12 * image + (1 << 20)
    buckets = find_buckets(tmp_path, 64, 2, 16)
    assert buckets.counts == (4, 4, 4)
    shutil.rmtree(out)
    room = 12 * image // 2
    with pytest.raises(DiskError):
        find_buckets(tmp_path, 64, 2, 16)


def test_photographs_are_turned_upright_and_shrunk():
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(image_bytes(2, (300, 200), exif=exif), max_side=150)
    assert (decoded.stored, decoded.upright) == ((300, 200), (200, 300))
    assert decoded.pixels.shape == (150, 100, 3)
    assert decoded.jpeg is None


def test_transparent_images_stand_on_white():
    stream = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(stream, "PNG")
    assert (decode_image(stream.getvalue()).pixels == 255).all()


def test_bombs_are_refused_before_they_are_unpacked():
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    started = time.monotonic()
    with pytest.raises(ImageError, match="too many pixels"):
        decode_image(stream.getvalue())
    assert time.monotonic() - started < 0.5
