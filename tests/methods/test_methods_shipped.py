"""The rows of table 1: each begins at its base, learns what it should, travels as a folder and looks at poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel

from humansd.checkpoints.original_format import SD1
from humansd.cli import main
from humansd.methods.joint_maps import JOINTS, SLOTS, joint_maps
from humansd.methods.t2i_adapter import Adapter
from humansd.methods.table import METHODS, find_method
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pose.people import People
from humansd.training.tasks.diffusion_networks import frozen_but
from tiny_pipeline import CAPTIONS, SIZE, standing, tiny_components

POSED = [name for name, method in METHODS.items() if method.reads_pose]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    parts = tiny_components(widened=False)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    plain_pipeline(*(parts[name] for name in names)).save_pretrained(folder)
    return folder


def drawn(pipe, pose, **options) -> np.ndarray:
    usual = {"seed": 1, "num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "np"}
    return pipe(CAPTIONS[0], pose, **{**usual, **options}).images


def stirred(pipe) -> None:
    """Random weights in the place of the zeros with which a method begins."""
    method = pipe.method
    torch.manual_seed(2)
    for parameter in method.learns(pipe.networks).parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    if method.name == "gligen":  # its tokens tell little of a place before they have learnt to
        for parameter in pipe.unet.position_net.mlp.parameters():
            parameter.data *= 8
    if pipe.unet.config.in_channels > pipe.vae.config.latent_channels:
        torch.nn.init.normal_(pipe.unet.conv_in.weight[:, pipe.vae.config.latent_channels :].data, std=0.3)


@pytest.mark.parametrize("name", POSED)
def test_step_0_is_the_base(base, name):
    plain = drawn(HumanSDPipeline.from_base(base, method="sd"), None)
    pipe = HumanSDPipeline.from_base(base, method=name)
    start = drawn(pipe, standing())
    if isinstance(pipe.method, Adapter):  # their network does not begin with zeros
        assert np.abs(start - plain).max() > 1e-3
    else:
        assert np.abs(start - plain).max() < 1e-5


@pytest.mark.parametrize("name", POSED)
def test_poses_matter_and_a_folder_brings_them_back(base, name, tmp_path):
    pipe = HumanSDPipeline.from_base(base, method=name)
    stirred(pipe)
    one, other, nobody = (drawn(pipe, pose) for pose in (standing(), standing(shift=3.0), None))
    assert np.abs(one - other).max() > 2e-4
    assert np.abs(one - nobody).max() > 2e-4
    pipe.save_pretrained(tmp_path / "model")
    again = HumanSDPipeline.from_pretrained(tmp_path / "model")
    assert again.method.name == name
    assert np.array_equal(drawn(again, standing()), one)
    three = {"pose_guidance_scale": 2.0, "guidance_scale": 3.0}
    batch = drawn(again, [standing(), None], num_images_per_prompt=1, **three)
    assert batch.shape == (2, SIZE, SIZE, 3)
    assert np.abs(batch[0] - drawn(again, standing(), **three)[0]).max() < 2e-3


@pytest.mark.parametrize("name", POSED)
def test_what_learns(base, name):
    pipe = HumanSDPipeline.from_base(base, method=name)
    before = {key: value.clone() for key, value in pipe.unet.state_dict().items()}
    method, networks = pipe.method, pipe.networks
    learns = frozen_but(networks, method.learns(networks))
    pose = method.condition([standing(), None], (SIZE, SIZE), method.draw_style)
    noisy, text = torch.randn(2, 3, 8, 8), torch.randn(2, 12, 16)
    given = method.unet_inputs(networks, noisy, torch.tensor([10, 900]), text, method.encode(networks, pose))
    networks.unet(**given).sample.square().mean().backward()
    torch.optim.SGD(learns.parameters(), 1.0).step()
    same = [key for key, value in networks.unet.state_dict().items() if torch.equal(value, before[key])]
    if name in ("humansd", "joint-maps"):
        assert "conv_in.weight" not in same
    elif name == "gligen":
        assert all(("fuser" in key or "position_net" in key) for key in before if key not in same)
        assert len(same) < len(before)
    else:
        assert len(same) == len(before)
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in learns.parameters())


def test_published_sizes():
    """lllyasviel's ControlNets have 361,279,120 parameters, TencentARC's full T2I-Adapters 77,369,280."""
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(in_channels=4, **SD1.unet), AutoencoderKL(**SD1.vae)
        sizes = {}
        for name in ("controlnet", "t2i-adapter", "gligen", "joint-maps", "humansd"):
            method = find_method(name)
            networks = method.build(unet, vae)
            sizes[name] = sum(one.numel() for one in method.learns(networks).parameters())
    assert sizes["controlnet"] == 361_279_120
    assert sizes["t2i-adapter"] == 77_369_280
    plain = sum(one.numel() for one in unet.parameters())
    assert sizes["humansd"] == plain + 320 * 4 * 9
    assert sizes["joint-maps"] == plain + 320 * SLOTS * (JOINTS + 1) * 9


def test_controlnet_draws_what_diffusers_own_pipeline_draws(base):
    pipe = HumanSDPipeline.from_base(base, method="controlnet")
    stirred(pipe)
    assert isinstance(pipe.pose_network, ControlNetModel)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    theirs = StableDiffusionControlNetPipeline(
        **{name: getattr(pipe, name) for name in names},
        controlnet=pipe.pose_network,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    control = pipe.method.condition([standing()], (SIZE, SIZE), pipe.style)
    generator = torch.Generator().manual_seed(1)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "latent"}
    wanted = theirs(CAPTIONS[0], image=control, generator=generator, **options).images
    assert (drawn(pipe, standing(), **options) - wanted).abs().max() < 1e-4


def test_the_slots_of_joint_maps():
    """The largest person has the first slot, the third and the fourth share the last."""
    size = (64, 64)
    everyone = [standing((8 * k, 8 * k)) for k in (2, 8, 4, 3)]
    xy = np.concatenate([one.xy for one in everyone])
    maps = joint_maps(People.of(xy, size), size).reshape(SLOTS, JOINTS + 1, 16, 16)
    for slot, people in enumerate(([1], [2], [3, 0])):
        for joint in range(JOINTS):
            for person in people:
                x, y = (everyone[person].xy[0, joint] / 4).clip(0, 15).round().astype(int)
                assert maps[slot, joint, y, x] > 0.5
    assert (maps[:, JOINTS].reshape(SLOTS, -1).sum(axis=1) > 0).all()
    assert not joint_maps(None, size).any()
    with pytest.raises(ValueError, match="joint-maps reads key points"):
        joint_maps(np.zeros((64, 64, 3), np.uint8), size)


def test_what_an_image_costs_is_printed(capsys):
    command = [
        "benchmark",
        "inference",
        "--method",
        "joint-maps",
        "--method",
        "humansd",
        "--turns",
        "1",
        "--steps",
        "4",
    ]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["sd", "joint-maps", "humansd"]
    assert lines[2].endswith("| 1.000 | 1.000 |")
    assert main(["benchmark", "inference", "--method", "nothing"]) == 2
    assert "choose one of sd" in capsys.readouterr().err
