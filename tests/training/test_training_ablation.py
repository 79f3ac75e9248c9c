"""What may help a small model: nearest noise, a middle layer that knows body parts, Muon; what each leaves alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from humansd.data import write_shards
from humansd.data.image_cache import find_image_cache
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.synthetic.dataset import write_atelier
from humansd.synthetic.parts import PARTS, coarse
from humansd.synthetic.render import layers, make_sample
from humansd.training.loop import train
from humansd.training.muon import MuonAndAdamW
from humansd.training.optimizer import make_optimizer
from humansd.training.randomness import nearest_noise, sample_noise, sample_rng
from humansd.training.settings import DiffusionSettings
from humansd.training.tasks.alignment import Alignment, find_parts
from humansd.training.tasks.diffusion import DiffusionTask
from shard_makers import make
from tiny_pipeline import tiny_components, tiny_unet

LOOP = {
    "method": "humansd",
    "batch_size": 4,
    "learning_rate": 1e-2,
    "lr_warmup_steps": 1,
    "mixed_precision": "no",
    "log_images_minutes": 0.0,
    "report_to": "none",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blobs")
    write_shards(make, 6, folder, per_shard=6, workers=1, progress=False)
    return {"data": str(folder), "image_size": 16}


@pytest.fixture(scope="module")
def atelier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atelier")
    write_atelier(folder, 3, size=64, seed=5, workers=1, progress=False)
    return folder


def test_the_nearest_of_several_noises_is_taken_and_one_is_the_usual(base, blobs):
    latents = np.random.default_rng(3).standard_normal((3, 8, 8)).astype(np.float16)
    one, eight = (nearest_noise(sample_rng(1, 7), latents, count) for count in (1, 8))
    assert torch.equal(one, sample_noise(sample_rng(1, 7), (3, 8, 8)))
    rng = sample_rng(1, 7)
    every = [sample_noise(rng, (3, 8, 8)) for _ in range(8)]
    away = [float((torch.from_numpy(latents).float() - noise).norm()) for noise in every]
    assert torch.equal(eight, every[int(np.argmin(away))])
    distances = []
    for count in (1, 8):
        task = DiffusionTask(DiffusionSettings(**LOOP, **blobs, base_model=base, noise_candidates=count))
        task.prepare(torch.device("cpu"))
        batch = task.batch(range(8))
        distances.append(float((batch["noise"] - batch["latents"]).square().mean()))
        assert batch["timesteps"].tolist() == [0, 618, 236, 854, 472, 90, 708, 326]
    assert distances[1] < 0.97 * distances[0]


def test_parts_lie_where_their_joints_are_seen():
    """Of every visible elbow, knee, nose ... the pixel under it shows a part that meets in that joint."""
    fits = {"nose": ("head",), "left_elbow": ("left upper arm", "left lower arm"),
            "right_elbow": ("right upper arm", "right lower arm"), "left_knee": ("left thigh", "left lower leg"),
            "right_knee": ("right thigh", "right lower leg")}  # fmt: skip
    right, total = 0, 0
    for index in range(6):
        made = layers(11, index, 96)
        sample = make_sample(11, index, 96)
        assert np.array_equal(made.people.xy, sample.people.xy)  # the layers of this very sample
        names = list(sample.people.skeleton.joints)
        step = len(made.part) // 96
        for person in range(sample.people.n):
            for name, allowed in fits.items():
                joint = names.index(name)
                if sample.people.visibility[person, joint] != 2:
                    continue
                x, y = (int((value + 0.5) * step) for value in sample.people.xy[person, joint])
                if made.person[y, x] != person + 1:
                    continue
                total += 1
                right += PARTS[made.part[y, x]] in allowed
    assert total >= 15
    assert right / total > 0.9


def test_parts_are_of_people_alone():
    made = layers(11, 1, 64)
    assert not made.part[made.person == 0].any()
    assert {PARTS[one] for one in np.unique(made.part)} >= {"nothing", "trunk"}
    assert coarse(np.repeat(np.repeat(np.array([[1, 2], [0, 3]], np.uint8), 4, 0), 4, 1), 2).tolist() == [
        [1, 2],
        [0, 3],
    ]


def test_parts_of_a_cache_are_those_of_its_samples(atelier):
    cache = find_image_cache(atelier)
    found = find_parts(cache)
    assert found.shape == (3, 8, 8)
    for index in range(3):
        assert np.array_equal(found[index], coarse(layers(5, index, 64).part, 8))
    assert np.array_equal(find_parts(cache), found)  # read this time


def test_parts_are_refused_of_other_images(blobs):
    with pytest.raises(ValueError, match="body parts are known of Atelier's"):
        find_parts(find_image_cache(Path(blobs["data"]), 16))


def test_an_aligned_layer_learns_the_parts_and_the_model_is_written_without_the_head(base, atelier, tmp_path):
    settings = DiffusionSettings(
        **LOOP, data=str(atelier), image_size=64, base_model=base, steps=25, align_weight=1.0, ema_decay=0.0
    )
    task = DiffusionTask(settings)
    train(task, tmp_path)
    _, numbers = task.loss(task.load(range(4)))
    assert numbers["parts"] < 0.8 * np.log(len(PARTS))  # of a head that knows nothing
    assert {"learns", "alignment"} == {name.split(".")[0] for name, _ in task.module.named_parameters()}
    pipeline = HumanSDPipeline.from_pretrained(tmp_path / "export")
    assert pipeline.unet.state_dict().keys() == task.unet.state_dict().keys()


def test_alignment_is_off_where_nobody_asks(base, blobs):
    task = DiffusionTask(DiffusionSettings(**LOOP, **blobs, base_model=base))
    task.prepare(torch.device("cpu"))
    assert task.alignment is None
    assert "parts" not in task.load(range(2))
    assert not task.unet.up_blocks[0]._forward_hooks


def test_alignment_without_a_run_of_the_unet_says_so(atelier):
    alignment = Alignment(tiny_unet(), find_image_cache(atelier))
    with pytest.raises(RuntimeError, match="has not run"):
        alignment.loss(alignment.load([0]))


def _networks():
    torch.manual_seed(0)
    layers_ = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8 * 4, 5))
    return layers_.to(memory_format=torch.channels_last)


def test_muon_steps_matrices_and_kernels_as_pytorch_s_own_and_adamw_the_rest():
    network = _networks()
    ours = make_optimizer(list(network.parameters()), DiffusionSettings(optimizer="muon", learning_rate=1e-2))
    assert isinstance(ours, MuonAndAdamW)
    start = {name: one.detach().clone() for name, one in network.named_parameters()}
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    network(x).square().mean().backward()
    grads = {name: one.grad.clone() for name, one in network.named_parameters()}
    ours.step()
    for name, one in network.named_parameters():
        begun = start[name].clone()
        wanted = nn.Parameter(begun.reshape(len(one), -1) if one.ndim > 1 else begun)
        wanted.grad = grads[name].reshape(wanted.shape)
        if one.ndim > 1:
            torch.optim.Muon([wanted], lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw").step()
        else:
            torch.optim.AdamW([wanted], lr=1e-2, weight_decay=0.01, betas=(0.9, 0.99)).step()
        ours_, theirs = ((value.detach().reshape(-1) - start[name].reshape(-1)) for value in (one, wanted))
        assert torch.cosine_similarity(ours_, theirs, dim=0) > 0.995, name  # Muon computes in bf16
        assert float(ours_.norm()) == pytest.approx(float(theirs.norm()), rel=0.03)


def test_a_run_with_muon_goes_on_after_a_stop_as_an_unbroken_one(base, blobs, tmp_path):
    how = {**LOOP, **blobs, "base_model": base, "optimizer": "muon"}
    train(DiffusionTask(DiffusionSettings(**how, steps=4)), tmp_path / "whole")
    train(DiffusionTask(DiffusionSettings(**how, steps=2)), tmp_path / "broken")
    train(DiffusionTask(DiffusionSettings(**how, steps=4)), tmp_path / "broken")
    weights = [
        HumanSDPipeline.from_pretrained(tmp_path / name / "export").unet.state_dict() for name in ("whole", "broken")
    ]
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": "sgd"}, "optimizer = 'sgd': must be adamw or muon"),
        ({"optimizer": "muon", "train_text": True}, "must be adamw where train_text is true"),
        ({"noise_candidates": 0}, "noise_candidates = 0: must be from 1 to 64"),
        ({"align_weight": 1.0, "cached_augmentations": 2}, "must be 0 with aspect_buckets or where cached"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        DiffusionSettings(**changes)
