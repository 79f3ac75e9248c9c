"""An image pack of shards some of which are damaged, or changed after it was made."""

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import shard_makers
from humansd.cli.logs import show_logs
from humansd.data.image_cache import build_image_cache, find_image_cache, open_image_cache
from humansd.data.salvage import read_undamaged
from humansd.data.sample import SampleError, decode_sample, encode_sample
from humansd.data.shards import ShardError, read_shards, write_shards
from humansd.pose.errors import PoseError
from humansd.pose.people import People

COUNT, PER_SHARD, SIDE = 12, 4, 20


def make(index):
    sample = shard_makers.make(index)
    noise = np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    extras = {"n": index, "captions": [f"another wording of {index}"]}
    return dataclasses.replace(sample, image=noise, people=People.empty((SIDE, SIDE)), extras=extras)


def make_negative(index):
    return dataclasses.replace(make(index), image=255 - make(index).image)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    write_shards(make, COUNT, out, per_shard=PER_SHARD, workers=1, progress=False)
    return out


@pytest.fixture(params=["with a manifest", "without"])
def shards(whole, tmp_path, request):
    """A copy of three whole shards of four samples."""
    folder = tmp_path / "data"
    shutil.copytree(whole, folder)
    if request.param == "without":
        (folder / "manifest.json").unlink()
    return folder


def about(folder):
    return json.loads((folder / "pack" / "about.json").read_text())


def damage(shard, how):
    """Damages samples of the shard that holds 4..7; which of them can be read after that."""
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        members = {info.name: info for info in tar}
    first = next(iter(members.values()))
    if how == "cut between samples":
        data = data[: members["s000006.png"].offset]
        left = [4, 5]
    elif how == "cut in an image":
        data = data[: members["s000006.png"].offset_data + 700]
        left = [4, 5]
    elif how == "cut in a json":
        data = data[: members["s000006.json"].offset_data + 30]
        left = [4, 5]
    elif how == "image":
        data[members["s000005.png"].offset_data + members["s000005.png"].size // 2] ^= 0x55
        left = [4, 6, 7]
    elif how == "json":
        data[members["s000005.json"].offset_data] = ord("]")
        left = [4, 6, 7]
    elif how == "header":
        data[members["s000005.json"].offset : members["s000005.json"].offset + 8] = b"\xff" * 8
        left = [4, 6, 7]
    elif how == "first header":
        data[first.offset : first.offset + 8] = b"\xff" * 8
        left = [5, 6, 7]
    elif how == "no tar":
        data, left = bytearray(b"<html>not found</html>" * 100), []
    elif how == "empty":
        data, left = bytearray(), []
    shard.write_bytes(bytes(data))
    return left


UNCOUNTED = ("cut between samples", "cut in an image", "cut in a json", "header", "first header", "no tar", "empty")


@pytest.mark.parametrize("how", ["image", "json", *UNCOUNTED])
def test_what_can_be_read_of_a_damaged_shard_is_kept_and_the_rest_is_on_record(shards, how, capsys):
    show_logs()  # as every command does
    left = [0, 1, 2, 3, *damage(shards / "shard-000001.tar", how), 8, 9, 10, 11]
    with pytest.raises(ShardError, match=r"shard-000001\.tar"):
        list(read_shards(shards))
    image_cache = find_image_cache(shards)
    assert np.array_equal(image_cache.images, np.stack([make(index).image for index in left]))
    assert [wordings[0] for wordings in image_cache.captions] == [make(index).caption for index in left]
    assert len(image_cache) == about(shards)["count"] == len(image_cache.people) == len(left)
    (record,) = about(shards)["skipped"]
    known = (shards / "manifest.json").exists() or how not in UNCOUNTED
    assert record["file"] == "shard-000001.tar"
    assert record["reason"]
    assert record["samples"] == (COUNT - len(left) if known else None)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("humansd: note:")]
    assert len(notes) == 1
    assert f"{record['samples'] if known else 'some'} samples cannot be read" in notes[0]
    assert "shard-000001.tar" in notes[0]
    assert np.array_equal(find_image_cache(shards).images, image_cache.images)
    assert "humansd: note" not in capsys.readouterr().err


