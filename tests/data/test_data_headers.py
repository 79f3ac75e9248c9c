"""Faults of samples and images that headers tell: counted, and refused where nothing is left, before a network."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from humansd.build.importing import ImportOptions, import_dataset
from humansd.build.layouts.records import LayoutError
from humansd.cli import main
from humansd.data.salvage import sample_faults
from humansd.data.sample import SampleError, check_headers, decode_sample, encode_sample
from humansd.data.shards import add_members, read_shards
from humansd.evaluation.given import GivenImages
from humansd.evaluation.sources import Shards
from humansd.training.checks import check_inputs
from humansd.training.run import preset_settings
from humansd.training.settings import with_overrides
from shard_makers import make

FAULTS = {
    "no image": lambda m: {name: data for name, data in m.items() if name != "png"},
    "people.canvas is": lambda m: m | {"png": png(9, 8)},
    "png is not a readable image": lambda m: m | {"png": b"\x89PNG broken"},
    "json is broken": lambda m: m | {"json": b"{"},
    "json lacks people": lambda m: m | {"json": without(m["json"], "people")},
    "sides of 1 to 8192 px": lambda m: m | {"png": png(1, 8193)},
    "mask.png must be as large as the image": lambda m: m | {"mask.png": png(2, 2)},
}


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def without(text: bytes, field: str) -> bytes:
    return json.dumps({name: value for name, value in json.loads(text).items() if name != field}).encode()


def shard(folder: Path, *faults: str) -> Path:
    """A tar of as many samples, each with its fault; "" for a sound one."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "shard-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, fault in enumerate(faults):
            members = encode_sample(make(index))
            add_members(tar, f"s{index:06d}", FAULTS[fault](members) if fault else members)
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_headers_tell_what_decoding_would(fault: str) -> None:
    members = {"__key__": "s000001", **FAULTS[fault](encode_sample(make(1)))}
    with pytest.raises(SampleError) as early:
        check_headers(members)
    with pytest.raises(SampleError) as late:
        decode_sample(members)
    assert fault in str(early.value)
    assert fault in str(late.value) or "mask" in fault


def test_sound_samples_pass() -> None:
    for index in range(6):
        check_headers({"__key__": f"s{index:06d}", **encode_sample(make(index))})


def test_an_odd_sample_is_left_out_and_counted(tmp_path: Path) -> None:
    data = shard(tmp_path / "data", "", "people.canvas is", "", "no image")
    sound, faults = sample_faults(data)
    assert (sound, sorted(faults)) == (2, ["s000001", "s000003"])
    source = Shards(data)
    with pytest.warns(UserWarning, match=r"2 samples cannot be used and are left out, the first: shard-000000\.tar: "):
        assert source.total() == 2
    assert [cut.key for cut in source.cuts((12, 12))] == source.keys() == ["s000000", "s000002"]
    assert source.record()["left_out"] == 2
    assert Shards(data, 1).total() == 1  # looks no further: nothing to tell
    assert [sample.key for sample in read_shards(data, faults)] == ["s000000", "s000002"]
    whole = shard(tmp_path / "whole", "", "")
    assert "left_out" not in Shards(whole).record()  # a run that was begun before goes on


def test_where_nothing_is_left_no_network_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr("humansd.models.estimators.load_estimator", lambda *a: loaded.append(a))
    monkeypatch.setattr("humansd.training.run.make_task", lambda *a: loaded.append(a), raising=False)
    data = str(shard(tmp_path / "data", "people.canvas is", "no image"))
    out = str(tmp_path / "out")
    assert main(["evaluate", "--data", data, "--out", out]) == 2
    assert "not one of 2 samples can be used, the first: shard-000000.tar: sample 's000000'" in capsys.readouterr().err
    assert main(["train", "pocket-humansd", "--set", f"data={data}", "--out", out]) == 2
    assert "not one of 2 samples can be read, the first: shard-000000.tar: sample 's000000'" in capsys.readouterr().err
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"no image")
    (photos / "a.txt").write_text("a man")
    assert main(["data", "import", str(photos), "--out", out]) == 2
    assert "not one of 1 images can be used: 1 x not a readable image" in capsys.readouterr().err
    assert not loaded


def test_training_goes_on_with_what_can_be_read(tmp_path: Path) -> None:
    data = shard(tmp_path / "data", "people.canvas is", "", "")
    check_inputs("pocket-humansd", with_overrides(preset_settings("pocket-humansd"), {"data": str(data)}))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("no.png", "1 x the image is missing"),
        ("broken.png", "1 x not a readable image"),
        ("wide.png", "has 64 x 32 px, its poses are on 48 x 64"),
    ],
)
def test_an_import_without_a_usable_image_is_refused_from_the_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, says: str
) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr("humansd.build.importing.load_models", lambda *options: loaded.append(options))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "wide.png").write_bytes(png(64, 32))
    images = [{"id": 1, "file_name": image, "width": 48, "height": 64}]
    notes = [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [9, 9, 2] * 17, "bbox": [0, 0, 0, 0]}]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": notes}))
    with pytest.raises(LayoutError, match=f"a.json: .*{says}"):
        import_dataset(file, tmp_path / "out", ImportOptions(estimator="movenet"), images=tmp_path, progress=False)
    assert not loaded
    assert not (tmp_path / "out").exists()


def test_images_of_another_tool_are_held_against_the_keys_before_networks(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(64, 48))
    given = GivenImages(tmp_path, (64, 48))
    given.check(["a", "b"])
    with pytest.raises(ValueError, match=r"not one image can be measured \(1 x no file\): a sample is called 'b'"):
        given.check(["b"])
    with pytest.raises(ValueError, match=r"1 x another shape\); give another --size"):
        GivenImages(tmp_path, (64, 64)).check(["a"])
    GivenImages(tmp_path, (48, 64)).check(["a"])  # it may have been stored on its side
