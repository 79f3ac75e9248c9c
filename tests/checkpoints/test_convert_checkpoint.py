"""A published checkpoint as its user meets it: converted offline, it hears its prompts and draws as published."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import signal

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from humansd.checkpoints.original_format import check_kind, state_of, write_single_file
from humansd.cli import main
from humansd.models.tokenizers import clip_tokenizer
from humansd.models.widen import unet_kind
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.single_file import checkpoint_to_folder, folder_to_checkpoint, read_pipeline
from humansd.pose.formats import write_poses
from humansd.pose.render import HUMANSD_STYLE
from original_clip import embeddings
from tiny_ldm import TINY, TINY1, TINY2, published_state, save_lightning, tiny_components, tiny_state
from tiny_pipeline import standing

PROMPTS = ("a photo of a cat!", "two dancers on a stage, oil painting")


@pytest.mark.filterwarnings("ignore:.*only its weights are read")
@pytest.mark.parametrize(
    ("layout", "prediction", "side"),
    [(TINY1, "", 64), (TINY2, "", 64), (TINY2, "v_prediction", 96)],
    ids=["SD1", "SD2", "SD2-v"],
)
def test_a_lightning_checkpoint_is_converted_hears_its_prompts_and_draws(layout, prediction, side, tmp_path):
    """Offline (HF_HUB_OFFLINE, as all tests); the tiny twin of the full-size run in test_full_size.py."""
    state = published_state(tiny_state(layout, 8), layout)
    save_lightning(state, tmp_path / "humansd.ckpt")
    folder = tmp_path / "model"
    checkpoint_to_folder(tmp_path / "humansd.ckpt", folder, kind="humansd", prediction=prediction, layouts=TINY)

    index = json.loads((folder / "model_index.json").read_text())
    assert (index["num_inference_steps"], index["guidance"]["text"], index["guidance"]["pose"]) == (50, 9, 1)
    assert index["dropped_pose"] == "black"
    assert index["draw_style"] == json.loads(json.dumps(HUMANSD_STYLE.to_dict()))
    pipeline = HumanSDPipeline.from_pretrained(folder)
    assert pipeline.scheduler.config.prediction_type == (prediction or "epsilon")
    assert pipeline.default_size == (side, side)
    assert (pipeline.default_steps, pipeline.guidance.text) == (50, 9)

    heard = pipeline.encode_prompt(list(PROMPTS))
    for row, prompt in zip(heard, PROMPTS, strict=True):
        original = embeddings(state, prompt, open_clip=layout.open_clip, blocks=2, heads=2)
        torch.testing.assert_close(row, original, atol=1e-4, rtol=0)
    assert (heard[0] - heard[1]).abs().max() > 0.5

    write_poses(tmp_path / "pose.json", {"pose": standing((64, 64))}, "coco")
    words = ["--pose", tmp_path / "pose.json", "--model", folder, "--steps", 2, "--n", 1, "--out", tmp_path / "out"]
    assert main(["generate", *PROMPTS, *map(str, words)]) == 0
    one, two = (np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").glob("*seed0.png")))
    assert one.shape == two.shape == (side, side, 3)
    assert (one != two).any()


@pytest.mark.parametrize("layout", TINY, ids=["SD1", "SD2"])
def test_the_tokenizer_of_the_family_comes_along_and_another_is_refused(layout, tmp_path):
    file = tmp_path / "m.safetensors"
    save_file(tiny_state(layout), file)
    checkpoint_to_folder(file, tmp_path / "out", layouts=TINY)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    assert len(pipeline.tokenizer) == 49408
    assert pipeline.tokenizer.pad_token == ("!" if layout.open_clip else "<|endoftext|>")
    other = "sd1" if layout.open_clip else "sd2"
    clip_tokenizer(other).save_pretrained(tmp_path / "other" / "tokenizer")
    with pytest.raises(ValueError, match=r"other/tokenizer: the tokenizer pads with"):
        checkpoint_to_folder(file, tmp_path / "no", tokenizer=str(tmp_path / "other"), layouts=TINY)
    (tmp_path / "empty" / "tokenizer").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"empty/tokenizer: the tokenizer has 2 tokens .*reads 49408"):
        checkpoint_to_folder(file, tmp_path / "no", tokenizer=str(tmp_path / "empty"), layouts=TINY)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (9, r"a Stable Diffusion for inpainting \(9 input channels\).*StableDiffusionInpaintPipeline"),
        (5, r"a Stable Diffusion for depth \(5 input channels\).*StableDiffusionDepth2ImgPipeline"),
        (7, r"a Stable Diffusion for upscaling \(7 input channels\)"),
        (10, r"its UNet has 10 input channels; a plain one has 4, HumanSD's has 8"),
    ],
)
def test_other_kinds_of_stable_diffusion_are_named(channels, message, tmp_path):
    first = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, channels, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 16),
    }
    save_file(first, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=rf"m\.safetensors: {message}"):
        checkpoint_to_folder(tmp_path / "m.safetensors", tmp_path / "out", layouts=TINY)
    assert not (tmp_path / "out").exists()


def test_instruct_pix2pix_is_told_apart_by_its_base_its_name_or_the_user():
    """8 channels: the published HumanSD is a Stable Diffusion 2, the published InstructPix2Pix a Stable Diffusion 1."""
    weight = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 8, 3, 3)}
    assert check_kind(weight, "dir/humansd-v1.ckpt", TINY2) == "HumanSD"
    with pytest.raises(ValueError, match=r"humansd-v1\.ckpt: .*HumanSD or InstructPix2Pix; .*say --kind humansd"):
        check_kind(weight, "dir/humansd-v1.ckpt", TINY1)
    assert check_kind(weight, "dir/humansd-v1.ckpt", TINY1, humansd=True) == "HumanSD"
    with pytest.raises(ValueError, match=r"InstructPix2Pix by its name.*StableDiffusionInstructPix2PixPipeline"):
        check_kind(weight, "instruct-pix2pix-00-22000.ckpt", TINY2)
    with pytest.raises(ValueError, match="no HumanSD; leave out --kind"):
        check_kind({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}, "m", TINY1, humansd=True)
    with pytest.raises(ValueError, match="its UNet has 0 input channels"):
        check_kind({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8)}, "m", TINY1)


def test_kinds_by_channels():
    assert [unet_kind(n) for n in (4, 8, 9, 5, 7, 10)] == [
        *("plain", "HumanSD", "inpainting", "depth", "upscaling", "unknown"),
    ]
    assert [unet_kind(n, 3) for n in (3, 6, 7, 4)] == ["plain", "HumanSD", "inpainting", "depth"]


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    """A HumanSD of one's own, on Stable Diffusion 1, with settings that are not the published ones."""
    folder = tmp_path_factory.mktemp("own") / "model"
    parts = tiny_components(TINY1, 8)
    settings = {"guidance": {"text": 4.0, "pose": 2.0}, "num_inference_steps": 30, "dropped_pose": "zero"}
    style = dataclasses.replace(HUMANSD_STYLE, stick_width_px=7.0).to_dict()
    with_pose = read_pipeline(write(parts, folder.parent), kind="humansd", layouts=TINY)
    pipeline = HumanSDPipeline(
        parts.vae,
        parts.text_encoder,
        with_pose.tokenizer,
        parts.unet,
        with_pose.scheduler,
        draw_style=style,
        **settings,
    )
    return pipeline, settings, style


