"""Training of pose estimators: what they are asked for is what decoding reads, and images keep their people."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from humansd.data.augment import Augmentation, augment, transform_people
from humansd.evaluation.validator import EstimatorValidator
from humansd.losses.pose import focal_error, heatmap_error, offset_error, tag_error
from humansd.models import centernet_codec
from humansd.models.batches import in_batches
from humansd.models.centernet_codec import CentreMaps, CentreRules, centre_targets
from humansd.models.centernet_pose import CENTERNET, CenterNetPose, CenterNetPoseConfig, CenterNetPoseEstimator
from humansd.models.heatmap_targets import MAX_PEOPLE, joint_arrays, target_heatmaps
from humansd.models.higherhrnet import CONFIGS, HigherHRNet, PoseMaps, merged
from humansd.models.higherhrnet_codec import Grouping, joint_places
from humansd.models.higherhrnet_codec import decode as decode_tags
from humansd.models.keypoints import SIGMAS, HigherHRNetEstimator
from humansd.models.letterbox import letterbox, people_from_maps
from humansd.pose.compare import oks
from humansd.pose.maps import gaussian_heatmaps
from humansd.pose.people import People
from humansd.synthetic.dataset import write_atelier
from humansd.synthetic.render import make_sample
from humansd.training.run import run_preset
from humansd.training.settings import EstimatorSettings
from humansd.training.tasks.estimators import EstimatorTask

PLACE_ONLY = Augmentation(still=0, light=0, grey=0, swap_channels=0, blur=0, noise=0, coarse=0)


@pytest.fixture(scope="module")
def samples():
    return [make_sample(77, index, 128) for index in range(24)]


def some_people(samples) -> list[People]:
    """People of the samples whose joints are all there and far enough apart to be told apart."""
    found = [s.people for s in samples if s.people.n and (s.people.labelled.sum(axis=1) >= 14).all()]
    assert len(found) >= 10
    return found


def test_tag_targets_decode_to_the_people(samples):
    gaps = []
    for people in some_people(samples):
        maps = PoseMaps(*(heatmaps_of(people, s, {4: 1.0, 2: 1.5}[s]) for s in (4, 2)), torch.zeros(1))
        heat = merged(maps.quarter, maps.half)
        tags = torch.zeros(1, 17, 64, 64, 1)
        places, seen = joint_places(people, 2)
        for person in range(people.n):
            for joint in np.flatnonzero(seen[person]):
                y, x = divmod(places[person, joint], 64)
                tags[0, joint, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 3.0 * person
        found = decode_tags(heat, tags, SIGMAS, Grouping())[0]
        there = people_from_maps(found.xy, found.joint_score, found.person_score, 2, 128, people.canvas)
        gaps += gaps_to_the_nearest(people, there)
    assert np.median(gaps) < 0.1  # px of the image
    assert np.mean(np.array(gaps) < 0.75) > 0.95


def heatmaps_of(people: People, stride: int, sigma_px: float, peaked: bool = False) -> torch.Tensor:
    """(1, 17, side / stride, side / stride)."""
    xy, seen = (torch.from_numpy(array)[None] for array in joint_arrays(people))
    return target_heatmaps(xy, seen, people.canvas[0], stride, sigma_px, peaked)


def test_heatmaps_of_a_batch_are_those_of_its_images(samples):
    everyone = [sample.people for sample in samples[:8]]
    xy, seen = (torch.from_numpy(np.stack(a)) for a in zip(*map(joint_arrays, everyone), strict=True))
    for stride, sigma in ((4, 1.0), (2, 1.5)):
        maps = target_heatmaps(xy, seen, 128, stride, sigma)
        for people, one in zip(everyone, maps, strict=True):
            small = people.resize(128 // stride, 128 // stride)
            assert np.abs(one.numpy() - gaussian_heatmaps(small, small.canvas, sigma)).max() < 1e-5
        peaks = target_heatmaps(xy, seen, 128, stride, sigma, peaked=True)
        assert ((peaks == 1).flatten(2).sum(2) > 0).equal(seen.any(dim=1))
    nobody = target_heatmaps(xy, torch.zeros_like(seen), 128, 4, 1.0)
    assert nobody.shape == (8, 17, 32, 32)
    assert nobody.max() == 0


def gaps_to_the_nearest(people: People, there: People) -> list[float]:
    """Distance in px from each labelled joint to that of the found person most like its own."""
    if not there.n:
        return [np.inf] * int(people.labelled.sum())
    who = oks(people, there).argmax(axis=1)
    away = np.linalg.norm(people.xy - there.xy[who], axis=2)
    return list(np.where(there.labelled[who], away, np.inf)[people.labelled])


def test_centre_targets_decode_to_the_people(samples):
    gaps = []
    for people in some_people(samples):
        maps = centre_maps(people)
        xy, joint, person = centernet_codec.decode(maps, CentreRules())[0]
        there = people_from_maps(xy, joint, person, 2, 128, people.canvas)
        gaps += gaps_to_the_nearest(people, there)
    assert np.median(gaps) < 0.8  # px of the image: these peaks sit on whole pixels of maps at half its size
    assert np.mean(np.array(gaps) < 1.5) > 0.9


def centre_maps(people: People) -> CentreMaps:
    """Maps that say what the estimator is asked for."""
    centre, offset, _ = centre_targets(people, 4, 1.0)
    joints = heatmaps_of(people, 2, 1.5, peaked=True)[0].numpy()
    return CentreMaps(*(torch.from_numpy(a)[None] for a in (logit(centre), offset, logit(joints))))


def test_the_maps_of_a_mirror_image_mirror_back(samples):
    gaps = []
    for people in some_people(samples):
        maps = centernet_codec.mirrored(centre_maps(people.hflip()))
        xy, joint, person = centernet_codec.decode(maps, CentreRules())[0]
        gaps += gaps_to_the_nearest(people, people_from_maps(xy, joint, person, 2, 128, people.canvas))
        assert all(map(torch.equal, centernet_codec.mirrored(centernet_codec.mirrored(maps)), maps))
    assert np.mean(np.array(gaps) < 1.5) > 0.9  # px of the image, left and right as they are


def logit(p: np.ndarray) -> np.ndarray:
    q = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(q / (1 - q)).astype(np.float32)


def test_joints_follow_the_pixels():
    rng = np.random.default_rng(0)
    for index in range(20):
        xy = rng.uniform(40, 88, (1, 17, 2)).round()
        joint = index % 17
        image = np.zeros((128, 128, 3), np.uint8)
        x, y = xy[0, joint].astype(int)
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
        how = replace(PLACE_ONLY, flip=0.0, shift=0.05)
        changed, people = augment(image, People.of(xy, (128, 128)), np.random.default_rng(index), how)
        # The fill around the image may be bright, so the dot is where the image's own black ends.
        heat = changed.astype(float).sum(axis=2)
        inside = people.xy[0, joint]
        window = heat[int(inside[1]) - 3 : int(inside[1]) + 5, int(inside[0]) - 3 : int(inside[0]) + 5]
        rows, columns = np.mgrid[: window.shape[0], : window.shape[1]]
        weight = window / window.sum()
        centre = ((columns * weight).sum() + int(inside[0]) - 3, (rows * weight).sum() + int(inside[1]) - 3)
        assert np.abs(np.array(centre) - inside).max() < 0.5


def test_nobody_is_doubled_at_the_border():
    image = np.zeros((128, 128, 3), np.uint8)
    image[:, 6:14] = (255, 0, 255)  # a stripe near the edge, which a mirrored border would show twice
    for seed in range(60):
        changed, _ = augment(image, People.empty((128, 128)), np.random.default_rng(seed), PLACE_ONLY)
        stripe = (changed[64].astype(int) - (255, 0, 255)).__abs__().max(axis=1) < 20
        assert np.count_nonzero(np.diff(np.r_[0, stripe.astype(int), 0]) == 1) <= 1


def test_a_mirrored_image_swaps_left_and_right(samples):
    sample = samples[0]
    how = replace(PLACE_ONLY, scale=(1.0, 1.0), turn_deg=0, shift=0, flip=1.0)
    image, people = augment(sample.image, sample.people, np.random.default_rng(0), how)
    assert np.array_equal(image, sample.image[:, ::-1])
    assert people.equals(sample.people.hflip(), atol=1e-9)


def test_joints_that_leave_the_image_are_absent_and_areas_scale():
    people = People.of(np.full((1, 17, 2), 64.0), (128, 128), area=[100.0])
    moved = transform_people(people, np.array([[2.0, 0, 0], [0, 2.0, 0]]))
    assert not moved.labelled.any()
    assert moved.area[0] == pytest.approx(400)


def test_letterbox_and_back_is_exact():
    for canvas in ((128, 128), (200, 90), (64, 300), (31, 77)):
        xy = np.random.default_rng(1).uniform(5, 25, (2, 17, 2))
        people = People.of(xy, canvas)
        fitted = people.fit(128, 128)
        on_maps = ((fitted.xy + 0.5) / 2 - 0.5).astype(np.float32)
        back = people_from_maps(on_maps, np.ones((2, 17), np.float32), np.ones(2, np.float32), 2, 128, canvas)
        assert np.abs(back.xy - xy).max() < 1e-3
    batch = letterbox([np.zeros((50, 100, 3), np.uint8), np.full((10, 10, 3), 255, np.uint8)], 64)
    assert batch.shape == (2, 3, 64, 64)
    assert batch[0, :, 32].max() == -1
    assert batch[1].min() == 1
    with pytest.raises(ValueError, match="uint8 RGB"):
        letterbox([np.zeros((5, 5), np.uint8)], 64)


def test_losses_by_hand():
    target = torch.zeros(1, 1, 2, 2)
    target[0, 0, 0, 0] = 1.0
    assert heatmap_error(torch.zeros(1, 1, 2, 2), target, 4.0).item() == pytest.approx(5 / 4)
    assert heatmap_error(target, target).item() == 0
    logits = torch.full((1, 1, 2, 2), -30.0)
    logits[0, 0, 0, 0] = 30.0
    assert focal_error(logits, target).item() == pytest.approx(0, abs=1e-6)
    half = focal_error(torch.zeros(1, 1, 2, 2), target).item()
    assert half == pytest.approx(4 * 0.25 * np.log(2), rel=1e-5)  # one peak and three empty positions
    asked = torch.tensor([True, False]).view(1, 2, 1, 1)
    assert offset_error(torch.ones(1, 2, 1, 1), torch.full((1, 2, 1, 1), 3.0), asked).item() == 2


def test_tags_pull_one_person_together_and_push_two_apart():
    tags = torch.zeros(1, 2, 1, 4)
    tags[0, :, 0] = torch.tensor([[0.0, 1.0, 5.0, 9.0], [2.0, 1.0, 5.0, 9.0]])
    places = torch.zeros(1, MAX_PEOPLE, 2, dtype=torch.long)
    seen = torch.zeros(1, MAX_PEOPLE, 2, dtype=torch.bool)
    assert tag_error(tags, places, seen) == (0, 0)
    places[0, 0], seen[0, 0] = torch.tensor([0, 0]), True  # tags 0 and 2, mean 1
    pull, push = tag_error(tags, places, seen)
    assert (pull.item(), push.item()) == (1.0, 0.0)
    places[0, 1], seen[0, 1] = torch.tensor([1, 1]), True  # tags 1 and 1, mean 1: as near as can be
    pull, push = tag_error(tags, places, seen)
    assert (pull.item(), push.item()) == (0.5, 2.0)
    places[0, 1] = torch.tensor([3, 3])
    assert tag_error(tags, places, seen)[1].item() == 0  # 8 apart


class Sees(nn.Module):
    """A network that knows its images: gives the maps of the people, or of the mirrored people, that it is asked for.

    An image's first pixel says whether it was mirrored.
    """

    def __init__(self, people: People) -> None:
        super().__init__()
        self.config = CONFIGS["pocket"]
        self.unused = nn.Parameter(torch.zeros(1))
        self.people = people.fit(128, 128)

    def forward(self, images: torch.Tensor) -> PoseMaps:
        both = []
        for image in images:
            people = self.people if image[0, 64, 0] > image[0, 64, -1] else self.people.hflip()
            both.append([heatmaps_of(people, stride, sigma) for stride, sigma in ((4, 1.0), (2, 1.5))])
        quarter, half = (torch.cat(column) for column in zip(*both))
        return PoseMaps(quarter, half, torch.zeros_like(quarter))


@pytest.mark.parametrize("flip_test", [False, True])
def test_places_come_back_from_an_image_that_is_not_square_with_and_without_flip(flip_test):
    rng = np.random.default_rng(0)
    xy = rng.uniform((20, 10), (180, 80), (1, 17, 2))  # lopsided: no joint is where its mirror image would be
    people = People.of(xy, (200, 90))
    image = np.zeros((90, 200, 3), np.uint8)
    image[:, :20] = 255
    found = HigherHRNetEstimator(Sees(people), flip_test=flip_test).detect([image])[0]
    assert found.n == 1
    assert found.canvas == (200, 90)
    assert np.abs(found.xy - xy).max() < 0.4  # px of the image, whose pixels are 1.6 of the network's


def test_joints_beside_the_image_are_not_reported():
    xy = np.full((2, 17, 2), 32.0, np.float32)
    xy[0, 0] = (32, 2)  # in the bar above a wide image
    xy[1] = (32, 2)  # a person who is nowhere else
    found = people_from_maps(xy, np.ones((2, 17), np.float32), np.ones(2, np.float32), 2, 128, (200, 60))
    assert found.n == 1
    assert found.visibility[0, 0] == 0
    assert (found.visibility[0, 1:] == 2).all()


def test_batch_norm_is_measured_again_for_the_weights_that_ship(tmp_path):
    write_atelier(tmp_path / "shards", 4, size=128, seed=9, workers=1, progress=False)
    settings = EstimatorSettings(data=str(tmp_path / "shards"), batch_size=2)
    task = EstimatorTask(settings)
    task.prepare(torch.device("cpu"))
    with torch.no_grad():
        task.module.bn1.running_mean.fill_(123.0)  # what training left behind
    seen = []
    task.module.bn1.register_forward_pre_hook(lambda module, args: seen.append(args[0].mean(dim=(0, 2, 3))))
    task.export(tmp_path / "export")
    shipped = HigherHRNet.from_pretrained(tmp_path / "export")
    assert len(seen) == 40
    assert torch.allclose(shipped.bn1.running_mean, torch.stack(seen).mean(dim=0), atol=1e-4)


@pytest.mark.parametrize("kind", ["higherhrnet", "centernet"])
def test_training_resumes_and_ends_in_an_estimator(kind, tmp_path, samples, monkeypatch):
    monkeypatch.setattr("humansd.training.tasks.estimators.CALIBRATION_BATCHES", 4)  # five exports ask for it
    write_atelier(tmp_path / "shards", 6, size=128, seed=9, workers=1, progress=False)
    overrides = {"data": str(tmp_path / "shards"), "steps": "4", "batch_size": "2", "log_every": "1"}
    overrides |= {"mixed_precision": "no", "cooldown_steps": "0"}
    preset = f"pocket-{kind}"
    validated = overrides | {"validate_steps": "2"}
    run_preset(
        preset,
        validated,
        tmp_path / "whole",
        make_validator=lambda task: EstimatorValidator(kind, task.export, samples[:3]),
    )
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation_ap" in row] == [2, 4]
    run_preset(preset, overrides | {"steps": "2"}, tmp_path / "parts")
    run_preset(preset, overrides, tmp_path / "parts")
    files = [tmp_path / run / "export" / "model.safetensors" for run in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    made = {"higherhrnet": HigherHRNetEstimator, "centernet": CenterNetPoseEstimator}[kind]
    found = made.from_pretrained(tmp_path / "whole" / "export").detect(
        [np.zeros((100, 60, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    )
    assert [people.canvas for people in found] == [(60, 100), (64, 64)]
    assert made.from_pretrained(tmp_path / "whole" / "export").detect([]) == []


def test_training_goes_on_from_the_weights_it_is_given(tmp_path):
    write_atelier(tmp_path / "shards", 4, size=128, seed=9, workers=1, progress=False)
    CenterNetPose(CENTERNET).save_pretrained(tmp_path / "start")
    given = EstimatorSettings(kind="centernet", data=str(tmp_path / "shards"), init=str(tmp_path / "start"))
    start, other = EstimatorTask(given), EstimatorTask(replace(given, init=""))
    shipped = load_file(tmp_path / "start" / "model.safetensors")
    assert all(torch.equal(shipped[name], tensor) for name, tensor in start.module.state_dict().items())
    assert start.fingerprint()["init_weights"] not in ("untrained", other.fingerprint()["init_weights"])
    with pytest.raises(ValueError, match="start: not a folder of a HigherHRNet"):
        EstimatorTask(replace(given, kind="higherhrnet"))


def test_attention_changes_nothing_before_it_has_learnt(samples):
    plain, attentive = CenterNetPose(CenterNetPoseConfig()).eval(), CenterNetPose(CENTERNET).eval()
    attentive.load_state_dict(plain.state_dict(), strict=False)
    image = letterbox([samples[0].image], 128)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(plain(image), attentive(image), strict=True))
        torch.nn.init.normal_(attentive.attention.out.weight)
        assert not torch.allclose(plain(image).joints, attentive(image).joints, atol=1e-3)


def test_the_judge_does_not_depend_on_its_batch(samples):
    torch.manual_seed(0)
    network = CenterNetPose(CenterNetPoseConfig()).eval()
    torch.nn.init.constant_(network.centre[-1].bias, 1.0)  # so that an untrained network finds somebody
    centernet = CenterNetPoseEstimator(network)
    images = [sample.image for sample in samples[:3]]
    together, alone = centernet.detect(images), centernet.detect(images[1:2])
    assert together[1].n > 0
    assert np.allclose(together[1].xy, alone[0].xy, atol=1e-3)


@pytest.mark.parametrize("overlap", [False, True])
def test_batches_are_read_in_order_whether_or_not_they_overlap(overlap):
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(7)]
    seen = []

    def look(batch):
        seen.append(len(batch))
        return [int(image[0, 0, 0]) for image in batch]

    def read(maps, batch):
        return [People.of(np.full((1, 17, 2), float(i)), (8, 8)) for i in maps]

    found = in_batches(images, 3, look, read, overlap=overlap)
    assert [people.xy[0, 0, 0] for people in found] == list(range(7))
    assert seen == [3, 3, 1]
