"""Puts the people of a `ScenePlan` on the floor in front of a camera and renders the layers of the image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from humansd.pose.people import People
from humansd.synthetic import raster
from humansd.synthetic.actions import ACTIONS, Action
from humansd.synthetic.body import N_BODIES, bank, body, bone_transforms, skin_points, vertex_normals
from humansd.synthetic.buffers import PROP, Buffers, Camera
from humansd.synthetic.heads import dress_person, face_marks
from humansd.synthetic.parts import part_layer, parts_of_vertices
from humansd.synthetic.plan import PersonPlan, ScenePlan
from humansd.synthetic.posing import Pose, blended, bone_rotations, jittered
from humansd.synthetic.props import box
from humansd.synthetic.wardrobe import LAYER_FIELDS, Piece

MIN_JOINTS = 8
TRIES = 6
MAX_STEP_BACK = 0.8  # metres
SEAT_COLOR = (0.45, 0.33, 0.22)
# Depth by which a surface must be nearer than a joint to hide it, metres: face, limbs, hips.
HIDING = np.array([0.05] * 5 + [0.13] * 2 + [0.10] * 2 + [0.08] * 2 + [0.19] * 2 + [0.12] * 2 + [0.10] * 2)
LOOSE_CLOTH = np.array([0.0] * 11 + [0.02] * 2 + [0.08] * 2 + [0.06] * 2)


@dataclass(frozen=True, eq=False)
class Mesh:
    """All surfaces of one person as one mesh: triangles (t,3), layer_of (t,) into rows (l,16), and per vertex
    cut (n,), paint (n,3), across (n,2), bias (n,), firm (n,) and body (n,) flags, see `wardrobe.Piece`; part (n,), of
    `parts.PARTS`."""

    triangles: np.ndarray
    layer_of: np.ndarray
    rows: np.ndarray
    cut: np.ndarray
    paint: np.ndarray
    across: np.ndarray
    bias: np.ndarray
    firm: np.ndarray
    body: np.ndarray
    part: np.ndarray


@dataclass(frozen=True, eq=False)
class Figure:
    """A dressed, posed person in world metres, feet on the floor; low, high: corners of its bounding box."""

    mesh: Mesh
    points: np.ndarray
    joints: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def moved(self, x: float, z: float) -> Figure:
        """The figure shifted along the floor."""
        step = np.array([x, 0, z], np.float32)
        return Figure(self.mesh, self.points + step, self.joints + step, self.low + step, self.high + step)


def join_pieces(pieces: list[Piece]) -> Mesh:
    """The pieces as one mesh."""
    starts = np.cumsum([0] + [len(p.points) for p in pieces])

    def flags(values: list[float]) -> np.ndarray:
        return np.repeat(np.array(values, np.float32), np.diff(starts))

    return Mesh(
        np.concatenate([p.triangles + s for p, s in zip(pieces, starts[:-1], strict=True)]).astype(np.int32),
        np.repeat(np.arange(len(pieces), dtype=np.int32), [len(p.triangles) for p in pieces]),
        np.stack([p.row for p in pieces]),
        np.concatenate([p.cut for p in pieces]).astype(np.float32),
        np.concatenate([p.paint for p in pieces]).astype(np.float32),
        np.concatenate([p.across for p in pieces]).astype(np.float32),
        flags([p.bias for p in pieces]),
        flags([p.firm for p in pieces]),
        flags([p.block == "tights" for p in pieces]),
        np.concatenate([parts_of_vertices(p.index, p.weight) for p in pieces]),
    )


def _choose_pose(action: Action, rng: np.random.Generator) -> Pose:
    pose = action.poses[int(rng.integers(len(action.poses)))]
    if len(action.poses) > 1 and rng.random() < 0.3:
        other = action.poses[int(rng.integers(len(action.poses)))]
        pose = blended(pose, other, float(rng.uniform(0.0, 0.4)))
    if rng.random() < 0.5:
        pose = pose.mirrored()
    return jittered(pose, rng)


def _yaw(rng: np.random.Generator, facing: float) -> float:
    """A share of `facing` look roughly at the camera, the rest anywhere; degrees."""
    return float(rng.uniform(-60, 60) if rng.random() < facing else rng.uniform(-180, 180))


def _turned(points: np.ndarray, yaw: float) -> np.ndarray:
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    return points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)


def pose_figure(
    plan: PersonPlan, rng: np.random.Generator, facing: float = 0.7, clothes: np.random.Generator | None = None
) -> Figure:
    """Dress, pose and turn one person; the lowest point of shoes and body stands on y = 0, the hips over x = z = 0.

    `facing`: the probability that the person looks roughly at the camera. `clothes`: decides their folds and patterns
    in place of `rng`, so that one person can be dressed alike in several poses."""
    shared, rest = bank(), body(plan.body % N_BODIES)
    action = ACTIONS[plan.action]
    pose = _choose_pose(action, rng)
    yaw = _yaw(rng, facing)
    transforms = bone_transforms(shared.parents, rest.heads, bone_rotations(pose, rest), np.zeros(3, np.float32))
    n = shared.n
    joints = skin_points(rest.points[n:], shared.bone_index[n:], shared.bone_weight[n:], transforms)
    pieces = dress_person(plan, rest, clothes or rng)
    points = skin_points(
        np.concatenate([p.points for p in pieces]),
        np.concatenate([p.index for p in pieces]),
        np.concatenate([p.weight for p in pieces]),
        transforms,
    )
    mesh = join_pieces(pieces)
    floor = float(points[(mesh.cut >= 0) & (mesh.firm > 0), 1].min())
    if action.support == "sit":
        seat = _seat(points[(mesh.body > 0) & (mesh.cut >= 0)], joints, floor)
        mesh, points = join_pieces([*pieces, seat]), np.concatenate([points, seat.points])
    shift = np.array([joints[11:13, 0].mean(), floor - pose.hop, joints[11:13, 2].mean()], np.float32)
    points = _turned(points - shift, yaw)
    np.maximum(points[:, 1], 0.004, out=points[:, 1])  # long skirts drape on the floor
    low, high = raster.bounds(points, mesh.cut)
    return Figure(mesh, points, _turned(joints - shift, yaw), low, high)


def _seat(body_points: np.ndarray, joints: np.ndarray, floor: float) -> Piece:
    """A box from the floor to just under the thighs, in the pose's own axes."""
    hips, knees = joints[11:13].mean(0), joints[13:15].mean(0)
    lap = hips + 0.25 * (knees - hips)
    near = (np.abs(body_points[:, 0] - hips[0]) < 0.16) & (np.abs(body_points[:, 2] - hips[2]) < 0.14)
    top = float(body_points[near, 1].min()) if near.any() else float(hips[1] - 0.1)
    top = max(top + 0.015, floor + 0.15)
    row = np.zeros(LAYER_FIELDS, np.float32)
    row[0], row[2], row[3:6], row[6:9] = raster.PLAIN, PROP, SEAT_COLOR, SEAT_COLOR
    return box(np.array([lap[0] - 0.23, floor, hips[2] - 0.22]), np.array([lap[0] + 0.23, top, hips[2] + 0.25]), row)


