"""Data that are not what they were written as, and samples that no reader may take for others: never silently used."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from test_data_image_cache import about, make

from humansd.benchmarks.fuzz import MAX_BYTES, fuzz
from humansd.benchmarks.fuzz_samples import ATTACKS
from humansd.data import SampleError, count_samples, decode_sample, encode_sample, read_shards, write_shards
from humansd.data.image_cache import build_image_cache, find_image_cache, open_image_cache
from humansd.data.shards import ShardError
from humansd.pose import People
from shard_makers import make as make_any

COUNT, PER_SHARD = 12, 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    write_shards(make, COUNT, out, per_shard=PER_SHARD, workers=1, progress=False)
    return out


@pytest.fixture
def data(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def overwrite_caption(shard: Path) -> None:
    """Another caption of the same length, in place."""
    content = shard.read_bytes()
    assert b"sample \xe2\x80\x9c5\xe2\x80\x9d" in content
    shard.write_bytes(content.replace(b"photo, sample \xe2\x80\x9c5", b"photo, SAMPLE \xe2\x80\x9c5"))


@pytest.mark.parametrize("source", ["", "shard-000001.tar", "shard-*.tar"])
def test_a_caption_overwritten_in_place_is_refused_and_the_remedy_works(data, source) -> None:
    overwrite_caption(data / "shard-000001.tar")
    with pytest.raises(ShardError, match=r"shard-000001\.tar: its sha256 is not the one in manifest\.json.*delete"):
        list(read_shards(str(data / source)))
    with pytest.raises(ValueError, match=r"shard-000001\.tar: its sha256 is not the one in manifest\.json"):
        find_image_cache(data)
    assert not (data / "pack" / "pictures.npy").exists()
    (data / "manifest.json").unlink()
    captions = [sample.caption for sample in read_shards(data)]
    assert captions[5] == "photo, SAMPLE “5”"
    assert find_image_cache(data).captions[5][0] == captions[5]


def test_shards_that_come_before_the_changed_one_are_read(data) -> None:
    overwrite_caption(data / "shard-000001.tar")
    samples = read_shards(data)
    assert [next(samples).key for _ in range(4)] == [make(index).key for index in range(4)]
    with pytest.raises(ShardError, match="sha256"):
        next(samples)


def test_a_shard_that_is_changed_in_place_beside_its_pack_is_noticed(data) -> None:
    find_image_cache(data)
    shard = data / "shard-000001.tar"
    before = shard.stat()
    overwrite_caption(shard)
    os.utime(shard, ns=(before.st_atime_ns, (data / "pack" / "about.json").stat().st_mtime_ns + 1))
    assert shard.stat().st_size == before.st_size
    with pytest.raises(ValueError, match=r"shard-000001\.tar was changed since .*pack was made"):
        find_image_cache(data)


def test_a_shard_that_is_only_copied_again_is_no_other(data) -> None:
    image_cache = find_image_cache(data)
    os.utime(data / "shard-000001.tar")
    assert find_image_cache(data).digest() == image_cache.digest()


def test_a_damaged_pack_is_named(data) -> None:
    image_cache = find_image_cache(data).folder
    lines = image_cache / "samples.jsonl"
    content = lines.read_text()
    for text in (content[:-20], "\n".join(content.splitlines()[:-1]) + "\n", "[]\n", "[" * 100_000):
        lines.write_text(text)
        with pytest.raises(
            ValueError, match=rf"{image_cache}: the pack is damaged .*delete {image_cache} to make it again"
        ):
            open_image_cache(image_cache)
    lines.unlink()
    with pytest.raises(ValueError, match=rf"{image_cache}: the pack lacks .*samples\.jsonl"):
        open_image_cache(image_cache)


def with_key_of(index: int, other: int):
    return dataclasses.replace(make(index), key=make(other).key)


def test_two_shards_with_one_key_are_refused_with_both_named(data, tmp_path) -> None:
    write_shards(make, 2, tmp_path / "more", per_shard=2, workers=1, progress=False)
    shutil.copy(tmp_path / "more" / "shard-000000.tar", data / "x.tar")
    (data / "manifest.json").unlink()
    text = r"x\.tar: sample 's000000': there is another of this key in .*shard-000000\.tar; keys must differ"
    with pytest.raises(ShardError, match=text):
        list(read_shards(data))
    assert len(find_image_cache(data)) == COUNT
    (record,) = about(data)["skipped"]
    assert record["file"] == "x.tar"
    assert record["samples"] == 2
    assert "there is another of this key in" in record["reason"]
    assert "shard-000000.tar" in record["reason"]


def test_two_samples_with_one_key_side_by_side_are_two(tmp_path) -> None:
    """Not one that has the caption of the first and the image of the second."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for sample in (make(0), with_key_of(1, 0), make(2)):
            for name, content in encode_sample(sample).items():
                (tmp_path / "member").write_bytes(content)
                tar.add(tmp_path / "member", f"{sample.key}.{name}")
    with pytest.raises(ShardError, match=r"a\.tar: sample 's000000': there is another of this key in .*a\.tar"):
        list(read_shards(tmp_path))
    image_cache = find_image_cache(tmp_path)
    assert [captions[0] for captions in image_cache.captions] == [make(0).caption, make(2).caption]
    assert np.array_equal(image_cache.images, np.stack([make(0).image, make(2).image]))


