"""What pose files and photographs come wrapped in, and what bears their names and is none: read right, or refused with
a remedy."""

from __future__ import annotations

import gzip
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from humansd.inference.detect import read_photo
from humansd.inference.pose_files import read_pose_files
from humansd.pose import COCO17, PoseError, PoseWarning
from humansd.pose.files import MAX_FILE_BYTES
from humansd.pose.formats import read_image_records, read_poses
from humansd.pose.render import OPENPOSE_STYLE, draw_people
from pose_mutants import OPENPOSE, OTHERS, TRUTH

XY = np.array([TRUTH[joint] for joint in COCO17.joints], float)
FLAT = [value for joint in OPENPOSE for value in (*{**TRUTH, **OTHERS}[joint], 0.9)]
FTYP = b"\x00\x00\x00\x18ftyp"


def openpose(flat: list[Any] = FLAT) -> dict[str, Any]:
    return {"people": [{"pose_keypoints_2d": flat}], "canvas_width": 640, "canvas_height": 480}


def named(points: dict[str, Any]) -> dict[str, Any]:
    return {"people": [{"keypoints": points}], "canvas_width": 640, "canvas_height": 480}


TEXT = json.dumps(openpose())
WRAPPED = {
    "gzip": gzip.compress(TEXT.encode(), mtime=0),
    "UTF-16, as PowerShell writes": TEXT.encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "gzip of UTF-16": gzip.compress(TEXT.encode("utf-16"), mtime=0),
    "a mark before UTF-8": b"\xef\xbb\xbf" + TEXT.encode(),
    "Windows' lines": json.dumps(openpose(), indent=1).encode().replace(b"\n", b"\r\n"),
    "numbers as texts": json.dumps(openpose([str(value) for value in FLAT])).encode(),
}  # fmt: skip


def read(path: Path, **how: Any) -> dict[str, Any]:
    return {name: people.to_skeleton(COCO17) for name, people in read_poses(path, **how).items()}


