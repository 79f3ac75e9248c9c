"""Words of a prompt that count more or less."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from humansd.inference.generate import Job, draw_batch
from humansd.inference.pose_files import NamedPose
from humansd.inference.prompt_weights import prompt_arguments, weighted_embeds
from humansd.inference.sampling import SamplingConfig
from humansd.pipelines import HumanSDPipeline
from tiny_pipeline import standing, tiny_components

needs_compel = pytest.mark.skipif(importlib.util.find_spec("compel") is None, reason="compel is not installed")


@pytest.fixture(scope="module")
def pipe() -> HumanSDPipeline:
    made = HumanSDPipeline(**tiny_components())
    made.set_progress_bar_config(disable=True)
    return made


@needs_compel
def test_a_weight_moves_the_embeddings_from_those_without_the_word(pipe: HumanSDPipeline) -> None:
    plain = pipe.encode_prompt(["a man running"])
    one, more, even_more = weighted_embeds(pipe, ["a (man:1.0) running", "a (man:1.3) running", "a (man:1.6) running"])
    assert torch.allclose(one, plain[0], atol=1e-6)
    steps = [float((row - plain[0]).norm()) for row in (more, even_more)]
    assert 0 < steps[0] < steps[1]


@needs_compel
def test_images_follow_the_weights_and_neighbors_do_not(pipe: HumanSDPipeline) -> None:
    prompts = ["a man running", "a (man:1.5) running", "a (man:1.0) running"]
    jobs = [Job(NamedPose("p", standing()), prompt, 3, "") for prompt in prompts]
    plain, weighted, unit = draw_batch(pipe, jobs, SamplingConfig(2, negative_prompt="a (park:1.2)"))
    assert plain.tobytes() == unit.tobytes() != weighted.tobytes()


def test_prompts_without_weights_stay_texts(pipe: HumanSDPipeline) -> None:
    given = prompt_arguments(pipe, ["a man (tall), 3:4"], "", None)
    assert given == {"prompt": ["a man (tall), 3:4"], "negative_prompt": ""}


def test_what_cannot_be_weighed_is_said(pipe: HumanSDPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--clip-skip do not go together"):
        prompt_arguments(pipe, ["a (man:1.5)"], "", 1)
    with pytest.raises(ValueError, match=r"\(man:9\): a weight is a number from 0 to 3"):
        prompt_arguments(pipe, ["a (man:9)"], "", None)
    monkeypatch.setitem(sys.modules, "compel", None)  # as where it is not installed
    with pytest.raises(ValueError, match=r"pip install 'humansd\[weights\]'"):
        prompt_arguments(pipe, ["a (man:1.5)"], "", None)
