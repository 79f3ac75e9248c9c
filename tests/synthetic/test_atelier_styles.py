"""The painter: every scene and place, faithful colours, figures that stand out, styles that differ."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from fake_buffers import make_buffers, make_camera, make_plan
from humansd.synthetic import plan as pl
from humansd.synthetic.buffers import TOP, Camera
from humansd.synthetic.sampling import sample_plan
from humansd.synthetic.scenery import paint_background
from humansd.synthetic.stage import render_buffers
from humansd.synthetic.styles import STYLES, paint

COLORS = tuple(pl.COLORS)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of uint8 RGB (...,3)."""
    flat = np.ascontiguousarray(rgb.reshape(-1, 1, 3).astype(np.float32) / 255)
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(rgb.shape)


PALETTE = to_lab(np.array([pl.COLORS[c] for c in COLORS], np.uint8)[:, None])[:, 0]


def nearest_color(rgb: np.ndarray) -> str:
    """Named colour closest in CIELAB to the mean of uint8 pixels (n,3)."""
    mean = np.rint(rgb.reshape(-1, 3).mean(0)).astype(np.uint8)
    return COLORS[int(np.linalg.norm(PALETTE - to_lab(mean[None, None])[0, 0], axis=1).argmin())]


def some_plan(scene: str, i: int) -> pl.ScenePlan:
    """Plan `i` of a fixed series that goes through places, lights, colours and 1 to 3 people."""
    place = pl.PLACES[i % len(pl.PLACES)]
    light = "day" if place in pl.INDOOR else pl.LIGHTS[(i // 3) % 4]
    n = (1, 1, 2, 1, 3)[i % 5]
    colors = tuple(COLORS[(5 * i + 7 * k) % 12] for k in range(n))
    bottoms = tuple(COLORS[(5 * i + 3 * k + 4) % 12] for k in range(n))
    return make_plan(scene, place, light, colors, bottoms)


@lru_cache(maxsize=512)
def image(plan: pl.ScenePlan, i: int = 0, size: int = 128) -> np.ndarray:
    return paint(plan, make_buffers(plan, 2 * size, i % 5, (0.8, 0.6)[i % 2]), np.random.default_rng(i), size)


def test_every_scene_has_a_painter() -> None:
    assert set(STYLES) == set(pl.SCENES)


@pytest.mark.parametrize("place", pl.PLACES)
def test_background_range_and_repeatability(place: str) -> None:
    for light in ("day",) if place in pl.INDOOR else pl.LIGHTS:
        plan = make_plan(place=place, light=light)
        first, again, other = (
            paint_background(plan, make_camera(128), 128, np.random.default_rng(s)) for s in (1, 1, 2)
        )
        assert first.shape == (128, 128, 3)
        assert first.dtype == np.float32
        assert first.min() >= 0
        assert first.max() <= 1
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert (first.min(-1) > 0.97).mean() < 0.02, "blown out"


@pytest.mark.parametrize("place", pl.PLACES)
@pytest.mark.parametrize("pitch", [-0.7, -0.05, 0.8, 1.4])
def test_background_from_any_camera(place: str, pitch: float) -> None:
    camera = Camera(0.4 if pitch < 0 else 2.5, pitch, 150, 63.5, 63.5)
    out = paint_background(make_plan(place=place), camera, 128, np.random.default_rng(0))
    assert out.shape == (128, 128, 3)
    assert np.isfinite(out).all()


def test_floor_follows_the_camera() -> None:
    """The foot of the wall lies where the pinhole model projects (x, 0, -behind)."""
    camera, behind = Camera(1.6, 0.12, 320, 127.5, 127.5), 5.0
    out = paint_background(make_plan(place="gym"), camera, 256, np.random.default_rng(0), behind)
    cos, sin = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
    row = camera.cy + camera.focal_px * (1.6 * cos - behind * sin) / (1.6 * sin + behind * cos)
    step = np.abs(np.diff(out.mean(1), axis=0)).sum(-1)
    assert abs(int(step[100:240].argmax()) + 100 - row) <= 2


def test_night_is_darker_and_city_windows_shine() -> None:
    day, night = (
        paint_background(make_plan(place="city", light=light), make_camera(128), 128, np.random.default_rng(3))
        for light in ("day", "night")
    )
    assert night.mean() < 0.6 * day.mean()
    warm = (night[..., 0] > 0.6) & (night[..., 2] < 0.5)
    assert 0.002 < warm.mean() < 0.2


@pytest.mark.parametrize("scene", tuple(pl.SCENES))
def test_image_is_uint8_and_repeatable(scene: str) -> None:
    for i in range(len(pl.PLACES)):
        first = image(some_plan(scene, i), i)
        assert first.shape == (128, 128, 3)
        assert first.dtype == np.uint8
        assert first.std() > 4
    np.testing.assert_array_equal(first, image.__wrapped__(some_plan(scene, i), i))


@pytest.mark.parametrize("scene", tuple(pl.SCENES))
def test_same_image_at_another_resolution(scene: str) -> None:
    """Strokes are given in shares of the image: 64 px and 128 px paintings resemble each other."""
    plan = make_plan(scene, "studio")
    large, small = image(plan, 0, 128), image(plan, 0, 64)
    shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small).mean() < 26


@pytest.mark.parametrize("scene", ["photo", "neon", "stained_glass", "sculpture"])
def test_nobody_in_the_image(scene: str) -> None:
    plan = make_plan(scene, "meadow", colors=(), bottoms=())
    assert paint(plan, make_buffers(plan), np.random.default_rng(0), 128).shape == (128, 128, 3)


def test_refuses_what_it_cannot_paint() -> None:
    plan = make_plan()
    layers = make_buffers(plan)
    with pytest.raises(ValueError, match=r"scene.*'fresco'"):
        paint(replace(plan, scene="fresco"), layers, np.random.default_rng(0), 128)
    with pytest.raises(ValueError, match="Buffers"):
        paint(plan, layers, np.random.default_rng(0), 512)
    with pytest.raises(ValueError, match="place 'moon'"):
        paint_background(replace(plan, place="moon"), make_camera(64), 64, np.random.default_rng(0))


def color_table(light: str = "day") -> dict[str, list[str]]:
    """Scene -> what the mean pixel of the top is called, for each colour in turn."""
    table = {}
    for scene in sorted(pl.COLORED_SCENES):
        table[scene] = []
        for k, color in enumerate(COLORS):
            place = ("meadow", "studio", "beach", "city")[k % 4]
            plan = make_plan(scene, place, light, (color,), (COLORS[(k + 5) % 12],))
            layers = make_buffers(plan, 256, k)
            image = paint(plan, layers, np.random.default_rng(k), 128)
            top = (
                cv2.resize((layers.material == TOP).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA) > 0.99
            )
            table[scene].append(nearest_color(image[top]))
    return table


def test_cloth_keeps_its_named_color_by_day() -> None:
    table = color_table()
    hits = {scene: np.mean([a == b for a, b in zip(names, COLORS, strict=True)]) for scene, names in table.items()}
    assert min(hits.values()) >= 0.9, table
    assert np.mean(list(hits.values())) >= 0.95, table


def edge_strength(image: np.ndarray, figure: np.ndarray) -> tuple[float, float]:
    """Median local colour range (CIELAB, 5 x 5) on the outline, and in the background away from it."""
    lab = to_lab(image)
    kernel = np.ones((5, 5), np.uint8)
    span = np.linalg.norm(cv2.dilate(lab, kernel) - cv2.erode(lab, kernel), axis=-1)
    mask = figure.astype(np.uint8)
    rim = (cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask) > 0
    away = cv2.dilate(mask, np.ones((17, 17), np.uint8)) == 0
    return float(np.median(span[rim])), float(np.median(span[away]))


@pytest.mark.parametrize("scene", tuple(pl.SCENES))
def test_figures_stand_out(scene: str) -> None:
    rim, ground = [], []
    for i in range(13):
        plan = some_plan(scene, i)
        step = make_buffers(plan, 256, i % 5, (0.8, 0.6)[i % 2]).person[::2, ::2] > 0
        a, b = edge_strength(image(plan, i), step)
        rim.append(a)
        ground.append(b)
    assert min(rim) > 20, (rim, ground)
    assert np.mean(rim) > 30, (rim, ground)
    assert np.mean(rim) > 1.9 * np.mean(ground), (rim, ground)


@pytest.mark.parametrize("scene", tuple(pl.SCENES))
def test_rendered_people_stand_out(scene: str) -> None:
    """The same with the body renderer's layers."""
    for seed in range(4):
        rng = np.random.default_rng([seed, 17])
        plan = sample_plan(rng, scene)
        layers = render_buffers(plan, 128, rng)
        image = paint(plan, layers, rng, 128)
        rim, ground = edge_strength(image, layers.person[::2, ::2] > 0)
        assert rim > 15, seed
        assert rim > 1.3 * ground, seed


def features(image: np.ndarray) -> np.ndarray:
    """Colour and edge statistics of an image."""
    lab = to_lab(image)
    luma = lab[..., 0]
    fine = luma - cv2.GaussianBlur(luma, (0, 0), 1.0)
    slope = np.hypot(cv2.Sobel(luma, -1, 1, 0), cv2.Sobel(luma, -1, 0, 1))
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    border = np.concatenate([lab[:3].reshape(-1, 3), lab[-3:].reshape(-1, 3)])
    blocks = np.abs(np.diff(luma, axis=1))
    return np.concatenate([
        lab.mean((0, 1)), lab.std((0, 1)),
        np.percentile(luma, (2, 25, 50, 75, 98)), np.percentile(chroma, (50, 90)),
        [np.abs(fine).mean(), slope.mean(), (slope > 80).mean()],
        [blocks[:, ::2].mean() - blocks[:, 1::2].mean()],
        border.mean(0), border.std(0), [(luma < 15).mean(), (luma > 92).mean()],
    ])  # fmt: skip


def test_styles_can_be_told_apart() -> None:
    """A nearest-centroid classifier on simple statistics names the style of unseen plans."""
    train = np.array([[features(image(some_plan(s, i), i)) for i in range(9)] for s in STYLES])
    test = np.array([[features(image(some_plan(s, i), i)) for i in range(9, 13)] for s in STYLES])
    spread = train.std(1).mean(0) + 1e-6
    centre = train.mean(1)
    gap = np.linalg.norm((test[:, :, None] - centre) / spread, axis=-1)
    right = gap.argmin(-1) == np.arange(len(STYLES))[:, None]
    assert right.mean() >= 0.7, dict(zip(STYLES, right.mean(1), strict=True))


def test_speed() -> None:
    """On average well under the time that rendering the layers takes; a wide margin for busy machines."""
    spent = []
    for i, scene in enumerate(STYLES):
        plan = some_plan(scene, 0)
        layers = make_buffers(plan, 256, 0)
        paint(plan, layers, np.random.default_rng(0), 128)
        start = time.process_time()
        paint(plan, layers, np.random.default_rng(i), 128)
        spent.append(time.process_time() - start)
    assert np.mean(spent) < 0.08
