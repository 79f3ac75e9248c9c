"""Twenty wrists dragged on the studio's page: does the held-out estimator find them moved in the image?

python tests/wrist_drags.py [DRAGS] [STEPS]   (Chromium with its driver is needed; some minutes)
"""

from __future__ import annotations

import random
import statistics
import sys

import numpy as np
from test_studio_page import POSE, WRIST, drag

from browser import chromium, opened
from humansd.pose.people import People
from humansd.studio.app import create_app
from studio_server import pixels, served, settings_of

SIDE = 128
PROMPTS = ("photo, a woman in a red dress in a meadow", "photo, a man in a green jacket on a beach")


def main(drags: int = 20, steps: int = 12) -> None:
    """Prints how many wrists moved toward their target, and by what share of the way in the median."""
    draw, shares, still = random.Random(1), [], []
    settings = settings_of("pocket", models=(("pocket", "pocket"),), allowed_hosts=())
    app = create_app(settings)
    with served(app) as address, chromium() as driver:
        engine = app.state.engine
        for number in range(drags):
            opened(driver, address)
            before = driver.execute_script(POSE)
            # Up and to either side, 12 to 25 % of the frame.
            drag(driver, WRIST, draw.uniform(20, 90), -draw.uniform(60, 120))
            after = driver.execute_script(POSE)
            seen = [wrist(engine, address, pose, number, steps) for pose in (before, after, after)]
            start, end = (np.array(pose["people"][0]["xy"][WRIST]) * SIDE / 512 for pose in (before, after))
            way = end - start
            moved = None if seen[0] is None or seen[1] is None else float((seen[1] - seen[0]) @ way / (way @ way))
            shares.append(0.0 if moved is None else moved)
            if seen[1] is not None and seen[2] is not None:
                still.append(float(np.linalg.norm(seen[2] - seen[1])) / SIDE)
            print(f"{number}: way {np.linalg.norm(way) / SIDE:.2f} of the frame, moved {moved}", flush=True)
    toward = sum(share > 0 for share in shares)
    print(f"{toward} of {drags} moved toward the target, by {statistics.median(shares):.2f} of the way in the median")
    print(f"a drag of nothing moves it by {max(still):.4f} of the frame at most")


def wrist(engine, address, pose, seed, steps):
    """Where the held-out estimator sees the wrist in an image of this pose, px, or None."""
    import json
    import urllib.request

    ask = {"prompt": PROMPTS[seed % 2], "pose": pose, "seed": seed, "num_inference_steps": steps}
    request = urllib.request.Request(
        f"{address}/v1/generate", json.dumps(ask).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        made = pixels(json.load(answer)["data"][0]["b64_json"])
    found: People = engine.detect(made, "centernet")
    if not found.n or not found.labelled[0, WRIST]:
        return None
    return found.xy[0, WRIST]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
