"""The whole pocket recipe on six images and two steps a stage, with the real classes and sizes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from humansd.data import write_shards
from humansd.inference.pretrained import load_pipeline
from humansd.models.estimators import load_estimator
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.training.run import run_preset
from shard_makers import make

STAGES = ("vae", "clip", "base", "humansd", "head", "finetune", "one_branch", "four_steps", "tiny_decoder")
OVERRIDES = {"vae.mixed_precision": "bf16", "clip.mixed_precision": "no"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("humansd.training.tasks.previews.PREVIEWS", 2)
        patch.setattr("humansd.training.tasks.previews.PREVIEW_STEPS", 2)
        patch.setattr("humansd.training.tasks.estimators.CALIBRATION_BATCHES", 2)
        run_preset("tiny", OVERRIDES | {"humansd.log_images_minutes": "0.0001"}, folder)
    return folder


def test_the_finished_folder_is_a_pipeline(run):
    pipeline = HumanSDPipeline.from_pretrained(run / "pocket")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("photo, a man", People.empty((256, 256)), num_inference_steps=2, seed=0).images[0]
    assert image.size == (256, 256)
    assert pipeline.unet.config.in_channels == 2 * pipeline.vae.config.latent_channels
    assert pipeline.vae.config.scaling_factor != 1.0  # measured, not assumed


def test_the_card_and_the_log_tell_what_was_done(run):
    card = (run / "pocket" / "README.md").read_text()
    assert "| unet | UNet2DConditionModel | 11.0" in card
    stages = json.loads((run / "pocket" / "training.json").read_text())["stages"]
    assert {name: stage["samples"] for name, stage in stages.items()} == dict.fromkeys(STAGES, 4)
    assert len(list((run / "humansd" / "previews").glob("*.png"))) == 2


@pytest.mark.parametrize("name", ["higherhrnet", "centernet"])
def test_the_estimators_of_the_recipe_find_and_have_their_cards(run, name):
    folder = run / "estimators" / name
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert "4 samples" in (folder / "README.md").read_text()
    found = load_estimator(name, str(folder)).detect([np.zeros((128, 128, 3), np.uint8)])
    assert found[0].canvas == (128, 128)


def test_judge_and_last_stages_learn_from_other_images(run):
    folders = (run, run / "held_out_data", run / "finetune_data")
    manifests = [json.loads((folder / "shards" / "manifest.json").read_text()) for folder in folders]
    assert len({one["settings"]["seed"] for one in manifests}) == 3
    assert len({one["shards"][0]["sha256"] for one in manifests}) == 3


def test_the_model_that_ships_learnt_on_from_humansd(run):
    config = json.loads((run / "finetune" / "config.json").read_text())
    assert config["estimator"] == str((run / "higherhrnet" / "export").resolve())  # this run's, should the loss ask one
    assert config["base_model"] == str((run / "humansd" / "export").resolve())
    assert config["head"] == str((run / "head" / "export").resolve())
    ships = load_file(run / "pocket" / "unet" / "diffusion_pytorch_model.safetensors")
    learnt = load_file(run / "finetune" / "export" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(ships[name], tensor.half()) for name, tensor in learnt.items())


def test_what_ships_draws_with_one_branch_and_has_four_steps_with_a_small_decoder(run):
    pipeline = load_pipeline(str(run / "pocket"), "cpu")
    assert (pipeline.variant, pipeline.guidance.text, pipeline.tiny_decoder) == ("one-branch", 1.0, None)
    few = load_pipeline(str(run / "pocket"), "cpu", variant="four-steps")
    few.set_progress_bar_config(disable=True)
    assert few.tiny_decoder is not None
    assert few("photo, a man", People.empty((256, 256)), seed=0).images[0].size == (256, 256)
    for name in ("one-branch", "four-steps"):
        assert (run / "pocket" / "variants" / f"{name}.safetensors").stat().st_size < 3_000_000
    config = json.loads((run / "four_steps" / "config.json").read_text())
    assert config["teacher_lora"] == str((run / "one_branch" / "export").resolve())
    assert config["base_model"] == str((run / "finetune" / "export").resolve())


def test_what_ships_names_no_path_of_this_machine(run):
    for path in (run / "pocket").rglob("*.json"):
        assert str(run.parent) not in path.read_text()


def test_the_same_command_again_changes_nothing(run):
    weights = run / "pocket" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    run_preset("tiny", OVERRIDES, run)
    assert weights.read_bytes() == before


def test_dry_run_prints_settings_and_writes_nothing(tmp_path):
    told = json.loads(run_preset("pocket", {"humansd.steps": "7"}, tmp_path / "none", dry_run=True))
    assert told["settings"]["humansd"]["steps"] == 7
    assert told["memory"].keys() == {*STAGES, "higherhrnet", "centernet"}
    assert all(one["gb"]["total"] > one["gb"]["activations"] > 0 for one in told["memory"].values())
    assert not (tmp_path / "none").exists()


def test_a_stage_without_data_says_what_to_name():
    with pytest.raises(ValueError, match="--set data=FOLDER"):
        run_preset("humansd-sd15", {})


def test_humansd_without_a_base_says_what_to_name(tmp_path):
    write_shards(make, 4, tmp_path, per_shard=4, workers=1, progress=False)
    with pytest.raises(ValueError, match="base_model is empty; name a diffusers folder"):
        run_preset("pocket-humansd", {"data": str(tmp_path)})


def test_an_unfinished_stage_stops_the_recipe_and_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"vae: stopped at step 1 of 2 .* same command again"):
        run_preset("tiny", {"vae.max_minutes": "1e-9"}, tmp_path)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match=r"mine: no such preset; known: pocket, .*humansd-sd15"):
        run_preset("mine", {})
    with pytest.raises(ValueError, match=r"pocket-humansdd: no such preset; did you mean pocket-humansd\?$"):
        run_preset("pocket-humansdd", {})
