"""Diversity: what of a scene is drawn anew and what stays, and the measure on a tiny model."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from humansd.benchmarks.diversity import mean_distance, measure_diversity, scenes
from humansd.cli import main
from humansd.inference.sampling import SamplingConfig
from humansd.models.features import load_extractor
from humansd.pipelines.humansd import HumanSDPipeline
from tiny_pipeline import tiny_components

SIDE = 64


@pytest.fixture(scope="module")
def some():
    return list(itertools.islice(scenes(SIDE), 4))


def test_caption_and_key_points_stay_while_the_rest_is_drawn_anew(some):
    looks = set()
    for scene in some:
        for seed in range(6):
            plan = scene.redrawn(np.random.default_rng(seed))
            assert scene.told(plan) == scene.caption
            for now, was in zip(plan.people, scene.plan.people, strict=True):
                assert (now.body, now.action, now.gender, now.age) == (was.body, was.action, was.gender, was.age)
            looks.add((scene.words, plan))
        assert np.ptp(scene.people.xy[..., 1], axis=1).max() > 0.3 * SIDE
    assert len(looks) >= 20  # of 24


def test_the_first_render_and_others_have_the_key_points_of_the_scene(some):
    for scene in some:
        images = []
        for seed in range(3):
            image, people = scene.render(np.random.default_rng(seed))
            assert image.shape == (SIDE, SIDE, 3)
            assert people.n == scene.people.n
            both = people.labelled & scene.people.labelled
            assert np.abs(people.xy - scene.people.xy)[both].max() < 0.03 * SIDE
            images.append(image)
        assert len({image.tobytes() for image in images}) == 3
        again, _ = scene.render(np.random.default_rng(0))
        assert np.array_equal(again, images[0])


def test_scenes_are_the_same_each_time(some):
    assert [scene.caption for scene in itertools.islice(scenes(SIDE), 4)] == [scene.caption for scene in some]


def test_the_mean_distance_of_known_features():
    assert mean_distance(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)
    assert mean_distance(np.ones((5, 7))) == 0


@pytest.mark.filterwarnings("ignore:the prompt")
def test_a_model_is_measured_and_wrong_numbers_are_refused(tmp_path, capsys):
    pipeline, extractor = HumanSDPipeline(**tiny_components()), load_extractor("pocket")
    pipeline.set_progress_bar_config(disable=True)
    found = measure_diversity(pipeline, extractor, prompts=2, seeds=2, sampling=SamplingConfig(num_inference_steps=1))
    assert found.share == pytest.approx(found.model / found.atelier)
    assert found.low <= found.share <= found.high
    assert found.model > 0
    assert math.isfinite(found.shift)
    with pytest.raises(ValueError, match="seeds is 1"):
        measure_diversity(pipeline, extractor, prompts=2, seeds=1)
    with pytest.raises(ValueError, match="size is 24 x 16 px"):
        measure_diversity(
            pipeline, extractor, prompts=2, seeds=2, sampling=SamplingConfig(num_inference_steps=1, size=(24, 16))
        )
    pipeline.save_pretrained(tmp_path)
    arguments = ["benchmark", "diversity", "--model", str(tmp_path), "--prompts", "2", "--seeds", "2", "--steps", "1"]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "| pocket image tower |" in capsys.readouterr().out
