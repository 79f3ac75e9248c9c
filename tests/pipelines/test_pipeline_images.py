"""Images that begin with an image: image to image, inpainting, and the mask of a changed pose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image

from humansd.models.widen import narrow_conv_in
from humansd.pipelines import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline, HumanSDPipeline, repose_mask
from humansd.pipelines.schedulers import make_scheduler
from humansd.pose import People
from tiny_pipeline import CHANNELS, SIZE, standing, tiny_components

STEPS = 8
WORDS = "a man running"


@pytest.fixture(scope="module")
def base() -> HumanSDPipeline:
    return HumanSDPipeline(**tiny_components())


@pytest.fixture(scope="module")
def repaint(base) -> HumanSDImg2ImgPipeline:
    pipe = HumanSDImg2ImgPipeline.from_pipe(base)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def inpaint(base) -> HumanSDInpaintPipeline:
    pipe = HumanSDInpaintPipeline.from_pipe(base)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def an_image(seed: int = 0, size: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def drawn(pipe, *args, **kwargs) -> np.ndarray:
    options = {"num_inference_steps": STEPS, "output_type": "np", "seed": 3} | kwargs
    return pipe(*args, **options).images


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def test_components_settings_and_weights_are_shared(base, repaint):
    assert repaint.unet is base.unet
    assert repaint.guidance == base.guidance
    assert repaint.config.dropped_pose == base.config.dropped_pose


def test_it_is_diffusers_where_the_unet_sees_no_pose():
    """Narrowed to the noisy latent the UNet is plain Stable Diffusion's; diffusers' own pipeline knows the answer."""
    parts = tiny_components(trained=False)
    parts["vae"].register_to_config(shift_factor=None)
    ours = HumanSDImg2ImgPipeline(**parts)
    plain = parts | {"unet": narrow_conv_in(parts["unet"], CHANNELS)}
    theirs = StableDiffusionImg2ImgPipeline(
        **plain, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    with torch.no_grad():  # diffusers draws from the posterior: make it narrow, so that the mean is drawn
        parts["vae"].quant_conv.weight[CHANNELS:] = 0
        parts["vae"].quant_conv.bias[CHANNELS:] = -60
    for pipe in (ours, theirs):
        pipe.set_progress_bar_config(disable=True)
    image = an_image()
    want = theirs(
        WORDS,
        image=Image.fromarray(image),
        strength=0.5,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    generator = torch.Generator().manual_seed(3)
    torch.randn((1, CHANNELS, 8, 8), generator=generator)  # what diffusers spends on the posterior
    got = drawn(ours, WORDS, standing(), image, strength=0.5, guidance_scale=3.0, seed=None, generator=generator)
    assert apart(got, want) < 1e-4


def encoded(pipe, image: np.ndarray) -> torch.Tensor:
    unit = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        return (pipe.vae.encode(unit).latent_dist.mean - 0.1) * 0.7


def test_strength_decides_how_much_changes(base, repaint):
    image = an_image()
    steps = []
    made = {}
    for strength in (0.25, 0.5, 1.0):
        count: list[int] = []
        options = {"strength": strength, "callback_on_step_end": lambda *_, count=count: count.append(1)}
        options["output_type"] = "latent"
        made[strength] = drawn(repaint, WORDS, standing(), image, **options)
        steps.append(len(count))
    assert steps == [2, 4, 8]
    kept = encoded(repaint, image)
    errors = [(one - kept).abs().mean() for one in made.values()]
    assert errors[0] < errors[1] < errors[2]
    whole = drawn(base, WORDS, standing(), output_type="latent")
    assert (made[1.0] - whole).abs().max() < 1e-5  # nothing of the image is left


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++-2m", "heun", "unipc", "pndm"])
def test_schedulers_begin_in_the_middle(repaint, name):
    scheduler = make_scheduler(name, repaint.scheduler)
    image = an_image()
    weak, strong = (
        drawn(repaint, WORDS, standing(), image, strength=share, scheduler=scheduler, output_type="latent")
        for share in (0.25, 1.0)
    )
    kept = encoded(repaint, image)
    assert (weak - kept).abs().mean() < (strong - kept).abs().mean()


def test_the_image_is_never_stretched(repaint):
    wide = an_image(size=(2 * SIZE, SIZE))
    assert drawn(repaint, WORDS, None, wide).shape == (1, SIZE, 2 * SIZE, 3)
    assert drawn(repaint, WORDS, None, an_image(size=(4 * SIZE, 4 * SIZE))).shape == (1, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="32 x 16 px and 16 x 16 are asked for: another shape"):
        drawn(repaint, WORDS, None, wide, width=SIZE, height=SIZE)


def test_batches_and_broadcasting(repaint):
    images = [an_image(0), an_image(1)]
    both = drawn(repaint, WORDS, standing(), images)
    assert apart(drawn(repaint, WORDS, standing(), images[1], seed=4), both[1:]) < 2 / 255
    many = drawn(repaint, [WORDS, "a park"], standing(), images[0], num_images_per_prompt=2)
    assert len(many) == 4


def test_mistakes(repaint, inpaint):
    with pytest.raises(ValueError, match="image is missing"):
        drawn(repaint, WORDS)
    with pytest.raises(ValueError, match=r"strength is 0\.05 of 8 steps, which is not one; use 20 steps"):
        drawn(repaint, WORDS, None, an_image(), strength=0.05)
    for strength in (0.0, 1e-320, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"strength is .*must be (from 0.001 to 1|a finite number)"):
            drawn(repaint, WORDS, None, an_image(), strength=strength)
    with pytest.raises(ValueError, match="the mask is 8 x 8 px, its image 16 x 16"):
        drawn(inpaint, WORDS, None, an_image(), np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="black everywhere"):
        drawn(inpaint, WORDS, None, an_image(), np.zeros((SIZE, SIZE), np.uint8))
    with pytest.raises(ValueError, match="mask_image is missing"):
        drawn(inpaint, WORDS, None, an_image())


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++-2m", "heun"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_outside_the_mask_every_pixel_is_kept(inpaint, name, strength):
    image, mask = an_image(), np.zeros((SIZE, SIZE), bool)
    mask[3:9, 5:12] = True
    scheduler = make_scheduler(name, inpaint.scheduler)
    options = {"strength": strength, "scheduler": scheduler, "output_type": "pil"}
    made = np.asarray(drawn(inpaint, WORDS, standing(), image, mask, **options)[0])
    assert np.array_equal(made[~mask], image[~mask])
    assert np.abs(made[mask].astype(int) - image[mask]).max() > 20


def test_what_is_drawn_knows_what_is_kept(inpaint):
    """The latents outside are those of the image at the noise of every step: other surroundings, another inside."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[4:12, 4:12] = True
    inner = [drawn(inpaint, WORDS, standing(), an_image(seed), mask)[0][mask] for seed in (0, 1)]
    assert apart(*inner) > 1e-2
    seen = []

    def note(_, step, timestep, tensors):
        seen.append(tensors["latents"][0, :, 0, 0].clone())

    drawn(inpaint, WORDS, standing(), an_image(), mask, callback_on_step_end=note)
    scheduler = DDIMScheduler.from_config(inpaint.scheduler.config)
    scheduler.set_timesteps(STEPS)
    kept = encoded(inpaint, an_image())
    noise = torch.randn((1, CHANNELS, 8, 8), generator=torch.Generator().manual_seed(3))
    want = scheduler.add_noise(kept, noise, scheduler.timesteps[3:4])[0, :, 0, 0]
    assert torch.allclose(seen[2], want, atol=1e-5)
    assert torch.allclose(seen[-1], kept[0, :, 0, 0], atol=1e-5)


