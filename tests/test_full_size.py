"""Stable Diffusion's own sizes, with random weights: only where HUMANSD_FULL_SIZE=1 asks for it.

Takes about 18 GB of memory, 60 GB of disk and ten minutes on two cores; the published HumanSD's way from its file to
images (`-k lightning`) 9 GB, 11 GB and six minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.checkpoints.original_format import SD1, SD2, Parts, state_of, write_single_file
from humansd.models.codec import encode_text
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.loading import load_part
from humansd.models.tokenizers import load_tokenizer
from humansd.models.widen import widen_conv_in
from humansd.pipelines.single_file import checkpoint_to_folder, folder_to_checkpoint
from humansd.pose.formats import write_poses
from humansd.synthetic.dataset import write_atelier
from humansd.training.checkpoint import checkpoints
from original_clip import embeddings
from tiny_ldm import published_state, save_lightning
from tiny_pipeline import standing

pytestmark = pytest.mark.skipif(os.environ.get("HUMANSD_FULL_SIZE") != "1", reason="HUMANSD_FULL_SIZE=1 asks for it")
SETTINGS = ("steps=2", "batch_size=1", "ema_decay=0", "gradient_checkpointing=true", "log_images_minutes=0", "seed=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A single-file HumanSD with the published names and sizes, the folder made of it, and images of 512 px."""
    folder = tmp_path_factory.mktemp("full-size")
    torch.manual_seed(0)
    unet = widen_conv_in(UNet2DConditionModel(in_channels=4, **SD1.unet), 4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **SD1.text))
    write_single_file(Parts(unet, AutoencoderKL(**SD1.vae), text), SD1, folder / "humansd.safetensors")
    del unet, text
    said = checkpoint_to_folder(folder / "humansd.safetensors", folder / "model", kind="humansd")
    assert said == f"HumanSD of the family {SD1.name}"
    HigherHRNet(replace(CONFIGS["w48"], input_px=512)).save_pretrained(folder / "hrnet")  # the paper's teacher
    write_atelier(folder / "shards", 2, size=512, seed=9, workers=1, progress=False)
    yield folder
    shutil.rmtree(folder)


def test_a_lightning_checkpoint_of_stable_diffusion_2_is_converted_and_draws_offline(tmp_path):
    """The published HumanSD's form and size; the text encoder is compared with OpenCLIP's, written again."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(in_channels=8, **SD2.unet)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **SD2.text))
    state = published_state(state_of(Parts(unet, AutoencoderKL(**SD2.vae), text), SD2), SD2)
    save_lightning(state, tmp_path / "humansd-v1.ckpt")
    del unet, text
    state = {key: weight for key, weight in state.items() if key.startswith("cond_stage_model.")}

    run = [sys.executable, "-m", "humansd.cli"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    convert = [*run, "convert", "checkpoint", str(tmp_path / "humansd-v1.ckpt"), "--out", str(tmp_path / "model")]
    done = subprocess.run(convert, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"HumanSD of the family {SD2.name}" in done.stdout
    assert "callbacks (pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint), optimizer_states" in done.stderr
    index = json.loads((tmp_path / "model/model_index.json").read_text())
    assert (index["num_inference_steps"], index["guidance"]["text"], index["dropped_pose"]) == (50, 9, "black")

    prompts = ("a photo of a cat!", "two dancers on a stage, oil painting")
    encoder = load_part(CLIPTextModel, tmp_path / "model", "text_encoder")
    with torch.no_grad():
        heard = encode_text(load_tokenizer(tmp_path / "model", encoder), encoder, prompts)
        originals = [embeddings(state, one, open_clip=True, blocks=23, heads=16) for one in prompts]
    apart = max(float((ours - theirs).abs().max()) for ours, theirs in zip(heard, originals, strict=True))
    told = float((heard[0] - heard[1]).abs().max())
    print(f"embeddings: {apart:.2g} from the original code's, {told:.2f} between two prompts (largest difference)")
    assert apart < 1e-4
    assert told > 0.5
    del state, encoder, originals

    write_poses(tmp_path / "pose.json", {"pose": standing((512, 512))}, "coco")
    words = ["--pose", tmp_path / "pose.json", "--model", tmp_path / "model", "--steps", 2, "--n", 1, "--batch-size", 1]
    draw = [*run, "generate", *prompts, *map(str, words), "--out", str(tmp_path / "out")]
    done = subprocess.run(draw, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").glob("*seed0.png")))
    assert one.shape == two.shape == (512, 512, 3)
    changed = float((one != two).mean())
    print(f"images: {changed:.0%} of the values differ, by {np.abs(one.astype(int) - two).mean():.1f} on average")
    assert changed > 0.1
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "humansd-v1.ckpt").unlink()


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
    places = (f"data={place / 'shards'}", f"base_model={place / 'model'}", f"estimator={place / 'hrnet'}")
    places += ("save_minutes=0.0001",)
    given = [word for setting in (*SETTINGS, *places) for word in ("--set", setting)]
    run.mkdir(exist_ok=True)
    with (place / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "humansd.cli", "train", "humansd-sd15", *given, "--out", str(run)],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())},
        )
