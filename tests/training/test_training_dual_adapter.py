"""The secondary adapter's training, on tiny real networks: routes, gradients, sampled steps, resume, export."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, T2IAdapter
from safetensors.torch import load_file

from humansd.data.image_cache import build_image_cache
from humansd.inference.pretrained import load_pipeline
from humansd.losses.dual_adapter import best_points, least_loss, points_distance, step_alphas, strength_of
from humansd.methods.table import find_method
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.pocket import pocket_scheduler
from humansd.models.tiny_decoder import TinyDecoder
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.reproduce.adapter_limit import adapter_limit
from humansd.synthetic.pairs import write_pairs
from humansd.training.checkpoint import checkpoints
from humansd.training.identity import digests
from humansd.training.loop import train
from humansd.training.presets import DUAL_POCKET
from humansd.training.quintuples import Quintuples
from humansd.training.routes import Schedule
from humansd.training.run import run_preset
from humansd.training.tasks.dual_adapter import DualAdapterTask, strength
from humansd.training.tasks.dual_adapter_settings import DualAdapterSettings
from tiny_pipeline import FACTOR, tiny_components

SIDE, MODEL_SIDE = 64, 32  # px of the images, and of those that the model is made for
pytestmark = pytest.mark.filterwarnings("ignore:the prompt is longer")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """pairs: shards. base: a plain model with a T2I-Adapter that does something. hrnet: an untrained estimator."""
    folder = tmp_path_factory.mktemp("dual")
    parts = tiny_components(widened=False)  # prompts of 12 tokens
    parts["unet"].register_to_config(sample_size=MODEL_SIDE // FACTOR)
    torch.manual_seed(3)
    made = find_method("t2i-adapter").build(parts["unet"], parts["vae"])
    with torch.no_grad():
        for value in made.pose_network.parameters():
            value.add_(0.05 * torch.randn_like(value))
    pipe = HumanSDPipeline(**parts, pose_network=made.pose_network, method="t2i-adapter")
    pipe.save_pretrained(folder / "base")
    small = {"width": 4, "stem": 8, "modules": (1, 1, 1), "blocks": 1}
    network = HigherHRNet(dataclasses.replace(CONFIGS["pocket"], input_px=MODEL_SIDE, **small))
    with torch.no_grad():
        network.final_layers[1].weight.normal_(std=0.3)  # so that it sees something
    network.eval().save_pretrained(folder / "hrnet")
    write_pairs(folder / "pairs", 6, size=SIDE, seed=3, workers=1, progress=False)
    return folder


def settings(place: Path, **changes) -> DualAdapterSettings:
    quick = {
        "steps": 3,
        "batch_size": 2,
        "lr_warmup_steps": 1,
        "learning_rate": 1e-3,
        "log_every": 1,
        "ddim_steps": 4,
        "sampled_steps": 2,
        "log_images_minutes": 0.0,
        "mixed_precision": "no",
        "device": "cpu",
        "report_to": "none",
        "explode_factor": 0.0,
        "loaders": 0,
        "image_size": MODEL_SIDE,
    }
    given = {"data": str(place / "pairs"), "base_model": str(place / "base"), "estimator": str(place / "hrnet")}
    return DualAdapterSettings(**{**quick, **given, **changes})


def task(place: Path, **changes) -> DualAdapterTask:
    made = DualAdapterTask(settings(place, **changes))
    made.prepare(torch.device("cpu"))
    return made


def gradients(made: DualAdapterTask, batch) -> list[torch.Tensor]:
    made.module.zero_grad()
    made.loss(batch)[0].backward()
    return [value.grad.clone() for value in made.module.parameters()]


def test_gradients_reach_the_secondary_alone_and_route_1_never_moves(place):
    made = task(place)
    before = [value.clone() for value in made.primary.parameters()]
    assert all(torch.equal(*both) for both in zip(before, made.secondary.parameters(), strict=True))
    found = gradients(made, made.load(range(2)))
    assert sum(float(one.abs().sum()) for one in found) > 0
    others = [made.primary, made.inner.unet, made.inner.vae, made.inner.text_encoder, made.sight.network]
    assert all(value.grad is None and not value.requires_grad for one in others for value in one.parameters())
    assert all(torch.equal(*both) for both in zip(before, made.primary.parameters(), strict=True))


def test_the_gradient_is_that_of_the_loss_taken_whole(place):
    made = task(place, sampled_steps=2)
    batch = made.load(range(2))
    found = gradients(made, batch)

    def whole() -> torch.Tensor:
        from humansd.models.codec import encode_ids

        with torch.no_grad():
            text = encode_ids(made.inner.text_encoder, batch["ids"], batch["used"])
            first = made.method.encode(made.routes[0], batch["drawings"][0])
        second = list(made.method.encode(made.routes[1], batch["drawings"][1]))
        each = [value for value, _ in made._of_patent(batch, text, first, second, batch["steps"])]
        return torch.stack(each).mean()

    made.module.zero_grad()
    value = whole()
    value.backward()
    assert made.loss(batch)[0].item() == pytest.approx(value.item(), rel=1e-5)
    for one, parameter in zip(found, made.module.parameters(), strict=True):
        assert torch.allclose(one, parameter.grad, rtol=1e-3, atol=1e-6)


def test_a_few_sampled_steps_are_on_average_all_of_them(place):
    made, every = task(place, sampled_steps=2), task(place, sampled_steps=4)
    batch = every.load(range(2))
    wanted, all_gradients = float(every.loss(batch)[0]), gradients(every, batch)
    pairs = [[i, j] for j in range(4) for i in range(j)]  # every choice of two, each as likely
    values, total = [], [torch.zeros_like(one) for one in all_gradients]
    for steps in pairs:
        few = {**batch, "steps": steps}
        values.append(float(made.loss(few)[0]))
        total = [a + b / len(pairs) for a, b in zip(total, gradients(made, few), strict=True)]
    assert np.mean(values) == pytest.approx(wanted, rel=1e-4)
    for one, other in zip(total, all_gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-5)
    counts = np.bincount([step for start in range(2000) for step in made.sampled(start)], minlength=4)
    assert abs(counts - 1000).max() < 5 * np.sqrt(500)
    every.settings = dataclasses.replace(every.settings, total="sum")
    assert float(every.loss(batch)[0]) == pytest.approx(4 * wanted, rel=1e-5)


def test_both_routes_see_the_same_noise_and_text_and_at_the_start_differ_by_the_pose_alone(place):
    made = task(place, sampled_steps=4)
    batch = made.load(range(2))
    same = {
        **batch,
        "drawings": batch["drawings"][:1].repeat(2, 1, 1, 1, 1),
        "wanted": batch["wanted"][:1].repeat(2, 1, 1, 1),
    }
    numbers = made.loss(same)[1]  # secondary = primary, and pose B = pose A
    assert numbers["l_diffusion"] == pytest.approx(0, abs=1e-6)
    assert numbers["held"] == pytest.approx(0, abs=1e-6)
    assert numbers["theory"] == 0
    assert made.loss(batch)[1]["l_diffusion"] > 1e-6


def test_the_terms_have_the_known_answer_at_the_best_point(place):
    made = task(place)
    rng = torch.Generator().manual_seed(0)
    wanted, weights = torch.rand(2, 3, 17, 2, generator=rng), torch.ones(3, 17)
    b = best_points(wanted[1], wanted[0], made.strength)
    noise = torch.zeros(3, 3, 4, 4)
    loss, told = made.terms(wanted[0], b, weights, wanted, (noise, noise, torch.tensor(0.5)))
    theory = points_distance(wanted[0], wanted[1], weights).mean()
    assert float(loss) == pytest.approx(float(least_loss(theory, made.strength)), rel=1e-4)
    assert told["theory"] == pytest.approx(float(theory))
    assert told["least"] == pytest.approx(float(loss), rel=1e-4)
    q = made.strength
    assert (told["theory"] - float(loss)) / told["theory"] == pytest.approx(1 / (q + 1), rel=1e-3)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_chain_is_ddim_s_and_its_inversion_leads_back(kind):
    scheduler = DDIMScheduler.from_config(pocket_scheduler(prediction_type=kind).config)
    schedule = Schedule.of(scheduler, 10)
    own = DDIMScheduler.from_config(scheduler.config)
    own.set_timesteps(10)

    def answer(latents, t):
        return 0.4 * latents + 0.1 * (int(t) / 1000)

    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    known = schedule.chain(answer, noise, list(range(10)))
    latents = noise
    for step, t in enumerate(own.timesteps):
        assert torch.allclose(known[step][0], latents, atol=1e-4)
        out = own.step(answer(latents, t), t, latents)
        assert torch.allclose(known[step][1], out.pred_original_sample, atol=1e-4)
        latents = out.prev_sample
    fine = Schedule.of(scheduler, 500)
    last = fine.chain(answer, noise, [499])[499]
    end = last[1] * fine.nexts[-1].sqrt() + last[2] * (1 - fine.nexts[-1]).sqrt()
    assert (fine.inverted(answer, end) - noise).abs().max() < 0.1 * noise.abs().max()


def test_the_points_that_are_seen_are_those_of_the_shipped_estimator(place):
    """On rendered images the soft peaks are the joints, and a step of the image changes them by its gradient."""
    from humansd.data.shards import read_shards
    from humansd.training.heatmap_weighting import load_teacher_network
    from humansd.training.sights import KeyPointSight
    from humansd.training.teachers import find_teacher, teacher_folder

    network = load_teacher_network(str(teacher_folder(find_teacher("pocket"))))
    sight = KeyPointSight(torch.nn.Identity(), network, 128, 30.0)  # type: ignore[arg-type]  # nothing is decoded here
    samples = list(read_shards(place / "pairs"))
    from humansd.data.image_cache import to_unit

    images = to_unit(np.stack([one.image for one in samples])).requires_grad_()
    points, sure = sight.look(images)
    errors = []
    for sample, found, confidence in zip(samples, points.detach().numpy(), sure.numpy(), strict=True):
        seen = (sample.people.visibility[0] == 2) & (confidence > 0.3)
        true = (sample.people.xy[0] + 0.5) / SIDE
        errors += list(np.linalg.norm(found - true, axis=1)[seen])
    assert np.median(errors) < 0.05
    assert len(errors) > 40
    points.sum().backward()
    assert images.grad.abs().sum() > 0


def test_quintuples_and_their_mirror_are_two_people_and_the_words_of_the_first(place, tmp_path):
    cache = build_image_cache(place / "pairs", tmp_path / "cache")
    any_two, true = Quintuples(cache, 5), Quintuples(cache, 5, true_pairs=True)
    for index in range(0, 20, 2):
        one, mirror = any_two.draw(7, index), any_two.draw(7, index + 1)
        assert one.rows == mirror.rows[::-1]
        assert one.rows[0] != one.rows[1]
        assert one.first.equals(mirror.second)
        assert one.first.n == one.second.n == 1
        assert one.caption in cache.captions[one.rows[0]]
        assert mirror.caption in cache.captions[one.rows[1]]
        assert true.draw(7, index).rows[1] - true.draw(7, index).rows[0] == 1
    assert any_two.draw(7, 4).rows == any_two.draw(7, 4).rows
    with pytest.raises(ValueError, match="a quintuple needs two"):
        Quintuples(cache, 18)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(place, tmp_path):
    once = train(task(place, steps=3), tmp_path / "once")
    train(task(place, steps=2), tmp_path / "twice")
    again = train(task(place, steps=3), tmp_path / "twice")
    assert (once.step, again.step) == (3, 3)
    ends = [load_file(checkpoints(tmp_path / name)[-1] / "model.safetensors") for name in ("once", "twice")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    lines = [json.loads(line) for line in (tmp_path / "once" / "log.jsonl").read_text().splitlines()]
    assert {"loss", "to_target", "held", "l_diffusion", "theory", "against_theory", "least"} <= set(lines[-1])
    exported = load_pipeline(str(tmp_path / "once" / "export"), "cpu")
    assert exported.method.name == "dual-adapter"
    assert isinstance(exported.pose_network, T2IAdapter)
    before = load_file(place / "base" / "pose_network" / "diffusion_pytorch_model.safetensors")
    after = exported.pose_network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    unet = load_file(place / "base" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, exported.unet.state_dict()[name]) for name, value in unet.items())


def test_the_limit_is_told_of_the_ten_least_noisy_steps_by_key_points(place, monkeypatch):
    base = str(place / "base")
    many = dataclasses.replace(DUAL_POCKET, ddim_steps=12, image_size=MODEL_SIDE, device="cpu")
    monkeypatch.setattr("humansd.reproduce.adapter_limit.DUAL_POCKET", many)
    asked, own = [], DualAdapterTask.loss
    monkeypatch.setattr(
        DualAdapterTask, "loss", lambda self, batch: (asked.append(batch["steps"]), own(self, batch))[1]
    )
    told = adapter_limit(base, base, str(place / "pairs"), pairs=2, batch_size=2, estimator=str(place / "hrnet"))
    made = task(place, ddim_steps=12, sampled_steps=10)
    assert asked == [list(range(2, 12))]
    abars = made.schedule.abars
    assert abars[2:].min() > abars[:2].max()  # more of the image is left than at any other step
    assert told["Q"] == pytest.approx(made.strength)
    assert told["ratio"] == pytest.approx(told["loss"] / told["least"])
    assert told["loss"] == pytest.approx(told["Q"] * told["to_target"] + told["held"], rel=1e-3)
    assert 0 < told["theory"] < 1


def test_learning_lowers_the_loss_of_what_is_learnt(place):
    made = task(place)
    batch = {**made.load(range(2)), "steps": [2, 3]}
    before = float(made.loss(batch)[0])
    optimizer = torch.optim.Adam(made.module.parameters(), 3e-3)
    for _ in range(8):
        optimizer.zero_grad()
        made.loss(batch)[0].backward()
        optimizer.step()
    assert float(made.loss(batch)[0]) < 0.95 * before


def test_true_pairs_supervise_directly_and_what_may_not_change_counts_more(place, tmp_path):
    made = task(place, objective="pairs")
    batch = made.load(range(2))
    assert batch["latents"].shape[:2] == (2, 2)
    assert 0 < batch["changes"].mean() < 1
    _, numbers = made.loss(batch)
    assert {"outside", "inside"} <= set(numbers)
    weighed = float(made.loss(batch)[0])
    made.settings = dataclasses.replace(made.settings, outside_weight=0.0)
    assert float(made.loss(batch)[0]) < weighed
    assert train(task(place, objective="pairs", steps=2), tmp_path / "run").step == 2


def test_a_tiny_decoder_takes_the_place_of_the_vae(place, tmp_path):
    AutoencoderTiny(
        latent_channels=3,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path / "tiny")
    made = task(place, decoder=str(tmp_path / "tiny"))
    assert isinstance(made.sight.decoder, AutoencoderTiny)
    assert sum(float(one.abs().sum()) for one in gradients(made, made.load(range(2)))) > 0


def test_so_does_the_decoder_that_pocket_tiny_decoder_trains(place, tmp_path):
    TinyDecoder(latent_channels=3, width=8, blocks=(1, 1)).save_pretrained(tmp_path / "tiny")
    made = task(place, decoder=str(tmp_path / "tiny"))
    latents = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # it reads the latents as they are
        assert torch.equal(made.sight.images(latents), made.sight.decoder(latents).clamp(-1, 1))
    assert sum(float(one.abs().sum()) for one in gradients(made, made.load(range(2)))) > 0


def test_what_is_refused_says_what_to_do(place):
    with pytest.raises(ValueError, match="sampled_steps = 60: must be from 1 to ddim_steps, 50"):
        DualAdapterSettings(sampled_steps=60)
    with pytest.raises(ValueError, match="objective = 'x': must be patent or pairs"):
        DualAdapterSettings(objective="x")
    over = {"data": str(place / "pairs"), "base_model": str(place / "base"), "estimator": str(place / "hrnet")}
    with pytest.raises(ValueError, match="mask_strength"):
        run_preset("dual-adapter-pocket", {**over, "mask_strength": "2"}, dry_run=True)


def test_the_printed_sequence_is_an_abar_as_the_base_s_own_is(place):
    schedule = Schedule.of(pocket_scheduler(), 4)
    assert strength(settings(place), schedule) == pytest.approx(strength_of(step_alphas(schedule.abars.flip(0))))
    printed = [1.0, *(1 - (1 - 0.00002) * i / 3 for i in range(4))]
    ratios = [now / max(before - now, 1e-4 * before) for before, now in itertools.pairwise(printed)]
    assert strength(settings(place, alphas="literal"), schedule) == pytest.approx(2 / 4 * sum(ratios))


def test_a_primary_adapter_of_another_base_is_refused_and_a_file_is_known_by_its_content(place, tmp_path):
    T2IAdapter(channels=[8, 16, 16], downscale_factor=FACTOR).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"T2I-Adapter of another base .*channels is \[8, 16, 16\], not \[8, 16\]"):
        task(place, primary=str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match=r"primary = '.*nowhere\.pth': no such file or folder"):
        DualAdapterTask.check(settings(place, primary=str(tmp_path / "nowhere.pth")))
    for name, content in (("a.pth", b"1"), ("moved.pth", b"1"), ("b.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    names = "a.pth", "moved.pth", "b.pth"
    one, moved, other = (digests("primary", tmp_path / name) for name in names)
    assert one == moved != other


def test_a_dry_run_tells_memory_hours_and_q(place):
    over = {"data": str(place / "pairs"), "base_model": str(place / "base"), "estimator": str(place / "hrnet")}
    told = json.loads(run_preset("dual-adapter-pocket", over, dry_run=True))
    assert told["loss"]["Q"] > 1
    assert told["memory"]["gb"]["total"] > 0
    assert told["cost"]["the_patent_says"]["hours"] == 5
    assert told["cost"]["gradient_accumulation_steps_on_four_cards"] == 1  # 8 samples
    pairs = json.loads(run_preset("dual-adapter-pairs-pocket", over, dry_run=True))
    twice = json.loads(run_preset("dual-adapter-pocket", {**over, "gradient_checkpointing": "true"}, dry_run=True))
    flops = [float(one["cost"]["flops_of_a_quintuple"]) for one in (pairs, told, twice)]
    assert flops[1] < flops[2]  # checkpoints are computed twice


def test_cards_that_cannot_share_a_batch_are_told_in_how_many_parts_they_could(place):
    with pytest.raises(ValueError, match=r"4 parts; use a multiple of 16, or gradient_accumulation_steps = 2"):
        settings(place, batch_size=8, gradient_accumulation_steps=4).share(4)
    with pytest.raises(ValueError, match=r"use a multiple of 4$"):
        settings(place, batch_size=6, gradient_accumulation_steps=1).share(4)
    assert settings(place, batch_size=8, gradient_accumulation_steps=2).share(4) == 1
