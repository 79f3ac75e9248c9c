"""Decoding of heatmaps and tags: known answers on constructed maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from humansd.models.higherhrnet_codec import Found, Grouping, Peaks, decode, group
from humansd.pose.skeleton import COCO17

SIGMAS = np.array(COCO17.sigmas, np.float32)
SIZE = 96  # px of the constructed maps
RULES = Grouping()

# A standing person about (0, 0), 60 px tall.
BODY = np.array(
    [(0, -28), (1.5, -30), (-1.5, -30), (3, -29), (-3, -29), (7, -20), (-7, -20), (10, -9), (-10, -9),
     (11, 1), (-11, 1), (5, 3), (-5, 3), (5, 16), (-5, 16), (5, 30), (-5, 30)], float,
)  # fmt: skip


def at(x: float, y: float) -> np.ndarray:
    """A standing person about (x, y)."""
    return BODY + np.array([x, y])


def maps_of(people: list[np.ndarray], tags: list[float], height: float = 0.9, sigma: float = 2.0, spread: float = 8.0):
    """Gaussian heatmaps (1, 17, SIZE, SIZE) of joints (17, 2), NaN where absent, and tag maps: each person's tag
    around its joints (nearest person wins), 0 elsewhere."""
    y, x = np.mgrid[:SIZE, :SIZE]
    heat, tag = np.zeros((17, SIZE, SIZE)), np.zeros((17, SIZE, SIZE))
    for joint in range(17):
        nearest = np.full((SIZE, SIZE), spread**2)
        for person, value in zip(people, tags, strict=True):
            if np.isnan(person[joint]).any():
                continue
            gap2 = (x - person[joint, 0]) ** 2 + (y - person[joint, 1]) ** 2
            heat[joint] = np.maximum(heat[joint], height * np.exp(-gap2 / (2 * sigma**2)))
            tag[joint] = np.where(gap2 < nearest, value, tag[joint])
            nearest = np.minimum(nearest, gap2)
    return (torch.from_numpy(a.astype(np.float32)) for a in (heat[None], tag[None, ..., None]))


def run(people, tags, rules: Grouping = RULES, **how) -> Found:
    heat, tag = maps_of(people, tags, **how)
    return decode(heat, tag, SIGMAS, rules)[0]


def matched(found: Found, people: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each true person with the found one nearest to it; every found one once."""
    assert len(found.xy) == len(people)
    pairs = []
    for person in people:
        gaps = [np.nanmean(np.linalg.norm(one - person, axis=1)) for one in found.xy]
        pairs.append((person, found.xy[int(np.argmin(gaps))]))
    assert len({tuple(one.ravel()) for _, one in pairs}) == len(people)
    return pairs


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_every_person_is_found_where_it_stands(count):
    rng = np.random.default_rng(count)
    places = [(16 + 32 * (i % 3), 34 + 26 * (i // 3)) for i in range(count)]
    people = [0.7 * BODY + place + rng.uniform(-0.5, 0.5, 2) for place in places]
    found = run(people, [3.0 * i for i in range(count)], sigma=1.5)
    for person, one in matched(found, people):
        assert np.linalg.norm(one - person, axis=1).max() < 0.25
    assert (found.joint_score > 0.5).all()


def test_peaks_are_found_to_a_quarter_of_a_pixel_and_better():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(40):
        person = at(48, 46) + rng.uniform(-0.5, 0.5, (17, 2))
        errors.append(np.abs(run([person], [0.0]).xy[0] - person).max())
    assert max(errors) < 0.25
    assert np.mean(errors) < 0.05


def test_crossing_limbs_stay_with_their_people():
    left, right = at(38, 48), at(56, 48)
    wrist = 9
    left[wrist], right[wrist + 1] = (66, 40), (28, 40)  # each reaches across the other
    for person, one in matched(run([left, right], [0.0, 4.0]), [left, right]):
        assert np.linalg.norm(one - person, axis=1).max() < 0.3


def test_a_missing_joint_stays_missing():
    person = at(48, 48)
    person[[9, 15]] = np.nan
    found = run([person], [1.0])
    assert len(found.xy) == 1
    assert (found.joint_score[0, [9, 15]] == 0).all()
    assert (found.joint_score[0] > 0).sum() == 15


def test_a_faint_joint_with_the_persons_tag_is_filled_in():
    heat, tag = maps_of([at(48, 48)], [1.0])
    heat[0, 9] *= 0.08 / 0.9  # below `joint_score`, above `refined_score`
    found = decode(heat, tag, SIGMAS, RULES)[0]
    assert found.joint_score[0, 9] == pytest.approx(0.08, abs=0.01)
    assert np.linalg.norm(found.xy[0, 9] - at(48, 48)[9]) < 0.3


def test_two_people_at_nearly_one_place_are_two():
    first, second = at(44, 48), at(51, 48)
    found = run([first, second], [0.0, 5.0])
    for person, one in matched(found, [first, second]):
        assert np.linalg.norm(one - person, axis=1).mean() < 1.0


def test_a_ghost_made_by_refinement_does_not_survive():
    """Three false peaks beside a person start another one, and refinement gives it the limbs of the first."""
    person = at(48, 48)
    heat, tag = maps_of([person], [1.0])
    limbs = (7, 8, 9, 10, 13, 14, 15, 16)
    for joint in limbs:
        tag[0, joint][tag[0, joint] == 1.0] = 1.3
    false = np.full((17, 2), np.nan)
    false[[5, 11, 12]] = person[[5, 11, 12]] + (9, 0)
    false_heat, false_tag = maps_of([false], [2.2], height=0.4, spread=4.0)
    heat, tag = torch.maximum(heat, false_heat), torch.where(false_tag > 0, false_tag, tag)

    ghostly = decode(heat, tag, SIGMAS, Grouping(same_peak=2.0, same_pose=2.0))[0]
    assert len(ghostly.xy) == 2
    assert (ghostly.joint_score[1, limbs] > 0.5).all()  # it is real, and made of the other's limbs
    found = decode(heat, tag, SIGMAS, RULES)[0]
    assert len(found.xy) == 1
    assert np.linalg.norm(found.xy[0] - person, axis=1).max() < 0.3


def test_nobody_gives_nobody():
    found = run([], [])
    assert found.xy.shape == (0, 17, 2)
    assert found.joint_score.shape == (0, 17)
    assert found.person_score.shape == (0,)


def test_faint_people_are_filtered_and_the_surest_come_first():
    strong, weak = at(26, 48), at(70, 48)
    heat, tag = maps_of([strong, weak], [0.0, 4.0])
    heat[..., 48:] *= 0.3
    found = decode(heat, tag, SIGMAS, RULES)[0]
    assert found.person_score[0] > found.person_score[1]
    assert abs(found.xy[0, :, 0].mean() - 26) < 1
    only = decode(heat, tag, SIGMAS, Grouping(person_score=0.5))[0]
    assert len(only.xy) == 1


def test_an_image_does_not_depend_on_its_batch():
    one, two = list(maps_of([at(40, 48)], [1.0])), list(maps_of([at(60, 40), at(20, 48)], [0.0, 3.0]))
    together = decode(torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]]), SIGMAS, RULES)
    for alone, row in zip((one, two), together, strict=True):
        assert np.array_equal(decode(*alone, SIGMAS, RULES)[0].xy, row.xy)


@pytest.mark.parametrize("way", [1, -1])
def test_where_tags_are_hardly_apart_the_sure_joints_belong_together_in_any_order_of_peaks(way):
    people = [at(30, 48).round().astype(int), at(60, 50).round().astype(int)]
    ways = [way if joint % 2 else 1 for joint in range(17)]
    place, score, tag = (
        np.concatenate([row[::one] for row, one in zip(column, ways, strict=True)])
        for column in (np.stack(people, axis=1), np.tile(np.float32([0.9, 0.4]), (17, 1)), np.tile([0, 0.2], (17, 1)))
    )
    found, _, _ = group(Peaks(place, score, tag[:, None], np.arange(0, 36, 2)), RULES)
    assert np.array_equal(found, people)
