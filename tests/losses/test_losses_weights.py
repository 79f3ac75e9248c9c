"""Weight maps of the denoising loss: known answers on constructed people."""

import numpy as np
import pytest
import torch

from humansd.losses.denoising import inside_and_outside
from humansd.losses.weights import WEIGHT_MAPS, mask_share, skeleton_mask
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
    own = np.zeros((64, 64), np.float32)
    own[:, :33] = 1
    assert (skeleton_mask(standing(64), (32, 32), 3.0, own)[0, 0] == [4] * 16 + [2.5] + [1] * 15).all()


def test_the_map_goes_where_the_person_goes_on_any_canvas():
    here = skeleton_mask(standing(40), (32, 32), 1.0)
    there = skeleton_mask(standing(80), (32, 32), 1.0)
    assert np.abs(np.roll(here, 10, axis=2) - there).mean() < 0.01
    large = skeleton_mask(standing(64).resize(512, 512), (64, 64), 1.0)
    assert large.shape == (1, 64, 64)
    assert large.mean() == pytest.approx(skeleton_mask(standing(64), (32, 32), 1.0).mean(), abs=0.02)


def test_a_mask_may_count_more_early_or_late():
    timesteps = torch.tensor([0, 333, 999])
    assert mask_share("constant", timesteps, 1000).tolist() == [1, 1, 1]
    assert mask_share("early", timesteps, 1000).tolist() == pytest.approx([0, 1 / 3, 1], abs=1e-6)
    assert mask_share("late", timesteps, 1000).tolist() == pytest.approx([1, 2 / 3, 0], abs=1e-6)


def test_the_error_is_known_inside_and_outside_people():
    cover = torch.zeros(1, 1, 2, 2)
    cover[0, 0, 0] = torch.tensor([1.0, 0.5])
    prediction = torch.zeros(1, 3, 2, 2)
    target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    parts = inside_and_outside(prediction, target, cover)
    assert parts["inside"] == pytest.approx((1 + 0.5 * 4) / 1.5)
    assert parts["outside"] == pytest.approx((0.5 * 4 + 9 + 16) / 2.5)
    assert set(inside_and_outside(prediction, target, torch.zeros(1, 1, 2, 2))) == {"outside"}