def test_a_missing_shard_of_a_manifest_is_on_record(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    (tmp_path / "data" / "shard-000002.tar").unlink()
    assert len(find_image_cache(tmp_path / "data")) == 8
    (record,) = about(tmp_path / "data")["skipped"]
    assert (record["file"], record["samples"]) == ("shard-000002.tar", 4)
    shutil.copy(whole / "shard-000002.tar", tmp_path / "data")
    with pytest.raises(ValueError, match=r"shard-000002\.tar was changed"):
        find_image_cache(tmp_path / "data")


def test_whole_shards_leave_nothing_out(shards, capsys):
    show_logs()
    image_cache = find_image_cache(shards)
    assert len(image_cache) == COUNT
    assert about(shards)["skipped"] == []
    assert "note" not in capsys.readouterr().err
    assert image_cache.images.dtype == np.uint8
    assert isinstance(image_cache.images, np.memmap)


def test_data_of_which_nothing_can_be_read_are_an_error(shards):
    for path in shards.glob("*.tar"):
        path.write_bytes(b"\xff" * 2048)
    with pytest.raises(ValueError, match=r"samples cannot be read.*shard-000000\.tar.*fetch these shards again"):
        find_image_cache(shards)
    assert not (shards / "pack" / "about.json").exists()


def test_an_unfinished_data_set_is_still_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    path = tmp_path / "data" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "shards": manifest["shards"][:2]}))
    with pytest.raises(ShardError, match="unfinished, 8 of 12"):
        find_image_cache(tmp_path / "data")


