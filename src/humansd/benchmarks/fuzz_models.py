"""What the fuzzer does to model folders: a HumanSD in miniature, its files damaged, exchanged, taken away or added."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from humansd.benchmarks.fuzz import Target
from humansd.benchmarks.mutation import as_json, damaged_bytes, damaged_value
from humansd.benchmarks.plain_readers import Unknown
from humansd.models.digests import LIST
from humansd.models.errors import ModelError
from humansd.models.pocket import pocket_clip, pocket_scheduler, pocket_unet, pocket_vae, text_model, train_tokenizer
from humansd.models.widen import widen_conv_in
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People

_PROMPT = "a man running"
_WIDTH = 16


@functools.cache
def _whole(place: Path) -> Path:
    """A folder that is well, made once in `place`, where all mutants of a process lie."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([_PROMPT, "two women dancing at night"] * 5, 560, max_length=12)
    small = {"hidden_size": _WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "max_position_embeddings": 12, "projection_dim": 8}
    vision = {**small, "image_size": 16, "patch_size": 8, "projection_dim": 8}
    unet = pocket_unet(
        3,
        sample_size=8,
        out_channels=3,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=_WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    wide = widen_conv_in(unet, 3)
    with torch.no_grad():
        wide.conv_in.weight[:, 3:].normal_(std=0.3)
    vae = pocket_vae(
        latent_channels=3,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.7,
    )
    pipeline = HumanSDPipeline(
        vae=vae.eval(),
        text_encoder=text_model(pocket_clip(len(tokenizer), text=text, vision=vision)).eval(),
        tokenizer=tokenizer,
        unet=wide.eval(),
        scheduler=pocket_scheduler(),
        num_inference_steps=1,
    )
    pipeline.save_pretrained(place / "whole")
    return place / "whole"


@functools.cache
def _right_image(place: Path) -> str:
    return _image(_whole(place))


def _image(folder: Path) -> str:
    """A digest of the pixels that the model of a folder draws."""
    logging.disable_progress_bar()
    pipeline = HumanSDPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    person = People.of([[(4.0 + j % 4, 1.0 + j * 0.8) for j in range(17)]], (16, 16))
    (pixels,) = pipeline(_PROMPT, person, seed=0, output_type="np", guidance_scale=2.0, return_dict=False)
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _make(rng: random.Random, folder: Path) -> Path:
    """One fault in a copy of the whole folder. A fifth have lost their list, as folders of other programs have none."""
    model = folder / "model"
    shutil.copytree(_whole(folder.parent), model)
    if rng.random() < 0.2:
        (model / LIST).unlink()
    files = sorted(file for file in model.rglob("*") if file.is_file())
    file = rng.choice(files)
    kinds = [_bytes, _bytes, _cut, _gone, _exchanged, _empty]
    rng.choice([*kinds, _value, _value, _value] if file.suffix == ".json" else [*kinds, _weights])(rng, file, files)
    return model


def _bytes(rng: random.Random, file: Path, files: list[Path]) -> None:
    file.write_bytes(damaged_bytes(rng, file.read_bytes()))


def _value(rng: random.Random, file: Path, files: list[Path]) -> None:
    file.write_bytes(as_json(rng, damaged_value(rng, json.loads(file.read_bytes()))))


def _cut(rng: random.Random, file: Path, files: list[Path]) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data) + 1)])


def _gone(rng: random.Random, file: Path, files: list[Path]) -> None:
    file.unlink()
    if rng.random() < 0.3:
        file.mkdir()


def _exchanged(rng: random.Random, file: Path, files: list[Path]) -> None:
    other = rng.choice(files)
    file.write_bytes(other.read_bytes())


def _empty(rng: random.Random, file: Path, files: list[Path]) -> None:
    file.write_bytes(rng.choice((b"", b"{}", b"[]", b"null", b"\0" * 64)))


def _weights(rng: random.Random, file: Path, files: list[Path]) -> None:
    if file.suffix != ".safetensors":
        return _bytes(rng, file, files)
    state = load_file(file)
    name = rng.choice(sorted(state))
    change = rng.randrange(4)
    if change == 0:
        del state[name]
    elif change == 1:
        state[name] = torch.full_like(state[name], float("nan"))
    elif change == 2:
        state[name] = state[name].flatten()[:1].clone()
    else:
        state[f"{name}.more"] = torch.zeros(2)
    save_file(state, file, metadata={"format": "pt"})
    return None


def _truth(folder: Path) -> str:
    """A folder with its list is either refused or draws, bit for bit, what the whole one draws."""
    if not (folder / LIST).exists():
        raise Unknown("a folder without a list")
    return _right_image(folder.parents[1])


def _differs(answer: str, truth: str) -> str:
    return "" if answer == truth else "another image, and not a word"


def _attack(change: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        model = folder / "model"
        shutil.copytree(_whole(folder.parent), model)
        (model / LIST).unlink()
        change(model)
        return model

    return make


def _edited(name: str, **changes: object) -> Callable[[Path], Path]:
    def change(model: Path) -> None:
        file = model / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return _attack(change)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/humansd-fuzz-ran",)


def _pickled(model: Path) -> None:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.unlink()
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(_Runs()))


def _code(model: Path) -> None:
    (model / "humansd_pipeline.py").write_text("import os; os.system('touch /tmp/humansd-fuzz-ran')")


def _link(model: Path) -> None:
    file = model / "unet" / "config.json"
    file.unlink()
    os.mkfifo(file)


ATTACKS: dict[str, Callable[[Path], Path]] = {
    "a library that runs code": _edited("model_index.json", unet=["os", "system"]),
    "a module of its own": _edited("model_index.json", unet=["humansd_pipeline", "UNet"]),
    "pickled weights": _attack(_pickled),
    "a fifo for a setting": _attack(_link),
    "a UNet of many terabytes": _edited("unet/config.json", block_out_channels=[2**20, 2**20], norm_num_groups=1),
    "a text encoder of many layers": _edited("text_encoder/config.json", num_hidden_layers=10**6),
    "an absurd latent": _edited("vae/config.json", latent_channels=10**9),
    "an absurd image": _edited("unet/config.json", sample_size=10**6),
    "a million steps": _edited("model_index.json", num_inference_steps=10**9),
    "guidance that is no number": _edited("model_index.json", guidance={"text": "x" * 10**5}),
    "a schedule of a billion": _edited("scheduler/scheduler_config.json", num_train_timesteps=10**9),
    "a tokenizer elsewhere": _edited("tokenizer/tokenizer_config.json", tokenizer_class="../../evil"),
    "a class name that is a path": _edited("model_index.json", _class_name="../evil"),
    "its loader replaced": _attack(_code),
}


TARGET = Target(
    make=_make,
    attacks=ATTACKS,
    read=_image,
    truth=_truth,
    differs=_differs,
    errors=(ModelError, FloatingPointError),
)
