"""What guides a loss while a UNet learns: known answers through the real task, with networks that say a known thing."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest
import torch
from torch import nn

from humansd.models.estimators import SHIPPED
from humansd.models.higherhrnet import CONFIGS, HigherHRNet, PoseMaps
from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.models.loading import weights_digest
from humansd.models.pocket import pocket_vae
from humansd.training.heatmap_weighting import HeatmapWeighter, LatentHeatmapWeighter, ReferenceWeighter, Teacher
from humansd.training.run import run_preset
from humansd.training.settings import DiffusionSettings, HeadSettings
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.latent_head import HeadTask


@pytest.fixture
def run(tiny_run):
    return tiny_run


def sources(run) -> dict[str, str]:
    return {"data": str(run / "pack"), "components": str(run / "parts"), "base_model": str(run / "humansd" / "export")}


def loss_of(run, **changes) -> float:
    made = DiffusionTask(dataclasses.replace(DiffusionSettings(**sources(run), method="humansd"), **changes))
    made.prepare(torch.device("cpu"))
    return made.loss(made.load(range(3)))[0].item()


@functools.cache
def plain_loss(run) -> float:
    return loss_of(run)


def head_that_says(heat: float, folder, channels: int = 8) -> str:
    """The folder of a head that sees `heat` for every joint everywhere."""
    head = LatentHeatmapHead(LatentHeatmapConfig(channels=channels))
    nn.init.constant_(head.out.bias, heat)
    head.save_pretrained(folder)
    return str(folder)


def estimator_that_says(heat: float, folder, quarter: float | None = None, **config) -> str:
    """The folder of a HigherHRNet that sees `heat` for every joint everywhere; `quarter`: in its coarser maps."""
    network = HigherHRNet(dataclasses.replace(CONFIGS["pocket"], **{"width": 8, "stem": 16, "blocks": 1, **config}))
    for layer, value in zip(network.final_layers, (heat if quarter is None else quarter, heat), strict=True):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, value)
    network.save_pretrained(folder)
    return str(folder)


CASES = [  # what all joints are said to be, settings, by how much the plain loss grows
    ({}, 0.5, 2.0),
    ({"heatmap_threshold": 0.6}, 0.5, 1.0),
    ({"heatmap_sum": True}, 0.5, 3.0),
    ({"weight_mean_one": True}, 0.5, 1.0),
    ({}, -1.0, 1.0),
]


@pytest.mark.parametrize(("changes", "heat", "factor"), CASES)
def test_a_head_weighs_the_loss_by_what_it_sees(run, tmp_path, changes, heat, factor):
    head = head_that_says(heat, tmp_path)
    value = loss_of(run, loss="latent-heatmap", head=head, heatmap_strength=2.0, **changes)
    assert value == pytest.approx(factor * plain_loss(run), rel=1e-5)


@pytest.mark.parametrize(("changes", "heat", "factor"), CASES)
def test_an_estimator_weighs_the_loss_by_what_it_sees(run, tmp_path, changes, heat, factor):
    estimator = estimator_that_says(heat, tmp_path)
    value = loss_of(run, loss="heatmap", estimator=estimator, heatmap_strength=2.0, **changes)
    assert value == pytest.approx(factor * plain_loss(run), rel=1e-5)


def test_the_heatmaps_of_both_resolutions_are_averaged_unless_one_is_asked_for(run, tmp_path):
    asked = {"loss": "heatmap", "heatmap_strength": 2.0}
    asked["estimator"] = estimator_that_says(0.3, tmp_path, quarter=0.9)
    plain = plain_loss(run)
    assert loss_of(run, **asked) == pytest.approx((1 + 2 * 0.6) * plain, rel=1e-5)
    assert loss_of(run, **asked, heatmap_resolutions="half") == pytest.approx((1 + 2 * 0.3) * plain, rel=1e-5)
    with pytest.raises(ValueError, match="heatmap_resolutions = 'quarter': must be both or half"):
        DiffusionSettings(heatmap_resolutions="quarter")


def test_a_coarse_map_goes_up_to_the_finer_one():
    class Ramp(nn.Module):
        config = dataclasses.replace(CONFIGS["pocket"], input_px=128)

        def forward(self, images: torch.Tensor) -> PoseMaps:
            quarter = torch.arange(32.0).repeat(len(images), 17, 32, 1)
            return PoseMaps(quarter, torch.zeros(len(images), 17, 64, 64), quarter)

    vae = pocket_vae()
    seen = Teacher(Ramp(), vae).heatmaps(torch.randn(1, 8, 16, 16), "both")  # type: ignore[arg-type]
    assert seen.shape == (1, 17, 64, 64)
    assert torch.allclose(seen[0, 0, 5, 2:6], torch.tensor([0.75, 1.25, 1.75, 2.25]) / 2)  # half a pixel apart


def test_a_mask_can_have_the_mean_one(run):
    everywhere = {"loss": "skeleton-mask", "weight_mean_one": True}
    assert loss_of(run, **everywhere, mask_strength=1e3) == pytest.approx(
        loss_of(run, **everywhere, mask_strength=1e4), rel=0.02
    )  # the strength no longer makes the loss larger, only what is on a person against the rest
    assert loss_of(run, **everywhere, mask_strength=0.0) == pytest.approx(plain_loss(run), rel=1e-6)


class Echo(nn.Module):
    """Says of an image what it is: its channels are the heatmaps."""

    config = dataclasses.replace(CONFIGS["pocket"], input_px=64)

    def forward(self, images: torch.Tensor) -> PoseMaps:
        return PoseMaps(images[..., ::2, ::2], images, images)


def test_a_teacher_sees_the_decoded_difference_in_its_own_size():
    torch.manual_seed(0)
    vae = pocket_vae()
    vae.register_to_config(scaling_factor=0.37, shift_factor=0.2)
    difference = 3 * torch.randn(2, vae.config.latent_channels, 16, 16)
    seen = Teacher(Echo(), vae).heatmaps(difference, "half")  # type: ignore[arg-type]
    decoded = vae.decode(difference / 0.37 + 0.2).sample.clamp(-1, 1)
    assert decoded.shape == (2, 3, 128, 128)
    assert seen.shape == (2, 3, 64, 64)
    assert not seen.requires_grad
    # Enlarging and shrinking is PyTorch's; what counts is that it is this image, in [-1, 1].
    mean = nn.functional.avg_pool2d(decoded, 2)
    assert (seen - mean).abs().mean() < 0.25 * (mean - mean.mean()).abs().mean()


def test_a_latent_guide_reads_the_difference_itself():
    class Mirror(nn.Module):
        def forward(self, difference: torch.Tensor) -> torch.Tensor:
            return difference

    difference = torch.zeros(2, 6, 8, 8)
    difference[1, 2, 3, 4], difference[1, 5, 3, 4] = 0.25, 0.5
    weight = LatentHeatmapWeighter(DiffusionSettings(heatmap_strength=4.0), Mirror()).weight(difference, ())  # type: ignore[arg-type]
    expected = torch.ones(2, 1, 8, 8)
    expected[1, 0, 3, 4] = 3.0
    assert torch.equal(weight, expected)


def test_an_estimators_map_is_averaged_on_the_latent_grid():
    class One(nn.Module):
        config = dataclasses.replace(CONFIGS["pocket"], input_px=128)

        def forward(self, images: torch.Tensor) -> PoseMaps:
            half = torch.zeros(len(images), 17, 64, 64)
            half[:, 4, 10, 21] = 0.8
            return PoseMaps(half[..., ::2, ::2], half, half)

    vae = pocket_vae()
    settings = DiffusionSettings(heatmap_strength=5.0, heatmap_resolutions="half")
    guide = HeatmapWeighter(settings, Teacher(One(), vae))  # type: ignore[arg-type]
    weight = guide.weight(torch.randn(1, vae.config.latent_channels, 16, 16), ())
    expected = torch.ones(1, 1, 16, 16)
    expected[0, 0, 2, 5] = 1 + 5 * 0.8 / 16
    assert torch.allclose(weight, expected)


def published_weight(difference, vae, network, seeds):
    """Eq. 6 as the published code has it, from what the modules give: every step written out anew."""
    latents = difference / vae.config.scaling_factor + vae.config.shift_factor
    images = ((vae.decode(latents).sample + 1) / 2).clamp(0, 1)
    plain = HigherHRNet(
        dataclasses.replace(network.config, mean=(0.0,) * 3, std=(1.0,) * 3)
    )  # is given them as they are
    plain.load_state_dict(network.state_dict())
    maps = plain.eval()(2 * images - 1)
    side = maps.half.shape[2]
    wide = nn.Upsample(size=(side, side), mode="bilinear", align_corners=True)(maps.quarter)
    counted = ((wide + maps.half) / 2 <= 0.05).float().sum(1, keepdim=True).repeat(1, 3, 1, 1)
    large = nn.Upsample(size=images.shape[2:], mode="bicubic", align_corners=False)(counted)
    posterior = vae.encode(large).latent_dist
    noise = [torch.randn(1, *posterior.mean.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    sampled = posterior.mean + posterior.std * torch.cat(noise)
    return 1 + 0.1 * (sampled - vae.config.shift_factor) * vae.config.scaling_factor


def test_the_reference_weight_is_the_published_one_step_by_step():
    torch.manual_seed(3)
    vae, network = pocket_vae(scaling_factor=0.4, shift_factor=0.1).eval(), HigherHRNet(CONFIGS["pocket"])
    nn.init.normal_(network.final_layers[1].weight, std=0.05)  # says something
    difference, seeds = torch.randn(2, 8, 12, 12), (7, 8)  # images of 96 px, which are not what it was made for
    guide = ReferenceWeighter(Teacher(network, vae))
    with torch.no_grad():
        expected = published_weight(difference, vae, network.eval(), seeds)
    weight = guide.weight(difference, seeds)
    assert weight.shape == (2, 8, 12, 12)
    assert weight.std() > 0.01
    assert (weight - expected).abs().max() < 1e-4
    assert torch.equal(weight, guide.weight(difference, seeds))  # its noise is the sample's own
    assert not torch.allclose(weight, guide.weight(difference, (7, 9)))
    assert torch.allclose(weight[:1], guide.weight(difference[:1], (7,)), atol=1e-5)


def test_a_sample_s_posterior_noise_depends_on_its_index_alone(run):
    made = DiffusionTask(DiffusionSettings(**sources(run), method="humansd"))
    made.prepare(torch.device("cpu"))
    assert made.load(range(10, 14))["seeds"][2] == made.load(range(12, 13))["seeds"][0]
    assert len(set(made.load(range(50))["seeds"])) == 50


def test_a_head_learns_from_what_its_teacher_sees(run, tmp_path):
    estimator = estimator_that_says(0.5, tmp_path / "hrnet")
    task = HeadTask(HeadSettings(**sources(run), estimator=estimator))
    task.prepare(torch.device("cpu"))
    batch = task.load(range(2))
    error, numbers = task.loss(batch)  # of a head that sees nobody yet
    assert error.item() == pytest.approx(0.5**2 * (1 + 10 * 0.5), rel=1e-5)
    assert numbers == {"against_nothing": pytest.approx(1.0), "heat": pytest.approx(0.5)}
    nn.init.constant_(task.module.out.bias, 0.5)
    assert task.loss(batch)[0].item() == pytest.approx(0.0, abs=1e-9)


def test_what_guides_is_missing_or_does_not_fit_before_anything_is_written(run, tmp_path):
    guided = {**sources(run), "steps": "1", "batch_size": "2", "gradient_accumulation_steps": "1", "compile": "no"}
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="train one with `humansd train pocket-latent-heatmap`"):
        run_preset("pocket-finetune", guided, out)
    with pytest.raises(ValueError, match=r"reads latents of 4 channels, and the VAE of .* makes 8"):
        run_preset("pocket-finetune", {**guided, "head": head_that_says(0.5, tmp_path / "four", channels=4)}, out)
    other = {**guided, "loss": "heatmap"}
    with pytest.raises(OSError, match=r"there is no .*nowhere/config\.json; name the folder of a HigherHRNet"):
        run_preset("pocket-finetune", {**other, "estimator": str(tmp_path / "nowhere")}, out)
    for dry in (False, True):
        with pytest.raises(ValueError, match="loss = 'heatmap' needs a teacher, and estimator is empty: name"):
            run_preset("pocket-finetune", {**other, "estimator": ""}, out, dry)
        large = estimator_that_says(0.5, tmp_path / "large", input_px=512)
        with pytest.raises(ValueError, match="made for images of 512 px, and the model makes images of 256 px"):
            run_preset("pocket-finetune", {**other, "estimator": large}, out, dry)
    (tmp_path / "large" / "config.json").write_text(json.dumps({"dilations": [1]}))
    with pytest.raises(ValueError, match=r"config\.json is of no HigherHRNet .*dilations"):
        run_preset("pocket-finetune", {**other, "estimator": large}, out)
    assert not out.exists()


def test_another_head_is_another_run(run, tmp_path):
    guided = {**sources(run), "steps": "1", "batch_size": "2", "gradient_accumulation_steps": "1", "compile": "no"}
    head = {"head": head_that_says(0.5, tmp_path / "head"), "log_images_minutes": "0"}
    run_preset("pocket-finetune", guided | head, tmp_path / "out")
    run_preset("pocket-finetune", guided | head, tmp_path / "out")
    head_that_says(0.25, tmp_path / "head")
    with pytest.raises(ValueError, match="guide_weights was"):
        run_preset("pocket-finetune", guided | head, tmp_path / "out")
    shipped = {**guided, "loss": "heatmap", "log_images_minutes": "0"}
    run_preset("pocket-finetune", shipped, tmp_path / "shipped")
    config = json.loads((tmp_path / "shipped" / "config.json").read_text())
    assert config["guide_weights"] == weights_digest(SHIPPED / "higherhrnet")
    assert config["estimator"] == "pocket"


@pytest.mark.parametrize(
    ("preset", "overrides", "said"),
    [
        (
            "pocket-humansd",
            {"loss": "ldm", "mask_strength": "5"},
            "loss = 'ldm' does not read it; read by skeleton-mask",
        ),
        (
            "pocket-humansd",
            {"heatmap_sum": "true"},
            "loss = 'skeleton-mask' does not read it; read by heatmap, latent-heatmap",
        ),
        ("pocket-finetune", {"loss": "reference", "weight_mean_one": "true"}, "loss = 'reference' does not read it"),
    ],
)
def test_a_setting_that_the_loss_does_not_read_is_refused(run, tmp_path, preset, overrides, said):
    with pytest.raises(ValueError, match=f"has no effect, since {said}"):
        run_preset(preset, {**sources(run), **overrides}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_head_does_not_read_is_no_setting_of_it(run, tmp_path):
    with pytest.raises(ValueError, match="--set min_snr_gamma: no such setting; known: steps"):
        run_preset("pocket-latent-heatmap", {**sources(run), "min_snr_gamma": "3"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_pose_there_is_nobody_to_leave_unweighted():
    with pytest.raises(ValueError, match="weigh_unposed = False: must be true where method is sd"):
        DiffusionSettings(weigh_unposed=False)
    assert not DiffusionSettings(weigh_unposed=False, method="humansd").weigh_unposed
