"""CLIP's tokenizer against the original algorithm, and the check that keeps a model from being deaf."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from accelerate import init_empty_weights
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.models.codec import encode_text
from humansd.models.tokenizers import check_tokenizer, clip_tokenizer, load_tokenizer
from original_clip import MERGES, bpe

# Ids that OpenCLIP's own SimpleTokenizer (open_clip_torch 3.3.0) gives.
KNOWN = {
    "a photo of a cat": [49406, 320, 1125, 539, 320, 2368, 49407],
    "Café Zoë, naïve façade": [49406, 15304, 4397, 40520, 267, 1097, 35689, 563, 778, 10067, 1928, 49407],
    "A dancer's 2 hands — it's 1920!": [
        49406, 320, 11400, 568, 273, 3500, 2005, 585, 568, 272, 280, 273, 271, 256, 49407,
    ],
    "🙂 two women 👩‍🎤": [49406, 14860, 1237, 1507, 26304, 15690, 49407],
    "!!! wow!? (((masterpiece)))": [49406, 995, 2781, 6004, 33287, 12066, 18305, 49407],
    "supercalifragilisticexpialidocious": [49406, 1642, 2857, 13093, 2076, 5868, 26850, 835, 639, 38466, 49407],
    "  many\t spaces\n here ": [49406, 1346, 9006, 763, 49407],
    "日本の 浮世絵": [49406, 39121, 44353, 4813, 362, 162, 113, 106, 19759, 244, 37810, 369, 49407],
    "": [49406, 49407],
    "we've they'll I'd": [49406, 649, 1200, 889, 1342, 328, 1896, 49407],
    "x_y-z @#$% 3.14159": [
        49406, 343, 318, 344, 268, 345, 31, 2, 3, 260, 274, 269, 272, 275, 272, 276, 280, 49407,
    ],
}  # fmt: skip
HOSTILE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}  # nobody listens there


def encoder(width: int = 12, vocabulary: int = 49408) -> CLIPTextModel:
    small = {"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 77}
    return CLIPTextModel(CLIPTextConfig(vocab_size=vocabulary, hidden_size=width, **small))


@pytest.fixture(scope="module")
def small_encoder():
    return encoder()


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_ids_are_those_of_the_original_code(family):
    tokenizer = clip_tokenizer(family)
    assert len(tokenizer) == 49408
    assert {prompt: tokenizer(prompt).input_ids for prompt in KNOWN} == KNOWN
    long = "a very detailed oil painting of two dancers, " * 20
    assert tokenizer(long, truncation=True).input_ids == [*bpe(long)[:76], 49407]
    for prompt in (*KNOWN, "Ünïcödé ÆØÅ ½ ² ٣", "it's 'tis 'sand don'tcha", "((a:1.3)), [b]", "мир, 한국어", long):
        assert tokenizer(prompt, verbose=False).input_ids == bpe(prompt)


def test_each_family_pads_as_it_was_trained():
    rows = {family: clip_tokenizer(family)("a cat!", padding="max_length").input_ids for family in ("sd1", "sd2")}
    assert rows["sd1"] == [49406, 320, 2368, 256] + [49407] * 73
    assert rows["sd2"] == [49406, 320, 2368, 256, 49407] + [0] * 72
    with pytest.raises(ValueError, match="family is 'sdxl'; choose sd1 or sd2"):
        clip_tokenizer("sdxl")


def test_the_words_are_the_published_ones_and_come_with_their_licence():
    folder = resources.files("humansd.models") / "clip_words"
    words = gzip.decompress((folder / "merges.txt.gz").read_bytes())
    told = (folder / "README.md").read_text()
    assert hashlib.sha256(words).hexdigest() in told
    assert "Copyright (c) 2021 OpenAI" in told
    assert "Gabriel Ilharco" in told


def test_a_saved_tokenizer_is_the_same_again(small_encoder, tmp_path):
    clip_tokenizer("sd2").save_pretrained(tmp_path / "tokenizer")
    for source in (tmp_path, str(tmp_path), tmp_path / "tokenizer"):
        again = load_tokenizer(source, small_encoder, family="sd2")
        assert again("cat!", padding="max_length").input_ids == [49406, 2368, 256, 49407] + [0] * 73
        assert again.model_max_length == 77


def test_the_older_files_are_read_too(small_encoder, tmp_path):
    write_old_files(tmp_path / "tokenizer")
    assert (
        load_tokenizer(tmp_path, small_encoder, family="sd1")("a photo of a cat").input_ids == KNOWN["a photo of a cat"]
    )


@pytest.mark.parametrize("content", ["nothing", "config", "half"])
def test_a_folder_without_words_is_refused(content, small_encoder, tmp_path):
    folder = tmp_path / "tokenizer"
    write_old_files(folder)
    for name in {"nothing": os.listdir(folder), "config": ["vocab.json", "merges.txt"], "half": ["merges.txt"]}[
        content
    ]:
        (folder / name).unlink()
    with pytest.raises((ValueError, OSError)) as caught:
        load_tokenizer(tmp_path, small_encoder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    assert "\n" not in message
    if content != "half":
        assert "has 2 tokens (files are missing: tokenizer.json, or vocab.json and merges.txt)" in message
        assert "reads 49408" in message


def test_the_remedy_in_the_message_mends_the_folder(tmp_path):
    with init_empty_weights():
        sd1 = encoder(768)
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(ValueError, match=r'clip_tokenizer\("sd1"\)\.save_pretrained\(FOLDER\)'):
        load_tokenizer(tmp_path, sd1)
    clip_tokenizer("sd1").save_pretrained(tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path, sd1).pad_token == "<|endoftext|>"


def test_the_padding_of_the_other_family_is_refused(tmp_path):
    with init_empty_weights():
        sd1, sd2 = encoder(768), encoder(1024)
    check_tokenizer(clip_tokenizer("sd1"), sd1)
    check_tokenizer(clip_tokenizer("sd2"), sd2)
    with pytest.raises(
        ValueError, match=r"^here: the tokenizer pads with '!', CLIP ViT-L/14 .* with '<\|endoftext\|>'"
    ):
        check_tokenizer(clip_tokenizer("sd2"), sd1, "here")
    clip_tokenizer("sd1").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"pads with '<\|endoftext\|>', OpenCLIP ViT-H/14 .*\"pad_token\": \"!\""):
        load_tokenizer(tmp_path, sd2)
    config = tmp_path / "tokenizer_config.json"  # the remedy that the message names
    config.write_text(json.dumps(json.loads(config.read_text()) | {"pad_token": "!"}))
    assert load_tokenizer(tmp_path, sd2).pad_token_id == 0


def test_tokens_of_textual_inversion_pass_with_a_resized_encoder_and_only_then():
    sd1, tokenizer = encoder(768), clip_tokenizer("sd1")
    tokenizer.add_tokens(["<my-style>", "<my-style>_1"])
    with pytest.raises(ValueError, match=r"the tokenizer has 49410 tokens, its text encoder reads 49408"):
        check_tokenizer(tokenizer, sd1)
    sd1.resize_token_embeddings(49410)
    check_tokenizer(tokenizer, sd1)
    assert encode_text(tokenizer, sd1, ["a <my-style> cat"]).shape == (1, 77, 768)


def test_sources_that_cannot_be(small_encoder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer '/nowhere': no such folder, and no hub id"):
        load_tokenizer("/nowhere", small_encoder)
    with pytest.raises(OSError, match=r"^nobody/nothing: .*HF_HUB_OFFLINE is set"):
        load_tokenizer("nobody/nothing", small_encoder)
    for name, text in (("vocab.json", "{"), ("merges.txt", "garbage"), ("tokenizer.json", "{")):
        folder = tmp_path / name
        write_old_files(folder)
        (folder / name).write_text(text)
        with pytest.raises(OSError, match=rf"{name}: no tokenizer can be loaded \("):
            load_tokenizer(folder, small_encoder)


def test_a_cached_repository_is_read_at_its_tokenizer_and_an_absent_hub_is_said_in_seconds(small_encoder, tmp_path):
    """One process with real hub clients: three repositories in the cache, one nowhere, and a hub that is not there."""
    for name, inside in (("one/pipeline", "tokenizer"), ("one/root", ""), ("one/empty", "unet")):
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text("0" * 40)
        folder = home / "snapshots" / ("0" * 40) / inside
        if name == "one/empty":
            folder.mkdir(parents=True)
        else:
            clip_tokenizer("sd1").save_pretrained(folder)
    small_encoder.save_pretrained(tmp_path / "encoder")
    code = f"""
