"""`humansd generate`: every option of the pipeline that a person would want."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from blob_people import BlobEstimator, paint
from humansd.cli import main
from humansd.inference.image_info import read_png_info
from humansd.models.estimators import ESTIMATORS
from humansd.pipelines import HumanSDPipeline
from humansd.pose import People
from humansd.pose.formats import write_poses
from tiny_pipeline import SIZE, standing, tiny_components

PROMPT = "photo, a man running"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-model")
    HumanSDPipeline(**tiny_components(), num_inference_steps=3).save_pretrained(folder)
    return folder


@pytest.fixture
def generate(model, tmp_path, monkeypatch, capsys):
    """Runs `humansd generate` in a folder of its own; returns status, stderr and the images with their records."""
    monkeypatch.chdir(tmp_path)
    write_poses(tmp_path / "standing.json", {"standing": standing((32, 32))}, "coco")

    def run(*words, out="out", pose="standing.json"):
        options = ["--pose", pose, "--model", model, "--n", 1, "--out", out]
        status = main(["generate", PROMPT, *map(str, options), *map(str, words)])
        files = sorted((tmp_path / out).glob("*seed*.png"))
        return status, capsys.readouterr().err, [(np.asarray(Image.open(f)), read_png_info(f)) for f in files]

    return run


def test_size_steps_and_scheduler(generate):
    _, _, [(plain, info)] = generate()
    assert info["settings"]["num_inference_steps"] == 3  # the model's own
    assert info["settings"]["size"] == [SIZE, SIZE]
    _, _, [(wide, info)] = generate("--size", "32x16", "--out", "wide", out="wide")
    assert wide.shape == (16, 32, 3)
    assert info["people"]["canvas"] == [32, 16]
    _, _, [(euler, info)] = generate("--scheduler", "euler", out="euler")
    assert info["settings"]["scheduler"] == "euler"
    assert np.abs(euler.astype(int) - plain).max() > 2


@pytest.mark.parametrize(
    "options",
    [
        ("--guidance-steps", "0.4-1"),
        ("--guidance-rescale", "0.7"),
        ("--guidance", "1", "--pose-guidance", "3"),
        ("--dtype", "bf16"),
        ("--negative", "blurred"),
    ],
)
def test_options_change_the_image(generate, options):
    _, _, [(plain, _)] = generate()
    status, _, [(other, _)] = generate(*options, out="other")
    assert status == 0
    assert np.abs(other.astype(int) - plain).max() > 0


def test_batches_do_not_change_an_image(generate):
    _, _, one = generate("--n", 3, "--batch-size", 1, out="one")
    _, _, three = generate("--n", 3, "--batch-size", 3, out="three")
    assert [info["seed"] for _, info in one] == [0, 1, 2]
    for (first, _), (second, _) in zip(one, three, strict=True):
        assert np.abs(first.astype(int) - second).max() <= 2


def test_an_image_is_drawn_anew(generate, tmp_path):
    _, _, [(before, _)] = generate()
    file = next((tmp_path / "out").glob("*seed*.png"))
    status, _, [(after, info)] = generate("--image", file, "--strength", "0.4", "--steps", 10, out="again")
    assert status == 0
    assert info["settings"] | {"image": file.name, "strength": 0.4} == info["settings"]
    assert np.abs(after.astype(int) - before).max() > 0


def test_the_pose_of_one_changes_and_the_rest_is_kept(generate, tmp_path):
    two = People.of(np.concatenate([standing((16, 30)).xy, standing((16, 30)).xy + np.array([16.0, 1.0])]), (32, 32))
    write_poses(tmp_path / "two.json", {"two": two}, "coco")
    generate("--size", "32x32", pose="two.json")
    file = next((tmp_path / "out").glob("two*seed*.png"))
    xy = two.xy.copy()
    xy[1, [7, 9]] -= (0.0, 9.0)
    write_poses(tmp_path / "moved.json", {"moved": People.of(xy, (32, 32))}, "coco")
    status, _, [(after, info)] = generate(
        "--image", file, "--mask", "pose", "--size", "32x32", out="moved", pose="moved.json"
    )
    assert status == 0
    assert info["settings"]["mask"] == "pose"
    before = np.asarray(Image.open(file))
    changed = np.abs(after.astype(int) - before).max(axis=2) > 0
    assert changed[:, 18:].mean() > 0.5  # around the second person
    assert not changed[:, :8].any()  # the first one, who stays


def test_people_of_a_foreign_image_are_found(generate, tmp_path, monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "movenet", lambda source, device: BlobEstimator())
    image = paint(standing((64, 64)))
    Image.fromarray(image).save(tmp_path / "photo.png")
    write_poses(tmp_path / "moved.json", {"moved": standing((64, 64), shift=6.0)}, "coco")
    status, err, made = generate("--image", "photo.png", "--mask", "pose", "--size", "64x64", pose="moved.json")
    assert (status, len(made)) == (0, 1), err


def test_masks_and_their_mistakes(generate, tmp_path):
    generate()
    file = next((tmp_path / "out").glob("*seed*.png"))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, :8] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    _, _, [(after, _)] = generate("--image", file, "--mask", "mask.png", out="masked")
    assert np.array_equal(after[:, 8:], np.asarray(Image.open(file))[:, 8:])
    for options, message in (
        (("--mask", "mask.png"), "name it with --image"),
        (("--image", "none.png"), "none.png"),
        (("--image", file, "--strength", "2"), "strength is 2.0"),
        (("--image", file, "--mask", "none.png"), "none.png"),
        (("--scheduler", "dimm"), "choose one of ddim"),
        (("--size", "17x16"), "multiple of 2"),
        (("--batch-size", "0"), "batch_size is 0"),
        (("--lora", "none.safetensors"), "none.safetensors: no such file"),
        (("--lora", "some.pt"), "a pickled file"),
        (("--embedding", "some.bin"), "a pickled file"),
        (("--device", "tpu"), "device"),
    ):
        status, err, _ = generate(*options, out="wrong")
        assert status == 2, options
        assert message in err, (options, err)
        assert err.splitlines()[-1].startswith("humansd: "), err
        assert "Traceback" not in err


def test_a_lora_has_its_scale(generate, tmp_path):
    from test_pipeline_diffusers import lora_file

    file = lora_file(tmp_path)
    _, _, [(plain, _)] = generate()
    _, _, [(whole, info)] = generate("--lora", file, out="whole")
    _, _, [(none, _)] = generate("--lora", f"{file}=0", out="none")
    assert info["settings"]["loras"] == [[str(file), 1.0]]
    assert np.abs(whole.astype(int) - plain).max() > 2
    assert np.abs(none.astype(int) - plain).max() <= 1


def test_the_model_index_carries_what_it_draws_with(model):
    index = json.loads((model / "model_index.json").read_text())
    assert index["num_inference_steps"] == 3
    assert index["dropped_pose"] == "zero"