def line_up(figures: list[Figure], rng: np.random.Generator, most: float) -> list[Figure]:
    """Side by side from left to right at slightly different depths, floor boxes apart; neighbours overlap by at
    most `most` of the narrower one's width."""
    distance = float(rng.uniform(3.6, 6.0))
    placed: list[Figure] = []
    x = 0.0
    for i, figure in enumerate(figures):
        if i == 0:
            placed.append(figure.moved(0.0, -distance))
            continue
        before = placed[-1]
        overlap = float(rng.uniform(0.0, most)) * min(before.high[0] - before.low[0], figure.high[0] - figure.low[0])
        x = float(before.high[0] - figure.low[0]) - overlap + 0.03
        x = max(x, 0.42 + float(before.joints[11:13, 0].mean()))
        z = -distance + float(rng.uniform(-0.25, 0.25))
        moved = figure.moved(x, z)
        if touch(moved, placed):  # step behind everyone whose floor box is crossed
            back = min(float(p.low[2]) for p in placed if touch(moved, [p])) - float(figure.high[2]) - 0.03
            moved = figure.moved(x, back)
            if back < -distance - MAX_STEP_BACK:  # too small in the image there: stand aside instead
                beside = max(float(p.high[0]) for p in placed) - float(figure.low[0]) + 0.03
                moved = figure.moved(beside, -distance)
        placed.append(moved)
    middle = 0.5 * (min(float(f.low[0]) for f in placed) + max(float(f.high[0]) for f in placed))
    return [f.moved(-middle, 0.0) for f in placed]