def test_a_grey_mask_blends(inpaint):
    image, mask = an_image(), np.full((SIZE, SIZE), 128, np.uint8)
    half = drawn(inpaint, WORDS, standing(), image, mask)
    whole = drawn(inpaint, WORDS, standing(), image, np.full((SIZE, SIZE), 255, np.uint8))
    share = 128 / 255
    inside = (whole > 0.01) & (whole < 0.99)  # not cut at black or white
    assert apart(half[inside], (share * whole + (1 - share) * image / 255)[inside]) < 0.02


def two(canvas=(64, 64)) -> People:
    left = standing((24, 60))
    return People.of(np.concatenate([left.xy, left.xy + np.array([36.0, 0.0])]), canvas)


def test_the_mask_holds_those_who_move_and_nobody_else():
    before = two()
    xy = before.xy.copy()
    xy[1, 9] += (0.0, -20.0)  # the second person lifts a wrist
    after = People.of(xy, (64, 64))
    mask = repose_mask(before, after, (64, 64))
    rows, columns = (np.rint(xy[..., axis]).astype(int).clip(0, 63) for axis in (1, 0))
    assert (mask[rows[1], columns[1]] == 255).all()
    old = before.xy[1].round().astype(int).clip(0, 63)
    assert (mask[old[:, 1], old[:, 0]] == 255).all()  # where the person was has to be drawn too
    assert not mask[rows[0], columns[0]].any()
    with pytest.raises(ValueError, match="nobody stands otherwise"):
        repose_mask(before, before, (64, 64))
    gone = before.select([True, False])
    assert np.array_equal(repose_mask(before, gone, (64, 64)), repose_mask(gone, before, (64, 64)))