def test_images_of_two_sizes_are_still_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    (tmp_path / "data" / "manifest.json").unlink()
    other = dataclasses.replace(make(0), key="other", image=np.zeros((8, 8, 3), np.uint8), people=People.empty((8, 8)))
    with tarfile.open(tmp_path / "data" / "z.tar", "w") as tar:
        for name, data in encode_sample(other).items():
            info = tarfile.TarInfo(f"other.{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ValueError, match=r"image other is \(8, 8, 3\), the pack \(20, 20, 3\)"):
        find_image_cache(tmp_path / "data")


@pytest.mark.parametrize("what", ["other size", "removed", "added"])
def test_a_shard_that_changed_since_the_pack_is_refused_and_named(shards, what):
    find_image_cache(shards)
    shard, manifest = shards / "shard-000001.tar", shards / "manifest.json"
    message = r"shard-000001\.tar was changed since .*delete .*pack to read them again.*another --out"
    if what == "other size":
        shard.write_bytes(shard.read_bytes() + bytes(512))
    elif what == "removed":
        shard.unlink()
        message = message if manifest.exists() else message.replace("changed", "removed")
    elif manifest.exists():
        write_shards(make, COUNT, shards / "more", per_shard=3, workers=1, progress=False)
        shutil.copy(shards / "more" / "manifest.json", manifest)
        shutil.copy(shards / "more" / "shard-000003.tar", shards)
        message = r"shard-\d+\.tar was (changed|added) since"
    else:
        shutil.copy(shard, shards / "shard-000009.tar")
        message = r"shard-000009\.tar was added since"
    with pytest.raises(ValueError, match=message):
        find_image_cache(shards)
    with pytest.raises(ValueError, match=message):
        build_image_cache(shards, shards / "pack")
    assert len(open_image_cache(shards / "pack")) == COUNT  # the pack by itself is whole
    shutil.rmtree(shards / "pack")
    if what != "added":
        if what == "other size" and manifest.exists():
            with pytest.raises(ShardError, match=r"shard-000001\.tar: its sha256 is not the one in manifest\.json"):
                find_image_cache(shards)
            manifest.unlink()  # as the message says
        assert len(find_image_cache(shards)) == (COUNT if what == "other size" else COUNT - PER_SHARD)


def test_a_shard_of_the_same_size_that_its_manifest_knows_to_be_another_is_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    find_image_cache(tmp_path / "data")
    shard, path = tmp_path / "data" / "shard-000001.tar", tmp_path / "data" / "manifest.json"
    damage(shard, "json")
    before = hashlib.sha256((whole / shard.name).read_bytes()).hexdigest()
    path.write_text(path.read_text().replace(before, hashlib.sha256(shard.read_bytes()).hexdigest()))
    with pytest.raises(ValueError, match=r"shard-000001\.tar was changed"):
        find_image_cache(tmp_path / "data")


def test_a_mended_shard_is_a_changed_one(whole, tmp_path):
    """Its size is the same and the manifest is; only the content tells."""
    shutil.copytree(whole, tmp_path / "data")
    damage(tmp_path / "data" / "shard-000001.tar", "image")
    assert len(find_image_cache(tmp_path / "data")) == COUNT - 1
    assert len(find_image_cache(tmp_path / "data")) == COUNT - 1
    shutil.copy(whole / "shard-000001.tar", tmp_path / "data")
    with pytest.raises(ValueError, match=r"shard-000001\.tar was changed"):
        find_image_cache(tmp_path / "data")


def test_a_pack_without_a_record_is_accepted_with_the_digest_it_had(shards):
    digest = find_image_cache(shards).digest()
    path = shards / "pack" / "about.json"
    path.write_text(json.dumps({"count": COUNT, "size": SIDE}))  # as written before there were records
    (shards / "shard-000001.tar").unlink()
    old = find_image_cache(shards).digest()
    assert old != digest
    assert old == hashlib.sha256((shards / "pack" / "samples.jsonl").read_bytes()).hexdigest()[:16]


def test_the_digest_tells_images_apart_that_have_the_same_captions(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "same")
    write_shards(make_negative, COUNT, tmp_path / "other", per_shard=PER_SHARD, workers=1, progress=False)
    one = build_image_cache(whole, tmp_path / "pack")
    same, other = find_image_cache(tmp_path / "same"), find_image_cache(tmp_path / "other")
    assert same.digest() == one.digest()
    assert other.captions == one.captions
    assert other.digest() != one.digest()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_damaged_byte_stops_the_tolerant_reader(kind):
    """Whatever a flipped or missing byte does, it is one of the errors that mean: leave this sample out."""
    sample = encode_sample(make(5))
    buffer = io.BytesIO()
    Image.fromarray(make(5).image).save(buffer, kind)
    members = {"__key__": "a", kind.lower(): buffer.getvalue(), "json": sample["json"]}
    rng = np.random.default_rng(0)
    read = 0
    for trial in range(1500):
        name = kind.lower() if trial % 2 else "json"
        data = bytearray(members[name])
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        if rng.random() < 0.2:
            data = data[: rng.integers(len(data))]
        try:
            decode_sample({**members, name: bytes(data)})
            read += 1
        except (SampleError, PoseError):
            pass
    assert read < 1500


def test_no_damage_of_a_tar_stops_the_tolerant_reader(whole, tmp_path):
    source = (whole / "shard-000001.tar").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(300):
        data = bytearray(source)
        for place in rng.integers(0, len(data), rng.integers(1, 40)):
            data[place] = rng.integers(256)
        if trial % 3 == 0:
            data = data[: rng.integers(len(data))]
        path = tmp_path / "s.tar"
        path.write_bytes(bytes(data))
        skipped = []
        samples = list(read_undamaged(path, skipped))
        known = {make(index).key: make(index) for index in range(4, 8)}
        for sample in samples:
            assert np.array_equal(sample.image, known[sample.key].image)
        assert len(samples) == 4 or skipped


def test_masks_are_kept_for_the_samples_that_carry_one(tmp_path):
    def masked(index):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[index : index + 3, 5:SIDE] = 2
        sample = make(index)
        return dataclasses.replace(sample, extras=sample.extras | ({"mask": mask} if index % 2 else {}))

    write_shards(masked, 4, tmp_path / "some", workers=1, progress=False)
    image_cache = find_image_cache(tmp_path / "some")
    assert image_cache.mask(0) is None
    assert image_cache.mask(2) is None
    for row in (1, 3):
        assert np.array_equal(image_cache.mask(row), masked(row).extras["mask"] > 0)
    write_shards(make, 4, tmp_path / "none", workers=1, progress=False)
    assert find_image_cache(tmp_path / "none").mask(1) is None
    assert not (tmp_path / "none" / "pack" / "masks.npy").exists()


def test_images_decoded_on_processes_make_the_same_pack(shards, tmp_path):
    damage(shards / "shard-000001.tar", "image")
    one, three = (build_image_cache(shards, tmp_path / str(workers), workers) for workers in (1, 3))
    for name in ("pictures.npy", "samples.jsonl", "about.json"):
        assert (one.folder / name).read_bytes() == (three.folder / name).read_bytes()