def same_key_in_each_shard(index: int):
    return with_key_of(index, index % PER_SHARD)


def test_a_key_of_an_earlier_shard_is_not_written_again(tmp_path) -> None:
    with pytest.raises(ShardError, match=r"shard-000001\.tar: sample 's000000': there is another .*shard-000000\.tar"):
        write_shards(same_key_in_each_shard, COUNT, tmp_path, per_shard=PER_SHARD, workers=1, progress=False)


def test_a_caption_where_a_list_of_captions_belongs_is_refused_and_not_split_into_letters(tmp_path) -> None:
    sample = make(1)
    wrong = dataclasses.replace(sample, extras={"captions": "a man"})
    with pytest.raises(SampleError, match=r"sample 's000001': extras\['captions'\] must be a list of texts, got str"):
        encode_sample(wrong)
    members = {"__key__": "s000001", **encode_sample(sample)}
    record = json.loads(members["json"])
    record["extras"]["captions"] = "a man"
    members["json"] = json.dumps(record).encode()
    with pytest.raises(SampleError, match=r"captions'\] must be a list of texts"):
        decode_sample(members)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, content in (("s000000", encode_sample(make(0))), ("s000001", members)):
            for name in ("png", "json"):
                (tmp_path / "member").write_bytes(content[name])
                tar.add(tmp_path / "member", f"{key}.{name}")
    assert find_image_cache(tmp_path).captions == [[make(0).caption, *make(0).extras["captions"]]]
    assert about(tmp_path)["skipped"][0]["samples"] == 1


def test_an_error_of_the_people_names_the_sample_and_its_shard(tmp_path) -> None:
    members = encode_sample(make_any(1))
    record = json.loads(members["json"])
    record["people"]["people"][0]["score"] = ["x"]
    members["json"] = json.dumps(record).encode()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in members.items():
            (tmp_path / "member").write_bytes(content)
            tar.add(tmp_path / "member", f"s000001.{name}")
    with pytest.raises(ShardError, match=r"a\.tar: sample 's000001': people: people\.score"):
        list(read_shards(tmp_path))


def test_what_cannot_be_written_again_is_not_encoded() -> None:
    deep: list = []
    for _ in range(2000):
        deep = [deep]
    for extras in ({"x": deep}, {"x": "\ud800"}, {"captions": [1]}):
        with pytest.raises(SampleError, match="sample 's000001'"):
            encode_sample(dataclasses.replace(make(1), extras=extras))
    people = People.of(np.zeros((1, 17, 2)), (20, 20), extras=[{"x": deep}])
    with pytest.raises(SampleError, match="not plain finite JSON"):
        encode_sample(dataclasses.replace(make(1), people=people))


# Made in seconds each; the command `humansd benchmark fuzz` has them too.
SLOW = ("67 megapixels of PNG", "25 megapixels of PNG", "25 megapixels of JPEG")


@pytest.fixture(scope="module")
def outcomes():
    names = [name for name in ATTACKS if name not in SLOW]
    found = fuzz("samples", [list(ATTACKS).index(name) for name in names], seed=0).outcomes
    return dict(zip(names, found, strict=True))


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in SLOW])
def test_a_hostile_sample_is_left_out_and_costs_nothing_and_not_its_neighbours(outcomes, name) -> None:
    outcome = outcomes[name]
    harmless = ("25 megapixels of WebP", "20,000 name headers")
    assert outcome.kind == ("equal" if name in harmless else "refused"), outcome
    assert outcome.seconds < 2
    assert outcome.bytes < MAX_BYTES


def test_a_tar_of_other_programs_is_read_with_its_long_names(tmp_path) -> None:
    """GNU and pax headers, as `tar` and Python write them."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for index in range(3):
                for name, content in encode_sample(make(index)).items():
                    folder = "/".join(["folder"] * (1 if form == tarfile.USTAR_FORMAT else 30))
                    info = tarfile.TarInfo(f"{folder}/{make(index).key}.{name}")
                    info.size, info.mtime = len(content), 0 if form == tarfile.USTAR_FORMAT else 1.5
                    (tmp_path / "member").write_bytes(content)
                    with (tmp_path / "member").open("rb") as member:
                        tar.addfile(info, member)
        assert [sample.caption for sample in read_shards(path)] == [make(index).caption for index in range(3)]
        assert count_samples(path) == 3


def test_a_pack_of_two_shards_with_a_changed_one_is_not_begun(data, tmp_path) -> None:
    overwrite_caption(data / "shard-000001.tar")
    with pytest.raises(ShardError, match="sha256"):
        build_image_cache(data, tmp_path / "elsewhere")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [".lock"]
