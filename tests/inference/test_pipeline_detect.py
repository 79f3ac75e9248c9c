import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from blob_people import BACKGROUND, SIDE, BlobEstimator, paint
from humansd.cli import main
from humansd.inference import detect
from humansd.inference.detect import detect_files, read_photo
from humansd.inference.image_info import image_info, write_png
from humansd.inference.pose_files import read_pose_files
from humansd.models.estimators import ESTIMATORS, usable_device
from humansd.models.vitpose import ViTPoseEstimator
from humansd.pose import People
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.formats import read_image_records, read_poses
from humansd.pose.render import draw_people
from peak_memory import peak_bytes
from tiny_vitpose import save_detector, save_pose

SIZE = (160, 120)


def crowd(n=1, canvas=SIZE):
    """n people with joints on a grid of whole pixels, far enough apart for their squares."""
    xy = np.zeros((n, 17, 2))
    for i in range(n):
        xy[i] = [(8 + 8 * j, 10 + 20 * i + 10 * (j % 2)) for j in range(17)]
    return People.of(xy, canvas)


def found(n=1, canvas=SIZE):
    people = crowd(n, canvas)
    extras = [{"score": 0.9 - 0.1 * i} for i in range(n)]
    return People.of(people.xy, canvas, score=np.full((n, 17), 0.75), extras=extras)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, n in (("b.png", 2), ("a.png", 1), ("none.png", 0)):
        Image.fromarray(paint(crowd(n))).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def blobs(monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "blobs", lambda source, device: BlobEstimator())


def look(path, out, **options):
    return detect_files(path, out, estimator=BlobEstimator(), progress=False, **options)


def test_a_folder_becomes_one_coco_file(photos, tmp_path):
    made = look(photos, tmp_path / "out")
    assert made.people == {"a": 1, "b": 2, "none": 0}
    assert made.poses == [tmp_path / "out" / "poses.json"]
    poses = read_poses(made.poses[0])
    for name, n in made.people.items():
        assert poses[name].equals(found(n), atol=1e-9)
    records = read_image_records(made.poses[0])
    assert {name: record["file_name"] for name, record in records.items()} == {n: f"{n}.png" for n in poses}
    assert {(record["width"], record["height"]) for record in records.values()} == {SIZE}


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batches_do_not_matter(photos, tmp_path, batch_size, monkeypatch):
    monkeypatch.setattr(detect, "MAX_PIXELS", 2 * SIZE[0] * SIZE[1] + 1)
    look(photos, tmp_path / "out", batch_size=batch_size)
    assert read_poses(tmp_path / "out" / "poses.json")["b"].equals(found(2), atol=1e-9)


def test_openpose_has_a_file_for_each_image(photos, tmp_path):
    made = look(photos, tmp_path / "out", to="openpose", preview=False)
    assert made.poses == [tmp_path / "out" / f"{name}.json" for name in ("a", "b", "none")]
    assert made.previews == []
    assert not (tmp_path / "out" / "preview").exists()
    body = read_poses(made.poses[1])["b"]
    assert body.skeleton.name == "openpose18"
    assert body.xy[1, body.skeleton.index("nose")] == pytest.approx(found(2).xy[1, 0])


def test_the_preview_is_the_skeleton_over_the_dimmed_photograph(photos, tmp_path):
    made = look(photos, tmp_path / "out")
    assert [path.name for path in made.previews] == ["a.png", "b.png", "none.png"]
    image = np.asarray(Image.open(made.previews[1]))
    drawn = draw_people(found(2))
    assert (image[drawn.any(axis=2)] == drawn[drawn.any(axis=2)]).all()
    dimmed = image[~drawn.any(axis=2)]
    assert dimmed.max() < BACKGROUND / 2
    assert np.asarray(Image.open(made.previews[2])).any()


