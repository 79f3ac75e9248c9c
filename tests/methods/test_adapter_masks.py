"""The adapter of person masks: what it is shown, its images, and how it goes together with an adapter of key points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from humansd.cli import main
from humansd.inference.pretrained import load_pipeline
from humansd.methods.dual_adapter import Weighted, load_adapters
from humansd.methods.table import find_method
from humansd.pipelines.plain import plain_pipeline
from humansd.pose.maps import person_mask
from humansd.pose.people import People
from humansd.pose.render import MASKS_STYLE, draw_people
from humansd.training.settings import DiffusionSettings
from tiny_pipeline import CAPTIONS, SIZE, standing, tiny_components

MIX = "t2i-adapter+t2i-adapter-masks"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """base: a plain model. pose, mask: two adapters for it, each saying something else."""
    folder = tmp_path_factory.mktemp("masks")
    parts = tiny_components(widened=False)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    plain_pipeline(*(parts[name] for name in names)).save_pretrained(folder / "base")
    for seed, (name, method) in enumerate((("pose", "t2i-adapter"), ("mask", "t2i-adapter-masks"))):
        torch.manual_seed(seed)
        network = find_method(method).build(parts["unet"], parts["vae"]).pose_network
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.1 * torch.randn_like(value))
        network.save_pretrained(folder / name)
    return folder


def test_people_are_white_on_black_where_their_mask_is():
    two = People.of(np.concatenate([standing((32, 32)).xy + 2, standing((32, 32)).xy + np.array([50, 20])]), (96, 64))
    image = draw_people(two, MASKS_STYLE)
    assert np.array_equal(image, np.repeat((person_mask(two, (96, 64)) > 0)[..., None], 3, axis=2) * np.uint8(255))
    assert 0 < image.mean() < 128
    doubted = replace(two, score=np.stack([two.score[0], np.full(17, 0.01)]))
    assert np.array_equal(draw_people(doubted, MASKS_STYLE), draw_people(two.select([0]), MASKS_STYLE))
    shown = find_method("t2i-adapter-masks").condition([two, None], (96, 64), MASKS_STYLE)
    assert torch.allclose(shown[0], torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert not shown[1].any()


def test_an_image_is_drawn_of_key_points_or_of_a_mask_image_as_it_is(place, tmp_path, capsys):
    person = standing((SIZE, SIZE))
    (tmp_path / "pose.json").write_text(json.dumps(person.to_json()))
    mask = draw_people(person, MASKS_STYLE)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    command = ["generate", CAPTIONS[0], "--model", str(place / "base"), "--method", "t2i-adapter-masks", "--steps", "2"]
    command += ["--n", "1", "--seed", "3", "--pose-network", str(place / "mask")]
    given = ["--pose", str(tmp_path / "mask.png"), "--pose-kind", "skeleton"]
    assert main([*command, "--pose", str(tmp_path / "pose.json"), "--out", str(tmp_path / "a")]) == 0
    assert main([*command, *given, "--out", str(tmp_path / "b")]) == 0
    assert "used as it is" in capsys.readouterr().err
    first, second = (
        np.asarray(Image.open(next((tmp_path / out).glob(f"{name}*.png"))))
        for out, name in (("a", "pose"), ("b", "mask"))
    )
    assert np.array_equal(first, second)
    pipe = load_pipeline(str(place / "base"), "cpu", method="t2i-adapter-masks", pose_network=str(place / "mask"))
    options = {"seed": 3, "num_inference_steps": 2, "output_type": "np"}
    one, other = (pipe(CAPTIONS[0], pose, **options).images for pose in (person, standing(shift=4.0)))
    assert np.abs(one - other).max() > 1e-3


def test_a_mix_shows_each_adapter_its_own_drawing_and_adds_by_weight(place):
    method = find_method(MIX)
    pipe = load_pipeline(
        str(place / "base"), "cpu", method=MIX, pose_network=f"{place / 'pose'}=0.7,{place / 'mask'}=0.3"
    )
    assert isinstance(pipe.pose_network, Weighted)
    poses, size = [standing(), None], (SIZE, SIZE)
    told = method.encode(pipe.networks, method.condition(poses, size, pipe.style))
    alone = []
    with torch.no_grad():
        for name, kind in (("pose", "t2i-adapter"), ("mask", "t2i-adapter-masks")):
            own = find_method(kind)
            alone.append(load_adapters(str(place / name), torch.float32)(own.condition(poses, size, own.draw_style)))
    for found, one, other in zip(told, *alone, strict=True):
        assert torch.allclose(found, 0.7 * one + 0.3 * other, atol=1e-5)
    options = {"seed": 3, "num_inference_steps": 2, "output_type": "np"}
    mixed = pipe(CAPTIONS[0], standing(), **options).images
    assert np.abs(mixed - pipe(CAPTIONS[0], standing(shift=4.0), **options).images).max() > 1e-3
    only = load_pipeline(str(place / "base"), "cpu", method=MIX, pose_network=f"{place / 'pose'}=1,{place / 'mask'}=0")
    plain = load_pipeline(str(place / "base"), "cpu", method="t2i-adapter", pose_network=str(place / "pose"))
    same = [one(CAPTIONS[0], standing(), **options).images for one in (only, plain)]
    assert np.abs(same[0] - same[1]).max() < 1e-5
    assert np.abs(same[0] - mixed).max() > 1e-3


def test_a_mix_that_cannot_be_is_refused(place):
    with pytest.raises(ValueError, match=f"method {MIX.replace('+', '.')}: needs 2 networks in this order"):
        load_pipeline(str(place / "base"), "cpu", method=MIX, pose_network=f"{place / 'pose'}=0.5")
    with pytest.raises(ValueError, match="only T2I-Adapters add up"):
        find_method("t2i-adapter+controlnet")
    with pytest.raises(ValueError, match="method = 'x' is not known"):
        find_method("t2i-adapter+x")
    with pytest.raises(ValueError, match="several drawings of key points, and an image has none"):
        find_method(MIX).condition([np.zeros((SIZE, SIZE, 3), np.uint8)], (SIZE, SIZE), MASKS_STYLE)
    with pytest.raises(ValueError, match="must be one; adapters are mixed when an image is drawn"):
        DiffusionSettings(method=MIX)
