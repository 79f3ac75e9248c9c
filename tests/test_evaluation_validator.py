"""Validation during training: the same poses and seeds each time, scores that a detector gives, a sheet."""

from __future__ import annotations

import pytest
from PIL import Image

from blob_people import BlobEstimator
from humansd.atelier.render import make_sample
from humansd.evaluation.validator import PoseValidator
from humansd.pipelines.generate import Sampling
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.training.run import run_preset
from tiny_pipeline import tiny_parts

SAMPLES = [make_sample(880_002, index, 64) for index in range(3)]


class Perfect(BlobEstimator):
    """Finds who was wanted, whatever was drawn."""

    def detect(self, pictures):
        return [sample.people.fit(16, 16) for sample in SAMPLES]


class Blind(BlobEstimator):
    def detect(self, pictures):
        return [People.empty((16, 16)) for _ in pictures]


def test_scores_are_those_of_the_estimator_and_the_sheet_shows_all(tmp_path):
    pipeline = HumanSDPipeline(**tiny_parts())
    scores = PoseValidator(lambda: pipeline, SAMPLES, Perfect(), sampling=Sampling(steps=1))(tmp_path, 5)
    assert scores == {"ap": 1.0, "pce": 0.0}
    blind = PoseValidator(lambda: pipeline, SAMPLES, Blind(), sampling=Sampling(steps=1))
    assert blind(tmp_path, 6)["ap"] == 0
    assert blind(tmp_path, 7)["pce"] == pytest.approx(sum(s.people.with_joints().n for s in SAMPLES) / 3)
    sheets = [tmp_path / f"step-{step:08d}.png" for step in (6, 7)]
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    with Image.open(tmp_path / "step-00000005.png") as sheet:
        assert sheet.height > 3 * 16
    with pytest.raises(ValueError, match=r"no samples to validate on"):
        PoseValidator(lambda: pipeline, [], Perfect(), sampling=Sampling())


def test_a_validator_needs_to_know_how_often_and_a_single_stage():
    with pytest.raises(ValueError, match=r"--set validate_steps=500"):
        run_preset("pocket-humansd", {}, make_validator=lambda task: None)
    with pytest.raises(ValueError, match="a recipe of several stages"):
        run_preset("pocket", {}, make_validator=lambda task: None)
