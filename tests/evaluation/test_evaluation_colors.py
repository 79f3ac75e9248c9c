"""Colours of tops: who is looked at, and what is seen of images with known answers and of real renders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from humansd.evaluation.colors import TopColor, named_tops, seen_color, top_colors, torso_mask
from humansd.evaluation.text_model import compare_text_models
from humansd.inference.pretrained import weights_folder
from humansd.models.clip_similarity import ClipScorer
from humansd.models.features import load_processor
from humansd.models.pocket import text_model
from humansd.pose.people import People
from humansd.synthetic.plan import COLORS
from humansd.synthetic.render import make_sample
from tiny_pipeline import standing, tiny_clip, tiny_components

SIDE = 64


def two() -> People:
    """Two people who stand side by side."""
    one = standing((SIDE, SIDE)).xy[0] * [0.5, 1]
    return People.of(np.stack([one, one + np.array([SIDE / 2, 0])]), (SIDE, SIDE))


def dressed(left: str, right: str) -> np.ndarray:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, : SIDE // 2], image[:, SIDE // 2 :] = COLORS[left], COLORS[right]
    return image


def test_each_person_has_the_color_of_the_own_torso():
    found = top_colors(("red", "teal"), two(), dressed("red", "blue"), dressed("red", "teal"))
    assert found == (TopColor(1, "red", "red", "red"), TopColor(2, "teal", "blue", "teal"))
    alone = top_colors((None, "teal"), two(), dressed("red", "teal"), None)
    assert alone == (TopColor(2, "teal", "teal", None),)
    assert top_colors((), two(), dressed("red", "red"), None) == ()


def test_a_torso_that_is_hidden_or_too_small_is_not_looked_at():
    people = two()
    seen = np.full((2, 17), 2)
    seen[1, 5] = 1
    assert torso_mask(People.of(people.xy, people.canvas, visibility=seen), 1) is None
    assert torso_mask(people, 1) is not None
    assert torso_mask(People.of(people.xy / 8, people.canvas), 0) is None


def test_colors_are_known_only_where_the_caption_names_them():
    extras = {"top_colours": ["red", "blue"]}
    assert named_tops("photo", extras, 2) == ("red", "blue")
    assert named_tops("photo", {**extras, "named": [False, True]}, 2) == (None, "blue")
    assert named_tops("sketch", extras, 2) == ()
    assert named_tops("photo", {}, 2) == ()
    assert named_tops("photo", {"top_colours": ["mauve", "blue"]}, 2) == (None, "blue")
    assert named_tops("photo", {"top_colours": "red"}, 3) == ()


def test_real_renders_show_the_colors_of_their_captions():
    right = []
    for index in range(60):
        sample = make_sample(31, index, 128)
        for place, named in enumerate(named_tops(sample.scene, sample.extras, sample.people.n)):
            inside = None if named is None else torso_mask(sample.people, place)
            if inside is not None:
                right.append(seen_color(sample.image, inside) == named)
    assert len(right) >= 10
    assert np.mean(right) >= 0.8


def scorer(clip) -> ClipScorer:
    return ClipScorer(
        clip, tiny_components()["tokenizer"], load_processor(str(weights_folder("pocket") / "clip"), "test")
    )


def test_a_clip_whose_text_tower_is_the_models_is_told_also_after_it_learned_on():
    torch.manual_seed(0)
    vocabulary = len(tiny_components()["tokenizer"])
    own, other = tiny_clip(vocabulary), tiny_clip(vocabulary)
    encoder = text_model(own)
    same = compare_text_models(encoder, scorer(own))
    assert same["equal"]
    assert same["shared"]
    assert same["cosine"] == pytest.approx(1)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 0.01 * weight.std().nan_to_num() * torch.randn_like(weight)
    learned_on = compare_text_models(encoder, scorer(own))
    assert not learned_on["equal"]
    assert learned_on["shared"]
    apart = compare_text_models(encoder, scorer(other))
    assert not apart["shared"]
    assert abs(apart["cosine"]) < 0.2
