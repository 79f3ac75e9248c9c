"""The arithmetic: start of fine-tuning, guidance, dropped conditions, seeds, saving, schedulers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from PIL import Image

from humansd.models.widen import widen_conv_in
from humansd.pipelines import Guidance, HumanSDPipeline
from humansd.pipelines.pose_input import read_pose_list
from humansd.pose import People
from humansd.pose.formats import write_poses
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, draw_people
from tiny_pipeline import CHANNELS, FACTOR, SIZE, standing, tiny_components

STEPS = 4


def make(**kwargs) -> HumanSDPipeline:
    pipe = HumanSDPipeline(**tiny_components(), **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> HumanSDPipeline:
    return make()


def images(pipe: HumanSDPipeline, *args, **kwargs) -> np.ndarray:
    options = {"num_inference_steps": STEPS, "output_type": "np", "seed": 3} | kwargs
    return pipe(*args, **options).images


# -- start of fine-tuning ------------------------------


def save_base(folder: Path) -> StableDiffusionPipeline:
    base = StableDiffusionPipeline(
        **tiny_components(widened=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Stable Diffusion's own pipeline knows no shift.
    base.vae.register_to_config(shift_factor=None)
    base.set_progress_bar_config(disable=True)
    base.save_pretrained(folder)
    return base


def test_widened_base_draws_what_the_base_draws(tmp_path):
    base = save_base(tmp_path)
    want = base(
        "a man running",
        num_inference_steps=STEPS,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    start = HumanSDPipeline.from_base(tmp_path)
    start.set_progress_bar_config(disable=True)
    for pose in (standing(), None, People.empty((SIZE, SIZE))):
        assert np.abs(images(start, "a man running", pose) - want).max() < 1e-5
    assert np.abs(images(start, "a man running", standing(), pose_guidance_scale=3.0) - want).max() < 1e-5


def test_plain_folder_is_refused_with_the_remedy(tmp_path):
    save_base(tmp_path)
    with pytest.raises(ValueError, match=r"unet\.in_channels is 3.*from_base"):
        HumanSDPipeline.from_pretrained(tmp_path)
    start = HumanSDPipeline.from_base(tmp_path, draw_style=OPENPOSE_STYLE.to_dict())
    assert start.style == OPENPOSE_STYLE
    start.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"unet\.in_channels is 6, a plain UNet for this VAE has 3"):
        HumanSDPipeline.from_base(tmp_path / "wide")


def test_foreign_unet_is_refused():
    parts = tiny_components(widened=False)
    parts["unet"] = widen_conv_in(parts["unet"], 5)
    with pytest.raises(ValueError, match=r"in_channels is 8.*reads 6"):
        HumanSDPipeline(**parts)


# -- guidance ------------------------------


@torch.no_grad()
def hand_loop(pipe: HumanSDPipeline, s_t: float, s_p: float) -> np.ndarray:
    """The documented equation with a plain DDIM loop, every branch by itself."""
    vae, scheduler = pipe.vae, DDIMScheduler.from_config(pipe.scheduler.config)

    def text(prompt: str) -> torch.Tensor:
        ids = pipe.tokenizer(prompt, padding="max_length", max_length=12, return_tensors="pt").input_ids
        return pipe.text_encoder(ids).last_hidden_state

    drawing = draw_people(standing(), HUMANSD_STYLE)
    tensor = torch.from_numpy(drawing).permute(2, 0, 1)[None] / 127.5 - 1
    skeleton = (vae.encode(tensor).latent_dist.mean - 0.1) * 0.7
    latents = torch.randn((1, CHANNELS, 8, 8), generator=torch.Generator().manual_seed(3))
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:

        def e(words: torch.Tensor, pose: torch.Tensor, t=t, noisy=latents) -> torch.Tensor:
            return pipe.unet(torch.cat([noisy, pose], 1), t, words).sample

        none, some, zero = text("blurred"), text("a man running"), torch.zeros_like(skeleton)
        if s_p == 1:
            out = e(none, skeleton) + s_t * (e(some, skeleton) - e(none, skeleton))
        else:
            out = (
                e(none, zero)
                + s_p * (e(none, skeleton) - e(none, zero))
                + s_t * (e(some, skeleton) - e(none, skeleton))
            )
        latents = scheduler.step(out, t, latents).prev_sample
    image = vae.decode(latents / 0.7 + 0.1).sample
    return (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("s_t", "s_p", "branches"), [(1, 1, 1), (4, 1, 2), (4, 2.5, 3), (1, 0.5, 3)])
def test_guidance_equals_the_equation(pipe, s_t, s_p, branches):
    seen = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    got = images(
        pipe,
        "a man running",
        standing(),
        negative_prompt="blurred",
        guidance_scale=s_t,
        pose_guidance_scale=s_p,
    )
    hook.remove()
    assert np.abs(got - hand_loop(pipe, s_t, s_p)).max() < 1e-5
    assert seen == [branches] * STEPS


def test_without_a_pose_its_guidance_costs_nothing_and_changes_nothing(pipe):
    seen = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    got = images(pipe, "a man running", None, guidance_scale=4, pose_guidance_scale=2.5)
    hook.remove()
    assert seen == [2] * STEPS
    assert np.abs(got - images(pipe, "a man running", None, guidance_scale=4, pose_guidance_scale=1)).max() < 1e-6


def test_pose_and_text_matter(pipe):
    one = images(pipe, "a man running", standing())
    assert np.abs(one - images(pipe, "two women", standing())).max() > 1e-3
    assert np.abs(one - images(pipe, "a man running", standing(shift=3))).max() > 1e-3
    assert np.abs(one - images(pipe, "a man running", standing(), pose_guidance_scale=4.0)).max() > 1e-3


# -- poses ------------------------------


def test_dropped_pose_is_zero_and_nobody_is_black(pipe):
    nobody = People.empty((SIZE, SIZE))
    latents = pipe.encode_pose([None, nobody, standing()])
    assert latents.shape == (3, CHANNELS, SIZE // FACTOR, SIZE // FACTOR)
    assert latents[0].abs().max() == 0
    black = pipe.encode_pose(-torch.ones(1, 3, SIZE, SIZE))
    assert torch.allclose(latents[1:2], black, atol=1e-6)
    assert black.abs().max() > 1e-3
    assert not torch.allclose(latents[2:], black, atol=1e-3)
    assert np.abs(images(pipe, "a man", None) - images(pipe, "a man", nobody)).max() > 1e-3


def test_people_are_letterboxed_into_the_output(pipe):
    wide = standing(canvas=(64, 32))
    drawn = pipe.draw(wide)
    assert drawn.shape == (SIZE, SIZE, 3)
    assert np.array_equal(drawn, draw_people(wide.fit(SIZE, SIZE)))
    assert drawn[:3].max() == drawn[-3:].max() == 0


def test_every_form_of_a_pose_gives_the_same_image(pipe, tmp_path):
    people = standing()
    want = images(pipe, "a man", people)
    file = tmp_path / "one.json"
    write_poses(file, {"one": people}, "coco")
    drawing = draw_people(people)
    Image.fromarray(drawing).save(tmp_path / "drawn.png")
    for pose in (people.to_json(), file, str(file), [people]):
        assert np.abs(images(pipe, "a man", pose) - want).max() < 1e-5
    rgba = Image.fromarray(drawing).convert("RGBA")
    for pose in (drawing, Image.fromarray(drawing), rgba, tmp_path / "drawn.png", [drawing]):
        assert np.abs(images(pipe, "a man", pose, pose_kind="skeleton") - want).max() < 1e-5


def test_a_skeleton_image_of_any_mode_and_shape_is_converted(pipe, tmp_path):
    drawing = draw_people(standing())
    want = pipe.draw(drawing)
    image = Image.fromarray(drawing)
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray((drawing.max(axis=2) > 0).astype(np.uint8) * 255))
    clear.paste((255, 255, 255, 0), mask=Image.fromarray((drawing.max(axis=2) == 0).astype(np.uint8) * 255))
    image.quantize(256).save(tmp_path / "palette.png")
    for other in (image.convert("RGBA"), clear):
        (read,) = read_pose_list(other, "skeleton")
        assert np.abs(pipe.draw(read).astype(int) - want).max() <= 1
    (palette,) = read_pose_list(tmp_path / "palette.png", "skeleton")
    assert np.abs(palette.astype(int) - drawing).mean() < 3
    grey = np.linspace(0, 65535, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.uint16)
    (deep,) = read_pose_list(Image.fromarray(grey), "skeleton")
    assert np.abs(deep[..., 1].astype(int) - grey // 257).max() <= 1
    tall = pipe.draw(np.full((3 * SIZE, SIZE, 3), 90, np.uint8))
    assert tall.shape == (SIZE, SIZE, 3)
    assert (tall == 90).all()


def test_skeleton_image_is_resized_within_its_ratio(pipe):
    drawing = draw_people(standing(canvas=(64, 64)))
    small = pipe.draw(drawing)
    assert small.shape == (SIZE, SIZE, 3)
    assert np.abs(small.mean() - drawing.mean()) < 2


# -- batches and seeds ------------------------------


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_same_seed_same_image_in_any_batch(scheduler):
    pipe = make()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    person = standing()
    prompts = ["a man", "two women dancing", "a man", "a park at night"]
    poses = [person, None, People.empty((8, 8)), person]
    batch = pipe(prompts, poses, num_inference_steps=STEPS, seed=40, output_type="np")
    assert batch.seeds == [40, 41, 42, 43]
    for index in range(4):
        single = images(pipe, prompts[index], poses[index], seed=40 + index)
        assert np.abs(single[0] - batch.images[index]).max() < 2 / 255
    given = [torch.Generator().manual_seed(40 + index) for index in range(4)]
    again = images(pipe, prompts, poses, seed=None, generator=given)
    assert np.abs(again - batch.images).max() < 1e-6


def test_ddim_noise_of_a_batch_is_per_image(pipe):
    both = images(pipe, "a man", standing(), num_images_per_prompt=2, eta=1.0)
    assert np.abs(images(pipe, "a man", standing(), eta=1.0, seed=4)[0] - both[1]).max() < 2 / 255
    assert np.abs(both[1] - images(pipe, "a man", standing(), seed=4)[0]).max() > 1e-3


def test_broadcasting_keeps_prompt_order(pipe):
    out = pipe(["a man", "a park"], standing(), num_inference_steps=2, num_images_per_prompt=2, seed=1)
    assert len(out.images) == 4
    assert all(isinstance(image, Image.Image) and image.size == (SIZE, SIZE) for image in out.images)
    third = pipe("a park", standing(), num_inference_steps=2, seed=3, output_type="np").images[0]
    assert np.abs(np.asarray(out.images[2]) / 255 - third).max() < 2 / 255
    many = pipe("a man", [standing(), None, standing(shift=1)], num_inference_steps=1, output_type="pt")
    assert many.images.shape == (3, 3, SIZE, SIZE)


def test_unseeded_calls_report_their_seeds(pipe):
    first = pipe("a man", num_inference_steps=2, output_type="np")
    again = images(pipe, "a man", seed=first.seeds[0], num_inference_steps=2)
    assert np.array_equal(first.images, again)
    assert pipe("a man", num_inference_steps=2).seeds != first.seeds


def test_other_sizes_and_tuples(pipe):
    (latents,) = pipe(
        "a man",
        standing((32, 16)),
        width=32,
        height=16,
        num_inference_steps=1,
        output_type="latent",
        return_dict=False,
    )
    assert latents.shape == (1, CHANNELS, 8, 16)


# -- schedulers and callbacks ------------------------------


@pytest.mark.parametrize(
    "scheduler", [EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler]
)
def test_other_schedulers_run(pipe, scheduler):
    other = HumanSDPipeline(**pipe.components | {"scheduler": scheduler.from_config(pipe.scheduler.config)})
    other.set_progress_bar_config(disable=True)
    got = images(other, "a man", standing(), num_inference_steps=30)
    assert got.shape == (1, SIZE, SIZE, 3)
    if scheduler is not EulerAncestralDiscreteScheduler:  # the deterministic ones follow one ODE
        # Coarse steps of different solvers differ, by far less than another seed does.
        ddim, foreign = (images(pipe, "a man", standing(), num_inference_steps=30, seed=s) for s in (3, 4))
        assert np.abs(got - ddim).mean() < 0.3 * np.abs(foreign - ddim).mean()


def test_noise_is_scaled_for_the_scheduler_and_the_pose_is_not(pipe):
    scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    other = HumanSDPipeline(**pipe.components | {"scheduler": scheduler})
    other.set_progress_bar_config(disable=True)
    seen = []
    hook = other.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images(other, "a man", standing(), guidance_scale=1.0)
    hook.remove()
    noise = torch.randn((1, CHANNELS, 8, 8), generator=torch.Generator().manual_seed(3))
    sigma = scheduler.sigmas[0]
    want = noise * scheduler.init_noise_sigma / (sigma**2 + 1) ** 0.5
    assert torch.allclose(seen[0][:, :CHANNELS], want, atol=1e-5)
    for sample in seen:
        assert torch.allclose(sample[:, CHANNELS:], other.encode_pose([standing()]), atol=1e-6)


def test_epsilon_prediction_is_the_schedulers_business(pipe):
    config = dict(pipe.scheduler.config) | {"prediction_type": "epsilon"}
    other = HumanSDPipeline(**pipe.components | {"scheduler": DDIMScheduler.from_config(config)})
    other.set_progress_bar_config(disable=True)
    got = images(other, "a man running", standing(), negative_prompt="blurred", guidance_scale=2.0)
    assert np.abs(got - hand_loop(other, 2.0, 1.0)).max() < 1e-5


def test_callback_sees_and_changes_tensors(pipe):
    steps, shapes = [], []

    def callback(_, step, timestep, tensors):
        steps.append((step, int(timestep)))
        shapes.append({name: tuple(value.shape) for name, value in tensors.items()})
        return {"pose_latents": torch.zeros_like(tensors["pose_latents"])} if step == 0 else None

    options = {
        "callback_on_step_end": callback,
        "callback_on_step_end_tensor_inputs": ["latents", "pose_latents"],
    }
    changed = images(pipe, "a man", standing(), **options)
    assert steps == [(0, 999), (1, 749), (2, 499), (3, 249)]
    assert shapes[0] == {"latents": (1, CHANNELS, 8, 8), "pose_latents": (1, CHANNELS, 8, 8)}
    assert np.abs(changed - images(pipe, "a man", standing())).max() > 1e-3


def test_callback_can_stop(pipe):
    count = []

    def stop(running, step, *_):
        count.append(step)
        running._interrupt = step == 1

    pipe("a man", num_inference_steps=STEPS, callback_on_step_end=stop)
    assert count == [0, 1]
    pipe("a man", num_inference_steps=STEPS, callback_on_step_end=lambda *_: count.append(9))
    assert count[2:] == [9] * STEPS


# -- saving ------------------------------


def test_saving_keeps_images_style_and_safety(tmp_path):
    pipe = make(draw_style=OPENPOSE_STYLE.to_dict())
    want = images(pipe, "a man", standing())
    pipe.save_pretrained(tmp_path)
    files = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert files <= {".json", ".safetensors", ".txt", ".py", ".md"}
    card = (tmp_path / "README.md").read_text()
    assert "library_name: diffusers" in card
    assert f"| num_inference_steps | {pipe.default_steps} |" in card
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == ["humansd_pipeline", "HumanSDPipeline"]
    assert index["draw_style"] == OPENPOSE_STYLE.to_dict()
    again = HumanSDPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    (tmp_path / "README.md").write_text("its maker's own")
    again.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "its maker's own"
    assert again.style == OPENPOSE_STYLE
    assert np.abs(images(again, "a man", standing()) - want).max() < 1e-6


def test_a_model_brings_the_guidance_it_draws_best_with(tmp_path):
    assert make().guidance == Guidance(5.0, 1.0)
    pipe = make(guidance={"text": 2.0, "pose": 3.0})
    want = images(pipe, "a man", standing(), guidance_scale=2.0, pose_guidance_scale=3.0)
    assert np.abs(images(pipe, "a man", standing()) - want).max() == 0
    assert np.abs(images(pipe, "a man", standing(), pose_guidance_scale=1.0) - want).max() > 1e-3
    pipe.save_pretrained(tmp_path)
    assert HumanSDPipeline.from_pretrained(tmp_path).guidance == Guidance(2.0, 3.0)


def test_half_weights_are_computed_in_single(tmp_path):
    pipe = make()
    want = images(pipe, "a man", standing(), guidance_scale=2.0)
    pipe.to(torch.float16).save_pretrained(tmp_path)
    again = HumanSDPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert {again.unet.dtype, again.vae.dtype, again.text_encoder.dtype} == {torch.float32}
    assert np.abs(images(again, "a man", standing(), guidance_scale=2.0) - want).max() < 0.05
    for name in ("dtype", "torch_dtype"):
        assert HumanSDPipeline.from_pretrained(tmp_path, **{name: torch.float16}).unet.dtype == torch.float16


def test_pickled_weights_are_not_read(tmp_path):
    pipe = make()
    pipe.save_pretrained(tmp_path)
    for part, name in (("text_encoder", "model"), ("unet", "diffusion_pytorch_model")):
        folder = tmp_path / part
        weights = folder / f"{name}.safetensors"
        kept = weights.read_bytes()
        weights.unlink()
        pickled = "pytorch_model.bin" if part == "text_encoder" else f"{name}.bin"
        torch.save(getattr(pipe, part).state_dict(), folder / pickled)
        with pytest.raises((OSError, ValueError)):
            HumanSDPipeline.from_pretrained(tmp_path)
        weights.write_bytes(kept)
    with pytest.raises(ValueError, match="no pickled weights"):
        HumanSDPipeline.from_pretrained(tmp_path, use_safetensors=False)
