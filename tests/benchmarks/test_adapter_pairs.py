"""One scene in two poses, measured and drawn: background scores of known answer, shared attention, series, adapters."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from humansd.cli import main
from humansd.evaluation.colors import torso_mask
from humansd.evaluation.pair_scores import (
    PairRecord,
    color_change,
    compare_pairs,
    pair_table,
    score_pair,
    statistic_of,
    thigh_mask,
)
from humansd.inference.sampling import SamplingConfig
from humansd.inference.series import draw_series
from humansd.methods.drawing import drawings
from humansd.methods.dual_adapter import Weighted, load_adapters
from humansd.methods.table import find_method
from humansd.metrics.pairs import outside_scores, ssim_map
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pipelines.shared_attention import SharedAttention, begin_at, shared_attention
from humansd.pose.people import People
from humansd.pose.render import DOTS_STYLE, DrawStyle, draw_people
from humansd.reproduce.adapter_table import equal_ap, less_change
from humansd.synthetic.pairs import write_pairs
from tiny_pipeline import CAPTIONS, FACTOR, SIZE, standing, tiny_components

QUICK = SamplingConfig(3, 2.0, 1.0)


def adapted(seed: int = 3, size: int = SIZE) -> HumanSDPipeline:
    """With an adapter that does something."""
    parts = tiny_components(widened=False)
    parts["unet"].register_to_config(sample_size=size // FACTOR)
    torch.manual_seed(seed)
    made = find_method("t2i-adapter").build(parts["unet"], parts["vae"])
    with torch.no_grad():
        for value in made.pose_network.parameters():
            value.add_(0.2 * torch.randn_like(value))
    pipe = HumanSDPipeline(**parts, pose_network=made.pose_network, method="dual-adapter")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_only_what_is_outside_of_the_mask_counts():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (48, 48, 3), np.uint8)
    changes = np.zeros((48, 48), bool)
    changes[:, :20] = True
    second = first.copy()
    second[:, :20] = 0
    assert outside_scores(first, second, changes) == {"mse": 0.0, "psnr": math.inf, "ssim": pytest.approx(1.0)}
    grey, lighter = (np.full((48, 48, 3), value, np.uint8) for value in (100, 110))
    found = outside_scores(grey, lighter, changes)
    assert found["mse"] == pytest.approx((10 / 255) ** 2)
    assert found["psnr"] == pytest.approx(20 * math.log10(25.5))
    a, b = 100 / 255, 110 / 255  # SSIM of two constants is its luminance term alone
    assert found["ssim"] == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-4)
    nowhere = outside_scores(grey, lighter, np.ones((48, 48), bool))
    assert all(math.isnan(value) for value in nowhere.values())
    with pytest.raises(ValueError, match="sizes must agree"):
        outside_scores(grey, lighter, np.ones((40, 48), bool))


def test_ssim_is_that_of_its_definition_at_one_place():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 31, 31))
    axis = np.arange(-5, 6)
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = first[10:21, 8:19], second[10:21, 8:19]
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
    both = (window * a * b).sum() - mean_a * mean_b
    c1, c2 = 1e-4, 9e-4
    wanted = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert ssim_map(first, second)[15, 13] == pytest.approx(wanted, abs=1e-6)


def test_clothes_that_keep_their_color_have_not_changed_wherever_they_went():
    people = standing((96, 96)), standing((96, 96), shift=6.0)
    images = []
    for one in people:
        image = np.full((96, 96, 3), 50, np.uint8)
        image[torso_mask(one, 0)] = (200, 30, 30)
        image[thigh_mask(one, 0)] = (20, 20, 200)
        images.append(image)
    for where in (torso_mask, thigh_mask):
        assert color_change((images[0], images[1]), people, where) == pytest.approx(0, abs=1e-4)
    images[1][thigh_mask(people[1], 0)] = (20, 200, 20)
    assert color_change((images[0], images[1]), people, thigh_mask) > 50
    assert math.isnan(color_change((images[0], images[1]), (People.empty((96, 96)),) * 2, torso_mask))


def test_records_come_back_and_a_worse_background_is_known_to_be_one():
    rng = np.random.default_rng(0)
    people = standing((64, 64)), standing((64, 64), shift=4.0)
    changes = np.zeros((64, 64), bool)
    changes[10:50, 20:40] = True
    calm, wild = [], []
    for _ in range(12):
        image = rng.integers(60, 200, (64, 64, 3), np.uint8)
        for noise, records in ((2, calm), (25, wild)):
            other = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
            records.append(score_pair((image, other), people, changes, people[1], 20.0))
    back = [PairRecord.from_json(json.loads(json.dumps(one.to_json()))) for one in calm]
    assert pair_table(back, 50) == pair_table(calm, 50)
    assert pair_table(calm, 50)["ap"]["value"] == pytest.approx(100)
    found = compare_pairs(wild, calm, 50)
    assert found["psnr"].high < -10
    assert found["mse"].low > 0
    assert found["ap"].difference == 0


def test_the_first_image_stays_as_it_is_and_the_others_read_it():
    pipe = adapted()
    for name, value in pipe.unet.named_parameters():
        if "attn1.to_out" in name:
            value.data *= 30  # untrained attention hardly matters
    poses = [standing(shift=-3.0), standing(shift=3.0)]
    plain = [np.asarray(one).astype(int) for one in draw_series(pipe, CAPTIONS[0], poses, 5, sampling=QUICK)]
    shared = [
        np.asarray(one).astype(int) for one in draw_series(pipe, CAPTIONS[0], poses, 5, sampling=QUICK, shared=True)
    ]
    assert np.abs(plain[0] - shared[0]).max() <= 1
    assert np.abs(plain[1] - shared[1]).max() > 1
    again = [np.asarray(one).astype(int) for one in draw_series(pipe, CAPTIONS[0], poses, 5, sampling=QUICK)]
    assert np.array_equal(plain[1], again[1])  # what was there before is back


def test_shared_attention_is_attention_over_the_first_image_s_keys():
    unet = adapted().unet
    name, layer = next(
        (name, module)
        for name, module in unet.named_modules()
        if name.startswith("up_blocks") and name.endswith("attn1")
    )
    hidden = torch.randn(4, 9, layer.to_q.in_features, generator=torch.Generator().manual_seed(0))  # 2 branches of 2
    with shared_attention(unet, 2) as shared, torch.no_grad():
        assert unet.attn_processors[f"{name}.processor"] is shared
        own = layer(hidden)
        shared.active = True
        found = layer(hidden)
        by_hand = layer(hidden, encoder_hidden_states=hidden[[0, 0, 2, 2]])
    assert torch.allclose(found[[0, 2]], own[[0, 2]], atol=1e-6)
    assert torch.allclose(found, by_hand, atol=1e-6)
    assert (found[[1, 3]] - own[[1, 3]]).abs().max() > 1e-4


def test_sharing_begins_after_the_first_steps_which_decide_the_layout():
    shared = SharedAttention(2)
    callback = begin_at(shared, 50)
    seen = []
    for step in range(8):
        seen.append(shared.active)  # while this step is drawn
        callback(None, step, torch.tensor(0), {})
    assert seen == [False] * 5 + [True] * 3
    begin_at(shared, 3)
    assert shared.active  # a tenth of three steps is none


def test_one_seed_gives_one_image_alone_or_in_a_series():
    pipe = adapted()
    poses = [standing(shift=shift) for shift in (-3.0, 0.0, 3.0)]
    series = draw_series(pipe, CAPTIONS[0], poses, 7, sampling=QUICK)
    for pose, image in zip(poses, series, strict=True):
        (alone,) = draw_series(pipe, CAPTIONS[0], [pose], 7, sampling=QUICK)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(alone)).max() <= 1
    assert np.abs(np.asarray(series[0]).astype(int) - np.asarray(series[2])).max() > 2


def test_generate_draws_a_series_of_poses_with_one_seed_and_an_adapter_beside_its_base(tmp_path):
    pipe = adapted(size=64)
    plain_pipeline(pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler).save_pretrained(
        tmp_path / "base"
    )
    pipe.pose_network.save_pretrained(tmp_path / "adapter")
    (tmp_path / "poses").mkdir()
    for number, shift in enumerate((-8.0, 8.0)):
        text = json.dumps(standing((64, 64), shift=shift).to_json())
        (tmp_path / "poses" / f"pose{number}.json").write_text(text)
    command = ["generate", CAPTIONS[0], "--model", str(tmp_path / "base"), "--method", "dual-adapter", "--steps", "2"]
    command += ["--n", "1", "--seed", "3", "--pose-network", str(tmp_path / "adapter")]
    assert main([*command, "--pose", str(tmp_path / "poses"), "--out", str(tmp_path / "series")]) == 0
    assert main([*command, "--pose", str(tmp_path / "poses" / "pose1.json"), "--out", str(tmp_path / "one")]) == 0
    series, (alone,) = sorted((tmp_path / "series").glob("pose*.png")), (tmp_path / "one").glob("pose*.png")
    images = [np.asarray(Image.open(path)).astype(int) for path in (*series, alone)]
    assert len(series) == 2
    assert np.abs(images[1] - images[2]).max() <= 1
    assert np.abs(images[0] - images[1]).max() > 1


def test_several_adapters_add_what_each_says_times_its_weight(tmp_path):
    for number in range(2):
        adapted(number).pose_network.save_pretrained(tmp_path / f"a{number}")
    both = load_adapters(f"{tmp_path / 'a0'}=0.7,{tmp_path / 'a1'}=0.3", torch.float32)
    assert isinstance(both, Weighted)
    drawing = drawings([standing()], find_method("dual-adapter").draw_style, (SIZE, SIZE))
    with torch.no_grad():
        one, other = (load_adapters(str(tmp_path / f"a{number}"), torch.float32)(drawing) for number in range(2))
        half = load_adapters(f"{tmp_path / 'a0'}=0.5", torch.float32)(drawing)
        for a, b, found, less in zip(one, other, both(drawing), half, strict=True):
            assert torch.allclose(found, 0.7 * a + 0.3 * b, atol=1e-5)
            assert torch.allclose(less, 0.5 * a, atol=1e-5)
    with pytest.raises(ValueError, match="write FOLDER_OR_ID or FOLDER_OR_ID=WEIGHT"):
        load_adapters("a=x,b=1", torch.float32)


def test_dots_are_grey_0_on_255_one_for_each_labelled_joint():
    people = standing((256, 256))
    image = draw_people(people, DOTS_STYLE)
    assert image[0, 0].tolist() == [255, 255, 255]
    x, y = np.rint(people.xy[0, 9]).astype(int)
    assert image[y, x].tolist() == [0, 0, 0]
    assert 17 * 15 < (image[..., 0] < 128).sum() <= 17 * 40
    assert DrawStyle.from_dict(DOTS_STYLE.to_dict()) == DOTS_STYLE
    nobody = drawings([None], DOTS_STYLE, (32, 32))
    assert nobody.min() == 1  # white, not the black of the other styles


def test_at_equal_ap_the_background_is_read_between_the_rows():
    people = standing((64, 64)), standing((64, 64), shift=4.0)

    def rows(mse, hits):
        found = [people[1] if i < hits else People.empty((64, 64)) for i in range(10)]
        return [PairRecord(20.0, 0.5, mse, 1.0, 1.0, 20.0, people[1], one) for one in found]

    found = equal_ap({"primary": [rows(0.010, 4), rows(0.030, 8)], "secondary": [rows(0.002, 2), rows(0.006, 6)]})
    aps = [statistic_of(rows(0.0, hits), "ap")(np.ones(10, np.int64)) for hits in (4, 6, 8)]
    assert found["secondary"]["ap"] == found["primary"]["ap"] == pytest.approx(aps[1])
    assert found["secondary"]["mse"]["value"] == pytest.approx(6)
    share = (aps[1] - aps[0]) / (aps[2] - aps[0])
    assert found["primary"]["mse"]["value"] == pytest.approx(10 + 20 * share)
    assert 10 <= found["primary"]["mse"]["low"] < found["primary"]["mse"]["high"] <= 30
    assert found["primary"]["psnr"] == {"value": 20.0, "low": 20.0, "high": 20.0}
    assert equal_ap({"primary": [rows(0.01, 4)], "secondary": [rows(0.01, 4)]}) == {}


def test_how_much_smaller_the_change_is_stands_with_its_interval():
    people = standing((64, 64))

    def rows(changes):
        return [PairRecord(20.0, 0.5, mse, 1.0, 1.0, 20.0, people, people) for mse in changes]

    found = less_change(rows([0.006, 0.008]), rows([0.010, 0.010]))
    assert found == {"value": pytest.approx(0.3), "low": pytest.approx(0.2), "high": pytest.approx(0.4)}
    assert np.isnan(less_change(rows([0.006]), rows([0.0]))["value"])


def test_the_figure_by_command(tmp_path, few_draws, capsys):
    place = tmp_path
    pipe = adapted(size=64)
    plain_pipeline(pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler).save_pretrained(
        place / "base"
    )
    HumanSDPipeline(**{**pipe.components, "pose_network": pipe.pose_network}, method="t2i-adapter").save_pretrained(
        place / "primary"
    )
    adapted(seed=4, size=64).save_pretrained(place / "secondary")
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(place / "centernet")
    write_pairs(place / "pairs", 3, size=64, seed=8, workers=1, progress=False)
    command = ["reproduce", "adapter-figure3", "--base-model", str(place / "base"), "--primary", str(place / "primary")]
    command += ["--secondary", f"secondary={place / 'secondary'}", "--humansd", "none"]
    command += ["--test", str(place / "pairs"), "--held-out", f"centernet={place / 'centernet'}", "--pairs", "3"]
    command += ["--steps", "2", "--batch", "2", "--prompts", "1", "--poses", "2", "--limit", "0"]
    command += ["--weight", "0.5", "--out", str(place / "out")]
    assert main(command) == 0
    table = capsys.readouterr().out
    rows = ("sd", "primary", "primary, shared attention", "secondary")
    assert all(f"\n| {row} |" in table for row in (*rows, "true pairs"))
    results = json.loads((place / "out" / "adapter_figure3.json").read_text())
    assert results["rows"]["sd"]["psnr"]["value"] == pytest.approx(60)  # it looks at no pose: the same image twice
    assert results["rows"]["primary"]["psnr"]["value"] < 60
    weighed = {"primary x 0.5", "primary, shared attention x 0.5", "secondary x 0.5"}
    assert set(results["differences"]) == (set(rows) | weighed) - {"primary"}
    assert set(results["less_change"]) == set(results["differences"])
    assert results["less_change"]["sd"]["value"] == 1
    mse = {row: results["rows"][row]["mse"]["value"] for row in ("secondary", "primary, shared attention")}
    against = results["against_rival"]["secondary"]["mse"]["difference"]
    assert against == pytest.approx(mse["secondary"] - mse["primary, shared attention"])
    assert results["rows"]["primary x 0.5"]["psnr"]["value"] != results["rows"]["primary"]["psnr"]["value"]
    assert (place / "out" / "figure-1.png").exists()
    drawn = [*(place / "out" / "rows").rglob("*.png"), *(place / "out" / "rows").rglob("pairs-*.json")]
    before = {file: file.stat().st_mtime_ns for file in drawn}
    assert main(command) == 0  # nothing is drawn again
    assert {file: file.stat().st_mtime_ns for file in drawn} == before
