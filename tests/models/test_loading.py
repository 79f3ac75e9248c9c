"""Every component's weights are all there, none too many, each of its shape: nothing is drawn with random numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from test_data_image_cache import make as make_square

from humansd.checkpoints.original_format import SD1, SD2
from humansd.data.shards import write_shards
from humansd.models.errors import ModelError
from humansd.models.loading import check_types
from humansd.pipelines import HumanSDPipeline
from humansd.pipelines.scheduler_names import SCHEDULERS
from humansd.pipelines.schedulers import make_scheduler
from humansd.pipelines.single_file import folder_to_checkpoint
from humansd.training.settings import DiffusionSettings
from humansd.training.tasks.diffusion import DiffusionTask
from tiny_pipeline import tiny_components

FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture
def folder(tmp_path):
    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    place = tmp_path_factory.mktemp("shards")
    write_shards(make_square, 2, place, per_shard=2, workers=1, progress=False)
    return place


def change(folder, part, how):
    """Rewrites the weights of a part through `how`; returns the name of the weight in its middle."""
    file = folder / part / FILES[part]
    state = load_file(file)
    name = sorted(key for key in state if key.endswith("weight"))[len(state) // 4]
    save_file(how(state, name), file, metadata={"format": "pt"})
    (folder / "digests.json").unlink()  # as in a folder that another program wrote
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
def test_weights_that_do_not_fit_are_refused(folder, shards, part, how, message):
    """By who draws, converts and trains."""
    name = change(folder, part, how)
    with pytest.raises(ValueError, match=f"{folder.name}/{part}: not the weights of this") as caught:
        HumanSDPipeline.from_pretrained(folder)
    text = str(caught.value)
    assert message in text, text
    assert name in text or how is with_more, text
    assert "\n" not in text
    with pytest.raises(ValueError, match=f"{folder.name}/{part}: not the weights of this"):
        folder_to_checkpoint(folder, folder / "m.safetensors")
    settings = DiffusionSettings(data=str(shards), base_model=str(folder), method="humansd")
    with pytest.raises(ValueError, match=f"{folder.name}/{part}: not the weights of this"):
        DiffusionTask(settings)


@pytest.mark.parametrize("part", FILES)
def test_weights_cut_short_are_refused(folder, part):
    file = folder / part / FILES[part]
    file.write_bytes(file.read_bytes()[:-100])
    (folder / "digests.json").unlink()
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
    (folder / "digests.json").unlink()
    with pytest.raises(ValueError, match="unet is a UNet9DModel, which this diffusers does not have"):
        HumanSDPipeline.from_pretrained(folder)


# -- the folder's own list ------------------------------


def flip(file, place=0.6):
    data = bytearray(file.read_bytes())
    data[int(len(data) * place)] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("part", FILES)
def test_a_flipped_bit_of_the_weights_is_found(folder, part):
    flip(folder / part / FILES[part])
    with pytest.raises(ValueError, match=f"{part}/{FILES[part]}: is not what it was when the folder was written"):
        HumanSDPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    "name",
    ["unet/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "model_index.json"],
)
def test_so_is_a_changed_setting(folder, name):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {"guidance": {"text": 9.0}, "norm_eps": 0.1}))
    with pytest.raises(ValueError, match=f"{name}: is not what it was.*delete .*digests.json if you changed it"):
        HumanSDPipeline.from_pretrained(folder)
    (folder / "digests.json").unlink()
    if name == "model_index.json":
        assert HumanSDPipeline.from_pretrained(folder).guidance.text == 9.0


def test_files_gone_or_added_are_named(folder):
    config = folder / "vae" / "config.json"
    kept = config.read_bytes()
    config.unlink()
    with pytest.raises(ValueError, match=r"vae/config\.json: is missing"):
        HumanSDPipeline.from_pretrained(folder)
    config.write_bytes(kept)
    added = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    added.write_text("{}")
    with pytest.raises(ValueError, match="was added since the folder was written"):
        HumanSDPipeline.from_pretrained(folder)
    added.unlink()
    (folder / "README.md").write_text("mine")  # beside the parts everybody may write
    (folder / "progress.json").write_text("{}")
    HumanSDPipeline.from_pretrained(folder)


def test_what_trains_on_a_folder_finds_it_too(folder):
    from diffusers import AutoencoderKL

    from humansd.models.loading import load_part

    flip(folder / "vae" / FILES["vae"])
    with pytest.raises(ValueError, match="is not what it was"):
        load_part(AutoencoderKL, folder, "vae")
    load_part(type(tiny_components()["unet"]), folder, "unet")  # the others are as they were


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"/etc/passwd": "0"}', '{"unet/../../x": "0", "model_index.json": "0"}']
)
def test_a_damaged_list(folder, text):
    (folder / "digests.json").write_text(text)
    with pytest.raises(ValueError, match=r"digests\.json: is damaged"):
        HumanSDPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("unet/config.json", "norm_eps", {}, r"unet/config\.json: norm_eps is '\{\}', not float"),
        ("unet/config.json", "flip_sin_to_cos", "0", "flip_sin_to_cos is '0', not bool"),
        ("unet/config.json", "attention_head_dim", [2, "2"], "attention_head_dim"),
        ("vae/config.json", "scaling_factor", [0.7], r"vae/config\.json: scaling_factor is '\[0\.7\]', not float"),
        ("vae/config.json", "scaling_factor", 0.0, "vae.scaling_factor is 0.0"),
        ("vae/config.json", "shift_factor", float("nan"), "shift_factor"),
        ("tokenizer/tokenizer_config.json", "model_max_length", "12", "model_max_length is '12'"),
        ("tokenizer/tokenizer_config.json", "model_max_length", float("nan"), "model_max_length is 'nan'"),
        ("scheduler/scheduler_config.json", "timestep_spacing", "t{railing", "cannot make 10 timesteps"),
    ],
)
def test_a_setting_of_another_type_is_refused_before_anything_is_drawn(folder, name, key, value, message):
    (folder / "digests.json").unlink()
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelError, match=message):
        HumanSDPipeline.from_pretrained(folder)


@pytest.mark.parametrize("layout", [SD1, SD2], ids=["sd1", "sd2"])
def test_the_settings_of_stable_diffusion_are_of_the_right_types(layout):
    for kind, values in ((UNet2DConditionModel, layout.unet), (AutoencoderKL, layout.vae)):
        with torch.device("meta"):
            full = dict(kind.from_config(values).config)
        check_types(json.loads(json.dumps(full)), kind, Path("config.json"))
        check_types(dict.fromkeys(full), kind, Path("config.json"))  # null, as published files have it


def test_a_folder_with_every_usable_scheduler_loads(tmp_path):
    """diffusers saves "no limit" as -Infinity."""
    for name in set(SCHEDULERS) - {"dpm-sde"}:  # which needs a package of its own
        parts = tiny_components()
        HumanSDPipeline(**{**parts, "scheduler": make_scheduler(name, parts["scheduler"])}).save_pretrained(tmp_path)
        assert type(HumanSDPipeline.from_pretrained(tmp_path).scheduler) is type(
            make_scheduler(name, parts["scheduler"])
        )
