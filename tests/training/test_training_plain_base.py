"""The model that ships as the plain Stable Diffusion that other methods start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from humansd.inference.pretrained import load_pipeline
from humansd.methods.table import METHODS
from humansd.models.names import weights_folder
from humansd.pipelines.plain import without_pose
from humansd.pipelines.schedulers import make_scheduler
from humansd.synthetic.dataset import write_atelier
from humansd.training.bases import check_start, is_shipped, start_config
from humansd.training.run import run_preset
from humansd.training.settings import DiffusionSettings

SHIPPED = str(weights_folder("pocket"))
QUICK = {"device": "cpu", "mixed_precision": "no", "report_to": "none", "compile": "no", "log_images_minutes": "0"}
QUICK |= {"batch_size": "2", "gradient_accumulation_steps": "1", "lr_warmup_steps": "0", "cooldown_steps": "0"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, and `plain`: what `humansd reproduce` makes of the shipped model."""
    folder = tmp_path_factory.mktemp("plain")
    write_atelier(folder / "data", 2, size=64, seed=5, workers=1, progress=False)
    pipeline = load_pipeline("pocket", "cpu", variant="full")
    pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler)
    without_pose(pipeline).save_pretrained(folder / "plain")
    return folder


def test_pocket_is_the_plain_base_of_a_rival_which_goes_on_after_a_stop(place: Path, tmp_path: Path) -> None:
    """As from the plain folder, weight for weight, and a whole diffusers folder comes out."""
    over = {**QUICK, "data": str(place / "data"), "steps": "2"}
    run_preset("t2i-adapter-pocket", {**over, "base_model": str(place / "plain")}, tmp_path / "folder")
    for steps in ("1", "2"):
        told = run_preset("t2i-adapter-pocket", {**over, "base_model": "pocket", "steps": steps}, tmp_path / "name")
    assert "2 steps, 4 samples, loss " in told
    exports = [tmp_path / name / "export" for name in ("folder", "name")]
    for part in ("pose_network", "unet"):
        one, two = (load_file(next((export / part).glob("*.safetensors"))) for export in exports)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), part
    one, two = (json.loads((export / "scheduler" / "scheduler_config.json").read_text()) for export in exports)
    assert one == two
    assert load_pipeline(str(exports[1]), "cpu").unet.config.in_channels == 6


@pytest.mark.parametrize("method", [name for name in METHODS if name != "humansd"])
def test_every_other_method_starts_from_it_without_its_input_for_a_pose(method: str) -> None:
    settings = DiffusionSettings(method=method, base_model=SHIPPED)
    assert start_config(settings)["in_channels"] == start_config(settings)["out_channels"] == 6
    check_start(settings)


def test_humansd_goes_on_from_it_as_it_is_and_another_folder_is_no_shipped_one(tmp_path: Path) -> None:
    assert start_config(DiffusionSettings(method="humansd", base_model=SHIPPED))["in_channels"] == 12
    (tmp_path / "mine").symlink_to(SHIPPED)
    assert is_shipped(SHIPPED)
    assert is_shipped(str(tmp_path / "mine"))  # the same place
    assert not is_shipped("")
    assert not is_shipped(str(tmp_path))


def humansd_of_ones_own(folder: Path) -> str:
    """The configs of a HumanSD, which is what is asked before a weight is loaded."""
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        (folder / part).mkdir(parents=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text((Path(SHIPPED) / part / name).read_text())
    return str(folder)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_humansd_of_one_s_own_is_no_plain_base_and_what_makes_one_is_told(
    place: Path, tmp_path: Path, dry_run: bool
) -> None:
    over = {"data": str(place / "data"), "base_model": humansd_of_ones_own(tmp_path / "mine")}
    said = r"its UNet takes 12 channels and gives 6; .* starts from one that takes 6 \(a plain .*without_pose\("
    with pytest.raises(ValueError, match=said):
        run_preset("controlnet-pocket", over, tmp_path / "run", dry_run=dry_run)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_a_rival_from_pocket_tells_what_learns(place: Path) -> None:
    over = {"data": str(place / "data"), "base_model": "pocket", "components": "pocket"}
    memory = json.loads(run_preset("joint-maps-pocket", over, dry_run=True))["memory"]
    assert memory["network"].startswith(f"{SHIPPED} without its input for a pose, ")
