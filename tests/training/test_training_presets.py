"""The presets of HumanSD at full size beside what was published, and what a dry run shows and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from humansd.checkpoints.original_format import sd_scheduler
from humansd.data import write_shards
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.tokenizers import clip_tokenizer
from humansd.pipelines.plain import plain_pipeline
from humansd.synthetic.dataset import write_atelier
from humansd.training.presets import FINETUNE, HEAD, POCKET, PRESETS
from humansd.training.run import describe_loss, run_preset
from humansd.training.settings import DiffusionSettings, HeadSettings, with_overrides
from shard_makers import make
from tiny_ldm import TINY1, tiny_components

PAIR = ("humansd-sd15", "humansd-sd15-24gb")
PUBLISHED = {  # HumanSD's paper and published configuration
    "steps": 95_000,
    "batch_size": 4,
    "learning_rate": 4 * 5e-6,
    "beta2": 0.999,
    "weight_decay": 0.01,
    "lr_warmup_steps": 0,
    "cooldown_steps": 0,
    "lr_scheduler": "constant",
    "max_grad_norm": 0.0,
    "ema_decay": 0.0,
    "method": "humansd",
    "loss": "heatmap",
    "estimator_px": 512,
    "heatmap_threshold": 0.05,
    "heatmap_resolutions": "both",
    "text_dropout": 0.0,
    "pose_dropout": 0.0,
    "train_text": False,
    "min_snr_gamma": 0.0,
    "guidance_scale": 9.0,
    "pose_guidance_scale": 1.0,
    "inference_steps": 50,
}


def settings_of(preset, **overrides):
    return with_overrides(PRESETS[preset], overrides)


def described(preset, **overrides):
    """What a dry run says of the loss."""
    return describe_loss(settings_of(preset, **overrides))


@pytest.mark.parametrize(
    ("preset", "network"),
    [
        ("humansd-sd21", "Stable Diffusion 2, 865.9 M parameters learn"),
        ("humansd-sd15", "Stable Diffusion 1, 859.5 M parameters learn"),
    ],
)
def test_a_dry_run_shows_the_published_numbers_and_the_paper_s_loss_with_its_teacher(preset, network):
    told = json.loads(run_preset(preset, {}, dry_run=True))
    assert told["memory"]["network"] == network
    assert {key: told["settings"][key] for key in PUBLISHED} == PUBLISHED
    assert told["loss"]["name"] == "heatmap"
    assert "HumanSD Eq. 6" in told["loss"]["is"]
    assert told["loss"]["heatmap_strength"] == 8.0  # what every published result of this package used
    assert told["loss"]["teacher"].startswith("higherhrnet-w48: HigherHRNet of width 48")
    assert "its weights are not here" in told["loss"]["teacher"]
    assert told["loss"]["teacher_is_shown_px"] == 512
    assert told["memory"]["frozen_gb"]["teacher higherhrnet-w48"] > 0.2


def test_a_run_begins_with_a_base_and_a_teacher_that_are_here(tmp_path):
    write_shards(make, 4, tmp_path / "shards", per_shard=4, workers=1, progress=False)
    data = {"data": str(tmp_path / "shards")}
    with pytest.raises(ValueError, match=r"2\.1-base has left its place on the hub; name a folder of it with --set"):
        run_preset("humansd-sd21", data, tmp_path / "out")
    with pytest.raises(ValueError, match="estimator = 'higherhrnet-w48': its weights do not ship; name the folder"):
        run_preset("humansd-sd15", data, tmp_path / "out")
    assert not [one for one in tmp_path.iterdir() if one.name != "shards"]


@pytest.mark.parametrize("loss", ["heatmap", "reference"])
def test_the_pocket_estimator_is_no_teacher_of_a_model_of_512_px(loss):
    with pytest.raises(ValueError, match=r"'pocket': made for images of 128 px, and the model makes .* of 512 px"):
        described("humansd-sd15", loss=loss, estimator="pocket")


def test_a_network_is_not_shown_what_it_never_saw():
    with pytest.raises(ValueError, match="'higherhrnet-w48': made for images of 640 px, and is shown 128 px"):
        described("humansd-sd15", estimator_px="128")
    with pytest.raises(ValueError, match="estimator_px = 500: must be 0 or a multiple of 32"):
        settings_of("humansd-sd15", estimator_px="500")


def test_the_teacher_is_named_everywhere_and_never_taken_for_granted():
    assert described("pocket-humansd", loss="heatmap")["teacher"].startswith("pocket: HigherHRNet of width 16")
    assert described("pocket-latent-heatmap")["teacher"].startswith("pocket: ")
    assert DiffusionSettings().estimator == HeadSettings().estimator == ""
    with pytest.raises(ValueError, match="the latent heatmap head needs a teacher, and estimator is empty"):
        described("pocket-latent-heatmap", estimator="")
    with pytest.raises(ValueError, match=r"'heatmap' needs a teacher, .*'pocket' is the one that ships, for .*128"):
        described("humansd-sd15", estimator="")


def test_the_strength_by_default_is_that_of_the_results():
    assert DiffusionSettings().heatmap_strength == 8.0
    assert DiffusionSettings().heatmap_resolutions == "both"


def test_the_pocket_recipe_is_what_made_the_weights_that_ship():
    """The finer heatmaps alone; and what the presets have always said."""
    assert (HEAD.heatmap_resolutions, FINETUNE.heatmap_resolutions, POCKET.humansd.heatmap_resolutions) == ("half",) * 3
    for stage in (POCKET.base, POCKET.humansd, HEAD, FINETUNE):
        assert (stage.beta2, stage.max_grad_norm, stage.ema_decay, stage.text_dropout) == (0.99, 1.0, 0.999, 0.1)
    assert (HEAD.lr_warmup_steps, FINETUNE.lr_warmup_steps, FINETUNE.heatmap_strength) == (
        100,
        200,
        8.0,
    )


def test_a_dry_run_refuses_what_a_run_would():
    with pytest.raises(ValueError, match="loss = 'heat': known are ldm, skeleton-mask, heatmap, reference, latent-"):
        run_preset("pocket-humansd", {"loss": "heat"}, dry_run=True)
    with pytest.raises(ValueError, match="--set mask_strength=3: has no effect"):
        run_preset("humansd-sd15", {"mask_strength": "3"}, dry_run=True)


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory):
    """Stable Diffusion 1 in miniature, images of its size, and an estimator that is made for them."""
    folder = tmp_path_factory.mktemp("sd")
    made, words = tiny_components(TINY1), clip_tokenizer("sd1")
    plain_pipeline(made.vae, made.text_encoder, words, made.unet, sd_scheduler()).save_pretrained(folder / "base")
    torch.manual_seed(1)
    network = HigherHRNet(replace(CONFIGS["pocket"], input_px=64, width=8, stem=16, blocks=1))
    torch.nn.init.constant_(network.final_layers[1].bias, 0.3)  # sees something everywhere
    network.save_pretrained(folder / "hrnet")
    write_atelier(folder / "shards", 6, size=64, seed=4, workers=1, progress=False)
    places = {"data": str(folder / "shards"), "base_model": str(folder / "base"), "estimator": str(folder / "hrnet")}
    few = {"estimator_px": "64", "device": "cpu", "steps": "2", "log_images_minutes": "0", "report_to": "none"}
    return places | few | {"mixed_precision": "no"}


def test_a_step_of_the_24_gb_preset_is_that_of_the_whole_one(tiny_sd, tmp_path):
    """Four parts with checkpointing give the batch's own gradients, weighed by what the estimator sees."""
    for name in PAIR:
        run_preset(name, tiny_sd, tmp_path / name)
    config = json.loads((tmp_path / "humansd-sd15-24gb" / "config.json").read_text())
    assert (config["gradient_accumulation_steps"], config["gradient_checkpointing"], config["loss"]) == (
        4,
        True,
        "heatmap",
    )
    assert config["guide_weights"] != "none"
    start, (whole, parts) = (
        load_unet(Path(tiny_sd["base_model"])),
        (load_unet(tmp_path / name / "export") for name in PAIR),
    )
    for key in whole:
        assert torch.allclose(whole[key], parts[key], atol=2e-6), key
    moved = max((whole[key] - start[key]).abs().max().item() for key in start if key != "conv_in.weight")
    assert moved == pytest.approx(2 * 2e-5, rel=0.2)  # two steps of AdamW without a warm-up
    wide = whole["conv_in.weight"]
    assert wide.shape[1] == 8
    assert wide[:, 4:].abs().max() > 1e-5  # the new columns began at zero and learn
    drawn = json.loads((tmp_path / "humansd-sd15-24gb" / "export" / "model_index.json").read_text())
    assert (drawn["guidance"], drawn["num_inference_steps"]) == ({"text": 9.0, "pose": 1.0}, 50)


def load_unet(folder):
    return load_file(next((folder / "unet").glob("*.safetensors")))


def test_the_reference_loss_trains_and_resumes_to_the_same_weights(tiny_sd, tmp_path):
    asked = {**tiny_sd, "loss": "reference"}
    del asked["estimator_px"]
    run_preset("humansd-sd15-24gb", asked, tmp_path / "whole")
    for steps in ("1", "2"):
        run_preset("humansd-sd15-24gb", {**asked, "steps": steps}, tmp_path / "broken")
    one, two = (load_unet(tmp_path / name / "export") for name in ("whole", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)
