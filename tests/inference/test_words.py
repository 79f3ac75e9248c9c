"""What a model with few words says of a prompt, and the style it draws where none is named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from humansd.cli import main
from humansd.inference.image_info import read_png_info
from humansd.inference.words import (
    WordWarning,
    prepared_negatives,
    prepared_prompts,
    read_vocabulary,
    word_lists,
)
from humansd.models.digests import check_digests
from humansd.models.names import weights_folder
from humansd.pipelines import HumanSDPipeline
from humansd.pose.formats import write_poses
from humansd.synthetic.captions import describe
from humansd.synthetic.lexicon import lexicon
from humansd.synthetic.sampling import sample_plan
from tiny_pipeline import standing, tiny_components


def told(prompt: str, model: str = "pocket") -> tuple[str, list[str]]:
    """The prompt as it is drawn, and the notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = prepared_prompts([prompt], model)[0]
    return drawn, [str(one.message) for one in caught if issubclass(one.category, WordWarning)]


def test_the_shipped_model_carries_the_words_of_its_captions() -> None:
    folder = weights_folder("pocket")
    assert json.loads((folder / "words.json").read_text()) == lexicon()
    check_digests(folder)


@pytest.mark.parametrize("phrasing", ["seen", "held_out"])
def test_no_caption_has_a_word_that_is_not_known_and_none_lacks_a_scene(phrasing: str) -> None:
    for number in range(150):
        rng = np.random.default_rng(number)
        caption = describe(sample_plan(rng), rng, phrasing)  # type: ignore[arg-type]
        assert told(caption) == (caption, [])


@pytest.mark.parametrize(
    ("prompt", "drawn", "unknown"),
    [
        ("photo, a woman, an astronaut", "photo, a woman, an", ["astronaut"]),
        ("photo, une femme qui court", "photo", ["une", "femme", "qui", "court"]),
        ("photo, 走っている女性", "photo", ["走っている女性"]),
        ("photo, a woman in a (red:1.3) dress, masterpiece", "photo, a woman in a (red:1.3) dress", ["masterpiece"]),
        ("photo, a (shiny:1.2) (red:1.3) dress, 8k, 8km", "photo, a (red:1.3) dress, 8k, 8km", ["shiny"]),
        ("a man in a blurred coat", "photo, a man in a coat", ["blurred"]),  # whose pieces are bl-ur-red
        ("a woman in a red dress running", "photo, a woman in a red dress running", []),
        ("A Woman running, oil painting", "A Woman running, oil painting", []),
        ("Oil painting, a woman", "oil_painting, a woman", []),
        ("an ukiyo-e print of a man", "an ukiyo-e print of a man", []),
        ("neon, a man in a T-shirt", "neon, a man in a T-shirt", []),
        ("", "photo, ", []),
    ],
)
def test_what_a_prompt_becomes(prompt: str, drawn: str | None, unknown: list[str]) -> None:
    got, notes = told(prompt)
    wanted = prompt if drawn is None else drawn
    assert got == wanted
    assert any("no style is named" in note for note in notes) == (got.startswith("photo") and "photo" not in prompt)
    named = [note for note in notes if "does not know" in note]
    assert len(named) == bool(unknown)
    assert all(repr(word) in named[0] for word in unknown)


def test_a_negative_prompt_loses_what_is_not_known_too() -> None:
    with pytest.warns(WordWarning, match="does not know 'blurry', 'deformed' of the negative prompt, left out"):
        assert prepared_negatives(["blurry, a hat, deformed", ""], "pocket") == ["a hat", ""]
    assert prepared_negatives(["blurry"], "owner/model") == ["blurry"]
    with pytest.raises(ValueError, match="take it out"):
        prepared_negatives(["<lora:x:1>"], "pocket")


def test_a_model_without_a_vocabulary_takes_every_prompt_as_it_is(tmp_path: Path) -> None:
    assert told("an astronaut", "owner/model") == ("an astronaut", [])
    assert told("an astronaut", str(tmp_path)) == ("an astronaut", [])
    with pytest.raises(ValueError, match=r"has no words.json"):
        word_lists(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"words": "all"}', '{"words": [1]}', "[" * 5000])
def test_a_damaged_vocabulary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "words.json").write_text(text)
    with pytest.raises(ValueError, match=r"words.json: damaged"):
        read_vocabulary(str(tmp_path))


@pytest.mark.parametrize(
    ("tag", "option"),
    [("<lora:style:0.8>", "--lora style.safetensors=0.8"), ("<LORA:my style>", "--lora my style.safetensors")],
)
def test_a_tag_of_a_lora_is_answered_with_the_option(tag: str, option: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["generate", f"a man {tag}", "--pose", "nowhere.json"]) == 2
    said = capsys.readouterr().err
    assert option in said
    assert tag in said


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words"]) == 0
    out = capsys.readouterr().out
    for kind, word in (("scenes", "ukiyoe"), ("places", "on a beach"), ("garments", "hoodie"), ("colors", "teal")):
        line = next(line for line in out.splitlines() if line.startswith(f"{kind}: "))
        assert word in line
    assert "running" in next(line for line in out.splitlines() if line.startswith("actions: "))


def test_generate_says_so_and_draws_the_style(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "words.json").write_text(json.dumps(lexicon()))
    write_poses(tmp_path / "pose.json", {"pose": standing((32, 32))}, "coco")
    command = ["generate", "a purple elephant", "--pose", "pose.json", "--model", "model", "--steps", "1", "--n", "1"]
    assert main(command) == 0
    err = capsys.readouterr().err
    assert "humansd: note: this model does not know 'elephant'" in err
    assert "no style is named" in err
    assert read_png_info(next((tmp_path / "out").glob("*seed0.png")))["prompt"] == "photo, a purple"