@pytest.mark.parametrize("data", WRAPPED.values(), ids=WRAPPED)
def test_what_a_file_is_wrapped_in_does_not_matter(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(data)
    (people,) = read(file).values()
    np.testing.assert_allclose(people.xy[0], XY)


def test_a_packed_file_has_the_name_of_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "walk_keypoints.json.gz"
    file.write_bytes(WRAPPED["gzip"])
    assert list(read(file)) == ["walk"]
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}
    file.write_bytes(gzip.compress(json.dumps(coco).encode()))
    assert list(read_image_records(file)) == ["a"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_values_behind_each_other_are_frames(tmp_path: Path, indent: int | None, newline: str) -> None:
    file = tmp_path / "a.json"
    text = "\n".join(json.dumps(openpose(), indent=indent) for _ in range(3))
    file.write_bytes(text.replace("\n", newline).encode())
    assert list(read(file)) == ["a_0000", "a_0001", "a_0002"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (WRAPPED["gzip"][:60], "is not a whole gzip file. Copy it again"),
        (b"\x1f\x8b broken", r"is not a whole gzip file \(.*Copy it again"),
        (gzip.compress(bytes(MAX_FILE_BYTES + 1), mtime=0), "unpacks to more, the limit is 64 MiB. Split it"),
        (b"\xff\xfe" + TEXT.encode(), "is neither JSON text|is not valid JSON"),
        (FTYP + b"heic" + bytes(60), "is a HEIC image, .* as PNG or JPEG"),
        (FTYP + b"mp42" + bytes(60), "is a video, .* as PNG or JPEG"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page; what was to be downloaded is not there"),
        (b"%PDF-1.4\n", "is a PDF document"),
    ],
)
def test_what_is_no_pose_file_is_called_by_its_name(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(data)
    with pytest.raises(PoseError, match=f"a.json: {says}"):
        read_poses(file)


def test_an_archive_of_pose_files_is_to_be_unpacked(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a_keypoints.json", TEXT)
    (tmp_path / "poses.zip").write_bytes(stream.getvalue())
    with pytest.raises(PoseError, match=r"is a zip archive of other files\. Unpack it"):
        read_poses(tmp_path / "poses.zip")


def test_a_score_of_minus_one_says_that_a_joint_was_not_found(tmp_path: Path) -> None:
    """And many other numbers below 0 are a depth."""
    file = tmp_path / "a.json"
    gone = [-1 if i % 3 == 2 and i >= 36 else value for i, value in enumerate(FLAT)]
    file.write_text(json.dumps(openpose(gone)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseWarning)
        (people,) = read(file).values()
    assert people.labelled.sum() == 17 - 6  # all behind OpenPose's twelfth: left knee and ankle, eyes and ears
    deep = [-0.1 * (i % 7) if i % 3 == 2 else value for i, value in enumerate(FLAT)]
    file.write_text(json.dumps(openpose(deep)))
    with pytest.warns(PoseWarning, match="is a depth"):
        (people,) = read(file).values()
    assert people.labelled.all()


@pytest.mark.parametrize("count", [2, 17])
def test_names_of_no_known_joint_are_no_order(tmp_path: Path, count: int) -> None:
    words = ["Nase", "linke Schulter", *(f"Punkt {chr(97 + i)}" for i in range(15))]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(named({word: [5 * i, 9] for i, word in enumerate(words[:count])})))
    with pytest.raises(PoseError, match=r"names joints that are not known \(Nase, linke Schulter.*left_shoulder"):
        read_poses(file)


def test_thousandths_are_asked_after_and_read_when_said(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    points = {joint: [x / 640 * 1000, y / 480 * 1000] for joint, (x, y) in TRUTH.items()}
    file.write_text(json.dumps(named(points)))
    with pytest.warns(PoseWarning, match="outside the canvas .*; if they are thousandths .*--units thousandths"):
        read_poses(file)
    (people,) = read(file, units="thousandths").values()
    np.testing.assert_allclose(people.xy[0], XY)
    file.write_text(json.dumps(named({joint: [x + 300, y] for joint, (x, y) in TRUTH.items()} | {"nose": [-9, 5]})))
    with pytest.warns(PoseWarning, match="they are kept$"):  # below 0 there are no thousandths
        read_poses(file)


def test_a_transparent_photograph_is_read_as_it_is_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:, :20, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read_back = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(read_back[:, 20:], pixels[:, 20:, :3])
    assert (read_back[:, :20] == 255).all()
    Image.fromarray(pixels).quantize(64).save(tmp_path / "b.png")
    assert (read_photo(tmp_path / "b.png")[:, :20] == 255).all()
    drawing = draw_people(read_poses_of(tmp_path), OPENPOSE_STYLE)
    Image.fromarray(np.dstack([drawing, drawing.max(axis=2)])).save(tmp_path / "c.png")
    with pytest.raises(PoseError, match="looks like a drawn skeleton"):
        read_photo(tmp_path / "c.png")


def read_poses_of(folder: Path) -> Any:
    (folder / "p.json").write_text(TEXT)
    return read_poses(folder / "p.json")["p"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (FTYP + b"heic" + bytes(60), "is a HEIC image, which is not read here. Convert it to PNG or JPEG"),
        (FTYP + b"avif" + bytes(60), "is an AVIF image, which is not read here. Convert it to PNG or JPEG"),
        (b"<html>404", "is a web page"),
        (b"<svg/>", "is an SVG drawing"),
        (b"\xff\xd8\xff", "not a readable image"),
    ],
)
def test_what_bears_a_photograph_s_name_and_is_none(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    for reading in (read_photo, read_pose_files):
        with pytest.raises(PoseError, match=f"a.jpg: {says}"):
            reading(tmp_path / "a.jpg")


def test_photographs_of_other_kinds_are_read_upright_and_in_color(tmp_path: Path) -> None:
    ramp = np.linspace(0, 250, 60).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (40, 1)), np.full((40, 60), 90, np.uint8), np.tile(ramp[::-1], (40, 1))], axis=2)
    photo, turned = Image.fromarray(pixels), Image.Exif()
    turned[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=turned, quality=95)
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    photo.save(tmp_path / "moving.webp", save_all=True, append_images=[photo.rotate(90)], lossless=True)
    photo.save(tmp_path / "moving.gif", save_all=True, append_images=[photo.rotate(90)])
    for name in ("turned.jpg", "cmyk.jpg", "moving.webp", "moving.gif"):
        away = np.abs(read_photo(tmp_path / name).astype(int) - pixels)
        assert away.mean() < 8, name
