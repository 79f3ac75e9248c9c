"""Stable Diffusion 1.5's own size, with random weights: only where HUMANSD_FULL_SIZE=1 asks for it.

Takes about 18 GB of memory, 60 GB of disk and ten minutes on two cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.atelier.dataset import write_atelier
from humansd.models.ldm import SD1, Parts, write_single_file
from humansd.models.widen import widen_conv_in
from humansd.pipelines.pretrained import weights_folder
from humansd.pipelines.single_file import checkpoint_to_folder, folder_to_checkpoint
from humansd.training.checkpoint import checkpoints

pytestmark = pytest.mark.skipif(os.environ.get("HUMANSD_FULL_SIZE") != "1", reason="HUMANSD_FULL_SIZE=1 asks for it")
SETTINGS = ("steps=2", "batch_size=1", "ema_decay=0", "gradient_checkpointing=true", "preview_minutes=0", "seed=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A single-file HumanSD with the published names and sizes, the folder made of it, and pictures of 512 px."""
    folder = tmp_path_factory.mktemp("full-size")
    torch.manual_seed(0)
    unet = widen_conv_in(UNet2DConditionModel(in_channels=4, **SD1.unet), 4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **SD1.text))
    write_single_file(Parts(unet, AutoencoderKL(**SD1.vae), text), SD1, folder / "humansd.safetensors")
    del unet, text
    said = checkpoint_to_folder(
        folder / "humansd.safetensors", folder / "model", tokenizer=str(weights_folder("pocket"))
    )
    assert said == f"HumanSD of the family {SD1.name}"
    write_atelier(folder / "shards", 2, size=512, seed=9, workers=1, progress=False)
    yield folder
    shutil.rmtree(folder)


def test_a_published_file_goes_to_a_folder_and_back(place):
    assert folder_to_checkpoint(place / "model", place / "back.safetensors") == SD1.name
    with safe_open(place / "humansd.safetensors", "pt") as one, safe_open(place / "back.safetensors", "pt") as two:
        assert sorted(one.keys()) == sorted(two.keys())
        assert "model.diffusion_model.input_blocks.0.0.weight" in one.keys()  # noqa: SIM118
        for key in one.keys():  # noqa: SIM118
            assert torch.equal(one.get_tensor(key), two.get_tensor(key)), key
    (place / "back.safetensors").unlink()


def test_a_killed_run_ends_bit_for_bit_as_an_unbroken_one(place):
    whole, broken = place / "whole", place / "broken"
    assert start(place, whole).wait() == 0
    process = start(place, broken)
    while process.poll() is None and not (checkpoints(broken) and checkpoints(broken)[-1].name == "step-00000001"):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "export" / "progress.json").exists()
    assert start(place, broken).wait() == 0
    name = Path("export/unet/diffusion_pytorch_model.safetensors")
    with safe_open(whole / name, "pt") as one, safe_open(broken / name, "pt") as two:
        assert sum(one.get_tensor(key).numel() for key in one.keys()) == pytest.approx(859.5e6, rel=0.001)  # noqa: SIM118
        for key in one.keys():  # noqa: SIM118
            assert torch.equal(one.get_tensor(key), two.get_tensor(key)), key
    with (
        safe_open(place / "model/unet/diffusion_pytorch_model.safetensors", "pt") as before,
        safe_open(whole / name, "pt") as after,
    ):
        assert not torch.equal(before.get_tensor("conv_in.weight"), after.get_tensor("conv_in.weight"))


def start(place: Path, run: Path) -> subprocess.Popen:
    places = (f"data={place / 'shards'}", f"parts={place / 'model'}", f"base={place / 'model'}", "save_minutes=0.0001")
    given = [word for setting in (*SETTINGS, *places) for word in ("--set", setting)]
    run.mkdir(exist_ok=True)
    with (place / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "humansd.cli", "train", "humansd-sd15", *given, "--out", str(run)],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())},
        )
