"""Training on images of any shape: buckets, in which nothing is stretched or padded, and an exact order of them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from humansd.data.augmentations import augmentation
from humansd.data.buckets import bucket_shapes, find_buckets, nearest_shape
from humansd.data.image_cache import find_image_cache
from humansd.data.sample import Sample
from humansd.data.shards import write_shards
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pose.people import People
from humansd.training.loop import train
from humansd.training.settings import DiffusionSettings, HeadSettings
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.images import image_row
from tiny_pipeline import SIZE, tiny_components

SIZES = [(40, 60), (60, 40), (48, 48), (90, 40), (200, 20)]  # (width, height) px
COUNT = 15


def make(index):
    """An image whose red is its column and green its row, one joint where both say so, and a mask around it."""
    width, height = SIZES[index % len(SIZES)]
    ys, xs = np.mgrid[:height, :width]
    image = np.stack([xs, ys, np.full_like(xs, index)], axis=2).astype(np.uint8)
    xy, seen = np.zeros((1, 17, 2)), np.zeros((1, 17), int)
    xy[0, 5], seen[0, 5] = (width * 0.7, height * 0.4), 2
    mask = ((abs(xs - xy[0, 5, 0]) < 4) & (abs(ys - xy[0, 5, 1]) < 4)).astype(np.uint8)
    people = People.of(xy, (width, height), visibility=seen)
    return Sample(f"{index:04}", image, f"a man running in a park, {index}", people, "", "", "", {"mask": mask})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    write_shards(make, COUNT, out, per_shard=8, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory):
    """What other ways of conditioning start from: a plain Stable Diffusion."""
    folder = tmp_path_factory.mktemp("plain")
    parts = tiny_components(widened=False)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    plain_pipeline(*(parts[name] for name in names)).save_pretrained(folder)
    return folder


def test_the_shapes_of_512_px_are_those_that_stable_diffusion_is_trained_on():
    shapes = bucket_shapes(512, 2, 64)
    assert shapes == [(384, 640), (448, 576), (512, 512), (576, 448), (640, 384)]
    assert bucket_shapes(512, 1, 64) == [(512, 512)]
    assert nearest_shape(shapes, (1000, 1010)) == (512, 512)
    assert nearest_shape(shapes, (4000, 1000)) == (640, 384)
    assert nearest_shape(shapes, (600, 800)) == (448, 576)
    with pytest.raises(ValueError, match="image_size = 500: must be a multiple of 64"):
        bucket_shapes(500, 2, 64)


def test_every_image_is_there_once_unstretched_with_its_people_and_its_mask(shards):
    cache = find_buckets(shards, 32, 2.5, 4)
    assert len(cache) == COUNT == sum(cache.counts)
    assert len(cache.counts) == 4
    assert {int(cache.images[row][0, 0, 2]) for row in range(COUNT)} == set(range(COUNT))
    for row in range(COUNT):
        image, (x, y) = cache.images[row].astype(float), cache.people[row].xy[0, 5]
        width, height = cache.canvas(row)
        assert image.shape == (height, width, 3)
        assert cache.people[row].canvas == (width, height)
        across, down = np.diff(image[..., 0], axis=1).mean(), np.diff(image[..., 1], axis=0).mean()
        assert across == pytest.approx(down, rel=0.04)  # px of the original a px here
        original = make(int(image[0, 0, 2]))
        near = image[round(y), round(x), :2]
        assert near == pytest.approx(original.people.xy[0, 5], abs=across)
        assert cache.mask(row)[round(y), round(x)]
        assert cache.mask(row).shape == (height, width)
    lost = [1 - cut_share(cache, row) for row in range(COUNT) if cache.images[row][0, 0, 2] % 5 != 4]
    squares = find_image_cache(shards, 32)
    assert max(lost) < 0.15
    assert np.mean(lost) < 0.5 * np.mean([1 - cut_share(squares, row) for row in range(COUNT) if row % 5 != 4])


def cut_share(cache, row):
    """How much of the original image is left in a row."""
    original = make(int(cache.images[row][0, 0, 2])).image.shape
    image = cache.images[row].astype(float)
    spans = [np.ptp(image[..., 0]) / (original[1] - 1), np.ptp(image[..., 1]) / (original[0] - 1)]
    return float(np.prod(spans))


def test_windows_of_a_wide_image_keep_its_shape_and_its_people(shards):
    cache = find_buckets(shards, 32, 2.5, 4)
    for row in range(COUNT):
        change = augmentation(cache, row, 3)
        image, people = change.image(cache.images[row]), change.people(cache.people[row])
        assert image.shape == cache.images[row].shape
        assert change == augmentation(*cache.local(row), 3)
        if people.labelled[0, 5]:
            x, y = people.xy[0, 5]
            original = make(int(cache.images[row][0, 0, 2]))
            step = np.abs(np.diff(image[..., 0].astype(float), axis=1)).mean()
            assert image[round(y), round(x), :2] == pytest.approx(original.people.xy[0, 5], abs=1 + 1.5 * step)


def test_buckets_that_are_there_are_used_and_changed_shards_refused(shards, tmp_path):
    first = find_buckets(shards, 32, 2, 4)
    again = find_buckets(shards, 32, 2, 4)
    assert first.digest() == again.digest() != find_buckets(shards, 32, 2.5, 4).digest()
    copy = tmp_path / "copy"
    write_shards(make, 4, copy, workers=1, progress=False)
    find_buckets(copy, 32, 2, 4)
    for path in copy.glob("*.tar"):
        path.write_bytes(path.read_bytes()[:-600] + b"\1" * 600)
    with pytest.raises(ValueError, match="was changed"):
        find_buckets(copy, 32, 2, 4)
    with pytest.raises(FileNotFoundError, match="buckets are made of shards"):
        find_buckets(tmp_path, 32, 2, 4)


def test_every_batch_is_of_one_shape_and_every_image_comes_equally_often():
    counts, batch = (5, 1, 14), 4
    total = sum(counts)
    rows = [image_row(3, index, counts, batch) for index in range(total * batch)]  # after which all begins anew
    assert Counter(rows) == dict.fromkeys(range(total), batch)
    shapes = np.searchsorted(np.cumsum(counts), rows, side="right").reshape(-1, batch)
    assert (shapes == shapes[:, :1]).all()
    for upto in range(1, total):  # spread evenly: each shape is at most one batch from its share
        for shape, count in enumerate(counts):
            assert abs((shapes[:upto, 0] == shape).sum() - count / total * upto) <= 1
    later = [image_row(3, index, counts, batch) for index in range(total * batch, 2 * total * batch)]
    assert later != rows
    assert Counter(later) == Counter(rows)
    assert [image_row(3, index, (20,), batch) for index in range(20)] != list(range(20))


def settings_of(shards, model, **changes):
    plain = {"method": "humansd", "batch_size": 4, "aspect_buckets": 2.5, "steps": 6, "mixed_precision": "no"}
    sources = {"data": str(shards), "base_model": str(model), "report_to": "none", "device": "cpu"}
    return DiffusionSettings(**{**plain, **sources, **changes})


@pytest.mark.parametrize("method", ["humansd", "gligen", "controlnet", "joint-maps"])
def test_a_batch_of_each_shape_is_learnt_from(shards, model, plain_model, method):
    base = model if method == "humansd" else plain_model
    task = DiffusionTask(settings_of(shards, base, method=method, loss="skeleton-mask", mask="own"))
    task.prepare(torch.device("cpu"))
    shapes = set()
    for start in range(0, 4 * COUNT, 4):
        batch = task.load(range(start, start + 4))
        shapes.add(tuple(batch["latents"].shape[2:]))
        assert batch["maps"].shape[2:] == batch["latents"].shape[2:] == batch["noise"].shape[2:]
        if start < 16:
            loss, _ = task.loss(batch)
            assert torch.isfinite(loss)
    assert shapes == {(SIZE // 2, SIZE // 2), (6, 10), (10, 6)}


def test_a_run_that_is_broken_off_ends_as_an_unbroken_one(shards, model, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(DiffusionTask(settings_of(shards, model)), whole)
    train(DiffusionTask(settings_of(shards, model, steps=3)), broken)
    train(DiffusionTask(settings_of(shards, model, gradient_accumulation_steps=2)), tmp_path / "parts")
    train(DiffusionTask(settings_of(shards, model)), broken)
    name = "export/unet/diffusion_pytorch_model.safetensors"
    assert (whole / name).read_bytes() == (broken / name).read_bytes()
    from safetensors.torch import load_file

    one, two = load_file(whole / name), load_file(tmp_path / "parts" / name)
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-4
    task = DiffusionTask(settings_of(shards, model))
    task.prepare(torch.device("cpu"))
    task.log_images(tmp_path / "samples", 1)
    assert len(list((tmp_path / "samples").glob("*.png"))) == 1


def test_what_looks_at_squares_alone_says_so(shards, model):
    with pytest.raises(ValueError, match="sees squares; use loss=latent-heatmap"):
        DiffusionTask(settings_of(shards, model, loss="heatmap", estimator="pocket"))
    assert not hasattr(HeadSettings(), "aspect_buckets")  # its teacher looks at squares
    with pytest.raises(ValueError, match=r"aspect_buckets = 0\.5: must be 0, or from 1 to 8"):
        dataclasses.replace(settings_of(shards, model), aspect_buckets=0.5)
