import io
import json

import numpy as np
import pytest
from PIL import Image

from humansd.data import SampleError, decode_sample, encode_sample
from humansd.pose import People
from shard_makers import make


def equal(a, b):
    texts = all(getattr(a, name) == getattr(b, name) for name in ("key", "caption", "scene", "source", "license"))
    masks = [s.extras.get("mask") for s in (a, b)]
    extras = [{k: v for k, v in s.extras.items() if k != "mask"} for s in (a, b)]
    return (
        texts
        and np.array_equal(a.image, b.image)
        and a.people.equals(b.people)
        and extras[0] == extras[1]
        and (masks[0] is masks[1] is None or np.array_equal(*masks))
    )


def replaced(sample, **changes):
    fields = {**vars(sample), **changes}
    return type(sample)(**fields)


@pytest.mark.parametrize("index", range(6))
def test_what_is_stored_comes_back(index):
    sample = make(index)
    members = encode_sample(sample)
    assert set(members) == ({"png", "json", "mask.png"} if index % 2 else {"png", "json"})
    assert equal(decode_sample({"__key__": sample.key, **members}), sample)
    assert encode_sample(make(index)) == members


def test_a_jpeg_is_read_too():
    sample = make(0)
    members = encode_sample(sample)
    del members["png"]
    buffer = io.BytesIO()
    Image.fromarray(sample.image).save(buffer, "JPEG", quality=95)
    back = decode_sample({"__key__": sample.key, "jpg": buffer.getvalue(), **members})
    assert back.image.shape == sample.image.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "a.b"}, "key"),
        ({"key": "../x"}, "key"),
        ({"image": np.zeros((4, 4), np.uint8)}, "image must be uint8"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "image must be uint8"),
        ({"image": np.zeros((1, 9000, 3), np.uint8)}, "8192"),
        ({"people": People.empty((5, 5))}, "canvas"),
        ({"extras": {"mask": np.zeros((2, 2), np.uint8)}}, "mask"),
        ({"extras": {"x": float("nan")}}, "JSON"),
        ({"extras": {"x": np.float32(1)}}, "JSON"),
        ({"caption": None}, "caption"),
    ],
)
def test_a_sample_that_breaks_the_rules_is_named(change, message):
    sample = replaced(make(1), **change)
    with pytest.raises(SampleError, match=message) as caught:
        encode_sample(sample)
    assert sample.key in str(caught.value)


def broken(name):
    members = {"__key__": "s1", **encode_sample(make(1))}
    record = json.loads(members["json"])
    if name == "no json":
        del members["json"]
    elif name == "no image":
        del members["png"]
    elif name == "half an image":
        members["png"] = members["png"][: len(members["png"]) // 2]
    elif name == "flipped bit":
        middle = len(members["png"]) // 2
        data = bytearray(members["png"])
        data[middle] ^= 1
        members["png"] = bytes(data)
    elif name == "a huge image":
        buffer = io.BytesIO()
        Image.new("1", (10000, 10)).save(buffer, "PNG")
        members["png"] = buffer.getvalue()
    elif name == "a bomb":
        buffer = io.BytesIO()
        Image.new("1", (20000, 20000)).save(buffer, "PNG")
        members["png"] = buffer.getvalue()
    elif name == "a GIF":
        buffer = io.BytesIO()
        Image.new("P", (20, 13)).save(buffer, "GIF")
        members["png"] = buffer.getvalue()
    elif name == "cut json":
        members["json"] = members["json"][:-3]
    elif name == "json list":
        members["json"] = b"[]"
    elif name == "field gone":
        del record["caption"]
        members["json"] = json.dumps(record).encode()
    elif name == "new version":
        members["json"] = json.dumps({**record, "version": 2}).encode()
    return members


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no json", "json is missing"),
        ("no image", "no image"),
        ("half an image", "png is not a readable image"),
        ("flipped bit", "png is not a readable image"),
        ("a huge image", "10000 x 10"),
        ("a bomb", "not a readable image"),
        ("a GIF", "not a readable image"),
        ("cut json", "json is broken"),
        ("json list", "lacks"),
        ("field gone", "lacks caption"),
        ("new version", "version 2"),
    ],
)
def test_broken_members_are_named(name, message):
    with pytest.raises(SampleError, match=message):
        decode_sample(broken(name))
