"""Atelier frames people as photographs do, shows what its captions name, and names nothing that is not in view."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from humansd.data.real_poses import load_real_poses, real_pose_ids
from humansd.models.tokenizers import clip_tokenizer
from humansd.pose.people import People
from humansd.synthetic import captions
from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.buffers import BOTTOM, PROP, SKIN, TOP
from humansd.synthetic.composing import compose
from humansd.synthetic.framing import FULL_SHARE, Target, annotated, sample_targets, table
from humansd.synthetic.framing_stats import measure, targets
from humansd.synthetic.plan import COLORED_SCENES
from humansd.synthetic.render import Rendered, make_sample, stage_image
from humansd.synthetic.sampling import sample_person
from humansd.synthetic.stage import draw_stage, pose_figure
from humansd.synthetic.views import NAMED_SHARE, View
from shared_data import DATA

SIZE, COUNT = 64, 150
TRAIN_POSES = DATA / "coco-train-poses"
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}


@pytest.fixture(scope="module")
def images() -> list[Rendered]:
    """Layers of the first images of one seed, both kinds."""
    return [stage_image(np.random.default_rng((31, i)), SIZE, 2) for i in range(COUNT)]


@pytest.fixture(scope="module")
def framed(images: list[Rendered]) -> list[Rendered]:
    """Those framed like photographs."""
    return [p for p in images if p.framed]


def told(made: Rendered, phrasing: captions.Phrasing = "seen", number: int = 0, short: bool = False) -> str:
    return captions.describe(made.plan, np.random.default_rng(number), phrasing, made.views, short)


def distance(ours: list[int], real: list[int]) -> float:
    """Largest difference of the two cumulative distributions (Kolmogorov, Smirnov)."""
    a, b = (np.cumsum(counts) / np.sum(counts) for counts in (ours, real))
    return float(np.abs(a - b).max())


def test_framings_follow_the_real_distribution(framed: list[Rendered]) -> None:
    """Edition 1 is at 0.24 (people), 0.90 (joints), 0.61 (height), 0.15 (across) and 0.29 (from the top)."""
    rng = np.random.default_rng(1)
    noted = [People.of(p.buffers.people.xy, (SIZE, SIZE), visibility=annotated(p.buffers.people, rng)) for p in framed]
    ours, real = measure(noted), table()["real"]
    assert distance(ours["people_per_image"], real["people_per_image"]) < 0.12
    assert distance(ours["joints"], real["joints"]) < 0.17
    assert distance(ours["seen"], real["seen"]) < 0.16
    assert distance(ours["height"], real["height"]) < 0.1
    assert distance(ours["x"], real["x"]) < 0.1
    assert distance(ours["y"], real["y"]) < 0.12
    assert distance(ours["view"], real["view"]) < 0.16
    shares = {k: np.array(v["joint_labelled"]) / v["people"] for k, v in (("ours", ours), ("real", real))}
    assert np.abs(shares["ours"] - shares["real"]).max() < 0.25
    assert np.abs(shares["ours"] - shares["real"]).mean() < 0.15


def test_what_today_lacked_is_there(framed: list[Rendered]) -> None:
    counts = np.array([len(p.plan.people) for p in framed])
    assert counts.max() <= 8
    assert (counts >= 4).mean() > 0.1
    views = [view for p in framed for view in p.views]
    assert np.mean([v.framing != "full" for v in views]) > 0.25
    assert np.mean([v.height < 0.15 for v in views]) > 0.1
    assert np.mean([v.height > 0.6 for v in views]) > 0.1
    mixed = [max(v.height for v in p.views) / min(v.height for v in p.views) for p in framed if len(p.views) > 1]
    assert np.mean([r > 2 for r in mixed]) > 0.2
    assert any((p.buffers.material[p.buffers.person == 0] == PROP).any() for p in framed)


def test_a_third_stays_whole(images: list[Rendered]) -> None:
    whole = [p for p in images if not p.framed]
    assert len(whole) / COUNT == pytest.approx(FULL_SHARE, abs=0.12)
    for made in whole:
        assert (made.buffers.people.visibility > 0).all(axis=1).mean() > 0.9
        assert len(made.plan.people) <= 3


def test_visibility_is_that_of_the_layers(images: list[Rendered]) -> None:
    """0 outside the frame and only there; a joint blocked by another or by a thing has that at its pixel."""
    blocked = 0
    for made in images:
        people, person = made.buffers.people, made.buffers.person
        inside = ((people.xy >= -0.5) & (people.xy < SIZE - 0.5)).all(axis=2)
        assert np.array_equal(people.visibility > 0, inside)
        assert (people.visibility == 2).any(axis=1).all(), "everyone who is counted is in view"
        at = np.clip(np.round(2 * people.xy + 0.5).astype(int), 0, 2 * SIZE - 1)
        here = person[at[..., 1], at[..., 0]]
        assert made.buffers.blocked is not None
        for i in range(people.n):
            others = made.buffers.blocked[i]
            blocked += int(others.sum())
            assert (people.visibility[i, others] == 1).all()
            assert (here[i, others] != i + 1).all()
    assert blocked > 100


def test_people_stand_left_to_right_and_do_not_cross(framed: list[Rendered]) -> None:
    rng, things = np.random.default_rng(3), 0
    for _ in range(12):
        wanted = sample_targets(rng)
        people = [sample_person(rng, view=t.view) for t in wanted]
        stage = compose([pose_figure(p, rng) for p in people], wanted, "meadow", 128, rng)
        for i, one in enumerate(stage.figures):
            for other in stage.figures[i + 1 :]:
                apart = (one.low >= other.high) | (other.low >= one.high)
                assert apart[[0, 2]].any()
            for thing in stage.things:
                things += 1
                points = one.points[one.mesh.cut >= 0]
                assert not ((points > thing.low) & (points < thing.high)).all(axis=1).any()
        across = [-(f.joints[:, 0] / f.joints[:, 2]) for f in stage.figures]
        middle = [np.clip(0.5 + stage.camera.focal_px / 128 * a, 0, 1).mean() for a in across]
        assert middle == sorted(middle)
    assert things > 3


def test_a_thing_in_front_hides_what_is_below_it() -> None:
    rng = np.random.default_rng(8)
    wanted = [Target(2, 0.3, 0.5, 0.45)]
    person = sample_person(rng, view=2)
    stage = compose([pose_figure(person, rng, 1.0)], wanted, "meadow", 256, rng)
    assert stage.behind[0]
    made = draw_stage(stage.figures, stage.things, stage.camera, 128, 2, rng)
    assert made.blocked is not None
    assert made.blocked[0, 13:17].all(), "knees and ankles"
    assert (made.people.visibility[0, 13:17] == 1).all()
    assert (made.people.visibility[0, 5:7] == 2).any(), "shoulders"
    bare = draw_stage(stage.figures, [], stage.camera, 128, 2, np.random.default_rng(0))
    assert bare.blocked is not None
    assert not bare.blocked.any()


def test_captions_name_the_number_of_people(images: list[Rendered]) -> None:
    for i, made in enumerate(images):
        n = len(made.plan.people)
        for phrasing in ("seen", "held_out"):
            text = told(made, phrasing, i)
            if n > 3:
                assert f"{NUMBERS[n]}" in text.split(",")[1], text
            said = [word for number, word in NUMBERS.items() if re.search(rf"\b{word} people|group of {word}", text)]
            assert all(word == NUMBERS.get(n) for word in said), text


def test_captions_name_nothing_that_is_not_in_view(images: list[Rendered]) -> None:
    bottoms = {w for k in ("trousers", "shorts", "skirt", "leggings", "long skirt") for w in captions.GARMENT_WORDS[k]}
    unseen = 0
    for i, made in enumerate(images):
        layers = made.buffers
        text = told(made, "seen", i)
        assert not re.search(r"\b(shoes|boots)\b", text)
        shares = {
            (k, code): ((layers.person == k + 1) & (layers.material == code)).mean()
            for k in range(len(made.views)) for code in (TOP, BOTTOM)
        }  # fmt: skip
        for k, view in enumerate(made.views):
            assert not view.top or shares[k, TOP] > 0.7 * NAMED_SHARE
            assert not view.bottom or shares[k, BOTTOM] > 0.7 * NAMED_SHARE
            assert not view.bottom or view.framing in ("full", "knees")
            assert not view.legs or view.framing == "full"
        if not any(view.bottom for view in made.views):
            unseen += 1
            words = re.sub(r"\b(on|a|the) ", " ", text)
            assert not any(re.search(rf"\b{word}\b", words) for word in bottoms), text
        if not any(view.action for view in made.views):
            phrases = {phrase for a in ACTIONS.values() for phrase in a.phrases if " " in phrase}
            assert not any(phrase in text for phrase in phrases), text
        if len(made.views) == 1 and made.plan.scene in COLORED_SCENES:
            colors = set(captions.COLOR_WORDS[made.plan.people[0].top.color])
            named = bool(colors & set(re.findall(r"[a-z]+", text)))
            assert named or not made.views[0].top, text
    assert unseen > 10


def test_a_close_view_speaks_of_no_legs(framed: list[Rendered]) -> None:
    close = [p for p in framed if len(p.views) == 1 and p.views[0].framing in ("waist", "chest")]
    assert len(close) >= 5
    for made in close:
        for number in range(6):
            text = told(made, "seen", number)
            assert not re.search(r"standing|walking|on one leg|trousers|pants|shorts|skirt|leggings", text), text


def test_tops_of_a_group_are_named_left_to_right(framed: list[Rendered]) -> None:
    group = [p for p in framed if len(p.views) > 3 and p.plan.scene in COLORED_SCENES]
    assert len(group) >= 3
    for i, made in enumerate(group):
        text, start = told(made, "seen", i), 0
        for person, view in zip(made.plan.people, made.views, strict=True):
            if view.top:
                colors = "|".join(set(captions.COLOR_WORDS[person.top.color]))
                kind = captions.GARMENT_WORDS[person.top.kind][0]
                found = re.compile(rf"\b({colors}) ({kind}|top)\b").search(text, start)
                assert found, text
                start = found.end()
        clothes = re.findall(rf"in an? ({'|'.join(sum(captions.COLOR_WORDS.values(), ()))}) ", text)
        assert len(clothes) <= sum(view.top for view in made.views)


def test_wordings_fit_the_tokenizer_and_vary(images: list[Rendered]) -> None:
    tokenizer = clip_tokenizer("sd1")
    longest = 0
    for i, made in enumerate(images):
        for phrasing in ("seen", "held_out"):
            for short in (False, True):
                text = told(made, phrasing, i, short)
                longest = max(longest, len(text.split()))
                assert len(tokenizer(text)["input_ids"]) <= 77, text
                assert text.startswith(f"{made.plan.scene}, ")
                assert "  " not in text
                assert ",," not in text
    assert longest <= 55
    assert np.mean([len(told(p, short=True)) < len(told(p)) for p in images]) > 0.8


def test_held_out_sentences_are_never_trained_on() -> None:
    for seen, kept in (*zip(captions.ONE["seen"], captions.ONE["held_out"], strict=True),
                       *list(zip(captions.EACH["seen"], captions.EACH["held_out"], strict=True))[:2]):  # fmt: skip
        assert not set(seen) & set(kept)
    for framing, words in captions.FRAMING_SEEN.items():
        assert framing == "full" or not set(words) & set(captions.FRAMING_HELD_OUT[framing])
    for number, words in captions.COUNT_HELD_OUT.items():
        assert not set(words) & set(captions.COUNT_WORDS[number])


def test_everyone_is_a_clothed_adult(images: list[Rendered]) -> None:
    """No more bare skin than head, arms and lower legs have, however near the camera is."""
    for made in images:
        layers = made.buffers
        for i, person in enumerate(made.plan.people):
            assert person.age in ("young", "adult", "old")
            xy = layers.people.xy[i]
            trunk = np.clip(np.round(2 * xy[[5, 6, 11, 12]].mean(axis=0)).astype(int), 0, 2 * SIZE - 1)
            inside = (xy[[5, 6, 11, 12]] > 1).all() and (xy[[5, 6, 11, 12]] < SIZE - 2).all()
            own = layers.person[trunk[1], trunk[0]] == i + 1
            arms = np.abs(xy[7:11] - xy[[5, 6, 11, 12]].mean(axis=0)).max(axis=1).min() < 8
            if inside and own and not arms and made.views[i].height > 0.2:
                assert layers.material[trunk[1], trunk[0]] != SKIN


def test_extras_say_what_a_caption_is_judged_by() -> None:
    for index in range(6):
        sample = make_sample(77, index, 64)
        n = sample.people.n
        for name in ("top_colours", "bottom_colours", "named", "bottoms_seen", "framings", "annotated"):
            assert len(sample.extras[name]) == n, name
        assert sample.extras["framing"] in ("real", "full")
        noted = np.array(sample.extras["annotated"])
        assert noted.shape == (n, 17)
        assert np.array_equal(noted == 2, sample.people.visibility == 2)
        assert not (noted > sample.people.visibility).any()
        again = make_sample(77, index, 64)
        assert again.extras["annotated"] == sample.extras["annotated"]
        assert np.array_equal(again.image, sample.image)
        assert again.caption == sample.caption


def test_nothing_seen_is_only_counted() -> None:
    rng = np.random.default_rng(0)
    people = tuple(sample_person(rng) for _ in range(3))
    plan = replace(stage_image(np.random.default_rng(1), SIZE).plan, people=people, scene="photo")
    hidden = View(top=False, bottom=False, hat=False, action=False, legs=False, framing="waist", height=0.3)
    for number in range(20):
        text = captions.describe(plan, np.random.default_rng(number), "seen", (hidden,) * 3)
        assert re.search(r"three people|a group of three", text)
        assert not set(re.findall(r"[a-z]+", text)) & {p.top.color for p in people}


def archive(folder) -> None:  # type: ignore[no-untyped-def]
    """A small archive in the form of the real one: 40 images with one or two people."""
    rng = np.random.default_rng(2)
    image = np.sort(np.concatenate([np.arange(40), np.arange(0, 40, 2)])).astype(np.int32)
    points = np.zeros((60, 17, 3), np.int16)
    points[..., 0] = rng.integers(0, 640, (60, 17))
    points[..., 1] = rng.integers(0, 480, (60, 17))
    points[..., 2] = rng.integers(0, 3, (60, 17))
    canvas = np.tile(np.array([[640, 480]], np.int16), (40, 1))
    np.savez(folder / "poses.npz", keypoints=points, image=image, canvas=canvas, coco_id=np.arange(40, 80)[::-1])


def test_the_evaluation_images_are_drawn_whatever_the_order(tmp_path) -> None:  # type: ignore[no-untyped-def]
    archive(tmp_path)
    poses = load_real_poses(tmp_path)
    kept = real_pose_ids(poses.coco_id, count=10)
    assert kept == real_pose_ids(poses.coco_id[::-1], count=10)
    assert len(set(kept)) == 10
    assert kept != real_pose_ids(poses.coco_id, seed=1, count=10)
    with pytest.raises(ValueError, match="40 images"):
        real_pose_ids(poses.coco_id)
    squares = list(poses.squares(kept))
    assert all(p.canvas == (256, 256) and p.labelled.any(axis=1).all() for p in squares)
    counts = measure(squares)
    assert sum(counts["height"]) == counts["people"] == sum(p.n for p in squares)
    frames = targets(squares)["frames"]
    assert sum(sum(cells.values()) for cells in frames.values()) == counts["people"]


@pytest.mark.skipif(not TRAIN_POSES.exists(), reason="no archive of real poses here")
def test_the_table_is_that_of_the_archive() -> None:
    poses = load_real_poses(TRAIN_POSES)
    kept = set(real_pose_ids(poses.coco_id))
    assert len(kept) == 500
    some = [int(i) for i in poses.coco_id if int(i) not in kept][::20]
    counts, real = measure(poses.squares(some)), table()["real"]
    for name in ("people_per_image", "joints", "seen", "view", "height", "x", "y"):
        assert distance(counts[name], real[name]) < 0.07, name


def test_the_table_says_what_it_was_made_from() -> None:
    made = table()
    assert made["left_out"] == {"seed": 256, "count": 500}
    assert "CC BY 4.0" in made["source"]
    assert made["real"]["images"] > 11000
    assert sum(sum(c.values()) for c in made["frames"].values()) == made["real"]["people"]
