"""The other methods of table 1 at Stable Diffusion 1.5's own sizes: only where HUMANSD_FULL_SIZE=1 asks for it.

Random weights, latents of 8 x 8, one sample a step. About 12 GB of memory and 25 GB of disk; one method with `-k`.
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

from humansd.checkpoints.original_format import SD1, sd_scheduler
from humansd.models.tokenizers import clip_tokenizer
from humansd.pipelines.plain import plain_pipeline
from humansd.synthetic.dataset import write_atelier
from humansd.training.checkpoint import checkpoints

pytestmark = pytest.mark.skipif(os.environ.get("HUMANSD_FULL_SIZE") != "1", reason="HUMANSD_FULL_SIZE=1 asks for it")
SIDE = 64  # px
SETTINGS = ("steps=2", "batch_size=1", "ema_decay=0", "gradient_checkpointing=true", "log_images_minutes=0", "seed=3")
# Method -> where what has learnt lies in the export, and how many parameters that file has: the published counts of
# ControlNet and T2I-Adapter; GLIGEN's lie in the UNet with the frozen ones.
LEARNT = {
    "controlnet": ("pose_network", 361_279_120),
    "t2i-adapter": ("pose_network", 77_369_280),
    "gligen": ("unet", None),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("full-size-methods")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(in_channels=4, **{**SD1.unet, "sample_size": SIDE // 8})
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **SD1.text))
    vae = AutoencoderKL(**{**SD1.vae, "sample_size": SIDE})
    plain_pipeline(vae, text, clip_tokenizer("sd1"), unet, sd_scheduler()).save_pretrained(folder / "base")
    del unet, text, vae
    write_atelier(folder / "shards", 2, size=SIDE, seed=9, workers=1, progress=False)
    yield folder
    shutil.rmtree(folder)


def start(place: Path, method: str, run: Path) -> subprocess.Popen:
    places = (f"data={place / 'shards'}", f"base_model={place / 'base'}", "save_minutes=0.0001", "compile=no")
    given = [word for setting in (*SETTINGS, *places) for word in ("--set", setting)]
    run.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "humansd.cli", "train", f"{method}-sd15", *given, "--out", str(run)]
    with (place / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted((run / "export" / part).glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            found |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    return found


@pytest.mark.parametrize("method", LEARNT)
def test_a_killed_run_ends_bit_for_bit_as_an_unbroken_one(place, method):
    part, count = LEARNT[method]
    whole, broken = place / f"{method}-whole", place / f"{method}-broken"
    assert start(place, method, whole).wait() == 0, (place / f"{whole.name}.log").read_text()[-2000:]
    process = start(place, method, broken)
    while process.poll() is None and not (checkpoints(broken) and checkpoints(broken)[-1].name == "step-00000001"):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "export" / "progress.json").exists()
    assert start(place, method, broken).wait() == 0
    one, two = weights(whole, part), weights(broken, part)
    assert one.keys() == two.keys()
    if count is not None:
        assert sum(value.numel() for value in one.values()) == count
    for key, value in one.items():
        assert torch.equal(value, two[key]), key
    # It learnt: what starts at zero, or is new, is no longer what it was.
    changed = {
        "controlnet": "controlnet_mid_block.weight",
        "gligen": next((key for key in one if key.endswith("fuser.alpha_attn")), ""),
    }
    if method in changed:
        assert one[changed[method]].abs().max() > 0
    for run in (whole, broken):
        shutil.rmtree(run)
