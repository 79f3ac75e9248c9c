"""A library of named poses, for those who draw poses: one figure for each of many actions.

python -m humansd.synthetic.named_poses src/humansd/studio/presets.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from humansd.core.files import write_text
from humansd.pose.people import People
from humansd.synthetic.sampling import sample_plan
from humansd.synthetic.stage import render_buffers

SIDE = 512
NAMES = (
    "hands_on_hips", "arms_crossed", "t_pose", "walk", "run", "sprint", "jump", "star_jump", "leap", "hop",
    "front_kick", "side_kick", "kick_ball", "punch", "fight_stance", "karate_chop", "crane", "dance", "flamenco",
    "ballet_passe", "arabesque", "yoga_tree", "yoga_warrior", "stretch_up", "bow", "wave", "salute", "point_side",
    "cheer", "surrender", "think", "phone", "selfie", "read", "carry", "push", "guitar", "violin", "throw", "bat",
    "golf", "tennis_serve", "basketball", "archery", "fence", "surf", "squat", "climb", "balance", "kneel_one", "sit",
    "sit_crossed_arms", "sit_piano", "floor_sit", "meditate", "lie_relaxed", "plank", "handstand", "cartwheel",
)  # fmt: skip


def named_pose(action: str, seed: int) -> People:
    """One figure doing `action` (a key of `actions.ACTIONS`), whole and large, coordinates rounded to 0.1 px."""
    rng = np.random.default_rng(seed)
    plan = sample_plan(rng, "photo")
    people = render_buffers(replace(plan, people=(replace(plan.people[0], action=action),)), SIDE, rng, 1).people
    area = np.full(people.n, np.nan)
    return replace(people, xy=people.xy.round(1), score=people.labelled.astype(float), area=area, extras=())


def main() -> None:
    """Writes the library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    poses = {name: named_pose(name, seed).to_json() for seed, name in enumerate(NAMES)}
    write_text(parser.parse_args().file, json.dumps(poses, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
