"""The formulas of the primary/secondary adapter method: known answers, and what tells the readings apart."""

import itertools

import pytest
import torch
from diffusers import DDIMScheduler

from humansd.losses import dual_adapter as f


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("strength", [0.5, 3.0, 60.0])
def test_with_route_1_at_a_gradient_descent_ends_at_the_known_point_and_the_known_gap(strength):
    a, b_target, weights = random(2, 17, 2), random(2, 17, 2, seed=1), torch.ones(2, 17, dtype=torch.float64)
    b = torch.zeros_like(a, requires_grad=True)
    optimizer = torch.optim.LBFGS([b], line_search_fn="strong_wolfe", max_iter=100, tolerance_grad=1e-12)

    def loss():
        held = f.constancy(f.points_distance(b, a, weights), f.points_distance(b_target, a, weights))
        return f.step_loss(f.points_distance(b, b_target, weights), held, strength)

    def closure():
        optimizer.zero_grad()
        value = loss().sum()
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.allclose(b, f.best_points(b_target, a, strength), atol=1e-6)
    theory = f.theoretical_value(a, b_target, weights)
    assert torch.allclose(loss(), f.least_loss(theory, strength))
    gap = (theory - loss().detach()) / theory
    assert torch.allclose(gap, torch.full_like(gap, 1 / (strength + 1)))


def test_the_squared_reading_alone_is_content_where_the_poses_differ_as_they_should():
    a, b, weights = random(3, 17, 2), random(3, 17, 2, seed=1), torch.ones(3, 17)
    apart = f.points_distance(a, b, weights)
    assert f.constancy(apart, apart, "squared").tolist() == [0, 0, 0]
    assert torch.equal(f.constancy(apart, apart), apart)
    with pytest.raises(ValueError, match="choose one of literal, squared"):
        f.constancy(apart, apart, "other")


def test_points_do_not_depend_on_the_size_of_the_image_and_the_origin_cancels():
    points = random(1, 17, 2) * 20 + 64
    twice = (points + 0.5) * 2 - 0.5  # the same places on an image of twice the size
    assert torch.allclose(f.normalized_points(points, (128, 128)), f.normalized_points(twice, (256, 256)))
    moved = [f.normalized_points(one, (128, 96), origin=(31.0, -7.0)) for one in (points, twice)]
    plain = [f.normalized_points(one, (128, 96)) for one in (points, twice)]
    assert torch.allclose(moved[1] - moved[0], plain[1] - plain[0])
    corners = torch.tensor([[-0.5, -0.5], [127.5, 95.5]])
    assert f.normalized_points(corners, (128, 96)).tolist() == [[0, 0], [1, 1]]


def test_the_steps_are_those_of_diffusers_ddim_and_the_literal_one_keeps_its_noise():
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(50)
    noisy, noise = random(2, 4, 8, 8), random(2, 4, 8, 8, seed=1)
    for at in (0, 20, 49):
        t = int(scheduler.timesteps[at])
        abar = scheduler.alphas_cumprod[t].double()
        after = scheduler.alphas_cumprod[t - 20].double() if at < 49 else torch.tensor(1.0, dtype=torch.float64)
        clean = f.clean_latents(noisy, noise, abar)
        found = scheduler.step(noise, t, noisy)
        assert torch.allclose(clean, found.pred_original_sample, atol=1e-5)
        assert torch.allclose(f.ddim_step(clean, noise, abar, after), found.prev_sample, atol=1e-5)
    left = f.ddim_step(clean, noise, abar, after, "literal") - clean
    assert torch.allclose(left, (1 - abar).sqrt() * noise)  # after the last step, where there should be none


