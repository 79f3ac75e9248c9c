"""Images of another tool: poses and prompts go out, its images come back and are measured as a model's are."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from humansd.cli import main
from humansd.data.shards import read_shards
from humansd.evaluation.drawing import read_image
from humansd.evaluation.given import GivenImages
from humansd.evaluation.records import image_file
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.formats import read_poses
from humansd.pose.skeleton import COCO17
from humansd.synthetic.dataset import write_atelier
from tiny_pipeline import tiny_components

COUNT = 7
SIZE = 64
# A tool of its own: it knows the exported files and nothing of humansd's evaluation.
OTHER_TOOL = """
import json, sys
from pathlib import Path
from humansd import load_pipeline, read_poses
model, exported, out = map(Path, sys.argv[1:])
pipe = load_pipeline(str(model), "cpu")
pipe.set_progress_bar_config(disable=True)
for line in (exported / "prompts.jsonl").read_text().splitlines():
    one = json.loads(line)
    pose = read_poses(exported / "openpose" / (one["key"] + ".json"))[one["key"]]
    size = {"width": one["width"], "height": one["height"]}
    image = pipe(one["prompt"], pose, seed=one["seed"], num_inference_steps=1, **size).images[0]
    image.save(out / (one["key"] + ".png"))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, few_draws) -> Path:
    folder = tmp_path_factory.mktemp("images")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder / "model")
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    write_atelier(folder / "shards", COUNT, size=SIZE, seed=9, workers=1, progress=False)
    for sample in read_shards(folder / "shards"):
        (folder / "real").mkdir(exist_ok=True)
        Image.fromarray(sample.image).save(folder / "real" / f"{sample.key}.png")
    return folder


@pytest.fixture(scope="module")
def exported(place) -> Path:
    out = place / "exported"
    assert main(["data", "export-prompts", str(place / "shards"), "--out", str(out), "--size", "64x64"]) == 0
    return out


def evaluated(place: Path, out: Path, *given: str) -> dict:
    command = ["evaluate", *given, "--data", str(place / "shards"), "--out", str(out), "--device", "cpu"]
    command += ["--estimator", f"centernet={place / 'centernet'}", "--timing-runs", "0"]
    assert main(command) == 0
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def ceiling(place) -> dict:
    return evaluated(place, place / "ceiling", "--images", str(place / "real"))


def test_poses_and_prompts_are_what_the_data_hold(place, exported):
    samples = list(read_shards(place / "shards"))
    rows = [json.loads(line) for line in (exported / "prompts.jsonl").read_text().splitlines()]
    assert [(row["key"], row["prompt"]) for row in rows] == [(one.key, one.caption) for one in samples]
    with (exported / "prompts.csv").open(newline="") as file:
        assert [{**row} for row in csv.DictReader(file)] == [{k: str(v) for k, v in row.items()} for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        for folder in ("poses", "openpose"):
            people = read_poses(exported / folder / f"{sample.key}.json")[sample.key]
            assert people.canvas == (SIZE, SIZE)
            seen = sample.people.with_joints()
            assert people.n == seen.n == row["people"]
            people = people.to_skeleton(COCO17)
            assert np.array_equal(people.labelled, seen.labelled)
            assert np.abs(people.xy - seen.xy)[seen.labelled].max(initial=0) < 0.02
        with Image.open(exported / "drawn-openpose" / f"{sample.key}.png") as one:
            drawing = np.array(one)
        with Image.open(exported / "drawn-humansd" / f"{sample.key}.png") as other:
            assert drawing.shape == (SIZE, SIZE, 3)
            assert not np.array_equal(drawing, np.array(other))


def test_what_another_tool_drew_counts_as_what_the_model_drew(place, exported, tmp_path, capsys):
    out = tmp_path / "drawn"
    out.mkdir()
    subprocess.run([sys.executable, "-c", OTHER_TOOL, place / "model", exported, out], check=True, timeout=200)
    given = evaluated(place, tmp_path / "given", "--images", str(out))
    model = evaluated(
        place,
        tmp_path / "model",
        "--model",
        str(place / "model"),
        "--size",
        "64x64",
        "--steps",
        "1",
        "--batch-size",
        "1",
    )
    for key in ("groups", "distances", "intervals", "colors", "paper"):
        assert given[key] == model[key], key
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "model"), str(tmp_path / "given"), "--out", str(tmp_path / "both")]) == 0
    difference = json.loads((tmp_path / "both" / "compare.json").read_text())["differences"]["given"]
    assert difference["clipsim"]["difference"] == 0

    evaluated(place, tmp_path / "few", "--images", str(out), "--limit", "3")
    assert main(["compare", str(tmp_path / "model"), str(tmp_path / "few"), "--out", str(tmp_path / "three")]) == 0
    three = json.loads((tmp_path / "three" / "compare.json").read_text())
    assert (three["images"], three["left_out"]) == (3, COUNT - 3)
    assert three["differences"]["few"]["clipsim"]["difference"] == pytest.approx(0, abs=1e-4)  # batches differ
    for name in ("compare.md", "compare.html"):  # what an evaluation says above its numbers
        told = (tmp_path / "three" / name).read_text()
        assert "AP, CAP and PCE mean nothing here" in told
        assert "3 images of each" in told