def test_large_previews_are_made_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "PREVIEW_SIDE", 80)
    Image.fromarray(paint(crowd(1))).save(tmp_path / "a.png")
    (preview,) = look(tmp_path / "a.png", tmp_path / "out").previews
    assert Image.open(preview).size == (80, 60)
    assert read_poses(tmp_path / "out" / "poses.json")["a"].canvas == SIZE


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    """The camera stored the image turned or mirrored; what people see, and what is written, is upright."""
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](paint(crowd(2)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    look(tmp_path / "a.png", tmp_path / "out")
    assert read_poses(tmp_path / "out" / "poses.json")["a"].equals(found(2), atol=1e-9)


def test_equal_stems_keep_both_images(tmp_path):
    Image.fromarray(paint(crowd(1))).save(tmp_path / "a.png")
    Image.fromarray(paint(crowd(2))).save(tmp_path / "a.bmp")
    made = look(tmp_path, tmp_path / "out")
    assert made.people == {"a.bmp": 2, "a.png": 1}
    assert {name: people.n for name, people in read_poses(made.poses[0]).items()} == made.people
    look(tmp_path, tmp_path / "out", to="openpose")
    assert read_poses(tmp_path / "out" / "a.bmp.json").keys() == {"a.bmp"}


def test_vitpose_in_the_whole_way(photos, tmp_path):
    save_detector(tmp_path / "net" / "detector")
    save_pose(tmp_path / "net" / "pose")
    seer = ViTPoseEstimator.from_pretrained(tmp_path / "net", person_threshold=0.0, joint_threshold=0.0)
    made = detect_files(photos, tmp_path / "out", estimator=seer, batch_size=1, progress=False)
    poses = read_poses(made.poses[0])
    assert made.estimator == "vitpose"
    assert sum(made.people.values()) > 3
    (expected,) = seer.detect([read_photo(photos / "a.png")])
    assert poses["a"].equals(expected)


# -- what is refused --------------------------------------------------------------------------------------------


def refuses(path, tmp_path, message, kind=PoseError, **options):
    with pytest.raises(kind, match=message) as caught:
        look(path, tmp_path / "out", **options)
    assert not list((tmp_path / "out").glob("*.json"))
    return str(caught.value)


def test_a_drawn_skeleton(tmp_path):
    Image.fromarray(draw_people(crowd(1, (256, 256)))).save(tmp_path / "drawn.png")
    assert "--pose-kind skeleton" in refuses(tmp_path / "drawn.png", tmp_path, r"drawn\.png: looks like a drawn")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_unreadable_images_are_named(photos, tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    broken = photos / f"zz.{suffix}"
    Image.fromarray(noise).save(broken)
    data = broken.read_bytes()
    broken.write_bytes(data[: int(share * len(data))])
    assert "remove it" in refuses(photos, tmp_path, rf"zz\.{suffix}: not a readable image")


def test_random_damage_never_shows_another_error(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "webp", "bmp"):
        file = tmp_path / f"a.{suffix}"
        Image.fromarray(noise).save(file)
        whole = np.frombuffer(file.read_bytes(), np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[rng.integers(0, min(len(data), 200), 6)] = rng.integers(0, 256, 6)
            file.write_bytes(data.tobytes())
            try:
                assert read_photo(file).dtype == np.uint8
            except PoseError as error:
                assert str(file) in str(error)  # noqa: PT017


def test_an_empty_folder_and_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    refuses(tmp_path / "empty", tmp_path, r"empty: no image in this folder.*\.jpg")
    refuses(tmp_path / "none", tmp_path, "no such file or folder", FileNotFoundError)


def test_too_many_pixels(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "MAX_PIXELS", SIZE[0] * SIZE[1] - 1)
    refuses(photos, tmp_path, r"a\.png: is larger than 0 megapixels.*smaller")


def test_a_huge_image_is_not_decoded(tmp_path):
    for side in (8001, 20_000):
        Image.new("1", (side, side)).save(tmp_path / "huge.png")
        refuses(tmp_path / "huge.png", tmp_path, r"huge\.png: is larger than 64 megapixels")


def test_a_large_image_takes_little_more_than_its_pixels(tmp_path):
    """Seven bytes a pixel: Pillow's four and ours."""
    pixels = np.zeros((4000, 4000, 3), np.uint8)
    pixels[..., 0] = np.arange(4000) % 251
    Image.fromarray(pixels).save(tmp_path / "large.png", compress_level=1)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    assert np.array_equal(read_photo(tmp_path / "large.png"), pixels)
    assert peak_bytes() - before < 9 * 4000 * 4000


def test_an_image_that_goes_over_itself_thousands_of_times(tmp_path):
    stream = io.BytesIO()
    Image.new("L", (3000, 3000)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "scans.jpg").write_bytes(data[:-2] + 3000 * scan + data[-2:])
    refuses(tmp_path / "scans.jpg", tmp_path, r"scans\.jpg: goes over the image too often.*Save it anew")


def test_grey_of_sixteen_bits_is_not_taken_for_white(tmp_path):
    Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(tmp_path / "deep.png")
    refuses(tmp_path / "deep.png", tmp_path, r"deep\.png: not a readable image \(grey values of more than 8 bits")


def test_pipes_and_devices_are_not_waited_for(photos, tmp_path):
    os.mkfifo(photos / "pipe.png")
    (photos / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.jpg"):
        refuses(photos / name, tmp_path, rf"{name}: is no file. Give a PNG or JPEG")
    assert look(photos, tmp_path / "out").people == {"a": 1, "b": 2, "none": 0}  # nor looked into in a folder


def test_previews_never_replace_photographs(tmp_path):
    folder = tmp_path / "out" / "preview"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), paint(crowd(1)))
    before = (folder / "a.png").read_bytes()
    refuses(folder, tmp_path, "previews would be written among")
    assert (folder / "a.png").read_bytes() == before


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_devices(device):
    with pytest.raises(ValueError, match="cannot be used"):
        usable_device(device)
    assert torch.device(usable_device("cpu")).type == "cpu"


def test_other_formats(photos, tmp_path):
    refuses(photos, tmp_path, "to: is 'npz'.*coco, openpose", to="npz")


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command(photos, tmp_path, blobs, capsys):
    out = tmp_path / "out"
    assert main(["pose", "detect", str(photos), "--out", str(out), "--estimator", "blobs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "3 images, 3 people found by blobs",
        f"poses: {out / 'poses.json'}",
        f"previews: {out / 'preview'}",
    ]
    words = ["pose", "detect", str(photos / "a.png"), "--out", str(tmp_path / "two"), "--estimator", "blobs"]
    assert main([*words, "--to", "openpose", "--no-preview"]) == 0
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "two" / "a.json").read_text())["canvas_width"] == SIZE[0]


def test_mistakes_take_one_line(photos, tmp_path, capsys):
    for words, message in (
        (["--estimator", "crayon"], "estimator 'crayon' is not known"),
        (["--estimator", "vitpose", "--source", str(tmp_path)], "no folder 'detector'"),
        (["--estimator", "vitpose", "--source", "/no/such/folder"], "no folder and no hub id"),
        (["--estimator", "vitpose", "--device", "warp"], "device 'warp' cannot be used"),
    ):
        assert main(["pose", "detect", str(photos), "--out", str(tmp_path / "out"), *words]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_a_photograph_as_pose_says_whom_it_hardly_shows(photos, caplog):
    with caplog.at_level("INFO"):
        (named,) = read_pose_files(photos / "a.png", estimator=BlobEstimator)
    assert "a.png: 1 person found by blobs (17 of 17 joints)" in caplog.text
    assert named.pose.n == 1
    people = crowd(2)
    few = People.of(people.xy, SIZE, visibility=np.where(np.arange(34).reshape(2, 17) < 22, 2, 0))  # 17 and 5 joints
    Image.fromarray(paint(few)).save(photos / "few.png")
    with pytest.warns(PoseWarning, match=r"few\.png: with fewer than 8 joints, .*: 1 of 2 people, who may be drawn"):
        read_pose_files(photos / "few.png", estimator=BlobEstimator)


def test_an_image_that_humansd_drew_brings_its_own_pose(tmp_path):
    people = crowd(2)
    write_png(tmp_path / "drawn.png", paint(people), image_info("photo, two people", seed=1, people=people))
    with pytest.warns(PoseWarning, match=r"drawn\.png: drawn by humansd; the pose that it was drawn in is used, 2"):
        (named,) = read_pose_files(tmp_path / "drawn.png")  # no estimator is needed
    assert named.pose.equals(people)
    write_png(tmp_path / "none.png", paint(people), image_info("photo, a man"))
    with pytest.raises(PoseError, match="is an image, and key points are needed"):
        read_pose_files(tmp_path / "none.png")


def test_squares_do_not_touch():
    """What the tests above rest on."""
    assert SIDE < 8
    (people,) = BlobEstimator().detect([paint(crowd(3))])
    assert people.equals(found(3), atol=1e-9)
