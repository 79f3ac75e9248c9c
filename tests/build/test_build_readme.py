"""The README's way from a folder of photographs with captions to a trained step, as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from humansd.cli import main
from shared_data import COCO_PEOPLE

ROOT = Path(__file__).parents[2]


def commands():
    """The three commands, as words."""
    section = (ROOT / "README.md").read_text().partition("## Your photographs")[2]
    block = re.search(r"```\n(.*?)```", section, re.DOTALL)[1]
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.strip()]


def few_photographs(folder):
    """Six of the photographs, since each costs seconds on the way; the lists beside them name all."""
    (folder / "images").mkdir(parents=True)
    for path in [*COCO_PEOPLE.glob("*.json"), *sorted(COCO_PEOPLE.glob("images/*"))[:6]]:
        shutil.copy(path, folder / path.relative_to(COCO_PEOPLE))


@pytest.mark.skipif(not COCO_PEOPLE.is_dir(), reason="no photographs beside this checkout")
def test_photographs_become_a_trained_step_in_three_commands(tmp_path, monkeypatch, capsys):
    few_photographs(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    found = commands()
    assert [words[:2] for words in found] == [["humansd", "data"], ["humansd", "data"], ["humansd", "train"]]
    few = ["--set", "batch_size=2", "--set", "gradient_accumulation_steps=1", "--set", "device=cpu"]
    for words in found:
        more = few if words[1] == "train" else []
        assert main([*words[1:], *more]) == 0, capsys.readouterr().err
    assert "6 samples in 1 shards in shards; left out: 36 x list: the image is missing" in capsys.readouterr().out
    assert (tmp_path / "shards.html").read_text().count("<figure>") == 6
    assert (tmp_path / "runs" / "mine" / "export" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert '"step": 1' in (tmp_path / "runs" / "mine" / "export" / "progress.json").read_text()
