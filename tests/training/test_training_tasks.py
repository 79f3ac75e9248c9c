"""A task is known by its settings: what does not apply is not there, and records of earlier versions are understood."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from humansd.training.loop import settle_settings
from humansd.training.presets import HEAD, POCKET, PRESETS
from humansd.training.run import configured
from humansd.training.settings import DiffusionSettings, HeadSettings, LoopSettings, with_overrides
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.table import TASKS, task_class

# What version 0.1 wrote of a head's run beside what it read.
UNREAD = {
    "loss": "ldm",
    "mask_strength": 3.0,
    "mask": "skeleton",
    "head": "",
    "heatmap_strength": 1.0,
    "train_text": False,
    "min_snr_gamma": 5.0,
    "guidance_scale": 5.0,
    "gradient_checkpointing": False,
}


def record_of(settings: LoopSettings) -> dict:
    return {**dataclasses.asdict(settings), "data_digest": "of the data"}


def settle(settings: LoopSettings, run: Path) -> None:
    settle_settings(SimpleNamespace(settings=settings, fingerprint=lambda: {"data_digest": "of the data"}), run)


def test_a_heads_run_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    former = {**record_of(HEAD), **UNREAD, "pose": "concat"}
    del former["method"]
    (tmp_path / "config.json").write_text(json.dumps(former))
    settle(HEAD, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == record_of(HEAD)
    with pytest.raises(ValueError, match=r"learning_rate was 0\.001 and is now 0\.002"):
        settle(dataclasses.replace(HEAD, learning_rate=0.002), tmp_path)


def test_a_heads_settings_are_read_from_its_former_record(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(record_of(dataclasses.replace(HEAD, steps=7)) | UNREAD))
    assert configured(HEAD, path) == dataclasses.replace(HEAD, steps=7)
    path.write_text(json.dumps({"images": 9, "head": record_of(HEAD) | UNREAD}))
    assert configured(POCKET, path) == dataclasses.replace(POCKET, images=9)


def test_what_the_head_does_not_read_is_no_setting_of_it() -> None:
    with pytest.raises(ValueError, match="--set loss: no such setting; known: steps, batch_size"):
        with_overrides(HEAD, {"loss": "heatmap"})
    absent = {"loss", "train_text", "min_snr_gamma", "mask", "heatmap_strength", "guidance_scale"}
    assert not absent & {field.name for field in dataclasses.fields(HeadSettings)}


def test_the_unet_whose_errors_the_head_reads_is_that_of_its_settings() -> None:
    head = dataclasses.replace(HEAD, data="d", base_model="b", components="p", cached_augmentations=3, text_dropout=0.4)
    plain = head.denoising()
    shared = {field.name for field in dataclasses.fields(HeadSettings)} & set(dataclasses.asdict(plain))
    own = {"estimator", "heatmap_resolutions", "estimator_px"}
    assert {name: getattr(plain, name) for name in shared - own} == {n: getattr(head, n) for n in shared - own}
    assert plain.loss == "ldm"
    assert plain.teacher_wanted_by() == ""  # no estimator is loaded twice


def test_every_preset_of_one_stage_has_a_task() -> None:
    stages = [one for one in PRESETS.values() if isinstance(one, LoopSettings)]
    assert {task_class(one) for one in stages} <= {load() for load in TASKS.values()}
    assert len({load() for load in TASKS.values()}) == len(TASKS)
    assert all(issubclass(task_class(one), BaseTask) for one in stages)
    with pytest.raises(TypeError, match="LoopSettings: no task has such settings"):
        task_class(LoopSettings())


def test_a_run_says_what_it_needs() -> None:
    assert set(DiffusionSettings().needed()) == {"data", "components"}
    assert set(DiffusionSettings(base_model="b").needed()) == {"data"}
    assert set(HEAD.needed()) == {"data", "base_model"}  # which brings its other parts
