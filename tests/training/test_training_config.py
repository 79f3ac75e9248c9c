"""A dry run checks what a run would; settings come from files and are explained."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from humansd.cli import main
from humansd.core.names import present_name
from humansd.data.sample import Sample
from humansd.data.shards import write_shards
from humansd.models.names import weights_folder
from humansd.pose import People
from humansd.training.checks import check_inputs
from humansd.training.presets import PRESETS
from humansd.training.run import run_preset
from humansd.training.settings import with_overrides
from humansd.training.settings_help import explanations, settings_help
from tiny_pipeline import SIZE, standing


def dry(preset: str, **overrides: str) -> dict:
    return json.loads(run_preset(preset, {key.replace("__", "."): v for key, v in overrides.items()}, dry_run=True))


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("pocket-humansd", {"data": "/nope"}, r"data = '/nope': no such folder; name a folder of shards"),
        ("pocket-humansd", {"loss": "huber"}, "loss = 'huber': known are ldm"),
        ("pocket", {"humansd__loss": "huber"}, "loss = 'huber': known are ldm"),
        ("pocket-humansd", {"method": "depth"}, "method = 'depth' is not known"),
        (
            "pocket-humansd",
            {"base_model": "./nope"},
            r"base_model = './nope': no such folder; name a folder of a model",
        ),
        ("pocket-vae", {"init": "nope"}, r"init = 'nope': no such folder"),
        ("pocket-higherhrnet", {"data": "nope/*.tar"}, "no such folder"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(preset: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        dry(preset, **overrides)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("t2i-adapter-pocket", {}, "t2i-adapter-pocket: base_model is empty; name a diffusers folder or hub id"),
        ("pocket-base", {}, "pocket-base: components is empty; name a diffusers folder"),
        ("subject-pocket", {"components": "pocket"}, "subject is empty; name a folder of shards of one person"),
        ("pocket-tiny-decoder", {}, "init is empty; name the folder of the VAE"),
        ("pocket-finetune", {"base_model": "pocket"}, "head is empty; train one with `humansd train pocket-latent"),
        ("dual-adapter-pocket", {"base_model": "pocket"}, "weights/pocket': holds no trained adapter; train one"),
        ("humansd-sd15", {}, "estimator = 'higherhrnet-w48': its weights do not ship"),
        ("pocket-humansd", {"base_model": "."}, "base_model = '.': has no unet/config.json; name a whole diffusers"),
    ],
)
def test_a_dry_run_of_data_refuses_what_a_run_of_them_refuses(
    tmp_path: Path, preset: str, overrides: dict[str, str], message: str
) -> None:
    """With the same words, before anything is written."""
    canvas = (SIZE * 4, SIZE * 4)
    asked = {"data": str(shards(tmp_path / "data", standing(canvas), "a man")), **overrides}
    for dry_run in (True, False):
        with pytest.raises((ValueError, OSError), match=message):
            run_preset(preset, asked, tmp_path / "run", dry_run)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_without_data_says_that_it_tells_the_memory_alone() -> None:
    with pytest.warns(UserWarning, match=r"a run needs --set data=FOLDER and --set base_model=FOLDER; without data"):
        told = dry("t2i-adapter-pocket")
    assert told["memory"]["gb"]["total"] > 0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"steps": "50", "lr_warmup_steps": "30", "cooldown_steps": "30"}, "= 30 and cooldown_steps = 30, .* to 72%"),
        ({"steps": "50", "lr_warmup_steps": "30", "cooldown_steps": "20"}, ""),
        ({"steps": "1", "lr_warmup_steps": "4", "lr_scheduler": "cosine", "cooldown_steps": "9"}, "= 4, .* to 25%"),
    ],
)
def test_a_schedule_longer_than_the_run_is_told(
    recwarn: pytest.WarningsRecorder, overrides: dict[str, str], told: str
) -> None:
    check_inputs("pocket-vae", with_overrides(PRESETS["pocket-vae"], overrides))
    texts = [str(one.message) for one in recwarn if "fewer than" in str(one.message)]
    assert len(texts) == bool(told)
    assert all(re.search(told, text) for text in texts)


def shards(folder: Path, people: People, caption: str) -> Path:
    def make(index: int) -> Sample:
        image = np.full((SIZE * 4, SIZE * 4, 3), index, np.uint8)
        return Sample(f"s{index}", image, caption, people, "photo", "test", "CC0-1.0")

    write_shards(make, 3, folder, workers=1, progress=False)
    return folder


@pytest.mark.parametrize(
    ("preset", "posed", "caption", "told"),
    [
        ("pocket-humansd", False, "a man", ["people with key points"]),
        ("pocket-humansd", True, "", ["a caption"]),
        ("pocket-humansd", True, "a man", []),
        ("pocket-clip", False, "", ["a caption"]),
        ("pocket-higherhrnet", False, "", ["people with key points"]),
        ("pocket-base", False, "a man", []),
    ],
)
def test_data_without_people_or_captions_are_told(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, preset: str, posed: bool, caption: str, told: list[str]
) -> None:
    canvas = (SIZE * 4, SIZE * 4)
    data = shards(tmp_path / "data", standing(canvas) if posed else People.empty(canvas), caption)
    base = {"base_model": "pocket"} if preset in ("pocket-humansd", "pocket-base") else {}
    dry(preset, data=str(data), **base)
    texts = [str(one.message) for one in recwarn if "none of the first 3 samples" in str(one.message)]
    assert len(texts) == len(told)
    assert all(part in text for part, text in zip(told, texts, strict=True))


def test_the_shipped_model_is_a_base_and_its_parts() -> None:
    settings = dry("pocket-humansd", base_model="pocket", components="pocket")["settings"]
    assert settings["base_model"] == settings["components"] == str(weights_folder("pocket"))
    assert settings == dry("pocket-humansd", base="pocket", parts="pocket")["settings"]  # their former names
    assert present_name("base.steps") == "base.steps"  # a stage of the recipe


def test_settings_come_from_a_file_and_set_goes_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml, record, dried = (tmp_path / name for name in ("run.yaml", "config.json", "dry.json"))
    yaml.write_text(
        "steps: 7\nlearning_rate: 0.001\ncache_text: true\nloss: heatmap\ncompile: no\nmixed_precision: no\n"
    )
    assert main(["train", "pocket-humansd", "--config", str(yaml), "--set", "steps=8", "--dry-run"]) == 0
    dried.write_text(capsys.readouterr().out)
    settings = json.loads(dried.read_text())["settings"]
    assert (settings["compile"], settings["mixed_precision"]) == ("no", "no")  # YAML's own false
    known = {key: settings[key] for key in ("steps", "learning_rate", "cache_text", "loss", "batch_size")}
    usual = dataclasses.asdict(PRESETS["pocket-humansd"])["batch_size"]
    assert known == {"steps": 8, "learning_rate": 0.001, "cache_text": True, "loss": "heatmap", "batch_size": usual}
    # What a run records beside its settings, and former names, are understood.
    run = {**settings, "data_digest": "x", "base_weights": "y"}
    former = {"accumulation": "gradient_accumulation_steps", "base": "base_model", "parts": "components"}
    run |= {before: run.pop(now) for before, now in former.items()}
    record.write_text(json.dumps(run))
    for file in (dried, record):
        assert json.loads(run_preset("pocket-humansd", {}, dry_run=True, config=file))["settings"] == settings


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "a.json: neither JSON nor YAML"),
        ("a.yaml", "steps: [1, 2]", "a.yaml: steps is .1, 2.; a setting is"),
        ("a.yaml", "steps: 1\nsteps: 2", "a.yaml: neither JSON nor YAML of settings .steps is there twice."),
        ("a.yaml", "stepps: 3", r"a.yaml: stepps: no such setting; did you mean steps\?"),
        ("a.yaml", "frobnicate: 3", "a.yaml: frobnicate: no such setting; known: steps"),
        ("a.yaml", "steps: many", "a.yaml: steps=many: needs a value of type int"),
        ("a.yaml", "!!python/object/apply:os.getcwd []", "a.yaml: neither JSON nor YAML"),
        ("a.json", "[1]", "a.json: holds a list and no settings"),
    ],
)
def test_a_file_of_settings_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        run_preset("pocket-humansd", {}, dry_run=True, config=tmp_path / name)


def test_every_setting_of_every_preset_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for settings in PRESETS.values():
        told = explanations(type(settings))
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            if dataclasses.is_dataclass(value):
                assert f"{field.name}.SETTING" in settings_help(settings)
            else:
                assert len(told[field.name].strip("* ")) > 8, field.name
    with pytest.raises(SystemExit):
        main(["train", "pocket-humansd", "--help"])
    out = capsys.readouterr().out
    assert "usage: humansd train" in out
    assert "mask_strength=3.0" in out
    assert "an error on a person counts 1 + this" in out
    with pytest.raises(SystemExit):
        main(["train", "no-such-preset", "--help"])
    assert "no such preset; known: pocket" in capsys.readouterr().err
