"""Validation during training: the same poses and seeds each time, scores that a detector gives, a sheet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blob_people import BlobEstimator
from humansd.evaluation import validator
from humansd.evaluation.validator import PoseValidator, make_validator
from humansd.inference.generate import SamplingConfig, draw_batch
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.reproduce import rows
from humansd.reproduce.table1 import Table1Settings
from humansd.synthetic.render import make_sample
from humansd.training.devices import run_device, run_dtype
from humansd.training.run import run_preset
from humansd.training.settings import LoopSettings
from tiny_pipeline import tiny_components

SAMPLES = [make_sample(880_002, index, 64) for index in range(3)]


class Perfect(BlobEstimator):
    """Finds who was wanted, whatever was drawn."""

    def detect(self, images):
        return [sample.people.fit(16, 16) for sample in SAMPLES]


class Lost(BlobEstimator):
    """Finds nobody on a canvas of the image's size."""

    def detect(self, images):
        return [People.empty((image.shape[1], image.shape[0])) for image in images]


class Blind(BlobEstimator):
    def detect(self, images):
        return [People.empty((16, 16)) for _ in images]


def test_scores_are_those_of_the_estimator_and_the_sheet_shows_all(tmp_path):
    pipeline = HumanSDPipeline(**tiny_components())
    scores = PoseValidator(lambda: pipeline, SAMPLES, Perfect(), sampling=SamplingConfig(num_inference_steps=1))(
        tmp_path, 5
    )
    assert scores == {"ap": 1.0, "pce": 0.0}
    blind = PoseValidator(lambda: pipeline, SAMPLES, Blind(), sampling=SamplingConfig(num_inference_steps=1))
    assert blind(tmp_path, 6)["ap"] == 0
    assert blind(tmp_path, 7)["pce"] == pytest.approx(sum(s.people.with_joints().n for s in SAMPLES) / 3)
    sheets = [tmp_path / f"step-{step:08d}.png" for step in (6, 7)]
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    with Image.open(tmp_path / "step-00000005.png") as sheet:
        assert sheet.height > 3 * 16
    with pytest.raises(ValueError, match=r"no samples to validate on"):
        PoseValidator(lambda: pipeline, [], Perfect(), sampling=SamplingConfig())


def test_poses_of_another_shape_are_cut_as_in_an_evaluation(tmp_path):
    pipeline = HumanSDPipeline(**tiny_components())
    beside = ((0, 0), (10, 10), (0, 0))
    wide = [
        replace(one, image=np.pad(one.image, beside), people=one.people.pad(10, 0, 10, 0), extras={}) for one in SAMPLES
    ]
    scores = PoseValidator(lambda: pipeline, wide, Perfect(), sampling=SamplingConfig(num_inference_steps=1))(
        tmp_path, 1
    )
    assert scores == {"ap": 1.0, "pce": 0.0}


class DrawnTask:
    """A task that draws with a tiny model."""

    settings = LoopSettings(device="cpu", mixed_precision="bf16")

    def pipeline(self):
        return HumanSDPipeline(**tiny_components())


def test_judge_and_clip_look_where_the_run_computes_and_as_it_computes(monkeypatch):
    where = torch.device("meta")  # a device that is not the one they would take by themselves
    made = make_validator(DrawnTask(), SAMPLES, "centernet", where, torch.bfloat16)
    networks = (*made.estimator.networks, *made.scorer.networks)
    assert {parameter.device for network in networks for parameter in network.parameters()} == {where}
    assert made.dtype == torch.bfloat16
    assert run_dtype(DrawnTask.settings) == torch.bfloat16
    assert run_device(LoopSettings(device="cpu")) == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device = 'cuda': PyTorch finds no CUDA here"):
            run_device(LoopSettings(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert run_device(LoopSettings()) == torch.device("cuda:3")


def test_curves_of_a_table_are_sampled_as_the_table_is(tmp_path, monkeypatch):
    asked = SamplingConfig(num_inference_steps=1, guidance_scale=2.0, pose_guidance_scale=1.5)
    drawn = []

    def draw(pipeline, batch, sampling):
        drawn.append(sampling)
        return draw_batch(pipeline, batch, sampling)

    monkeypatch.setattr(validator, "draw_batch", draw)
    monkeypatch.setattr(validator, "load_estimator", lambda *_: Perfect())
    monkeypatch.setattr(rows, "first_samples", lambda *_: SAMPLES)
    scores = rows.curve_validator(Table1Settings(sampling=asked))(DrawnTask())(tmp_path, 1)
    assert scores["ap"] == 1.0
    assert drawn == [asked]


def test_images_are_drawn_in_the_precision_of_the_run(tmp_path):
    pipeline, seen = HumanSDPipeline(**tiny_components()), set()
    pipeline.unet.conv_in.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    for dtype in (torch.float32, torch.bfloat16):
        PoseValidator(lambda: pipeline, SAMPLES, Blind(), sampling=SamplingConfig(num_inference_steps=1), dtype=dtype)(
            tmp_path, 1
        )
    assert seen == {torch.float32, torch.bfloat16}


def test_large_images_are_drawn_in_smaller_batches(tmp_path):
    drawn = []

    class Counting(HumanSDPipeline):
        def __call__(self, *args, **kwargs):
            drawn.append(len(args[0] if args else kwargs["prompt"] or kwargs["prompt_embeds"]))
            return super().__call__(*args, **kwargs)

    for side in (16, 128):
        parts = tiny_components()
        parts["unet"].register_to_config(sample_size=side // 2)
        pipeline = Counting(**parts)
        PoseValidator(lambda made=pipeline: made, SAMPLES * 4, Lost(), sampling=SamplingConfig(num_inference_steps=1))(
            tmp_path, side
        )
    assert drawn == [12, 8, 4]


def test_a_task_that_draws_nothing_is_not_validated():
    class Nothing:
        settings = LoopSettings()

    with pytest.raises(ValueError, match="this draws nothing, so it cannot be validated; leave out --validate"):
        make_validator(Nothing(), SAMPLES, "centernet", torch.device("cpu"), torch.float32)


def test_a_validator_needs_to_know_how_often_and_a_single_stage():
    with pytest.raises(ValueError, match=r"--set validate_steps=500"):
        run_preset("pocket-humansd", {}, make_validator=lambda task: None)
    with pytest.raises(ValueError, match="a recipe of several stages"):
        run_preset("pocket", {}, make_validator=lambda task: None)