def test_the_real_images_score_what_the_ceiling_is(place, ceiling):
    everything = ceiling["groups"]["all"]
    assert everything["generated"] == everything["ceiling"]
    distance = ceiling["distances"]["pocket image tower"]["frechet"]
    assert distance == pytest.approx(0, abs=1e-3)
    assert ceiling["images"]["left_out"] == {}
    assert "real" in (place / "ceiling" / "results.md").read_text()


def test_other_sizes_and_formats_are_taken_and_the_rest_is_counted(place, ceiling, tmp_path, capsys):
    keys = sorted(file.stem for file in (place / "real").iterdir())
    folder = tmp_path / "mixed"
    shutil.copytree(place / "real", folder)
    with Image.open(folder / f"{keys[0]}.png") as image:
        image.resize((4 * SIZE, 4 * SIZE), Image.Resampling.NEAREST).save(folder / f"{keys[0]}.webp", lossless=True)
    (folder / f"{keys[0]}.png").unlink()
    (folder / f"{keys[1]}.png").unlink()
    (folder / f"{keys[2]}.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    Image.new("RGB", (SIZE, SIZE // 2)).save(folder / f"{keys[3]}.png")
    Image.new("RGB", (SIZE, SIZE)).save(folder / "stranger.jpg")
    (folder / "notes.txt").write_text("not an image")
    results = evaluated(place, tmp_path / "run", "--images", str(folder))
    said = capsys.readouterr().out
    assert results["images"]["left_out"] == {"another shape": 1, "cannot be read": 1, "no file": 1}
    assert results["images"]["extra_examples"] == ["stranger.jpg"]
    assert results["groups"]["all"]["generated"]["images"] == COUNT - 3
    assert results["groups"]["all"]["generated"] == results["groups"]["all"]["ceiling"]  # the larger one too
    assert "Of 7 samples the images of 4 are measured" in said
    assert f"1 x no file ({keys[1]})" in said
    assert "3 samples have no image" in said

    assert main(["compare", str(place / "ceiling"), str(tmp_path / "run"), "--out", str(tmp_path / "both")]) == 0
    assert "3 samples have no image in some run and count in none" in capsys.readouterr().out
    compared = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert {one["groups"]["all"]["generated"]["images"] for one in compared["runs"].values()} == {COUNT - 3}
    assert compared["differences"]["run"]["ap"]["difference"] == 0

    Image.new("RGB", (SIZE, SIZE)).save(folder / f"{keys[1]}.png")
    command = ["evaluate", "--images", str(folder), "--data", str(place / "shards"), "--out", str(tmp_path / "run")]
    command += ["--estimator", f"centernet={place / 'centernet'}", "--device", "cpu"]
    assert main(command) == 2
    assert "model.images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--model", "pocket"], "--model is of a model that draws"),
        (["--steps", "5"], "--num-inference-steps is of a model that draws"),
        (["--size", "64x32"], "give another --size"),
    ],
)
def test_what_does_not_go_together_is_refused(place, tmp_path, capsys, given, words):
    command = ["evaluate", "--images", str(place / "real"), "--data", str(place / "shards"), "--out", str(tmp_path)]
    assert main([*command, *given, "--estimator", f"centernet={place / 'centernet'}", "--clip", "none"]) == 2
    assert words in capsys.readouterr().err