def test_q_of_known_alphas_and_of_the_printed_sequence():
    alphas = torch.tensor([0.9, 0.5, 0.2])
    assert f.strength_of(alphas) == pytest.approx(2 / 3 * (9 + 1 + 0.25))
    assert f.strength_of(alphas, "timed") == pytest.approx(2 / 3 * (9 + 2 + 0.75))
    literal = f.literal_abars(50)
    assert literal[0] == 1
    assert literal[-1] == pytest.approx(0.00002)
    printed = [1.0, *(1 - (1 - 0.00002) * i / 49 for i in range(50))]
    ratios = [now / max(before - now, f.LEAST_NOISE * before) for before, now in itertools.pairwise(printed)]
    assert ratios[0] == pytest.approx(1 / f.LEAST_NOISE)  # the division by zero is bounded
    assert f.strength_of(f.step_alphas(literal)) == pytest.approx(2 / 50 * sum(ratios))
    abars = torch.tensor([0.9, 0.45, 0.09])
    assert torch.allclose(f.step_alphas(abars), alphas)


def test_l_diffusion_and_the_primary_s_loss_weigh_as_printed():
    one, other = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    error = (one - other).square().flatten(1).sum(dim=1)
    abar, alpha = torch.tensor(0.75), torch.tensor(0.8)
    assert torch.allclose(f.diffusion_distance(one, other, abar).double(), error / 0.25)
    assert torch.allclose(f.primary_loss(one, other, alpha, abar).double(), error * 0.2 / (2 * 0.8 * 0.25))
    steps = torch.stack([error, 3 * error])
    assert torch.allclose(f.total_loss(steps), 2 * error)
    assert torch.allclose(f.total_loss(steps, "sum"), 4 * error)


def test_the_soft_peak_of_a_gaussian_is_found_to_a_fraction_and_moves_with_a_gradient():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    places = torch.tensor([[20.3, 31.6], [50.0, 12.25]], requires_grad=True)
    away = (x - places[:, 0, None, None]).square() + (y - places[:, 1, None, None]).square()
    heat = torch.exp(-away / (2 * 2.0**2))[None]
    points, confidence = f.soft_argmax(heat)
    assert torch.allclose(points[0], places, atol=0.15)
    assert (confidence > 0.95).all()
    assert not confidence.requires_grad
    points[0, 0, 0].backward()
    assert 0.3 < places.grad[0, 0] < 2  # the peak follows the place
    assert places.grad[1].abs().max() == 0


def test_a_point_that_is_not_seen_counts_little():
    heat = torch.zeros(1, 2, 32, 32)
    heat[0, 0, 5, 9] = 1
    points, confidence = f.soft_argmax(heat)
    assert confidence.tolist() == [[1, 0]]
    far = torch.full_like(points, 100.0)
    both = f.points_distance(points, far, torch.ones(1, 2))
    assert f.points_distance(points, far, confidence) < 0.6 * both


def test_the_distance_of_masks_is_the_mean_over_pixels_and_its_least_loss_is_known():
    nobody, everybody, half = torch.zeros(1, 4, 6), torch.ones(1, 4, 6), torch.full((1, 4, 6), 0.5)
    ones = torch.ones(1, 1, 1)
    left = torch.cat([torch.ones(1, 4, 3), torch.zeros(1, 4, 3)], dim=2)
    assert f.masks_distance(nobody, everybody, ones).tolist() == [1.0]
    assert f.masks_distance(half, everybody, ones).tolist() == [0.25]
    assert f.masks_distance(left, everybody, ones).tolist() == [0.5]
    assert f.masks_distance(left, everybody, left).tolist() == [0.0]  # where they differ nothing counts
    for strength in (0.5, 3.0, 60.0):
        b = f.best_points(left, half, strength)
        assert 0 <= float(b.min()) <= float(b.max()) <= 1
        found = f.step_loss(f.masks_distance(b, left, ones), f.masks_distance(b, half, ones), strength)
        theory = f.theoretical_value(half, left, ones, f.masks_distance)
        assert torch.allclose(found, f.least_loss(theory, strength))
        assert torch.allclose((theory - found) / theory, torch.tensor([1 / (strength + 1)]))
        beside = (b + 0.05).clamp(0, 1)
        other = f.step_loss(f.masks_distance(beside, left, ones), f.masks_distance(beside, half, ones), strength)
        assert other > found
