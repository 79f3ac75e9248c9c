"""The drawn people: geometry, key points, clothes and poses."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from humansd.synthetic import plan as vocabulary
from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.body import AGES, GENDERS, N_BODIES, bank, body, body_traits, bone_transforms, skin_points
from humansd.synthetic.buffers import BOTTOM, NOTHING, PROP, SKIN, TOP, Buffers
from humansd.synthetic.plan import Garment, PersonPlan, ScenePlan
from humansd.synthetic.posing import Pose, blended, bone_rotations, clamped, jittered
from humansd.synthetic.stage import pose_figure, render_buffers
from humansd.synthetic.wardrobe import too_close_to_skin

SIZE = 64


def person(action: str = "stand", top: str = "t-shirt", bottom: str | None = "trousers", i: int = 1,
           **changes: object) -> PersonPlan:  # fmt: skip
    plan = PersonPlan(
        body=i, gender="man", age="adult", skin=1, hair_style="short", hair_color="brown",
        top=Garment(top, "blue"), bottom=None if bottom is None else Garment(bottom, "green"),
        shoes=Garment("shoes", "black"), hat=None, action=action,
    )  # fmt: skip
    return replace(plan, **changes)  # type: ignore[arg-type]


def draw(*people: PersonPlan, seed: int = 0, size: int = SIZE, supersample: int = 2) -> Buffers:
    plan = ScenePlan("photo", "studio", "day", people)
    return render_buffers(plan, size, np.random.default_rng(seed), supersample)


def random_person(rng: np.random.Generator) -> PersonPlan:
    top = str(rng.choice(vocabulary.TOPS))
    bottom = None if top in ("dress", "robe") else str(rng.choice(vocabulary.BOTTOMS))
    return person(str(rng.choice(list(ACTIONS))), top, bottom, int(rng.integers(N_BODIES)))


def posed_joints(pose: Pose, body_id: int = 1) -> np.ndarray:
    shared, rest = bank(), body(body_id)
    moves = bone_transforms(shared.parents, rest.heads, bone_rotations(pose, rest), np.zeros(3, np.float32))
    n = shared.n
    joints: np.ndarray = skin_points(rest.points[n:], shared.bone_index[n:], shared.bone_weight[n:], moves)
    return joints


def test_bank_holds_varied_adults() -> None:
    traits = {body_traits(i) for i in range(N_BODIES)}
    assert traits == set(itertools.product(GENDERS, AGES))
    heights = [float(np.ptp(body(i).points[:, 1])) for i in range(N_BODIES)]
    assert min(heights) > 1.45
    assert max(heights) < 2.1
    assert np.std(heights) > 0.04


def test_bank_has_no_skin_on_the_trunk() -> None:
    shared = bank()
    paint = shared.paint[shared.blocks["skin"]]
    hip, knee, shoulder = shared.joints[11, 1], shared.joints[13, 1], shared.joints[5, 1]
    trunk = (np.abs(paint[:, 0]) < 0.12) & (paint[:, 1] > 0.6 * knee + 0.4 * hip) & (paint[:, 1] < shoulder - 0.12)
    assert not trunk.any()


def test_layers_keep_their_contract() -> None:
    out = draw(person(), person("sit", i=2), seed=3)
    r = 2 * SIZE
    assert out.albedo.shape == out.normal.shape == (r, r, 3)
    for layer in (out.shade, out.depth, out.person, out.material, out.shadow):
        assert layer.shape == (r, r)
    assert out.albedo.dtype == out.depth.dtype == out.shade.dtype == out.shadow.dtype == np.float32
    somebody = out.person > 0
    assert set(np.unique(out.person)) == {0, 1, 2}
    assert np.array_equal(somebody, np.isfinite(out.depth))
    assert np.array_equal(somebody, out.material != NOTHING)
    for layer, low, high in ((out.albedo, 0, 1), (out.shadow, 0, 1), (out.shade[somebody], 0.25, 1.25)):
        assert layer.min() >= low
        assert layer.max() <= high
    np.testing.assert_allclose(np.linalg.norm(out.normal[somebody], axis=1), 1, atol=1e-4)
    assert (out.material == PROP).any(), "a sitting person has a seat"
    assert out.people.n == 2
    assert out.people.canvas == (SIZE, SIZE)
    np.testing.assert_allclose(out.people.area, [(out.person == i).sum() / 4 for i in (1, 2)])
    assert np.array_equal(out.people.score, (out.people.visibility > 0).astype(float))


def test_same_seed_same_image() -> None:
    a, b = (draw(person("run"), person("dance", "dress", None), seed=9) for _ in range(2))
    for name in ("albedo", "shade", "normal", "depth", "person", "material", "shadow"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.camera == b.camera
    assert a.people.equals(b.people, 0.0)
    assert not a.people.equals(draw(person("run"), person("dance", "dress", None), seed=10).people, 0.5)


def test_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match=r"plan\.people is empty"):
        draw()


def test_visible_joints_lie_on_their_person_and_enough_are_seen() -> None:
    rng = np.random.default_rng(1)
    on, enough, shares = [], [], []
    for seed in range(60):
        out = draw(*(random_person(rng) for _ in range(1 + seed % 3)), seed=seed)
        for i in range(out.people.n):
            seen = out.people.visibility[i] == 2
            layer = np.clip(np.round(2 * out.people.xy[i] + 0.5).astype(int), 0, 2 * SIZE - 1)
            on.extend(out.person[layer[seen, 1], layer[seen, 0]] == i + 1)
            enough.append(seen.sum() >= 8)
            rows = np.flatnonzero((out.person == i + 1).any(1))
            shares.append((rows[-1] - rows[0] + 1) / (2 * SIZE))
    assert np.mean(on) >= 0.95
    assert np.mean(enough) >= 0.97
    assert np.median(shares) > 0.6
    assert np.quantile(shares, 0.05) > 0.2


def test_left_and_right_are_the_persons_own() -> None:
    facing = 0
    for seed in range(24):
        out = draw(person("stand", i=seed), seed=seed)
        xy, seen = out.people.xy[0], out.people.visibility[0] == 2
        toward = posed_facing(out)
        if seen[1] and seen[2] and toward:
            facing += 1
            assert (xy[[1, 5, 11], 0] > xy[[2, 6, 12], 0]).all()
    assert facing >= 8


def posed_facing(out: Buffers) -> bool:
    """Whether the drawn face looks at the camera: eyes or lips are among the pixels."""
    return bool(np.isin(out.material, (3, 4)).any())


def test_mirrored_pose_mirrors_the_joints() -> None:
    pose = ACTIONS["throw"].poses[0]
    a, b = posed_joints(pose), posed_joints(pose.mirrored())
    swap = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    np.testing.assert_allclose(b[swap] * [-1, 1, 1], a, atol=0.01)


def test_known_poses_put_joints_where_their_names_say() -> None:
    raised = posed_joints(ACTIONS["raise_arms"].poses[0])
    assert (raised[9:11, 1] > raised[0, 1]).all(), "wrists above the nose"
    tee = posed_joints(ACTIONS["t_pose"].poses[0])
    assert np.abs(tee[[9, 10], 1] - tee[[5, 6], 1]).max() < 0.12
    assert tee[9, 0] - tee[10, 0] > 1.1
    sitting = posed_joints(ACTIONS["sit"].poses[0])
    assert (np.abs(sitting[13:15, 1] - sitting[11:13, 1]) < 0.1).all(), "thighs level"
    lying = posed_joints(ACTIONS["lie_back"].poses[0])
    assert np.ptp(lying[[0, 5, 6, 11, 12, 15, 16], 1]) < 0.35


def test_feet_stand_on_the_floor() -> None:
    for i, name in enumerate(ACTIONS):
        figure = pose_figure(person(name, i=i), np.random.default_rng(i))
        hop = ACTIONS[name].poses[0].hop
        assert abs(float(figure.low[1]) - hop) < 0.011 or ACTIONS[name].support == "sit"


@pytest.mark.parametrize("top", vocabulary.TOPS)
def test_every_garment_covers_the_torso_in_its_color(top: str) -> None:
    bottoms = [None] if top in ("dress", "robe") else list(vocabulary.BOTTOMS)
    for k, bottom in enumerate(bottoms):
        plan = person("raise_arms", top, bottom, i=k, shoes=Garment(vocabulary.SHOES[k % 2], "red"))
        plan = replace(plan, hat=Garment(vocabulary.HATS[k % 3], "red"), hair_style=vocabulary.HAIR_STYLES[k % 5])
        out = draw(plan, seed=k, size=96, supersample=1)
        xy = out.people.xy[0]
        quad = xy[[5, 6, 12, 11]]
        v, u = np.mgrid[0:96, 0:96]
        centre = quad.mean(0)
        quad = centre + 0.85 * (quad - centre)  # without the neck and the armholes
        inside = np.ones((96, 96), bool)
        for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
            side = (b[0] - a[0]) * (v - a[1]) - (b[1] - a[1]) * (u - a[0])
            inside &= side * ((b[0] - a[0]) * (centre[1] - a[1]) - (b[1] - a[1]) * (centre[0] - a[0])) >= 0
        inside &= out.person == 1
        assert inside.sum() > 20
        assert (out.material[inside] == SKIN).mean() < 0.01
        assert np.isin(out.material[inside], (TOP, BOTTOM)).mean() > 0.9
        torso = out.albedo[inside & (out.material == TOP)]
        names = list(vocabulary.COLORS)
        palette = np.array([vocabulary.COLORS[n] for n in names]) / 255
        assert names[int(np.argmin(((palette - np.median(torso, axis=0)) ** 2).sum(1)))] == "blue"


def test_bodies_do_not_share_floor_space() -> None:
    rng = np.random.default_rng(4)
    for seed in range(10):
        out = draw(*(random_person(rng) for _ in range(3)), seed=seed, size=32)
        hips = out.people.xy[:, 11:13, 0].mean(1)
        assert (np.diff(hips) > 0).all(), "left to right"


def test_pose_library() -> None:
    assert len(ACTIONS) >= 100
    weight = sum(a.weight for a in ACTIONS.values())
    upright = sum(a.weight for a in ACTIONS.values() if a.support in ("stand", "air"))
    assert upright / weight > 0.75
    for name, action in ACTIONS.items():
        assert 2 <= len(action.phrases) <= 4, name
        assert action.support in ("stand", "air", "floor", "lie", "sit")
        for pose in action.poses:
            assert repr(clamped(pose)) == repr(pose), f"{name}: an angle exceeds its limit"


def test_jitter_stays_inside_the_limits_and_blends_meet_in_the_middle() -> None:
    pose = ACTIONS["battement"].poses[0]
    for seed in range(20):
        shaken = jittered(pose, np.random.default_rng(seed), 3.0)
        assert repr(clamped(shaken)) == repr(shaken)
        assert np.isnan(shaken.left_leg.foot), "the standing sole stays level"
    middle = blended(Pose(bend=10), Pose(bend=30), 0.5)
    assert middle.bend == pytest.approx(20)


def test_cloth_near_the_skin_color_is_recognised() -> None:
    assert too_close_to_skin("brown", 4)
    assert not too_close_to_skin("blue", 0)
    assert not too_close_to_skin("green", 4)
