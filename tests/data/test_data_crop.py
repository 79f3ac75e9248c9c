"""Images cut to the model's shape: which window, and that image and people go the same way."""

from __future__ import annotations

import numpy as np
import pytest

from humansd.data.crop import window_for
from humansd.pose import People


def people_at(points, canvas) -> People:
    """One person for each list of points; the joints beyond them are absent."""
    xy, seen = np.zeros((len(points), 17, 2)), np.zeros((len(points), 17), int)
    for i, some in enumerate(points):
        xy[i, : len(some)], seen[i, : len(some)] = some, 2
    return People.of(xy, canvas, visibility=seen)


def test_an_image_of_the_wanted_shape_stays_whole():
    window = window_for(people_at([[(3, 3)]], (64, 48)), (128, 96))
    assert (window.left, window.top, window.width, window.height, window.way) == (0, 0, 64, 48, "whole")


@pytest.mark.parametrize(
    ("points", "left", "way"),
    [
        ([], 30, "window"),  # nobody: the middle
        ([[(50, 20), (70, 80)]], 30, "window"),  # in the middle anyway
        ([[(20, 20), (60, 80)]], 20, "window"),  # as far to the left as need be
        ([[(110, 20)], [(140, 80)]], 41, "window"),  # to the right; two people
        ([[(20, 20), (119, 80)]], 20, "window"),  # 100 px, as wide as the window
        ([[(20, 20)], [(120, 80)]], 30, "centre"),  # too far apart
        ([[(60, 50), (300, 50)]], 30, "window"),  # who is outside the image cannot be held
    ],
)
def test_the_largest_square_that_holds_everyone_nearest_to_the_middle(points, left, way):
    window = window_for(people_at(points, (160, 100)) if points else People.empty((160, 100)), (64, 64))
    assert (window.left, window.top, window.width, window.height, window.way) == (left, 0, 100, 100, way)


def test_a_tall_image_is_cut_above_and_below():
    window = window_for(people_at([[(20, 12), (30, 60)]], (60, 160)), (40, 30))
    assert (window.left, window.width, window.height, window.way) == (0, 60, 45, "centre")
    window = window_for(people_at([[(20, 12), (30, 50)]], (60, 160)), (40, 30))
    assert (window.top, window.way) == (12, "window")


@pytest.mark.parametrize("canvas", [(170, 128), (97, 211), (512, 128)])
@pytest.mark.parametrize("size", [(128, 128), (64, 48), (48, 80)])
def test_people_stay_on_their_pixels(canvas, size):
    rng = np.random.default_rng(0)
    for _ in range(20):
        spot = rng.integers(4, np.array(canvas) - 4)
        image = np.zeros((canvas[1], canvas[0], 3), np.uint8)
        image[spot[1] - 3 : spot[1] + 4, spot[0] - 3 : spot[0] + 4] = 255
        people = people_at([[spot]], canvas)
        window = window_for(people, size)
        assert window.way != "centre"
        cut, moved = window.image(image, size), window.people(people, size)
        assert cut.shape == (size[1], size[0], 3)
        assert moved.canvas == size
        y, x = np.nonzero(cut[..., 0] > 127)
        if x.min() > 0 and x.max() < size[0] - 1 and y.min() > 0 and y.max() < size[1] - 1:  # all of the spot is there
            assert moved.xy[0, 0] == pytest.approx([x.mean(), y.mean()], abs=1)


def test_scenery_beside_a_square_goes_and_the_square_stays_as_it_was():
    rng = np.random.default_rng(0)
    square = rng.integers(0, 256, (128, 128, 3), np.uint8)
    people = people_at([[(5, 9), (120, 99)]], (128, 128))
    wide = np.concatenate([square[:, :21][:, ::-1], square, square[:, -21:][:, ::-1]], axis=1)
    window = window_for(people.pad(21, 0, 21, 0), (128, 128))
    assert np.array_equal(window.image(wide, (128, 128)), square)
    assert window.people(people.pad(21, 0, 21, 0), (128, 128)).equals(people)


def test_no_window_is_stretched_by_more_than_a_pixel():
    for canvas in [(1023, 683), (400, 1100), (7, 300)]:
        window = window_for(People.empty(canvas), (128, 96))
        assert abs(window.width * 96 / 128 - window.height) <= 1
        assert window.width == canvas[0] or window.height == canvas[1]


def test_joints_outside_the_window_are_dropped_and_the_rest_stay():
    people = people_at([[(2, 50), (80, 50)], [(158, 50), (90, 50)]], (160, 100))
    window = window_for(people, (50, 50))
    assert window.way == "centre"
    cut = window.people(people, (50, 50))
    assert cut.labelled[:, :2].tolist() == [[False, True], [False, True]]
    assert cut.xy[0, 1] == pytest.approx([(80.5 - 30) / 2 - 0.5, 24.75])
