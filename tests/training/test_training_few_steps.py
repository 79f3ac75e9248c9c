"""Several teacher's steps learnt as one: the algebra, the teacher's way by diffusers' DDIM, the file and its use."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from humansd.data import write_shards
from humansd.inference.pretrained import load_pipeline
from humansd.inference.variants import Variant, write_variant
from humansd.losses.trajectory import ddim_step, shortcut
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.training.loop import train
from humansd.training.settings import DistillationSettings, FewStepSettings
from humansd.training.tasks.distillation import DistillationTask
from humansd.training.tasks.few_steps import FewStepTask, grid
from shard_makers import make
from tiny_pipeline import standing, tiny_components

LOOP = {
    "batch_size": 8,
    "learning_rate": 1e-2,
    "lr_warmup_steps": 1,
    "ema_decay": 0.0,
    "min_snr_gamma": 0.0,
    "mixed_precision": "no",
    "guidance_scale": 2.0,
    "pose_guidance_scale": 1.5,
    "rank": 4,
    "image_size": 16,
    "report_to": "none",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder / "model")
    write_shards(make, 6, folder / "data", per_shard=6, workers=1, progress=False)
    return {"data": str(folder / "data"), "base_model": str(folder / "model")}


@pytest.fixture(scope="module")
def one_branch(places, tmp_path_factory):
    """The export of a one-branch LoRA that has learnt a little."""
    run = tmp_path_factory.mktemp("one")
    train(DistillationTask(DistillationSettings(**LOOP, **places, steps=3)), run)
    return run / "export"


def task(places, **changes):
    made = FewStepTask(FewStepSettings(**{**LOOP, **places, "steps": 40, **changes}))
    made.prepare(torch.device("cpu"))
    return made


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_step_is_that_of_ddim_and_a_shortcut_leads_where_it_says(kind):
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    noisy, said, end = torch.randn(3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    alpha = scheduler.alphas_cumprod[[749, 749]]
    then = scheduler.alphas_cumprod[[499, 499]]
    expected = scheduler.step(said, 749, noisy).prev_sample
    assert torch.allclose(ddim_step(said, noisy, alpha, then, kind), expected, atol=1e-5)
    assert torch.allclose(ddim_step(shortcut(noisy, end, alpha, then, kind), noisy, alpha, then, kind), end, atol=1e-4)


def test_the_student_s_timesteps_are_those_that_the_pipeline_draws_with():
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    found = grid(scheduler, 4, 4)
    scheduler.set_timesteps(4)
    assert found[:, 0].tolist() == scheduler.timesteps.tolist() == [999, 749, 499, 249]
    assert found[:, -1].tolist() == [749, 499, 249, -1]
    assert found.shape == (4, 5)
    with pytest.raises(ValueError, match="more steps than the schedule has"):
        grid(scheduler, 64, 64)


def test_the_target_of_one_teacher_step_is_what_the_guided_pipeline_draws(places):
    """With one teacher's step a call, the end of the last part is the image of the plain pipeline in so many steps."""
    made = task(places, calls=4, teacher_steps=1)
    pipeline = HumanSDPipeline.from_pretrained(places["base_model"])
    pipeline.set_progress_bar_config(disable=True)
    person = standing()
    prompt = "a man running in a park"
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    drawn = pipeline(
        prompt,
        person,
        latents=noise,
        num_inference_steps=4,
        guidance_scale=2.0,
        pose_guidance_scale=1.5,
        output_type="latent",
    ).images
    call = pipeline.prepare_call(prompt, person, size=(16, 16))
    known = {"text": call.conditions.prompt_embeds, "pose": call.conditions.pose[0]}
    for part in range(4):
        noise, first = made.taught(known | {"part": torch.tensor([part])}, noise)
        assert first.shape == noise.shape
    assert torch.allclose(noise, drawn, atol=1e-4)


def test_it_learns_to_go_further_than_one_step_of_its_teacher(places, tmp_path):
    made = task(places, calls=2, teacher_steps=3, batch_size=4, steps=30)
    before = [value.clone() for value in made.teacher.parameters()]
    _, start = made.loss(made.load(range(8)))
    assert start["against_one_step"] > 0.9  # nothing learnt: the student is its teacher's last branch
    train(made, tmp_path)
    _, end = made.loss(made.load(range(8)))
    assert end["against_one_step"] < 0.8 * start["against_one_step"]
    assert all(torch.equal(*pair) for pair in zip(before, made.teacher.parameters(), strict=True))


def test_it_begins_at_the_one_branch_teacher(places, one_branch):
    made = task(places, teacher_lora=str(one_branch), teacher_steps=1, calls=2)
    assert [one.pose and one.text for one in made.plan.branches] == [True]
    loss, _ = made.loss(made.load(range(4)))
    assert float(loss) == pytest.approx(0, abs=1e-8)  # of one step both say the same
    assert made.fingerprint()["teacher_lora_weights"] != "untrained"


def test_own_states_begin_with_noise_and_data_states_with_noisy_images(places):
    own, data = task(places, calls=2), task(places, calls=2, start="data")
    batch = own.load(range(4))
    batch["text"] = own.inner.denoising.text(batch)
    begun = own.start(batch)
    assert batch["part"].tolist() == [0, 1, 0, 1]
    assert torch.equal(begun[0], batch["noise"][0])
    assert not torch.equal(begun[1], batch["noise"][1])
    noisy = data.start(batch)
    alpha = data.alphas[data.grid[0, 0]]
    wanted = alpha.sqrt() * batch["latents"][0] + (1 - alpha).sqrt() * batch["noise"][0]
    assert torch.allclose(noisy[0], wanted, atol=1e-5)


def test_a_lora_of_another_rank_is_refused_with_the_remedy(places, one_branch):
    with pytest.raises(ValueError, match="set rank to its own"):
        task(places, teacher_lora=str(one_branch), rank=2)


def test_the_finished_variant_draws_what_the_student_does(places, tmp_path):
    made = task(places, calls=2, teacher_steps=2, steps=3)
    train(made, tmp_path / "run")
    folder = tmp_path / "model"
    HumanSDPipeline.from_pretrained(places["base_model"]).save_pretrained(folder)
    write_variant(folder, "two-steps", tmp_path / "run" / "export", Variant(2, scheduler="ddim"))
    pipeline = load_pipeline(str(folder), "cpu", variant="two-steps")
    pipeline.set_progress_bar_config(disable=True)
    assert (pipeline.default_steps, pipeline.guidance.text, pipeline.guidance.pose) == (2, 1.0, 1.0)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    drawn = pipeline("a man", standing(), latents=noise, output_type="latent").images
    call = pipeline.prepare_call("a man", standing(), size=(16, 16))
    known = {"text": call.conditions.prompt_embeds, "pose": call.conditions.pose[0]}
    for step in range(2):
        times = made.grid[step].expand(1, -1)
        with torch.no_grad():
            said = made.answer(made.student, known, noise, times[:, 0])
        noise = ddim_step(said, noise, made.alphas[times[:, 0]], made.alphas[times[:, -1]], made.kind)
    assert torch.allclose(drawn, noise, atol=5e-3)  # the file holds fp16
    assert np.isfinite(drawn.numpy()).all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="start = 'noise': must be own or data"):
        dataclasses.replace(FewStepSettings(), start="noise")
    with pytest.raises(ValueError, match="calls = 0: must be from 1 to 64"):
        FewStepSettings(calls=0)
