"""The benchmark of the pipeline compares what it says: same images, same calls of the modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from humansd.benchmarks.pipeline_speed import _median, measure_pipeline
from humansd.pipelines import HumanSDPipeline
from tiny_pipeline import standing, tiny_components


def test_every_kind_runs_the_same_modules():
    pipe = HumanSDPipeline(**tiny_components())
    calls: dict[str, list[tuple[int, ...]]] = {"unet": [], "encoder": [], "decoder": [], "text": []}

    def note(name):
        return lambda module, args, kwargs: calls[name].append(tuple((args or tuple(kwargs.values()))[0].shape))

    modules = {"unet": pipe.unet, "encoder": pipe.vae.encoder, "decoder": pipe.vae.decoder, "text": pipe.text_encoder}
    for name, module in modules.items():
        module.register_forward_pre_hook(note(name), with_kwargs=True)
    costs = measure_pipeline(pipe, standing(), steps=3, pairs=2)
    # HumanSD and the modules alone, three times each (a warm-up and two pairs): two branches in every step.
    assert calls["unet"] == [(2, 6, 8, 8)] * (2 * 3 * 3)
    assert len(calls["encoder"]) == 3 * 3  # and the skeleton by itself
    assert len(calls["decoder"]) == 3 * 3  # and plain Stable Diffusion, which shares the VAE
    assert list(costs) == ["seconds", "CPU seconds"]
    for one in costs.values():
        assert set(one.seconds) == {"humansd", "plain", "encode", "modules"}
        assert all(value > 0 for value in one.seconds.values())
    with pytest.raises(ValueError, match="2 pairs or more"):
        measure_pipeline(pipe, standing(), steps=3, pairs=1)


def test_the_interval_holds_the_median():
    ratios = np.random.default_rng(1).normal(1.02, 0.05, 20)
    median, low, high = _median(ratios)
    assert median == np.median(ratios)
    assert low < median < high < 1.1
    assert _median(np.full(5, 1.5)) == (1.5, 1.5, 1.5)


def test_the_skeleton_costs_nothing_in_the_unet():
    """Beside the wider first layer both UNets are one network."""
    from humansd.pipelines.plain import without_pose

    pipe = HumanSDPipeline(**tiny_components())
    plain = without_pose(pipe)
    own, other = (sum(p.numel() for p in one.unet.parameters()) for one in (pipe, plain))
    assert own - other == pipe.unet.conv_in.weight[:, 3:].numel()
    assert torch.equal(pipe.unet.conv_in.weight[:, :3], plain.unet.conv_in.weight)