@pytest.fixture(scope="module")
def own_file(own_model, tmp_path_factory):
    """The same as one file."""
    folder = tmp_path_factory.mktemp("own-file")
    own_model[0].save_pretrained(folder / "model")
    folder_to_checkpoint(folder / "model", folder / "m.safetensors", layouts=TINY)
    return folder / "m.safetensors"


def write(parts, folder):
    file = folder / "raw.safetensors"
    save_file({k: v.contiguous() for k, v in state_of(parts, TINY1).items()}, file)
    return file


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float32])
def test_a_folder_becomes_a_file_in_its_own_precision(own_model, precision, tmp_path):
    own_model[0].to(dtype=precision).save_pretrained(tmp_path / "model")
    assert folder_to_checkpoint(tmp_path / "model", tmp_path / "m.safetensors", layouts=TINY) == TINY1.name
    written = load_file(tmp_path / "m.safetensors")
    assert {weight.dtype for weight in written.values()} == {precision}
    own_model[0].to(dtype=torch.float32)


def test_a_model_of_ones_own_keeps_its_settings_on_the_way_there_and_back(own_model, own_file):
    """The file says itself that it is a HumanSD, so nobody has to."""
    _, settings, style = own_model
    again = read_pipeline(own_file, layouts=TINY)
    assert isinstance(again, HumanSDPipeline)
    assert {key: again.config[key] for key in settings} == settings
    assert json.loads(json.dumps(again.config.draw_style)) == json.loads(json.dumps(style))


@pytest.mark.parametrize("words", ["{", "[]", '{"settings": 3}', '{"settings": {"vae": 1}}', '{"sample_size": "x"}'])
def test_damaged_metadata_are_named(own_file, words, tmp_path):
    file = tmp_path / "m.safetensors"
    with safe_open(own_file, "pt") as opened:
        assert json.loads(opened.metadata()["humansd"])["prediction"] == "epsilon"
    save_file(load_file(own_file), file, metadata={"humansd": words})
    with pytest.raises(ValueError, match=r"m\.safetensors: its metadata 'humansd' are damaged"):
        read_pipeline(file, layouts=TINY)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    parts, file = tiny_components(TINY1), tmp_path / "m.safetensors"
    file.write_bytes(b"what was there")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"m\.safetensors: cannot be written \(File too large\)"):
            write_single_file(parts, TINY1, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, told)
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    assert file.read_bytes() == b"what was there"


def test_a_folder_without_room_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    file = write(tiny_components(TINY1), tmp_path)
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: used._replace(free=1000))
    with pytest.raises(OSError, match=r"out/model: its weights need 0\.00\d+ GB and 1e-06 GB are free"):
        checkpoint_to_folder(file, tmp_path / "out/model", layouts=TINY)
    assert not (tmp_path / "out").exists()


def test_folders_of_other_pipelines_are_refused(tmp_path):
    for text, message in (
        ('{"_class_name": "StableDiffusionInstructPix2PixPipeline"}', "an InstructPix2Pix"),
        ('{"_class_name": "StableDiffusionInpaintPipeline"}', "inpainting"),
        ("{", r"model_index\.json: not JSON"),
    ):
        (tmp_path / "model_index.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            folder_to_checkpoint(tmp_path, tmp_path / "m.safetensors")
