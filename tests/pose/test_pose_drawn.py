"""Drawings of skeletons are read back to key points; photographs and other drawings are not."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from humansd.inference.pose_files import read_pose_files
from humansd.pose import COCO17, OPENPOSE18, People, PoseError, PoseWarning, drawn
from humansd.pose.drawn import decoded, foreground, is_line_drawing, opaque, read_drawing
from humansd.pose.formats import read_poses
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, DrawStyle, draw_people
from pose_mutants import CANVAS, TRUTH
from shared_data import COCO_PEOPLE, DATA

SKELETONS = DATA / "pose-inputs" / "skeletons"
# Read off the sample by eye at eight times its size; the portrait has the same person 113 px lower.
SAMPLE = {
    "right_shoulder": (216, 113), "right_elbow": (183, 175), "right_wrist": (150, 243), "left_shoulder": (287, 109),
    "left_elbow": (310, 209), "left_wrist": (307, 164), "right_hip": (220, 233), "right_knee": (217, 322),
    "right_ankle": (217, 412), "left_hip": (274, 235), "left_knee": (259, 328), "left_ankle": (244, 413),
    "neck": (251, 111), "nose": (256, 87), "right_eye": (249, 79), "left_eye": (268, 79), "right_ear": (240, 80),
    "left_ear": (278, 81),
}  # fmt: skip
STYLES = pytest.mark.parametrize("style", [HUMANSD_STYLE, OPENPOSE_STYLE], ids=["humansd", "openpose"])


def person(shift: tuple[float, float] = (0, 0), scale: float = 1.0) -> People:
    xy = np.array([[TRUTH[name] for name in COCO17.joints]], float) * scale + np.array(shift)
    return People.of(xy, CANVAS)


def pair() -> People:
    one, two = person((-130, 5), 0.95), person((130, 20), 0.9)
    return People.of(np.concatenate([one.xy, two.xy]), CANVAS)


def within(true: People, read: People, reach: float) -> list[int]:
    """Of each true person how many joints the person read nearest to it has within `reach` px."""
    true = true.to_skeleton(read.skeleton)
    counts = []
    for i in range(true.n):
        near = [np.hypot(*(true.xy[i] - read.xy[k]).T) <= reach for k in range(read.n)]
        counts.append(max(int((n & true.labelled[i] & read.labelled[k]).sum()) for k, n in enumerate(near)))
    return counts


def changed(image: np.ndarray, how: str) -> np.ndarray:
    if how == "jpeg":
        blob = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
        return cv2.imdecode(blob, cv2.IMREAD_COLOR_RGB)
    if how == "white":
        return np.where(image.max(axis=2, keepdims=True) > 60, image, 255).astype(np.uint8)
    if how == "grey":
        return changed(np.where(image.max(axis=2, keepdims=True) > 60, image, 128).astype(np.uint8), "jpeg")
    sizes = {"small": (320, 240), "large": (1280, 960), "plain": CANVAS}
    return cv2.resize(image, sizes[how], interpolation=cv2.INTER_AREA if how == "small" else cv2.INTER_LINEAR)


@STYLES
@pytest.mark.parametrize("how", ["plain", "jpeg", "white", "grey", "small", "large"])
def test_a_drawing_gives_the_person_that_was_drawn(style: DrawStyle, how: str) -> None:
    drawing = changed(draw_people(person(), style), how)
    read = read_drawing(drawing)
    assert read is not None
    assert read.n == 1
    assert read.skeleton is style.skeleton
    assert read.canvas == (drawing.shape[1], drawing.shape[0])
    scale = read.canvas[0] / CANVAS[0]
    (count,) = within(person().resize(*read.canvas), read, 3 * max(1.0, scale))
    assert count >= len(style.skeleton) - 1


@STYLES
def test_two_people_stay_two(style: DrawStyle) -> None:
    read = read_drawing(draw_people(pair(), style))
    assert read is not None
    assert read.n == 2
    assert min(within(pair(), read, 3)) >= len(style.skeleton) - 2


@STYLES
def test_the_order_of_the_channels_and_the_hues_matter(style: DrawStyle) -> None:
    drawing = draw_people(person(), style)
    turned = cv2.cvtColor(drawing, cv2.COLOR_RGB2HSV)
    turned[..., 0] = (turned[..., 0] + 5) % 180  # half way to the next hue
    read = read_drawing(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB))
    assert read is None or min(within(person(), read, 3)) >= 12  # unknown, or right


@pytest.mark.skipif(not SKELETONS.exists(), reason="no drawings in ../shared/data")
@pytest.mark.parametrize(
    ("name", "down", "least"), [("op_square", 0, 17), ("op_portrait", 113, 17), ("op_palette", 0, 12)]
)
def test_samples_are_read_within_three_pixels(name: str, down: int, least: int) -> None:
    for kind in ("auto", "skeleton"):
        with pytest.warns(PoseWarning, match=rf"{name}\.png: a drawing in OpenPose's colors, read back to key points"):
            (named,) = read_pose_files(SKELETONS / f"{name}.png", kind=kind)
        people = named.pose
        assert isinstance(people, People)
        assert people.n == 1
        true = np.array([SAMPLE[joint] for joint in OPENPOSE18.joints]) + np.array([0, down])
        away = np.hypot(*(people.xy[0] - true).T)
        assert ((away <= 3) & people.labelled[0]).sum() >= least
    assert read_poses(SKELETONS / f"{name}.png")[name].equals(people)


@pytest.mark.skipif(not COCO_PEOPLE.exists(), reason="no photographs in ../shared/data")
def test_photographs_are_no_drawings() -> None:
    photos = sorted((COCO_PEOPLE / "images").glob("*.jpg"))
    assert len(photos) > 20
    for photo in photos:
        pixels = decoded(photo.read_bytes())
        assert pixels is not None
        assert read_drawing(pixels) is None, photo.name
        assert not is_line_drawing(pixels), photo.name


def test_noise_and_a_figure_on_white_are_no_drawings() -> None:
    rng = np.random.default_rng(0)
    assert read_drawing(rng.integers(0, 256, (128, 128, 3), np.uint8)) is None
    photo = np.full((256, 256, 3), 255, np.uint8)
    shade = np.linspace(60, 220, 80)[None, :, None] + rng.normal(0, 9, (120, 80, 3))
    photo[60:180, 90:170] = shade.clip(0, 214).astype(np.uint8)
    for level in (255, 0, 110):
        studio = np.where(photo == 255, level, photo).astype(np.uint8)
        assert foreground(studio) is not None
        assert read_drawing(studio) is None
        assert not is_line_drawing(studio)
    assert read_drawing(np.zeros((200, 200, 3), np.uint8)) is None


@STYLES
def test_crowds_are_read_and_thousands_of_spots_are_not(style: DrawStyle, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(drawn, "_people", lambda hsv, *_: looked.append(hsv.shape))
    places = [(100.0 * (i % 10), 100.0 * (i // 10)) for i in range(50)]
    xy = np.concatenate([person().fit(100, 100).xy + np.array(place) for place in places])
    read_drawing(draw_people(People.of(xy, (1000, 500)), style))
    assert looked
    looked.clear()
    draw = np.random.default_rng(0)
    colors = np.array(style.skeleton.limb_colors, np.uint8)
    spots = colors[draw.integers(0, len(colors), (100, 100))] * (draw.random((100, 100, 1)) < 0.3).astype(np.uint8)
    assert read_drawing(spots.repeat(10, 0).repeat(10, 1)) is None
    assert not looked


def test_an_unknown_drawing_must_be_declared(tmp_path: Path) -> None:
    lines = np.repeat(draw_people(person()).max(axis=2, keepdims=True), 3, axis=2)
    file = tmp_path / "grey.png"
    cv2.imwrite(str(file), lines)
    with pytest.raises(
        PoseError, match=r"grey\.png: .*not in OpenPose's or HumanSD's colors\. Use it .*--pose-kind skeleton"
    ):
        read_pose_files(file)
    with pytest.warns(PoseWarning, match=r"grey\.png: .* used as it is, which fits a model"):
        (named,) = read_pose_files(file, kind="skeleton")
    assert isinstance(named.pose, np.ndarray)
    np.testing.assert_array_equal(named.pose, lines)


def test_transparent_deep_and_grey_images_are_converted(tmp_path: Path) -> None:
    drawing = draw_people(person(), OPENPOSE_STYLE)
    alpha = (drawing.max(axis=2) > 0).astype(np.uint8) * 255
    white = np.where(alpha[..., None] > 0, drawing, 255).astype(np.uint8)
    clear = np.dstack([white[..., ::-1], alpha])
    cv2.imwrite(str(tmp_path / "clear.png"), clear)
    cv2.imwrite(str(tmp_path / "deep.png"), drawing[..., ::-1].astype(np.uint16) * 257)
    for name in ("clear", "deep"):
        pixels = decoded((tmp_path / f"{name}.png").read_bytes())
        assert pixels is not None
        np.testing.assert_array_equal(pixels, drawing)
    assert opaque(np.full((4, 5), 9, np.uint8)).shape == (4, 5, 3)
    assert decoded(b"no image") is None


def test_a_folder_keeps_what_can_be_read(tmp_path: Path) -> None:
    for name, style in (("a", HUMANSD_STYLE), ("b", OPENPOSE_STYLE)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), draw_people(person(), style)[..., ::-1])
    (tmp_path / "c.png").write_bytes(b"\x89PNG broken")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        named = read_pose_files(tmp_path, kind="skeleton")
    assert [one.name for one in named] == ["a", "b"]
    assert any("1 of 3 files hold nothing to use, the first: " in str(w.message) for w in caught)


def test_the_note_names_the_joints_that_were_not_read(tmp_path: Path) -> None:
    whole = person().to_skeleton(OPENPOSE18)
    gone = {"left_ankle", "right_wrist"}
    visible = np.array([[0 if name in gone else 2 for name in OPENPOSE18.joints]])
    part = People.of(np.where(visible[..., None] > 0, whole.xy, 0), CANVAS, visibility=visible, skeleton=OPENPOSE18)
    cv2.imwrite(str(tmp_path / "a.png"), draw_people(part, OPENPOSE_STYLE)[..., ::-1])
    with pytest.warns(PoseWarning, match="1 person, 16 joints; without right wrist, left ankle$"):
        read_pose_files(tmp_path / "a.png")
