"""One change of the training after the other, by command, at tiny size."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline

from humansd.cli import main
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.reproduce.ablation import ROWS, AblationSettings
from humansd.synthetic.dataset import write_atelier
from tiny_pipeline import FACTOR, tiny_components

pytestmark = pytest.mark.usefixtures("few_draws")
SIDE = 64


def test_every_row_learns_from_one_start_and_stands_beside_the_plain_one(tmp_path, capsys):
    parts = tiny_components(widened=False)
    parts["unet"].register_to_config(sample_size=SIDE // FACTOR)
    extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionPipeline(**parts, **extras).save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(tmp_path / "centernet")
    write_atelier(tmp_path / "shards", 3, size=SIDE, seed=9, workers=1, progress=False)
    out = tmp_path / "out"
    command = ["reproduce", "ablation", "--base-model", str(tmp_path / "base"), "--data", str(tmp_path / "shards")]
    command += ["--test", str(tmp_path / "shards"), "--out", str(out), "--samples", "2", "--poses", "2"]
    command += ["--held-out", f"centernet={tmp_path / 'centernet'}", "--sampling-steps", "2", "--set", "batch_size=2"]
    command += ["--set", "compile=no", "--set", "log_images_minutes=0", "--set", "mixed_precision=no"]
    assert main([*command, "--row", "plain", "--row", "aligned", "--row", "muon"]) == 0
    page = capsys.readouterr().out
    assert "| aligned | align_weight=0.5 |" in page
    assert "| muon | optimizer=muon |" in page
    results = json.loads((out / "ablation.json").read_text())
    assert set(results["differences"]) == {"aligned", "muon"}
    assert {"ap", "clipsim"} <= set(results["differences"]["muon"])
    configs = {
        name: json.loads((out / "train" / f"{name}-2" / "config.json").read_text()) for name in results["changes"]
    }
    assert len({one["base_model_weights"] for one in configs.values()}) == 1
    assert {one["steps"] for one in configs.values()} == {1}
    assert (configs["aligned"]["align_weight"], configs["plain"]["align_weight"]) == (0.5, 0.0)
    weights = {next((out / "train" / f"{name}-2" / "export" / "unet").glob("*.safetensors")).read_bytes()
               for name in configs}  # fmt: skip
    assert len(weights) == 3


def test_a_table_without_the_plain_training_is_refused():
    with pytest.raises(ValueError, match="needs plain"):
        AblationSettings(rows=("muon",))
    with pytest.raises(ValueError, match="samples is 0"):
        AblationSettings(samples=0)
    assert next(iter(ROWS)) == "plain"
