"""The reader of TensorFlow.js weights: known bytes give known values, anything else one clear error."""

import json
import struct

import numpy as np
import pytest

from humansd.checkpoints.tfjs import read_tfjs_weights


def write(folder, entries, *shards, **changes):
    manifest = [{"paths": [f"shard{i}.bin" for i in range(len(shards))], "weights": entries}]
    for number, shard in enumerate(shards):
        (folder / f"shard{number}.bin").write_bytes(shard)
    (folder / "model.json").write_text(json.dumps({"format": "graph-model", "weightsManifest": manifest, **changes}))
    return folder / "model.json"


def entry(name, kind, shape, **quantization):
    return {"name": name, "dtype": kind, "shape": shape, **({"quantization": quantization} if quantization else {})}


def test_each_way_of_storing_is_read(tmp_path):
    data = (
        struct.pack("<2f", 1.5, -2.0)
        + struct.pack("<i", -7)
        + bytes([0, 255])
        + struct.pack("<3H", 0x3C00, 0xC000, 0x3555)  # 1, -2 and about 1/3 in float16
        + struct.pack("<2H", 0, 1000)
        + bytes([1, 0])
    )
    entries = [
        entry("plain", "float32", [2]),
        entry("whole", "int32", []),
        entry("bytes", "float32", [1, 2], dtype="uint8", scale=0.5, min=-10.0),
        entry("halves", "float32", [3], dtype="float16", original_dtype="float32"),
        entry("steps", "float32", [2, 1], dtype="uint16", scale=0.001, min=2.0),
        entry("flags", "bool", [2]),
    ]
    weights = read_tfjs_weights(write(tmp_path, entries, data[:9], data[9:]))  # cut within a value
    assert list(weights) == ["plain", "whole", "bytes", "halves", "steps", "flags"]
    assert weights["plain"].tolist() == [1.5, -2.0]
    assert weights["whole"].shape == ()
    assert int(weights["whole"]) == -7
    assert weights["bytes"].tolist() == [[-10.0, 117.5]]
    np.testing.assert_allclose(weights["halves"], [1.0, -2.0, 1 / 3], atol=1e-4)
    np.testing.assert_allclose(weights["steps"], [[2.0], [3.0]], rtol=1e-6)
    assert weights["flags"].tolist() == [True, False]
    assert {weights[name].dtype.name for name in ("plain", "bytes", "halves", "steps")} == {"float32"}


@pytest.mark.parametrize(
    ("entries", "data", "reason"),
    [
        ([entry("a", "float32", [3])], b"\0" * 8, "shards end within a"),
        ([entry("a", "float32", [1])], b"\0" * 8, "have 8 bytes where it lists 4"),
        ([entry("a", "string", [1])], b"\0" * 8, "type 'string' are not read"),
        ([entry("a", "float32", [-1])], b"\0" * 8, "no usable shape"),
        ([entry("a", "float32", [2**40, 2**40])], b"\0" * 8, "shards end within a"),
        ([entry("a", "float32", [1], dtype="uint8", scale=float("inf"), min=0)], b"\0", "no usable shape or scale"),
        ([{"name": "a", "dtype": "float32"}], b"\0" * 4, "lacks 'shape'"),
        ([], b"\0", "a group without weights"),
    ],
)
def test_a_manifest_that_does_not_fit_is_named(tmp_path, entries, data, reason):
    with pytest.raises(ValueError, match=rf"model\.json: .*{reason}"):
        read_tfjs_weights(write(tmp_path, entries, data))


def test_only_files_beside_the_json_are_opened(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4)
    for path in ("../secret.bin", str(tmp_path / "secret.bin"), "https://example.org/a.bin", ""):
        manifest = [{"paths": [path], "weights": [entry("a", "float32", [1])]}]
        file = write(tmp_path / "inside", [], b"", weightsManifest=manifest)
        with pytest.raises(ValueError, match="only files beside it are read"):
            read_tfjs_weights(file)


def test_other_files_and_missing_shards_are_named(tmp_path):
    file = write(tmp_path, [entry("a", "float32", [1])], b"\0" * 4)
    (tmp_path / "shard0.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"shard0\.bin: missing, and model\.json names it"):
        read_tfjs_weights(file)
    for text in ("{]", "[]", '{"weightsManifest": 3}', '{"weightsManifest": []}', "[" * 100_000):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"model\.json: .*model\.json"):
            read_tfjs_weights(file)
