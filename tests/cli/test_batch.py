"""`humansd generate --poses FOLDER --prompts FILE.csv`: hundreds of images from a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from humansd.cli import main
from humansd.inference.image_info import read_png_info
from humansd.inference.prompt_table import read_prompt_table
from humansd.inference.sampling import SamplingConfig
from humansd.pipelines import HumanSDPipeline
from humansd.pose.formats import write_poses
from tiny_pipeline import standing, tiny_components

TABLE = """prompt,pose,negative_prompt,seed,n,num_inference_steps,guidance_scale,note
"a man, running",left,blue,7,2,,,mine
a woman,right.json,,,,3,2.5,
a park,,,,,,,
a man,nowhere,,,,,,
a man,left,,x,,,,
,left,,1,,,,
a man,left,,1,,9999,,
a man,left,too,1,,,,,many,cells
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-model")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder)
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poses").mkdir()
    for number, name in enumerate(("left", "right")):
        write_poses(tmp_path / "poses" / f"{name}.json", {name: standing((32, 32), shift=4.0 * number)}, "coco")
    (tmp_path / "rows.csv").write_text(TABLE)
    return tmp_path


def run(model: Path, *words: str) -> int:
    return main(["generate", "--poses", "poses", "--model", str(model), "--steps", "2", *words])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_row_is_drawn_in_its_pose_and_odd_rows_are_named_by_line(work, model, capsys):
    assert run(model, "--prompts", "rows.csv", "--seed", "5") == 0
    told = capsys.readouterr().out
    assert "5 rows left out" in told
    for line, problem in (
        (5, "there is no pose 'nowhere'; there are left, right"),
        (6, "seed is 'x'"),
        (7, "the prompt is empty"),
        (8, "num_inference_steps is 9999"),
        (9, "10 cells, and the table has 8 columns"),
    ):
        assert f"line {line}: {problem}" in told
    listed = rows_of(work / "out" / "images.csv")
    drawn = [(row["line"], row["pose"], row["prompt"], row["seed"]) for row in listed if row["image"]]
    assert drawn == [
        ("2", "left", "a man, running", "7"),
        ("2", "left", "a man, running", "8"),
        ("3", "right", "a woman", "5"),
        ("4", "left", "a park", "5"),
        ("4", "right", "a park", "5"),
    ]
    assert [row["line"] for row in listed if row["problem"]] == ["5", "6", "7", "8", "9"]
    first, woman = (read_png_info(work / "out" / listed[i]["image"]) for i in (0, 2))
    assert (first["negative_prompt"], first["settings"]["num_inference_steps"]) == ("blue", 2)
    assert (woman["settings"]["num_inference_steps"], woman["settings"]["guidance_scale"]) == (3, 2.5)
    assert len(read_png_info(work / "out" / "sheet.png")["rows"]) == 4


def test_a_row_gives_the_image_of_the_same_single_command(work, model):
    assert run(model, "--prompts", "rows.csv") == 0
    listed = rows_of(work / "out" / "images.csv")
    pose = ["--pose", "poses/left.json", "--model", str(model), "--steps", "2"]
    assert main(["generate", "a park", *pose, "--n", "1", "--out", "alone"]) == 0
    name = next(row["image"] for row in listed if row["line"] == "4" and row["pose"] == "left")
    batch, alone = (np.asarray(Image.open(work / folder / name)).astype(int) for folder in ("out", "alone"))
    assert np.abs(batch - alone).max() <= 2  # sums of another batch are rounded in another order


def test_the_same_command_goes_on_after_a_stop(work, model, capsys):
    assert run(model, "--prompts", "rows.csv", "--batch-size", "1") == 0
    before = {path: path.stat().st_mtime_ns for path in (work / "out").glob("*seed*.png")}
    assert len(before) == 5
    gone = sorted(before)[1]
    content = gone.read_bytes()
    gone.unlink()
    capsys.readouterr()
    assert run(model, "--prompts", "rows.csv", "--batch-size", "1") == 0
    assert "5 images in out, 4 of them there already" in capsys.readouterr().out
    assert gone.read_bytes() == content
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != gone)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,sed\na,1\n", "column 'sed' is not known; the columns are pose, prompt, negative_prompt"),
        ("pose,seed\na,1\n", "there is no column 'prompt'"),
        ("prompt,prompt\na,1\n", "is there twice"),
        ("prompt,seed\n,1\n", "no row can be drawn; line 2: the prompt is empty"),
        ("", "there is no column 'prompt'"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(work, model, capsys, content, message):
    (work / "rows.csv").write_text(content)
    assert run(model, "--prompts", "rows.csv") == 2
    assert message in capsys.readouterr().err


def test_a_prompt_and_a_table_are_not_both_taken(work, model, capsys):
    assert run(model, "a man", "--prompts", "rows.csv") == 2
    assert run(model) == 2
    assert capsys.readouterr().err.count("one of them") == 2


def test_other_programs_tables_are_read(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes("\ufeffPrompt;Seed;width;height\r\na man, tall;3;32;16\r\n\r\nein Mädchen;;;\r\n".encode())
    first, second = read_prompt_table(file, SamplingConfig(num_inference_steps=4)).rows
    assert (first.prompt, first.seed, first.sampling.size, first.line) == ("a man, tall", 3, (32, 16), 2)
    assert (second.prompt, second.seed, second.sampling.num_inference_steps) == ("ein Mädchen", None, 4)
    file.write_bytes("prompt\nein M\xe4dchen\n".encode("latin-1"))
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_prompt_table(file, SamplingConfig())
