"""Variants of the rows of a pack: people stay on the image's content, captions stay true, latents are its latents."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch

from humansd.data.augmentations import Variant, augmentation, may_mirror
from humansd.data.image_cache import ImageCache, to_unit
from humansd.data.latents import build_latents
from humansd.models.codec import encode_images
from humansd.models.pocket import pocket_vae
from humansd.models.precision import fast_bf16
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, draw_people
from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.captions import (
    COUNT_WORDS,
    EACH_HELD_OUT,
    EACH_SEEN,
    GARMENT_WORDS,
    LIGHT_WORDS,
    ONE_HELD_OUT,
    ONE_SEEN,
    PLACE_WORDS,
    STYLE_WORDS,
)

SIDE = 128
ROWS = 60


def dots(row):
    """Black, with a white dot of 5 px at each of four joints of one person."""
    rng = np.random.default_rng(row)
    xy, seen = np.zeros((1, 17, 2)), np.zeros((1, 17), np.uint8)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for quarter, joint in enumerate((5, 6, 9, 15)):  # one dot in each quarter, so that none covers another
        x, y = rng.integers(8, 56, 2) + 64 * np.array(divmod(quarter, 2))
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
        xy[0, joint], seen[0, joint] = (x, y), 2
    return image, People.of(xy, (SIDE, SIDE), visibility=seen, area=[1000.0], extras=[{"bbox": [10, 20, 30, 40]}])


def image_cache_of(tmp_path, captions=("photo, a man waving",), rows=ROWS):
    images, people = zip(*(dots(row) for row in range(rows)))
    return ImageCache(tmp_path, np.stack(images), [list(captions)] * rows, list(people))


def centre_near(image, x, y):
    """Centre of brightness within 8 px of (x, y)."""
    ys, xs = np.mgrid[: len(image), : len(image)]
    light = image[..., 0].astype(float) * (np.maximum(abs(xs - x), abs(ys - y)) <= 8)
    return (light * xs).sum() / light.sum(), (light * ys).sum() / light.sum()


def test_a_mask_changes_as_its_image_does():
    image, _ = dots(3)
    for change in (Variant(0, 0, SIDE, False), Variant(9, 17, 104, False), Variant(9, 17, 104, True)):
        away = np.abs(change.mask(image[..., 0] > 0) - change.image(image)[..., 0] / 255)
        assert away.mean() < 0.002  # linear and cubic edges
        assert change.mask(image[..., 0] > 0).max() == 1


def test_joints_of_a_variant_lie_on_the_same_dots(tmp_path):
    image_cache = image_cache_of(tmp_path)
    seen = dropped = 0
    for row in range(ROWS):
        change = augmentation(image_cache, row, 1 + row % 3)
        image, people = change.image(image_cache.images[row]), change.people(image_cache.people[row])
        assert image.shape == (SIDE, SIDE, 3)
        assert people.canvas == (SIDE, SIDE)
        scale = SIDE / change.side
        assert people.area[0] == pytest.approx(1000 * scale**2)
        assert people.extras[0]["bbox"][2] == pytest.approx(30 * scale)
        for x, y in people.xy[people.labelled]:
            if min(x, y) > 8 and max(x, y) < SIDE - 9:
                assert centre_near(image, x, y) == pytest.approx((x, y), abs=0.1)
                seen += 1
        dropped += 4 - int(people.labelled.sum())
    assert seen > 2.5 * ROWS
    assert dropped > 0  # some windows leave a joint out


def test_a_mirrored_joint_is_of_the_other_side(tmp_path):
    image, people = dots(3)
    whole = Variant(0, 0, SIDE, mirrored=True)
    assert np.array_equal(whole.image(image), image[:, ::-1])
    assert whole.people(people).equals(people.hflip())
    assert whole.people(people).visibility[0, 10] == 2  # the left wrist is now a right one


def test_variant_zero_is_the_image_and_the_others_are_fixed_by_row_and_number(tmp_path):
    image_cache = image_cache_of(tmp_path)
    nothing = augmentation(image_cache, 5, 0)
    assert np.array_equal(nothing.image(image_cache.images[5]), image_cache.images[5])
    assert nothing.people(image_cache.people[5]) is image_cache.people[5]
    assert augmentation(image_cache, 5, 2) == augmentation(image_cache, 5, 2)
    changes = [augmentation(image_cache, row, number) for row in range(ROWS) for number in (1, 2, 3)]
    assert len(set(changes)) > 0.9 * len(changes)
    assert np.mean([change.mirrored for change in changes]) == pytest.approx(0.5, abs=0.12)
    sides = np.array([change.side for change in changes])
    assert sides.min() >= 0.8 * SIDE - 1
    assert sides.max() <= SIDE
    assert sides.mean() == pytest.approx(0.9 * SIDE, rel=0.02)
    assert all(min(c.left, c.top) >= 0 and max(c.left, c.top) + c.side <= SIDE for c in changes)


@pytest.mark.parametrize("words", ["a man pointing to the Left", "a lady, right-handed", "the leftmost of them"])
def test_nothing_is_mirrored_that_a_wording_tells_left_from_right(tmp_path, words):
    image_cache = image_cache_of(tmp_path, ["photo, a man", words])
    changes = [augmentation(image_cache, row, number) for row in range(ROWS) for number in (1, 2)]
    assert not any(change.mirrored for change in changes)
    free = image_cache_of(tmp_path, ["photo, a man in bright light"])
    for row in range(ROWS):  # the window is the same with and without
        assert dataclasses.replace(augmentation(free, row, 1), mirrored=False) == augmentation(image_cache, row, 1)


def test_several_people_are_not_mirrored_because_captions_name_them_in_order():
    _, one = dots(0)
    two = one.select([0, 0])
    assert may_mirror(["photo, a man"], one)
    assert may_mirror(["photo, a meadow"], People.empty((SIDE, SIDE)))
    assert not may_mirror(["photo, a man in red and a woman in blue"], two)


def test_no_word_of_atelier_tells_left_from_right():
    tables = (COUNT_WORDS, GARMENT_WORDS, LIGHT_WORDS, PLACE_WORDS, STYLE_WORDS)
    words = [word for table in tables for entry in table.values() for word in entry]
    words += [phrase for action in ACTIONS.values() for phrase in action.phrases]
    words += [*ONE_SEEN, *ONE_HELD_OUT, *EACH_SEEN, *EACH_HELD_OUT]
    assert len(words) > 200
    assert not [word for word in words if re.search("left|right", word.replace("upright", ""))]


def test_latents_of_a_variant_are_those_of_the_changed_image_and_pose(tmp_path):
    torch.manual_seed(0)
    vae = pocket_vae(scaling_factor=0.5).eval()
    image_cache = image_cache_of(tmp_path, rows=6)
    caches = [build_latents(image_cache, vae, HUMANSD_STYLE, tmp_path, number) for number in range(3)]
    assert len(list(tmp_path.glob("latents-*"))) == 3
    for number, cache in enumerate(caches):
        assert isinstance(cache.images, np.memmap)
        changes = [augmentation(image_cache, row, number) for row in range(6)]
        assert any(change.mirrored for change in changes) == (number > 0)
        images = [change.image(image) for change, image in zip(changes, image_cache.images)]
        drawn = [
            draw_people(change.people(people), HUMANSD_STYLE) for change, people in zip(changes, image_cache.people)
        ]
        assert np.array_equal(cache.images, encoded(vae, images))
        assert np.array_equal(cache.skeletons, encoded(vae, drawn))
    assert not np.array_equal(caches[0].images, caches[1].images)


@torch.no_grad()
def encoded(vae, images):
    unit = to_unit(np.stack(images)).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16(vae.device)):
        return encode_images(vae, unit).float().numpy().astype(np.float16)


def test_an_existing_cache_of_images_as_they_are_stays_valid(tmp_path):
    torch.manual_seed(0)
    vae, image_cache = pocket_vae(scaling_factor=0.5).eval(), image_cache_of(tmp_path, rows=6)
    build_latents(image_cache, vae, HUMANSD_STYLE, tmp_path)
    (about,) = (json.loads(path.read_text()) for path in tmp_path.glob("latents-*/about.json"))
    assert set(about) == {"vae", "scaling_factor", "style", "pack", "arithmetic", "done"}
    build_latents(image_cache, vae, HUMANSD_STYLE, tmp_path, 1)
    abouts = [json.loads(path.read_text()) for path in tmp_path.glob("latents-*/about.json")]
    assert sorted(one.get("variant", 0) for one in abouts) == [0, 1]


def test_skeletons_drawn_on_processes_make_the_same_latents(tmp_path, monkeypatch):
    vae, image_cache = pocket_vae(scaling_factor=0.5).eval(), image_cache_of(tmp_path, rows=ROWS)
    here = build_latents(image_cache, vae, HUMANSD_STYLE, tmp_path / "here", 1)
    monkeypatch.setattr("humansd.data.latents.spare_loaders", lambda device: 2)
    monkeypatch.setattr("humansd.data.latents.images_at_once", lambda size_px, device: 3)
    elsewhere = build_latents(image_cache, vae, HUMANSD_STYLE, tmp_path / "elsewhere", 1)
    assert np.abs(here.images - elsewhere.images).max() < 0.02  # other batches, other rounding
    assert np.abs(here.skeletons - elsewhere.skeletons).max() < 0.02
