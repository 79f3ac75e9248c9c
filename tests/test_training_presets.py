"""The presets of HumanSD at full size beside what was published, and what a dry run shows and refuses."""

from __future__ import annotations

import json

import pytest

from humansd.training.presets import GUIDED, HEAD, POCKET, PRESETS
from humansd.training.run import describe_loss, run_preset
from humansd.training.settings import DiffusionSettings, HeadSettings, with_overrides

PUBLISHED = {  # HumanSD's paper and published configuration
    "steps": 95_000,
    "batch_size": 4,
    "learning_rate": 4 * 5e-6,
    "beta2": 0.999,
    "weight_decay": 0.01,
    "warmup_steps": 0,
    "cooldown_steps": 0,
    "schedule": "constant",
    "gradient_clip": 0.0,
    "ema_decay": 0.0,
    "pose": "concat",
    "loss": "heatmap",
    "estimator_px": 512,
    "heatmap_threshold": 0.05,
    "heatmap_resolutions": "both",
    "text_dropout": 0.0,
    "pose_dropout": 0.0,
    "train_text": False,
    "min_snr_gamma": 0.0,
    "guidance": 9.0,
    "pose_guidance": 1.0,
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
    data = {"data": str(tmp_path)}
    with pytest.raises(ValueError, match=r"2\.1-base has left its place on the hub; name a folder of it with --set"):
        run_preset("humansd-sd21", data, tmp_path / "out")
    with pytest.raises(ValueError, match="estimator = 'higherhrnet-w48': its weights do not ship; name the folder"):
        run_preset("humansd-sd15", data, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", ["heatmap", "reference"])
def test_the_pocket_estimator_is_no_teacher_of_a_model_of_512_px(loss):
    with pytest.raises(ValueError, match=r"'pocket': made for pictures of 128 px, and the model makes .* of 512 px"):
        described("humansd-sd15", loss=loss, estimator="pocket")


def test_a_network_is_not_shown_what_it_never_saw():
    with pytest.raises(ValueError, match="'higherhrnet-w48': made for pictures of 640 px, and is shown 128 px"):
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
    assert (HEAD.heatmap_resolutions, GUIDED.heatmap_resolutions, POCKET.humansd.heatmap_resolutions) == ("half",) * 3
    for stage in (POCKET.base, POCKET.humansd, HEAD, GUIDED):
        assert (stage.beta2, stage.gradient_clip, stage.ema_decay, stage.text_dropout) == (0.99, 1.0, 0.999, 0.1)
    assert (HEAD.warmup_steps, GUIDED.warmup_steps, GUIDED.heatmap_strength) == (100, 200, 8.0)


def test_a_dry_run_refuses_what_a_run_would():
    with pytest.raises(ValueError, match="loss = 'heat': known are ldm, skeleton-mask, heatmap, reference, latent-"):
        run_preset("pocket-humansd", {"loss": "heat"}, dry_run=True)
    with pytest.raises(ValueError, match="--set mask_strength=3: has no effect"):
        run_preset("humansd-sd15", {"mask_strength": "3"}, dry_run=True)
