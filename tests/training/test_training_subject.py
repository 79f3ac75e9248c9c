"""One person learnt from a few images: what learns, what is kept, and that it goes together with an adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from humansd.data import Sample, write_shards
from humansd.inference.pretrained import add_weights, load_pipeline
from humansd.methods.table import find_method
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.training.loop import train
from humansd.training.tasks.subject import SubjectTask
from humansd.training.tasks.subject_settings import SubjectSettings
from tiny_pipeline import CAPTIONS, SIZE, standing, tiny_components


def shards(folder: Path, bright: int, count: int) -> None:
    def make(index: int) -> Sample:
        image = np.full((SIZE, SIZE, 3), bright, np.uint8)
        return Sample(f"s{index}", image, CAPTIONS[1], standing(), "photo", "test", "CC0-1.0")

    write_shards(make, count, folder, workers=1, progress=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    parts = tiny_components(widened=False)
    made = find_method("t2i-adapter").build(parts["unet"], parts["vae"])
    HumanSDPipeline(**parts, pose_network=made.pose_network, method="dual-adapter").save_pretrained(folder / "base")
    shards(folder / "subject", 255, 3)
    shards(folder / "prior", 40, 6)
    return folder


def task(place: Path, **changes) -> SubjectTask:
    given = {"data": str(place / "prior"), "subject": str(place / "subject"), "base_model": str(place / "base")}
    quick = {"steps": 30, "batch_size": 4, "learning_rate": 2e-2, "lr_warmup_steps": 1, "ema_decay": 0.0, "rank": 4}
    loop = {"log_images_minutes": 0.0, "device": "cpu", "mixed_precision": "no", "report_to": "none", "loaders": 0}
    plain = {"text_dropout": 0.0, "pose_dropout": 0.0, "min_snr_gamma": 0.0, "subject_prompt": CAPTIONS[0]}
    made = SubjectTask(SubjectSettings(**{**given, **quick, **loop, **plain, **changes}))
    made.prepare(torch.device("cpu"))
    return made


def errors(made: SubjectTask) -> dict[str, float]:
    with torch.no_grad():
        return made.loss(made.load(range(500, 532)))[1]


def test_the_change_alone_learns_the_subject_and_the_export_goes_together_with_an_adapter(place, tmp_path):
    made = task(place)
    assert made.load(range(2))["subject"]["ids"][0].tolist() != made.load(range(2))["prior"]["ids"][0].tolist()
    before, start = errors(made), {n: p.clone() for n, p in made.unet.named_parameters() if not p.requires_grad}
    train(made, tmp_path / "run")
    after = errors(made)
    assert after["subject"] < 0.95 * before["subject"]
    now = dict(made.unet.named_parameters())
    assert all(torch.equal(value, now[name]) for name, value in start.items())
    pipe = load_pipeline(str(place / "base"), "cpu")
    pipe.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 2, "seed": 1, "output_type": "np"}
    plain = pipe(CAPTIONS[0], standing(), **how).images
    add_weights(pipe, [(str(tmp_path / "run" / "export"), 1.0)])
    assert pipe.method.name == "dual-adapter"
    assert np.abs(pipe(CAPTIONS[0], standing(), **how).images - plain).max() > 1e-3


def test_prior_preservation_keeps_what_would_be_forgotten(place, tmp_path):
    forgetful = task(place, prior_weight=0.0)
    assert set(forgetful.load(range(2))) == {"subject"}
    train(forgetful, tmp_path / "without")
    keeping = task(place, prior_weight=4.0)
    train(keeping, tmp_path / "with")
    batch = keeping.load(range(500, 532))["prior"]
    with torch.no_grad():
        lost, kept = float(forgetful.inner.loss(batch)[0]), float(keeping.inner.loss(batch)[0])
    assert kept < lost


def test_a_subject_must_be_named():
    with pytest.raises(ValueError, match="subject is empty"):
        SubjectTask(SubjectSettings(data="x", base_model="y"))
    with pytest.raises(ValueError, match="rank = 0"):
        SubjectSettings(rank=0)
