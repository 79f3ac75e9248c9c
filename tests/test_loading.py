"""Every component's weights are all there, none too many, each of its shape: nothing is drawn with random numbers."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from humansd.pipelines import HumanSDPipeline
from tiny_pipeline import tiny_parts

FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture
def folder(tmp_path):
    HumanSDPipeline(**tiny_parts()).save_pretrained(tmp_path)
    return tmp_path


def change(folder, part, how):
    """Rewrites the weights of a part through `how`; returns the name of the weight in its middle."""
    file = folder / part / FILES[part]
    state = load_file(file)
    name = sorted(key for key in state if key.endswith("weight"))[len(state) // 4]
    save_file(how(state, name), file, metadata={"format": "pt"})
    return name


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


def with_more(state, name):
    return {**state, "something.more.weight": torch.zeros(2)}


def of_other_shape(state, name):
    return {**state, name: torch.zeros(3, 5)}


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize(
    ("how", "message"), [(without, "missing"), (with_more, "left over"), (of_other_shape, "shape")]
)
def test_weights_that_do_not_fit_are_refused(folder, part, how, message):
    name = change(folder, part, how)
    with pytest.raises(ValueError, match=f"{folder.name}/{part}: not the weights of this") as caught:
        HumanSDPipeline.from_pretrained(folder)
    text = str(caught.value)
    assert message in text, text
    assert name in text or how is with_more, text
    assert "\n" not in text


@pytest.mark.parametrize("part", FILES)
def test_weights_cut_short_are_refused(folder, part):
    file = folder / part / FILES[part]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises((ValueError, OSError)) as caught:
        HumanSDPipeline.from_pretrained(folder)
    assert part in str(caught.value)


def test_two_loads_are_one_model(folder):
    first, second = (HumanSDPipeline.from_pretrained(folder) for _ in range(2))
    for part in FILES:
        ours, theirs = (getattr(pipe, part).state_dict() for pipe in (first, second))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_class_that_is_not_there_is_named(folder):
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"unet": ["diffusers", "UNet9DModel"]}))
    with pytest.raises(ValueError, match="unet is a UNet9DModel, which this diffusers does not have"):
        HumanSDPipeline.from_pretrained(folder)