import time
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel
from humansd.models.loading import load_part
from humansd.models.tokenizers import load_tokenizer
encoder = CLIPTextModel.from_pretrained({str(tmp_path / "encoder")!r})
begun = time.monotonic()
for name in ("one/pipeline", "one/root"):
    print(load_tokenizer(name, encoder)("a photo of a cat").input_ids)
for load in (
    lambda: load_tokenizer("one/empty", encoder),
    lambda: load_tokenizer("nobody/nothing", encoder),
    lambda: load_part(UNet2DConditionModel, "nobody/nothing", "unet"),
    lambda: load_part(CLIPTextModel, "nobody/nothing", "text_encoder"),
):
    try:
        load()
    except OSError as error:
        print(error)
print(time.monotonic() - begun)
"""
    places = {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **HOSTILE, **places},
    )
    assert done.returncode == 0, done.stderr
    *lines, seconds = done.stdout.splitlines()
    assert lines[:2] == [str(KNOWN["a photo of a cat"])] * 2
    assert len(lines) == 6
    for line, name in zip(lines[2:], ("one/empty", *["nobody/nothing"] * 3), strict=True):
        assert line.startswith(f"{name}: ")
    for line in lines[3:]:
        assert "http://127.0.0.1:9 does not answer, and the local cache has no complete copy" in line
    assert float(seconds) < 10


def write_old_files(folder: Path) -> None:
    """A tokenizer as the hub's Stable Diffusion repositories hold it: vocab.json and merges.txt."""
    folder.mkdir(parents=True)
    tokenizer = clip_tokenizer("sd1")
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in MERGES)]) + "\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
