"""What measures the shipped weights, measured: right on true images, at chance where nothing is known."""

import itertools

import numpy as np
import pytest

from humansd.evaluation.known_answers import (
    TORSO,
    color_prompts,
    nearest_color,
    preference_rate,
    shows_color,
    standing_people,
    torso_color,
)
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose import People
from humansd.synthetic.plan import COLORS
from humansd.synthetic.render import make_sample, whole_plan


def true_images(count):
    found = []
    for index in itertools.count():
        plan = whole_plan(31, index)  # the others seldom show one torso, and cost as much
        if plan is None or len(plan.people) != 1 or plan.scene not in ("photo", "cartoon"):
            continue
        sample = make_sample(31, index, 128)
        whole = sample.people.n == 1 and (sample.people.visibility[0, list(TORSO)] == 2).all()
        left, right = sample.people.xy[0, TORSO[0]], sample.people.xy[0, TORSO[1]]
        if whole and np.hypot(*(left - right)) > 12:
            found.append(sample)
        if len(found) == count:
            return found


def test_true_images_show_the_color_of_their_caption_and_not_another():
    samples = true_images(45)
    names = list(COLORS)
    right = [shows_color(s.image / 255, s.people, s.extras["top_colours"][0]) for s in samples]
    wrong = [
        shows_color(s.image / 255, s.people, names[(names.index(s.extras["top_colours"][0]) + 5) % 12]) for s in samples
    ]
    assert np.mean(right) >= 0.85
    assert np.mean(wrong) <= 0.1


@pytest.mark.parametrize("name", COLORS)
def test_every_color_is_nearest_to_itself_and_in_shade(name):
    rgb = np.array(COLORS[name]) / 255
    assert nearest_color(rgb) == name
    if name not in ("white", "grey", "black", "brown"):
        assert nearest_color(rgb * 0.85) == name


def test_torso_color_reads_the_torso_alone():
    people = standing_people(1)[0]
    image = np.zeros((128, 128, 3))
    corners = people.xy[0, list(TORSO)]
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    image[low[1] : high[1] + 1, low[0] : high[0] + 1] = (1, 0, 0)
    assert torso_color(image, people) == pytest.approx([1, 0, 0])


def test_torso_of_nobody_is_refused():
    flat = People.of(np.zeros((1, 17, 2)), (128, 128))
    with pytest.raises(ValueError, match="less than 4 px"):
        torso_color(np.zeros((128, 128, 3)), flat)


def test_prompts_name_every_color_once_a_pattern():
    prompts = color_prompts(["photo, a man in {clothes}"])
    assert [one.color for one in prompts] == list(COLORS)
    assert "an orange sweater" in prompts[1].prompt


def test_an_untrained_model_prefers_nothing(tiny_run):
    """Zero input weights for the pose: both losses are equal, so no strict preference."""
    pipeline = HumanSDPipeline.from_base(tiny_run / "base" / "export")
    samples = [make_sample(5, i, 128) for i in range(6)]
    assert preference_rate(pipeline, samples, "pose", timesteps=(500,)) == 0.0
