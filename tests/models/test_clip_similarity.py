"""CLIPSIM: 100 cosines, the same in any batch, and a shipped pair that knows which caption is an image's own."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPVisionModelWithProjection

from humansd.models.clip_similarity import ClipScorer
from humansd.models.features import SHIPPED
from humansd.models.pocket import train_tokenizer
from tiny_pipeline import CAPTIONS, tiny_clip
from whole_images import whole_samples

HELD_OUT_SEED = 880_001  # training uses seed 1
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((16, 16), (40, 23), (3, 9), (16, 16))]
PROMPTS = ["a man running", "two women dancing", "", "oil painting of a park"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair") / "clip"
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, 560, max_length=12)
    tiny_clip(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(source):
    return ClipScorer.from_pretrained(str(source))


def test_scores_are_100_cosines_of_the_two_towers(source, scorer):
    found = scorer.scores(IMAGES, PROMPTS)
    assert (found.shape, found.dtype) == ((4,), np.float64)
    values = (IMAGES[0] / 255 - CLIPImageProcessor().image_mean) / CLIPImageProcessor().image_std
    pixels = torch.tensor(values.transpose(2, 0, 1)[None], dtype=torch.float32)
    tokens = train_tokenizer(CAPTIONS, 560, max_length=12)(PROMPTS[0], return_tensors="pt")  # nothing padded
    (clip,) = scorer.networks
    with torch.no_grad():
        image = CLIPVisionModelWithProjection.from_pretrained(source)(pixel_values=pixels).image_embeds[0]
        text = clip.text_projection(clip.text_model(**tokens).pooler_output)[0]
    cosine = image.dot(text) / image.norm() / text.norm()
    assert found[0] == pytest.approx(100 * cosine.item(), abs=1e-3)


def test_scores_do_not_depend_on_what_is_beside_them(scorer):
    together = scorer.scores(IMAGES, PROMPTS)
    alone = [scorer.scores([image], [prompt])[0] for image, prompt in zip(IMAGES, PROMPTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert together == pytest.approx(scorer.scores(IMAGES[::-1], PROMPTS[::-1])[::-1], abs=1e-4)
    assert scorer.scores([], []).shape == (0,)


def test_negative_cosines_stay(scorer):
    (clip,) = scorer.networks
    before = scorer.scores(IMAGES, PROMPTS)
    with torch.no_grad():
        clip.visual_projection.weight.neg_()
    try:
        assert scorer.scores(IMAGES, PROMPTS) == pytest.approx(-before, abs=1e-4)
    finally:
        with torch.no_grad():
            clip.visual_projection.weight.neg_()


def test_a_long_prompt_is_cut_with_a_warning_that_names_it(scorer):
    long = "a man running in a park with two women dancing at night in the rain"
    with pytest.warns(UserWarning, match=r"prompt 'a man running in .* longer than the 12 tokens .* ignored: '.*rain'"):
        cut = scorer.scores(IMAGES[:1], [long])
    with pytest.warns(UserWarning, match="ignored: '.*snow'"):
        assert cut == pytest.approx(scorer.scores(IMAGES[:1], [long.replace("rain", "snow")]), abs=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer.scores(IMAGES, PROMPTS)


def test_wrong_input_is_refused(scorer):
    with pytest.raises(ValueError, match="2 images and 1 prompts; give a list of one prompt an image"):
        scorer.scores(IMAGES[:2], ["a man"])
    with pytest.raises(ValueError, match="1 images and 1 prompts; give a list"):
        scorer.scores(IMAGES[:1], "a man")
    with pytest.raises(ValueError, match="image 1 is float64"):
        scorer.scores([IMAGES[0], IMAGES[1] / 255], PROMPTS[:2])


def test_folders_that_cannot_serve_are_named_in_one_line(source, tmp_path):
    for name in ("lacking", "speechless", "unprepared", "mismatched"):
        shutil.copytree(source, tmp_path / name)
    state = load_file(source / "model.safetensors")
    state.pop("visual_projection.weight")
    save_file(state, tmp_path / "lacking" / "model.safetensors", {"format": "pt"})
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "speechless" / file).unlink()
    (tmp_path / "unprepared" / "preprocessor_config.json").unlink()
    train_tokenizer([*CAPTIONS, "many other words of quite another kind"], 600).save_pretrained(tmp_path / "mismatched")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    CLIPTextModel(CLIPTextConfig(vocab_size=9, **small)).save_pretrained(tmp_path / "text")
    for name, kind, reason in (
        ("lacking", OSError, r"lacks 1 weights \(visual_projection\.weight\)"),
        ("speechless", ValueError, "has a tokenizer of .* tokens, its CLIP reads"),
        ("unprepared", OSError, "cannot be loaded"),
        ("mismatched", ValueError, "has a tokenizer of .* tokens, its CLIP reads"),
        ("text", ValueError, "is a clip_text_model; a CLIP with both towers is needed"),
        ("absent", OSError, "is no folder and no hub id"),
    ):
        with pytest.raises(kind, match=rf"^text similarity: .*{name}.* {reason}") as caught:
            ClipScorer.from_pretrained(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="device 'nonsense'"):
        ClipScorer.from_pretrained(str(source), "nonsense")


@pytest.mark.filterwarnings("ignore:prompt .* is longer")
def test_the_shipped_pair_prefers_the_true_caption():
    samples = whole_samples(HELD_OUT_SEED, 20, 128)
    images, captions = [sample.image for sample in samples], [sample.caption for sample in samples]
    scorer = ClipScorer.from_pretrained()
    true = scorer.scores(images, captions)
    others = np.stack([scorer.scores(images, captions[k:] + captions[:k]) for k in (1, 7)])
    assert (np.abs(true) <= 100).all()
    assert (true > others).mean() >= 0.85  # chance is 0.5; 0.98 was measured over 256 pairs
    assert ClipScorer.from_pretrained(str(SHIPPED)).scores(images[:1], captions[:1]) == pytest.approx(true[:1])
