"""`generate` goes on after a stop, and what it writes is read by other tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from humansd.cli import main
from humansd.inference.image_info import parameters_text, read_png_info
from humansd.pipelines import HumanSDPipeline
from humansd.pose.formats import write_poses
from humansd.pose.render import draw_people
from tiny_pipeline import SIZE, standing, tiny_components


def save(folder: Path, change: float = 0.0) -> None:
    pipe = HumanSDPipeline(**tiny_components())
    with torch.no_grad():
        pipe.unet.conv_out.bias += change
    pipe.save_pretrained(folder)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a pose, from which commands run."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "model")
    write_poses(tmp_path / "pose.json", {"pose": standing((32, 32))}, "coco")
    return tmp_path


def command(*more: object, out: str = "out", n: int = 4) -> list[str]:
    words = ["generate", "a man", "--pose", "pose.json", "--model", "model", "--steps", 2, "--n", n, "--batch-size", 2]
    return [str(word) for word in (*words, "--out", out, *more)]


def drawn(folder: Path) -> dict[str, bytes]:
    return {path.name: Image.open(path).tobytes() for path in sorted(folder.glob("*seed*.png"))}


def test_a_rerun_draws_what_is_missing_and_leaves_the_rest(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command()) == 0
    assert "already" not in capsys.readouterr().out
    whole = drawn(work / "out")
    (work / "out" / "pose_a-man_seed3.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in (work / "out").glob("*seed*.png")}
    assert main(command()) == 0
    assert "4 images in out, 3 of them there already" in capsys.readouterr().out
    assert drawn(work / "out") == whole
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())


def test_after_ctrl_c_the_same_command_goes_on(work: Path) -> None:
    slow = [sys.executable, "-m", "humansd.cli", *command("--steps", 60, out="cut", n=40)]
    # A shell's background job ignores the signal, and so would what it starts.
    running = subprocess.Popen(
        slow,
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and len(list((work / "cut").glob("*seed*.png"))) < 2:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    assert "go on" in running.communicate(timeout=60)[1].splitlines()[-1]
    assert running.returncode == 130
    first = drawn(work / "cut")
    assert 2 <= len(first) < 40
    assert main(command("--steps", 60, out="cut", n=len(first) + 2)) == 0
    assert main(command("--steps", 60, out="whole", n=len(first) + 2)) == 0
    assert drawn(work / "cut") == drawn(work / "whole")


def test_a_model_that_has_changed_draws_anew(work: Path) -> None:
    assert main(command(n=1)) == 0
    before = drawn(work / "out")
    save(work / "model", change=0.5)
    assert main(command(n=1)) == 0
    after = drawn(work / "out")
    assert list(after) == ["pose_a-man_seed0-2.png", "pose_a-man_seed0.png"]
    assert after["pose_a-man_seed0.png"] == before["pose_a-man_seed0.png"] != after["pose_a-man_seed0-2.png"]


def test_another_drawing_and_another_start_of_the_same_name_draw_anew(work: Path) -> None:
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    Image.fromarray(image).save(work / "start.png")
    Image.fromarray(draw_people(standing((SIZE, SIZE)))[..., ::-1]).save(work / "drawn.png")
    options = ["--pose", "drawn.png", "--pose-kind", "skeleton", "--image", "start.png", "--strength", "1"]
    for count, change in ((1, None), (1, None), (2, "start.png"), (3, "drawn.png")):
        if change is not None:
            Image.fromarray(255 - np.asarray(Image.open(work / change).convert("RGB"))).save(work / change)
        assert main(command(*options, n=1)) == 0
        assert len(drawn(work / "out")) == count


def test_other_tools_read_how_an_image_was_made(work: Path) -> None:
    assert main(command("--negative", "blurred, 手", "--scheduler", "dpm++-2m", n=1)) == 0
    path = work / "out" / "pose_a-man_seed0.png"
    text = Image.open(path).text["parameters"]
    lines = text.splitlines()
    assert lines[:2] == ["a man", "Negative prompt: blurred, 手"]
    pairs = dict(pair.split(": ", 1) for pair in lines[2].split(", "))
    assert (pairs["Steps"], pairs["Sampler"], pairs["CFG scale"], pairs["Seed"]) == ("2", "dpm++-2m", "5.0", "0")
    assert pairs["Size"] == f"{SIZE}x{SIZE}"
    assert text == parameters_text(read_png_info(path))