def test_images_are_measured_as_one_sees_them(tmp_path):
    """Transparent, grey, palette, CMYK and turned ones; what deep grey values mean nobody knows."""
    theirs, out = tmp_path / "theirs", tmp_path / "run"
    theirs.mkdir()
    image_file(out, "any").parent.mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    alpha = np.full((SIZE, SIZE), 255, np.uint8)
    alpha[:, :20] = 0
    image = Image.fromarray(picture)
    Image.fromarray(np.dstack([picture, alpha])).save(theirs / "transparent.png")
    Image.fromarray(np.dstack([picture, alpha])).save(theirs / "transparent-webp.webp", lossless=True, exact=True)
    image.convert("L").save(theirs / "grey.png")
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(theirs / "palette.png")
    Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)).save(theirs / "CMYK.JPG", quality=100)
    turned = Image.Exif()
    turned[0x0112] = 6  # stored turned, as cameras do: shown a quarter clockwise
    image.save(theirs / "turned.png", exif=turned)
    Image.fromarray(picture[..., 0].astype(np.uint16) * 256).save(theirs / "deep.png")
    given = GivenImages(theirs)
    keys = [file.stem for file in theirs.iterdir()]
    given.check(keys)
    assert given.prepare([*keys, "absent"], out) == {"deep", "absent"}
    seen = {key: read_image(image_file(out, key)) for key in keys if key != "deep"}
    for key in ("transparent", "transparent-webp"):
        assert (seen[key][:, :20] == 255).all()
        assert np.array_equal(seen[key][:, 20:], picture[:, 20:])
    assert np.array_equal(seen["grey"], np.asarray(image.convert("L").convert("RGB")))
    assert np.array_equal(seen["turned"], np.rot90(picture, -1))
    assert np.abs(seen["CMYK"].astype(int) - [255, 0, 0]).max() < 8
    assert np.abs(seen["palette"].astype(int) - picture).mean() < 40


def test_photographs_that_a_camera_stored_turned_have_the_size_one_sees(tmp_path):
    """Most are upright portraits in fact, and stored lying."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("a", "b"):
        Image.new("RGB", (90, 60)).save(tmp_path / f"{name}.jpg", exif=turned)
    Image.new("RGB", (90, 60)).save(tmp_path / "lying.jpg")
    given = GivenImages(tmp_path)
    assert given.size == (60, 90)
    image_file(tmp_path / "run", "any").parent.mkdir(parents=True)
    assert given.prepare(["a", "b", "lying"], tmp_path / "run") == {"lying"}


def test_a_folder_of_something_else_is_refused_with_the_keys(place, tmp_path, capsys):
    command = ["evaluate", "--data", str(place / "shards"), "--out", str(tmp_path / "out"), "--clip", "none"]
    command += ["--estimator", f"centernet={place / 'centernet'}", "--images"]
    assert main([*command, str(tmp_path / "nothing")]) == 2
    (tmp_path / "empty").mkdir()
    assert main([*command, str(tmp_path / "empty")]) == 2
    assert "no image in it; name a folder of .png" in capsys.readouterr().err
    (tmp_path / "folders" / "one").mkdir(parents=True)
    assert main([*command, str(tmp_path / "folders")]) == 2
    assert "no image in it (folders in it are not looked into)" in capsys.readouterr().err
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "empty" / name)
    assert main([*command, str(tmp_path / "empty")]) == 2
    assert "a.jpg and a.png; keep one" in capsys.readouterr().err
    (tmp_path / "empty" / "a.jpg").unlink()
    assert main([*command, str(tmp_path / "empty")]) == 2
    assert "an image 'a.png'; name images by the key" in capsys.readouterr().err
