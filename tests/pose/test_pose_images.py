"""Images beside poses: fitted as people are, and with people drawn over them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from humansd.pose.images import letterboxed, overlay, resized
from humansd.pose.people import People
from humansd.pose.render import draw_people


def test_an_image_lands_where_its_people_do() -> None:
    """A white dot at a joint is at that joint after both were fitted."""
    image = np.zeros((40, 80, 3), np.uint8)
    image[20:24, 60:64] = 255
    people = People.of(np.full((1, 17, 2), (61.5, 21.5)), (80, 40))
    for size in ((40, 40), (160, 160), (90, 60)):
        fitted = letterboxed(image, size)
        y, x = (values.mean() for values in np.nonzero(fitted[..., 0] > 127))
        assert (x, y) == pytest.approx(people.fit(*size).xy[0, 0], abs=0.51)


def test_beside_the_image_is_one_grey() -> None:
    fitted = letterboxed(np.full((10, 20, 3), 200, np.uint8), (20, 20), beside=127)
    assert (fitted[:5] == 127).all()
    assert (fitted[5:15] == 200).all()
    assert (fitted[15:] == 127).all()


def test_fine_patterns_become_their_mean_and_not_moire() -> None:
    board = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (32, 32))[..., None].repeat(3, axis=2)
    assert np.abs(resized(board, (16, 16)).astype(int) - 127.5).max() <= 1
    larger = resized(board[:2, :2], (8, 8))
    assert (larger == cv2.resize(board[:2, :2], (8, 8), interpolation=cv2.INTER_LINEAR)).all()


@pytest.mark.parametrize(("light", "wanted"), [(1.0, 90), (1 / 2, 45), (1 / 3, 30), (0.7, 63)])
def test_people_are_drawn_over_what_is_left_of_the_image(light: float, wanted: int) -> None:
    xy = np.stack([np.linspace(8, 56, 17), np.linspace(10, 50, 17)], axis=1)
    people = People.of(xy[None], (64, 64))
    image, drawn = np.full((64, 64, 3), 90, np.uint8), draw_people(people)
    shown, on = overlay(image, people, light=light), drawn.any(axis=2)
    assert on.any()
    assert (shown[on] == drawn[on]).all()
    assert (shown[~on] == wanted).all()


def test_a_share_of_a_value_is_the_whole_number_that_division_gives() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    nobody = People.empty((16, 16))
    assert (overlay(image, nobody, light=1 / 3) == image // 3).all()
    assert (overlay(image, nobody, light=1 / 2) == image // 2).all()
