"""The heatmap-guided loss: known answers on constructed heatmaps, and where gradients go."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from humansd.losses.denoising import mse
from humansd.losses.heatmap import heatmap_weight, noise_difference, reference_weight
from humansd.losses.weights import mean_one
from humansd.models.pocket import pocket_scheduler


def heat(*peaks: tuple[int, int, int, float], size: int = 8) -> torch.Tensor:
    maps = torch.zeros(1, 3, size, size)
    for joint, y, x, value in peaks:
        maps[0, joint, y, x] = value
    return maps


def test_the_weight_is_one_plus_the_largest_heat_averaged_over_areas():
    maps = heat((0, 0, 0, 0.8), (1, 0, 0, 0.4), (2, 7, 7, 0.04))
    weight = heatmap_weight(maps, (4, 4), strength=2.0)
    expected = torch.ones(1, 1, 4, 4)
    expected[0, 0, 0, 0] = 1 + 2 * 0.8 / 4  # one of four positions; 0.04 is below the threshold
    assert torch.allclose(weight, expected)


def test_a_sum_is_clipped_at_one():
    maps = heat((0, 2, 2, 0.8), (1, 2, 2, 0.7), (2, 5, 5, 0.3))
    weight = heatmap_weight(maps, (8, 8), reduction="sum")
    assert weight[0, 0, 2, 2] == 2
    assert weight[0, 0, 5, 5] == pytest.approx(1.3)


def test_heat_above_one_counts_as_one_and_below_zero_as_none():
    weight = heatmap_weight(heat((0, 1, 1, 3.0), (1, 2, 2, -3.0)), (8, 8))
    assert weight[0, 0, 1, 1] == 2
    assert weight[0, 0, 2, 2] == 1


def test_with_mean_one_the_size_of_the_loss_stays():
    weight = mean_one(heatmap_weight(heat((0, 3, 3, 1.0)), (8, 8), strength=5.0))
    assert weight.mean() == pytest.approx(1.0)
    assert weight[0, 0, 3, 3] == pytest.approx(6 * weight[0, 0, 0, 0])


def test_nobody_seen_is_the_plain_loss():
    prediction, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    weight = heatmap_weight(torch.zeros(2, 3, 16, 16), (8, 8), strength=9.0)
    assert torch.equal(mse(prediction, target, weight), mse(prediction, target))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_noise_difference_is_that_of_the_noises_the_network_means(kind):
    torch.manual_seed(0)
    scheduler = pocket_scheduler(prediction_type=kind)
    latents, noise, guess = (torch.randn(3, 4, 8, 8) for _ in range(3))
    timesteps = torch.tensor([5, 400, 990])
    abar = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    # The velocity whose noise, read from the same noisy latent, is `guess`.
    guessed_latents = (noisy - (1 - abar).sqrt() * guess) / abar.sqrt()
    told = {
        "epsilon": (guess, noise),
        "v_prediction": (
            abar.sqrt() * guess - (1 - abar).sqrt() * guessed_latents,
            scheduler.get_velocity(latents, noise, timesteps),
        ),
    }[kind]
    difference = noise_difference(*told, scheduler.alphas_cumprod, timesteps, kind)
    assert torch.allclose(difference, guess - noise, atol=1e-3)


def test_gradients_go_through_the_prediction_alone():
    prediction = torch.randn(1, 4, 8, 8, requires_grad=True)
    target, alphas = torch.randn(1, 4, 8, 8), pocket_scheduler().alphas_cumprod
    step = torch.tensor([300])
    difference = noise_difference(prediction, target, alphas, step, "v_prediction")
    assert not difference.requires_grad
    weight = heatmap_weight(difference.abs()[:, :3], (8, 8), strength=3.0)
    mse(prediction, target, weight).mean().backward()
    expected = 2 * weight * (prediction.detach() - target) / prediction.numel()
    assert torch.allclose(prediction.grad, expected)


def test_the_published_weight_is_a_latent_of_the_inverted_joint_count():
    """Step by step with NumPy and OpenCV: aligned corners, mean of both, inverted, summed, bicubic without them."""
    rng = np.random.default_rng(0)
    quarter, half = rng.uniform(-0.1, 0.2, (2, 17, 4, 5)), rng.uniform(-0.1, 0.2, (2, 17, 8, 10))
    y, x = (np.arange(2 * n) * (n - 1) / (2 * n - 1) for n in (4, 5))  # corners lie on corners
    rows, columns = np.floor(y).astype(int).clip(max=2), np.floor(x).astype(int).clip(max=3)
    down, right = (y - rows)[:, None], x - columns
    above, below = (
        quarter[:, :, rows + i][..., columns] * (1 - right) + quarter[:, :, rows + i][..., columns + 1] * right
        for i in (0, 1)
    )
    both = (above * (1 - down) + below * down + half) / 2
    counted = (both <= 0.05).sum(axis=1).astype(np.float32)
    expected = np.stack([cv2.resize(one, (20, 16), interpolation=cv2.INTER_CUBIC) for one in counted])
    seen = {}

    def encode(image: torch.Tensor) -> torch.Tensor:
        seen["image"] = image
        return image[:, :1, ::4, ::4].expand(-1, 4, -1, -1)

    weight = reference_weight(torch.from_numpy(quarter), torch.from_numpy(half), (16, 20), encode)
    assert seen["image"].shape == (2, 3, 16, 20)
    for channel in range(3):
        assert np.abs(seen["image"][:, channel].numpy() - expected).max() < 1e-4
    assert seen["image"].max() > 10  # not in -1..1
    assert weight.shape == (2, 4, 4, 5)
    assert np.abs(weight[:, 0].numpy() - (1 + 0.1 * expected[:, ::4, ::4])).max() < 1e-5


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="prediction_type = 'sample'"):
        noise_difference(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.ones(9), torch.tensor([1]), "sample")
    with pytest.raises(ValueError, match="needs 0 or more, and max or sum"):
        heatmap_weight(torch.zeros(1, 1, 1, 1), (1, 1), strength=-1)
