"""What the diffusion stage feeds its network, on a small real set-up: conditions, target, cache, weights of steps."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from humansd.data.augmentations import augmentation
from humansd.data.image_cache import find_image_cache
from humansd.data.latents import build_latents
from humansd.losses.denoising import denoising_target, min_snr_weight, mse, signal_to_noise
from humansd.losses.heatmap import noise_difference
from humansd.losses.weights import skeleton_mask
from humansd.models.pocket import pocket_scheduler, pocket_unet, pocket_vae
from humansd.models.precision import use_fast_attention
from humansd.pipelines.guidance import Guidance
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.render import HUMANSD_STYLE
from humansd.training.checkpoint import checkpoints
from humansd.training.loop import train
from humansd.training.presets import TINY
from humansd.training.randomness import data_row, sample_noise, sample_rng
from humansd.training.run import run_preset
from humansd.training.settings import (
    AutoencoderSettings,
    ClipSettings,
    DiffusionSettings,
    EstimatorSettings,
    HeadSettings,
)
from humansd.training.tasks.autoencoder import AutoencoderTask
from humansd.training.tasks.clip import ClipTask
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.diffusion_networks import load_scheduler
from humansd.training.tasks.estimators import EstimatorTask
from humansd.training.tasks.latent_head import HeadTask


@pytest.fixture
def run(tiny_run):
    return tiny_run


def task(run, **changes):
    settings = DiffusionSettings(
        data=str(run / "pack"), components=str(run / "parts"), base_model=str(run / "base" / "export"), method="humansd"
    )
    made = DiffusionTask(dataclasses.replace(settings, **changes))
    made.prepare(torch.device("cpu"))
    return made


def test_a_dropped_pose_is_a_zero_latent_and_a_dropped_text_is_empty(run):
    batch = task(run, pose_dropout=1.0, text_dropout=1.0).batch(range(8))
    assert not batch["pose"].any()
    assert not batch["posed"].any()
    assert batch["captions"] == [""] * 8
    batch = task(run, pose_dropout=0.0, text_dropout=0.0).batch(range(8))
    assert all(skeleton.any() for skeleton in batch["pose"])
    assert batch["posed"].all()
    assert all(batch["captions"])


def test_dropping_follows_its_share_and_text_and_pose_drop_apart(run):
    batch = task(run, pose_dropout=0.3, text_dropout=0.3).batch(range(400))
    no_pose = np.array([not skeleton.any() for skeleton in batch["pose"]])
    no_text = np.array([caption == "" for caption in batch["captions"]])
    assert np.array_equal(no_pose, ~batch["posed"].numpy())
    assert no_pose.mean() == pytest.approx(0.3, abs=0.07)
    assert no_text.mean() == pytest.approx(0.3, abs=0.07)
    assert (no_pose & no_text).mean() == pytest.approx(0.09, abs=0.045)


def test_skeletons_in_training_are_those_of_the_pipeline(run):
    made = task(run, pose_dropout=0.0)
    cached = torch.from_numpy(made.caches[0].skeletons[:4].astype(np.float32))
    fresh = made.pipeline().encode_pose(made.image_cache.people[:4], width=128, height=128)
    assert (cached - fresh).abs().mean() < 0.02 * fresh.std()  # bf16 where that is fast


def test_a_sample_depends_on_its_index_alone(run):
    together, alone = task(run).batch(range(10, 14)), task(run).batch(range(12, 13))
    assert together.keys() == alone.keys()
    for name, many in together.items():
        one = alone[name]
        assert many[2] == one[0] if isinstance(many, list) else torch.equal(many[2], one[0])


def test_first_channels_are_the_noisy_latent_and_the_rest_the_skeleton(run):
    made = task(run, pose_dropout=0.0)
    seen = {}

    def spy(module, args):
        seen["sample"] = args[0]

    made.module.register_forward_pre_hook(spy)
    made.loss(made.load(range(3)))
    batch = made.batch(range(3))
    channels = batch["latents"].shape[1]
    alpha = made.scheduler.alphas_cumprod[batch["timesteps"]].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * batch["latents"] + (1 - alpha).sqrt() * batch["noise"]
    assert torch.allclose(seen["sample"][:, :channels], noisy, atol=1e-5)
    assert torch.equal(seen["sample"][:, channels:], batch["pose"])


def test_fine_tuning_starts_at_the_base_whatever_the_pose(run):
    base, wide = task(run, method="sd"), task(run)
    x, text = torch.randn(2, 8, 32, 32), torch.randn(2, 48, 192)
    pose = torch.randn(2, 8, 32, 32)
    t = torch.tensor([10, 900])
    with torch.no_grad():
        plain = base.module(x, t, text).sample
        posed = wide.module(torch.cat([x, pose], dim=1), t, text).sample
    assert (plain - posed).abs().max() <= 1e-6


def test_latents_resume_and_are_kept_apart_by_vae(run, tmp_path):
    image_cache = find_image_cache(run / "pack")
    torch.manual_seed(0)
    one, two = pocket_vae(scaling_factor=0.5), pocket_vae(scaling_factor=0.5)
    first = build_latents(image_cache, one, HUMANSD_STYLE, tmp_path)
    folder = first.images.filename.parent if hasattr(first.images.filename, "parent") else None
    other = build_latents(image_cache, two, HUMANSD_STYLE, tmp_path)
    again = build_latents(image_cache, one, HUMANSD_STYLE, tmp_path)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert len(list(tmp_path.iterdir())) == 2
    assert folder is None or folder.parent == tmp_path


def test_shards_are_packed_on_demand(run):
    image_cache = find_image_cache(run / "shards")
    assert len(image_cache) == 4
    assert image_cache.images.shape == (4, 128, 128, 3)
    assert all(len(wordings) > 1 for wordings in image_cache.captions)


def test_target_is_noise_or_velocity_by_formula():
    latents, noise = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    t = torch.tensor([100, 700])
    velocity = pocket_scheduler()
    alpha = velocity.alphas_cumprod[t].view(-1, 1, 1, 1)
    by_hand = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    assert torch.allclose(denoising_target(velocity, latents, noise, t), by_hand, atol=1e-6)
    assert denoising_target(DDIMScheduler(prediction_type="epsilon"), latents, noise, t) is noise
    with pytest.raises(ValueError, match="'sample'"):
        denoising_target(DDIMScheduler(prediction_type="sample"), latents, noise, t)


def test_min_snr_by_formula():
    snr = signal_to_noise(torch.tensor([0.99, 0.5, 0.01]), torch.tensor([0, 1, 2]))
    assert snr.tolist() == pytest.approx([99.0, 1.0, 1 / 99], rel=1e-5)
    assert min_snr_weight(snr, 5.0, "epsilon").tolist() == pytest.approx([5 / 99, 1.0, 1.0], rel=1e-5)
    assert min_snr_weight(snr, 5.0, "v_prediction").tolist() == pytest.approx([0.05, 0.5, 0.01], rel=1e-5)
    with pytest.raises(ValueError, match="epsilon, v_prediction"):
        min_snr_weight(snr, 5.0, "sample")


def test_nothing_divides_by_a_signal_that_is_not_there():
    alphas = torch.tensor([0.5, 0.0])
    t = torch.tensor([0, 1])
    snr = signal_to_noise(alphas, t)
    assert snr.tolist() == [1.0, 0.0]
    assert min_snr_weight(snr, 5.0, "epsilon").tolist() == [1.0, 1.0]
    assert min_snr_weight(snr, 5.0, "v_prediction").tolist() == [0.5, 0.0]
    missed = noise_difference(torch.full((2, 1, 1, 1), 3.0), torch.ones(2, 1, 1, 1), alphas, t, "v_prediction")
    assert missed.flatten().tolist() == pytest.approx([2 * 0.5**0.5, 0.0])


def test_zero_terminal_snr_is_algorithm_1_and_only_the_last_timestep_is_pure_noise(run):
    """sqrt(abar) is shifted to 0 at the end and scaled so that its first value stays (Lin et al. 2024, Alg. 1)."""
    plain, zero = (load_scheduler(str(run / "parts"), one).alphas_cumprod.double().sqrt() for one in (False, True))
    by_hand = (plain - plain[-1]) * plain[0] / (plain[0] - plain[-1])
    assert torch.allclose(zero, by_hand, atol=1e-4)
    assert zero[-1] == 0
    assert (zero[:-1] > 0).all()


def test_with_zero_terminal_snr_the_last_timestep_shows_noise_and_asks_for_the_image(run):
    made = task(run, zero_terminal_snr=True)
    latents, noise = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    last = torch.tensor([999, 999])
    assert torch.equal(made.scheduler.add_noise(latents, noise, last), noise)
    assert torch.equal(denoising_target(made.scheduler, latents, noise, last), -latents)
    assert made.timestep_weights(range(2), last).tolist() == [0.0, 0.0]
    batch = made.load(range(4)) | {"timesteps": torch.tensor([999, 999, 998, 0])}
    loss, numbers = made.loss(batch)
    assert torch.isfinite(loss)
    assert all(np.isfinite(list(numbers.values())))


def test_an_exported_pipeline_starts_at_pure_noise_and_finds_the_image_there(run, tmp_path):
    """With a network that knows the image, sampling from t = 999 ends at it."""
    task(run, zero_terminal_snr=True).export(tmp_path / "export")
    pipeline = HumanSDPipeline.from_pretrained(tmp_path / "export")
    scheduler = pipeline.scheduler
    assert scheduler.config.rescale_betas_zero_snr
    assert scheduler.config.timestep_spacing == "trailing"
    image = torch.randn(1, 8, 16, 16)

    seen = []

    def knows(sample, timestep, **_):
        seen.append(int(timestep))
        alpha = scheduler.alphas_cumprod[timestep]
        noise = (sample[:, :8] - alpha.sqrt() * image) / (1 - alpha).sqrt()
        return (alpha.sqrt() * noise - (1 - alpha).sqrt() * image,)

    pipeline.unet.forward = knows
    found = pipeline(
        "x", num_inference_steps=10, guidance_scale=1.0, seed=1, output_type="latent", height=128, width=128
    ).images
    assert seen[:2] == [999, 899]
    sure = scheduler.final_alpha_cumprod
    assert (found - sure.sqrt() * image).abs().max() < 6 * (1 - sure).sqrt()


def test_zero_terminal_snr_is_refused_for_noise_prediction(run, tmp_path):
    parts = tmp_path / "parts"
    shutil.copytree(run / "parts", parts)
    pocket_scheduler(prediction_type="epsilon").save_pretrained(parts / "scheduler")
    with pytest.raises(ValueError, match=r"prediction_type 'epsilon' .* use zero_terminal_snr=false"):
        task(run, components=str(parts), zero_terminal_snr=True)
    pocket_scheduler(prediction_type="epsilon", rescale_betas_zero_snr=True).save_pretrained(parts / "scheduler")
    with pytest.raises(ValueError, match="a scheduler without rescale_betas_zero_snr"):
        task(run, components=str(parts))


def test_a_schedule_of_another_kind_of_model_is_named(run, tmp_path):
    shutil.copytree(run / "parts", tmp_path / "parts")
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "parts" / "scheduler")
    with pytest.raises(ValueError, match=r"scheduler_config\.json is of a FlowMatchEulerDiscreteScheduler"):
        task(run, components=str(tmp_path / "parts"))


def test_a_weight_multiplies_the_squared_error_and_carries_no_gradient():
    prediction = torch.zeros(1, 2, 2, 2, requires_grad=True)
    target = torch.full((1, 2, 2, 2), 2.0)
    weight = torch.tensor([[[[1.0, 3.0], [1.0, 3.0]]]], requires_grad=True)
    loss = mse(prediction, target, weight)
    assert loss.item() == pytest.approx(8.0)
    loss.sum().backward()
    assert weight.grad is None
    assert torch.equal(mse(prediction, target), mse(prediction, target, torch.ones(1, 1, 2, 2)))


def test_a_masked_loss_weighs_people_and_leaves_the_rest(run):
    plain, masked = task(run), task(run, loss="skeleton-mask", mask_strength=3.0)
    assert plain.weight_maps(range(3)) is None
    maps = masked.weight_maps(range(3))
    assert maps.shape == (3, 1, 16, 16)
    assert maps.min() == 1
    assert maps.max() == pytest.approx(4.0)
    # the same sample, the same map: it follows the row of the data, not the place in the batch
    assert torch.equal(masked.weight_maps(range(2, 3))[0], maps[2])
    no_weight = task(run, loss="skeleton-mask", mask_strength=0.0)
    assert no_weight.loss(no_weight.load(range(3)))[0].item() == pytest.approx(
        plain.loss(plain.load(range(3)))[0].item(), rel=1e-6
    )
    assert masked.loss(masked.load(range(3)))[0] > plain.loss(plain.load(range(3)))[0]


def test_the_sample_s_own_mask_takes_the_place_of_the_skeleton_s(run):
    own, drawn = task(run, loss="skeleton-mask", mask="own"), task(run, loss="skeleton-mask")
    maps = own.weight_maps(range(3))
    assert not torch.equal(maps, drawn.weight_maps(range(3)))
    for i in range(3):
        mask = own.image_cache.mask(data_row(0, i, len(own.image_cache)))
        assert mask.any()
        share = mask.reshape(16, 8, 16, 8).mean(axis=(1, 3))
        assert np.abs(maps[i, 0].numpy() - 1 - 3 * share).max() < 0.01  # fp16


def test_a_mask_schedule_weakens_the_mask_at_each_sample_s_own_timestep(run):
    batch = task(run).load(range(3))
    batch["timesteps"] = torch.tensor([0, 0, 0])
    values = {}
    for schedule in ("constant", "early", "late"):
        made = task(run, loss="skeleton-mask", mask_schedule=schedule)
        values[schedule] = made.loss(batch | {"maps": made.weight_maps(range(3))})[0].item()
    plain = task(run).loss(batch | {"maps": None})[0].item()
    assert values["early"] == pytest.approx(plain, rel=1e-6)
    assert values["late"] == pytest.approx(values["constant"], rel=1e-6)
    assert values["constant"] > plain
    with pytest.raises(ValueError, match="mask_schedule = 'never': must be constant or early or late"):
        DiffusionSettings(mask_schedule="never")


def test_the_error_inside_and_outside_people_is_logged_from_every_tenth_batch(run):
    made = task(run, batch_size=2)
    first = made.loss(made.load(range(2)))[1]
    assert first["inside"] > 0
    second = made.load(range(2, 4))
    assert second["cover"] is None
    assert made.loss(second)[1]["inside"] == first["inside"]
    assert made.load(range(20, 22))["cover"] is not None


def test_the_text_encoder_learns_with_a_base_that_asks_for_it_and_never_else(run):
    base = task(run, method="sd", base_model="", train_text=True)
    assert set(dict(base.module.named_children())) == {"unet", "text_encoder"}
    base.loss(base.load(range(4)))[0].backward()
    assert all(p.grad is not None for p in base.unet.parameters())
    touched = [name for name, p in base.text_encoder.named_parameters() if p.grad is not None and p.grad.any()]
    assert any("token_embedding" in name for name in touched)
    frozen = task(run)
    frozen.loss(frozen.load(range(2)))[0].backward()
    assert all(p.grad is None for p in frozen.text_encoder.parameters())


def test_a_trained_base_is_a_plain_stable_diffusion_folder(run):
    pipeline = StableDiffusionPipeline.from_pretrained(run / "base" / "export")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels
    image = pipeline("photo, a man", num_inference_steps=2, output_type="np", height=128, width=128).images[0]
    assert image.shape == (128, 128, 3)


def test_the_attention_that_trains_fast_computes_the_same():
    torch.manual_seed(0)
    unet = pocket_unet()
    x, text, t = torch.randn(2, 8, 32, 32), torch.randn(2, 64, 192), torch.tensor([10, 900])
    with torch.no_grad():
        before = unet(x, t, text).sample
        use_fast_attention(unet, "cpu")
        after = unet(x, t, text).sample
    assert (before - after).abs().max() <= 1e-5


def test_min_snr_ends_at_its_sample_and_not_before(run):
    made = task(run, min_snr_gamma=5.0, min_snr_samples=10)
    timesteps = torch.tensor([50, 900, 900, 50])
    snr = signal_to_noise(made.scheduler.alphas_cumprod, timesteps)
    by_formula = min_snr_weight(snr, 5.0, "v_prediction")
    assert torch.equal(made.timestep_weights(range(4, 8), timesteps), by_formula)
    across = made.timestep_weights(range(8, 12), timesteps)
    assert torch.equal(across[:2], by_formula[:2])
    assert torch.equal(across[2:], torch.ones(2))
    assert torch.equal(task(run).timestep_weights(range(8, 12), timesteps), by_formula)  # 0 = it never ends
    assert torch.equal(task(run, min_snr_gamma=0.0).timestep_weights(range(4), timesteps), torch.ones(4))


def test_an_unknown_loss_is_refused(run):
    with pytest.raises(ValueError, match="loss = 'heat': known are ldm, skeleton-mask, heatmap, reference, latent-"):
        task(run, loss="heat")


def test_pocket_networks_fit_each_other():
    assert pocket_unet().config.in_channels == pocket_vae().config.latent_channels == pocket_unet().config.out_channels
    assert TINY.humansd.method == "humansd"


def test_with_the_caches_a_step_encodes_nothing_and_learns_the_same(run, monkeypatch):
    plain, cached = task(run), task(run, cache_text=True)
    expected = plain.loss(plain.load(range(4)))[0].item()
    for part in (cached.vae, cached.text_encoder):
        monkeypatch.setattr(part, "forward", None)  # would be called by an encoding
    monkeypatch.setattr(cached.vae, "encode", None)
    assert cached.loss(cached.load(range(4)))[0].item() == pytest.approx(expected, rel=2e-3)
    with pytest.raises(ValueError, match="cache_text = True: must be false where train_text is true"):
        DiffusionSettings(cache_text=True, train_text=True)


@pytest.mark.parametrize(("loss", "channels"), [("heatmap", 1), ("reference", 8)])
def test_a_guided_loss_weighs_what_the_estimator_sees_in_the_missed_noise(run, loss, channels):
    estimator = str(run / "estimators" / "higherhrnet")
    guided, plain = task(run, loss=loss, estimator=estimator), task(run)
    batch = guided.load(range(3))
    seen = {}
    weigh = guided.weighter.weight

    def spy(difference, seeds):
        seen["gradient"] = difference.requires_grad
        seen["weight"] = weigh(difference, seeds)
        return seen["weight"]

    guided.weighter.weight = spy
    value, _ = guided.loss(batch)
    assert seen["weight"].shape == (3, channels, 16, 16)
    assert not seen["gradient"]
    value.backward()
    assert guided.unet.conv_in.weight.grad is not None
    assert all(parameter.grad is None for parameter in guided.weighter.teacher.network.parameters())
    none = task(run, loss="heatmap", estimator=estimator, heatmap_strength=0.0)
    assert none.loss(none.load(range(3)))[0].item() == pytest.approx(
        plain.loss(plain.load(range(3)))[0].item(), rel=1e-5
    )


@pytest.mark.parametrize("loss", ["skeleton-mask", "heatmap"])
def test_a_sample_whose_pose_is_dropped_can_count_as_in_the_plain_loss(run, loss):
    def value(**changes):
        made = task(run, estimator=str(run / "estimators" / "higherhrnet"), **changes)
        return made.loss(made.load(range(8)))[0].item()

    weights = {"loss": loss, "heatmap_strength": 50.0}
    plain = value(pose_dropout=1.0)
    assert value(**weights, pose_dropout=1.0, weigh_unposed=False) == pytest.approx(plain, rel=1e-6)
    assert value(**weights, pose_dropout=1.0) > 1.01 * plain
    posed = value(**weights, pose_dropout=0.0)
    assert value(**weights, pose_dropout=0.0, weigh_unposed=False) == posed
    assert posed > 1.01 * value(pose_dropout=0.0)


def test_a_head_is_taught_by_the_estimator_and_guides_without_decoding(run, tmp_path, monkeypatch):
    estimator = str(run / "estimators" / "higherhrnet")
    places = {
        "data": str(run / "pack"),
        "components": str(run / "parts"),
        "base_model": str(run / "humansd" / "export"),
    }
    few = {"steps": "3", "batch_size": "2", "cooldown_steps": "0", "estimator": estimator, "mixed_precision": "no"}
    run_preset("pocket-latent-heatmap", {**places, **few}, tmp_path)
    guided = task(run, loss="latent-heatmap", head=str(tmp_path / "export"))
    monkeypatch.setattr(guided.vae, "decode", None)
    value, _ = guided.loss(guided.load(range(3)))
    assert torch.isfinite(value)
    with pytest.raises(ValueError, match="train one with `humansd train pocket-latent-heatmap`"):
        task(run, loss="latent-heatmap")


def test_one_variant_draws_what_was_drawn_before_there_were_any(run):
    made = task(run, text_dropout=0.0, pose_dropout=0.0)
    batch = made.batch(range(5, 6))
    noise, captions = batch["noise"], batch["captions"]
    rng = sample_rng(0, 5)
    wordings = made.image_cache.captions[data_row(0, 5, len(made.image_cache))]
    assert captions == [wordings[int(rng.integers(len(wordings)))]]
    rng.random(2)
    assert torch.equal(noise[0], sample_noise(rng, tuple(noise[0].shape)))


def test_a_sample_takes_one_of_the_variants_with_the_pose_and_the_weights_that_belong_to_it(run):
    made = task(run, cached_augmentations=3, pose_dropout=0.0, loss="skeleton-mask")
    batch = made.batch(range(60))
    latents, skeletons = batch["latents"], batch["pose"]
    maps = made.weight_maps(range(60))
    taken = set()
    for i in range(60):
        row = data_row(0, i, len(made.image_cache))
        (number,) = (k for k in range(3) if np.array_equal(made.caches[k].images[row], latents[i].numpy()))
        assert np.array_equal(made.caches[number].skeletons[row], skeletons[i].numpy())
        people = augmentation(made.image_cache, row, number).people(made.image_cache.people[row])
        assert np.abs(skeleton_mask(people, (16, 16), 3.0) - maps[i].numpy()).max() < 0.01  # fp16
        taken.add((row, number))
    assert len(taken) == 3 * len(made.image_cache)
    assert set(made.maps) == taken
    again = made.batch(range(17, 18))
    assert torch.equal(again["latents"][0], latents[17])
    with pytest.raises(ValueError, match="cached_augmentations = 0: must be 1 or more"):
        DiffusionSettings(cached_augmentations=0)


def few_steps(run, steps, **changes):
    quick = {"batch_size": 2, "lr_warmup_steps": 1, "mixed_precision": "no", "device": "cpu", "report_to": "none"}
    places = {"data": str(run / "pack"), "components": str(run / "parts"), "base_model": str(run / "base" / "export")}
    settings = {**quick, **places, "method": "humansd", "cached_augmentations": 2, "loss": "skeleton-mask", **changes}
    return DiffusionTask(DiffusionSettings(steps=steps, **settings))


def test_a_resumed_run_with_variants_is_bit_identical(run, tmp_path):
    train(few_steps(run, 3), tmp_path / "whole")
    train(few_steps(run, 1), tmp_path / "broken")
    train(few_steps(run, 3), tmp_path / "broken")
    one, two = (load_file(checkpoints(tmp_path / name)[-1] / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_goes_on_with_its_own_data_alone(run, tmp_path):
    shutil.copytree(run / "pack", tmp_path / "pack")
    made = few_steps(run, 1, data=str(tmp_path / "pack"), cached_augmentations=1)
    train(made, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    assert config["data_digest"] == made.image_cache.digest()

    for name in ("data_digest", "cached_augmentations"):  # begun before these were known
        del config[name]
    path.write_text(json.dumps(config))
    train(few_steps(run, 2, data=str(tmp_path / "pack"), cached_augmentations=1), tmp_path / "out")
    assert json.loads(path.read_text())["data_digest"] == made.image_cache.digest()

    about = json.loads((tmp_path / "pack" / "about.json").read_text())
    about["shards"][0]["sha256"] = "0" * 64
    (tmp_path / "pack" / "about.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"data_digest was .* another --out"):
        train(few_steps(run, 3, data=str(tmp_path / "pack"), cached_augmentations=1), tmp_path / "out")


def test_a_run_goes_on_with_the_same_data_and_weights_at_another_place(run, tmp_path):
    def copied(name, source):
        shutil.copytree(source, tmp_path / name)
        return str(tmp_path / name)

    asked = {"cached_augmentations": 1, "loss": "heatmap"}
    first = {"data": copied("pack", run / "pack"), "base_model": copied("base", run / "base" / "export")}
    first |= {
        "components": copied("parts", run / "parts"),
        "estimator": copied("hrnet", run / "estimators" / "higherhrnet"),
    }
    train(few_steps(run, 1, **asked, **first), tmp_path / "out")
    second = {name: copied(f"moved-{name}", place) + "/" for name, place in first.items()}
    for place in first.values():
        shutil.rmtree(place)
    assert train(few_steps(run, 2, **asked, **second), tmp_path / "out").step == 2
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["estimator"] == second["estimator"]

    changed = tmp_path / "moved-components" / "scheduler" / "scheduler_config.json"
    values = json.loads(changed.read_text())
    changed.write_text(json.dumps({**values, "_diffusers_version": "0.0"}))  # who wrote it does not matter
    train(few_steps(run, 2, **asked, **second), tmp_path / "out")
    changed.write_text(json.dumps({**values, "beta_end": 0.02}))
    with pytest.raises(ValueError, match=r"components_config was .* and is now"):
        train(few_steps(run, 3, **asked, **second), tmp_path / "out")
    changed.write_text(json.dumps(values))
    other = copied("other", second["estimator"])
    state = load_file(f"{other}/model.safetensors")
    changed = {name: tensor * 1.01 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(changed, f"{other}/model.safetensors")
    with pytest.raises(ValueError, match=r"guide_weights was .* and is now"):
        train(few_steps(run, 3, **asked, **second | {"estimator": other}), tmp_path / "out")


def test_a_run_of_version_0_1_goes_on_as_it_was_begun(run, tmp_path):
    """Its record knows neither the resolutions nor the betas, and named the shipped estimator by nothing."""
    asked = {"cached_augmentations": 1, "loss": "heatmap", "estimator": "pocket", "heatmap_strength": 1.0}
    train(few_steps(run, 1, **asked, heatmap_resolutions="half"), tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    new = ("heatmap_resolutions", "beta2", "estimator_px", "inference_steps")
    digests = ("base_config", "parts_config", "guide_config")
    old = {key: value for key, value in config.items() if key not in (*new, *digests)}
    path.write_text(json.dumps({**old, "estimator": "", "mask_strength": 2.0}))  # the mask is not read
    assert train(few_steps(run, 2, **asked, heatmap_resolutions="half"), tmp_path / "out").step == 2
    path.write_text(json.dumps({**old, "estimator": ""}))
    with pytest.raises(ValueError, match="heatmap_resolutions was 'half' and is now 'both'"):
        train(few_steps(run, 3, **asked), tmp_path / "out")
    path.write_text(json.dumps({**old, "loss": "reference"}))
    with pytest.raises(ValueError, match=r"reference_loss was .* and is now 'as in the published code'"):
        train(few_steps(run, 3, **{**asked, "loss": "reference"}), tmp_path / "out")


def unet_folder(folder, source, index=None, **config):
    """A base whose UNet has other channels, as the folder of another kind of model has."""
    unet = pocket_unet(**config)
    unet.save_pretrained(folder / "unet")
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(source / part, folder / part)
    if index is not None:
        (folder / "model_index.json").write_text(json.dumps({"_class_name": index}))
    return str(folder)


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (17, r"its UNet takes 17 channels \(a Stable Diffusion for inpainting\) and gives 8; on latents of 8 channels"),
        (9, r"takes 9 channels \(a Stable Diffusion for depth\)"),
        (10, r"takes 10 channels and gives 8; .* starts from one that takes 8 \(a plain Stable Diffusion\) or 16"),
    ],
)
def test_a_base_with_other_channels_is_named(run, tmp_path, channels, said):
    base = unet_folder(tmp_path / "base", run / "parts", in_channels=channels)
    places = {"data": str(run / "pack"), "base_model": base}
    with pytest.raises(ValueError, match=said):
        run_preset("pocket-humansd", places, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_instruct_pix2pix_is_no_humansd_though_it_has_its_channels(run, tmp_path):
    kind = "StableDiffusionInstructPix2PixPipeline"
    base = unet_folder(tmp_path / "base", run / "parts", kind, in_channels=16)
    with pytest.raises(ValueError, match="an InstructPix2Pix, whose UNet does not read a skeleton"):
        run_preset("pocket-humansd", {"data": str(run / "pack"), "base_model": base}, tmp_path / "out")


def test_a_base_for_other_texts_is_named(run, tmp_path):
    base = unet_folder(tmp_path / "base", run / "parts", cross_attention_dim=96)
    with pytest.raises(ValueError, match=r"its UNet reads texts 96 wide, and .* makes them 192 wide"):
        run_preset("pocket-humansd", {"data": str(run / "pack"), "base_model": base}, tmp_path / "out")


def test_an_empty_tokenizer_is_refused_before_training(run, tmp_path):
    parts = tmp_path / "parts"
    shutil.copytree(run / "parts", parts)
    for path in (parts / "tokenizer").iterdir():
        path.unlink()
    with pytest.raises((ValueError, OSError), match="tokenizer"):
        task(run, components=str(parts))


def test_the_parts_are_those_of_the_base_unless_others_are_named(run):
    made, named = (
        task(run, components="", base_model=str(run / "base" / "export")),
        task(run, components=str(run / "base" / "export")),
    )
    assert made.fingerprint() == named.fingerprint()


def test_a_finished_model_draws_with_the_settings_of_its_training(run, tmp_path):
    own = {"guidance_scale": 9.0, "pose_guidance_scale": 1.5, "guidance_end": 0.6}
    task(run, **own, inference_steps=50).export(tmp_path / "export")
    drawn = HumanSDPipeline.from_pretrained(tmp_path / "export")
    assert drawn.guidance == Guidance(9.0, 1.5, 0.6)
    assert drawn.config.num_inference_steps == 50


def test_every_task_that_reads_a_pack_names_its_data(run):
    data, digest = str(run / "pack"), find_image_cache(run / "pack").digest()
    places = {"components": str(run / "parts"), "base_model": str(run / "humansd" / "export")}
    tasks = [
        AutoencoderTask(AutoencoderSettings(data=data)),
        ClipTask(ClipSettings(data=data, vocabulary=600)),
        EstimatorTask(EstimatorSettings(data=data)),
        HeadTask(HeadSettings(data=data, cached_augmentations=2, estimator="pocket", **places)),
    ]
    assert [made.fingerprint()["data_digest"] for made in tasks] == [digest] * 4
    assert tasks[-1].inner.settings.cached_augmentations == 2
