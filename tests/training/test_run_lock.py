"""Every command that writes a run holds the lock of its folder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from humansd.cli import main
from humansd.core.lock import LOCK_FILE, LockedError, locked
from humansd.data.shards import write_shards
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.pipelines import HumanSDPipeline
from humansd.pose.formats import write_poses
from humansd.training.loop import train
from humansd.training.run import run_preset
from humansd.training.settings import LoopSettings
from shard_makers import make
from tiny_pipeline import standing, tiny_components
from train_line import Line

pytest.importorskip("fcntl")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[threading.Event]:
    """Another writer has the folder, until the event is set or the block ends."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder, "another run"):
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert taken.wait(10)
        yield done
    finally:
        done.set()
        thread.join()


def a_training_run(out: Path) -> object:
    settings = LoopSettings(steps=2, batch_size=4, device="cpu", mixed_precision="no", report_to="none")
    return train(Line(settings, 0), out)


def the_recipe(out: Path) -> object:
    return run_preset("tiny", {"images": "4"}, out)


def an_evaluation(out: Path) -> object:
    return evaluate(EvaluationSettings(), out.parent / "data", out, progress=False)


@pytest.mark.parametrize("run", [a_training_run, the_recipe, an_evaluation])
def test_a_second_run_is_refused_and_leaves_nothing(tmp_path, run):
    out = tmp_path / "run"
    with held(out):
        with pytest.raises(LockedError, match=r"run: another process .* wait until it has ended, or choose another"):
            run(out)
        assert [path.name for path in out.iterdir()] == [LOCK_FILE]


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    write_shards(make, 1, tmp_path / "data", workers=1, progress=False)
    with held(tmp_path / "run"):
        assert main(["evaluate", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run: another process" in line


def test_who_draws_into_a_folder_waits_for_the_other(tmp_path, monkeypatch, capsys):
    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path / "model")
    write_poses(tmp_path / "standing.json", {"standing": standing()}, "coco")
    out, seen = tmp_path / "out", []
    command = ["generate", "a man", "--pose", str(tmp_path / "standing.json"), "--model", str(tmp_path / "model")]
    with held(out) as done:

        def wait(seconds: float) -> None:
            seen.append([path.name for path in out.iterdir()])
            done.set()

        monkeypatch.setattr("humansd.core.lock.time", SimpleNamespace(sleep=wait))
        assert main([*command, "--steps", "1", "--n", "1", "--out", str(out)]) == 0
    assert seen[0] == [LOCK_FILE]
    assert "is writing images there; waiting for it" in capsys.readouterr().err
    (image,) = out.glob("*seed*.png")
    assert np.asarray(Image.open(image)).shape == (16, 16, 3)
