"""Captions say what the plan shows, in words that vary, and keep some sentences for tests."""

import re

import numpy as np
import pytest

from humansd.synthetic import captions
from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.captions import COLOR_WORDS, describe
from humansd.synthetic.plan import COLORED_SCENES, COLORS, LIGHTS, PLACES, SCENES, SKINS
from humansd.synthetic.render import make_sample
from humansd.synthetic.sampling import sample_plan
from humansd.synthetic.wardrobe import too_close_to_skin

ALL_COLOR_WORDS = {word for words in COLOR_WORDS.values() for word in words}


def plans(count, scene=None):
    return [sample_plan(np.random.default_rng((4, index)), scene) for index in range(count)]


def words_of(caption):
    return set(re.findall(r"[a-z]+", caption))


def test_every_word_of_the_plan_has_words():
    assert COLOR_WORDS.keys() == COLORS.keys()
    assert captions.PLACE_WORDS.keys() == set(PLACES)
    assert captions.LIGHT_WORDS.keys() == set(LIGHTS)
    assert captions.STYLE_WORDS.keys() == SCENES.keys()


def test_one_to_three_people_in_the_ratio_of_the_paper():
    counts = np.bincount([len(plan.people) for plan in plans(3000)], minlength=4)[1:]
    assert counts / 3000 == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


@pytest.mark.parametrize("phrasing", ["seen", "held_out"])
def test_caption_names_scene_count_action_and_top_color(phrasing):
    for index, plan in enumerate(plans(300)):
        text = describe(plan, np.random.default_rng(index), phrasing)
        assert text.startswith(f"{plan.scene}, ")
        assert text == text.lower()
        assert "  " not in text
        for person in plan.people:
            assert any(phrase.lower() in text for phrase in ACTIONS[person.action].phrases), text
            if plan.scene in COLORED_SCENES:
                assert words_of(text) & set(COLOR_WORDS[person.top.color]), text


def test_scenes_without_color_name_none():
    for index, plan in enumerate(plans(200, "shadow_play")):
        clothes = words_of(describe(plan, np.random.default_rng(index)))
        assert not clothes & ALL_COLOR_WORDS


def test_wording_varies_and_held_out_sentences_are_never_trained_on():
    assert not set(captions.ONE_SEEN) & set(captions.ONE_HELD_OUT)
    assert not set(captions.EACH_SEEN) & set(captions.EACH_HELD_OUT)
    plan = plans(1, "photo")[0]
    texts = {describe(plan, np.random.default_rng(index)) for index in range(60)}
    assert len(texts) > 30


def test_a_sample_is_the_same_whenever_it_is_made():
    first, again = make_sample(11, 5, 128), make_sample(11, 5, 128)
    other = make_sample(11, 6, 128)
    assert np.array_equal(first.image, again.image)
    assert first.caption == again.caption
    assert first.people.equals(again.people)
    assert not np.array_equal(first.image, other.image)


def test_a_sample_keeps_its_promises():
    for index in range(20):
        sample = make_sample(12, index, 128)
        mask = sample.extras["mask"]
        assert mask.shape == sample.image.shape[:2] == (128, 128)
        assert set(np.unique(mask)) <= set(range(sample.people.n + 1))
        assert sample.people.canvas == (128, 128)
        assert len(sample.extras["top_colours"]) == sample.people.n


def test_no_cloth_could_be_taken_for_skin():
    for one in COLORS:
        for two in COLORS:
            assert any(
                not too_close_to_skin(one, skin) and not too_close_to_skin(two, skin) for skin in range(len(SKINS))
            )
    for plan in plans(300):
        for person in plan.people:
            cloth = [garment for garment in (person.top, person.bottom) if garment is not None]
            assert not any(too_close_to_skin(garment.color, person.skin) for garment in cloth)


def test_size_out_of_range_is_refused():
    with pytest.raises(ValueError, match="64 to 1024"):
        make_sample(1, 0, 32)
