"""The hinge: a way of conditioning is one object; trainer, memory, folder, generation and evaluation know no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import nn

from humansd.cli import main
from humansd.data import Sample, write_shards
from humansd.data.sample import Sample as AnySample
from humansd.methods.protocol import Networks
from humansd.methods.table import METHODS, find_method
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pose.maps import person_mask
from humansd.pose.render import HUMANSD_STYLE
from humansd.training.loop import train
from humansd.training.memory import estimate_memory
from humansd.training.settings import DiffusionSettings
from humansd.training.tasks.diffusion import DiffusionTask
from tiny_pipeline import CAPTIONS, SIZE, standing, tiny_components

COUNT = 24


class WhereNetwork(ModelMixin, ConfigMixin):
    """People's places, (n, 1, h, w) -> something to add to the UNet's first features."""

    @register_to_config
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return self.conv(places)


class Where:
    """A throw-away method: where people are is added to what the UNet's skip connections carry."""

    name, network, unet_class = "where", WhereNetwork, UNet2DConditionModel
    draw_style, reads_pose, latent_drawing = HUMANSD_STYLE, True, False

    def unet_channels(self, latent_channels):
        return latent_channels

    def build(self, unet, vae):
        return Networks(unet, vae, WhereNetwork(unet.config.block_out_channels[0]))

    def check(self, networks):
        pass

    def learns(self, networks):
        return nn.ModuleDict({"unet": networks.unet, "pose": networks.pose_network})

    def condition(self, poses, size, style):
        small = (size[0] // 2, size[1] // 2)
        masks = [np.zeros(small[::-1]) if one is None else person_mask(one.fit(*small), small) > 0 for one in poses]
        return torch.from_numpy(np.stack(masks).astype(np.float32))[:, None]

    def encode(self, networks, condition):
        own = next(networks.pose_network.parameters())
        return (networks.pose_network(condition.to(own.dtype)),)

    def dropped(self, networks, size):
        return None

    def unet_inputs(self, networks, noisy, timestep, text, pose):
        blocks = len(networks.unet.config.down_block_types) * (networks.unet.config.layers_per_block + 1)
        nothing = pose[0].new_zeros(())
        return {
            "sample": noisy,
            "timestep": timestep,
            "encoder_hidden_states": text,
            "down_block_additional_residuals": (pose[0], *[nothing] * (blocks - 1)),
            "mid_block_additional_residual": nothing,
        }


def sample(index: int) -> AnySample:
    """Black, and white where the person is, who stands left or right."""
    people = standing((SIZE, SIZE), shift=-4.0 if index % 2 else 4.0)
    image = np.repeat((person_mask(people, (SIZE, SIZE)) > 0)[..., None], 3, axis=2).astype(np.uint8) * 255
    return Sample(f"s{index:03d}", image, CAPTIONS[0], people, "photo", "test", "CC0-1.0", {})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    parts = tiny_components(widened=False)
    plain_pipeline(
        *(parts[name] for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler"))
    ).save_pretrained(folder / "base")
    write_shards(sample, COUNT, folder / "shards", per_shard=COUNT, workers=1, progress=False)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    return folder


@pytest.fixture
def where(monkeypatch):
    monkeypatch.setitem(METHODS, "where", Where())


def settings(place: Path, method: str, **changes) -> DiffusionSettings:
    quick = {"steps": 250, "batch_size": 16, "learning_rate": 1e-2, "device": "cpu", "report_to": "none"}
    given = {
        "data": str(place / "shards"),
        "base_model": str(place / "base"),
        "min_snr_gamma": 0.0,
        "text_dropout": 0.0,
    }
    return DiffusionSettings(method=method, log_images_minutes=0.0, **given, **{**quick, **changes})


def error(task: DiffusionTask, shuffled: bool) -> float:
    """The mean error over the data; with `shuffled` everybody is given a pose that is not theirs."""
    batch = task.load(range(1000, 1064))
    if shuffled:
        batch["pose"] = batch["pose"].roll(1, 0)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        return float(task.loss(batch)[0])


def test_a_method_is_one_object(place, where, tmp_path, capsys):
    task = DiffusionTask(settings(place, "where", pose_dropout=0.1))
    train(task, tmp_path / "run")

    assert error(task, False) < 0.9 * error(task, True)

    told = estimate_memory(settings(place, "where"))
    assert told["gb"]["total"] > 0
    folder = tmp_path / "run" / "export"
    pipe = HumanSDPipeline.from_pretrained(folder)
    assert (pipe.method.name, type(pipe.pose_network)) == ("where", WhereNetwork)
    left, right, nobody = (
        pipe(CAPTIONS[0], pose, seed=1, num_inference_steps=4, guidance_scale=1.0, output_type="np").images[0]
        for pose in (standing(shift=-4.0), standing(shift=4.0), None)
    )
    assert np.abs(left - right).max() > 0.02
    assert np.abs(left - nobody).max() > 0.02
    three = {"num_inference_steps": 1, "guidance_scale": 2.0, "pose_guidance_scale": 2.0, "output_type": "np"}
    both = pipe(CAPTIONS[0], [standing(shift=-4.0), None], seed=1, **three).images
    assert both.shape == (2, SIZE, SIZE, 3)

    given = ["--model", str(folder), "--data", str(place / "shards"), "--out", str(tmp_path / "scores"), "--steps", "1"]
    given += [
        "--estimator",
        f"centernet={place / 'centernet'}",
        "--timing-runs",
        "0",
        "--device",
        "cpu",
        "--clip",
        "none",
    ]
    assert main(["evaluate", *given]) == 0, capsys.readouterr().err
    assert (tmp_path / "scores" / "results.json").exists()


def test_a_folder_whose_network_is_not_its_methods_is_refused(place, where, tmp_path):
    task = DiffusionTask(settings(place, "where"))
    task.export(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    for old, new in (("WhereNetwork", "UNet2DConditionModel"), ('"method": "where"', '"method": "humansd"')):
        broken = index.read_text()
        assert old in broken
        index.write_text(broken.replace(old, new))
        (tmp_path / "model" / "digests.json").unlink(missing_ok=True)
        with pytest.raises(ValueError, match="pose_network is a"):
            HumanSDPipeline.from_pretrained(tmp_path / "model")
        index.write_text(broken)


def test_unknown_methods_are_named(place):
    with pytest.raises(ValueError, match="method = 'nothing' is not known; choose one of sd, gligen"):
        find_method("nothing")
    with pytest.raises(ValueError, match="method = 'nothing' is not known"):
        DiffusionTask(settings(place, "nothing"))


def test_stable_diffusion_looks_at_no_pose(place):
    pipe = HumanSDPipeline.from_base(place / "base", method="sd")
    options = {"seed": 1, "num_inference_steps": 2, "output_type": "np"}
    assert np.array_equal(pipe(CAPTIONS[0], standing(), **options).images, pipe(CAPTIONS[0], **options).images)
    wide = HumanSDPipeline.from_base(place / "base")  # at step 0 HumanSD is its base
    assert np.abs(wide(CAPTIONS[0], standing(), **options).images - pipe(CAPTIONS[0], **options).images).max() < 1e-4
