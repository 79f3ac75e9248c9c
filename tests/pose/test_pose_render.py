"""Drawings, styles, the drawn-skeleton check, heatmaps and masks."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from humansd.pose import COCO17, OPENPOSE18, People, PoseError
from humansd.pose.maps import gaussian_heatmaps, person_mask
from humansd.pose.render import (
    HUMANSD_STYLE,
    OPENPOSE_STYLE,
    DrawStyle,
    draw_people,
    looks_like_drawn_skeleton,
)
from pose_cases import standing

STYLES = pytest.mark.parametrize("style", [HUMANSD_STYLE, OPENPOSE_STYLE], ids=["humansd", "openpose"])


def forearm(a: tuple[float, float], b: tuple[float, float], canvas: tuple[int, int] = (512, 512)) -> People:
    """Only the left elbow and wrist: one limb, table entry 8 of COCO-17."""
    xy, seen = np.zeros((1, 17, 2)), np.zeros((1, 17))
    xy[0, 7], xy[0, 9], seen[0, [7, 9]] = a, b, 2
    return People.of(xy, canvas, visibility=seen)


def test_every_limb_has_its_color_in_the_middle() -> None:
    rng = np.random.default_rng(1)
    for limb, (i, j) in enumerate(COCO17.limbs):
        xy, seen = np.zeros((1, 17, 2)), np.zeros((1, 17))
        xy[0, [i, j]], seen[0, [i, j]] = rng.uniform(60, 450, (2, 2)), 1
        image = draw_people(People.of(xy, (512, 512), visibility=seen))
        x, y = np.rint(xy[0, [i, j]].mean(axis=0)).astype(int)
        assert tuple(image[y, x]) == COCO17.limb_colors[limb]


def test_openpose_blends_limbs_and_paints_joints() -> None:
    image = draw_people(forearm((100, 100), (300, 100)), OPENPOSE_STYLE)
    limb = OPENPOSE18.limbs.index((OPENPOSE18.index("left_elbow"), OPENPOSE18.index("left_wrist")))
    np.testing.assert_array_equal(image[100, 200], np.rint(0.6 * np.array(OPENPOSE18.limb_colors[limb])))
    assert tuple(image[100, 97]) == OPENPOSE18.joint_colors[OPENPOSE18.index("left_elbow")]
    assert image[100, 95].max() < 255
    assert not image[100, 94].any()


def test_stick_is_ten_pixels_wide_at_512_and_scales() -> None:
    for side in (128, 256, 512, 1024):
        people = forearm((side * 0.25, side * 0.5), (side * 0.75, side * 0.5), (side, side))
        column = draw_people(people)[:, side // 2].max(axis=1).astype(float)
        assert column.sum() / max(COCO17.limb_colors[8]) == pytest.approx(10 * side / 512, abs=0.03)


def test_drawing_is_sub_pixel_exact() -> None:
    # Moving a limb by a fraction of a pixel moves the centre of gravity of its image by that much.
    for shift in (0.0, 0.25, 0.5, 0.9):
        column = draw_people(forearm((20, 60 + shift), (110, 60 + shift), (128, 128)))[:, 64].sum(axis=1)
        centre = (column * np.arange(128.0)).sum() / column.sum()
        assert centre == pytest.approx(60 + shift, abs=0.06)


@STYLES
def test_small_drawing_equals_the_shrunk_large_one(style: DrawStyle) -> None:
    people = standing((512, 512))
    small = draw_people(people, style, (128, 128)).astype(float)
    large = cv2.resize(draw_people(people, style), (128, 128), interpolation=cv2.INTER_AREA).astype(float)
    # Where limbs cross, "paint, then average" and "average, then paint" differ at a few edge pixels.
    assert np.abs(small - large).mean() < 0.6
    assert np.percentile(np.abs(small - large), 99) < 25


@STYLES
def test_absent_unsure_or_far_joints(style: DrawStyle) -> None:
    whole = standing((256, 256))
    seen = whole.visibility.copy()
    seen[0, 9] = 0
    xy = whole.xy.copy()
    xy[0, 9] = 0
    absent = draw_people(People.of(xy, whole.canvas, visibility=seen), style)
    assert not absent[:10, :10].any()
    score = np.ones((1, 17))
    score[0, 9] = style.score_threshold
    unsure = draw_people(People(xy, score, whole.visibility, whole.canvas), style)
    np.testing.assert_array_equal(absent, unsure)
    hidden = draw_people(People.of(whole.xy, whole.canvas, visibility=np.ones((1, 17))), style)
    np.testing.assert_array_equal(hidden, draw_people(whole, style))


@STYLES
@pytest.mark.parametrize("far", [1e4, 1e9, 1e300])
def test_far_joints_do_not_overflow(style: DrawStyle, far: float) -> None:
    image = draw_people(forearm((64, 64), (far, 64), (128, 128)), style)
    lit = image.max(axis=2) > 0
    assert lit[64, 64:].all()
    assert not lit[:55].any()
    assert not lit[75:].any()
    assert not lit[:, :60].any()
    assert not draw_people(forearm((-far, -far), (-far, -far + 5), (128, 128)), style).any()


@STYLES
def test_later_people_cover_earlier_ones(style: DrawStyle) -> None:
    left = forearm((10, 64), (110, 64), (128, 128))
    right = People.of(np.roll(left.xy, 1, axis=1), (128, 128), visibility=np.roll(left.visibility, 1, axis=1))
    both = People.of(
        np.concatenate([left.xy, right.xy]),
        (128, 128),
        visibility=np.concatenate([left.visibility, right.visibility]),
    )
    last = draw_people(both.select([1]), style)[64, 60].astype(int)
    first = draw_people(both.select([0]), style)[64, 60].astype(int)
    assert last.any()
    assert first.any()
    assert (last != first).any()
    expected = last + (1 - style.blend) * first
    np.testing.assert_allclose(draw_people(both, style)[64, 60], expected, atol=1)


def test_size_letterboxes_and_nobody_is_black() -> None:
    wide = draw_people(standing((200, 100)), size=(128, 128))
    assert wide.shape == (128, 128, 3)
    assert not wide[:32].any()
    assert not wide[96:].any()
    black = draw_people(People.empty((40, 30)))
    assert black.shape == (30, 40, 3)
    assert black.dtype == np.uint8
    assert not black.any()


@STYLES
def test_style_round_trip_is_strict(style: DrawStyle) -> None:
    data = json.loads(json.dumps(style.to_dict()))
    assert DrawStyle.from_dict(data) == style
    with pytest.raises(PoseError, match=r"draw_style: needs exactly the keys .* got .*color"):
        DrawStyle.from_dict(data | {"color": 1})
    data.pop("blend")
    with pytest.raises(PoseError, match="draw_style: needs exactly the keys blend"):
        DrawStyle.from_dict(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dwpose"}, "kind: 'dwpose' is not a drawing style. Use one of humansd, openpose"),
        ({"stick_width_px": -1}, "stick_width_px: -1 is not a number from 0 to 512"),
        ({"blend": float("nan")}, "blend: nan is not"),
        ({"score_threshold": True}, "score_threshold: True is not"),
    ],
)
def test_bad_styles_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PoseError, match=message):
        DrawStyle(**change)  # type: ignore[arg-type]


@STYLES
@pytest.mark.parametrize("side", [128, 256, 512])
def test_drawings_look_drawn(style: DrawStyle, side: int) -> None:
    image = draw_people(standing((side, side)), style)
    assert looks_like_drawn_skeleton(image)
    if side == 512:
        blob = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        assert looks_like_drawn_skeleton(cv2.imdecode(blob, cv2.IMREAD_COLOR))


def test_other_images_do_not_look_drawn() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (128, 128, 3), np.uint8)
    night = np.where(rng.random((128, 128, 1)) < 0.05, noise, 0).astype(np.uint8)
    grey_lines = np.repeat(draw_people(standing((256, 256))).max(axis=2, keepdims=True), 3, axis=2)
    skin = np.zeros((128, 128, 3), np.uint8)
    skin[40:90, 40:80] = (224, 172, 150)
    on_white = 255 - draw_people(standing((256, 256)))
    for image in (noise, night, grey_lines, skin, on_white, np.zeros_like(noise)):
        assert not looks_like_drawn_skeleton(image)
    with pytest.raises(PoseError, match="rgb: needs an RGB uint8 image"):
        looks_like_drawn_skeleton(noise[..., 0])


def test_heatmaps_have_their_peak_at_the_joint() -> None:
    people = standing((128, 128))
    maps = gaussian_heatmaps(people, (64, 64), 2.0)
    assert maps.shape == (17, 64, 64)
    assert maps.dtype == np.float32
    small = people.resize(64, 64).xy[0]
    for joint, (x, y) in enumerate(small):
        row, column = np.unravel_index(maps[joint].argmax(), (64, 64))
        assert abs(column - x) <= 0.5
        assert abs(row - y) <= 0.5
    value = np.exp(-((10 - small[0, 0]) ** 2 + (20 - small[0, 1]) ** 2) / 8)
    assert maps[0, 20, 10] == pytest.approx(value, abs=1e-6)
    assert not gaussian_heatmaps(People.empty((9, 9)), (8, 8), 1).any()
    with pytest.raises(PoseError, match="sigma_px: sigma 0 is not above 0"):
        gaussian_heatmaps(people, (8, 8), 0)


def test_masks_scale_with_their_person() -> None:
    small = (person_mask(standing((128, 256)), (128, 256)) > 0).mean()
    large = (person_mask(standing((128, 256)), (512, 1024)) > 0).mean()
    assert 0.1 < small < 0.5
    assert small == pytest.approx(large, rel=0.05)


def test_masks_hold_every_labelled_joint_and_one_label_each() -> None:
    one = standing((200, 200))
    shifted = one.xy + np.array([40, 0])
    two = People.of(np.concatenate([one.xy, shifted]), (200, 200))
    mask = person_mask(two, (200, 200))
    assert set(np.unique(mask)) == {0, 1, 2}
    for x, y in np.rint(shifted[0]).astype(int):
        assert mask[y, x] == 2
    assert mask[100, 85] in (1, 2)
    assert not mask[197:].any()
    with pytest.raises(PoseError, match="people: 256 people do not fit"):
        person_mask(People.of(np.zeros((256, 17, 2)), (9, 9)), (9, 9))
