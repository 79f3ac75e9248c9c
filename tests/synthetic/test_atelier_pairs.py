"""True pairs: one scene in two poses, the same outside of the mask, and read back as pairs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from humansd.cli import main
from humansd.data.image_cache import build_image_cache
from humansd.data.pairs import cached_changes, pack_mask, partners, read_pairs, unpack_mask
from humansd.data.sample import decode_sample, encode_sample
from humansd.data.shards import count_samples, read_shards, write_shards
from humansd.synthetic import pairs
from humansd.synthetic.pairs import make_pair, make_side


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("pairs")
    assert (
        main(
            [
                "data",
                "atelier",
                "--pairs",
                "--count",
                "3",
                "--size",
                "64",
                "--seed",
                "4",
                "--workers",
                "1",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


@pytest.mark.parametrize("people", [1, 3])
def test_nothing_but_the_people_changes(people):
    for index in range(3):
        first, second = make_pair(11, index, 64, people)
        changes = unpack_mask(first.extras["changes"])
        difference = np.abs(first.image.astype(int) - second.image.astype(int)).max(axis=2)
        assert difference[~changes].max() <= 2
        assert difference[changes].max() > 60
        assert 0.05 < changes.mean() < 0.95
        for sample in (first, second):
            assert changes[sample.extras["mask"] > 0].all()
            assert sample.people.n == people
            assert (sample.people.visibility == 2).sum(axis=1).min() >= 5
        moved = np.abs(first.people.xy - second.people.xy).max()
        assert moved > 5  # px of 64


def test_both_sides_show_the_same_clothes_and_one_caption_without_an_action():
    from humansd.synthetic.actions import ACTIONS

    first, second = make_pair(11, 0, 64, 1)
    assert first.caption == second.caption
    assert first.extras["top_colours"] == second.extras["top_colours"]
    said = [phrase for action in ACTIONS.values() for phrase in action.phrases]
    assert not [phrase for phrase in said if phrase in first.caption]


def test_the_same_seed_and_index_give_the_same_pair_whatever_was_asked_before():
    again = make_side(11, 1, 64, 1)
    make_pair.cache_clear()
    make_pair(12, 5, 64, 2)
    once = make_side(11, 1, 64, 1)
    assert np.array_equal(once.image, again.image)
    assert once.key == again.key == "000011-000000000-b"
    with pytest.raises(ValueError, match="1 to 3 people"):
        make_pair(11, 0, 64, 4)


def test_neon_is_left_out_as_its_light_is_everywhere():
    assert "neon" not in pairs.STILL
    assert len(pairs.STILL) == 17


def test_shards_of_pairs_are_shards_as_any_other_and_are_read_as_pairs(shards, tmp_path):
    assert count_samples(shards) == 6
    samples = list(read_shards(shards))
    found = list(read_pairs(shards))
    assert [(pair.first.key, pair.second.key) for pair in found] == [
        (one.key, other.key) for one, other in zip(samples[::2], samples[1::2], strict=True)
    ]
    back = decode_sample({"__key__": samples[0].key, **encode_sample(samples[0])})
    assert np.array_equal(unpack_mask(back.extras["changes"]), found[0].changes)
    cache = build_image_cache(shards, tmp_path / "cache")
    assert partners(cache) == {0: 1, 2: 3, 4: 5}
    masks = cached_changes(cache)
    assert set(masks) == {0, 2, 4}
    assert np.array_equal(masks[2], found[1].changes)
    assert main(["data", "inspect", str(shards)]) == 0


def test_a_sample_whose_other_side_is_gone_is_left_out_and_the_others_stay(shards, tmp_path):
    samples = list(read_shards(shards))[1:]  # without the first side "a"
    write_shards(samples.__getitem__, len(samples), tmp_path / "fewer", workers=1, progress=False)
    with pytest.warns(UserWarning, match="1 left out; the first: .*other side"):
        found = list(read_pairs(tmp_path / "fewer"))
    assert [pair.first.key for pair in found] == [samples[1].key, samples[3].key]


def test_a_mask_that_cannot_be_read_says_what_to_do(shards, tmp_path):
    samples = [dataclasses.replace(one, extras=dict(one.extras)) for one in list(read_shards(shards))[:2]]
    mask = samples[0].extras["changes"]
    for broken in ({**mask, "bits": "%"}, {**mask, "size": [9999, 9999]}, {**mask, "size": [65, 64]}, 3, None):
        with pytest.raises(ValueError, match="no packed mask"):
            unpack_mask(broken)
    samples[0].extras["changes"] = {**mask, "bits": "AAAA"}
    write_shards(samples.__getitem__, 2, tmp_path / "broken", workers=1, progress=False)
    with pytest.warns(UserWarning, match=r"1 left out; .*-a'?: extras\['changes'\].*data atelier --pairs"):
        assert list(read_pairs(tmp_path / "broken")) == []


def test_a_mask_comes_back_from_its_packing_whatever_its_shape():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 13), (64, 64), (3, 200)):
        mask = rng.random(shape) < 0.3
        assert np.array_equal(unpack_mask(pack_mask(mask)), mask)