def touch(figure: Figure, others: list[Figure]) -> bool:
    """Whether the floor box of a figure crosses that of another."""
    return any(
        figure.low[0] < o.high[0] and o.low[0] < figure.high[0] and figure.low[2] < o.high[2]
        and o.low[2] < figure.high[2]
        for o in others
    )  # fmt: skip


def frame_all(figures: list[Figure], size: int, rng: np.random.Generator) -> Camera:
    """A camera whose focal length and principal point put the figures large into a square of `size` pixels."""
    height = float(rng.uniform(1.0, 2.0))
    pitch = float(np.radians(rng.uniform(-1.0, 12.0)))
    camera = Camera(height, pitch, 1.0, 0.0, 0.0)
    spots = np.concatenate([f.points[f.mesh.cut >= 0] for f in figures])
    low, high = (c[:2] for c in raster.bounds(project(spots, camera), np.zeros(len(spots), np.float32)))
    wide, tall = high - low
    fill = float(rng.uniform(0.70, 0.93)) if len(figures) == 1 else float(rng.uniform(0.80, 0.95))
    focal = size * min(fill / tall, 0.94 / wide)
    room = size - focal * (high - low)
    corner = room * np.array([rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.75)])
    centre = corner - focal * low
    return Camera(height, pitch, focal, float(centre[0]), float(centre[1]))


def project(points: np.ndarray, camera: Camera, bias: np.ndarray | None = None) -> np.ndarray:
    """(n,3) world points to pixel x, pixel y, 1/depth (float32); depth metres along the camera axis less `bias`."""
    if bias is None:
        bias = np.zeros(len(points), np.float32)
    view = (camera.height_m, camera.pitch_rad, camera.focal_px, camera.cx, camera.cy)
    out: np.ndarray = raster.project_points(points.astype(np.float32), bias, np.array(view))
    return out


def _to_camera_axes(directions: np.ndarray, camera: Camera) -> np.ndarray:
    """World directions (n,3) to camera axes: x right, y up, z towards the viewer."""
    if camera.pitch_rad == 0:
        return directions
    c, s = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
    return directions @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]], np.float32)


def _sunlight(rng: np.random.Generator) -> np.ndarray:
    """Unit vector to the light in the world: from the viewer's side, 35 to 65 degrees high."""
    azimuth, elevation = np.radians(rng.uniform(-70, 70)), np.radians(rng.uniform(35, 65))
    flat = np.cos(elevation)
    return np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], np.float32)


def _floor_shadow(figures: list[Figure], camera: Camera, sun: np.ndarray, size: int) -> np.ndarray:
    """(size,size) 0..1: the figures' triangles projected along the light onto the floor, softened."""
    small = size // 2
    half = Camera(camera.height_m, camera.pitch_rad, camera.focal_px / 2, (camera.cx - 0.5) / 2, (camera.cy - 0.5) / 2)
    mask = np.zeros((small, small), np.float32)
    for figure in figures:
        flat = figure.points - figure.points[:, 1:2] / sun[1] * sun
        raster.fill_mask(project(flat, half), figure.mesh.cut, figure.mesh.triangles, mask)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.012 * small)
    return cv2.resize(soft, (size, size), interpolation=cv2.INTER_LINEAR)


