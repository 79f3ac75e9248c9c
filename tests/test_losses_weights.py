"""Weight maps of the denoising loss: known answers on constructed people."""

import numpy as np
import pytest

from humansd.losses.weights import WEIGHT_MAPS, skeleton_mask
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17


def standing(x: float, canvas=(128, 128)) -> People:
    """One person, shoulders to ankles on a vertical strip about `x`."""
    xy = np.zeros((1, 17, 2))
    seen = np.zeros((1, 17), int)
    for name, dx, y in (
        ("shoulder", 10, 30),
        ("elbow", 12, 45),
        ("wrist", 12, 60),
        ("hip", 8, 65),
        ("knee", 8, 90),
        ("ankle", 8, 115),
    ):
        for side, sign in (("left", 1), ("right", -1)):
            joint = COCO17.index(f"{side}_{name}")
            xy[0, joint] = (x + sign * dx, y)
            seen[0, joint] = 2
    return People.of(xy, canvas, visibility=seen)


def test_one_where_nobody_is_and_one_plus_strength_on_a_person():
    weight = skeleton_mask(standing(64), (32, 32), 3.0)
    assert weight.shape == (1, 32, 32)
    assert weight.dtype == np.float32
    assert weight[0, 12, 16] == pytest.approx(4.0)  # the middle of the torso, pixel (64, 48)
    assert (weight[0, :, :8] == 1).all()
    assert (weight[0, :, 24:] == 1).all()
    assert weight.min() == 1
    assert weight.max() == pytest.approx(4.0)


def test_nobody_and_no_strength_are_the_plain_loss():
    assert (skeleton_mask(People.empty((128, 128)), (32, 32), 3.0) == 1).all()
    assert (skeleton_mask(standing(64), (32, 32), 0.0) == 1).all()
    assert WEIGHT_MAPS["ldm"] is None


def test_the_map_goes_where_the_person_goes_on_any_canvas():
    here = skeleton_mask(standing(40), (32, 32), 1.0)
    there = skeleton_mask(standing(80), (32, 32), 1.0)
    assert np.abs(np.roll(here, 10, axis=2) - there).mean() < 0.01
    large = skeleton_mask(standing(64).resize(512, 512), (64, 64), 1.0)
    assert large.shape == (1, 64, 64)
    assert large.mean() == pytest.approx(skeleton_mask(standing(64), (32, 32), 1.0).mean(), abs=0.02)