def _draw(figures: list[Figure], people: int, camera: Camera, sun: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The layers of `Buffers` at `size` pixels, without the shadow; figures from number `people` on are things."""
    starts = np.cumsum([0] + [len(f.points) for f in figures])
    layers = np.cumsum([0] + [len(f.mesh.rows) for f in figures])
    rows = np.concatenate([f.mesh.rows for f in figures])
    number = np.arange(1, len(figures) + 1)
    rows[:, 1] = np.repeat(np.where(number <= people, number, 0), np.diff(layers))
    points = np.concatenate([f.points for f in figures])
    cut = np.concatenate([f.mesh.cut for f in figures])
    faces = np.concatenate([f.mesh.triangles + s for f, s in zip(figures, starts[:-1], strict=True)])
    layer_of = np.concatenate([f.mesh.layer_of + s for f, s in zip(figures, layers[:-1], strict=True)])
    screen = project(points, camera, np.concatenate([f.mesh.bias for f in figures]))
    ids, weights, depth = raster.rasterise(screen, cut, faces, size)
    light, up = _to_camera_axes(np.stack([sun, np.array([0, 1, 0], np.float32)]), camera)
    albedo, shade, normal, person, material = raster.shade_pixels(
        ids, weights, faces, layer_of, _to_camera_axes(vertex_normals(points, faces), camera),
        np.concatenate([f.mesh.paint for f in figures]), np.concatenate([f.mesh.across for f in figures]),
        rows, face_marks(), light, up, size,
    )  # fmt: skip
    part = part_layer(ids, faces, np.concatenate([f.mesh.part for f in figures]), person, material)
    return {
        "part": part,
        "albedo": albedo, "shade": shade, "normal": normal, "person": person, "material": material,
        "depth": depth, "light": light.astype(np.float32),
    }  # fmt: skip


def _key_points(figures: list[Figure], camera: Camera, depth: np.ndarray, person: np.ndarray, size: int,
                supersample: int) -> tuple[People, np.ndarray]:  # fmt: skip
    """COCO-17 joints at `size`: 0 outside the frame, 1 behind a nearer surface, 2 visible; and which of them (n, 17)
    are hidden by somebody or something else than their own person."""
    n = len(figures)
    xy, visibility = np.zeros((n, 17, 2)), np.zeros((n, 17), np.uint8)
    blocked = np.zeros((n, 17), bool)
    for i, figure in enumerate(figures):
        screen = project(figure.joints, camera).astype(np.float64)
        xy[i] = (screen[:, :2] + 0.5) / supersample - 0.5
        inside = ((xy[i] >= -0.5) & (xy[i] < size - 0.5)).all(1)
        px = np.clip(np.round(screen[:, 0]).astype(int), 0, len(depth) - 1)
        py = np.clip(np.round(screen[:, 1]).astype(int), 0, len(depth) - 1)
        own = person[py, px] == i + 1  # a skirt or a coat hangs away from the leg without hiding it
        hidden = depth[py, px] < 1.0 / screen[:, 2] - HIDING - np.where(own, LOOSE_CLOTH, 0.0)
        visibility[i] = np.where(inside, np.where(hidden, 1, 2), 0)
        blocked[i] = inside & hidden & ~own
    area = np.array([(person == i + 1).sum() for i in range(n)]) / float(supersample**2)
    return People(xy, (visibility > 0).astype(float), visibility, (size, size), area=area), blocked


def draw_stage(people: list[Figure], things: list[Figure], camera: Camera, size: int, supersample: int,
               rng: np.random.Generator) -> Buffers:  # fmt: skip
    """The layers of placed people and of the things between them, seen by `camera` (px of the layers)."""
    resolution = size * supersample
    sun = _sunlight(rng)
    layers = _draw([*people, *things], len(people), camera, sun, resolution)
    points, blocked = _key_points(people, camera, layers["depth"], layers["person"], size, supersample)
    shadow = _floor_shadow([*people, *things], camera, sun, resolution)
    return Buffers(shadow=shadow, camera=camera, people=points, blocked=blocked, **layers)


def render_buffers(plan: ScenePlan, size: int, rng: np.random.Generator, supersample: int = 2) -> Buffers:
    """Pose, place, frame and draw the people of `plan`, all of them whole and large.

    `size`: pixels of the final square image; the layers are size * supersample. Deterministic in `rng`.
    Row i of `people` is plan.people[i]; left to right. Nobody in the plan raises ValueError.
    """
    if not plan.people:
        raise ValueError("render_buffers: plan.people is empty; plan at least one person")
    figures = [pose_figure(p, rng) for p in plan.people]
    best: Buffers | None = None
    for attempt in range(TRIES):
        if attempt == TRIES // 2:
            figures = [pose_figure(p, rng) for p in plan.people]
        placed = line_up(figures, rng, 0.3 if attempt == 0 else 0.0)
        camera = frame_all(placed, size * supersample, rng)
        made = draw_stage(placed, [], camera, size, supersample, rng)
        if best is None or _worst(made) > _worst(best):
            best = made
        if _worst(best) >= MIN_JOINTS:
            break
    assert best is not None
    return best


def _worst(made: Buffers) -> int:
    """The fewest visible joints that anybody has."""
    return int((made.people.visibility == 2).sum(1).min())
